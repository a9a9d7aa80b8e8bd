"""Changes that wait to be read: at most one for each object, bounded in bytes.

While the reader is busy, changes of one object are merged into its last, so that a burst costs one decoding. Writers
wait when there is too much, but never for an object that waits already.
"""

from __future__ import annotations

import asyncio

import msgspec

from tripylon.api.kinds import Kind
from tripylon.values import Ref


class Change(msgspec.Struct, frozen=True, gc=False):
    """The last that is known of an object."""

    kind: Kind
    raw: bytes | None
    """The object in JSON; None: it is gone."""


class Inbox:
    """First in, first out, by object."""

    def __init__(self, *, max_bytes: int = 16 << 20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: dict[Ref, Change] = {}
        self._room = asyncio.Event()
        self.stirred = asyncio.Event()
        """Set when something came, or when `stir` was called; the reader clears it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def stir(self) -> None:
        """Let the reader look, though nothing came."""
        self.stirred.set()

    async def put(self, kind: Kind, ref: Ref, raw: bytes | None) -> None:
        """Take in a change; waits for room."""
        while self._bytes > self._max_bytes and ref not in self._waiting:
            self._room.clear()
            await self._room.wait()
        self.put_now(kind, ref, raw)

    def put_now(self, kind: Kind, ref: Ref, raw: bytes | None) -> None:
        """Take in a change, room or not."""
        before = self._waiting.get(ref)
        self._waiting[ref] = Change(kind, raw)
        self._bytes += _size(raw) - (_size(before.raw) if before else 0)
        self.stirred.set()

    def take(self, most: int) -> list[tuple[Ref, Change]]:
        """The oldest changes, no more than `most`."""
        taken = [(ref, self._waiting.pop(ref)) for ref in _first(self._waiting, most)]
        self._bytes -= sum(_size(change.raw) for _, change in taken)
        self._room.set()
        return taken


def _first(waiting: dict[Ref, Change], most: int) -> list[Ref]:
    return [ref for ref, _ in zip(waiting, range(most), strict=False)]


def _size(raw: bytes | None) -> int:
    """Bytes that a change holds, with what an empty one costs."""
    return 200 + len(raw or b"")
