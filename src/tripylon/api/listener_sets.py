"""ListenerSet: listeners that others than a Gateway's owner add to it.

Which sets a Gateway lets in, and who wins when listeners clash, is worked out in `model/listener_sets.py` and
`model/conflicts.py`; here are only the words and the rules that a schema can state.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.gateway import DIFFERENT_LISTENERS, Listener, ListenerStatus
from tripylon.api.markers import Items, Part, Rule
from tripylon.api.meta import (
    GATEWAY_GROUP,
    Conditions,
    Group,
    KindName,
    NamespaceName,
    ObjectName,
    Resource,
    pending,
)


class ParentGatewayReference(Part, frozen=True, gc=False, kw_only=True):
    """The Gateway that listeners are added to."""

    group: Group = GATEWAY_GROUP
    """API group of the parent; default `gateway.networking.k8s.io`."""
    kind: KindName = "Gateway"
    """Kind of the parent; default `Gateway`."""
    name: ObjectName
    """Name of the parent."""
    namespace: NamespaceName = ""
    """Namespace of the parent; empty: that of the ListenerSet. The Gateway decides by `allowedListeners`."""


class ListenerEntry(Listener, frozen=True, gc=False, kw_only=True):
    """A listener as a Gateway has it; `Same` in `allowedRoutes` means the namespace of the ListenerSet."""

    RULES: ClassVar[tuple[Rule, ...]] = Listener.RULES[1:]


class ListenerSetSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is added, and to what."""

    parent_ref: ParentGatewayReference
    """The Gateway."""
    listeners: Annotated[
        tuple[ListenerEntry, ...], Items(min=1, max=64, kind="map", keys=("name",)), DIFFERENT_LISTENERS
    ]
    """The listeners, 1 to 64; names need to differ only within the set."""


class ListenerSetStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about the set."""

    conditions: Conditions = pending("Accepted", "Programmed")
    """State of the set: `Accepted`, `Programmed`."""
    listeners: Annotated[tuple[ListenerStatus, ...], Items(max=64, kind="map", keys=("name",))] = ()
    """State of each listener."""


class ListenerSet(Resource, frozen=True, gc=False, kw_only=True):
    """Listeners that are added to a Gateway from outside it."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: ListenerSetSpec
    """What is added, and to what."""
    status: ListenerSetStatus = ListenerSetStatus()
    """What the controller says about it."""
