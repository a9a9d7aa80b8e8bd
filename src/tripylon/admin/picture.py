"""The picture: what a gateway serves, by which objects, and what is wrong; for `/picture` and `tripylon status`.

Every value is copied field by field out of the plan, never a whole object. The invariant: no key, certificate, header
value or content of a Secret or ConfigMap can come in here; of the World there are only kinds, names and generations.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from tripylon.admin.engine import Engine, is_ready, live_flight
from tripylon.admin.notices import Notice, notices
from tripylon.api.kinds import kind_of
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.envoy import names
from tripylon.graph import Graph
from tripylon.model.backends import CLUSTERS, ENDPOINTS
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import (
    ClusterKey,
    Destination,
    GatewayPlan,
    HostKey,
    HostPlan,
    Listener,
    Match,
    Redirect,
    RouteEntry,
)
from tripylon.model.plan import RoutePlan as PlannedRoute
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES, STREAMS, StreamPlan, StreamRoutePlan
from tripylon.model.tls import GATEWAY_TLS
from tripylon.values import Name, Ref, wider_hostnames
from tripylon.world import world


class ObjectView(msgspec.Struct, frozen=True, gc=False):
    """One object of the World."""

    name: str
    """`namespace/name`."""
    generation: int
    """0 when it came from a file."""


class RouteView(msgspec.Struct, frozen=True, gc=False):
    """One match of a host, in order of precedence."""

    match: str
    """Conditions, such as `GET /shop/*`; empty for connections and datagrams that are passed on as they are."""
    to: tuple[str, ...]
    """Where they go, with shares when there are several; or how they are answered, or `closed` or `dropped`."""
    route: str
    """The object that says so, with the rule's number: `HTTPRoute default/shop rule 0`."""


class HostView(msgspec.Struct, frozen=True, gc=False):
    """One hostname of a listener."""

    hostname: str
    """`*` for every host that no other entry names."""
    routes: tuple[RouteView, ...]


class ListenerView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One listener of a gateway."""

    name: str
    port: int
    protocol: str
    hostname: str
    """Empty: every host."""
    serving: bool
    """False: refused, or without a usable certificate; see the findings."""
    certificates: tuple[str, ...]
    """Names of the Secrets whose certificates it presents."""
    hosts: tuple[HostView, ...]


class GatewayView(msgspec.Struct, frozen=True, gc=False):
    """One gateway."""

    name: str
    accepted: bool
    addresses: tuple[str, ...]
    listeners: tuple[ListenerView, ...]


class AttachedView(msgspec.Struct, frozen=True, gc=False):
    """One route object and the listeners that it is attached to."""

    name: str
    """`HTTPRoute default/shop`."""
    listeners: tuple[str, ...]
    """`default/edge/http`."""
    rules: int


class BackendView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One destination."""

    name: str
    """`Service default/shop:8080`."""
    protocol: str
    tls: bool
    policy: str
    """The BackendTLSPolicy that says how it is verified, `namespace/name`; empty: none."""
    client: str
    """The Gateway that shows a certificate of its own to it, `namespace/name`; empty: none."""
    discovery: str
    """`endpoints` (told by us) or `dns` (looked up by the proxy)."""
    endpoints: tuple[str, ...]


class ProxyView(msgspec.Struct, frozen=True, gc=False):
    """One connected proxy."""

    node: str
    stream: int
    live: int
    """The last flight that it serves."""


class RefusalView(msgspec.Struct, frozen=True, gc=False):
    """One resource that a proxy refused; it serves on with what it had."""

    type: str
    name: str
    message: str


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a gateway tells about itself."""

    version: str
    ready: bool
    flight: int
    """Number of the last change that was published."""
    live: int
    """Number of the last change that every connected proxy serves; -1: no proxy is connected."""
    world: dict[str, tuple[ObjectView, ...]]
    """Objects by kind."""
    gateways: tuple[GatewayView, ...]
    routes: tuple[AttachedView, ...]
    backends: tuple[BackendView, ...]
    findings: tuple[Notice, ...]
    proxies: tuple[ProxyView, ...]
    refusals: tuple[RefusalView, ...]


def picture(engine: Engine) -> Picture:
    """The picture as it is now; every list in an order that depends on nothing but its content."""
    from importlib.metadata import version

    graph, group = engine.graph, engine.group
    return Picture(
        version=version("tripylon"),
        ready=is_ready(engine),
        flight=group.flight,
        live=live_flight(engine),
        world=_world(graph),
        gateways=gateways(graph),
        routes=tuple(_attached(route) for _, route in sorted(_planned(graph).items())),
        backends=tuple(_backend(graph, key) for key in sorted(graph.rows(CLUSTERS), key=names.cluster)),
        findings=notices(graph.all_findings(), engine.problems, engine.locate),
        proxies=tuple(ProxyView(each.node, each.number, each.settled) for each in group.sessions),
        refusals=tuple(
            RefusalView(url.rpartition("/")[2], name, refusal.message)
            for (url, name), refusal in sorted(group.refusals.items())
        ),
    )


def gateways(graph: Graph, *, max_hosts: int | None = None) -> tuple[GatewayView, ...]:
    """Every gateway of ours with its listeners, hosts and routes; with `max_hosts`, some that many hosts of all."""
    hosts: dict[tuple[Name, str], list[HostPlan]] = {}
    there = {
        HostKey(each.table(name), each.hostname): each
        for name, plan in graph.rows(GATEWAY_PLANS).items()
        for each in plan.listeners
        if each.usable and each.http
    }
    for key, host in islice(graph.rows(HOSTS).items(), max_hosts):
        covering = (there.get(HostKey(key.table, name)) for name in wider_hostnames(key.hostname))
        listener = next((each for each in covering if each is not None), None)
        if listener is not None:
            hosts.setdefault((key.table.gateway, listener.id), []).append(host)
    streams = _streams(graph, max_hosts)
    return tuple(
        GatewayView(
            str(name),
            plan.accepted,
            plan.addresses,
            tuple(
                _listener(graph, plan, each, _hosts(hosts.get((name, each.id), [])) + streams.get((name, each.id), ()))
                for each in plan.listeners
            ),
        )
        for name, plan in sorted(graph.rows(GATEWAY_PLANS).items())
    )


def _world(graph: Graph) -> dict[str, tuple[ObjectView, ...]]:
    found: dict[str, list[ObjectView]] = {}
    for resource in world.resources(graph):
        view = ObjectView(str(resource.key), resource.metadata.generation)
        found.setdefault(kind_of(resource).name, []).append(view)
    return {kind: tuple(sorted(views, key=lambda view: view.name)) for kind, views in sorted(found.items())}


def _hosts(hosts: list[HostPlan]) -> tuple[HostView, ...]:
    return tuple(
        HostView(host.key.hostname or "*", tuple(_route(entry) for entry in host.entries))
        for host in sorted(hosts, key=lambda host: host.key.hostname)
    )


def _streams(graph: Graph, max_hosts: int | None) -> dict[tuple[Name, str], tuple[HostView, ...]]:
    """What listeners pass on, by gateway and listener: a host for each server name, or the one for everything."""
    found: dict[tuple[Name, str], tuple[HostView, ...]] = {}
    for key, plan in sorted(islice(graph.rows(STREAMS).items(), max_hosts)):
        view = HostView(key.hostname or "*", (RouteView("", _shares(plan), str(plan.route)),))
        found[key.gateway, key.listener] = (*found.get((key.gateway, key.listener), ()), view)
    return found


def _shares(plan: StreamPlan) -> tuple[str, ...]:
    """Where connections or sessions go, with shares when there are several."""
    lost = "dropped" if plan.key.protocol == "UDP" else "closed"
    total = sum(share.weight for share in plan.shares)
    texts = [(cluster_text(share.cluster) if share.cluster else lost, share.weight) for share in plan.shares]
    return tuple(_share(text, weight, total) for text, weight in texts) or (lost,)


def _share(text: str, weight: int, total: int) -> str:
    return text if weight == total else f"{text} {round(100 * weight / total)}%"


def _listener(graph: Graph, plan: GatewayPlan, listener: Listener, hosts: tuple[HostView, ...]) -> ListenerView:
    tls = graph.get(GATEWAY_TLS, plan.name)
    certificates = {each.listener: each.certificates for each in tls.listeners} if tls else {}
    secured = not listener.terminates or listener.id in certificates
    return ListenerView(
        name=listener.id,
        port=listener.port,
        protocol=listener.protocol,
        hostname=listener.hostname,
        serving=plan.accepted and listener.usable and secured and not _unbound(graph, plan, listener),
        certificates=tuple(str(name) for name in certificates.get(listener.id, ())),
        hosts=hosts,
    )


def _unbound(graph: Graph, plan: GatewayPlan, listener: Listener) -> bool:
    """Whether Envoy could not take the listener's port."""
    for finding in graph.findings(listener.holder):
        if finding.reason == "PortUnavailable" and finding.listener == listener.name:
            return True
    for finding in graph.findings(Ref(GATEWAY_GROUP, "Gateway", *plan.name)):
        if finding.reason == "AddressNotUsable" and len(plan.addresses) == 1:
            return True
    return False


def _route(entry: RouteEntry) -> RouteView:
    return RouteView(match_text(entry.match), _targets(entry), f"{entry.route} rule {entry.rule.index}")


def match_text(match: Match) -> str:
    """The conditions in one line; values of headers and parameters are left out, as they may be tokens."""
    path = {"Exact": match.path or "/", "PathPrefix": f"{match.path}/*", "RegularExpression": f"~{match.path}"}
    parts = [match.method, path[match.path_kind]]
    parts += [f"header {header.name}" for header in match.headers]
    parts += [f"query {parameter.name}" for parameter in match.query]
    return " ".join(part for part in parts if part)


def _targets(entry: RouteEntry) -> tuple[str, ...]:
    rule = entry.rule
    if rule.broken:
        return ("500",)
    if rule.filters.redirect is not None:
        return (_redirect(rule.filters.redirect),)
    total = sum(destination.weight for destination in rule.destinations)
    if not total:
        return ("500",)
    return tuple(_destination(each, total) for each in rule.destinations if each.weight)


def _redirect(redirect: Redirect) -> str:
    changes = [
        redirect.scheme,
        redirect.hostname,
        str(redirect.port or ""),
        redirect.path.value if redirect.path else "",
    ]
    return " ".join(("redirect", str(redirect.status), *(change for change in changes if change)))


def _destination(destination: Destination, total: int) -> str:
    name = cluster_text(destination.cluster) if destination.cluster and not destination.broken else "500"
    return _share(name, destination.weight, total)


def cluster_text(key: ClusterKey) -> str:
    """`Service default/shop:8080`."""
    return f"{key.kind} {key.namespace}/{key.name}" + (f":{key.port}" if key.port else "")


def _planned(graph: Graph) -> dict[Ref, PlannedRoute | StreamRoutePlan]:
    http, streams = graph.rows(ROUTE_PLANS), graph.rows(STREAM_ROUTES)
    found: dict[Ref, PlannedRoute | StreamRoutePlan] = {}
    found.update(http)
    found.update(streams)
    return found


def _attached(route: PlannedRoute | StreamRoutePlan) -> AttachedView:
    rules = len(route.rules) if isinstance(route, PlannedRoute) else 1
    return AttachedView(str(route.ref), tuple(_parents(route)), rules)


def _parents(route: PlannedRoute | StreamRoutePlan) -> Iterator[str]:
    for parent in route.parents:
        for listener in parent.listeners:
            yield f"{parent.gateway}/{listener}"


def _backend(graph: Graph, key: ClusterKey) -> BackendView:
    cluster, endpoints = graph.get(CLUSTERS, key), graph.get(ENDPOINTS, key)
    return BackendView(
        name=cluster_text(key),
        protocol=key.protocol,
        tls=bool(cluster and cluster.tls),
        policy=str(cluster.tls.policy) if cluster and cluster.tls and cluster.tls.policy else "",
        client=str(key.gateway) if key.gateway is not None else "",
        discovery=cluster.discovery if cluster else "endpoints",
        endpoints=tuple(f"{each.address}:{each.port}" for each in endpoints.endpoints) if endpoints else (),
    )
