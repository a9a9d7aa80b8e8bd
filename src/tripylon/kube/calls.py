"""What a request to an API server is called where requests are counted: a verb and a resource, as RBAC has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_OF_NAMESPACES = ("status", "finalize")
"""Subresources of namespaces themselves; other words there are kinds within a namespace."""


class OnCall(Protocol):
    """Hears of each request as its answer begins; each try is a request of its own."""

    def __call__(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """`verb` and `resource` as `describe` says; `code` is the HTTP status, 0 when there was no answer.

        `seconds` ends with the head of the answer, so that of a watch is how long it took to begin.
        """


def describe(method: str, path: str, params: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Verb and resource, such as `watch` and `httproutes`, `patch` and `gateways/status`.

    The resource is empty for paths of no kind, such as `/version` and the lists of kinds.
    """
    _, _, *words = path.split("/")
    kind = words[2:] if path.startswith("/apis/") else words[1:] if path.startswith("/api/") else []
    if kind[:1] == ["namespaces"] and len(kind) > 2 and kind[2] not in _OF_NAMESPACES:
        kind = kind[2:]
    plural, name, subresource = (*kind, "", "", "")[:3]
    resource = f"{plural}/{subresource}" if subresource else plural
    if method == "GET":
        verb = "watch" if "watch" in (params or {}) else "list" if plural and not name else "get"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    else:
        verb = _WRITES.get(method, method.lower())
    return verb, resource


def ignore(verb: str, resource: str, code: int, seconds: float) -> None:
    """Count nothing."""
