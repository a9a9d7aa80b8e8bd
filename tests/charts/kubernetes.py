"""Verdicts of Kubernetes' own schemas on objects that we make."""

from __future__ import annotations

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

from tripylon.api.kinds import find
from tripylon.api.validate import validate

VERSION = "1.37"
_NOT_KUBERNETES = {"autoscaling.k8s.io/v1", "monitoring.coreos.com/v1"}
"""Groups of other projects, of which no schema is at hand."""


def faults(obj: dict[str, Any]) -> list[str]:
    """What is wrong with an object; unknown fields count."""
    if obj["apiVersion"] in _NOT_KUBERNETES:
        return []
    kind = find(obj["apiVersion"], obj["kind"])
    if kind is not None and kind.group.startswith("gateway."):
        return [problem.message for problem in validate(kind, obj)]
    try:
        kubernetes_validate.validate(obj, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{obj['kind']} {'.'.join(map(str, error.path))}: {error.message}"]
    return []
