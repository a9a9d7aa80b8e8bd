"""The World: all resources as they are now. Its tables are the inputs of the graph.

One table for each kind, but one for all kinds of route, since everything downstream treats them alike. The invariant:
a row's key is its object's own name, so that a look-up needs nothing but a reference. Read `model/gateways.py` next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tripylon.api.core import ConfigMap, EndpointSlice, Namespace, Secret, Service
from tripylon.api.gateway import Gateway, GatewayClass
from tripylon.api.grants import ReferenceGrant
from tripylon.api.imports import ServiceImport
from tripylon.api.ingress import Ingress, IngressClass
from tripylon.api.listener_sets import ListenerSet
from tripylon.api.meta import Resource
from tripylon.api.own import Backend
from tripylon.api.parameters import GatewayParameters
from tripylon.api.policies import BackendTLSPolicy
from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.api.streams import TCPRoute, TLSRoute, UDPRoute
from tripylon.api.trust import ClusterTrustBundle
from tripylon.api.x_backends import XBackend
from tripylon.api.x_policies import XBackendTrafficPolicy, XTelemetryPolicy
from tripylon.findings import Finding
from tripylon.graph import Changes, Graph, Index, Table
from tripylon.values import Name, Ref

Route = HTTPRoute | GRPCRoute | TLSRoute | TCPRoute | UDPRoute
_ROUTE_KINDS = frozenset(("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"))

GATEWAY_CLASSES: Table[Name, GatewayClass] = Table("gatewayclasses")
GATEWAYS: Table[Name, Gateway] = Table("gateways")
LISTENER_SETS: Table[Name, ListenerSet] = Table("listenersets")
ROUTES: Table[Ref, Route] = Table("routes")
GRANTS: Table[Name, ReferenceGrant] = Table("referencegrants")
SERVICES: Table[Name, Service] = Table("services")
ENDPOINT_SLICES: Table[Name, EndpointSlice] = Table("endpointslices")
SECRETS: Table[Name, Secret] = Table("secrets")
CONFIG_MAPS: Table[Name, ConfigMap] = Table("configmaps")
NAMESPACES: Table[Name, Namespace] = Table("namespaces")
BACKENDS: Table[Name, Backend] = Table("backends")
BACKEND_TLS_POLICIES: Table[Name, BackendTLSPolicy] = Table("backendtlspolicies")
X_BACKENDS: Table[Name, XBackend] = Table("xbackends")
X_BACKEND_TRAFFIC_POLICIES: Table[Name, XBackendTrafficPolicy] = Table("xbackendtrafficpolicies")
TELEMETRY_POLICIES: Table[Name, XTelemetryPolicy] = Table("xtelemetrypolicies")
SERVICE_IMPORTS: Table[Name, ServiceImport] = Table("serviceimports")
CLUSTER_TRUST_BUNDLES: Table[Name, ClusterTrustBundle] = Table("clustertrustbundles")
GATEWAY_PARAMETERS: Table[Name, GatewayParameters] = Table("gatewayparameters")
INGRESS_CLASSES: Table[Name, IngressClass] = Table("ingressclasses")
INGRESSES: Table[Name, Ingress] = Table("ingresses")


class ReachedAddress(msgspec.Struct, frozen=True, gc=False):
    """A place where a gateway is reached."""

    value: str
    """An IP address or a host name."""
    routability: str = ""
    """From where it is reached, as in `GatewayStatusAddress`; empty: nothing is promised."""


class Reached(msgspec.Struct, frozen=True, gc=False):
    """Where the proxies of a gateway can be reached, as whoever runs them found out."""

    addresses: tuple[ReachedAddress, ...] = ()
    """What leads to the gateway, in the order of the entries of `spec.addresses` where there are any."""
    unusable: tuple[str, ...] = ()
    """Addresses that the Gateway asks for and does not get."""
    awaited: bool = True
    """Whether it cannot be reached without an address; not so where somebody else runs the proxies."""
    closed: frozenset[tuple[str, int]] = frozenset()
    """Protocols and ports of listeners on which nothing leads to the proxies yet."""


REACHED: Table[Name, Reached] = Table("addresses")
"""By Gateway; empty standalone, where a gateway's addresses are those that its listeners bind."""

TOLD: Table[tuple[str, Ref], tuple[Finding, ...]] = Table("told from outside")
"""What somebody outside the build has to tell about an object, by who tells it: who runs proxies, who reads objects."""

LAST_GOOD_SECRETS: Table[Name, Secret] = Table("last good secrets")
"""Secrets as they were before they became unusable: see `model/tls.py`."""

ABSENT_KINDS: Table[tuple[str, str], bool] = Table("absent kinds")
"""Group and name of the kinds of Kubernetes' own that the cluster does not serve, of those that it need not."""

WITHHELD_SECRETS: Table[Name, str] = Table("withheld secrets")
"""Secrets that are referred to and may not be read, whether they exist or not, by what to grant: see `withheld.py`."""

INPUTS: tuple[Table[Any, Any], ...] = (
    GATEWAY_CLASSES,
    GATEWAYS,
    LISTENER_SETS,
    ROUTES,
    GRANTS,
    SERVICES,
    ENDPOINT_SLICES,
    SECRETS,
    CONFIG_MAPS,
    NAMESPACES,
    BACKENDS,
    BACKEND_TLS_POLICIES,
    X_BACKENDS,
    X_BACKEND_TRAFFIC_POLICIES,
    TELEMETRY_POLICIES,
    SERVICE_IMPORTS,
    CLUSTER_TRUST_BUNDLES,
    GATEWAY_PARAMETERS,
    INGRESS_CLASSES,
    INGRESSES,
    REACHED,
    TOLD,
    LAST_GOOD_SECRETS,
    ABSENT_KINDS,
    WITHHELD_SECRETS,
)


def _service_of(_: Name, slice_: EndpointSlice) -> Iterable[Name]:
    return (Name(slice_.metadata.namespace, slice_.service_name),) if slice_.service_name else ()


SLICES_BY_SERVICE: Index[Name, Name, EndpointSlice] = Index("endpointslices by service", ENDPOINT_SLICES, _service_of)
SLICES_BY_IMPORT: Index[Name, Name, EndpointSlice] = Index(
    "endpointslices by serviceimport",
    ENDPOINT_SLICES,
    lambda key, slice_: (Name(key.namespace, slice_.import_name),) if slice_.import_name else (),
)
SLICES_BY_X_BACKEND: Index[Name, Name, EndpointSlice] = Index(
    "endpointslices by xbackend",
    ENDPOINT_SLICES,
    lambda key, slice_: (Name(key.namespace, slice_.x_backend),) if slice_.x_backend else (),
)
"""By namespace and what stands for the XBackend's name."""
GRANTS_BY_NAMESPACE: Index[str, Name, ReferenceGrant] = Index(
    "referencegrants by namespace", GRANTS, lambda key, _: (key.namespace,)
)


def _services_ruled(key: Name, policy: BackendTLSPolicy | XBackendTrafficPolicy) -> Iterable[Name]:
    for target in policy.spec.target_refs:
        if (target.group, target.kind) == (Service.GROUP, "Service"):
            yield Name(key.namespace, target.name)


BACKEND_TLS_POLICIES_BY_SERVICE: Index[Name, Name, BackendTLSPolicy] = Index(
    "backendtlspolicies by service", BACKEND_TLS_POLICIES, _services_ruled
)

X_BACKEND_TRAFFIC_POLICIES_BY_SERVICE: Index[Name, Name, XBackendTrafficPolicy] = Index(
    "xbackendtrafficpolicies by service", X_BACKEND_TRAFFIC_POLICIES, _services_ruled
)


def _gateways_ruled(key: Name, policy: XTelemetryPolicy) -> Iterable[Name]:
    for target in policy.spec.target_refs:
        if (target.group, target.kind) == (Gateway.GROUP, "Gateway"):
            yield Name(key.namespace, target.name)


TELEMETRY_POLICIES_BY_GATEWAY: Index[Name, Name, XTelemetryPolicy] = Index(
    "xtelemetrypolicies by gateway", TELEMETRY_POLICIES, _gateways_ruled
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    SLICES_BY_SERVICE,
    SLICES_BY_IMPORT,
    SLICES_BY_X_BACKEND,
    GRANTS_BY_NAMESPACE,
    BACKEND_TLS_POLICIES_BY_SERVICE,
    X_BACKEND_TRAFFIC_POLICIES_BY_SERVICE,
    TELEMETRY_POLICIES_BY_GATEWAY,
)

_TABLES: dict[type[Resource], Table[Any, Any]] = {
    GatewayClass: GATEWAY_CLASSES,
    Gateway: GATEWAYS,
    ListenerSet: LISTENER_SETS,
    ReferenceGrant: GRANTS,
    Service: SERVICES,
    EndpointSlice: ENDPOINT_SLICES,
    Secret: SECRETS,
    ConfigMap: CONFIG_MAPS,
    Namespace: NAMESPACES,
    Backend: BACKENDS,
    BackendTLSPolicy: BACKEND_TLS_POLICIES,
    XBackend: X_BACKENDS,
    XBackendTrafficPolicy: X_BACKEND_TRAFFIC_POLICIES,
    XTelemetryPolicy: TELEMETRY_POLICIES,
    ServiceImport: SERVICE_IMPORTS,
    ClusterTrustBundle: CLUSTER_TRUST_BUNDLES,
    GatewayParameters: GATEWAY_PARAMETERS,
    IngressClass: INGRESS_CLASSES,
    Ingress: INGRESSES,
}
_BY_KIND: dict[str, Table[Any, Any]] = {struct.__name__: table for struct, table in _TABLES.items()}


def put(graph: Graph, resource: Resource) -> bool:
    """Takes in an object; False when the same is there already."""
    if isinstance(resource, Route):
        return graph.put(ROUTES, resource.ref, resource)
    return graph.put(_TABLES[type(resource)], resource.key, resource)


def delete(graph: Graph, ref: Ref) -> bool:
    """Lets go of an object; False when it is not there."""
    if ref.kind in _ROUTE_KINDS:
        return graph.delete(ROUTES, ref)
    return graph.delete(_BY_KIND[ref.kind], ref.key)


def find(graph: Graph, ref: Ref) -> Resource | None:
    """An object; None when it is not there."""
    if ref.kind in _ROUTE_KINDS:
        return graph.get(ROUTES, ref)
    found: Resource | None = graph.get(_BY_KIND[ref.kind], ref.key) if ref.kind in _BY_KIND else None
    return found if found is not None and ref.group == found.GROUP else None


def touched(changes: Changes) -> Iterator[Ref]:
    """The objects that a flush took in, whatever of them differs, and those that went."""
    yield from changes.keys(ROUTES)
    for struct, table in _TABLES.items():
        for name in changes.keys(table):
            yield Ref(struct.GROUP, struct.__name__, *name)


def resources(graph: Graph) -> Iterable[Resource]:
    """Every object there is, in the order of the tables."""
    for table in (*_TABLES.values(), ROUTES):
        yield from graph.rows(table).values()
