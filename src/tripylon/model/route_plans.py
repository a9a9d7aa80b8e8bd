"""The tables of what leads to clusters, apart from the modules that make them, so that they can be indexed without a
cycle: clusters are planned for whoever needs them, who asks before which cluster a reference means."""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.graph import Index, Table
from tripylon.model.plan import ClusterKey, ListenerAuth, RoutePlan, TracingPlan
from tripylon.values import Name, Ref

ROUTE_PLANS: Table[Ref, RoutePlan] = Table("route plans")
LISTENER_AUTH: Table[Name, tuple[ListenerAuth, ...]] = Table("listener filters")
"""By gateway, only of those that have listeners with filters; see `listener_auth.py`."""
TRACING: Table[Name, TracingPlan] = Table("tracing of gateways")
"""By gateway, only of those that trace; see `telemetry.py`."""


def _clusters(_: Name, listeners: tuple[ListenerAuth, ...]) -> Iterator[ClusterKey]:
    return (service.cluster for listener in listeners for service in listener.services)


LISTENERS_BY_CLUSTER: Index[ClusterKey, Name, tuple[ListenerAuth, ...]] = Index(
    "listener filters by cluster", LISTENER_AUTH, _clusters
)
TRACED_BY_CLUSTER: Index[ClusterKey, Name, TracingPlan] = Index(
    "tracing by cluster", TRACING, lambda _, plan: (plan.cluster,)
)
