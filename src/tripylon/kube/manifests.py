"""What a Gateway needs in the cluster: the objects that run its proxies and lead to them.

A pure function of the Gateway, its parameters and the bootstrap; `deploy.py` carries the result to the API server. The
invariant: the same arguments give the same objects in the same order, so that a hash tells whether anything changed.
Read `pod.py` for the pods, `names.py` for names and labels, `parameters.py` for what the parameters say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from tripylon.api.gateway import Gateway
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.parameters import Overlay, PodTemplate, ProxyService, ProxyServiceAccount
from tripylon.kube import names, shutdown
from tripylon.kube.overlay import patched
from tripylon.kube.parameters import Parameters
from tripylon.kube.pod import BOOTSTRAP_FILE, Object, ProxySettings, pod_annotations, pod_spec
from tripylon.values import is_address

__all__ = ["ListenerPort", "Object", "ProxySettings", "manifests"]

KINDS: tuple[tuple[str, str], ...] = (
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("v1", "Service"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"),
)
"""All kinds that may be made, in the order in which they are made."""


class ListenerPort(NamedTuple):
    """A port on which a Gateway listens."""

    port: int
    protocol: Literal["TCP", "UDP"] = "TCP"


class Proxies(NamedTuple):
    """The Gateway whose proxies are described, with what every part of the description asks for."""

    gateway: Gateway
    class_name: str
    parameters: Parameters
    settings: ProxySettings

    @property
    def name(self) -> str:
        """Name of everything made."""
        return names.proxy_name(self.gateway.metadata.name, self.class_name)


def manifests(
    gateway: Gateway,
    class_name: str,
    parameters: Parameters,
    *,
    ports: Iterable[ListenerPort],
    addresses: Iterable[str] = (),
    in_front: bool = True,
    within_cluster: Mapping[str, str] | None = None,
    bootstrap: bytes,
    files: Mapping[str, str] | None = None,
    settings: ProxySettings,
) -> tuple[Object, ...]:
    """The objects for one Gateway, ready to be applied; none when somebody else runs its proxies.

    `addresses` are those that the Gateway asks for; `within_cluster` are the names of Services that give it addresses
    within the cluster, each with the one asked for, if any; without `in_front` there is no other Service. `bootstrap`
    is Envoy's first configuration; another one makes new pods, while `files` (by name, such as certificates of the
    control plane's authority) reach running pods. Without `ports` there is no Service, as Kubernetes allows none.
    ValueError when an overlay has a directive that there is not.
    """
    if parameters.self_managed:
        return ()
    proxies = Proxies(gateway, class_name, parameters, settings)
    kube = parameters.kube
    listening = tuple(sorted(set(ports)))
    made = [_service_account(proxies), _config_map(proxies, bootstrap, files or {}), _workload(proxies, bootstrap)]
    if listening and in_front:
        made.append(_service(proxies, listening, tuple(addresses)))
    if listening:
        within = (within_cluster or {}).items()
        made.extend(_service_within(proxies, listening, name=name, address=address) for name, address in within)
    if parameters.overlays("horizontal_pod_autoscaler") and kube.daemon_set is None:
        made.append(_autoscaler(proxies))
    if parameters.overlays("pod_disruption_budget"):
        made.append(_disruption_budget(proxies))
    if parameters.overlays("vertical_pod_autoscaler"):
        made.append(_vertical_autoscaler(proxies))
    return tuple(_hashed(each) for each in made)


# --- The objects ----------------------------------------------------------------------------------------------------


def _service_account(proxies: Proxies) -> Object:
    wanted = proxies.parameters.kube.service_account or ProxyServiceAccount()
    made = _object(
        proxies, "v1", "ServiceAccount", labels=wanted.extra_labels, annotations=wanted.extra_annotations
    ) | {"automountServiceAccountToken": False}
    for overlay in proxies.parameters.overlays("service_account_overlay"):
        made = patched(made, overlay.spec or {})
    return _overlaid(proxies, made, "service_account_overlay", with_spec=False)


def _config_map(proxies: Proxies, bootstrap: bytes, files: Mapping[str, str]) -> Object:
    data = {BOOTSTRAP_FILE: bootstrap.decode(), shutdown.SCRIPT_FILE: shutdown.SCRIPT, **files}
    return _object(proxies, "v1", "ConfigMap") | {"data": dict(sorted(data.items()))}


def _workload(proxies: Proxies, bootstrap: bytes) -> Object:
    kube = proxies.parameters.kube
    daemon_set = kube.daemon_set
    selector = names.selector_labels(proxies.gateway)
    spec: Object = {"selector": {"matchLabels": selector}, "template": _template(proxies, bootstrap, selector)}
    if daemon_set is not None:
        made = _object(proxies, "apps/v1", "DaemonSet")
        made["spec"] = spec | {"updateStrategy": daemon_set.update_strategy or _rolling("1", "0")}
        return _overlaid(proxies, made, "daemon_set_overlay")
    deployment = kube.deployment
    spec["revisionHistoryLimit"] = 3
    spec["strategy"] = (deployment.strategy if deployment else None) or _rolling("25%", "0")
    scaled = proxies.parameters.overlays("horizontal_pod_autoscaler")
    if deployment is not None and deployment.replicas is not None and not scaled:
        spec["replicas"] = deployment.replicas
    made = _object(proxies, "apps/v1", "Deployment") | {"spec": spec}
    return _overlaid(proxies, made, "deployment_overlay")


def _rolling(surge: str, unavailable: str) -> Object:
    """A strategy by which a new pod is ready before an old one goes."""
    counts = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {name: int(count) if count.isdigit() else count for name, count in counts.items()},
    }


def _template(proxies: Proxies, bootstrap: bytes, selector: dict[str, str]) -> Object:
    kube = proxies.parameters.kube
    wanted = kube.pod_template or PodTemplate()
    labels, annotations = _marks(proxies, wanted.extra_labels, wanted.extra_annotations)
    annotations = {
        **pod_annotations(kube.stats),
        **annotations,
        names.BOOTSTRAP_ANNOTATION: names.digest(bootstrap),
    }
    return {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": pod_spec(proxies.name, proxies.parameters, proxies.settings, selector=selector),
    }


def _service(proxies: Proxies, ports: tuple[ListenerPort, ...], addresses: tuple[str, ...]) -> Object:
    wanted = proxies.parameters.kube.service or ProxyService()
    type_ = wanted.type or "LoadBalancer"
    node_ports = {each.port: each.node_port for each in wanted.ports if each.node_port and type_ != "ClusterIP"}
    spec: Object = {
        "type": type_,
        "selector": names.selector_labels(proxies.gateway),
        "ports": [
            _port(port) | ({"nodePort": node_ports[port.port]} if port.port in node_ports else {}) for port in ports
        ],
        **_static_addresses(type_, addresses),
    }
    optional: Object = {"clusterIP": wanted.cluster_ip, "ipFamilyPolicy": wanted.ip_family_policy}
    optional["ipFamilies"] = list(wanted.ip_families)
    if type_ != "ClusterIP":
        optional["externalTrafficPolicy"] = wanted.external_traffic_policy
    if type_ == "LoadBalancer":
        optional["loadBalancerClass"] = wanted.load_balancer_class
        optional["loadBalancerSourceRanges"] = list(wanted.load_balancer_source_ranges)
    spec |= {name: value for name, value in optional.items() if value}
    made = _object(proxies, "v1", "Service", labels=wanted.extra_labels, annotations=wanted.extra_annotations)
    return _overlaid(proxies, made | {"spec": spec}, "service_overlay")


def _service_within(proxies: Proxies, ports: tuple[ListenerPort, ...], *, name: str, address: str) -> Object:
    """A Service for nothing but an address within the cluster: no overlay can open it to the world."""
    wanted = proxies.parameters.kube.service or ProxyService()
    spec: Object = {
        "type": "ClusterIP",
        "selector": names.selector_labels(proxies.gateway),
        "ports": [_port(port) for port in ports],
    }
    optional: Object = {"clusterIP": address}
    if not address:
        optional |= {"ipFamilyPolicy": wanted.ip_family_policy, "ipFamilies": list(wanted.ip_families)}
    spec |= {field: value for field, value in optional.items() if value}
    made = _object(proxies, "v1", "Service", labels=wanted.extra_labels)
    labels = {**made["metadata"]["labels"], names.ROUTABILITY_LABEL: "Cluster"}
    return made | {"metadata": made["metadata"] | {"name": name, "labels": labels}, "spec": spec}


def _port(port: ListenerPort) -> Object:
    name = f"{port.protocol.lower()}-{port.port}"
    return {"name": name, "port": port.port, "protocol": port.protocol, "targetPort": port.port}


def _static_addresses(type_: str, addresses: tuple[str, ...]) -> Object:
    """How a Service asks for addresses: the first of its load balancer, all others of the nodes."""
    wanted = [each for each in addresses if is_address(each)]
    if not wanted:
        return {}
    if type_ != "LoadBalancer":
        return {"externalIPs": wanted}
    return {"loadBalancerIP": wanted[0]} | ({"externalIPs": wanted[1:]} if len(wanted) > 1 else {})


def _autoscaler(proxies: Proxies) -> Object:
    made = _object(proxies, "autoscaling/v2", "HorizontalPodAutoscaler")
    processor = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    made["spec"] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": proxies.name},
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": [{"type": "Resource", "resource": processor}],
    }
    return _overlaid(proxies, made, "horizontal_pod_autoscaler")


def _disruption_budget(proxies: Proxies) -> Object:
    overlays = proxies.parameters.overlays("pod_disruption_budget")
    spec: Object = {"selector": {"matchLabels": names.selector_labels(proxies.gateway)}}
    if not any("minAvailable" in (each.spec or {}) for each in overlays):
        spec["maxUnavailable"] = 1
    made = _object(proxies, "policy/v1", "PodDisruptionBudget") | {"spec": spec}
    return _overlaid(proxies, made, "pod_disruption_budget")


def _vertical_autoscaler(proxies: Proxies) -> Object:
    made = _object(proxies, "autoscaling.k8s.io/v1", "VerticalPodAutoscaler")
    kind = "Deployment" if proxies.parameters.kube.daemon_set is None else "DaemonSet"
    made["spec"] = {"targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": proxies.name}}
    return _overlaid(proxies, made, "vertical_pod_autoscaler")


# --- What all objects have ------------------------------------------------------------------------------------------


def _object(
    proxies: Proxies,
    api_version: str,
    kind: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    gateway = proxies.gateway.metadata
    owner = {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "Gateway",
        "name": gateway.name,
        "uid": gateway.uid,
        "controller": True,
    }
    all_labels, all_annotations = _marks(proxies, labels or {}, annotations or {})
    metadata: Object = {
        "name": proxies.name,
        "namespace": gateway.namespace,
        "labels": all_labels,
        "annotations": all_annotations,
        "ownerReferences": [owner],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _marks(
    proxies: Proxies, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """All labels and annotations: ours over the Gateway's over the parameters'."""
    more_labels, more_annotations = names.infrastructure(proxies.gateway)
    ours = names.managed_labels(proxies.gateway, proxies.class_name, proxies.settings.controller_name)
    gateway = {names.GATEWAY_ANNOTATION: str(proxies.gateway.key)}
    return {**labels, **more_labels, **ours}, {**annotations, **more_annotations, **gateway}


def _overlaid(proxies: Proxies, made: Object, field: str, *, with_spec: bool = True) -> Object:
    """The object with its overlays, which cannot take away what we find it by."""
    for overlay in proxies.parameters.overlays(field):
        made = patched(made, _patch(overlay, with_spec=with_spec))
    ours = names.managed_labels(proxies.gateway, proxies.class_name, proxies.settings.controller_name)
    labels = {**made["metadata"]["labels"], **ours}
    return made | {"metadata": made["metadata"] | {"labels": labels}}


def _patch(overlay: Overlay, *, with_spec: bool) -> Object:
    patch: Object = {"spec": overlay.spec} if with_spec and overlay.spec is not None else {}
    if overlay.metadata is not None:
        patch["metadata"] = {"labels": overlay.metadata.labels, "annotations": overlay.metadata.annotations}
    return patch


def _hashed(made: Object) -> Object:
    """The object with a hash of itself in an annotation."""
    content = names.digest(msgspec.json.encode(made, order="deterministic"))
    annotations = {**made["metadata"]["annotations"], names.HASH_ANNOTATION: content}
    return made | {"metadata": made["metadata"] | {"annotations": annotations}}
