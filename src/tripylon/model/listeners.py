"""Which listener of a port owns a hostname (Gateway API, listener isolation), and which have names in common."""

from __future__ import annotations

from collections.abc import Mapping

from tripylon.model.plan import GatewayPlan, Listener, RouteTable
from tripylon.values import hostname_matches, wider_hostnames


def owner(plan: GatewayPlan, table: RouteTable, hostname: str) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    if not table.listener:
        return _most_specific(plan, table.port, hostname, ("HTTP",))
    found = plan.ids.get(table.listener)
    if found is None or found.table(plan.name) != table or not hostname_matches(found.hostname, hostname):
        return None
    return found


def https_owner(plan: GatewayPlan, port: int, hostname: str) -> Listener | None:
    """The one HTTPS listener of a port that a hostname belongs to, and by whose connections it is to be asked for."""
    return _most_specific(plan, port, hostname, ("HTTPS",))


def tls_owner(plan: GatewayPlan, port: int, hostname: str) -> Listener | None:
    """The one listener of a port that takes connections for a server name, be it of protocol HTTPS or TLS."""
    return _most_specific(plan, port, hostname, ("HTTPS", "TLS"))


def https_listeners(plan: GatewayPlan) -> dict[int, list[Listener]]:
    """The HTTPS listeners that can be served, by port."""
    found: dict[int, list[Listener]] = {}
    for each in plan.ids.values():
        if each.protocol == "HTTPS":
            found.setdefault(each.port, []).append(each)
    return found


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
