"""A Finding: one thing to tell a user about one object.

Build functions return findings beside their values; `status/` turns them into conditions, the command line prints them
with file and line. The invariant: every finding names the object it is about, says what is wrong and what to do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tripylon.values import Ref

Severity = Literal["error", "warning", "info"]


class Finding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing to tell a user about one object.

    `condition` and `reason` are the Gateway API's words where it has them, so that status needs no second table.
    """

    object: Ref
    """The object that the user would edit."""
    severity: Severity = "error"
    condition: str
    """Type of the condition that this turns bad, such as `Accepted` or `ResolvedRefs`."""
    reason: str
    """CamelCase reason of that condition, such as `BackendNotFound`."""
    message: str
    """What is wrong and where, in one sentence that names objects by `namespace/name`."""
    hint: str = ""
    """What to do about it; empty only when the message leaves no doubt."""
    field: str = ""
    """Path of the field within the object, such as `spec.rules[0].backendRefs[1].name`."""
    listener: str = ""
    """Name of the listener that a finding on a Gateway is about; empty: the Gateway as a whole."""
    parent: int | None = None
    """Index in `spec.parentRefs` that a finding on a route is about; None: the route under every parent."""
