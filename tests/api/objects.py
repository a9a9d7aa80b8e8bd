"""Makes objects: from a schema, mostly sensible, and by damaging others. Same seed, same objects."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Any

WORDS = (
    "a",
    "b",
    "",
    "/",
    "/foo",
    "/foo/bar",
    "/foo//bar",
    "/foo/../bar",
    "/foo/./bar",
    "/foo/..",
    "/foo/.",
    "/foo%2Fbar",
    "/foo%2fbar",
    "/foo#bar",
    "/foo[0]",
    "foo",
    "www.example.com",
    "*.example.com",
    "EXAMPLE.com",
    "example.com/controller",
    "k8s.io/x",
    "sub.k8s.io/x",
    "_x/y",
    "Cluster",
    "http",
    "https",
    "HTTP",
    "HTTPS",
    "TLS",
    "TCP",
    "UDP",
    "Service",
    "Secret",
    "ConfigMap",
    "Gateway",
    "XBackend",
    "gateway.networking.x-k8s.io",
    "gateway.networking.k8s.io",
    "ClusterTrustBundle",
    "certificates.k8s.io",
    "10s",
    "1m30s",
    "0s",
    "500ms",
    "1h",
    "1.5s",
    "X-Name",
    "some text",
    " text",
    "GET",
    "*",
    "https://example.com",
    "https://*.example.com:8443",
    "IPAddress",
    "Hostname",
    "NamedAddress",
    "10.0.0.1",
    "2001:db8::1",
    "300.1.1.1",
    "2026-01-31T12:00:00Z",
    "yesterday",
    "Accepted",
    "package.v1.Service",
    "package/Service",
    "Get",
    "Get-It",
    "example.com/key",
    "_bad/key",
    "spiffe://example.com/web",
    "System",
    "x.svc.cluster.local",
    "é",
    "line\nbreak",
    "9" * 64,
    "a" * 254,
)
NUMBERS = (-1, 0, 1, 2, 80, 100, 101, 200, 301, 302, 404, 443, 500, 600, 65535, 65536, 1_000_001, 2**31, 2**63, 1.5)
OTHER_TYPES: tuple[Any, ...] = ("text", 7, True, None, [], {}, ["a"], {"a": "b"}, 1.5)


@cache
def fitting_words(pattern: str, low: int, high: int) -> tuple[str, ...]:
    """Words that a text's bounds allow."""
    return tuple(each for each in WORDS if low <= len(each) <= high and re.search(pattern, each))


def made(schema: dict[str, Any], random: Random, *, sense: float = 0.97, depth: int = 3) -> Any:
    """A value of a schema; each part fits its own bounds with probability `sense`.

    At depth 0 most optional fields are set, further down fewer and fewer.
    """
    if "enum" in schema and random.random() < sense:
        return random.choice(schema["enum"])
    match schema.get("type"):
        case "string":
            return _text(schema, random, sense)
        case "integer":
            sensible = [
                each for each in NUMBERS if schema.get("minimum", 0) <= each <= schema.get("maximum", 2**31 - 1)
            ]
            return random.choice([each for each in sensible if each != 1.5] if random.random() < sense else NUMBERS)
        case "boolean":
            return random.random() < 0.5
        case "array":
            count = schema.get("minItems", 0) + random.choice((0, 1, 1, 2))
            return [made(schema["items"], random, sense=sense, depth=depth) for _ in range(count)]
        case _:
            return _map(schema, random, sense, depth)


def damaged(obj: dict[str, Any], schema: dict[str, Any], random: Random) -> dict[str, Any]:
    """A copy of an object with one to three changes somewhere in `spec` or `status`, most of them for the worse."""
    copied = copy.deepcopy(obj)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        sites = [
            site
            for part in ("spec", "status")
            if isinstance(copied.get(part), dict)
            for site in _sites(copied[part], schema["properties"].get(part, {}))
        ]
        if not sites:
            return copied
        container, key, node = random.choice(sites)
        random.choice(_CHANGES)(container, key, node, random)
    return copied


def single_changes(objects: list[dict[str, Any]], schema: dict[str, Any], random: Random) -> Iterator[dict[str, Any]]:
    """Copies with one field removed, added or repeated: each kind of change once for each place in the schema.

    Places differ by the names on the way and by the values of `type` and `protocol` there.
    """
    seen: set[tuple[Any, ...]] = set()
    for obj in objects:
        for path, place, node in _places(obj, schema):
            value = _at(obj, path)
            absent = [name for name in node.get("properties", {}) if isinstance(value, dict) and name not in value]
            for change in ("drop", "repeat", *absent):
                if (place, change) in seen or len(path) < 2:
                    continue
                seen.add((place, change))
                copied = copy.deepcopy(obj)
                container = _at(copied, path[:-1])
                if change == "drop":
                    del container[path[-1]]
                elif change in absent:
                    _at(copied, path)[change] = made(node["properties"][change], random, sense=1)
                elif isinstance(container, list):
                    container.append(copy.deepcopy(container[path[-1]]))
                yield copied


def _places(
    value: Any, schema: dict[str, Any], path: tuple[Any, ...] = (), place: tuple[str, ...] = ()
) -> Iterator[Any]:
    """Every place: path in the object, place in the schema, schema of what is there."""
    if isinstance(value, dict):
        place = (*place, str(value.get("type", value.get("protocol", ""))))
    yield path, place, schema
    for key, each in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        node = schema.get("properties", {}).get(key) if isinstance(value, dict) else schema.get("items")
        if isinstance(node, dict) and isinstance(each, dict | list):
            yield from _places(each, node, (*path, key), (*place, str(key) if isinstance(value, dict) else "[]"))
        elif isinstance(node, dict):
            yield (*path, key), (*place, str(key) if isinstance(value, dict) else "[]"), node


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _text(schema: dict[str, Any], random: Random, sense: float) -> str:
    if schema.get("format") == "date-time" and random.random() < sense:
        return "2026-01-31T12:00:00Z"
    words = fitting_words(schema.get("pattern", ""), schema.get("minLength", 0), schema.get("maxLength", 99999))
    return random.choice(words if words and random.random() < sense else WORDS)


def _map(schema: dict[str, Any], random: Random, sense: float, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if properties is None:
        values = schema.get("additionalProperties") or {"type": "string"}
        return {random.choice(WORDS): made(values, random, sense=sense) for _ in range(random.randint(0, 2))}
    chance = (0.8, 0.5, 0.4, 0.3)[min(depth, 3)]
    wanted = [name for name in properties if name in schema.get("required", ()) or random.random() < chance]
    obj = {name: made(properties[name], random, sense=sense, depth=depth + 1) for name in wanted}
    if random.random() < 0.9:
        _follow_type(obj, properties, random, sense)
    return obj


def _follow_type(obj: dict[str, Any], properties: dict[str, Any], random: Random, sense: float) -> None:
    """Sets the one field that the value of `type` or `protocol` names, and removes its siblings."""
    for discriminator in ("type", "protocol"):
        options = {str(each).lower() for each in properties.get(discriminator, {}).get("enum", ())}
        members = {name.lower(): name for name in properties if name.lower() in options}
        chosen = str(obj.get(discriminator, properties.get(discriminator, {}).get("default"))).lower()
        for option, name in members.items():
            if option != chosen:
                obj.pop(name, None)
            elif name not in obj:
                obj[name] = made(properties[name], random, sense=sense)


# --- Changes -------------------------------------------------------------------------------------------------------

Change = Callable[[Any, Any, dict[str, Any], Random], None]


def _sites(value: Any, schema: dict[str, Any]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Every place in a value: container, key or index, schema of what is there."""
    inner = schema.get("properties", {})
    for key, each in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        other = schema.get("additionalProperties") if isinstance(value, dict) else schema.get("items")
        node = inner.get(key) if isinstance(value, dict) and key in inner else other
        node = node if isinstance(node, dict) else {}
        yield value, key, node
        if isinstance(each, dict | list):
            yield from _sites(each, node)


def _drop(container: Any, key: Any, _node: dict[str, Any], _random: Random) -> None:
    del container[key]


def _rename(container: Any, key: Any, _node: dict[str, Any], random: Random) -> None:
    if isinstance(container, dict):
        container[random.choice((key + "s", key.upper(), key[:-1]))] = container.pop(key)


def _retype(container: Any, key: Any, _node: dict[str, Any], random: Random) -> None:
    container[key] = copy.deepcopy(random.choice(OTHER_TYPES))


def _replace(container: Any, key: Any, node: dict[str, Any], random: Random) -> None:
    container[key] = made(node, random) if node else random.choice(WORDS)


def _overflow(container: Any, key: Any, node: dict[str, Any], random: Random) -> None:
    value = container[key]
    if isinstance(value, str):
        container[key] = random.choice((*WORDS, "x" * 1025, "y" * 4097))
    elif isinstance(value, list) and value:
        container[key] = [copy.deepcopy(each) for each in value for _ in range(random.choice((2, 17, 65)))]
    elif isinstance(value, list | dict):
        container[key] = made(node, random) if node else value
    else:
        container[key] = random.choice(NUMBERS)


def _duplicate(container: Any, key: Any, node: dict[str, Any], random: Random) -> None:
    if isinstance(container, list):
        container.insert(random.randint(0, len(container)), copy.deepcopy(container[key]))
    else:
        _add(container, key, node, random)


def _add(container: Any, key: Any, node: dict[str, Any], random: Random) -> None:
    value = container[key]
    absent = [name for name in node.get("properties", {}) if isinstance(value, dict) and name not in value]
    if absent:
        name = random.choice(absent)
        value[name] = made(node["properties"][name], random)
    elif isinstance(value, list) and "items" in node:
        value.append(made(node["items"], random))


_CHANGES: tuple[Change, ...] = (_drop, _rename, _retype, _replace, _replace, _overflow, _duplicate, _add, _add, _add)
