"""Findings on one listener of a Gateway."""

from __future__ import annotations

from tripylon.api.gateway import Gateway, Listener
from tripylon.findings import Finding, Severity


def about_listener(
    gateway: Gateway,
    listener: Listener,
    condition: str,
    reason: str,
    what: str,
    *,
    hint: str = "",
    field: str = "",
    severity: Severity = "error",
) -> Finding:
    """A finding on one listener; `what` follows the listener's name in the sentence, `field` is below the listener."""
    place = next(i for i, each in enumerate(gateway.spec.listeners) if each.name == listener.name)
    return Finding(
        object=gateway.ref,
        severity=severity,
        condition=condition,
        reason=reason,
        message=f"Listener `{listener.name}` of Gateway `{gateway.key}` {what}",
        hint=hint,
        field=f"spec.listeners[{place}]" + (f".{field}" if field else ""),
        listener=listener.name,
    )
