"""Text to plain values: YAML files of several documents, and JSON files, with the place of every mistake.

A file is cut at its document markers first, and each document is known by the hash of its bytes, so that whoever keeps
results by hash parses only what changed. Duplicate keys are refused, aliases cannot expand without bound, and a value
is what JSON could hold: maps with text keys, lists, text, numbers, booleans and null. Where the fast parser gives up or
a merge key (`<<`) stands, a slower one that knows YAML 1.1 gets a second chance. Read `positions.py` for field places.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import yaml
import yaml_rs

from tripylon.files.positions import first_duplicate

MAX_DEPTH = 100
"""How deeply maps and lists may nest; no API object comes near it."""

MAX_REREAD_CHARACTERS = 1_000_000
"""The slower parser reads about one megabyte a second, so longer documents get no second chance."""

MIN_REPLAYED_EVENTS = 10_000
"""Aliases may always repeat that much; beyond it, no more than the document has characters."""


class DocumentError(Exception):
    """A document cannot be read. `line` and `column` count from 1 within the document."""

    def __init__(self, reason: str, message: str, *, hint: str = "", line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column


class Document(NamedTuple):
    """The bytes between two document markers, and where they begin in the file."""

    digest: bytes
    data: bytes
    start: int
    """Offset of the first byte, from 0."""
    line: int
    """Line of the first byte, from 1."""
    column: int
    """Column of the first byte, from 1."""


def documents(data: bytes) -> tuple[Document, ...]:
    """The documents of a YAML file in order, without those of white space alone. DocumentError on another encoding."""
    text = data.removeprefix(codecs.BOM_UTF8)
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in text[:64]:
        raise DocumentError("NotUTF8", "The file is not UTF-8 text", hint="save it in the encoding UTF-8")
    whole = _Piece(text, len(data) - len(text), 1, 1)
    return tuple(
        Document(digest_of(piece.data), *piece)
        for part in _cut(whole, b"---")
        for piece in (_cut(part, b"...") if b"..." in part.data else (part,))
        if piece.data and not piece.data.isspace() and not _only_directives(piece.data)
    )


def json_document(data: bytes) -> Document:
    """A JSON file as its one document."""
    text = data.removeprefix(codecs.BOM_UTF8)
    return Document(digest_of(text), text, len(data) - len(text), 1, 1)


def digest_of(data: bytes) -> bytes:
    """What tells one document from another."""
    return blake2b(data, digest_size=16).digest()


def text_of(document: Document) -> str:
    """The document's text; DocumentError with the place of the first byte that is not UTF-8."""
    try:
        return document.data.decode()
    except UnicodeDecodeError as error:
        before = document.data[: error.start]
        raise DocumentError(
            "NotUTF8",
            f"Byte 0x{document.data[error.start]:02x} is not UTF-8 text",
            hint="save the file in the encoding UTF-8",
            line=before.count(b"\n") + 1,
            column=len(before.rpartition(b"\n")[2].decode()) + 1,
        ) from error


def parse(text: str) -> Any:
    """The value of one YAML document (None when it is empty); DocumentError when it has none."""
    if "<<" in text and re.search(r"(?:^|[\s{,])<<[ \t]*:", text):
        return parse_yaml_1_1(text)
    limits = yaml_rs.AliasLimits(max_total_replayed_events=max(MIN_REPLAYED_EVENTS, len(text)))
    try:
        value: Any = yaml_rs.loads(text, parse_datetime=False, alias_limits=limits)
    except yaml_rs.YAMLDecodeError as error:
        failure = _failure(str(error), text)
    else:
        _refuse_cycles(text)
        return plain(value, text)
    if failure.reason != "InvalidSyntax":
        raise failure
    try:
        return parse_yaml_1_1(text)
    except DocumentError:
        raise failure from None


def parse_yaml_1_1(text: str) -> Any:
    """As `parse`, by the rules of YAML 1.1 that kubectl follows: `yes` is true, `0644` is octal, `<<` merges."""
    if len(text) > MAX_REREAD_CHARACTERS:
        raise DocumentError("TooLarge", "The document is too long to be read with merge keys", hint="split it")
    loader = _Yaml11Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded_size(node, {}) > max(MIN_REPLAYED_EVENTS, len(text)):
            raise _alias_bomb()
        _refuse_duplicates(text)
        return plain(loader.construct_document(node), text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _syntax_error(error.problem or str(error), line, column) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _syntax_error(str(error), 1, 1) from error
    except RecursionError as error:
        raise _too_deep() from error
    finally:
        loader.dispose()


def says_something_else_in_yaml_1_1(text: str) -> bool:
    """Whether it may have words such as `yes` or numbers such as `0644`, which mean something else to `parse`."""
    return _YAML_1_1.search(text) is not None


def parse_json(text: str) -> Any:
    """The value of a JSON text, duplicate keys refused; DocumentError as `parse`."""
    try:
        return plain(json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_no_constant), text)
    except json.JSONDecodeError as error:
        hint = "check the commas, quotes and brackets around this place"
        raise DocumentError(
            "InvalidSyntax", f"This is no JSON: {error.msg}", hint=hint, line=error.lineno, column=error.colno
        ) from error
    except _DuplicateError as error:
        _refuse_duplicates(text)
        raise _duplicate(error.args[0], 1, 1) from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise DocumentError("InvalidSyntax", f"This is no JSON: {error}") from error


def plain(value: Any, text: str) -> Any:
    """The value of a text, with keys that are numbers or booleans as text; DocumentError where JSON has no such value.

    Short texts that stand in many documents, such as kinds and namespaces, become one object.
    """
    level, depth, odd = [value] if type(value) not in _SCALARS else [], 0, False
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                for key, each in container.items():
                    if type(each) is str:
                        if len(each) <= _SHARED_CHARACTERS:
                            container[key] = _shared(each)
                    elif type(each) not in _SCALARS:
                        below.append(each)
                    if type(key) is not str:
                        odd = True
            elif type(container) is list:
                below += [each for each in container if type(each) not in _SCALARS]
            else:
                _refuse_what_json_has_not(container, text)
        level = below
    return _with_text_keys(value) if odd else value


def _refuse_what_json_has_not(value: Any, text: str) -> None:
    """DocumentError unless it is a number."""
    if type(value) is not float:
        message = f"JSON has no value like {value!r}"
        raise DocumentError("InvalidSyntax", message, hint="write it as text in quotes")
    if not math.isfinite(value):
        raise _no_number(value, text)


@lru_cache(maxsize=4096)
def _shared(text: str) -> str:
    """The same text, as the object that was seen first."""
    return text


_SHARED_CHARACTERS = 64
_SCALARS = frozenset({str, int, bool, type(None)})
_YAML_1_1 = re.compile(
    r"(?:[:\-,\[{]\s+|[\[{])(?:y|n|yes|no|on|off|[-+]?0[0-7_]+|[-+]?0b[01_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+)"
    r"[ \t]*(?:$|[,\]}#\r])",
    re.IGNORECASE | re.MULTILINE,
)
_ALIAS = re.compile(r"(?:^|[\s\[{,])\*[^\s*/,\]}]", re.MULTILINE)
_ODD_NUMBER = re.compile(
    r"(?<![^\s\[{,:])[-+]?(?:\.(?:inf|nan)|[0-9][0-9_.]*e\+?[0-9]{3,})(?![^\s\]},])", re.IGNORECASE
)
_AFTER_MARKER = (b"", b" ", b"\t", b"\r", b"\n")
_DIRECTIVE = re.compile(rb"\s*%")
_PLACE = re.compile(r"YAML parse error at line ([0-9]+), column ([0-9]+)\n")
_HINTS = (
    ("recursion limit", "nest maps and lists less deeply; check the brackets"),
    ("mapping values are not allowed", "put text that contains ': ' in quotes, and check the indentation"),
    ("unknown anchor", "define the anchor (&name) before the alias (*name)"),
    ("unclosed", "close it"),
    ("tab", "indent with spaces, not with tabs"),
)


class _Piece(NamedTuple):
    """Some bytes and where they begin, as in `Document`."""

    data: bytes
    start: int
    line: int
    column: int


def _cut(whole: _Piece, marker: bytes) -> list[_Piece]:
    """The parts of `whole` around lines that begin with `marker` and go on with white space or nothing."""
    first, *others = whole.data.split(b"\n" + marker)
    _, start, line, column = whole
    if column == 1 and first.startswith(marker) and first[len(marker) : len(marker) + 1] in _AFTER_MARKER:
        first = first[len(marker) :]
        start, column = start + len(marker), 1 + len(marker)
    parts: list[list[bytes]] = [[first]]
    for piece in others:
        if piece[:1] in _AFTER_MARKER:
            parts.append([piece])
        else:
            parts[-1].append(piece)
    found = []
    for part in parts:
        data = part[0] if len(part) == 1 else (b"\n" + marker).join(part)
        if part is not parts[-1]:
            data += b"\n"  # The end of its last line, which the text of a block scalar may end with.
        found.append(_Piece(data, start, line, column))
        start, line, column = start + len(data) + len(marker), line + data.count(b"\n"), 1 + len(marker)
    return found


def _only_directives(piece: bytes) -> bool:
    """Whether it is the `%YAML` line before a marker, which tells us nothing."""
    return (
        b"%" in piece
        and _DIRECTIVE.match(piece) is not None
        and all(row[:1] in (b"%", b"#", b"") for row in piece.split(b"\n"))
    )


def _failure(message: str, text: str) -> DocumentError:
    """What the fast parser says, as an error of ours."""
    if message.startswith("alias "):
        return _alias_bomb()
    if message.startswith("duplicate mapping key"):
        key, line, column = first_duplicate(text) or (message.partition(": ")[2].strip("'"), 1, 1)
        return _duplicate(key, line, column)
    place = _PLACE.match(message)
    line, column = (int(place.group(1)), int(place.group(2))) if place else (1, 1)
    return _syntax_error(message.rpartition("\n")[2], line, column)


def _syntax_error(problem: str, line: int, column: int) -> DocumentError:
    hint = next((hint for words, hint in _HINTS if words in problem), "check the indentation, colons and quotes")
    return DocumentError("InvalidSyntax", f"This is no YAML: {problem}", hint=hint, line=line, column=column)


def _alias_bomb() -> DocumentError:
    return DocumentError(
        "AliasBomb",
        "Aliases (*name) repeat too much of the document",
        hint="write the values out, or split the document",
    )


def _too_deep() -> DocumentError:
    return DocumentError("TooDeep", f"Maps and lists nest more than {MAX_DEPTH} deep", hint="check the brackets")


def _duplicate(key: str, line: int, column: int) -> DocumentError:
    return DocumentError(
        "DuplicateKey", f"Key `{key}` is given twice in the same map", hint="remove one", line=line, column=column
    )


def _refuse_cycles(text: str) -> None:
    """DocumentError at the first alias that stands within what it names: the fast parser makes it null.

    Documents too long for the slower parser are not looked at.
    """
    if "&" not in text or "*" not in text or len(text) > MAX_REREAD_CHARACTERS or not _ALIAS.search(text):
        return
    count, path, named = 0, [0], dict[str, int]()
    try:
        for event in yaml.parse(text, Loader=_Yaml11Loader):
            if isinstance(event, yaml.AliasEvent):
                if named.get(str(event.anchor)) in path:
                    raise _cycle(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                path.pop()
            elif isinstance(event, yaml.NodeEvent):
                count += 1
                if event.anchor:
                    named[event.anchor] = count
                if isinstance(event, yaml.CollectionStartEvent):
                    path.append(count)
    except yaml.YAMLError:
        return  # The fast parser knows better, as it has read it.


def _cycle(alias: yaml.AliasEvent) -> DocumentError:
    mark = alias.start_mark
    return DocumentError(
        "AliasCycle",
        f"Alias `*{alias.anchor}` stands within what it names, which would have no end",
        hint="write the value out",
        line=mark.line + 1 if mark else 1,
        column=mark.column + 1 if mark else 1,
    )


def _no_number(number: float, text: str) -> DocumentError:
    """For a number that is infinite or none, with its place where it is written as one."""
    found = _ODD_NUMBER.search(text)
    before = text[: found.start()] if found else ""
    return DocumentError(
        "InvalidSyntax",
        f"JSON has no number like {found.group() if found else number}",
        hint="write an ordinary number, or put the text in quotes",
        line=before.count("\n") + 1,
        column=len(before.rpartition("\n")[2]) + 1,
    )


def _refuse_duplicates(text: str) -> None:
    """DocumentError at the first key that its map had already."""
    if duplicate := first_duplicate(text):
        raise _duplicate(*duplicate)


class _Yaml11Loader(yaml.CSafeLoader):
    """PyYAML's safe loader in C, which leaves dates as the text that they are."""


_Yaml11Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many nodes there are when every alias is written out; without end when a node contains itself."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = MAX_REREAD_CHARACTERS * MIN_REPLAYED_EVENTS  # What a node that contains itself meets.
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_expanded_size(key, sizes) + _expanded_size(value, sizes) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_size(item, sizes) for item in node.value)
    sizes[id(node)] = size
    return size


class _DuplicateError(Exception):
    """A JSON object has a key twice."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateError(next(key for key in keys if keys.count(key) > 1))
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _with_text_keys(value: Any) -> Any:
    """A copy whose keys are text, written as JSON writes the values."""
    if isinstance(value, list):
        return [_with_text_keys(each) for each in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, each in value.items():
        if type(key) not in _SCALARS and type(key) is not float:
            hint = "put text that begins with '{' or '[' in quotes; of a template, read what it renders"
            raise DocumentError("InvalidSyntax", "A map or a list cannot be a key", hint=hint)
        text = key if isinstance(key, str) else msgspec.json.encode(key).decode()
        if text in made:
            raise _duplicate(text, 1, 1)
        made[text] = _with_text_keys(each)
    return made
