"""Which listener of a port owns a hostname (Gateway API, listener isolation), and which have names in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tripylon.model.plan import GatewayPlan, Listener, RouteTable
from tripylon.values import wider_hostnames


def owner(plan: GatewayPlan, table: RouteTable, hostname: str) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    return _most_specific(plan, table.port, hostname, ("HTTPS",) if table.secure else ("HTTP",))


def tls_owner(plan: GatewayPlan, port: int, hostname: str) -> Listener | None:
    """The one listener of a port that takes connections for a server name, be it of protocol HTTPS or TLS."""
    return _most_specific(plan, port, hostname, ("HTTPS", "TLS"))


def shared_by_https(listeners: Iterable[Listener]) -> frozenset[int]:
    """The ports that more than one of these listeners has for HTTPS."""
    counts = Counter(each.port for each in listeners if each.protocol == "HTTPS")
    return frozenset(port for port, count in counts.items() if count > 1)


def _most_specific(plan: GatewayPlan, port: int, hostname: str, protocols: tuple[str, ...]) -> Listener | None:
    """Asked for every host and route, so it looks names up and does not go through the listeners."""
    found = (plan.served.get((port, name)) for name in wider_hostnames(hostname))
    return next((each for each in found if each is not None and each.protocol in protocols), None)


def sharing_names(names: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """For each listener with these names the others of which some name covers or is one of its own."""
    owners: dict[str, list[str]] = {}
    for listener, own in names.items():
        for name in own:
            owners.setdefault(name, []).append(listener)
    sharing: dict[str, set[str]] = {listener: set() for listener in names}
    for name, narrow in owners.items():
        for wider in wider_hostnames(name):
            for one in owners.get(wider, ()):
                sharing[one].update(narrow)
                for other in narrow:
                    sharing[other].add(one)
    for listener, others in sharing.items():
        others.discard(listener)
    return sharing
