"""What the chart renders: valid objects for every value, and what each part of it promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml
from tests.charts.kubernetes import faults
from tests.charts.rendered import (
    CHART,
    COMBINATIONS,
    ROOT,
    Object,
    Values,
    container,
    environment,
    objects,
    of_kind,
    one,
)

CHARTS = [ROOT / "charts" / name for name in ("tripylon", "tripylon-crds")]
EVERY = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)
def test_helm_has_nothing_to_say_against_it(chart: Any) -> None:
    report = helm_python.lint(chart, strict=True)
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@EVERY
def test_every_object_is_valid(values: Values) -> None:
    found = objects(values)
    assert found
    assert [fault for each in found for fault in faults(each)] == []


@EVERY
def test_no_object_is_rendered_twice_or_without_labels(values: Values) -> None:
    found = objects(values, release="mine", namespace="gateways")
    keys = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found]
    assert len(keys) == len(set(keys))
    for each in found:
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "mine"
        assert len(each["metadata"]["name"]) <= 63


def test_between_them_the_combinations_change_every_value() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    changed = {path for values in COMBINATIONS.values() for path, _ in leaves(dict(values), defaults)}
    assert {path for path, _ in leaves(defaults, defaults)} - changed == set()


def leaves(values: dict[str, Any], defaults: dict[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """The values by their path; what is an empty object by default is one value."""
    for key, value in values.items():
        default = defaults[key]
        if isinstance(default, dict) and default and key != "resources":
            yield from leaves(value, default, f"{at}{key}.")
        else:
            yield at + key, value


# --- The controller ---------------------------------------------------------------------------------------------------


def test_the_environment_is_what_the_command_reads() -> None:
    found = environment(objects(release="tripylon", namespace="gateways"))
    assert found == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "TRIPYLON_CONTROLLER_NAME": "gateway.tripylon.dev/controller",
        "TRIPYLON_LEASE": "tripylon",
        "TRIPYLON_NAMESPACES": "",
        "TRIPYLON_SECRET_NAMESPACES": "",
        "TRIPYLON_XDS_SERVICE": "tripylon.gateways.svc.cluster.local",
        "TRIPYLON_XDS_SECRET": "tripylon-xds-tls",
        "TRIPYLON_PROXY_IMAGE": "envoyproxy/envoy:v1.40.0",
        "TRIPYLON_PROXY_PULL_POLICY": "IfNotPresent",
        "TRIPYLON_LOG_LEVEL": "info",
        "TRIPYLON_LOG_FORMAT": "json",
    }


@pytest.mark.parametrize("values", [{}, COMBINATIONS["cert-manager"], COMBINATIONS["pods"]])
def test_the_command_takes_its_environment(values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    from tripylon import controller as root
    from tripylon.cli import main
    from tripylon.settings import ControllerSettings

    taken: list[ControllerSettings] = []

    async def run(settings: ControllerSettings) -> int:
        taken.append(settings)
        return 0

    monkeypatch.setattr(root, "run", run)
    monkeypatch.setattr("tripylon.cli.options.Logging.configure", lambda _: None)
    found = objects(values, namespace="gateways")
    for name, value in environment(found).items():
        monkeypatch.setenv(name, {"metadata.namespace": "gateways", "status.podIP": "192.0.2.7"}.get(value, value))
    assert main(container(found)["args"]) == 0
    [settings] = taken
    service = one(found, "Service")["metadata"]["name"]
    domain = "cluster.example" if values is COMBINATIONS["cert-manager"] else "cluster.local"
    assert settings.xds_service == f"{service}.gateways.svc.{domain}"
    assert settings.xds_secret == environment(found)["TRIPYLON_XDS_SECRET"]
    assert (settings.namespace, settings.identity) == ("gateways", "metadata.name")
    assert (settings.namespaces, settings.secret_namespaces) == ((), ())
    assert settings.advertise == "192.0.2.7"
    ports = {each["name"]: each["containerPort"] for each in container(found)["ports"]}
    assert ports == {"xds": settings.xds.port, "metrics": settings.metrics.port, "health": settings.health.port}


def test_the_controller_may_do_nothing_but_talk() -> None:
    pod = one(objects(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in pod
    bare = one(objects({"controller": {"securityContext": False}}), "Deployment")["spec"]["template"]["spec"]
    assert "securityContext" not in bare
    assert "securityContext" not in bare["containers"][0]


def test_a_rollout_takes_no_replica_away_before_another_is_ready() -> None:
    deployment = one(objects(), "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    keys = [each["topologyKey"] for each in deployment["template"]["spec"]["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_selectors_find_the_pods() -> None:
    for values in COMBINATIONS.values():
        found = objects(values)
        labels = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
        assert one(found, "Service")["spec"]["selector"].items() <= labels
        for kind in ("NetworkPolicy", "PodDisruptionBudget"):
            for each in of_kind(found, kind):
                spec = each["spec"]
                assert (spec.get("podSelector") or spec["selector"])["matchLabels"].items() <= labels
        assert one(found, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels


def test_images_by_tag_and_by_digest() -> None:
    found = objects(COMBINATIONS["images"])
    assert container(found)["image"] == "registry.example.com/mirror/tripylon:1.2.3@sha256:fedcba9876543210"
    wanted = "registry.example.com/mirror/envoy:v1.40.1@sha256:0123456789abcdef"
    assert environment(found)["TRIPYLON_PROXY_IMAGE"] == wanted
    [secret] = one(found, "Deployment")["spec"]["template"]["spec"]["imagePullSecrets"]
    assert secret == {"name": "registry"}


def test_more_environment_comes_last_and_so_wins() -> None:
    values = {"controller": {"extraEnv": [{"name": "TRIPYLON_LEASE", "value": "other"}]}}
    assert container(objects(values))["env"][-1] == {"name": "TRIPYLON_LEASE", "value": "other"}


# --- What goes with it ------------------------------------------------------------------------------------------------


def test_a_budget_is_there_for_several_replicas_only() -> None:
    assert one(objects(), "PodDisruptionBudget")["spec"]["minAvailable"] == 1
    assert of_kind(objects({"controller": {"replicas": 1}}), "PodDisruptionBudget") == []


def peers(policy: Object, port: int) -> list[Object] | None:
    [rule] = [each for each in policy["spec"]["ingress"] if [at["port"] for at in each["ports"]] == [port]]
    found: list[Object] | None = rule.get("from")
    return found


def test_proxies_and_replicas_reach_xds_and_nobody_else() -> None:
    found = objects()
    proxies, replicas = peers(one(found, "NetworkPolicy"), 9977) or [{}, {}]
    assert proxies == {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "tripylon-proxy"}},
    }
    assert replicas == {"podSelector": one(found, "Deployment")["spec"]["selector"]}
    assert peers(one(found, "NetworkPolicy"), 9092) is None, "everybody may read metrics"
    assert peers(one(found, "NetworkPolicy"), 9093) is None, "and ask whether it is ready"


def test_peers_can_be_added_and_metrics_be_closed() -> None:
    policy = one(objects(COMBINATIONS["a stricter network policy"]), "NetworkPolicy")
    assert {"ipBlock": {"cidr": "192.0.2.0/24"}} in (peers(policy, 9977) or ())
    assert len(peers(policy, 9092) or ()) == 1


def test_the_class_is_the_controllers() -> None:
    found = objects({"controller": {"name": "example.com/edge"}, "gatewayClass": {"name": "edge"}})
    assert one(found, "GatewayClass")["metadata"]["name"] == "edge"
    assert one(found, "GatewayClass")["spec"]["controllerName"] == "example.com/edge"
    assert environment(found)["TRIPYLON_CONTROLLER_NAME"] == "example.com/edge"


def test_the_class_points_at_its_parameters() -> None:
    found = objects(COMBINATIONS["parameters"], namespace="gateways")
    parameters = one(found, "GatewayParameters")
    ref = one(found, "GatewayClass")["spec"]["parametersRef"]
    assert (ref["namespace"], ref["name"]) == ("gateways", parameters["metadata"]["name"])
    assert parameters["spec"]["kube"]["deployment"] == {"replicas": 3}


def test_monitors_find_what_they_are_for() -> None:
    found = objects(COMBINATIONS["monitoring"])
    service = one(found, "Service")
    monitor = one(found, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {each["port"] for each in monitor["endpoints"]} <= {each["name"] for each in service["spec"]["ports"]}
    for kind in ("ServiceMonitor", "PodMonitor"):
        assert one(found, kind)["metadata"]["labels"]["team"] == "edge"


def test_the_pod_monitor_and_the_policy_name_labels_that_proxies_have() -> None:
    from tests.kube.test_manifests import made

    pod = made()["Deployment"]["spec"]["template"]
    wanted = one(objects(COMBINATIONS["monitoring"]), "PodMonitor")["spec"]
    assert wanted["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    named = {port["name"] for each in pod["spec"]["containers"] for port in each["ports"]}
    assert {each["port"] for each in wanted["podMetricsEndpoints"]} <= named
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "tripylon-proxy"
