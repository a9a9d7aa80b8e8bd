"""Which gateway's proxies need which cluster and certificate: the part of emission that exists only where each Gateway
has proxies of its own.

Listeners, route tables and hosts name their gateway in their key; clusters and certificates are shared, so here they
get a row for each gateway that uses them. The rows are the shared resources themselves: their bytes exist once. The
invariant: a gateway's proxies are sent what that gateway's routes and listeners use, and nothing of another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tripylon.envoy import emit, names
from tripylon.findings import Finding
from tripylon.graph import Changes, Derive, Graph, Index, Read, Table
from tripylon.model.backends import CLUSTERS
from tripylon.model.cluster_plans import BackendTls, ClusterPlan
from tripylon.model.plan import (
    ClusterKey,
    HolderKey,
    HolderTls,
    HostKey,
    ListenerAuth,
    RoutePlan,
    RouteTable,
    TracingPlan,
)
from tripylon.model.route_plans import LISTENER_AUTH, ROUTE_PLANS, TRACING
from tripylon.model.stream_plans import STREAMS, StreamKey, StreamPlan
from tripylon.model.tls import LISTENERS_TLS
from tripylon.values import Built, Name, Ref
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, SRDS, VHDS, Resource


class Placed(NamedTuple):
    """Something shared, as one gateway uses it."""

    gateway: Name
    key: Any
    """A ClusterKey, or the name of a Secret or of a BackendTLSPolicy."""


PLACED_CLUSTERS: Table[Placed, Resource] = Table("clusters of gateways")
PLACED_ENDPOINTS: Table[Placed, Resource] = Table("endpoints of gateways")
PLACED_SECRETS: Table[Placed, Resource] = Table("secrets of gateways")
PLACED_AUTHORITIES: Table[Placed, Resource] = Table("authorities of gateways")


def _clusters(_: Ref, route: RoutePlan) -> Iterator[Placed]:
    for gateway in {attachment.host.table.gateway for attachment in route.attachments}:
        for cluster in route.clusters:
            if cluster.gateway in (None, gateway):
                yield Placed(gateway, cluster)


def _secrets(holder: HolderKey, tls: HolderTls) -> Iterable[Placed]:
    return (Placed(holder.gateway, secret) for listener in tls.listeners for secret in listener.certificates)


def _stream_clusters(key: StreamKey, stream: StreamPlan) -> Iterator[Placed]:
    return (Placed(key.gateway, cluster) for cluster in stream.clusters)


def _asked(gateway: Name, listeners: tuple[ListenerAuth, ...]) -> Iterator[Placed]:
    return (Placed(gateway, service.cluster) for listener in listeners for service in listener.services)


TRACING_PLACES: Index[Placed, Name, TracingPlan] = Index(
    "clusters of tracing by gateway", TRACING, lambda gateway, plan: (Placed(gateway, plan.cluster),)
)
LISTENER_PLACES: Index[Placed, Name, tuple[ListenerAuth, ...]] = Index(
    "clusters of listeners by gateway", LISTENER_AUTH, _asked
)
STREAM_PLACES: Index[Placed, StreamKey, StreamPlan] = Index("clusters of streams by gateway", STREAMS, _stream_clusters)
CLUSTER_PLACES: Index[Placed, Ref, RoutePlan] = Index("clusters by gateway", ROUTE_PLANS, _clusters)
SECRET_PLACES: Index[Placed, HolderKey, HolderTls] = Index("secrets by gateway", LISTENERS_TLS, _secrets)
PLACED_TLS: Table[Placed, BackendTls] = Table("tls of clusters of gateways")
"""By gateway and cluster, only of those that need certificates which are told apart."""
CLIENT_PLACES: Index[Placed, Placed, BackendTls] = Index(
    "client certificates by gateway",
    PLACED_TLS,
    lambda place, tls: (Placed(place.gateway, tls.client),) if tls.client is not None else (),
)
AUTHORITY_PLACES: Index[Placed, Placed, BackendTls] = Index(
    "authorities by gateway",
    PLACED_TLS,
    lambda place, tls: (Placed(place.gateway, tls.authorities),) if tls.authorities is not None else (),
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    CLUSTER_PLACES,
    STREAM_PLACES,
    LISTENER_PLACES,
    TRACING_PLACES,
    SECRET_PLACES,
    CLIENT_PLACES,
    AUTHORITY_PLACES,
)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps of placement; they come after those of emission."""
    used = (CLUSTER_PLACES, STREAM_PLACES, LISTENER_PLACES, TRACING_PLACES)
    return (
        Derive(
            PLACED_CLUSTERS,
            used,
            lambda read, at: _same(read, emit.CLUSTER_RESOURCES, at),
        ),
        Derive(
            PLACED_ENDPOINTS,
            used,
            lambda read, at: _same(read, emit.ENDPOINT_RESOURCES, at),
        ),
        Derive(PLACED_TLS, used, _tls),
        Derive(PLACED_SECRETS, (SECRET_PLACES, CLIENT_PLACES), lambda read, at: _same(read, emit.SECRET_RESOURCES, at)),
        Derive(PLACED_AUTHORITIES, (AUTHORITY_PLACES,), lambda read, at: _same(read, emit.AUTHORITY_RESOURCES, at)),
    )


def _tls(read: Read, place: Placed) -> Built[BackendTls, Finding] | None:
    plan: ClusterPlan | None = read.get(CLUSTERS, place.key)
    tls = plan.tls if plan is not None else None
    return Built(tls) if tls is not None and (tls.client or tls.authorities) else None


def _same(read: Read, table: Table[Any, Resource], place: Placed) -> Built[Resource, Finding] | None:
    resource = read.get(table, place.key)
    return Built(resource) if resource is not None else None


Named = dict[str, dict[str, Resource | None]]
"""Changed resources by type URL and name; None: the resource went."""


def changed(graph: Graph, changes: Changes) -> dict[Name, Named]:
    """What a flush changed for each gateway's proxies."""
    found: dict[Name, Named] = {}

    def note(gateway: Name, url: str, name: str, resource: Resource | None) -> None:
        found.setdefault(gateway, {}).setdefault(url, {})[name] = resource

    for url, table in ((CDS, PLACED_CLUSTERS), (EDS, PLACED_ENDPOINTS)):
        for place in changes.keys(table):
            key: ClusterKey = place.key
            note(place.gateway, url, names.cluster(key), graph.get(table, place))
    for table, name in ((PLACED_SECRETS, names.secret), (PLACED_AUTHORITIES, names.authorities)):
        for place in changes.keys(table):
            note(place.gateway, SDS, name(place.key), graph.get(table, place))
    for clients in changes.keys(emit.CLIENT_AUTHORITY_RESOURCES):
        resource = graph.get(emit.CLIENT_AUTHORITY_RESOURCES, clients)
        note(clients.gateway, SDS, names.client_authorities(clients), resource)
    for listener in changes.keys(emit.LISTENER_RESOURCES):
        note(listener.gateway, LDS, names.listener(*listener), graph.get(emit.LISTENER_RESOURCES, listener))
    for url, sessions in ((CDS, emit.SESSION_RESOURCES), (EDS, emit.SESSION_ENDPOINT_RESOURCES)):
        for stream in changes.keys(sessions):
            note(stream.gateway, url, names.stream(stream), graph.get(sessions, stream))
    for emitted in emit.TABLES:
        if emitted.url in (RDS, VHDS, SRDS):
            for row, named, resource in emit.outcomes(graph, changes, emitted):
                note(_table(row).gateway, emitted.url, named, resource)
    return found


def _table(row: HostKey | RouteTable) -> RouteTable:
    return row.table if isinstance(row, HostKey) else row
