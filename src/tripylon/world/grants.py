"""May object A in namespace x refer to object B in namespace y? (Gateway API, ReferenceGrant)

A grant lives beside the target. It is asked for before anybody looks whether the target exists, so that a refusal never
tells whether it does.
"""

from __future__ import annotations

from tripylon.graph import Read
from tripylon.values import Ref
from tripylon.world.world import GRANTS_BY_NAMESPACE


def may_refer(read: Read, source: Ref, target: Ref) -> bool:
    """Whether `source` may name `target`: always within a namespace, else only by a grant in the target's."""
    if source.namespace == target.namespace:
        return True
    return any(
        any(
            origin.group == source.group and origin.kind == source.kind and origin.namespace == source.namespace
            for origin in grant.spec.from_
        )
        and any(
            to.group == target.group and to.kind == target.kind and (not to.name or to.name == target.name)
            for to in grant.spec.to
        )
        for grant in read.lookup(GRANTS_BY_NAMESPACE, target.namespace)
    )
