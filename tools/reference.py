"""Writes `docs/reference/` out of the structs: `python tools/reference.py`; with `--check` it only says what differs.

One page for each kind that is read, with every field's type, default, bounds and meaning, and one page for what all
kinds share. Everything comes from the annotations and docstrings in `src/tripylon/api`, so to correct a page is to
correct a struct.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tripylon.api.kinds import KINDS, Kind
from tripylon.api.markers import Entries, Items, Number, Part, Rule, Text
from tripylon.api.meta import Condition, ObjectMeta, Resource
from tripylon.api.own import OWN_GROUP
from tripylon.api.schema import docs, fields, hints

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
INDEX = "README.md"
SHARED: Mapping[type[Part], str] = {ObjectMeta: "metadata", Condition: "conditions"}
"""Structs that the index page explains once for all, with the headings they have there."""
HEADER = "<!-- Written by tools/reference.py from the structs in src/tripylon/api; do not edit. -->\n"
_LONGEST_PATTERN = 60

Place = tuple[str, type[Part]]
"""Path of a field, as in `spec.rules[].matches[]`, and the struct that stands there."""


def main() -> int:
    """Write what differs, or, with `--check`, name it and fail."""
    pages = all_pages()
    stale = stale_pages(FOLDER, pages)
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/reference/{name} is out of date; run `python tools/reference.py`")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in pages:
            (FOLDER / name).write_text(pages[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"reference: {len(pages)} pages, {len(stale)} of them written or removed")
    return 0


def all_pages() -> dict[str, str]:
    """Each page's text by the name of its file."""
    return {INDEX: index_page()} | {f"{kind.name.lower()}.md": kind_page(kind) for kind in KINDS}


def stale_pages(folder: Path, pages: Mapping[str, str]) -> tuple[str, ...]:
    """Files that are missing, differ, or are not made from anything any more."""
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return tuple(sorted(name for name in there.keys() | pages.keys() if there.get(name) != pages.get(name)))


# --- Pages -----------------------------------------------------------------------------------------------------------


def index_page() -> str:
    """The list of kinds, and what all of them have alike."""
    rows = [
        f"| [{kind.name}]({kind.name.lower()}.md) | `{kind.group or 'core'}` | {', '.join(kind.versions)} "
        f"| {kind.scope.lower()} | {_doc(kind.struct)} |"
        for kind in KINDS
    ]
    return "\n".join(
        (
            HEADER,
            "# Reference: kinds that Tripylon reads\n",
            "| kind | group | versions | scope | what it is |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "`tripylon gen schema` writes the same as JSON schemas for editors, `tripylon gen crds` the definitions of",
            f"the kinds of `{OWN_GROUP}`. What is wrong with an object is told in the words of",
            "[messages](../messages.md).\n",
            "Fields are described as the Gateway API means them, those included that are [not supported",
            "yet](../../README.md#what-works): an object that uses one is told so.\n",
            *_section(SHARED[ObjectMeta], ObjectMeta, ("metadata",), ""),
            *_section(SHARED[Condition], Condition, ("status…conditions[]",), ""),
        )
    )


def kind_page(kind: Kind) -> str:
    """One kind with all structs inside it, each where a field leads to it first."""
    places = list(walk(kind.struct))
    also: dict[type[Part], list[str]] = {}
    for path, struct in places:
        also.setdefault(struct, []).append(path)
    lines = [
        HEADER,
        f"# {kind.name}\n",
        f"{_doc(kind.struct)}\n",
        f"`apiVersion: {kind.api_version}`"
        + (f" (also read: {', '.join(kind.versions[1:])})" if kind.versions[1:] else "")
        + f", {kind.scope.lower()}."
        + (f" Short names: {', '.join(kind.short_names)}." if kind.short_names else "")
        + f" [metadata]({INDEX}#metadata) is that of every object.\n",
    ]
    lines += _table(kind.struct, skip=("apiVersion", "kind", "metadata"), parent="")
    lines += _rules(kind.struct)
    for struct, paths in also.items():
        lines += _section(_anchor(struct), struct, tuple(paths), paths[0])
    return "\n".join(lines)


def walk(struct: type[Part]) -> Iterator[Place]:
    """Every struct inside of one, with its path, breadth first; what the index page explains is left out."""
    level: list[Place] = [("", struct)]
    while level:
        below = [place for path, each in level for place in _below(path, each)]
        yield from below
        level = below


def _below(path: str, struct: type[Part]) -> Iterator[Place]:
    for field in fields(struct):
        found, suffix = _inner(hints(struct)[field.name])
        if found is not None and found not in SHARED:
            yield f"{path}.{field.encode_name}{suffix}".lstrip("."), found


def _section(anchor: str, struct: type[Part], paths: tuple[str, ...], parent: str) -> list[str]:
    more = f", and at {len(paths) - 1} more places" if len(paths) > 3 else ""
    where = ", ".join(f"`{path}`" for path in (paths[:1] if more else paths)) + more
    return [f"## {anchor}\n", f"{where}: {_doc(struct)}\n", *_table(struct, parent=parent), *_rules(struct)]


def _table(struct: type[Part], *, parent: str, skip: tuple[str, ...] = ()) -> list[str]:
    rows = []
    for field in fields(struct):
        if field.encode_name not in skip:
            hint = hints(struct)[field.name]
            cells = (f"`{field.encode_name}`", _type(hint), _default(field), _bounds(hint), docs(struct)[field.name])
            rows.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    if not rows:
        return []
    ignored = [f"Accepted and not read: {', '.join(f'`{name}`' for name in struct.UNREAD)}.\n"] if struct.UNREAD else []
    return ["| field | type | default | bounds | meaning |", "|---|---|---|---|---|", *rows, "", *ignored]


def _rules(struct: type[Part]) -> list[str]:
    """The rules across fields, each behind the field that it is about."""
    made = [_rule(rule.field_path.lstrip("."), rule) for rule in struct.RULES]
    for field in fields(struct):
        marks = _marks(hints(struct)[field.name], Rule)
        made.extend(_rule(field.encode_name + rule.field_path, rule) for rule in marks)
    return [*made, ""] if made else []


def _rule(field: str, rule: Rule) -> str:
    return f"- `{field}` {rule.message}." if field else f"- It {rule.message}."


# --- Cells -----------------------------------------------------------------------------------------------------------

_SCALARS: Mapping[Any, str] = {str: "text", int: "number", bool: "true or false", bytes: "base64"}


def _type(hint: Any) -> str:
    """The type in words, a struct with a link to where it is explained."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict and arguments[1] is Any:
        return "object of Kubernetes"
    if origin is dict:
        return f"map to {_type(arguments[1])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint in SHARED:
        return f"[{hint.__name__}]({INDEX}#{SHARED[hint]})"
    return f"[{hint.__name__}](#{_anchor(hint).lower()})"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT or value in (None, "", (), 0):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Part | tuple):
        return "see there"
    return f"`{value}`"


def _bounds(hint: Any) -> str:
    """Bounds of the value; of a list, first those of each entry. A set of values says more than any other bound."""
    if typing.get_origin(hint) is tuple:
        of_each = _bounds(typing.get_args(hint)[0])
        return f"each: {of_each}" if of_each else ""
    if typing.get_origin(hint) is not Annotated:
        return "; ".join(filter(None, map(_bounds, typing.get_args(hint))))
    inner = _bounds(typing.get_args(hint)[0])
    found: list[str] = [inner] if inner else []
    for mark in hint.__metadata__:
        match mark:
            case Text(values=values) if values:
                found = [_one_of(values)]
            case Text():
                found += _text_bounds(mark)
            case Number():
                found += [_span(mark.min, mark.max, "")] if mark.min is not None or mark.max is not None else []
                found += [_one_of(map(str, mark.values))] if mark.values else []
            case Items():
                found += [_span(mark.min, mark.max, " entries")] if mark.min or mark.max else []
                found += ["no value twice"] if mark.kind == "set" else []
                found += [f"{' and '.join(f'`{key}`' for key in mark.keys)} not twice"] if mark.kind == "map" else []
            case Entries():
                found += [_span(mark.min, mark.max, " entries")]
            case _:
                pass
    return "; ".join(dict.fromkeys(found))


def _text_bounds(mark: Text) -> list[str]:
    found = [mark.words] if mark.words else []
    if mark.pattern and not found and len(mark.pattern) <= _LONGEST_PATTERN:
        found.append(f"`{mark.pattern}`")
    if mark.max is not None or (mark.min or 0) > 1:
        found.append(_span(mark.min, mark.max, " characters"))
    return found


def _one_of(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _span(low: int | None, high: int | None, unit: str) -> str:
    if low is None or high is None:
        return f"at most {high}{unit}" if low is None else f"at least {low}{unit}"
    return f"{low} to {high}{unit}"


M = typing.TypeVar("M")


def _marks(hint: Any, kind: type[M]) -> Iterator[M]:
    """The marks on a field and on its items, the innermost first."""
    arguments = typing.get_args(hint)
    for each in arguments[:1] if typing.get_origin(hint) is Annotated else arguments:
        yield from _marks(each, kind)
    if typing.get_origin(hint) is Annotated:
        yield from (mark for mark in hint.__metadata__ if isinstance(mark, kind))


def _inner(hint: Any) -> tuple[type[Part] | None, str]:
    """The struct inside of a type, and what its path gets behind the field's name."""
    if isinstance(hint, type) and issubclass(hint, Part):
        return hint, ""
    for each in typing.get_args(hint):
        found, suffix = _inner(each)
        if found is not None:
            return found, ("[]" if typing.get_origin(hint) is tuple else "") + suffix
    return None, ""


def _anchor(struct: type[Part]) -> str:
    return struct.__name__


def _doc(struct: type[Part] | type[Resource]) -> str:
    return " ".join(inspect.cleandoc(struct.__doc__ or "").split())


if __name__ == "__main__":
    sys.exit(main())
