"""What listeners say without effect here: each of it is told, and the rest serves.

The invariant: nothing whose loss would let somebody in stands here. A listener that asks for a check that is not there
is closed instead, in `gateways.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.api.meta import LabelSelector
from tripylon.findings import Finding
from tripylon.model.entries import Entry, about_listener

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def unread(listeners: tuple[Entry, ...]) -> Iterator[Finding]:
    """A warning for each part of a gateway's listeners that has no effect."""
    for entry in listeners:
        tls = entry.spec.tls
        if tls is not None and tls.options:
            options = ", ".join(f"`{key}`" for key in sorted(tls.options))
            yield _warning(entry, f"has TLS options that nobody here reads: {options}", "tls.options")
        yield from _selector(entry)


def _selector(entry: Entry) -> Iterator[Finding]:
    """A selector that is missing, that is not asked for, or that has a demand which nothing meets."""
    namespaces = entry.spec.allowed_routes.namespaces
    place = "allowedRoutes.namespaces"
    if namespaces.from_ != "Selector":
        if namespaces.selector is not None:
            what = f"has a selector for namespaces, which is not read, since `from` is {namespaces.from_}"
            yield _warning(entry, what, f"{place}.selector", hint="Set `from` to Selector, or remove it")
    elif namespaces.selector is None:
        what = "lets in routes of selected namespaces and has no selector; none are let in"
        yield _warning(entry, what, place, hint="Add `selector`; `{}` selects all namespaces")
    else:
        for index, operator in _unknown_operators(namespaces.selector):
            what = f"has a selector with the unknown operator `{operator}`, which no namespace satisfies"
            field = f"{place}.selector.matchExpressions[{index}].operator"
            yield _warning(entry, what, field, hint="Use " + ", ".join(_OPERATORS))


def _unknown_operators(selector: LabelSelector) -> Iterator[tuple[int, str]]:
    for index, demand in enumerate(selector.match_expressions):
        if demand.operator not in _OPERATORS:
            yield index, demand.operator


def _warning(entry: Entry, what: str, field: str, hint: str = "Remove them") -> Finding:
    return about_listener(entry, "Accepted", "UnsupportedValue", what, hint=hint, field=field, severity="warning")
