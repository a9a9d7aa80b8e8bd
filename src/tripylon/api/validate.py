"""Offline verdicts: is this object what an API server would accept? And if not, why?

As an API server does it: nulls are dropped, defaults filled in, then the schema is checked (closed: unknown fields are
errors), then list keys and rules. One checker per kind is made on first use, from the kind's structs alone. Rules that
compare with the object's previous version (`oldSelf`) hold no meaning for files and are left out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec

from tripylon.api.cel import Rule, compile_rule
from tripylon.api.kinds import Kind, drop_nulls
from tripylon.api.markers import Part, Text
from tripylon.api.meta import ObjectMeta, Resource
from tripylon.api.problems import Path, Problem, path_text, problem_at, schema_problems
from tripylon.api.schema import Schema, closed_schema, marks, nested, schema

__all__ = ["Path", "Problem", "path_text", "validate"]

Fill = Callable[[Any], None]
"""Fills defaults into a value, in place."""
Check = Callable[[Any, Path, list[Problem]], None]
"""Appends what is wrong with a value that the schema accepts, at a path."""


class Checker(msgspec.Struct, frozen=True, gc=False):
    """All that is checked about one kind."""

    name: str
    fill: Fill
    closed: Schema
    validator: jsonschema_rs.Draft202012Validator
    words: Mapping[str, str]
    check: Check


def validate(kind: Kind, obj: dict[str, Any]) -> tuple[Problem, ...]:
    """Everything that is wrong with an object read from YAML or JSON; empty when an API server would accept it.

    The object is not changed. Rules are only judged when the schema finds nothing but unknown fields.
    """
    checker = checker_of(kind.struct)
    try:
        text = msgspec.json.encode(obj)
    except (TypeError, ValueError, OverflowError, RecursionError) as failure:
        return (problem_at((), f"cannot be read as {kind.name}: {failure}"),)
    value = msgspec.json.decode(text)
    if b"null" in text:
        value = drop_nulls(value)
    checker.fill(value)
    problems: list[Problem] = []
    if not checker.validator.is_valid(value):
        errors = list(checker.validator.iter_errors(value))
        for error in errors:
            problems += schema_problems(error, checker.closed, checker.words, checker.name)
        if any(error.kind.name != "additionalProperties" for error in errors):
            return tuple(problems)
    checker.check(value, (), problems)
    return tuple(problems)


@cache
def checker_of(struct: type[Resource]) -> Checker:
    """The checker of a kind."""
    definition = schema(struct)
    closed = closed_schema(struct)
    return Checker(
        name=struct.__name__,
        fill=_fill(definition) or _nothing_to_fill,
        closed=closed,
        validator=jsonschema_rs.Draft202012Validator(
            closed, validate_formats=True, formats={"byte": _is_base64}, pattern_options=jsonschema_rs.RegexOptions()
        ),
        words=_pattern_words(struct) | _pattern_words(ObjectMeta),
        check=_check(definition) or _nothing_to_check,
    )


# --- Formats and patterns ------------------------------------------------------------------------------------------


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _pattern_words(struct: type[Part]) -> dict[str, str]:
    return {
        mark.pattern: mark.words
        for each in nested(struct)
        for mark in marks(each)
        if isinstance(mark, Text) and mark.words
    }


# --- Defaults ------------------------------------------------------------------------------------------------------


def _nothing_to_fill(value: Any) -> None:
    """No field of the kind has a default."""


def _fill(node: Schema) -> Fill | None:
    """What fills defaults into a value of this schema; None when there are none below."""
    if "properties" in node:
        return _fill_object(node["properties"])
    below = node.get("items") or node.get("additionalProperties")
    inner = _fill(below) if isinstance(below, dict) else None
    if inner is None:
        return None

    def fill(value: Any) -> None:
        if isinstance(value, list):
            for each in value:
                inner(each)
        elif isinstance(value, dict):
            for each in value.values():
                inner(each)

    return fill


def _fill_object(properties: Mapping[str, Schema]) -> Fill | None:
    steps = [
        (name, msgspec.json.encode(each["default"]) if "default" in each else None, _fill(each))
        for name, each in properties.items()
    ]
    steps = [step for step in steps if step[1] is not None or step[2] is not None]
    if not steps:
        return None

    def fill(value: Any) -> None:
        if not isinstance(value, dict):
            return
        for name, default, inner in steps:
            if name not in value:
                if default is not None:
                    value[name] = msgspec.json.decode(default)
            elif inner is not None:
                inner(value[name])

    return fill


# --- List keys and rules -------------------------------------------------------------------------------------------


def _nothing_to_check(value: Any, path: Path, problems: list[Problem]) -> None:
    """The kind has neither list keys nor rules."""


def _check(node: Schema) -> Check | None:
    """What checks list keys and rules of a value of this schema; None when there are none below."""
    steps = [*_own_checks(node), *_inner_checks(node)]
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]

    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        for step in steps:
            step(value, path, problems)

    return check


def _own_checks(node: Schema) -> Iterable[Check]:
    match node.get("x-kubernetes-list-type"):
        case "set":
            yield _no_value_twice
        case "map":
            yield _no_key_twice(node["x-kubernetes-list-map-keys"])
        case _:
            pass
    rules = [rule for rule in node.get("x-kubernetes-validations", ()) if "oldSelf" not in rule["rule"]]
    if rules:
        yield _rules_hold(rules)


def _inner_checks(node: Schema) -> Iterable[Check]:
    inner = [(name, check) for name, each in node.get("properties", {}).items() if (check := _check(each))]
    if inner:
        yield _fields_hold(inner)
    below = node.get("items") or node.get("additionalProperties")
    each_check = _check(below) if isinstance(below, dict) else None
    if each_check:
        yield _each_holds(each_check)


@cache
def _compiled(expression: str) -> Rule:
    """A rule's function; many kinds share their rules."""
    return compile_rule(expression)


def _rules_hold(rules: Sequence[Mapping[str, str]]) -> Check:
    every_rule_holds = _compiled(" && ".join(f"({rule['rule']})" for rule in rules))
    single = [
        (rule["rule"], tuple(rule.get("fieldPath", "").split(".")[1:]), *rule["message"].partition("; ")[::2])
        for rule in rules
    ]

    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        if every_rule_holds(value, None):
            return
        for expression, below, predicate, hint in single:
            if not _compiled(expression)(value, None):
                problems.append(problem_at((*path, *below), predicate, hint))

    return check


def _fields_hold(inner: Iterable[tuple[str, Check]]) -> Check:
    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        for name, field_holds in inner:
            if name in value:
                field_holds(value[name], (*path, name), problems)

    return check


def _each_holds(item_holds: Check) -> Check:
    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            item_holds(each, (*path, key), problems)

    return check


def _no_value_twice(value: Any, path: Path, problems: list[Problem]) -> None:
    if len(set(value)) < len(value):
        for index, each in enumerate(value):
            if each in value[:index]:
                problems.append(problem_at((*path, index), f"repeats '{each}'", "remove one"))


def _no_key_twice(keys: Iterable[str]) -> Check:
    names = tuple(keys)

    def check(value: Any, path: Path, problems: list[Problem]) -> None:
        seen = set()
        for index, item in enumerate(value):
            key = tuple(item.get(name) for name in names)
            if key in seen:
                said = " and ".join(f"`{name}: {each}`" for name, each in zip(names, key, strict=True))
                problems.append(
                    problem_at((*path, index), f"repeats {said} of an earlier entry", "change or remove one")
                )
            seen.add(key)

    return check
