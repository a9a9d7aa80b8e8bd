"""Files and folders of YAML as a source of objects: each scan says what to put, what to delete, and what is wrong.

The invariant: an object whose document is broken goes on serving as it last was, and nothing else suffers from it.
A scan costs little when little changed: files are read again only when their state on disk changed, documents are
parsed again only when their bytes did. `listing.py` finds the files, `yaml.py` cuts and parses them, `objects.py`
judges each document; here everything comes together in `merge`, which is pure.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tripylon.api.meta import Resource
from tripylon.api.problems import Path as Place
from tripylon.files import memory
from tripylon.files.listing import Limits, list_files, unreadable
from tripylon.files.objects import Entry, read_document
from tripylon.files.positions import field_path, positions
from tripylon.files.problems import Problem
from tripylon.files.secrets import Contents, FileError, Holder, is_from_files, with_files
from tripylon.files.state import write_pieces
from tripylon.files.watch import Targets
from tripylon.files.yaml import DocumentError, digest_of, documents, json_document
from tripylon.values import Ref

RACY_NS = 100_000_000
"""A file that changed so shortly before it was read may change again without its time stamp showing it (0.1 s)."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan found."""

    put: tuple[Resource, ...]
    """Objects that are new or differ from the last scan."""
    delete: tuple[Ref, ...]
    """Objects that are gone."""
    problems: tuple[Problem, ...]
    """All that is wrong now, not only what is new; in order of file and line."""


class Part(msgspec.Struct, frozen=True):
    """One document of a file: where it begins (offset from 0, line and column from 1), its size, what it says."""

    digest: bytes
    start: int
    size: int
    line: int
    column: int
    entries: tuple[Entry, ...]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was last read."""

    path: Path
    stamp: tuple[int, ...] | None
    """State on disk; None: read it again at the next scan."""
    parts: tuple[Part, ...] = ()
    problem: Problem | None = None
    """Why the file as a whole could not be read; what it held before goes on serving."""


class Served(msgspec.Struct, frozen=True):
    """An object that serves, and where its document is."""

    resource: Resource
    file: Path
    part: Part
    entry: Entry


class Merged(msgspec.Struct, frozen=True):
    """All files together."""

    served: dict[Ref, Served]
    problems: list[Problem]


class FileSource:
    """The objects of some files and folders. Nothing is read before the first `scan`.

    `kept` is where an earlier run wrote down what served last, and where `keep` does. None: a document that is broken
    at the first scan has no last version.
    """

    def __init__(self, paths: Sequence[Path], *, limits: Limits | None = None, kept: Path | None = None) -> None:
        self._roots = tuple(paths)
        self._limits = limits or Limits()
        self._kept = kept
        self._files: dict[Path, File] = {}
        self._served: dict[Ref, Served] = {}
        self._started = False
        self._contents = Contents()
        self._places: dict[tuple[bytes, Place], tuple[int, int]] = {}

    def scan(self) -> Changes:
        """Look at the disk and say what changed since the last scan. May take seconds when much is new."""
        first, self._started = not self._started, True
        listing = list_files(self._roots, self._limits)
        files = {path: self._file(path, state) for path, state in listing.files.items()}
        for path, known in self._files.items():
            if path not in files and any(path.is_relative_to(unsure) for unsure in listing.unsure):
                files[path] = known
        self._files = {path: file for path in sorted(files) if (file := files[path]) is not None}
        self._contents.begin()
        self._places.clear()
        merged = merge(self._files.values(), self._served, self._contents)
        if first and merged.problems and (remembered := self._remembered()):
            self._contents.begin()
            merged = merge(self._files.values(), remembered, self._contents)
        before, self._served = self._served, merged.served
        return Changes(
            put=tuple(
                now.resource
                for ref, now in merged.served.items()
                if (old := before.get(ref)) is None
                or (old.resource is not now.resource and old.resource != now.resource)
            ),
            delete=tuple(ref for ref in before if ref not in merged.served),
            problems=tuple(
                sorted([*listing.problems, *merged.problems], key=lambda each: (each.file, each.line, each.column))
            ),
        )

    def locate(self, ref: Ref, field: str = "") -> tuple[str, int, int] | None:
        """File, line and column of an object, or of a field such as `spec.rules[0]`; None when it is not served.

        Where the file changed since the last scan, the place of the whole object as it was.
        """
        served = self._served.get(ref)
        if served is None:
            return None
        part, entry = served.part, served.entry
        line, column = entry.line, entry.column
        if field:
            path = (*entry.path, *field_path(field))
            known = self._places.get((part.digest, path))
            if known is None and (text := _text(served)) is not None:
                known = self._places[part.digest, path] = positions(text, (path,))[path]
            line, column = known or (line, column)
        return (str(served.file), *_in_file(part, line, column))

    def keep(self) -> None:
        """Write down what serves now, for a later run. OSError when that is not possible."""
        if self._kept is not None:
            served = self._served.values()
            objects = ((each.resource, each.file, each.part.line, each.part.column) for each in served)
            write_pieces(self._kept, memory.encode(self._roots, objects))

    def watched(self) -> Targets:
        """What to watch so that no change is missed: the given paths, files of annotations, targets of links."""
        files = {*self._contents.used, *(path for path in self._files if path.is_symlink())}
        return Targets(roots=self._roots, files=frozenset(files))

    def _remembered(self) -> dict[Ref, Served]:
        """What served in the last run."""
        if self._kept is None:
            return {}
        return {
            resource.ref: Served(resource, Path(each.file), Part(b"", 0, 0, each.line, each.column, ()), Entry())
            for resource, each in memory.read(self._kept, self._roots)
        }

    def _file(self, path: Path, state: os.stat_result) -> File | None:
        """The file, read again if it changed; None when it has gone meanwhile."""
        known = self._files.get(path)
        if known is not None and known.stamp is not None and known.stamp == _stamp(state):
            return known
        return read_file(path, known, self._limits)


def read_file(path: Path, known: File | None, limits: Limits) -> File | None:
    """The file as it is now, taking over from `known` what documents say that did not change; None: there is none."""
    try:
        data, stamp = _read(path, limits.max_file_bytes)
        is_json = path.suffix == ".json"
        found = (json_document(data),) if is_json and data.strip() else documents(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason, message, hint = unreadable(error)
        if error.errno == errno.EFBIG:
            reason, message, hint = "TooLarge", str(error.strerror), "split it into several files"
        return File(path=path, stamp=None, problem=_of_file(path, reason, message, hint))
    except DocumentError as error:
        return File(path=path, stamp=stamp, problem=_of_file(path, error.reason, error.message, error.hint))
    entries = {part.digest: part.entries for part in known.parts} if known else {}
    parts = []
    for document in found:
        said = entries.get(document.digest)
        if said is None:
            said = entries[document.digest] = read_document(document, is_json=is_json)
        place = (document.start, len(document.data), document.line, document.column)
        parts.append(Part(document.digest, *place, said))
    return File(path=path, stamp=stamp, parts=tuple(parts))


def merge(files: Iterable[File], before: dict[Ref, Served], contents: Contents) -> Merged:
    """What serves, of files in order: each object's first valid document, else the object as it served before."""
    merged = Merged({}, [])
    broken: list[tuple[Ref, File, Part, Entry]] = []
    unclear: set[Path] = set()
    for file in files:
        if file.problem is not None:
            merged.problems.append(file.problem)
            unclear.add(file.path)
        for part, entry in ((each, entry) for each in file.parts for entry in each.entries):
            if entry.problems:
                merged.problems.extend(_placed(problem, file.path, part) for problem in entry.problems)
            if entry.resource is not None:
                if not _serve(merged, entry.resource, file, part, entry, contents):
                    broken.append((entry.resource.ref, file, part, entry))
            elif entry.ref is not None and (entry.certain or _was_here(before.get(entry.ref), file)):
                broken.append((entry.ref, file, part, entry))
            elif not entry.certain:
                unclear.add(file.path)
    for ref, file, part, entry in broken:
        if (last := before.get(ref)) is not None and ref not in merged.served:
            merged.served[ref] = Served(last.resource, file.path, part, entry)
    for ref, last in before.items():
        if last.file in unclear and ref not in merged.served:
            merged.served[ref] = last
    return merged


def _serve(merged: Merged, resource: Resource, file: File, part: Part, entry: Entry, contents: Contents) -> bool:
    """Let a valid object serve, unless another document holds it already; False when files it names are missing."""
    ref = entry.ref or resource.ref
    first = merged.served.get(ref)
    if first is not None:
        first_file, line, _ = (str(first.file), *_in_file(first.part, first.entry.line, first.entry.column))
        message = f"{ref} is also in {first_file}, line {line}, which is the one that serves"
        problem = _of_entry(entry, ref, "DuplicateObject", message, "remove or rename one of the two")
        merged.problems.append(_placed(problem, file.path, part))
        return True
    if isinstance(resource, Holder) and is_from_files(resource):
        try:
            resource = with_files(resource, file.path.parent, contents)
        except FileError as error:
            field = f'metadata.annotations["{error.annotation}"]'
            line, column = dict(entry.annotations).get(error.annotation, (entry.line, entry.column))
            problem = _of_entry(entry, ref, "FileNotUsable", error.message, error.hint, field=field)
            problem = msgspec.structs.replace(problem, line=line, column=column)
            merged.problems.append(_placed(problem, file.path, part))
            return False
    merged.served[ref] = Served(resource, file.path, part, entry)
    return True


def _was_here(last: Served | None, file: File) -> bool:
    """Whether the object served out of that file."""
    return last is not None and last.file == file.path


def _read(path: Path, max_bytes: int) -> tuple[bytes, tuple[int, ...] | None]:
    """The file's bytes and its stamp; OSError with EFBIG when it is too large."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise FileNotFoundError(path)
        for _ in range(_READINGS):
            file.seek(0)
            data = b"" if state.st_size > max_bytes else file.read(max_bytes + 1)
            before, state = state, os.fstat(file.fileno())
            if _stamp(before) == _stamp(state):
                break  # Nobody wrote while we read.
    size = max(state.st_size, len(data))
    if size > max_bytes:
        limit = f"{max_bytes / 1e6:.1f} MB"
        raise OSError(errno.EFBIG, f"The file is {size / 1e6:.1f} MB large; files of more than {limit} are not read")
    racy = time.time_ns() - state.st_mtime_ns < RACY_NS or _stamp(before) != _stamp(state)
    return data, None if racy else _stamp(state)


_READINGS = 3


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    """What differs when a file was written, replaced or made readable."""
    return (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev)


def _text(served: Served) -> str | None:
    """The text of the object's document; None when the file changed."""
    try:
        with served.file.open("rb") as file:
            file.seek(served.part.start)
            data = file.read(served.part.size)
    except OSError:
        return None
    return data.decode(errors="replace") if digest_of(data) == served.part.digest else None


def _in_file(part: Part, line: int, column: int) -> tuple[int, int]:
    """Line and column in the file, of a place in the document."""
    return part.line + line - 1, column + (part.column - 1 if line == 1 else 0)


def _placed(problem: Problem, file: Path, part: Part) -> Problem:
    line, column = _in_file(part, problem.line, problem.column)
    return msgspec.structs.replace(problem, file=str(file), line=line, column=column)


def _of_file(path: Path, reason: str, message: str, hint: str) -> Problem:
    return Problem(file=str(path), reason=reason, message=message, hint=hint)


def _of_entry(entry: Entry, ref: Ref, reason: str, message: str, hint: str, *, field: str = "") -> Problem:
    return Problem(
        file="",
        line=entry.line,
        column=entry.column,
        object=ref,
        field=field,
        reason=reason,
        message=message,
        hint=hint,
    )
