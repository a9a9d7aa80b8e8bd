"""The corpus: objects of the Gateway API's kinds, written by others, made from the schema, and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from tests.api.cases import broken_objects
from tests.api.objects import damaged, made, single_changes

from tripylon.api.kinds import KINDS, Kind, find
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.validate import validate
from tripylon.api.x_backends import X_GROUP

GATEWAY_KINDS = [kind for kind in KINDS if kind.group in (GATEWAY_GROUP, X_GROUP)]

SEED = 20261125
MADE = {"Gateway": 2000, "ListenerSet": 1000, "HTTPRoute": 2500, "GRPCRoute": 1500, "BackendTLSPolicy": 600}
DAMAGED = {"Gateway": 2500, "ListenerSet": 1000, "HTTPRoute": 3500, "GRPCRoute": 1500, "BackendTLSPolicy": 600}
FEW = 400
"""Number of objects made, and of those damaged, of kinds that the tables do not name."""


def corpus(kind: Kind, definition: dict[str, Any], manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Objects of a kind: written by others, made from the schema, and damaged."""
    random = Random(f"{SEED} {kind.name}")
    written = [each for each in manifests if find(str(each.get("apiVersion")), str(each.get("kind"))) is kind]
    written += [obj for other, obj, _ in broken_objects() if other is kind]
    written += [obj for obj in too_many_matches() if obj["kind"] == kind.name]
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    good = [each for each in written if not validate(kind, each)]
    for _ in range(MADE.get(kind.name, FEW)):
        obj = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "x", "namespace": "y"}}
        obj["spec"] = made(root["properties"]["spec"], random, sense=random.choice((1.0, 1.0, 0.97)), depth=0)
        if "status" in root["properties"] and random.random() < 0.2:
            obj["status"] = made(root["properties"]["status"], random)
        if not validate(kind, obj):
            good.append(obj)
        yield obj
    yield from written
    yield from single_changes(good, root, random)
    for _ in range(DAMAGED.get(kind.name, FEW)):
        yield damaged(random.choice(good), root, random)


def too_many_matches() -> Iterator[dict[str, Any]]:
    """Routes at and above the limit of matches in all rules together."""
    for name in ("HTTPRoute", "GRPCRoute"):
        for last in (64, 65, 1):
            rules = [{"matches": [{"headers": [{"name": "a", "value": "b"}]}] * count} for count in (64, last, 0, 64)]
            for spec in ({"rules": rules[:2]}, {"rules": rules}):
                yield {"apiVersion": f"{GATEWAY_GROUP}/v1", "kind": name, "metadata": {"name": "x"}, "spec": spec}
