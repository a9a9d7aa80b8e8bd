"""Routes of one listener and hostname, in the order in which they are tried.

One host for each hostname under which some route is reachable, and one for each listener's own hostname, so that a
request never falls through to a wider listener (listener isolation). A host holds the routes of its own hostname and,
behind them, those of wider hostnames of the same listener: a request that the narrower ones do not match reaches them.
Where several HTTPS listeners share a port, a host also says whose connections may ask for it.
The invariant: the order is total and independent of the order in which routes came. Read `envoy/routes.py` next.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateways import LISTENERS
from tripylon.model.order import entry_order
from tripylon.model.plan import (
    Attachment,
    HolderKey,
    HolderListeners,
    HostKey,
    HostPlan,
    Listener,
    ListenerAuth,
    RouteEntry,
    RoutePlan,
)
from tripylon.model.route_plans import LISTENER_AUTH, ROUTE_PLANS
from tripylon.model.served import SHARED, host_key, owner
from tripylon.values import Built, Ref, hostname_matches, hostname_specificity, wider_hostnames

HOSTS: Table[HostKey, HostPlan] = Table("host plans")

_MANY = 16
"""A host with more routes keeps what each of them contributes, so that a change of one asks that one only."""

_Ordered = tuple[tuple[tuple[object, ...], RouteEntry], ...]
"""Entries, each with its place in the order of precedence."""


def _hosts_of_route(_: Ref, route: RoutePlan) -> Iterable[HostKey]:
    return (attachment.host for attachment in route.attachments)


def _hosts_of_listeners(key: HolderKey, holder: HolderListeners) -> Iterator[HostKey]:
    for listener in holder.listeners:
        if listener.usable and listener.http:
            yield HostKey(listener.table(key.gateway), listener.hostname)


ROUTES_BY_HOST: Index[HostKey, Ref, RoutePlan] = Index("routes by host", ROUTE_PLANS, _hosts_of_route)
LISTENER_HOSTS: Index[HostKey, HolderKey, HolderListeners] = Index("hosts of listeners", LISTENERS, _hosts_of_listeners)


def derives() -> tuple[Derive[HostKey, HostPlan], ...]:
    """The step from attached routes to hosts."""
    return (Derive(HOSTS, (LISTENER_HOSTS, ROUTES_BY_HOST), plan_host),)


def plan_host(read: Read, key: HostKey) -> Built[HostPlan, Finding] | None:
    """Everything that one hostname answers, in order."""
    listener = owner(read, key)
    if listener is None:
        return None
    routes: dict[Ref, RoutePlan] = {}
    for hostname in wider_hostnames(key.hostname):
        if not hostname_matches(listener.hostname, hostname):
            break
        place = key if hostname == key.hostname else host_key(key.table, hostname)
        routes.update([(route.ref, route) for route in read.lookup(ROUTES_BY_HOST, place)])
    keep = read.kept if len(routes) > _MANY else _made
    found = [each for route in routes.values() for each in keep(_entries, route, key, listener.id)]
    ordered = sorted(found, key=_order)
    rightful = listener.id if key.table.secure and read.get(SHARED, key.table) else ""
    return Built(HostPlan(key, tuple(entry for _, entry in ordered), _auth(read, key, listener), rightful))


def _auth(read: Read, key: HostKey, listener: Listener) -> ListenerAuth | None:
    """What the listener of a host asks before a route is chosen."""
    asking = (read.get(LISTENER_AUTH, key.table.gateway) or ()) if listener.filtered else ()
    return next((each for each in asking if each.listener == listener.id), None)


def _made(make: Callable[..., _Ordered], *given: object) -> _Ordered:
    """For hosts with so few routes that nothing needs to be kept of them."""
    return make(*given)


def _order(pair: tuple[tuple[object, ...], RouteEntry]) -> tuple[object, ...]:
    return pair[0]


def _entries(route: RoutePlan, key: HostKey, listener: str) -> _Ordered:
    """The entries that a route contributes to a host, by its most specific own hostname that covers the host.

    A rule for one hostname only (Ingress) is contributed where that one covers the host, and by that one.
    """
    covering = set(_covering(route, key, listener))
    if not covering:
        return ()
    narrowest = max(covering, key=hostname_specificity)
    found = []
    for rule in route.rules:
        own = narrowest if rule.hostname is None else rule.hostname
        if own not in covering:
            continue
        for position, match in enumerate(rule.matches):
            entry = RouteEntry(route.ref, route.grpc, rule, match)
            found.append((entry_order(own, route, entry, position), entry))
    return tuple(found)


def _covering(route: RoutePlan, key: HostKey, listener: str) -> Iterator[str]:
    """The own hostnames of a route that cover a host by a listener, looked up: an Ingress may have thousands."""
    for hostname in wider_hostnames(key.hostname):
        place = HostKey(key.table, hostname)
        at = bisect_left(route.attachments, place, key=_host)
        while at < len(route.attachments) and route.attachments[at].host == place:
            if route.attachments[at].listener == listener:
                yield route.attachments[at].own_hostname
            at += 1


def _host(attachment: Attachment) -> HostKey:
    return attachment.host
