"""What is made for a Gateway: valid by Kubernetes' schemas, named and labelled by the Gateway API, safe by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.charts.kubernetes import faults

from tripylon.api.gateway import Gateway
from tripylon.api.parameters import GatewayParameters
from tripylon.envoy.bootstrap_kubernetes import Pod
from tripylon.kube import names
from tripylon.kube.manifests import ListenerPort, manifests
from tripylon.kube.parameters import DEFAULT, merged
from tripylon.kube.pod import ProxySettings, image_reference
from tripylon.values import label_value

BOOTSTRAP = b'{"node":{"cluster":"shop/edge"}}'
PORTS = (ListenerPort(443), ListenerPort(80), ListenerPort(80), ListenerPort(53, "UDP"))
SETTINGS = ProxySettings()


def gateway(name: str = "edge", **spec: Any) -> Gateway:
    obj = {
        "metadata": {"name": name, "namespace": "shop", "uid": "u-1"},
        "spec": {"gatewayClassName": "tripylon", "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}], **spec},
    }
    return msgspec.convert(obj, Gateway)


def parameters(**kube: Any) -> GatewayParameters:
    return msgspec.convert({"metadata": {"name": "p"}, "spec": {"kube": kube}}, GatewayParameters)


def made(of: Gateway | None = None, *layers: GatewayParameters, **more: Any) -> dict[str, dict[str, Any]]:
    """The objects by kind, each of them valid."""
    of_class, of_gateway = (*layers, None, None)[:2] if len(layers) < 2 else layers
    arguments: dict[str, Any] = {"ports": PORTS, "bootstrap": BOOTSTRAP, "settings": SETTINGS, **more}
    objects = manifests(of or gateway(), "tripylon", merged(of_class, of_gateway), **arguments)
    assert [fault for each in objects for fault in faults(each)] == []
    return {each["kind"]: each for each in objects}


def envoy(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


# --- What there is by default ---------------------------------------------------------------------------------------


def test_what_is_made_by_default() -> None:
    objects = made()
    assert list(objects) == ["ServiceAccount", "ConfigMap", "Deployment", "Service"]
    for each in objects.values():
        metadata = each["metadata"]
        assert (metadata["name"], metadata["namespace"]) == ("edge-tripylon", "shop")
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "name": "edge",
                "uid": "u-1",
                "controller": True,
            }
        ]
        assert metadata["labels"]["gateway.networking.k8s.io/gateway-name"] == "edge"
        assert metadata["labels"]["gateway.networking.k8s.io/gateway-class-name"] == "tripylon"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "tripylon"
        assert metadata["annotations"]["gateway.tripylon.dev/gateway"] == "shop/edge"


def test_pods_may_do_nothing_but_serve() -> None:
    pod = made()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
    }
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["volumes"] == [
        {"name": "config", "configMap": {"name": "edge-tripylon"}},
        {
            "name": "xds-token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"audience": "tripylon-xds", "expirationSeconds": 3600, "path": "token"}}
                ]
            },
        },
        {"name": "admin", "emptyDir": {}},
    ]
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    assert writable == [str(Path(str(Pod().admin)).parent)], "only where its administration is, which has no port"


def test_how_envoy_is_run() -> None:
    container = envoy(made())
    assert container["image"] == "envoyproxy/envoy:v1.40.0"
    assert container["command"] == ["envoy"]
    assert container["args"][:4] == [
        "-c",
        "/etc/tripylon/bootstrap.json",
        "--service-node",
        "$(POD_NAME).$(POD_NAMESPACE)",
    ]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8082}
    assert "livenessProbe" not in container
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["bash", "/etc/tripylon/prestop.sh", "10", "55"]
    assert {each["containerPort"] for each in container["ports"]} == {8082, 9091}


def test_the_service_has_the_ports_of_the_listeners() -> None:
    spec = made()["Service"]["spec"]
    assert spec["type"] == "LoadBalancer"
    assert [(each["name"], each["port"], each["protocol"], each["targetPort"]) for each in spec["ports"]] == [
        ("udp-53", 53, "UDP", 53),
        ("tcp-80", 80, "TCP", 80),
        ("tcp-443", 443, "TCP", 443),
    ]
    assert spec["selector"].items() <= made()["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert "Service" not in made(ports=())


def test_another_bootstrap_makes_other_pods_and_other_listeners_do_not() -> None:
    before = made()
    other = made(bootstrap=b"{}")
    assert before["Deployment"]["spec"] != other["Deployment"]["spec"]
    assert json.loads(other["ConfigMap"]["data"]["bootstrap.json"]) == {}
    assert made(ports=(ListenerPort(8080),))["Deployment"] == before["Deployment"]
    assert made(files={"ca.crt": "x"})["Deployment"] == before["Deployment"]
    assert made(files={"ca.crt": "x"})["ConfigMap"]["data"]["ca.crt"] == "x"


def test_the_same_again_has_the_same_hash() -> None:
    def hashes(**more: Any) -> list[str]:
        return [each["metadata"]["annotations"][names.HASH_ANNOTATION] for each in made(**more).values()]

    assert hashes() == hashes()
    assert [one == other for one, other in zip(hashes(), hashes(ports=(ListenerPort(8080),)), strict=True)] == [
        True,
        True,
        True,
        False,
    ]


# --- Names, labels, addresses ---------------------------------------------------------------------------------------


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = "a" * 253, "a" * 252 + "b"
    objects = made(gateway(one))
    for each in objects.values():
        assert len(each["metadata"]["name"]) == 63
        assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())
        assert each["metadata"]["annotations"]["gateway.tripylon.dev/gateway"] == f"shop/{one}"
    assert names.proxy_name(one, "c") != names.proxy_name(other, "c")
    assert label_value(one) != label_value(other)


@pytest.mark.parametrize(
    ("name", "starts"), [("edge", "edge-c"), ("e.dge", "e-dge-c-"), ("1a", "gw-1a-c-"), ("a" * 62, "a" * 52 + "-")]
)
def test_names_are_those_of_services(name: str, starts: str) -> None:
    found = names.proxy_name(name, "c")
    assert found.startswith(starts)
    assert len(found) <= 63
    assert names.proxy_name("e-dge", "c") != names.proxy_name("e.dge", "c")


def test_infrastructure_is_on_everything_and_overrides_nothing_of_ours() -> None:
    wanted = {"labels": {"team": "shop", names.GATEWAY_NAME_LABEL: "x"}, "annotations": {"cost": "1"}}
    objects = made(gateway(infrastructure=wanted), parameters(podTemplate={"extraLabels": {"team": "y", "a": "b"}}))
    for each in (*objects.values(), objects["Deployment"]["spec"]["template"]):
        assert each["metadata"]["labels"]["team"] == "shop"
        assert each["metadata"]["labels"][names.GATEWAY_NAME_LABEL] == "edge"
        assert each["metadata"]["annotations"]["cost"] == "1"
    assert objects["Deployment"]["spec"]["template"]["metadata"]["labels"]["a"] == "b"


@pytest.mark.parametrize(
    ("type_", "addresses", "asks"),
    [
        ("LoadBalancer", (), {}),
        ("LoadBalancer", ("10.0.0.1",), {"loadBalancerIP": "10.0.0.1"}),
        ("LoadBalancer", ("10.0.0.1", "10.0.0.2"), {"loadBalancerIP": "10.0.0.1", "externalIPs": ["10.0.0.2"]}),
        ("ClusterIP", ("10.0.0.1", "10.0.0.2"), {"externalIPs": ["10.0.0.1", "10.0.0.2"]}),
        ("LoadBalancer", ("edge.example.com",), {}),
    ],
)
def test_static_addresses(type_: str, addresses: tuple[str, ...], asks: dict[str, Any]) -> None:
    spec = made(None, parameters(service={"type": type_}), addresses=addresses)["Service"]["spec"]
    assert {key: spec[key] for key in ("loadBalancerIP", "externalIPs") if key in spec} == asks


def test_an_address_within_the_cluster_has_a_service_that_nothing_opens_to_the_world() -> None:
    opened = parameters(
        service={"type": "LoadBalancer", "extraLabels": {"a": "b"}, "extraAnnotations": {"lb": "x"}},
        serviceOverlay={"spec": {"type": "LoadBalancer"}},
    )
    wanted = {"labels": {"team": "shop"}, "annotations": {"cost": "1"}}
    objects = manifests(
        gateway(infrastructure=wanted),
        "tripylon",
        merged(None, opened),
        ports=PORTS,
        within_cluster={"edge-tripylon-cluster": "", "edge-tripylon-cluster-x": "10.96.0.7"},
        bootstrap=BOOTSTRAP,
        settings=SETTINGS,
    )
    assert [fault for each in objects for fault in faults(each)] == []
    front, anyone, named = [each for each in objects if each["kind"] == "Service"]
    assert (front["metadata"]["name"], front["spec"]["type"]) == ("edge-tripylon", "LoadBalancer")
    assert names.ROUTABILITY_LABEL not in front["metadata"]["labels"]
    assert anyone["metadata"]["name"] == "edge-tripylon-cluster"
    for each in (anyone, named):
        assert {field: each["spec"][field] for field in ("type", "selector", "ports")} == {
            "type": "ClusterIP",
            "selector": front["spec"]["selector"],
            "ports": front["spec"]["ports"],
        }
        assert each["metadata"]["ownerReferences"] == front["metadata"]["ownerReferences"]
        labels = {**front["metadata"]["labels"], names.ROUTABILITY_LABEL: "Cluster"}
        assert each["metadata"]["labels"] == labels
        assert each["metadata"]["annotations"]["cost"] == "1"
        assert "lb" not in each["metadata"]["annotations"], "which are for the load balancer"
    assert "clusterIP" not in anyone["spec"]
    assert named["spec"]["clusterIP"] == "10.96.0.7"


def test_without_a_service_in_front_there_is_only_the_one_within_the_cluster() -> None:
    only = made(None, in_front=False, within_cluster={"edge-tripylon-cluster": ""})
    assert only["Service"]["metadata"]["name"] == "edge-tripylon-cluster"
    assert "Service" not in made(None, in_front=False)
    assert "Service" not in made(None, ports=(), within_cluster={"edge-tripylon-cluster": ""})


# --- Parameters -----------------------------------------------------------------------------------------------------


def test_the_gateways_parameters_go_before_those_of_the_class() -> None:
    of_class = parameters(
        deployment={"replicas": 2, "strategy": {"type": "Recreate"}},
        envoyContainer={
            "image": {"registry": "mirror.example.com", "tag": "v1", "digest": "sha256:a"},
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "extraArgs": ["--concurrency", "2"],
            "bootstrap": {"componentLogLevels": {"upstream": "debug"}},
        },
        podTemplate={
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "x", "operator": "Exists"}],
            "readinessProbe": {"tcpSocket": {"port": 1}},
        },
        service={"ports": [{"port": 80, "nodePort": 30080}], "loadBalancerSourceRanges": ["10.0.0.0/8"]},
    )
    of_gateway = parameters(
        deployment={"replicas": 3},
        envoyContainer={
            "image": {"tag": "v2"},
            "resources": {"requests": {"cpu": "2"}},
            "env": [{"name": "B", "value": "3"}],
            "extraArgs": ["--drain-strategy", "immediate"],
            "bootstrap": {"logLevel": "warn", "componentLogLevels": {"conn_handler": "trace"}},
        },
        podTemplate={
            "nodeSelector": {"c": "d"},
            "tolerations": [{"key": "x", "operator": "Exists"}, {"key": "y", "operator": "Exists"}],
            "readinessProbe": {"httpGet": {"port": 2}},
            "gracefulShutdown": {"sleepTimeSeconds": 1},
            "terminationGracePeriodSeconds": 20,
        },
        service={"loadBalancerSourceRanges": ["192.0.2.0/24"], "externalTrafficPolicy": "Local"},
    )
    objects = made(None, of_class, of_gateway)
    deployment, container = objects["Deployment"]["spec"], envoy(objects)
    pod = deployment["template"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (3, {"type": "Recreate"})
    assert container["image"] == "mirror.example.com/envoyproxy/envoy:v2"
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "1Gi"}}
    assert container["env"][2:] == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
    assert container["args"][-8:] == [
        "--log-level",
        "warn",
        "--component-log-level",
        "conn_handler:trace,upstream:debug",
        "--concurrency",
        "2",
        "--drain-strategy",
        "immediate",
    ]
    assert pod["nodeSelector"] == {"a": "b", "c": "d"}
    assert [each["key"] for each in pod["tolerations"]] == ["x", "y"]
    assert container["readinessProbe"] == {"httpGet": {"port": 2}}
    assert container["lifecycle"]["preStop"]["exec"]["command"][-2:] == ["1", "15"]
    service = objects["Service"]["spec"]
    assert [each.get("nodePort") for each in service["ports"]] == [None, 30080, None]
    assert (service["loadBalancerSourceRanges"], service["externalTrafficPolicy"]) == (["192.0.2.0/24"], "Local")


def test_overlays_come_after_all_settings_and_the_class_first() -> None:
    sidecar = {"name": "log", "image": "log:1"}
    of_class = parameters(
        deploymentOverlay={
            "metadata": {"labels": {"a": "class", "b": "class"}},
            "spec": {
                "replicas": 9,
                "template": {"spec": {"containers": [sidecar], "securityContext": {"$patch": "delete"}}},
            },
        }
    )
    of_gateway = parameters(
        deployment={"replicas": 2},
        deploymentOverlay={
            "metadata": {"labels": {"a": "gateway", names.GATEWAY_NAME_LABEL: "x"}},
            "spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:2"}]}}},
        },
        serviceOverlay={"spec": {"ports": [{"port": 80, "appProtocol": "http"}], "internalTrafficPolicy": "Local"}},
        serviceAccountOverlay={"spec": {"imagePullSecrets": [{"name": "s"}]}, "metadata": {"annotations": {"r": "a"}}},
    )
    objects = made(None, of_class, of_gateway)
    deployment = objects["Deployment"]
    assert deployment["spec"]["replicas"] == 9
    assert [each["image"] for each in deployment["spec"]["template"]["spec"]["containers"]][1:] == ["log:2"]
    assert "securityContext" not in deployment["spec"]["template"]["spec"]
    labels = deployment["metadata"]["labels"]
    assert (labels["a"], labels["b"], labels[names.GATEWAY_NAME_LABEL]) == ("gateway", "class", "edge")
    service = objects["Service"]["spec"]
    assert [each.get("appProtocol") for each in service["ports"]] == [None, "http", None]
    assert service["internalTrafficPolicy"] == "Local"
    assert objects["ServiceAccount"]["imagePullSecrets"] == [{"name": "s"}]
    assert objects["ServiceAccount"]["metadata"]["annotations"]["r"] == "a"


def test_scaling_and_disruption() -> None:
    layer = parameters(
        deployment={"replicas": 2},
        horizontalPodAutoscaler={"spec": {"minReplicas": 2, "maxReplicas": 5}},
        podDisruptionBudget={"spec": {"minAvailable": 1}},
        verticalPodAutoscaler={"spec": {"updatePolicy": {"updateMode": "Off"}}},
    )
    objects = made(None, layer)
    assert list(objects)[4:] == ["HorizontalPodAutoscaler", "PodDisruptionBudget", "VerticalPodAutoscaler"]
    assert "replicas" not in objects["Deployment"]["spec"]
    assert objects["HorizontalPodAutoscaler"]["spec"]["maxReplicas"] == 5
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "edge-tripylon"
    budget = objects["PodDisruptionBudget"]["spec"]
    assert (budget["minAvailable"], "maxUnavailable" in budget) == (1, False)
    assert objects["VerticalPodAutoscaler"]["spec"]["targetRef"]["kind"] == "Deployment"
    assert made(None, parameters(podDisruptionBudget={}))["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_a_daemon_set_instead() -> None:
    of_class = parameters(deployment={"replicas": 2}, horizontalPodAutoscaler={"spec": {"maxReplicas": 3}})
    objects = made(None, of_class, parameters(daemonSet={}))
    assert list(objects) == ["ServiceAccount", "ConfigMap", "DaemonSet", "Service"]
    assert objects["DaemonSet"]["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert "Deployment" in made(None, parameters(daemonSet={}), parameters(deployment={}))


def test_proxies_of_somebody_else() -> None:
    theirs = msgspec.convert({"spec": {"selfManaged": {}}}, GatewayParameters)
    assert made(None, parameters(deployment={"replicas": 1}), theirs) == {}
    assert len(made(None, theirs, parameters(deployment={"replicas": 1}))) == 4


def test_what_can_be_left_out() -> None:
    layer = parameters(
        omitDefaultSecurityContext=True,
        stats={"enabled": False},
        podTemplate={"gracefulShutdown": {"enabled": False}},
        envoyContainer={"securityContext": {"runAsUser": 1}},
    )
    objects = made(None, layer)
    template = objects["Deployment"]["spec"]["template"]
    assert "securityContext" not in template["spec"]
    assert envoy(objects)["securityContext"] == {"runAsUser": 1}
    assert "lifecycle" not in envoy(objects)
    assert not [key for key in template["metadata"]["annotations"] if key.startswith("prometheus.io/")]
    assert merged(None, None) is DEFAULT


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "r.example.com:5000/a/envoy:v1@sha256:d"),
        ({"tag": "v2"}, "r.example.com:5000/a/envoy:v2"),
        ({"digest": "sha256:e"}, "r.example.com:5000/a/envoy@sha256:e"),
        ({"tag": "v2", "digest": "sha256:e"}, "r.example.com:5000/a/envoy:v2@sha256:e"),
        ({"digest": ""}, "r.example.com:5000/a/envoy:v1"),
        ({"registry": ""}, "a/envoy:v1@sha256:d"),
        ({"registry": "q", "repository": "b", "tag": ""}, "q/b"),
    ],
)
def test_images(image: dict[str, str], reference: str) -> None:
    spec = merged(None, parameters(envoyContainer={"image": image})).kube.envoy_container
    assert spec is not None
    assert image_reference(spec.image, "r.example.com:5000/a/envoy:v1@sha256:d") == reference
