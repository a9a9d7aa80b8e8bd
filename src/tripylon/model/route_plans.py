"""The table of route plans, apart from `routes.py` so that what routes resolve can be indexed without a cycle."""

from __future__ import annotations

from tripylon.graph import Table
from tripylon.model.plan import RoutePlan
from tripylon.values import Ref

ROUTE_PLANS: Table[Ref, RoutePlan] = Table("route plans")
