"""What is to be looked at, and when: each object at most once, the earliest first."""

from __future__ import annotations

import heapq
import itertools

from tripylon.values import Ref


class Marks:
    """Marked objects with the times at which they are due, on any one clock."""

    def __init__(self) -> None:
        self._due: dict[Ref, float] = {}
        self._order: list[tuple[float, int, Ref]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """How many objects are marked."""
        return len(self._due)

    def add(self, ref: Ref, at: float) -> None:
        """Marks an object; the earlier of two times counts."""
        known = self._due.get(ref)
        if known is None or at < known:
            self._due[ref] = at
            heapq.heappush(self._order, (at, next(self._numbers), ref))

    def take(self, now: float) -> Ref | None:
        """The next object that is due, no longer marked; None: none is."""
        at = self.next_at
        if at is None or at > now:
            return None
        _, _, ref = heapq.heappop(self._order)
        del self._due[ref]
        return ref

    @property
    def next_at(self) -> float | None:
        """When the next object is due; None: none is marked."""
        while self._order:
            at, _, ref = self._order[0]
            if self._due.get(ref) == at:
                return at
            heapq.heappop(self._order)
        return None

    def clear(self) -> None:
        """Forgets all."""
        self._due.clear()
        self._order.clear()
