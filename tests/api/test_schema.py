"""Our schemas are the Gateway API's, property by property, in both directions; and they cover every struct's fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tests.api.corpus import GATEWAY_KINDS

from tripylon.api import schema as schemas
from tripylon.api.crd import crd, json_schema, json_schema_of_all, own_kinds
from tripylon.api.kinds import KINDS, Kind
from tripylon.api.markers import Rule
from tripylon.api.schema import docs, marks, nested, schema

# Wording is ours, and rules are compared by their verdicts (test_verdicts.py), not by their text.
OWN_WORDS = ("description", "x-kubernetes-validations")

# Objects of these versions, which are to go, are held to the bounds of v1.
STRICTER = {
    "TLSRoute/v1alpha2": [
        "TLSRoute/v1alpha2.spec.hostnames minItems: ours 1, theirs None",
        "TLSRoute/v1alpha2.spec.rules maxItems: ours 1, theirs 16",
        "TLSRoute/v1alpha2.spec required: ours ['hostnames', 'rules'], theirs ['rules']",
    ],
    "TCPRoute/v1alpha2": ["TCPRoute/v1alpha2.spec.rules maxItems: ours 1, theirs 16"],
    "UDPRoute/v1alpha2": ["UDPRoute/v1alpha2.spec.rules maxItems: ours 1, theirs 16"],
}


def differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Every place where two schemas differ in anything but words."""
    for key in sorted(ours.keys() | theirs.keys()):
        if key in OWN_WORDS:
            continue
        mine, other = ours.get(key), theirs.get(key)
        if key == "properties":
            for name in sorted((mine or {}).keys() | (other or {}).keys()):
                if name not in mine or name not in other:
                    yield f"{path}.{name}: only {'ours' if name in mine else 'theirs'}"
                else:
                    yield from differences(mine[name], other[name], f"{path}.{name}")
        elif isinstance(mine, dict) and isinstance(other, dict) and key in ("items", "additionalProperties"):
            yield from differences(mine, other, f"{path}[]")
        elif key == "required" and sorted(mine or ()) == sorted(other or ()):
            continue
        elif mine != other:
            yield f"{path} {key}: ours {mine!r}, theirs {other!r}"


@pytest.mark.parametrize("kind", GATEWAY_KINDS, ids=lambda kind: kind.name)
def test_equals_the_gateway_apis_definition(kind: Kind, definitions: dict[str, dict[str, Any]]) -> None:
    definition = definitions[kind.name]["spec"]
    served = {each["name"]: each["schema"]["openAPIV3Schema"] for each in definition["versions"] if each["served"]}
    assert definition["names"]["plural"] == kind.plural
    assert definition["names"].get("shortNames", []) == list(kind.short_names)
    assert definition["scope"] == kind.scope
    assert set(served) == set(kind.versions)
    for version, theirs in served.items():
        place = f"{kind.name}/{version}"
        assert list(differences(schema(kind.struct), theirs, place)) == STRICTER.get(place, [])


def test_a_difference_is_seen() -> None:
    ours = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"type": "string"}}}
    theirs = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "c": {"type": "string"}}}
    assert list(differences(ours, theirs, "x")) == [
        "x.a maxLength: ours 3, theirs None",
        "x.b: only ours",
        "x.c: only theirs",
        "x required: ours None, theirs ['a']",
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_schema_and_structs_name_the_same_fields(kind: Kind) -> None:
    for struct in nested(kind.struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        made = schema(struct)
        assert set(made["properties"]) == fields.keys() | set(struct.UNREAD)
        assert set(made.get("required", ())) == {name for name, field in fields.items() if field.required}
        assert not fields.keys() & set(struct.UNREAD)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_defaults_of_schema_and_structs_are_the_same(kind: Kind) -> None:
    """An object with the schema's defaults written out is the same as one without."""
    for struct in nested(kind.struct):
        properties = schema(struct)["properties"]
        for field in msgspec.structs.fields(struct):
            if "default" in properties[field.encode_name]:
                hint = schemas.hints(struct)[field.name]
                assert msgspec.convert(properties[field.encode_name]["default"], hint) == field.default


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_and_struct_is_described(kind: Kind) -> None:
    for struct in nested(kind.struct):
        assert struct.__doc__
        assert [name for name, text in docs(struct).items() if not text.endswith(".")] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_rule_says_what_to_do(kind: Kind) -> None:
    for struct in nested(kind.struct):
        on_fields = [mark for mark in marks(struct) if isinstance(mark, Rule)]
        for rule in [*struct.RULES, *on_fields]:
            assert rule.message.startswith(("must", "cannot"))
            assert not rule.message.endswith(".")
        assert {rule.field_path.split(".")[1] for rule in struct.RULES if rule.field_path} <= set(
            schema(struct)["properties"]
        )
        assert [rule for rule in on_fields if rule.field_path] == []


@pytest.mark.parametrize("kind", own_kinds(), ids=lambda kind: kind.name)
def test_definition_of_our_kind(kind: Kind) -> None:
    made = crd(kind)
    assert made["metadata"]["name"] == f"{kind.plural}.gateway.tripylon.dev"
    assert made["spec"]["names"]["categories"] == ["tripylon", "gateway-api"]
    [version] = made["spec"]["versions"]
    has_status = "status" in kind.struct.__struct_fields__
    assert version.get("subresources") == ({"status": {}} if has_status else None)
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns[-1] == "Age"
    assert ("Accepted" in columns) == has_status
    root = version["schema"]["openAPIV3Schema"]
    assert root["properties"]["metadata"] == {"type": "object"}
    assert list(undescribed(root, kind.name)) == []


def undescribed(node: dict[str, Any], path: str) -> Iterator[str]:
    """Properties without a description, and lists or texts without a bound (which make rules too expensive)."""
    for name, each in node.get("properties", {}).items():
        if "description" not in each and name != "metadata":
            yield f"{path}.{name}"
        yield from undescribed(each, f"{path}.{name}")
    if "items" in node:
        if "maxItems" not in node:
            yield f"{path} has no maxItems"
        yield from undescribed(node["items"], f"{path}[]")


def test_no_definition_of_others_kinds() -> None:
    with pytest.raises(ValueError, match=r"HTTPRoute is defined by gateway\.networking\.k8s\.io, not by Tripylon"):
        crd(next(kind for kind in KINDS if kind.name == "HTTPRoute"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_editor_schema(kind: Kind) -> None:
    made = json_schema(kind)
    validator = jsonschema_rs.validator_for(made)
    assert made["properties"]["kind"]["enum"] == [kind.name]
    assert made["properties"]["apiVersion"]["enum"][0] == kind.api_version
    wrong = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "a"}, "spec": 1, "nonsense": 2}
    messages = [error.message for error in validator.iter_errors(wrong)]
    assert any("nonsense" in message for message in messages)


def test_editor_schema_of_all_kinds_offers_the_fields_of_the_kind() -> None:
    validator = jsonschema_rs.validator_for(json_schema_of_all())
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}
    assert validator.is_valid(service)
    assert [error.message for error in validator.iter_errors({**service, "data": {}})] == [
        "Additional properties are not allowed ('data' was unexpected)"
    ]
    assert not validator.is_valid({**service, "apiVersion": "gateway.networking.k8s.io/v1"})
    assert not validator.is_valid({**service, "kind": "Pod"})
