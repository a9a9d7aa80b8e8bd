"""From one document to API objects: which kind it is, whether it is valid, and what to say, with its place, if not.

Everything here is relative to the document, so that the result can be kept for as long as the document's bytes stay
the same; `source.py` adds file and line.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

import msgspec

from tripylon.api import kinds
from tripylon.api.kinds import DecodeError, Kind
from tripylon.api.meta import GATEWAY_GROUP, Resource
from tripylon.api.own import Backend
from tripylon.api.problems import Path, path_text
from tripylon.api.validate import validate
from tripylon.files.positions import positions
from tripylon.files.problems import Problem, Severity
from tripylon.files.secrets import ANNOTATION, Holder, is_from_files
from tripylon.files.yaml import (
    Document,
    DocumentError,
    parse,
    parse_json,
    parse_yaml_1_1,
    says_something_else_in_yaml_1_1,
    text_of,
)
from tripylon.values import Ref

DEFAULT_NAMESPACE = "default"
"""Namespace of an object that names none."""

MAX_PROBLEMS = 20
"""How much is said about one object; the rest is counted."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a document, or one item of a list, says."""

    resource: Resource | None = None
    """The object; None when it is not valid or none of ours."""
    ref: Ref | None = None
    """Which object it is, where that can be read."""
    certain: bool = True
    """False: the document is so broken that `ref` may be wrong or missing."""
    problems: tuple[Problem, ...] = ()
    """What is wrong; lines and columns are those of the document, the file is left open."""
    path: Path = ()
    """Where the object stands in the document: empty, or that of an item in a list."""
    line: int = 1
    column: int = 1
    annotations: tuple[tuple[str, tuple[int, int]], ...] = ()
    """Line and column of the annotations by which a Secret or ConfigMap takes its content out of files."""


def read_document(document: Document, *, is_json: bool) -> tuple[Entry, ...]:
    """The objects of a document, in order; none for one that holds nothing but comments."""
    try:
        text = text_of(document)
    except DocumentError as error:
        text = document.data.decode(errors="replace")
        return (_broken(text, error),)
    try:
        value = parse_json(text) if is_json else parse(text)
    except DocumentError as error:
        return (_broken(text, error),)
    if value is None:
        return ()
    entries = _Reading(text).entries(value)
    if is_json or all(entry.resource for entry in entries) or not says_something_else_in_yaml_1_1(text):
        return entries
    try:
        second = _Reading(text).entries(parse_yaml_1_1(text))
    except DocumentError:
        return entries
    return (
        second
        if sum(len(entry.problems) for entry in second) < sum(len(entry.problems) for entry in entries)
        else entries
    )


class _Reading:
    """One document's text, for the places in it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def entries(self, value: Any) -> tuple[Entry, ...]:
        """The objects of the document's value: itself, or the items of a list."""
        line, column = _start(self.text)
        kind = value.get("kind") if isinstance(value, dict) else None
        if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list)):
            return (self.entry(value, (), line, column),)
        items = value["items"]
        places = positions(self.text, tuple(("items", index) for index in range(len(items))))
        words = _item_words(value)
        return tuple(
            self.entry(words | item if isinstance(item, dict) else item, path, *places[path])
            for path, item in zip(places, items, strict=True)
        )

    def entry(self, obj: Any, path: Path, line: int, column: int) -> Entry:
        """One object, whose text begins at `line` and `column`."""
        unfit = _unfit(obj)
        if unfit is not None:
            severity, message = unfit
            hint = "give every document an apiVersion, a kind and metadata with a name"
            problem = _problem(line, column, "NotAnObject", message, hint, severity=severity)
            return Entry(certain=severity == "warning", problems=(problem,), path=path, line=line, column=column)
        kind = kinds.find(obj["apiVersion"], obj["kind"])
        if kind is None:
            return self.unknown_kind(obj, path, line, column)
        obj = _with_namespace(kind, obj)
        ref = _ref(kind, obj)
        problems = self.problems(kind, obj, ref, path)
        resource = None
        if not problems:
            try:
                resource = kinds.decode(kind, obj)
            except DecodeError as error:
                problems = (_problem(line, column, "InvalidObject", str(error), "check the types of its fields", ref),)
        return Entry(
            resource=resource,
            ref=ref,
            certain=ref is not None,
            problems=problems,
            path=path,
            line=line,
            column=column,
            annotations=self.annotations(resource, path),
        )

    def annotations(self, resource: Resource | None, path: Path) -> tuple[tuple[str, tuple[int, int]], ...]:
        """The places of the annotations that name files."""
        if not isinstance(resource, Holder) or not is_from_files(resource):
            return ()
        names = [name for name in resource.metadata.annotations if name.startswith(ANNOTATION)]
        places = positions(self.text, tuple((*path, "metadata", "annotations", name) for name in names))
        return tuple(zip(names, places.values(), strict=True))

    def problems(self, kind: Kind, obj: dict[str, Any], ref: Ref | None, path: Path) -> tuple[Problem, ...]:
        """What is wrong with an object of a known kind, each with its place."""
        wrong = validate(kind, obj)
        if not wrong:
            return ()
        shown = wrong[:MAX_PROBLEMS]
        places = positions(self.text, tuple((*path, *each.path) for each in shown))
        found = [
            _problem(
                *places[(*path, *each.path)],
                "InvalidObject",
                each.message,
                each.hint,
                ref,
                field=path_text(each.path),
            )
            for each in shown
        ]
        if len(wrong) > len(shown):
            first = found[0]
            more = f"The object has {len(wrong) - len(shown)} more problems"
            found.append(_problem(first.line, first.column, "InvalidObject", more, "solve those above first", ref))
        return tuple(found)

    def unknown_kind(self, obj: dict[str, Any], path: Path, line: int, column: int) -> Entry:
        """An object of a kind that is not read: somebody else's, or one of ours misspelt."""
        near, message, hint = _about_unknown(obj["apiVersion"], obj["kind"])
        place = positions(self.text, ((*path, "kind"),))[(*path, "kind")] if "kind" in obj else (line, column)
        field = "kind"
        if near is not None and near.name == obj["kind"]:
            field = "apiVersion"
            place = positions(self.text, ((*path, field),))[(*path, field)]
        ref = _ref(near, _with_namespace(near, obj)) if near is not None else None
        problem = _problem(
            *place, "UnknownKind", message, hint, ref, field=field, severity="error" if near else "warning"
        )
        return Entry(ref=ref, certain=near is None, problems=(problem,), path=path, line=line, column=column)


# --- What an object is ---------------------------------------------------------------------------------------------


def _unfit(obj: Any) -> tuple[Severity, str] | None:
    """What to say, and how loud, about something that has no kind; None when it has one."""
    if not isinstance(obj, dict):
        shape = "a list" if isinstance(obj, list) else f"the value {str(obj)[:40]!r}"
        return "error", f"The document is {shape} and no API object"
    missing = [key for key in ("apiVersion", "kind") if obj.get(key) in (None, "")]
    if len(missing) == 2:
        return "warning", "The document has neither apiVersion nor kind, so it is no API object"
    if missing:
        return "error", f"The document has no {missing[0]}"
    wrong = next((key for key in ("apiVersion", "kind") if not isinstance(obj[key], str)), None)
    return ("error", f"{wrong} must be a text, not {obj[wrong]!r}") if wrong else None


def _with_namespace(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    """The object, in the default namespace unless it names one or its kind knows none."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return obj
    if kind.namespaced and metadata.get("namespace") in (None, ""):
        return obj | {"metadata": metadata | {"namespace": DEFAULT_NAMESPACE}}
    if not kind.namespaced and "namespace" in metadata:
        return obj | {"metadata": {key: value for key, value in metadata.items() if key != "namespace"}}
    return obj


def _ref(kind: Kind, obj: dict[str, Any]) -> Ref | None:
    """Which object it is; None when it has no readable name."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace", "")
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        return None
    return Ref(kind.group, kind.name, namespace, name)


def _item_words(value: dict[str, Any]) -> dict[str, Any]:
    """What the items of a typed list, such as an HTTPRouteList, leave out."""
    if value["kind"] == "List":
        return {}
    return {"apiVersion": value.get("apiVersion"), "kind": value["kind"].removesuffix("List")}


# --- Kinds that are not read ---------------------------------------------------------------------------------------

_NEAR = 0.85


def _about_unknown(api_version: str, name: str) -> tuple[Kind | None, str, str]:
    """The kind that was probably meant (None: somebody else's), a message and a hint."""
    group, _, version = api_version.rpartition("/")
    of_group = [kind for kind in kinds.KINDS if kind.group == group]
    for kind in of_group:
        if kind.name == name:
            message = f"{name} has no version {version} that Tripylon reads"
            return kind, message, f"write `apiVersion: {kind.api_version}`"
    same_name = next((kind for kind in kinds.KINDS if kind.name == name), None)
    if same_name is not None:
        meant = same_name if get_close_matches(group, [same_name.group], 1, _NEAR) else None
        message = f"Kind {name} of {api_version} is not one that Tripylon reads"
        return meant, message, f"if you mean Tripylon's {name}, write `apiVersion: {same_name.api_version}`"
    message = f"Kind {name} of {api_version} is not one that Tripylon reads"
    lowered = {kind.name.lower(): kind for kind in of_group}
    near = get_close_matches(name.lower(), lowered, 1, _NEAR)
    if near:
        return lowered[near[0]], message, f"did you mean {lowered[near[0]].name}?"
    if group in (GATEWAY_GROUP, Backend.GROUP):
        known = ", ".join(kind.name for kind in of_group)
        return None, message, f"it is left out; kinds of {group}: {known}"
    return None, message, "it is left out"


# --- Broken documents ----------------------------------------------------------------------------------------------

_TOP = re.compile(r"^(apiVersion|kind):[ \t]*([\"']?)([\w./-]+)\2[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_METADATA = re.compile(r"^metadata:[ \t]*(?:#.*)?\r?\n((?:[ \t]+.*\n?|[ \t]*#.*\n|\r?\n)*)", re.MULTILINE)
_NAME = re.compile(r"^([ \t]+)(name|namespace):[ \t]*([\"']?)([\w.-]+)\3[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_START = re.compile(r"^[ \t]*(?=[^\s#])", re.MULTILINE)


def _broken(text: str, error: DocumentError) -> Entry:
    """A document that cannot be read; what object it probably is, is read from its lines."""
    ref = _probable_ref(text)
    problem = _problem(error.line, error.column, error.reason, error.message, error.hint, ref)
    line, column = _start(text)
    return Entry(ref=ref, certain=False, problems=(problem,), line=line, column=column)


def _probable_ref(text: str) -> Ref | None:
    words = {key: value for key, _, value in reversed(_TOP.findall(text))}
    kind = kinds.find(words.get("apiVersion", ""), words.get("kind", ""))
    block = _METADATA.search(text)
    if kind is None or block is None:
        return None
    rows = _NAME.findall(block.group(1))
    indent = min((row[0] for row in rows), key=len, default="")
    names = {row[1]: row[3] for row in rows if row[0] == indent}
    return _ref(kind, _with_namespace(kind, {"metadata": names}))


def _start(text: str) -> tuple[int, int]:
    """Line and column of the first character that is no comment."""
    match = _START.search(text)
    if match is None:
        return 1, 1
    return text.count("\n", 0, match.end()) + 1, match.end() - match.start() + 1


def _problem(
    line: int,
    column: int,
    reason: str,
    message: str,
    hint: str,
    ref: Ref | None = None,
    *,
    field: str = "",
    severity: Severity = "error",
) -> Problem:
    """A problem whose file is not known yet."""
    return Problem(
        file="",
        line=line,
        column=column,
        severity=severity,
        object=ref,
        field=field,
        reason=reason,
        message=message,
        hint=hint,
    )
