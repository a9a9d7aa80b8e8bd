"""References from one object to another, as the Gateway API writes them.

An empty `namespace` means the namespace of the object that refers. Whether a reference to another namespace is allowed
is the business of `world/grants.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Default, Number, Part, Rule
from tripylon.api.meta import GATEWAY_GROUP, Group, KindName, NamespaceName, ObjectName, Port, SectionName


class LocalObjectReference(Part, frozen=True, gc=False, kw_only=True):
    """An object of the same namespace."""

    group: Group
    """API group of the object; empty for the core group."""
    kind: KindName
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""


class ParametersReference(Part, frozen=True, gc=False, kw_only=True):
    """An object with further settings, cluster-scoped or of a namespace."""

    group: Group
    """API group of the object; empty for the core group."""
    kind: KindName
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""
    namespace: NamespaceName = ""
    """Namespace of the object; required when its kind has one, empty otherwise."""


class ObjectReference(Part, frozen=True, gc=False, kw_only=True):
    """Any object."""

    group: Group
    """API group of the object; empty for the core group."""
    kind: KindName
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""
    namespace: NamespaceName = ""
    """Namespace of the object; empty: that of the referring object. Another one needs a ReferenceGrant there."""


class SecretObjectReference(Part, frozen=True, gc=False, kw_only=True):
    """A Secret, unless another kind is named."""

    group: Annotated[Group, Default("")] = ""
    """API group of the object; default empty, the core group."""
    kind: KindName = "Secret"
    """Kind of the object; default `Secret`."""
    name: ObjectName
    """Name of the object."""
    namespace: NamespaceName = ""
    """Namespace of the object; empty: that of the referring object. Another one needs a ReferenceGrant there."""


class BackendObjectReference(Part, frozen=True, gc=False, kw_only=True):
    """A destination of requests: a Service, unless another kind is named."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.group != '' || self.kind != 'Service' || has(self.port)",
            message="must be set for a Service; add the port that requests go to",
            reason="FieldValueRequired",
            field_path=".port",
        ),
        Rule(
            cel="self.group != 'gateway.networking.x-k8s.io' || self.kind != 'XBackend' || !has(self.port)",
            message="must not be set for an XBackend, which states its port itself; remove it",
            field_path=".port",
        ),
    )

    group: Annotated[Group, Default("")] = ""
    """API group of the destination; default empty, the core group."""
    kind: KindName = "Service"
    """Kind of the destination; default `Service`."""
    name: ObjectName
    """Name of the destination."""
    namespace: NamespaceName = ""
    """Namespace of the destination; empty: that of the route. Another one needs a ReferenceGrant there."""
    port: Port | None = None
    """Port of the Service (not the pods' target port), 1 to 65535; required for a Service."""


class BackendRef(BackendObjectReference, frozen=True, gc=False, kw_only=True):
    """A destination with its share of the requests."""

    weight: Annotated[int, Number(min=0, max=1_000_000)] = 1
    """Share relative to the sum of all weights in the rule, 0 to 1,000,000; default 1; 0: no requests."""


class ParentReference(Part, frozen=True, gc=False, kw_only=True):
    """The Gateway, or the listener of it, that a route wants to be attached to."""

    group: Group = GATEWAY_GROUP
    """API group of the parent; default `gateway.networking.k8s.io`."""
    kind: KindName = "Gateway"
    """Kind of the parent; default `Gateway`."""
    name: ObjectName
    """Name of the parent."""
    namespace: NamespaceName = ""
    """Namespace of the parent; empty: that of the route."""
    section_name: SectionName = ""
    """Name of one listener; empty: all listeners that accept the route."""
    port: Port | None = None
    """Only listeners on this port, 1 to 65535; absent: any port."""
