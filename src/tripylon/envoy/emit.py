"""The emission, as a list: every step from the Plan to serialised, hashed xDS resources.

One row for each resource; a row is built anew only when what it reads changed, so a changed route costs one virtual
host. The invariant: same plan, same bytes. `TABLES` says which table holds which type; `loop.py` publishes changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from tripylon.envoy import clusters, listeners, names, routes, secrets
from tripylon.envoy.listeners import ListenerKey
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import to_bytes
from tripylon.findings import Finding
from tripylon.graph import Changes, Derive, Graph, Index, Read, Table
from tripylon.model.backends import CLUSTERS, ENDPOINTS, OWN_GROUP
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import ClusterKey, GatewayPlan, HostKey, RouteTable
from tripylon.model.tls import CERTIFICATES, GATEWAY_TLS, TLS_BY_SECRET
from tripylon.values import Built, Name, Ref
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, VHDS, Resource, make_resource

CLUSTER_RESOURCES: Table[ClusterKey, Resource] = Table("cluster resources")
ENDPOINT_RESOURCES: Table[ClusterKey, Resource] = Table("endpoint resources")
SECRET_RESOURCES: Table[Name, Resource] = Table("secret resources")
LISTENER_RESOURCES: Table[ListenerKey, Resource] = Table("listener resources")
ROUTE_RESOURCES: Table[RouteTable, Resource] = Table("route configuration resources")
HOST_RESOURCES: Table[HostKey, Resource] = Table("virtual host resources")


def _sockets(name: Name, plan: GatewayPlan) -> Iterator[ListenerKey]:
    for port in {listener.port for listener in plan.listeners}:
        for address in plan.addresses:
            yield ListenerKey(name, port, address)


def _tables(name: Name, plan: GatewayPlan) -> Iterator[RouteTable]:
    for listener in plan.listeners:
        if listener.usable:
            yield listener.table(name)


GATEWAYS_BY_SOCKET: Index[ListenerKey, Name, GatewayPlan] = Index("gateways by socket", GATEWAY_PLANS, _sockets)
GATEWAYS_BY_TABLE: Index[RouteTable, Name, GatewayPlan] = Index("gateways by route table", GATEWAY_PLANS, _tables)

INDEXES: tuple[Index[Any, Any, Any], ...] = (GATEWAYS_BY_SOCKET, GATEWAYS_BY_TABLE)

TABLES: MappingProxyType[str, Table[Any, Resource]] = MappingProxyType(
    {
        CDS: CLUSTER_RESOURCES,
        EDS: ENDPOINT_RESOURCES,
        SDS: SECRET_RESOURCES,
        LDS: LISTENER_RESOURCES,
        RDS: ROUTE_RESOURCES,
        VHDS: HOST_RESOURCES,
    }
)
"""Type URL → the table of its resources."""

_NAMES: MappingProxyType[str, Any] = MappingProxyType(
    {
        CDS: names.cluster,
        EDS: names.cluster,
        SDS: names.secret,
        LDS: lambda key: names.listener(*key),
        RDS: names.route_table,
        VHDS: names.virtual_host,
    }
)


def derives(options: EmitOptions) -> tuple[Derive[Any, Any], ...]:
    """The steps of emission, each independent of the others."""

    def cluster(read: Read, key: ClusterKey) -> Built[Resource, Finding] | None:
        plan = read.get(CLUSTERS, key)
        if plan is None:
            return None
        endpoints = read.get(ENDPOINTS, key) if plan.discovery != "endpoints" else None
        message = to_bytes(clusters.cluster(plan, endpoints, options))
        findings = (_untrusted(key),) if clusters.is_untrusted(plan, options) else ()
        return Built(make_resource(CDS, names.cluster(key), message), findings)

    def listener(read: Read, key: ListenerKey) -> Built[Resource, Finding] | None:
        gateway, tls = read.get(GATEWAY_PLANS, key.gateway), read.get(GATEWAY_TLS, key.gateway)
        if gateway is None:
            return None
        built = listeners.listener(key, gateway, tls.listeners if tls is not None else (), options)
        return Built(make_resource(LDS, names.listener(*key), to_bytes(built))) if built is not None else None

    return (
        Derive(CLUSTER_RESOURCES, (CLUSTERS,), cluster),
        Derive(ENDPOINT_RESOURCES, (ENDPOINTS,), _endpoints),
        Derive(SECRET_RESOURCES, (TLS_BY_SECRET,), _secret),
        Derive(LISTENER_RESOURCES, (GATEWAYS_BY_SOCKET,), listener),
        Derive(ROUTE_RESOURCES, (GATEWAYS_BY_TABLE,), _route_configuration),
        Derive(HOST_RESOURCES, (HOSTS,), _virtual_host),
    )


def _untrusted(key: ClusterKey) -> Finding:
    backend = Name(key.namespace, key.name)
    return Finding(
        object=Ref(OWN_GROUP, "Backend", *backend),
        condition="Accepted",
        reason="Invalid",
        message=f"Backend `{backend}` cannot be verified: this machine has no file with the authorities that it trusts",
        hint="Install the system's CA certificates, or name some by `spec.tls.caCertificateRefs`; until then requests "
        "for it are answered with 503",
        field="spec.tls",
    )


def changed(graph: Graph, changes: Changes) -> dict[str, dict[str, Resource | None]]:
    """What a flush changed, by type URL and name; None: the resource went."""
    found: dict[str, dict[str, Resource | None]] = {}
    for url, table in TABLES.items():
        if keys := changes.keys(table):
            named = found[url] = {}
            for key in keys:
                resource = graph.get(table, key)
                named[resource.name if resource is not None else _NAMES[url](key)] = resource
    return found


def everything(graph: Graph) -> dict[str, dict[str, Resource]]:
    """All resources, by type URL and name, sorted by name."""
    return {
        url: {resource.name: resource for resource in sorted(graph.rows(table).values(), key=lambda each: each.name)}
        for url, table in TABLES.items()
    }


def _endpoints(read: Read, key: ClusterKey) -> Built[Resource, Finding] | None:
    plan, endpoints = read.get(CLUSTERS, key), read.get(ENDPOINTS, key)
    if plan is None or endpoints is None or plan.discovery != "endpoints":
        return None
    return Built(make_resource(EDS, names.cluster(key), to_bytes(clusters.load_assignment(endpoints))))


def _secret(read: Read, name: Name) -> Built[Resource, Finding] | None:
    certificate = read.get(CERTIFICATES, name)
    if certificate is None or not certificate.chain:
        return None
    return Built(make_resource(SDS, names.secret(name), to_bytes(secrets.secret(certificate))))


def _route_configuration(read: Read, table: RouteTable) -> Built[Resource, Finding] | None:
    gateway, tls = read.get(GATEWAY_PLANS, table.gateway), read.get(GATEWAY_TLS, table.gateway)
    if gateway is None or not listeners.serves(gateway, tls.listeners if tls is not None else (), table):
        return None
    return Built(make_resource(RDS, names.route_table(table), to_bytes(routes.route_configuration(table))))


def _virtual_host(read: Read, key: HostKey) -> Built[Resource, Finding] | None:
    plan = read.get(HOSTS, key)
    if plan is None or read.get(ROUTE_RESOURCES, key.table) is None:
        return None
    return Built(make_resource(VHDS, names.virtual_host(key), to_bytes(routes.virtual_host(plan))))
