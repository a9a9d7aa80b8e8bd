"""Strategic merge patches: how an overlay changes an object that we made.

As Kubernetes defines them for its own kinds (sig-api-machinery, strategic-merge-patch): maps are merged, null removes a
field, lists of named things are merged by their key and all other lists replaced, and directives say otherwise:
`$patch: delete`, `$patch: replace`, `$retainKeys`, `$deleteFromPrimitiveList/…`. `$setElementOrder/…` is read over,
as order means nothing to us. The invariant: neither argument is changed, and no directive is left in the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("containerPort", "port"),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists whose items are merged, by the name of the field, with the key that items have (containers' ports and a
Service's differ)."""

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"


def patched(original: Object, patch: Object) -> dict[str, Any]:
    """The object with the patch over it; ValueError for a directive that there is not."""
    match patch.get(_PATCH):
        case None | "merge":
            return _merged(original, patch)
        case "replace":
            return _merged({}, _without_directives(patch))
        case "delete":
            return {}
    raise ValueError(f"`$patch: {patch[_PATCH]}` is no directive; write merge, replace or delete")


def merge_key(field: str, items: Sequence[Any]) -> str:
    """The key by which items of a list are merged; empty when the list is replaced as a whole."""
    for key in _MERGE_KEYS.get(field, ()):
        if any(isinstance(each, Mapping) and key in each for each in items):
            return key
    return ""


def _merged(original: Object, patch: Object) -> dict[str, Any]:
    made = dict(original)
    retained = patch.get(_RETAIN)
    if retained is not None:
        made = {key: value for key, value in made.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            field = key.removeprefix(_DELETE_PRIMITIVES)
            made[field] = [each for each in made.get(field, ()) if each not in value]
    for key, value in _without_directives(patch).items():
        if value is None or (isinstance(value, Mapping) and value.get(_PATCH) == "delete"):
            made.pop(key, None)
        else:
            made[key] = _value(key, made.get(key), value)
    return made


def _value(field: str, original: Any, patch: Any) -> Any:
    if isinstance(patch, Mapping):
        return patched(original if isinstance(original, Mapping) else {}, patch)
    if isinstance(patch, list | tuple):
        return _list(field, original if isinstance(original, list | tuple) else (), patch)
    return patch


def _list(field: str, original: Sequence[Any], patch: Sequence[Any]) -> list[Any]:
    if any(isinstance(each, Mapping) and each.get(_PATCH) == "replace" for each in patch):
        kept = [_without_directives(each) if isinstance(each, Mapping) else each for each in patch]
        return [_value("", None, each) for each in kept if each != {}]
    key = merge_key(field, (*original, *patch))
    if not key:
        return [_value("", None, each) for each in patch]
    made = list(original)
    for item in patch:
        _merge_item(made, item, key)
    return made


def _merge_item(items: list[Any], item: Any, key: str) -> None:
    """Merges one item into a list of items with keys, in place."""
    place = next((at for at, each in enumerate(items) if _same(each, item, key)), None)
    if isinstance(item, Mapping) and item.get(_PATCH) == "delete":
        items[:] = [each for each in items if not _same(each, item, key)]
    elif place is None:
        items.append(_value("", None, item))
    else:
        items[place] = _value("", items[place], item)


def _same(one: Any, other: Any, key: str) -> bool:
    """Whether two items have the same key; ports of different protocols are different ports."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)) or one.get(key) != other.get(key):
        return False
    return key not in ("port", "containerPort") or one.get("protocol", "TCP") == other.get("protocol", "TCP")


def _without_directives(patch: Object) -> dict[str, Any]:
    return {key: value for key, value in patch.items() if not key.startswith("$")}
