"""Findings on one policy, of whatever kind."""

from __future__ import annotations

from tripylon.api.meta import Resource
from tripylon.findings import Finding, Severity


def about_policy(
    policy: Resource,
    reason: str,
    what: str,
    hint: str,
    field: str,
    *,
    condition: str = "Accepted",
    severity: Severity = "error",
    parent: int | None = None,
) -> Finding:
    """A finding on a policy; `what` follows its name in the sentence, `parent` is the place of the target concerned."""
    return Finding(
        object=policy.ref,
        severity=severity,
        condition=condition,
        reason=reason,
        message=f"{policy.ref.kind} `{policy.key}` {what}",
        hint=hint,
        field=field,
        parent=parent,
    )
