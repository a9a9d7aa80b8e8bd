"""Valid or not: our verdict is the Gateway API's on thousands of objects, which reach every rule of it."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest
from tests.api.corpus import GATEWAY_KINDS
from tests.api.oracle import Oracle, google_holds

from tripylon.api.cel import Rule, compile_rule
from tripylon.api.kinds import Kind
from tripylon.api.schema import schema
from tripylon.api.validate import validate

UNREACHABLE = (
    "self.type in ['Exact','PathPrefix'] || self.type == 'RegularExpression'",
    "self.all(h, !h.contains('*') ",
    "self.all(h, h.contains('*') ",
)
"""Beginnings of rules: the schema's enum or pattern refuses such a value before they are asked."""


def test_the_corpus_is_large_and_mixed(objects: dict[str, list[dict[str, Any]]]) -> None:
    different = {json.dumps(each, sort_keys=True) for every in objects.values() for each in every}
    assert len(different) >= 5000
    valid = Counter(not validate(kind, each) for kind in GATEWAY_KINDS for each in objects[kind.name])
    assert min(valid.values()) >= 1500


@pytest.mark.parametrize("kind", GATEWAY_KINDS, ids=lambda kind: kind.name)
def test_same_verdict_as_the_gateway_api(
    kind: Kind, definitions: dict[str, dict[str, Any]], objects: dict[str, list[dict[str, Any]]]
) -> None:
    root = definitions[kind.name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    theirs = Oracle(root, google_holds)
    disagreements = []
    reached: set[str] = set()
    for obj in objects[kind.name]:
        problems, faults = validate(kind, obj), theirs.faults(obj)
        reached.update(faults)
        if bool(problems) != bool(faults):
            disagreements.append((problems, faults, obj))
    assert disagreements[:3] == []
    assert [rule for rule in sorted(rules(root) - reached) if not rule.startswith(UNREACHABLE)] == []


@pytest.mark.parametrize("kind", GATEWAY_KINDS, ids=lambda kind: kind.name)
def test_every_rule_of_ours_decides_a_verdict(kind: Kind, objects: dict[str, list[dict[str, Any]]]) -> None:
    """Without any one of our rules some verdict above would differ: each is the only fault of some object."""
    ours = Oracle(schema(kind.struct), lambda rule, value: our_rule(rule)(value, None))
    deciding: set[str] = set()
    for obj in objects[kind.name]:
        faults = set(ours.faults(obj))
        if len(faults) == 1:
            deciding |= faults
    assert "\n".join(sorted(rules(schema(kind.struct)) - deciding)) == ""


@cache
def our_rule(rule: str) -> Rule:
    return compile_rule(rule)


def rules(node: dict[str, Any]) -> set[str]:
    """Every rule in a schema but those about a change."""
    found = {each["rule"] for each in node.get("x-kubernetes-validations", ()) if "oldSelf" not in each["rule"]}
    below = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
    return found.union(*(rules(each) for each in below if isinstance(each, dict)))
