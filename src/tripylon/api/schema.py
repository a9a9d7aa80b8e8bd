"""From structs to OpenAPI v3: the structural schema of a kind, as a CustomResourceDefinition states it.

Everything comes from the structs: types from annotations, bounds and rules from the marks of `markers.py`, defaults
from the fields, descriptions from docstrings. Read `validate.py` for what is checked by it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any

import msgspec

from tripylon.api.markers import Default, Entries, Items, Number, Part, Rule, Text
from tripylon.api.meta import ObjectMeta, Resource

Schema = dict[str, Any]
"""A node of an OpenAPI v3 schema."""

ANYTHING: Mapping[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
"""Schema of a field that Kubernetes has and that we do not read, or pass on unread."""


def schema(struct: type[Part], *, descriptions: bool = False) -> Schema:
    """The structural schema of a struct; a new dict each time. `descriptions` adds the docstrings."""
    made = _object(struct, descriptions)
    if issubclass(struct, Resource):
        made["properties"] |= {
            "apiVersion": {"type": "string"} | _described(_API_VERSION, descriptions),
            "kind": {"type": "string"} | _described(_KIND, descriptions),
            "metadata": {"type": "object"},
        }
    return made


def closed_schema(struct: type[Resource], *, descriptions: bool = False) -> Schema:
    """A plain JSON schema for whole documents: unknown fields and numbers beyond their format are refused.

    Unlike the structural schema it looks into `metadata` and demands `apiVersion`, `kind` and a name.
    """
    made = _closed(schema(struct, descriptions=descriptions))
    metadata = _closed(schema(ObjectMeta, descriptions=descriptions))
    made["properties"]["metadata"] = metadata | {"required": ["name"]}
    made["required"] = ["apiVersion", "kind", "metadata", *made.get("required", ())]
    return made


def nested(struct: type[Part]) -> tuple[type[Part], ...]:
    """The struct and all structs inside it, each once, in the order in which fields lead to them."""
    found: dict[type[Part], None] = {}

    def visit(hint: Any) -> None:
        if isinstance(hint, type) and issubclass(hint, Part):
            if hint not in found:
                found[hint] = None
                for each in hints(hint).values():
                    visit(each)
        else:
            for each in typing.get_args(hint):
                visit(each)

    visit(struct)
    return tuple(found)


def marks(struct: type[Part]) -> Iterable[object]:
    """Every mark on the fields of one struct, those of list items and map values included."""

    def visit(hint: Any) -> Iterable[object]:
        if typing.get_origin(hint) is Annotated:
            yield from hint.__metadata__
        for each in typing.get_args(hint):
            yield from visit(each)

    for hint in hints(struct).values():
        yield from visit(hint)


@cache
def hints(struct: type[Part]) -> Mapping[str, Any]:
    """Annotation of each field, with its marks, by the field's Python name."""
    every = typing.get_type_hints(struct, include_extras=True)
    return {name: every[name] for name in struct.__struct_fields__}


@cache
def fields(struct: type[Part]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Each field with its names and its default."""
    return msgspec.structs.fields(struct)


@cache
def docs(struct: type[Part]) -> Mapping[str, str]:
    """Docstring of each field by its Python name: the string literal below the field."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if base is not Part and issubclass(base, Part):
            found |= _own_docs(base)
    return {name: found.get(name, "") for name in struct.__struct_fields__}


# --- Objects and fields --------------------------------------------------------------------------------------------

_API_VERSION = "Group and version that the object is written in."
_KIND = "Kind of the object."


def _object(struct: type[Part], descriptions: bool) -> Schema:
    field_docs = docs(struct) if descriptions else {}
    properties: Schema = {name: dict(ANYTHING) for name in struct.UNREAD}
    for field in fields(struct):
        hint = hints(struct)[field.name]
        made = _value(hint, descriptions)
        default = _default(hint, field)
        if default is not None:
            made["default"] = default
        if descriptions and field_docs[field.name]:
            made["description"] = field_docs[field.name]
        properties[field.encode_name] = made
    required = sorted(field.encode_name for field in fields(struct) if field.required)
    return {
        "type": "object",
        **_described(inspect.cleandoc(struct.__doc__ or ""), descriptions),
        "properties": dict(sorted(properties.items())),
        **({"required": required} if required else {}),
        **({"x-kubernetes-map-type": struct.MAP_TYPE} if struct.MAP_TYPE else {}),
        **struct.EXTRA,
        **_rules(struct.RULES),
    }


def _default(hint: Any, field: msgspec.structs.FieldInfo) -> Any:
    """The default that the schema states; None when there is none."""
    if typing.get_origin(hint) is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Default):
                return mark.value
    return (_written(field.default) or None) if field.default is not msgspec.NODEFAULT and field.default else None


def _written(value: Any) -> Any:
    """A default as it is written in a schema: with all required and defaulted fields."""
    if isinstance(value, Part):
        return {
            field.encode_name: _written(getattr(value, field.name))
            for field in fields(type(value))
            if getattr(value, field.name)
        }
    return [_written(each) for each in value] if isinstance(value, tuple) else value


def _described(text: str, wanted: bool) -> Schema:
    return {"description": text} if wanted and text else {}


# --- Values --------------------------------------------------------------------------------------------------------

_SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "byte"},
}


def _value(hint: Any, descriptions: bool) -> Schema:
    """The schema of a type: scalar, struct, tuple, dict, or one of these with marks or `| None`."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if origin is Annotated:
        return _value(arguments[0], descriptions) | _marked(hint.__metadata__)
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0], descriptions)}
    if origin is dict:
        if arguments[1] is Any:
            return {"type": "object", **ANYTHING}
        return {"type": "object", "additionalProperties": _value(arguments[1], descriptions)}
    if origin is types.UnionType or origin is typing.Union:
        return _union([each for each in arguments if each is not type(None)], descriptions)
    return _object(hint, descriptions)


def _union(arguments: list[Any], descriptions: bool) -> Schema:
    if len(arguments) == 1:
        return _value(arguments[0], descriptions)
    if set(arguments) == {int, str}:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    raise TypeError(f"a field cannot be any of {arguments}: no structural schema says so")


def _marked(marks_: Iterable[object]) -> Schema:
    made: Schema = {}
    rules: list[Rule] = []
    for mark in marks_:
        match mark:
            case Rule():
                rules.append(mark)
            case Text():
                made |= _stated(
                    minLength=mark.min,
                    maxLength=mark.max,
                    pattern=mark.pattern or None,
                    enum=list(mark.values) or None,
                    format=mark.format or None,
                )
            case Number():
                made |= _stated(
                    minimum=mark.min, maximum=mark.max, enum=list(mark.values) or None, format=mark.format or None
                )
            case Items():
                made |= _stated(minItems=mark.min, maxItems=mark.max)
                made["x-kubernetes-list-type"] = mark.kind
                if mark.keys:
                    made["x-kubernetes-list-map-keys"] = list(mark.keys)
            case Entries():
                made |= _stated(minProperties=mark.min, maxProperties=mark.max)
            case _:
                pass
    return made | _rules(rules)


def _stated(**bounds: object) -> Schema:
    return {name: value for name, value in bounds.items() if value is not None}


def _rules(rules: Iterable[Rule]) -> Schema:
    made = [
        {"rule": rule.cel, "message": rule.message}
        | ({"reason": rule.reason} if rule.reason else {})
        | ({"fieldPath": rule.field_path} if rule.field_path else {})
        for rule in rules
    ]
    return {"x-kubernetes-validations": made} if made else {}


# --- The closed schema -------------------------------------------------------------------------------------------

_INT32 = {"minimum": -(2**31), "maximum": 2**31 - 1}
_INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}


def _closed(node: Schema) -> Schema:
    """The schema without Kubernetes' extensions, refusing unknown fields and numbers beyond their format."""
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return {key: node[key] for key in ("type", "description") if key in node}
    made: Schema = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if node.get("type") == "integer":
        made = (_INT32 if made.pop("format", "") == "int32" else _INT64) | made
    if "properties" in node:
        made["properties"] = {name: _closed(each) for name, each in node["properties"].items()}
        made["additionalProperties"] = False
    elif isinstance(node.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(node["additionalProperties"])
    if "items" in node:
        made["items"] = _closed(node["items"])
    return made


# --- Docstrings ----------------------------------------------------------------------------------------------------


def _own_docs(struct: type) -> dict[str, str]:
    """Docstrings of the fields that this class itself names."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    found: dict[str, str] = {}
    if isinstance(definition, ast.ClassDef):
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = inspect.cleandoc(text)
                case _:
                    pass
    return found
