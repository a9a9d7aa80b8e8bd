"""The emission, as a list: every step from the Plan to serialised, hashed xDS resources.

One row for each resource; a row is built anew only when what it reads changed, so a changed route costs one virtual
host. The invariant: same plan, same bytes. `TABLES` says which tables hold which type; `loop.py` publishes changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.envoy import clusters, filter_chains, layouts, listeners, names, routes, scopes, secrets, streams
from tripylon.envoy.filter_chains import CHAINS_BY_PORT
from tripylon.envoy.layouts import GATEWAYS_BY_TABLE, LAYOUTS
from tripylon.envoy.listeners import ListenerKey
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import to_bytes
from tripylon.findings import Finding
from tripylon.graph import Changes, Derive, Graph, Index, Read, Table
from tripylon.model.backend_policies import AUTHORITIES
from tripylon.model.backends import CLUSTERS, CLUSTERS_BY_CLIENT, CLUSTERS_BY_POLICY, ENDPOINTS, OWN_GROUP
from tripylon.model.client_certificates import CLIENT_CERTIFICATES, host_reached
from tripylon.model.cluster_plans import ClusterPlan
from tripylon.model.frontend_tls import CLIENT_AUTHORITIES
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import GATEWAY_PLANS, LISTENERS
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import (
    ClusterKey,
    FrontendKey,
    GatewayPlan,
    HolderKey,
    HolderListeners,
    HostKey,
    HostPlan,
    RouteTable,
)
from tripylon.model.route_plans import TRACING
from tripylon.model.stream_plans import SESSIONS, STREAMS, STREAMS_BY_SOCKET, StreamKey
from tripylon.model.tls import CERTIFICATES, TLS_BY_SECRET
from tripylon.pb.messages import Listener, VirtualHost
from tripylon.values import Built, Name, Ref
from tripylon.xds.snapshot import BY_URL, CDS, EDS, LDS, RDS, SDS, SRDS, VHDS, Resource, make_resource

CLUSTER_RESOURCES: Table[ClusterKey, Resource] = Table("cluster resources")
ENDPOINT_RESOURCES: Table[ClusterKey, Resource] = Table("endpoint resources")
SECRET_RESOURCES: Table[Name, Resource] = Table("secret resources")
AUTHORITY_RESOURCES: Table[Name, Resource] = Table("authority resources")
CLIENT_AUTHORITY_RESOURCES: Table[FrontendKey, Resource] = Table("client authority resources")
SESSION_RESOURCES: Table[StreamKey, Resource] = Table("session cluster resources")
SESSION_ENDPOINT_RESOURCES: Table[StreamKey, Resource] = Table("session endpoint resources")
LISTENER_RESOURCES: Table[ListenerKey, Resource] = Table("listener resources")
ROUTE_RESOURCES: Table[RouteTable, Resource] = Table("route configuration resources")
HOST_RESOURCES: Table[HostKey, Resource] = Table("host resources")
"""A virtual host of a plain table, or the scope of an exact hostname of a scoped one."""
FALLBACK_HOSTS: Table[HostKey, bytes] = Table("hosts of fallback scopes")
"""Serialised virtual hosts, of the wildcard hostnames of scoped tables and for all other hostnames."""
FALLBACK_RESOURCES: Table[RouteTable, Resource] = Table("fallback scope resources")


def _sockets(name: Name, plan: GatewayPlan) -> Iterator[ListenerKey]:
    for port, udp in plan.sockets:
        for address in plan.addresses:
            yield ListenerKey(name, port, address, udp)


GATEWAYS_BY_SOCKET: Index[ListenerKey, Name, GatewayPlan] = Index("gateways by socket", GATEWAY_PLANS, _sockets)


def _listening(key: HolderKey, holder: HolderListeners) -> Iterator[tuple[Name, int, bool]]:
    return ((key.gateway, each.port, each.protocol == "UDP") for each in holder.listeners if each.usable)


def _wide(key: HostKey, _: HostPlan) -> tuple[HostKey, ...]:
    return () if scopes.has_scope(key) else (key,)


LISTENERS_BY_SOCKET: Index[tuple[Name, int, bool], HolderKey, HolderListeners] = Index(
    "listeners by port", LISTENERS, _listening
)
"""By gateway, port, and whether it is one of UDP."""
WIDE_HOSTS: Index[HostKey, HostKey, HostPlan] = Index("wildcard hosts", HOSTS, _wide)
FALLBACKS: Index[RouteTable, HostKey, bytes] = Index(
    "hosts of fallback scopes by route table", FALLBACK_HOSTS, lambda key, _: (key.table,)
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    GATEWAYS_BY_SOCKET,
    LISTENERS_BY_SOCKET,
    *layouts.INDEXES,
    *filter_chains.INDEXES,
    WIDE_HOSTS,
    FALLBACKS,
)


class Emitted(NamedTuple):
    """A table of resources; one whose rows may be of two types stands here for each, with names that differ."""

    url: str
    table: Table[Any, Resource]
    name: Callable[[Any], str]
    """The name that the resource of a row has if it is of this type, also when it went."""


TABLES: tuple[Emitted, ...] = (
    Emitted(CDS, CLUSTER_RESOURCES, names.cluster),
    Emitted(EDS, ENDPOINT_RESOURCES, names.cluster),
    Emitted(SDS, SECRET_RESOURCES, names.secret),
    Emitted(SDS, AUTHORITY_RESOURCES, names.authorities),
    Emitted(SDS, CLIENT_AUTHORITY_RESOURCES, names.client_authorities),
    Emitted(CDS, SESSION_RESOURCES, names.stream),
    Emitted(EDS, SESSION_ENDPOINT_RESOURCES, names.stream),
    Emitted(LDS, LISTENER_RESOURCES, lambda key: names.listener(*key)),
    Emitted(RDS, ROUTE_RESOURCES, names.route_table),
    Emitted(VHDS, HOST_RESOURCES, names.virtual_host),
    Emitted(SRDS, HOST_RESOURCES, names.scope),
    Emitted(SRDS, FALLBACK_RESOURCES, lambda table: names.scope(HostKey(table, ""))),
)
"""Every table of resources; the same type may come from several."""

REFERRED = frozenset(each.table for each in TABLES if BY_URL[each.url].held)
"""The tables of what others refer to, and of nothing else."""


def derives(options: EmitOptions) -> tuple[Derive[Any, Any], ...]:
    """The steps of emission, each independent of the others."""

    def cluster(read: Read, key: ClusterKey) -> Built[Resource, Finding] | None:
        plan = read.get(CLUSTERS, key)
        if plan is None or key.protocol == "udp":
            return None
        endpoints = read.get(ENDPOINTS, key) if plan.discovery != "endpoints" else None
        message = to_bytes(clusters.cluster(plan, endpoints, options))
        findings = (_untrusted(plan),) if clusters.is_untrusted(plan, options) else ()
        return Built(make_resource(CDS, names.cluster(key), message), findings)

    def listener(read: Read, key: ListenerKey) -> Built[Resource, Finding] | None:
        gateway = read.get(GATEWAY_HEADS, key.gateway)
        if gateway is None or not gateway.accepted or key.address not in gateway.addresses:
            return None
        secured = () if key.udp else read.lookup(CHAINS_BY_PORT, filter_chains.Port(key.gateway, key.port))
        if secured:
            chains = filter_chains.in_order(secured, key.port)
            message = b"".join((to_bytes(listeners.secured(key)), *chains)) if chains else None
        else:
            built = open_listener(read, key)
            message = to_bytes(built) if built is not None else None
        return Built(make_resource(LDS, names.listener(*key), message)) if message is not None else None

    def open_listener(read: Read, key: ListenerKey) -> Listener | None:
        socket = (key.gateway, key.port, key.udp)
        there = [each for holder in read.lookup(LISTENERS_BY_SOCKET, socket) for each in holder.listeners]
        on_socket = (each for each in there if (each.usable, each.port, each.protocol == "UDP") == (True, *socket[1:]))
        served = sorted(on_socket, key=lambda each: each.id)
        streamed, traced = read.lookup(STREAMS_BY_SOCKET, socket), read.get(TRACING, key.gateway)
        scoped = read.get(LAYOUTS, RouteTable(key.gateway, key.port, secure=False)) == "scoped"
        return listeners.listener(key, served, streamed, traced, options, scoped=scoped)

    return (
        Derive(CLUSTER_RESOURCES, (CLUSTERS,), cluster),
        Derive(ENDPOINT_RESOURCES, (ENDPOINTS,), _endpoints),
        Derive(SECRET_RESOURCES, (TLS_BY_SECRET, CLUSTERS_BY_CLIENT), _secret),
        Derive(AUTHORITY_RESOURCES, (CLUSTERS_BY_POLICY,), _authorities),
        Derive(CLIENT_AUTHORITY_RESOURCES, (CLIENT_AUTHORITIES,), _client_authorities),
        Derive(SESSION_RESOURCES, (SESSIONS,), _sessions_cluster),
        Derive(SESSION_ENDPOINT_RESOURCES, (SESSIONS,), _sessions_endpoints),
        *layouts.derives(options),
        *filter_chains.derives(options),
        Derive(LISTENER_RESOURCES, (GATEWAYS_BY_SOCKET,), listener),
        Derive(ROUTE_RESOURCES, (GATEWAYS_BY_TABLE,), _route_configuration),
        Derive(HOST_RESOURCES, (HOSTS,), _host),
        Derive(FALLBACK_HOSTS, (WIDE_HOSTS,), _fallback_host),
        Derive(FALLBACK_RESOURCES, (GATEWAYS_BY_TABLE,), _fallback),
    )


def _untrusted(plan: ClusterPlan) -> Finding:
    policy = plan.tls.policy if plan.tls is not None else None
    backend = Name(plan.key.namespace, plan.key.name)
    about = Ref(GATEWAY_GROUP, "BackendTLSPolicy", *policy) if policy else Ref(OWN_GROUP, "Backend", *backend)
    return Finding(
        object=about,
        condition="Accepted",
        reason="Invalid",
        message=f"{about} cannot be had: this machine has no file with the authorities that it trusts",
        hint="Install the system's CA certificates, or name some by `caCertificateRefs`; until then requests that need "
        "them are answered with 503",
        field="spec.validation.wellKnownCACertificates" if policy else "spec.tls",
    )


def changed(graph: Graph, changes: Changes) -> dict[str, dict[str, Resource | None]]:
    """What a flush changed, by type URL and name; None: the resource went."""
    found: dict[str, dict[str, Resource | None]] = {}
    for emitted in TABLES:
        if changes.keys(emitted.table):
            rows = outcomes(graph, changes, emitted)
            found.setdefault(emitted.url, {}).update((name, resource) for _, name, resource in rows)
    return found


def outcomes(graph: Graph, changes: Changes, emitted: Emitted) -> Iterator[tuple[Any, str, Resource | None]]:
    """The rows of a table that a flush changed, each with its name as a resource of this type and what it is now.

    None: there is none any more. A row that is of another type was of this one only if its routing table has moved.
    """
    moved = changes.keys(LAYOUTS)
    for key in changes.keys(emitted.table):
        name, resource = emitted.name(key), graph.get(emitted.table, key)
        if resource is None or resource.name == name:
            yield key, name, resource
        elif key.table in moved:
            yield key, name, None


def everything(graph: Graph) -> dict[str, dict[str, Resource]]:
    """All resources, by type URL and name, sorted by name."""
    found: dict[str, dict[str, Resource]] = {}
    for emitted in TABLES:
        rows = graph.rows(emitted.table).items()
        of_type = {row.name: row for key, row in rows if row.name == emitted.name(key)}
        found.setdefault(emitted.url, {}).update(of_type)
    return {url: dict(sorted(by_name.items())) for url, by_name in found.items()}


def _endpoints(read: Read, key: ClusterKey) -> Built[Resource, Finding] | None:
    plan, endpoints = read.get(CLUSTERS, key), read.get(ENDPOINTS, key)
    if plan is None or endpoints is None or plan.discovery != "endpoints" or key.protocol == "udp":
        return None
    return Built(make_resource(EDS, names.cluster(key), to_bytes(clusters.load_assignment(endpoints))))


def _sessions_cluster(read: Read, key: StreamKey) -> Built[Resource, Finding] | None:
    shares = _addressed(read, key)
    if shares is None:
        return None
    return Built(make_resource(CDS, names.stream(key), to_bytes(streams.sessions_cluster(key, shares))))


def _sessions_endpoints(read: Read, key: StreamKey) -> Built[Resource, Finding] | None:
    shares = _addressed(read, key)
    assignment = streams.sessions_endpoints(key, shares) if shares is not None else None
    return Built(make_resource(EDS, names.stream(key), to_bytes(assignment))) if assignment is not None else None


def _addressed(read: Read, key: StreamKey) -> streams.Addressed | None:
    """The shares of a place with their addresses as they are now; None: nobody has the place."""
    plan = read.get(STREAMS, key)
    if plan is None:
        return None
    return tuple(
        (share, read.get(ENDPOINTS, share.cluster) if share.cluster is not None else None) for share in plan.shares
    )


def _secret(read: Read, name: Name) -> Built[Resource, Finding] | None:
    certificate = read.get(CERTIFICATES, name)
    if certificate is None or not certificate.chain:
        return None
    return Built(make_resource(SDS, names.secret(name), to_bytes(secrets.secret(certificate))))


def _client_authorities(read: Read, key: FrontendKey) -> Built[Resource, Finding] | None:
    plan = read.get(CLIENT_AUTHORITIES, key)
    if plan is None:
        return None
    return Built(make_resource(SDS, names.client_authorities(key), to_bytes(secrets.client_authorities(plan))))


def _authorities(read: Read, name: Name) -> Built[Resource, Finding] | None:
    bundle = read.get(AUTHORITIES, name)
    if not bundle:
        return None
    return Built(make_resource(SDS, names.authorities(name), to_bytes(secrets.authorities(name, bundle))))


def _route_configuration(read: Read, table: RouteTable) -> Built[Resource, Finding] | None:
    if read.get(LAYOUTS, table) != "plain":
        return None
    return Built(make_resource(RDS, names.route_table(table), to_bytes(routes.route_configuration(table))))


def _host(read: Read, key: HostKey) -> Built[Resource, Finding] | None:
    layout = read.get(LAYOUTS, key.table)
    if layout is None or (layout == "scoped" and not scopes.has_scope(key)):
        return None
    host = _virtual_host(read, key, scoped=layout == "scoped")
    if host is None:
        return None
    if layout == "scoped":
        return Built(
            make_resource(SRDS, names.scope(key), to_bytes(scopes.exact_scope(key, host, listeners.filters())))
        )
    return Built(make_resource(VHDS, names.virtual_host(key), to_bytes(host)))


def _fallback_host(read: Read, key: HostKey) -> Built[bytes, Finding] | None:
    host = _virtual_host(read, key, scoped=False) if read.get(LAYOUTS, key.table) == "scoped" else None
    return Built(to_bytes(host)) if host is not None else None


def _fallback(read: Read, table: RouteTable) -> Built[Resource, Finding] | None:
    if read.get(LAYOUTS, table) != "scoped":
        return None
    hosts = sorted(read.lookup(FALLBACKS, table))
    return Built(make_resource(SRDS, names.scope(HostKey(table, "")), to_bytes(scopes.fallback_scope(table, hosts))))


def _virtual_host(read: Read, key: HostKey, *, scoped: bool) -> VirtualHost | None:
    plan = read.get(HOSTS, key)
    if plan is None:
        return None
    reached = host_reached(plan, read.get(CLIENT_CERTIFICATES, key.table.gateway))
    return routes.virtual_host(reached, scoped=scoped, read=read)
