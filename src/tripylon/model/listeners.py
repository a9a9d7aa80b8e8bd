"""Which listener of a port owns a hostname (Gateway API, listener isolation)."""

from __future__ import annotations

from tripylon.model.plan import GatewayPlan, Listener, RouteTable
from tripylon.values import hostname_matches, hostname_specificity


def owner(plan: GatewayPlan, table: RouteTable, hostname: str) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    return max(
        (
            listener
            for listener in plan.listeners
            if listener.usable and listener.table(plan.name) == table and hostname_matches(listener.hostname, hostname)
        ),
        key=lambda listener: hostname_specificity(listener.hostname),
        default=None,
    )
