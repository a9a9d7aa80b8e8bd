"""An object that is referred to and not known: is there none, or may we not know?

Only Secrets are read one by one, where an installation may not read all of them; so only of them we may not know. The
invariant: of a Secret that may not be read nothing is said that depends on whether it exists.
"""

from __future__ import annotations

from typing import NamedTuple

from tripylon.graph import Read
from tripylon.values import Ref
from tripylon.world.world import WITHHELD_SECRETS


class Absence(NamedTuple):
    """Why an object is not known."""

    what: str
    """What follows the object's name in a sentence."""
    hint: str
    """What to do."""


def absence_of(read: Read, target: Ref, hint: str) -> Absence:
    """What to say of a Secret or a ConfigMap that is not known; `hint` is what to do if there is none."""
    remedy = read.get(WITHHELD_SECRETS, target.key) if target.kind == "Secret" else None
    if remedy is None:
        return Absence("does not exist", hint)
    grant = f"{remedy[0].upper()}{remedy[1:]}, to the controller's ServiceAccount by a Role"
    return Absence("may not be read by the controller", grant)
