"""Which listener of a port owns a hostname (Gateway API, listener isolation), and which have names in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tripylon.model.plan import GatewayPlan, Listener, RouteTable
from tripylon.values import hostname_matches, hostname_specificity, wider_hostnames


def owner(plan: GatewayPlan, table: RouteTable, hostname: str) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    return _most_specific(
        (each for each in plan.listeners if each.usable and each.http and each.table(plan.name) == table), hostname
    )


def https_owner(plan: GatewayPlan, port: int, hostname: str) -> Listener | None:
    """The one HTTPS listener of a port that a hostname belongs to, and by whose connections it is to be asked for."""
    return _most_specific(https_listeners(plan, port), hostname)


def tls_owner(plan: GatewayPlan, port: int, hostname: str) -> Listener | None:
    """The one listener of a port that takes connections for a server name, be it of protocol HTTPS or TLS."""
    return _most_specific(
        (each for each in plan.listeners if each.usable and each.protocol in ("HTTPS", "TLS") and each.port == port),
        hostname,
    )


def https_listeners(plan: GatewayPlan, port: int) -> Iterator[Listener]:
    """The HTTPS listeners that share a port."""
    return (each for each in plan.listeners if each.usable and each.protocol == "HTTPS" and each.port == port)


def _most_specific(listeners: Iterable[Listener], hostname: str) -> Listener | None:
    return max(
        (listener for listener in listeners if hostname_matches(listener.hostname, hostname)),
        key=lambda listener: hostname_specificity(listener.hostname),
        default=None,
    )


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
