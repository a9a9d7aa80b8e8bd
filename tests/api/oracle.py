"""An API server's verdict, worked out in the plainest way from a structural schema, with rules judged by any CEL.

On upstream's schema with Google's CEL it is what our own verdicts are compared with. It shares no code with
`tripylon.api.validate`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jsonschema_rs
from cel_expr_python import cel  # type: ignore[import-untyped]
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]

Holds = Callable[[str, Any], bool]
"""Whether a rule's expression is true of a value."""


class Oracle:
    """Judges objects by one structural schema."""

    def __init__(self, schema: dict[str, Any], holds: Holds) -> None:
        self.schema = schema
        self.holds = holds
        self.validator = jsonschema_rs.Draft202012Validator(
            closed(schema), validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
        )

    def faults(self, obj: dict[str, Any]) -> list[str]:
        """What is wrong with an object: `schema`, `twice`, or the text of a rule."""
        value = filled(self.schema, without_nulls(obj))
        return list(self._faults(value))

    def _faults(self, value: Any) -> Iterator[str]:
        if not self.validator.is_valid(value):
            yield "schema"
            return
        for node, each in nodes(self.schema, value):
            if repeats(node, each):
                yield "twice"
            for rule in node.get("x-kubernetes-validations", ()):
                if "oldSelf" not in rule["rule"] and not self.holds(rule["rule"], each):
                    yield rule["rule"]


@cache
def _environment() -> cel.Env:
    return cel.NewEnv(variables={"self": cel.Type.DYN}, extensions=[ext_strings.ExtStrings()])


@cache
def _expression(rule: str) -> cel.Expression:
    """Google's CEL lacks Kubernetes' libraries `format` and `ip`; the few expressions that use them are written out.

    What `isIP` is asked about fits the pattern of host names, so that it can only be an IPv4 address.
    """
    octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    written_out = rule.replace(
        "!format.dns1123Subdomain().validate(self.split('/')[0]).hasValue()",
        rf"(self.split('/')[0].size() <= 253 && self.split('/')[0].matches(r'^{label}(\.{label})*$'))",
    )
    written_out = written_out.replace(
        "!format.qualifiedName().validate(key).hasValue()",
        rf"(key.matches(r'^({label}(\.{label})*/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$')"
        " && (!key.contains('/') || key.split('/')[0].size() <= 253))",
    )
    written_out = written_out.replace("isIP(h)", rf"h.matches(r'^({octet}\.){{3}}{octet}$')")
    return _environment().compile(written_out)


def google_holds(rule: str, value: Any) -> bool:
    """Google's verdict on a rule; an error counts as false, as in an API server."""
    result = _expression(rule).eval(data={"self": escaped(value)})
    return result.type() == cel.Type.BOOL and result.plain_value() is True


def escaped(value: Any) -> Any:
    """A value as Kubernetes' rules see it: `namespace`, a reserved word of CEL, has the name `__namespace__`, too."""
    if isinstance(value, dict):
        alias = {"__namespace__": value["namespace"]} if "namespace" in value else {}
        return {key: escaped(each) for key, each in value.items()} | alias
    return [escaped(each) for each in value] if isinstance(value, list) else value


def nodes(schema: dict[str, Any], value: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every value inside a value, with its schema."""
    yield schema, value
    if isinstance(value, dict):
        for key, each in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(below, dict):
                yield from nodes(below, each)
    if isinstance(value, list) and "items" in schema:
        for each in value:
            yield from nodes(schema["items"], each)


def repeats(node: dict[str, Any], value: Any) -> bool:
    """Whether a list that is a set or a map names something twice."""
    if node.get("x-kubernetes-list-type") == "set":
        return any(each in value[:index] for index, each in enumerate(value))
    if node.get("x-kubernetes-list-type") == "map":
        keys = [[each.get(key) for key in node["x-kubernetes-list-map-keys"]] for each in value]
        return any(key in keys[:index] for index, key in enumerate(keys))
    return False


def without_nulls(value: Any) -> Any:
    """A copy without map entries that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def filled(schema: dict[str, Any], value: Any) -> Any:
    """A value with the schema's defaults."""
    if isinstance(value, dict):
        made = dict(value)
        for name, each in schema.get("properties", {}).items():
            if name not in made and "default" in each:
                made[name] = copy.deepcopy(each["default"])
        below = schema.get("properties", {})
        other = schema.get("additionalProperties")
        return {
            key: filled(below[key], each) if key in below else filled(other, each) if isinstance(other, dict) else each
            for key, each in made.items()
        }
    if isinstance(value, list) and "items" in schema:
        return [filled(schema["items"], each) for each in value]
    return value


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema as JSON schema that refuses unknown fields and numbers beyond their format."""
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if "properties" in schema:
        made["properties"] = {name: closed(each) for name, each in schema["properties"].items()}
        made["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = closed(schema["items"])
    if schema.get("type") == "integer":
        bits = 31 if schema.get("format") == "int32" else 63
        made["minimum"] = max(schema.get("minimum", -(2**bits)), -(2**bits))
        made["maximum"] = min(schema.get("maximum", 2**bits - 1), 2**bits - 1)
        made.pop("format", None)
    return made
