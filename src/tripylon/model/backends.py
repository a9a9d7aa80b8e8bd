"""References to backends → clusters and their endpoints.

A reference is judged in the order that keeps secrets: kind, then permission, then existence. The invariant: only
clusters that some route uses are planned, and each has its endpoints, be they none. Read `hosts.py` next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tripylon.api.core import EndpointSlice, Service, ServicePort
from tripylon.api.own import Backend
from tripylon.api.refs import BackendObjectReference
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.backend_tls import backend_tls, other_names
from tripylon.model.plan import ClusterKey, ClusterPlan, Endpoint, EndpointsPlan, Protocol, RoutePlan
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.values import Built, Name, Ref, is_address, parse_duration_ms
from tripylon.world.grants import may_refer
from tripylon.world.world import BACKENDS, SERVICES, SLICES_BY_SERVICE, Route

OWN_GROUP = "gateway.tripylon.dev"
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")

PROTOCOLS: dict[str, Protocol] = {
    "": "http1",
    "http": "http1",
    "http/1.1": "http1",
    "tcp": "http1",
    "kubernetes.io/ws": "http1",
    "ws": "http1",
    "kubernetes.io/h2c": "http2",
    "h2c": "http2",
    "http2": "http2",
    "grpc": "http2",
    "grpc-web": "http2",
}
"""What each `appProtocol` means for us; others are refused."""

ROUTES_BY_CLUSTER: Index[ClusterKey, Ref, RoutePlan] = Index(
    "routes by cluster", ROUTE_PLANS, lambda _, route: route.clusters
)
BACKEND_VERDICTS: Table[Name, bool] = Table("backend verdicts")
"""Every Backend, each with whether it can be reached as written, be it used or not."""
CLUSTERS: Table[ClusterKey, ClusterPlan] = Table("cluster plans")
ENDPOINTS: Table[ClusterKey, EndpointsPlan] = Table("endpoint plans")


class Fault(NamedTuple):
    """Why a reference to a backend cannot be followed."""

    reason: str
    message: str
    hint: str
    field: str = ""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from routes to clusters and endpoints."""
    return (
        Derive(BACKEND_VERDICTS, (BACKENDS,), judge_backend),
        Derive(CLUSTERS, (ROUTES_BY_CLUSTER,), plan_cluster),
        Derive(ENDPOINTS, (ROUTES_BY_CLUSTER,), plan_endpoints),
    )


def resolve(read: Read, source: Ref, backend: BackendObjectReference, *, grpc: bool) -> ClusterKey | Fault:
    """The cluster that a route's reference means, or why there is none (Gateway API, BackendObjectReference)."""
    target = Ref(backend.group, backend.kind, backend.namespace or source.namespace, backend.name)
    if (target.group, target.kind) not in (("", "Service"), (OWN_GROUP, "Backend")):
        return Fault(
            "InvalidKind",
            f"refers to a backend of kind {target.group or 'core'}/{target.kind}, which is not supported",
            f"Refer to a Service, or to a Backend of {OWN_GROUP}",
            ".kind",
        )
    if not may_refer(read, source, target):
        return Fault(
            "RefNotPermitted",
            f"may not use {target} of another namespace",
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` from {source.kind} of "
            f"`{source.namespace}` to {target.kind}",
        )
    if target.kind == "Backend":
        return _resolve_backend(read, target, grpc=grpc)
    return _resolve_service(read, target, backend.port or 0, grpc=grpc)


def unread_port(route: Route, backend: BackendObjectReference, field: str) -> Iterator[Finding]:
    """Tells of a port in a reference to a Backend: its hosts have ports of their own."""
    if backend.kind == "Backend" and backend.group == OWN_GROUP and backend.port is not None:
        yield Finding(
            object=route.ref,
            severity="warning",
            condition="ResolvedRefs",
            reason="UnsupportedValue",
            message=f"{route.ref} states port {backend.port} for Backend `{backend.name}`, whose hosts have their own",
            hint="Remove it; it is not read",
            field=f"{field}.port",
        )


def _resolve_service(read: Read, target: Ref, port: int, *, grpc: bool) -> ClusterKey | Fault:
    service = read.get(SERVICES, target.key)
    if service is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Create {target}", ".name")
    if service.spec.type == "ExternalName" and not _is_host(service.spec.external_name):
        what = f"refers to {target} of type ExternalName, whose `externalName` is no host name"
        return Fault("BackendNotFound", what, f"Correct `spec.externalName` of {target}", ".name")
    found = _tcp_port(service, port)
    if found is None:
        ports = ", ".join(str(each.port) for each in service.spec.ports if each.protocol == "TCP")
        return Fault(
            "BackendNotFound",
            f"refers to port {port} of {target}, which it does not have for TCP",
            f"Use one of its ports: {ports}" if ports else f"Add ports to {target}",
            ".port",
        )
    protocol = _protocol(found.app_protocol, grpc=grpc)
    if isinstance(protocol, Fault):
        return protocol
    return ClusterKey("Service", target.namespace, target.name, port, protocol)


def _resolve_backend(read: Read, target: Ref, *, grpc: bool) -> ClusterKey | Fault:
    backend = read.get(BACKENDS, target.key)
    if backend is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Create {target}", ".name")
    if fault := _fault(read, backend):
        return Fault("BackendNotFound", f"refers to {target}, which {fault[0]}", f"Correct {target}", ".name")
    protocol = _protocol(_app_protocol(backend), grpc=grpc)
    if isinstance(protocol, Fault):
        return protocol
    return ClusterKey("Backend", target.namespace, target.name, 0, protocol, backend.spec.tls is not None)


def judge_backend(read: Read, name: Name) -> Built[bool, Finding] | None:
    """Whether a Backend can be reached as it is written; if not, a finding on itself says why."""
    backend = read.get(BACKENDS, name)
    if backend is None:
        return None
    fault = _fault(read, backend)
    if fault is None:
        return Built(value=True, findings=tuple(_misnamed(backend)))
    what, field = fault
    finding = Finding(
        object=backend.ref,
        condition="Accepted",
        reason="Invalid",
        message=f"Backend `{name}` {what}",
        hint="Correct it; until then requests for it are answered with 500",
        field=field,
    )
    return Built(value=False, findings=(finding,))


def _misnamed(backend: Backend) -> Iterator[Finding]:
    if others := other_names(backend):
        yield Finding(
            object=backend.ref,
            severity="warning",
            condition="Accepted",
            reason="UnsupportedValue",
            message=f"Backend `{backend.key}` asks all its hosts by TLS for the name of the first, "
            f"also {', '.join(f'`{name}`' for name in others)}",
            hint="State `sni` if that is meant, else make one Backend for each name",
            field="spec.tls.sni",
        )


def _fault(read: Read, backend: Backend) -> tuple[str, str] | None:
    """What is wrong with a Backend, as the end of a sentence about it, and in which field; None: nothing."""
    hosts = _hosts(backend)
    if not hosts:
        return "names no host", "spec"
    for index, (host, _) in enumerate(hosts):
        if not _is_host(host):
            field = "spec.dns.hostname" if backend.spec.dns is not None else f"spec.static.hosts[{index}].host"
            return f"has the host `{host}`, which is neither an address nor a name", field
    tls = backend_tls(read, backend)
    if isinstance(tls, str):
        return f"cannot be reached by TLS: {tls}", "spec.tls"
    return None


def _is_host(text: str) -> bool:
    return is_address(text) or _HOST_NAME.fullmatch(text) is not None


def _protocol(app_protocol: str, *, grpc: bool) -> Protocol | Fault:
    protocol = PROTOCOLS.get(app_protocol)
    if protocol is None:
        return Fault(
            "UnsupportedProtocol",
            f"refers to a port with appProtocol `{app_protocol}`, which is not supported",
            "Use kubernetes.io/h2c, kubernetes.io/ws, http, grpc or none; for TLS use a Backend with `tls`",
            ".port",
        )
    return "http2" if grpc else protocol


def plan_cluster(read: Read, key: ClusterKey) -> Built[ClusterPlan, Finding] | None:
    """How one destination is reached."""
    if key.kind == "Service":
        service = read.get(SERVICES, Name(key.namespace, key.name))
        if service is None:
            return None
        external = service.spec.type == "ExternalName"
        return Built(ClusterPlan(key, "dns" if external else "endpoints"))
    backend = read.get(BACKENDS, Name(key.namespace, key.name))
    if backend is None:
        return None
    tls = backend_tls(read, backend) if backend.spec.tls is not None else None
    if isinstance(tls, str):
        return None
    if (dns := backend.spec.dns) is not None:
        return Built(
            ClusterPlan(key, "dns", tls, dns.lookup_family, parse_duration_ms(dns.refresh_rate), dns.respect_ttl)
        )
    if any(not is_address(host) for host, _ in _hosts(backend)):
        return Built(ClusterPlan(key, "dns", tls))
    # With TLS the addresses change together with what is expected of their certificates.
    return Built(ClusterPlan(key, "endpoints" if tls is None else "listed", tls))


def plan_endpoints(read: Read, key: ClusterKey) -> Built[EndpointsPlan, Finding] | None:
    """The addresses of one destination, sorted so that equal sets are equal plans."""
    if key.kind == "Backend":
        backend = read.get(BACKENDS, Name(key.namespace, key.name))
        hosts = _hosts(backend) if backend is not None else ()
        return Built(EndpointsPlan(key, tuple(Endpoint(host, port) for host, port in hosts)))
    name = Name(key.namespace, key.name)
    service = read.get(SERVICES, name)
    if service is None:
        return None
    if service.spec.type == "ExternalName":
        return Built(EndpointsPlan(key, (Endpoint(service.spec.external_name, key.port),)))
    slices = read.lookup(SLICES_BY_SERVICE, name)
    return Built(EndpointsPlan(key, tuple(sorted(set(_ready(service, key.port, slices)), key=_endpoint_order))))


def _endpoint_order(endpoint: Endpoint) -> tuple[str, int, str]:
    return (endpoint.address, endpoint.port, endpoint.zone)


def _ready(service: Service, port: int, slices: Iterable[EndpointSlice]) -> Iterator[Endpoint]:
    """Endpoints that take requests: ready ones, and when there are none, those that still serve while they end.

    A Service may ask that readiness be disregarded. What is no IP address cannot be sent and is left out, and of an
    endpoint's addresses the first stands for all (Kubernetes, EndpointSlice).
    """
    found = _tcp_port(service, port)
    if found is None:
        return
    numbered = [(slice_, _port(slice_, found)) for slice_ in slices]
    pairs = [(number, endpoint) for slice_, number in numbered if number for endpoint in slice_.endpoints]
    ready = [pair for pair in pairs if pair[1].conditions.ready is not False]
    ending = [pair for pair in pairs if pair[1].conditions.serving]
    for number, endpoint in pairs if service.spec.publish_not_ready_addresses else ready or ending:
        if can_be_sent(endpoint.addresses):
            yield Endpoint(endpoint.addresses[0], number, endpoint.zone)


def can_be_sent(addresses: tuple[str, ...]) -> bool:
    """Whether an endpoint's first address is one that Envoy takes."""
    return bool(addresses) and is_address(addresses[0])


def _tcp_port(service: Service, port: int) -> ServicePort | None:
    """The port of a Service that carries HTTP; another of the same number may be for UDP."""
    return next((each for each in service.spec.ports if each.port == port and each.protocol == "TCP"), None)


def _port(slice_: EndpointSlice, port: ServicePort) -> int:
    """The number that a Service's port has in a slice; 0 when the slice does not have it.

    A slice that states no number has every port (Kubernetes, EndpointPort), so the Service says which it is.
    """
    found = next((each for each in slice_.ports if each.name == port.name and each.protocol == "TCP"), None)
    if found is None:
        return 0
    if found.port is not None:
        return found.port
    return port.target_port if isinstance(port.target_port, int) else port.port


def _hosts(backend: Backend) -> tuple[tuple[str, int], ...]:
    if backend.spec.dns is not None:
        return ((backend.spec.dns.hostname, backend.spec.dns.port),)
    static = backend.spec.static
    return tuple((host.host, host.port) for host in static.hosts) if static is not None else ()


def _app_protocol(backend: Backend) -> str:
    place = backend.spec.dns or backend.spec.static
    return place.app_protocol if place is not None else ""
