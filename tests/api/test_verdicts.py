"""Valid or not: our verdict is the Gateway API's on thousands of objects, which reach every rule of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from tests.api.cases import broken_objects
from tests.api.objects import damaged, made
from tests.api.oracle import Oracle, google_holds

from tripylon.api.kinds import KINDS, Kind, find
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.validate import validate

GATEWAY_KINDS = [kind for kind in KINDS if kind.group == GATEWAY_GROUP]

# The schema's enum refuses such a value before the rule is asked.
UNREACHABLE = {"self.type in ['Exact','PathPrefix'] || self.type == 'RegularExpression'"}

SEED = 20261125
MADE = {"GatewayClass": 200, "Gateway": 4000, "HTTPRoute": 5000, "GRPCRoute": 2000, "ReferenceGrant": 300}
DAMAGED = {"GatewayClass": 200, "Gateway": 4000, "HTTPRoute": 6000, "GRPCRoute": 2000, "ReferenceGrant": 300}


def corpus(kind: Kind, definition: dict[str, Any], manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Objects of a kind: written by others, made from the schema, and damaged."""
    random = Random(f"{SEED} {kind.name}")
    written = [each for each in manifests if find(str(each.get("apiVersion")), str(each.get("kind"))) is kind]
    written += [obj for other, obj, _ in broken_objects() if other is kind]
    written += [obj for obj in too_many_matches() if obj["kind"] == kind.name]
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    good = [each for each in written if not validate(kind, each)]
    for _ in range(MADE[kind.name]):
        obj = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "x", "namespace": "y"}}
        obj["spec"] = made(root["properties"]["spec"], random, sense=random.choice((1.0, 0.97)))
        if "status" in root["properties"] and random.random() < 0.2:
            obj["status"] = made(root["properties"]["status"], random)
        if not validate(kind, obj):
            good.append(obj)
        yield obj
    yield from written
    for _ in range(DAMAGED[kind.name]):
        yield damaged(random.choice(good), root, random)


def too_many_matches() -> Iterator[dict[str, Any]]:
    """Routes at and above the limit of matches in all rules together."""
    for name in ("HTTPRoute", "GRPCRoute"):
        for last in (64, 65, 1):
            rules = [{"matches": [{"headers": [{"name": "a", "value": "b"}]}] * count} for count in (64, last, 0, 64)]
            for spec in ({"rules": rules[:2]}, {"rules": rules}):
                yield {"apiVersion": f"{GATEWAY_GROUP}/v1", "kind": name, "metadata": {"name": "x"}, "spec": spec}


@pytest.fixture(scope="module")
def objects(definitions: dict[str, dict[str, Any]], manifests: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {kind.name: list(corpus(kind, definitions[kind.name], manifests)) for kind in GATEWAY_KINDS}


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
    assert "\n".join(sorted(rules(root) - reached - UNREACHABLE)) == ""


def rules(node: dict[str, Any]) -> set[str]:
    """Every rule in a schema but those about a change."""
    found = {each["rule"] for each in node.get("x-kubernetes-validations", ()) if "oldSelf" not in each["rule"]}
    below = [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]
    return found.union(*(rules(each) for each in below if isinstance(each, dict)))
