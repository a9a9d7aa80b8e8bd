"""ListenerSet → the gateway that it adds listeners to, if that one lets it (Gateway API, ListenerSet).

The listeners themselves are the gateway's, see `holders.py`; here is only what concerns a set as a whole, which is
also what a route needs that names a set as its parent.
"""

from __future__ import annotations

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.namespaces import allows
from tripylon.model.plan import ListenerSetPlan
from tripylon.values import Built, Name
from tripylon.world.world import GATEWAYS, LISTENER_SETS

LISTENER_SET_PLANS: Table[Name, ListenerSetPlan] = Table("listenerset plans")
"""The ListenerSets whose parent is a gateway of ours."""


def derives() -> tuple[Derive[Name, ListenerSetPlan], ...]:
    """The step that judges each ListenerSet."""
    return (Derive(LISTENER_SET_PLANS, (LISTENER_SETS,), plan_listener_set),)


def plan_listener_set(read: Read, name: Name) -> Built[ListenerSetPlan, Finding] | None:
    """Which gateway a set belongs to, and whether it is let in; a parent that is not ours has no status."""
    set_ = read.get(LISTENER_SETS, name)
    if set_ is None or (set_.spec.parent_ref.group, set_.spec.parent_ref.kind) != (GATEWAY_GROUP, "Gateway"):
        return None
    parent = Name(set_.spec.parent_ref.namespace or name.namespace, set_.spec.parent_ref.name)
    gateway = read.get(GATEWAY_HEADS, parent)
    if gateway is None:
        if read.get(GATEWAYS, parent) is not None:
            return None
        missing = Finding(
            object=set_.ref,
            severity="warning",
            condition="Accepted",
            reason="ParentNotAccepted",
            message=f"ListenerSet `{name}` adds listeners to Gateway `{parent}`, which does not exist here",
            hint="Create the Gateway, or correct `spec.parentRef`",
            field="spec.parentRef",
        )
        return Built(None, (missing,))
    if allows(read, gateway.admits, parent.namespace, name.namespace):
        return Built(ListenerSetPlan(name, parent, admitted=True))
    not_allowed = Finding(
        object=set_.ref,
        condition="Accepted",
        reason="NotAllowed",
        message=f"ListenerSet `{name}` may not add listeners to Gateway `{parent}`",
        hint=f"Allow namespace `{name.namespace}` by `spec.allowedListeners` of the Gateway",
        field="spec.parentRef",
    )
    return Built(ListenerSetPlan(name, parent, admitted=False), (not_allowed,))
