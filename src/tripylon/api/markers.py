"""Marks that a struct's field carries inside `Annotated`: bounds, patterns, list keys and rules, stated once.

Decoding ignores them, so it stays fast and lenient for values of later API versions; `schema.py` turns them into
OpenAPI, `validate.py` into verdicts, `crd.py` into definitions for a cluster. Read `schema.py` next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec


class Rule(msgspec.Struct, frozen=True, gc=False):
    """A condition across fields, in the Common Expression Language as Kubernetes evaluates it.

    It stands in a class's `RULES` (then `self` is the object) or in a field's `Annotated` (then `self` is the value).
    """

    cel: str
    """The expression; true means valid. One that names `oldSelf` holds only between two versions of an object."""
    message: str
    """What is wrong and what to do, as a predicate: it is printed behind the path of the field."""
    reason: Literal["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired", ""] = ""
    """Kubernetes' reason of the refusal; empty: `FieldValueInvalid`."""
    field_path: str = ""
    """Where below `self` the fault is, such as `.value`; empty: `self` itself."""


class Text(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Bounds of a string."""

    min: int | None = None
    """Smallest number of characters."""
    max: int | None = None
    """Largest number of characters."""
    pattern: str = ""
    """Regular expression (RE2) that must be found in the value; empty: none."""
    words: str = ""
    """The pattern in words, behind "must be": shown instead of the expression."""
    values: tuple[str, ...] = ()
    """The only values allowed; empty: any. Decoding accepts others, as later API versions may add some."""
    format: str = ""
    """OpenAPI format, such as `date-time`."""


class Number(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Bounds of an integer."""

    min: int | None = None
    max: int | None = None
    values: tuple[int, ...] = ()
    """The only values allowed; empty: any within the bounds."""
    format: Literal["int32", "int64", ""] = "int32"
    """OpenAPI format, which also bounds the value."""


class Items(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Bounds of a list, and how server-side apply merges it."""

    min: int | None = None
    max: int | None = None
    kind: Literal["atomic", "set", "map"] = "atomic"
    """`set`: no value twice. `map`: no two items with the same keys."""
    keys: tuple[str, ...] = ()
    """For a `map`: the fields, as written in YAML, that name an item."""


class Entries(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Bounds of a map."""

    min: int | None = None
    """Smallest number of entries."""
    max: int | None = None
    """Largest number of entries."""


class Default(msgspec.Struct, frozen=True, gc=False):
    """A default that the schema states although it looks like "absent" (such as an empty string)."""

    value: str | int | bool


class Part(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", omit_defaults=True):
    """Base of everything in an API object.

    A field's default of None, False, an empty string, tuple or dict means "absent". Every other default is stated in
    the schema, too. Dicts are never changed after decoding.
    """

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """Rules whose `self` is this object."""
    UNREAD: ClassVar[tuple[str, ...]] = ()
    """Fields that Kubernetes has and that we do not read: accepted, with any content."""
    MAP_TYPE: ClassVar[str] = ""
    """`atomic` when server-side apply replaces the object as a whole."""
    EXTRA: ClassVar[Mapping[str, object]] = {}
    """Parts of the schema that no mark expresses."""
