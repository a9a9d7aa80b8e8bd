"""What the messages of `PartiallyInvalid` say is dropped: no more than is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cases.harness import Case, run

BAD = {"path": {"type": "RegularExpression", "value": "("}}
EXTENSION = [{"type": "ExtensionRef", "extensionRef": {"group": "example.com", "kind": "Odd", "name": "x"}}]


def _beginnings(rule: dict[str, Any]) -> list[str]:
    spec = {"parentRefs": [{"name": "edge"}], "rules": [rule, {"backendRefs": []}]}
    route = {"kind": "HTTPRoute", "name": "web", "spec": spec}
    outcome = run(Case(Path("made.yaml"), "made", {}, (route,), {}))
    found = [each for each in outcome.findings if each.condition == "PartiallyInvalid"]
    return [each.message.partition("HTTPRoute default/web ")[0] for each in found]


def test_sessions_that_cannot_be_kept_drop_nothing() -> None:
    assert _beginnings({"sessionPersistence": {"cookie": {"path": "none"}}}) == [""]


def test_one_match_of_two_is_dropped_alone() -> None:
    assert _beginnings({"matches": [BAD, {}]}) == ["Dropped Match: "]


def test_a_rule_without_a_readable_match_is_dropped() -> None:
    assert _beginnings({"matches": [BAD, BAD]}) == ["Dropped Rule: "] * 2


def test_a_rule_with_a_filter_that_cannot_be_built_is_dropped() -> None:
    assert _beginnings({"filters": EXTENSION}) == ["Dropped Rule: "]


def test_a_backend_with_a_filter_that_cannot_be_built_is_dropped_alone() -> None:
    backends = [{"name": "v1", "port": 80, "filters": EXTENSION}, {"name": "v2", "port": 80}]
    assert _beginnings({"backendRefs": backends}) == ["Dropped Backend: "]
