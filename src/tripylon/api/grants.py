"""ReferenceGrant: permission to refer to objects of another namespace.

It lives in the namespace of what is referred to. `world/grants.py` answers whether a reference is allowed.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from tripylon.api.markers import Items, Part
from tripylon.api.meta import GATEWAY_GROUP, Group, KindName, NamespaceName, ObjectName, Resource


class ReferenceGrantFrom(Part, frozen=True, gc=False, kw_only=True):
    """Objects that may refer."""

    group: Group
    """API group of the referring objects; empty for the core group."""
    kind: KindName
    """Kind of the referring objects, such as `HTTPRoute`."""
    namespace: NamespaceName
    """Namespace of the referring objects."""


class ReferenceGrantTo(Part, frozen=True, gc=False, kw_only=True):
    """Objects that may be referred to."""

    group: Group
    """API group of the objects; empty for the core group."""
    kind: KindName
    """Kind of the objects, such as `Service`."""
    name: ObjectName = ""
    """Name of one object; empty: all of the kind in this namespace."""


class ReferenceGrantSpec(Part, frozen=True, gc=False, kw_only=True):
    """Who may refer to what: every entry of `from` to every entry of `to`."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Items(min=1, max=16)] = msgspec.field(name="from")
    """Who may refer, 1 to 16."""
    to: Annotated[tuple[ReferenceGrantTo, ...], Items(min=1, max=16)]
    """What may be referred to, 1 to 16."""


class ReferenceGrant(Resource, frozen=True, gc=False, kw_only=True):
    """Allows objects of other namespaces to refer to objects of this one."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: ReferenceGrantSpec
    """Who may refer to what."""
