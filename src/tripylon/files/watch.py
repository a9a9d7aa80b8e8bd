"""Ticks that say "look again": the system's file notifications, joined into few, and a slow beat in case one got lost.

A tick says nothing of what changed; `source.py` finds out, and an unneeded tick costs a walk through the folders.
The first change is told within some hundredths of a second. Folders are watched whole; of single files the folder that
holds them, since editors and ConfigMap mounts replace files instead of writing them.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from tripylon.files.listing import is_ignored, is_wanted


class Targets(msgspec.Struct, frozen=True):
    """What to watch."""

    roots: tuple[Path, ...]
    """Files, and folders with all below them; they need not exist."""
    files: frozenset[Path] = frozenset()
    """Further files, anywhere; links are followed to what they point at."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast things go, in seconds."""

    join: float = 0.02
    """How long to wait, after a change, for further ones to be told together."""
    join_at_most: float = 0.1
    """How long changes may follow one another until they are told all the same."""
    replace: float = 0.05
    """How long to wait, after a file vanished or was emptied, for what replaces it."""
    beat: float = 10.0
    """How often to tick though nothing was noticed."""
    poll: float = 1.0
    """The same, where the system does not notify."""


Reason = Literal["start", "change", "beat"]


class Tick(msgspec.Struct, frozen=True):
    """Look again."""

    reason: Reason
    note: str = ""
    """What the user should know about watching, said once; usually empty."""


class Plan(msgspec.Struct, frozen=True):
    """What is handed to the system, with the identity of each folder: a folder made anew has to be watched anew."""

    whole: frozenset[tuple[str, int, int]] = frozenset()
    """Folders to watch with all below them."""
    flat: frozenset[tuple[str, int, int]] = frozenset()
    """Folders to watch by themselves."""
    interesting: frozenset[str] = frozenset()
    """Paths in the latter ones whose changes count."""


class Watcher(Protocol):
    """What the watching library gives us."""

    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: Any) -> Any:
        """Wait for changes: a set of (1 added, 2 modified, 3 deleted; path), or a word when there are none."""

    def close(self) -> None:
        """Stop."""


Counts = Callable[[int, str], bool]
"""Whether a change (added 1, modified 2, deleted 3) of a path is worth a tick."""


async def watch(targets: Callable[[], Targets], pace: Pace | None = None) -> AsyncIterator[Tick]:
    """Ticks without end, the first one at once. `targets` is asked after each, in a thread, as what is watched may
    change.

    While the consumer is busy, changes are joined into one tick. Where the system cannot notify (no inotify, its limits
    reached), there are ticks at a steady pace instead, and the first of them says so.
    """
    pace = pace or Pace()
    changed = asyncio.Event()
    session = _Session(Plan(), pace, changed)
    reason: Reason | None = "start"
    try:
        while True:
            plan = await asyncio.to_thread(lambda: make_plan(targets()))
            if plan != session.plan:
                await session.stop()
                session = _Session(plan, pace, changed)
                await session.start()
                reason = reason or "change"
            if reason is None:
                reason = await _next(changed, pace.beat if session.notified else pace.poll)
                continue  # What is to be watched may have been made anew: look before telling.
            changed.clear()
            yield Tick(reason, session.take_note())
            reason = None
    finally:
        await session.stop()


async def _next(changed: asyncio.Event, seconds: float) -> Reason:
    """Wait for a change, but no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
            return "change"
    return "beat"


def make_plan(targets: Targets) -> Plan:
    """The folders to watch, as they are now."""
    whole, flat, interesting = set(), set(), set()
    for path in (*targets.roots, *targets.files):
        place = Path(os.path.abspath(path))  # noqa: PTH100 - links must stay what they are
        if path in targets.roots and place.is_dir():
            whole.add(str(place))
        for each in _ways(place):
            parent = each.parent
            while not parent.is_dir() and parent != parent.parent:
                each, parent = parent, parent.parent  # noqa: PLW2901 - watch for the outermost folder that is missing
            flat.add(str(parent))
            interesting.add(str(each))
    return Plan(_identified(whole), _identified(flat), frozenset(interesting))


def _ways(place: Path) -> Iterable[Path]:
    """The path itself and, if it is a link, what it leads to."""
    yield place
    if place.is_symlink():
        with suppress(OSError, RuntimeError):
            yield place.resolve()


def _identified(folders: Iterable[str]) -> frozenset[tuple[str, int, int]]:
    found = set()
    for folder in folders:
        with suppress(OSError):
            state = Path(folder).stat()
            found.add((folder, state.st_dev, state.st_ino))
    return frozenset(found)


class _Session:
    """The watching of one plan, in threads that end with `stop`."""

    def __init__(self, plan: Plan, pace: Pace, changed: asyncio.Event) -> None:
        self.plan = plan
        self.pace = pace
        self.changed = changed
        self.ended = threading.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.notified = True
        self.note = ""

    async def start(self) -> None:
        """Begin, so that no change from now on is missed."""
        watchers: list[tuple[Watcher, Counts]] = []
        try:
            for folders, recursive, counts in (
                (self.plan.whole, True, self.counts_in_whole),
                (self.plan.flat, False, self.counts_in_flat),
            ):
                if folders:
                    paths = sorted(path for path, _, _ in folders)
                    watchers.append((await asyncio.to_thread(_watcher, paths, recursive=recursive), counts))
        except (OSError, RuntimeError) as error:
            for watcher, _ in watchers:
                watcher.close()
            self.give_up(error)
            return
        loop = asyncio.get_running_loop()
        self.tasks = [asyncio.create_task(asyncio.to_thread(self.follow, *each, loop)) for each in watchers]

    async def stop(self) -> None:
        """End the threads."""
        self.ended.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def give_up(self, error: Exception) -> None:
        """Go on without notifications."""
        self.notified = False
        self.note = f"The system does not notify of changed files ({error}); looking every {self.pace.poll:g} s instead"

    def take_note(self) -> str:
        """What is to be told, once."""
        note, self.note = self.note, ""
        return note

    def follow(self, watcher: Watcher, counts: Counts, loop: asyncio.AbstractEventLoop) -> None:
        """Pass on changes until the end."""
        join, at_most = round(self.pace.join * 1000), round(self.pace.join_at_most * 1000)
        try:
            while not self.ended.is_set():
                changes = watcher.watch(at_most, join, 60_000, self.ended)
                if isinstance(changes, set) and (told := [each for each in changes if counts(*each)]):
                    if any(_in_between(path) for _, path in told):
                        self.ended.wait(self.pace.replace)
                    loop.call_soon_threadsafe(self.changed.set)
        except (OSError, RuntimeError) as error:
            self.give_up(error)
            loop.call_soon_threadsafe(self.changed.set)
        finally:
            watcher.close()

    def counts_in_whole(self, change: int, path: str) -> bool:
        """Whether a change below a watched folder counts: of YAML and JSON files, of folders, of links."""
        root = max((root for root, _, _ in self.plan.whole if path.startswith(root)), key=len, default="")
        steps = Path(path[len(root) :].lstrip(os.sep)).parts or ("",)
        if any(is_ignored(step) and not step.startswith("..") for step in steps):
            return path in self.plan.interesting
        return change != _MODIFIED or is_wanted(steps[-1]) or path in self.plan.interesting

    def counts_in_flat(self, change: int, path: str) -> bool:
        """Whether a change beside a watched file counts: of the file, of what its mount swaps."""
        name = path.rpartition(os.sep)[2]
        return path in self.plan.interesting or (name.startswith("..") and change != _MODIFIED)


_MODIFIED = 2


def _in_between(path: str) -> bool:
    """Whether somebody may be about to write the file anew: it is gone, or empty."""
    try:
        state = os.stat(path)  # noqa: PTH116 - the path is a text
    except OSError:
        return True
    return stat.S_ISREG(state.st_mode) and state.st_size == 0


def _watcher(paths: list[str], *, recursive: bool) -> Watcher:
    """Watch these paths; OSError when the system cannot."""
    from watchfiles._rust_notify import RustNotify

    made: Watcher = RustNotify(paths, False, False, 300, recursive, True)
    return made
