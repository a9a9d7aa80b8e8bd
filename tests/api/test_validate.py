"""What authors are told: the words for each broken rule, and for the mistakes that everybody makes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.api.cases import broken_objects
from tests.api.oracle import Oracle

from tripylon.api.cel import compile_rule
from tripylon.api.kinds import KINDS, Kind, find
from tripylon.api.markers import Rule
from tripylon.api.problems import Problem, path_text
from tripylon.api.schema import marks, nested, schema
from tripylon.api.validate import validate

BROKEN = broken_objects()

ROUTE: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "shop", "namespace": "default", "labels": {"app": "shop"}},
    "spec": {
        "parentRefs": [{"name": "edge"}],
        "hostnames": ["www.example.com"],
        "rules": [{"backendRefs": [{"name": "shop", "port": 8080}]}],
    },
}


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def said(problems: tuple[Problem, ...]) -> list[str]:
    return [f"{each.message}; {each.hint}" if each.hint else each.message for each in problems]


def with_spec(**changes: Any) -> dict[str, Any]:
    return {**ROUTE, "spec": {**ROUTE["spec"], **changes}}


@pytest.mark.parametrize(("kind", "obj", "says"), BROKEN, ids=lambda each: each.name if isinstance(each, Kind) else "")
def test_what_is_said(kind: Kind, obj: dict[str, Any], says: list[str]) -> None:
    assert said(validate(kind, obj)) == says


def test_every_rule_refuses_something() -> None:
    many = with_spec(rules=[{"matches": [{"path": {"value": f"/{i}"}} for i in range(50)]}] * 3)
    assert said(validate(kind_named("HTTPRoute"), many)) == [
        "spec.rules must not have more than 128 matches in all its rules together; split the route"
    ]
    refused = set(oracle(kind_named("HTTPRoute")).faults(many))
    for kind, obj, _ in BROKEN:
        refused.update(oracle(kind).faults(obj))
    every = {rule.cel: rule for kind in KINDS for struct in nested(kind.struct) for rule in rules_of(struct)}
    [change] = [rule for rule in every.values() if "oldSelf" in rule.cel]
    assert not compile_rule(change.cel)("a.example.com/x", "b.example.com/x")
    assert [rule.message for cel, rule in every.items() if cel not in refused and rule != change] == []


def rules_of(struct: Any) -> list[Rule]:
    return [*struct.RULES, *(mark for mark in marks(struct) if isinstance(mark, Rule))]


def oracle(kind: Kind) -> Oracle:
    return Oracle(schema(kind.struct), lambda rule, value: compile_rule(rule)(value, None))


def test_a_good_object_has_no_problems_and_stays_as_it_is() -> None:
    before = copy.deepcopy(ROUTE)
    assert validate(kind_named("HTTPRoute"), ROUTE) == ()
    assert before == ROUTE


def test_other_versions_are_checked_alike() -> None:
    kind = find("gateway.networking.k8s.io/v1beta1", "HTTPRoute")
    assert kind is kind_named("HTTPRoute")
    assert validate(kind, {**ROUTE, "apiVersion": "gateway.networking.k8s.io/v1beta1"}) == ()


def test_nulls_count_as_absent() -> None:
    assert validate(kind_named("HTTPRoute"), with_spec(hostnames=None, rules=None, nonsense=None)) == ()
    assert validate(kind_named("HTTPRoute"), with_spec(rules=[None])) == (
        Problem(
            ("spec", "rules", 0),
            "spec.rules[0] must be a map of names and values, not empty",
            "remove it or fill it in",
        ),
    )


def test_where_an_unknown_field_is() -> None:
    [problem] = validate(kind_named("HTTPRoute"), with_spec(rules=[{"backendref": []}]))
    assert problem == Problem(
        ("spec", "rules", 0, "backendref"),
        "spec.rules[0] has no field `backendref`",
        "did you mean `backendRefs`?",
    )


def test_rules_are_judged_beside_unknown_fields() -> None:
    problems = validate(kind_named("HTTPRoute"), with_spec(rules=[{"x": 1, "matches": [{"path": {"value": "a"}}]}]))
    assert [path_text(each.path) for each in problems] == ["spec.rules[0].x", "spec.rules[0].matches[0].path.value"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "metadata.name is missing; add it"),
        ({"name": "A b"}, "metadata.name must be lower-case letters, digits, '-' and '.', beginning and ending with a "
                          "letter or digit, not 'A b'"),
        ({"name": "a", "nmaespace": "b"}, "metadata has no field `nmaespace`; did you mean `namespace`?"),
        ({"name": "a", "labels": {"x/y": True}}, 'metadata.labels["x/y"] must be a text, not true; put it in quotes: '
                                                 '"true"'),
        ({"name": "a", "finalizers": ["x"], "ownerReferences": [{}], "creationTimestamp": None}, None),
    ],
)  # fmt: skip
def test_metadata(metadata: dict[str, Any], message: str | None) -> None:
    assert said(validate(kind_named("HTTPRoute"), {**ROUTE, "metadata": metadata})) == ([message] if message else [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"data": {"tls.crt": "hunter2"}},
            'data["tls.crt"] must be base64 (plain text belongs into `stringData` of a Secret, `data` of a ConfigMap)',
        ),
        ({"stringData": {"pin": 271828}}, "stringData.pin must be a text; put it in quotes"),
        ({"data": "hunter2"}, "data must be a map of names and values"),
    ],
)
def test_what_a_secret_holds_is_in_no_message(content: dict[str, Any], message: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, **content}
    assert said(validate(kind_named("Secret"), secret)) == [message]


def test_fields_that_are_not_read_are_accepted() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIPs": ["None"]}}
    assert validate(kind_named("Service"), service) == ()


def test_values_that_no_json_holds() -> None:
    for strange in ("\ud800", object()):
        [problem] = validate(kind_named("HTTPRoute"), with_spec(hostnames=[strange]))
        assert problem.path == ()
        assert problem.message.startswith("the object cannot be read as HTTPRoute: ")
    cycle: list[Any] = []
    cycle.append(cycle)
    [problem] = validate(kind_named("HTTPRoute"), with_spec(hostnames=cycle))
    assert problem.path == ()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("spec", "rules", 0, "name"), "spec.rules[0].name"),
        (("metadata", "labels", "a.b/c"), 'metadata.labels["a.b/c"]'),
    ],
)
def test_path_text(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text
