"""References to backends → clusters and their endpoints.

A reference is judged in the order that keeps secrets: kind, then permission, then existence. The invariant: only
clusters that some route uses are planned, and each has its endpoints, be they none. Read `hosts.py` next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from tripylon.api.core import EndpointSlice, Service, ServicePort
from tripylon.api.imports import IMPORT_GROUP, ServiceImport, ServiceImportPort
from tripylon.api.own import Backend
from tripylon.api.refs import BackendObjectReference
from tripylon.api.x_backends import X_GROUP
from tripylon.findings import Finding, Severity
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.backend_policies import in_force
from tripylon.model.backend_tls import backend_tls, other_names
from tripylon.model.client_certificates import CLIENT_CERTIFICATES
from tripylon.model.cluster_plans import BackendTls, ClusterPlan, Endpoint, EndpointsPlan
from tripylon.model.plan import ClusterKey, Protocol, RoutePlan
from tripylon.model.route_plans import LISTENERS_BY_CLUSTER, ROUTE_PLANS, TRACED_BY_CLUSTER, TRACING
from tripylon.model.slices import endpoints
from tripylon.model.stream_plans import STREAMS_BY_CLUSTER
from tripylon.model.traffic_policies import retry_budget
from tripylon.model.x_backends import fault_of, is_by_tls, plan_x_backend, protocol_of, x_backend_endpoints
from tripylon.values import Built, Name, Ref, is_address, parse_duration_ms
from tripylon.world.grants import may_refer
from tripylon.world.world import (
    BACKENDS,
    SERVICE_IMPORTS,
    SERVICES,
    SLICES_BY_IMPORT,
    SLICES_BY_SERVICE,
    X_BACKENDS,
    Route,
)

OWN_GROUP = "gateway.tripylon.dev"
_KINDS = (("", "Service"), (OWN_GROUP, "Backend"), (X_GROUP, "XBackend"), (IMPORT_GROUP, "ServiceImport"))
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
"""What each `appProtocol` means for us, in lower case, as case does not matter (RFC 6335); others are refused."""
PROTOCOLS_BY_TLS: dict[str, Protocol] = PROTOCOLS | {"https": "http1", "kubernetes.io/wss": "http1", "wss": "http1"}
"""The same, for a port that a BackendTLSPolicy has reached by TLS."""
Stream = Literal["", "tcp", "udp"]
"""What is passed on as it is: nothing (HTTP is understood), bytes of connections, or datagrams."""

ROUTES_BY_CLUSTER: Index[ClusterKey, Ref, RoutePlan] = Index(
    "routes by cluster", ROUTE_PLANS, lambda _, route: route.clusters
)
_USERS = (ROUTES_BY_CLUSTER, STREAMS_BY_CLUSTER, LISTENERS_BY_CLUSTER, TRACED_BY_CLUSTER)
"""Whoever needs a cluster."""
BACKEND_VERDICTS: Table[Name, bool] = Table("backend verdicts")
"""Every Backend, each with whether it can be reached as written, be it used or not."""
CLUSTERS: Table[ClusterKey, ClusterPlan] = Table("cluster plans")
ENDPOINTS: Table[ClusterKey, EndpointsPlan] = Table("endpoint plans")
CLUSTERS_BY_POLICY: Index[Name, ClusterKey, ClusterPlan] = Index(
    "clusters by policy",
    CLUSTERS,
    lambda _, plan: (plan.tls.authorities,) if plan.tls is not None and plan.tls.authorities is not None else (),
)
"""By BackendTLSPolicy, those that are verified by its authorities."""
CLUSTERS_BY_CLIENT: Index[Name, ClusterKey, ClusterPlan] = Index(
    "clusters by client certificate",
    CLUSTERS,
    lambda _, plan: (plan.tls.client,) if plan.tls is not None and plan.tls.client is not None else (),
)
"""By Secret, those that are shown a Gateway's certificate."""


class Fault(NamedTuple):
    """Why a reference to a backend cannot be followed."""

    reason: str
    message: str
    hint: str
    field: str = ""
    severity: Severity = "error"
    """`warning`: the reference itself is right, and what is wrong stands elsewhere, where it is told as an error."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from routes to clusters and endpoints."""
    return (
        Derive(BACKEND_VERDICTS, (BACKENDS,), judge_backend),
        Derive(CLUSTERS, _USERS, plan_cluster),
        Derive(ENDPOINTS, _USERS, plan_endpoints),
    )


def resolve(
    read: Read,
    source: Ref,
    backend: BackendObjectReference,
    *,
    grpc: bool = False,
    stream: Stream = "",
    originates: bool = True,
) -> ClusterKey | Fault:
    """The cluster that a route's reference means, or why there is none (Gateway API, BackendObjectReference).

    `originates=False` is for what the client has encrypted for the backend already: it is passed on as it is.
    """
    target = Ref(backend.group, backend.kind, backend.namespace or source.namespace, backend.name)
    if (target.group, target.kind) not in _KINDS:
        return Fault(
            "InvalidKind",
            f"refers to a backend of kind {target.group or 'core'}/{target.kind}, which is not supported",
            f"Refer to a Service, or to a Backend of {OWN_GROUP}",
            ".kind",
        )
    if target.kind == "XBackend" and target.namespace != source.namespace:
        what = f"may not use {target}: an XBackend is for its own namespace, whatever is granted"
        return Fault("RefNotPermitted", what, f"Make one in namespace `{source.namespace}`", ".namespace")
    if not may_refer(read, source, target):
        return Fault(
            "RefNotPermitted",
            f"may not use {target} of another namespace",
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` from {source.kind} of "
            f"`{source.namespace}` to {target.kind}",
        )
    speaks: Protocol | None = stream or ("http2" if grpc else None)
    if target.kind == "Backend":
        return _resolve_backend(read, target, speaks)
    if target.kind == "XBackend":
        return _resolve_x_backend(read, target, speaks)
    if target.kind == "ServiceImport":
        return _resolve_import(read, target, backend.port or 0, speaks)
    return _resolve_service(read, target, backend.port or 0, speaks, originates=originates)


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


def _resolve_service(
    read: Read, target: Ref, port: int, speaks: Protocol | None, *, originates: bool
) -> ClusterKey | Fault:
    service = read.get(SERVICES, target.key)
    if service is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Create {target}", ".name")
    if service.spec.type == "ExternalName" and not _is_host(service.spec.external_name):
        what = f"refers to {target} of type ExternalName, whose `externalName` is no host name"
        return Fault("BackendNotFound", what, f"Correct `spec.externalName` of {target}", ".name")
    transport = _transport(speaks)
    found = service_port(service, port, transport)
    if found is None:
        ports = ", ".join(str(each.port) for each in service.spec.ports if each.protocol == transport)
        return Fault(
            "BackendNotFound",
            f"refers to port {port} of {target}, which it does not have for {transport}",
            f"Use one of its ports: {ports}" if ports else f"Add ports to {target}",
            ".port",
        )
    policy = in_force(read, target.key, found.name) if originates and transport == "TCP" else None
    protocol = speaks or _protocol(found.app_protocol, PROTOCOLS if policy is None else PROTOCOLS_BY_TLS)
    if isinstance(protocol, Fault):
        return protocol
    if policy is not None and not policy.usable:
        return Fault(
            "BackendNotFound",
            f"refers to {target}, whose certificate cannot be verified by BackendTLSPolicy `{policy.name}`",
            "Correct the policy; its status says what is wrong with it",
            severity="warning",
        )
    return ClusterKey("Service", target.namespace, target.name, port, protocol, policy is not None)


def _resolve_backend(read: Read, target: Ref, speaks: Protocol | None) -> ClusterKey | Fault:
    backend = read.get(BACKENDS, target.key)
    if backend is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Create {target}", ".name")
    if fault := _fault(read, backend):
        return Fault("BackendNotFound", f"refers to {target}, which {fault[0]}", f"Correct {target}", ".name")
    protocol = speaks or _protocol(_app_protocol(backend), PROTOCOLS)
    if isinstance(protocol, Fault):
        return protocol
    return ClusterKey("Backend", target.namespace, target.name, 0, protocol, backend.spec.tls is not None)


def _resolve_x_backend(read: Read, target: Ref, speaks: Protocol | None) -> ClusterKey | Fault:
    backend = read.get(X_BACKENDS, target.key)
    if backend is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Create {target}", ".name")
    if fault := fault_of(read, backend):
        return Fault("BackendNotFound", f"refers to {target}, which {fault[0]}", f"Correct {target}", ".name")
    protocol = protocol_of(backend, speaks)
    if protocol is None:
        stated = backend.spec.protocol or "none"
        what = f"refers to {target} of protocol {stated}, which a route of this kind does not speak"
        return Fault("UnsupportedProtocol", what, f"Change `spec.protocol` of {target}, or leave it out", ".name")
    return ClusterKey("XBackend", target.namespace, target.name, 0, protocol, is_by_tls(backend))


def _resolve_import(read: Read, target: Ref, port: int, speaks: Protocol | None) -> ClusterKey | Fault:
    imported = read.get(SERVICE_IMPORTS, target.key)
    if imported is None:
        return Fault("BackendNotFound", f"refers to {target}, which does not exist", f"Import {target}", ".name")
    transport = _transport(speaks)
    found = import_port(imported, port, transport)
    if found is None:
        ports = ", ".join(str(each.port) for each in imported.spec.ports if each.protocol == transport)
        what = f"refers to port {port} of {target}, which it does not have for {transport}"
        cure = f"Use one of its ports: {ports}" if ports else f"Export a port for {transport} with the Service"
        return Fault("BackendNotFound", what, cure, ".port")
    protocol = speaks or _protocol(found.app_protocol, PROTOCOLS)
    if isinstance(protocol, Fault):
        return protocol
    return ClusterKey("ServiceImport", target.namespace, target.name, port, protocol)


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


def _protocol(app_protocol: str, known: dict[str, Protocol]) -> Protocol | Fault:
    protocol = known.get(app_protocol.lower())
    if protocol is None:
        return Fault(
            "UnsupportedProtocol",
            f"refers to a port with appProtocol `{app_protocol}`, which is not supported",
            "Use kubernetes.io/h2c, kubernetes.io/ws, http, grpc or none; for TLS add a BackendTLSPolicy",
            ".port",
        )
    return protocol


def plan_cluster(read: Read, key: ClusterKey) -> Built[ClusterPlan, Finding] | None:
    """How one destination is reached."""
    if key.kind == "Collector":
        collector = _collector(read, key)
        planned = plan_cluster(read, collector) if collector is not None else None
        unreached = ClusterPlan(key, "endpoints")
        return Built(replace(planned.value, key=key) if planned is not None and planned.value else unreached)
    if key.kind == "XBackend":
        plan = plan_x_backend(read, key)
        return Built(plan) if plan is not None else None
    if key.kind == "ServiceImport":
        there = read.get(SERVICE_IMPORTS, Name(key.namespace, key.name)) is not None
        return Built(ClusterPlan(key, "endpoints")) if there else None
    if key.kind == "Service":
        service = read.get(SERVICES, Name(key.namespace, key.name))
        if service is None:
            return None
        external = service.spec.type == "ExternalName"
        tls = _policy_tls(read, key, service) if key.tls else None
        if key.tls and tls is None:
            return None
        budget = retry_budget(read, service.key) if key.protocol in ("http1", "http2") else None
        return Built(ClusterPlan(key, "dns" if external else "endpoints", tls, budget=budget))
    backend = read.get(BACKENDS, Name(key.namespace, key.name))
    if backend is None:
        return None
    own = backend_tls(read, backend) if backend.spec.tls is not None else None
    if isinstance(own, str):
        return None
    if (dns := backend.spec.dns) is not None:
        return Built(
            ClusterPlan(key, "dns", own, dns.lookup_family, parse_duration_ms(dns.refresh_rate), dns.respect_ttl)
        )
    if any(not is_address(host) for host, _ in _hosts(backend)):
        return Built(ClusterPlan(key, "dns", own))
    # With TLS the addresses change together with what is expected of their certificates.
    return Built(ClusterPlan(key, "endpoints" if own is None else "listed", own))


def _collector(read: Read, key: ClusterKey) -> ClusterKey | None:
    """What a gateway's collector is now."""
    tracing = read.get(TRACING, Name(key.namespace, key.name))
    return tracing.collector if tracing is not None else None


def _policy_tls(read: Read, key: ClusterKey, service: Service) -> BackendTls | None:
    """What the policy in force says of a port, with the certificate of the gateway that is to show one."""
    found = service_port(service, key.port)
    policy = in_force(read, service.key, found.name) if found is not None else None
    client = read.get(CLIENT_CERTIFICATES, key.gateway) if key.gateway is not None else None
    if policy is None or not policy.usable or (key.gateway is not None and (client is None or client.secret is None)):
        return None
    return BackendTls(
        sni=policy.sni,
        names=policy.names,
        authorities=None if policy.system else policy.name,
        client=client.secret if client is not None else None,
        policy=policy.name,
    )


def plan_endpoints(read: Read, key: ClusterKey) -> Built[EndpointsPlan, Finding] | None:
    """The addresses of one destination, sorted so that equal sets are equal plans."""
    if key.kind == "Collector":
        collector = _collector(read, key)
        planned = plan_endpoints(read, collector) if collector is not None else None
        there = planned.value.endpoints if planned is not None and planned.value is not None else ()
        return Built(EndpointsPlan(key, there))
    if key.kind == "Backend":
        backend = read.get(BACKENDS, Name(key.namespace, key.name))
        hosts = _hosts(backend) if backend is not None else ()
        return Built(EndpointsPlan(key, tuple(Endpoint(host, port) for host, port in hosts)))
    if key.kind == "XBackend":
        return Built(x_backend_endpoints(read, key))
    name = Name(key.namespace, key.name)
    if key.kind == "ServiceImport":
        return _import_endpoints(read, key, name)
    service = read.get(SERVICES, name)
    if service is None:
        return None
    if service.spec.type == "ExternalName":
        return Built(EndpointsPlan(key, (Endpoint(service.spec.external_name, key.port),)))
    found = service_port(service, key.port, _transport(key.protocol))
    if found is None:
        return Built(EndpointsPlan(key, ()))
    slices, any_state = read.lookup(SLICES_BY_SERVICE, name), service.spec.publish_not_ready_addresses
    return Built(EndpointsPlan(key, endpoints(slices, lambda each: _port(each, found), in_any_state=any_state)))


def _import_endpoints(read: Read, key: ClusterKey, name: Name) -> Built[EndpointsPlan, Finding] | None:
    """The endpoints in all clusters."""
    imported = read.get(SERVICE_IMPORTS, name)
    found = import_port(imported, key.port, _transport(key.protocol)) if imported is not None else None
    if found is None:
        return Built(EndpointsPlan(key, ()))
    port = ServicePort(name=found.name, port=found.port, protocol=found.protocol)
    slices = read.lookup(SLICES_BY_IMPORT, name)
    return Built(EndpointsPlan(key, endpoints(slices, lambda each: _port(each, port))))


def _transport(speaks: Protocol | None) -> str:
    """What a Service calls the transport of a protocol."""
    return "UDP" if speaks == "udp" else "TCP"


def import_port(imported: ServiceImport, port: int, transport: str) -> ServiceImportPort | None:
    """The port of a ServiceImport for a transport."""
    return next((each for each in imported.spec.ports if each.port == port and each.protocol == transport), None)


def service_port(service: Service, port: int, transport: str = "TCP") -> ServicePort | None:
    """The port of a Service for a transport; another of the same number may be for another one."""
    return next((each for each in service.spec.ports if each.port == port and each.protocol == transport), None)


def _port(slice_: EndpointSlice, port: ServicePort) -> int:
    """The number that a Service's port has in a slice; 0 when the slice does not have it.

    A slice that states no number has every port (Kubernetes, EndpointPort), so the Service says which it is.
    """
    found = next((each for each in slice_.ports if each.name == port.name and each.protocol == port.protocol), None)
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
