"""What is wrong with an object, in words for its author: where, what, and what to do.

Schema errors come from the validator as data and leave here as sentences; a raw schema never reaches a user. Read
`validate.py` for where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import msgspec

Path = tuple[str | int, ...]
"""Place in an object: names of fields, keys of maps, indexes of lists."""


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One thing that is wrong with an object."""

    path: Path
    """Where: names of fields and indexes, from the object's root. For an unknown field, the field itself."""
    message: str
    """What is wrong, in one sentence that begins with the place."""
    hint: str = ""
    """What to do; empty when the message leaves no doubt."""


class SchemaError(Protocol):
    """An error of the schema validator: of it only this is used."""

    @property
    def kind(self) -> Any:
        """Keyword that failed (`name`) and its value (`value`)."""

    @property
    def instance(self) -> Any:
        """The value that failed."""

    @property
    def instance_path(self) -> Sequence[str | int]:
        """Where the value is."""

    @property
    def schema_path(self) -> Sequence[str | int]:
        """Where the keyword is."""


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST_QUOTE = 60
_SECRET = (("data",), ("stringData",))
"""Where a Secret holds what no message may repeat."""


def path_text(path: Iterable[str | int]) -> str:
    """A path as users read it, such as `spec.rules[0].name` or `metadata.labels["a.b/c"]`; empty for the root."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def problem_at(path: Path, predicate: str, hint: str = "", *, root: str = "the object") -> Problem:
    """The problem that the value at `path` does not fulfil `predicate`, such as "must begin with '/'"."""
    return Problem(path, f"{path_text(path) or root} {predicate}", hint)


def schema_problems(
    error: SchemaError, schema: Mapping[str, Any], words: Mapping[str, str], kind: str
) -> tuple[Problem, ...]:
    """The problems behind one error of the validator. `words` says what each pattern means."""
    path = tuple(error.instance_path)
    node = _node(schema, error.schema_path)
    name, limit, value = error.kind.name, error.kind.value, error.instance
    if name == "additionalProperties":
        return tuple(_unknown_field(path, field, node, kind) for field in limit)
    if name == "required":
        return (problem_at((*path, limit), "is missing", "add it"),)
    if name == "oneOf":
        hint = "write an address such as 192.0.2.1 or 2001:db8::1, or change `type`"
        return (problem_at((*path, "value"), "must be an IP address, because the type is IPAddress", hint),)
    predicate, hint = _of_value(name, limit, value, node, words)
    if kind == "Secret" and path[:1] in _SECRET:
        predicate, hint = predicate.partition(", not ")[0], hint.partition(":")[0]
    return (problem_at(path, predicate, hint),)


# --- Sentences -----------------------------------------------------------------------------------------------------

_TYPES = {
    "object": "a map of names and values",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
}
_SIZE_HINTS = {
    "maxItems": "leave some out, or divide them among several objects",
    "minItems": "add one",
}
_FORMATS = {
    "byte": "base64 (plain text belongs into `stringData` of a Secret, `data` of a ConfigMap)",
    "date-time": "a time such as 2026-01-31T12:00:00Z",
}


def _unknown_field(path: Path, name: str, node: Mapping[str, Any], kind: str) -> Problem:
    known = sorted(node.get("properties", ()))
    near = _nearest(name, known)
    place = path_text(path) or kind
    hint = f"did you mean `{near}`?" if near else f"fields there: {_listed(known, 'and')}" if known else "remove it"
    return Problem((*path, name), f"{place} has no field `{name}`", hint)


def _of_value(name: str, limit: Any, value: Any, node: Mapping[str, Any], words: Mapping[str, str]) -> tuple[str, str]:
    """What a value must be, and a hint."""
    hint = ""
    match name:
        case "type":
            wanted, got, hint = _type_of(node, words), _shape(value), _type_hint(node, value)
        case "enum":
            allowed = [str(each) for each in limit]
            near = _nearest(str(value), allowed)
            wanted, got, hint = _listed(allowed, "or"), _quoted(value), f"did you mean {near}?" if near else ""
        case "pattern":
            wanted, got = words.get(limit) or f"a text that the expression {limit} matches", _quoted(value)
        case "format":
            wanted, got = _FORMATS.get(limit, limit), _quoted(value)
        case "anyOf":
            wanted, got = "a number or a name", _shape(value)
        case "minimum" | "maximum":
            wanted, got = _range(node), str(value)
        case _:
            return _size(name, limit, value), _SIZE_HINTS.get(name, "")
    return f"must be {wanted}, not {got}", hint


def _range(node: Mapping[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is None or high is None:
        return f"at most {high}" if low is None else f"at least {low}"
    return f"between {low} and {high}"


def _size(name: str, limit: int, value: Any) -> str:
    if name == "minLength" and limit == 1:
        return "must not be empty"
    bound = "at least" if name.startswith("min") else "at most"
    unit = "characters" if name.endswith("Length") else "entry" if limit == 1 else "entries"
    return f"must have {bound} {limit} {unit}, not {len(value)}"


def _type_of(node: Mapping[str, Any], words: Mapping[str, str]) -> str:
    return words.get(node.get("pattern", ""), _TYPES[node["type"]])


def _type_hint(node: Mapping[str, Any], value: Any) -> str:
    match node["type"], value:
        case _, None:
            return "remove it or fill it in"
        case "string", bool() | int() | float():
            quoted = str(value).lower() if isinstance(value, bool) else str(value)
            return f'put it in quotes: "{quoted}"' if re.search(node.get("pattern", ""), quoted) else ""
        case "integer" | "boolean", str():
            return "remove the quotes" if value.lower() in ("true", "false") or value.lstrip("-").isdigit() else ""
        case "array", dict():
            return "begin each entry of the list with '-'"
        case "object", list():
            return "remove the '-' in front of the fields"
        case _:
            return ""


def _shape(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {_quoted(value)}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "a map"


def _quoted(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + '…'}'"


def _listed(names: Sequence[str], last: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _nearest(name: str, known: Sequence[str]) -> str:
    lowered = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), lowered, 1)
    return lowered[near[0]] if near else ""


def _node(schema: Mapping[str, Any], path: Sequence[str | int]) -> Mapping[str, Any]:
    """The schema node whose keyword failed."""
    node: Any = schema
    for part in path[:-1]:
        node = node[part]
    return node if isinstance(node, Mapping) else {}
