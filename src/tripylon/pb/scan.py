"""Finds the protobuf descriptors that are linked into an Envoy binary; pure, bytes in and bytes out.

Every generated C++ protobuf file carries its `FileDescriptorProto` in serialised form, uncompressed and in one piece.
It starts with the tag of its name, and its fields stand in ascending order; so a file reaches from its name to the
first tag that may not follow. The invariant of `descriptor_set`: what it returns is closed under imports and lists a
file after everything that it imports. Read `descriptors.py` next, which keeps the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from tripylon.pb.framing import Buffer, read_varint

ROOTS = ("envoy/", "xds/", "udpa/", "validate/", "cel/", "google/protobuf/")
"""Folders of files that are kept, together with all that they import."""

# Tag and length of field 1 (name), the name, and after it the tag of package, dependency, message_type, enum_type,
# options or syntax, one of which always comes next. All but the first byte is looked at and not consumed, so that bytes
# that merely look like a start cannot hide a true one behind them.
_START = re.compile(rb"\n(?=([\x07-\x7f])([a-z][\w./-]{0,120}?\.proto)[\x12\x1a\x22\x2a\x42\x62])")

_LENGTH_DELIMITED = 2
_SYNTAX = 12
_LAST_SYNTAXES = (b"proto2", b"proto3")
_SYNTAXES = (*_LAST_SYNTAXES, b"editions")  # only this one is followed by a field: the edition
_WIRE_TYPES = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0, 15: 2}
_REPEATED = frozenset({3, 4, 5, 6, 7, 10, 11, 15})
_MAX_TRIES = 4


class NoDescriptorsError(ValueError):
    """The bytes hold no descriptors of Envoy's API, or one of the files that they import is missing."""


def descriptor_set(binary: Buffer) -> bytes:
    """A serialised `FileDescriptorSet` of all files under `ROOTS` and what they import, imports first.

    Raises `NoDescriptorsError` when the buffer is no Envoy or was stripped of its descriptors.
    """
    files = _longest_by_name(binary)
    ordered = _imports_first(files)
    if not any(file.name.startswith("envoy/") for file in ordered):
        raise NoDescriptorsError("it contains no descriptors of Envoy's API")
    return FileDescriptorSet(file=ordered).SerializeToString(deterministic=True)


def _longest_by_name(binary: Buffer) -> dict[str, FileDescriptorProto]:
    """Descriptors by file name. A name may occur twice (a mention in a table, a truncated copy): the longest wins."""
    found: dict[str, tuple[int, FileDescriptorProto]] = {}
    for match in _START.finditer(binary):
        if match[1][0] != len(match[2]):
            continue
        start, name = match.start(), match[2].decode()
        for end in _possible_ends(binary, start)[: -_MAX_TRIES - 1 : -1]:
            if name in found and end - start <= found[name][0]:
                break
            file = _decode(binary[start:end])
            if file is not None:
                found[name] = (end - start, file)
                break
    return {name: file for name, (_, file) in found.items()}


def _possible_ends(binary: Buffer, start: int) -> list[int]:
    """Ends of the fields that may legally follow one another from `start`, ascending; the last is the likeliest."""
    ends: list[int] = []
    position, last = start, 0
    while position < len(binary):
        number, wire_type = binary[position] >> 3, binary[position] & 7
        if number < last or (number == last and number not in _REPEATED) or _WIRE_TYPES.get(number) != wire_type:
            break
        try:
            value, position = read_varint(binary, position + 1)
        except (IndexError, ValueError):
            break
        if wire_type == _LENGTH_DELIMITED:
            position += value
        if position > len(binary):
            break
        syntax = binary[position - value : position] if number == _SYNTAX else None
        if syntax is not None and syntax not in _SYNTAXES:
            break
        ends.append(position)
        if syntax in _LAST_SYNTAXES:
            break
        last = number
    return ends


def _decode(data: bytes) -> FileDescriptorProto | None:
    try:
        return FileDescriptorProto.FromString(data)
    except DecodeError:
        return None


def _imports_first(files: Mapping[str, FileDescriptorProto]) -> tuple[FileDescriptorProto, ...]:
    """The files under `ROOTS` with all that they import, each after its imports, the same order at every run."""
    ordered: dict[str, FileDescriptorProto] = {}

    def visit(name: str, imported_by: str) -> None:
        if name in ordered:
            return
        if name not in files:
            raise NoDescriptorsError(f"the descriptor of {name}, which {imported_by} imports, is missing")
        for dependency in files[name].dependency:
            visit(dependency, name)
        ordered[name] = files[name]

    for name in sorted(files):
        if name.startswith(ROOTS):
            visit(name, name)
    return tuple(ordered.values())
