"""From a status to the next one as a JSON patch (RFC 6902) that names nothing but what differs.

Entries of other controllers never occur in a patch, so they stay as they are stored, byte for byte, with fields that we
do not know; that is why a status is not replaced whole. Positions in a patch are those of the version that it is
locked to (`metadata.resourceVersion`). The invariant: what is not ours, and what does not differ, is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tripylon.api.gateway import GatewayClassStatus, GatewayStatus
from tripylon.api.meta import Condition
from tripylon.api.x_backends import XBackendStatus
from tripylon.status.desired import Status, status_values

Operation = dict[str, Any]
_Value = Any
_Key = Callable[[_Value], str]


def operations(previous: Status | None, wanted: Status) -> list[Operation]:
    """The patch; empty when nothing differs but the order of lists whose order says nothing."""
    new = status_values(wanted)
    if previous is None or _is_unwritten(previous):
        return [{"op": "add", "path": "/status", "value": new}]
    old = status_values(previous)
    if getattr(previous, "conditions", ()) == _initial_conditions(type(previous)):
        old.pop("conditions", None)  # perhaps they are not stored, but come from the schema
    return list(_object("/status", old, new))


def _is_unwritten(status: Status) -> bool:
    """Whether it is what the schema fills in where nothing is stored."""
    return isinstance(status, GatewayClassStatus | GatewayStatus | XBackendStatus) and status == type(status)()


def _initial_conditions(kind: type[Status]) -> tuple[Condition, ...]:
    """The conditions that the schema fills in; none for most kinds."""
    return kind().conditions if issubclass(kind, GatewayClassStatus | GatewayStatus) else ()


def _object(path: str, old: dict[str, _Value], new: dict[str, _Value]) -> Iterator[Operation]:
    for name, value in new.items():
        place = f"{path}/{_escaped(name)}"
        before = old.get(name)
        if name in old and before == value:
            continue
        if before and name in _KEYED and isinstance(value, list):
            yield from _list(place, before, value, name)
        else:
            yield {"op": "add", "path": place, "value": value}  # which replaces, where there is one
    for name in old:
        if name not in new:
            yield {"op": "remove", "path": f"{path}/{_escaped(name)}"}


def _list(path: str, old: list[_Value], new: list[_Value], name: str) -> Iterator[Operation]:
    """Changes at their places first, then removals from the end, then what is new at the end."""
    wanted = _numbered(new, _KEYED[name])
    places = {key: place for place, key in enumerate(_numbered(old, _KEYED[name]))}
    for key, place in places.items():
        if key in wanted and wanted[key] != old[place]:
            yield from _entry(f"{path}/{place}", old[place], wanted[key], name)
    for key, place in reversed(places.items()):
        if key not in wanted:
            yield {"op": "remove", "path": f"{path}/{place}"}
    for key, value in wanted.items():
        if key not in places:
            yield {"op": "add", "path": f"{path}/-", "value": value}


def _entry(path: str, old: _Value, new: _Value, name: str) -> Iterator[Operation]:
    if name in _NESTED:
        yield from _object(path, old, new)
    else:
        yield {"op": "replace", "path": path, "value": new}


def _numbered(entries: list[_Value], key: _Key) -> dict[tuple[str, int], _Value]:
    """Entries by key; those that share one are told apart by their order."""
    found: dict[tuple[str, int], _Value] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        name = key(entry)
        counts[name] = counts.get(name, 0) + 1
        found[name, counts[name]] = entry
    return found


def _of_parent(entry: _Value) -> str:
    return json.dumps([entry["controllerName"], entry.get("parentRef"), entry.get("ancestorRef")], sort_keys=True)


_KEYED: dict[str, _Key] = {
    "conditions": lambda entry: str(entry["type"]),
    "listeners": lambda entry: str(entry["name"]),
    "supportedFeatures": lambda entry: str(entry["name"]),
    "parents": _of_parent,
    "ancestors": _of_parent,
}
"""Lists whose entries are known by a part of them; other lists are replaced whole."""
_NESTED = frozenset({"listeners", "parents", "ancestors"})
"""Those whose entries hold lists that others write into, too."""


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
