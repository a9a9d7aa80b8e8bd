"""Which files there are: folders are walked to their ends, within limits, and what editors leave behind is left out.

Symbolic links are followed, as ConfigMap mounts are made of them; each real file and folder is visited once, so that
links in circles and folders given twice do no harm. Read `source.py` for what happens with the files.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tripylon.files.problems import Problem

SUFFIXES = (".yaml", ".yml", ".json")
"""Endings of the files that are read out of folders. A file that is named itself may end as it likes."""

_TEMPORARY = ("*~", "#*#", "*.tmp", "*.swp", "*.swx", "*.bak", "4913", "*___jb_*___")
_IS_TEMPORARY = re.compile("|".join(map(fnmatch.translate, _TEMPORARY)))


class Limits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How much is read at most."""

    max_file_bytes: int = 50_000_000
    """Size of one file in bytes; a larger one is refused."""
    max_files: int = 20_000
    """Number of files; those behind in the order of their names are left out."""
    max_entries: int = 500_000
    """Number of names looked at while walking through folders, so that a walk through a whole disk ends."""


class Listing(msgspec.Struct, frozen=True):
    """The files found."""

    files: dict[Path, os.stat_result]
    """Path and state of each regular file, in the order of the walk."""
    problems: tuple[Problem, ...]
    """What could not be walked through."""
    unsure: tuple[Path, ...]
    """Files, or folders with all below them, whose absence from `files` does not mean that they are gone."""


def list_files(roots: Iterable[Path], limits: Limits) -> Listing:
    """All files of the given files and folders."""
    walk = _Walk(limits)
    for root in roots:
        walk.root(root)
    return Listing(walk.files, tuple(walk.problems), tuple(walk.unsure))


def is_wanted(name: str) -> bool:
    """Whether a file of this name inside of a folder is read: YAML or JSON, neither hidden nor temporary."""
    return name.endswith(SUFFIXES) and not is_ignored(name)


def is_ignored(name: str) -> bool:
    """Whether a name is hidden or one that editors give to their temporary files."""
    return name.startswith(".") or _IS_TEMPORARY.match(name) is not None


class _Walk:
    """One walk through all roots."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.files: dict[Path, os.stat_result] = {}
        self.problems: list[Problem] = []
        self.unsure: list[Path] = []
        self.visited: set[tuple[int, int]] = set()
        self.entries = 0

    def root(self, root: Path) -> None:
        """A file or folder that the user named."""
        try:
            state = root.stat()
        except FileNotFoundError:
            hint = "create it, or name another path; what it held before goes on serving"
            self.give_up(root, "NotFound", "There is no such file or folder", hint)
        except OSError as error:
            self.unreadable(root, error)
        else:
            self.one(root, state)
            if not stat.S_ISDIR(state.st_mode) and not stat.S_ISREG(state.st_mode):
                self.give_up(root, "NotAFile", "This is neither a file nor a folder", "name a YAML file or a folder")

    def one(self, path: Path, state: os.stat_result) -> None:
        """A file or folder that exists, unless it was visited already."""
        identity = (state.st_dev, state.st_ino)
        if identity in self.visited:
            return
        self.visited.add(identity)
        if stat.S_ISDIR(state.st_mode):
            self.folder(path)
        elif stat.S_ISREG(state.st_mode):
            if len(self.files) < self.limits.max_files:
                self.files[path] = state
            else:
                self.unsure.append(path)
                self.too_many(path.parent, f"more than {self.limits.max_files} files")

    def folder(self, folder: Path) -> None:
        """The names in a folder, in order."""
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if not is_ignored(entry.name))
        except OSError as error:
            self.unreadable(folder, error)
            return
        for name in names:
            self.entries += 1
            if self.entries > self.limits.max_entries:
                self.unsure.append(folder)
                self.too_many(folder, f"more than {self.limits.max_entries} names to look at")
                return
            path = folder / name
            try:
                state = path.stat()
            except FileNotFoundError:
                continue  # Gone since the folder was read, or a link that leads nowhere.
            except OSError as error:
                if is_wanted(name):
                    self.unreadable(path, error)
                continue
            if stat.S_ISDIR(state.st_mode) or is_wanted(name):
                self.one(path, state)

    def too_many(self, folder: Path, what: str) -> None:
        """Say once that a limit is reached."""
        if not any(problem.reason == "TooManyFiles" for problem in self.problems):
            hint = "name the folders with your objects instead of one that holds everything"
            self.report(folder, "TooManyFiles", f"There are {what}; the rest is not read", hint)

    def unreadable(self, path: Path, error: OSError) -> None:
        """Something that the system does not let us read."""
        self.give_up(path, *unreadable(error))

    def give_up(self, path: Path, reason: str, message: str, hint: str) -> None:
        """Report a path, about which nothing is known now."""
        self.unsure.append(path)
        self.report(path, reason, message, hint)

    def report(self, path: Path, reason: str, message: str, hint: str) -> None:
        """Add a problem with a whole file or folder."""
        self.problems.append(Problem(file=str(path), reason=reason, message=message, hint=hint))


def unreadable(error: OSError) -> tuple[str, str, str]:
    """Reason, message and hint for what the system does not let us read."""
    if isinstance(error, PermissionError):
        return "PermissionDenied", "You may not read this", "change its permissions, or run as a user who may read it"
    return "Unreadable", f"This cannot be read: {error.strerror or error}", "check the path and the disk"
