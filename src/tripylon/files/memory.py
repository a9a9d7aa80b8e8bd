"""What served last, kept across restarts: a document that is broken when we start has its last good version too.

A plain JSON file in the state directory, mode 0600, as it holds Secrets. It is read once, at the start, and counts only
for the same files and folders; an object that can be read from its file is never taken from here. The invariant: a
memory that is damaged or of another version is no memory, and never keeps us from starting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from tripylon.api.kinds import DecodeError, decode_json
from tripylon.api.meta import Resource

_log = structlog.get_logger("tripylon.files")
_VERSION = 1


class Remembered(msgspec.Struct, frozen=True):
    """One object as it last served."""

    file: str
    """Path of the file that held it, as it was given."""
    line: int
    """Where its document began in the file."""
    column: int
    object: msgspec.Raw
    """The object as JSON, content of files included."""


class Memory(msgspec.Struct, frozen=True):
    """All objects that served."""

    version: int
    roots: tuple[str, ...]
    """The files and folders that were watched, as absolute paths."""
    objects: tuple[Remembered, ...]


def encode(roots: Sequence[Path], objects: Iterable[tuple[Resource, Path, int, int]]) -> Iterator[bytes]:
    """What is to be kept, piece by piece: each object with its file, line and column."""
    encoder = msgspec.json.Encoder()
    yield encoder.encode(Memory(_VERSION, _absolute(roots), ())).removesuffix(b"]}")
    for number, (resource, file, line, column) in enumerate(objects):
        yield b",\n" if number else b""
        yield encoder.encode(Remembered(str(file), line, column, msgspec.Raw(encoder.encode(resource))))
    yield b"]}"


def read(path: Path, roots: Sequence[Path]) -> tuple[tuple[Resource, Remembered], ...]:
    """What was kept at `path` for these files and folders; nothing when there is none or it cannot be used."""
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("what served last cannot be read; broken documents have no last version", error=str(error))
        return ()
    if memory.version != _VERSION or memory.roots != _absolute(roots):
        return ()
    found: list[tuple[Resource, Remembered]] = []
    for each in memory.objects:
        try:
            found.append((decode_json(bytes(each.object)), each))
        except DecodeError as error:
            _log.warning("an object that served last cannot be read", file=each.file, error=str(error))
    return tuple(found)


def _absolute(roots: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(root.absolute()) for root in roots)
