"""A clock of the event loop that does not notice when the machine stalls.

Where product, server and test share one loop, a stall holds up all of them alike, and yet their timers would all be due
after it: a lease would have expired, a peer been silent. The invariant: what the loop waits for on purpose counts in
full, anything else between two looks at the clock counts for a moment at most.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

_MOMENT_S = 0.005


class StallFreeClock:
    """The seconds of a loop without what it was held up for; made within that loop."""

    def __init__(self, loop: Any) -> None:
        self._now_s: float = loop.time()
        self._looked_s = time.monotonic()
        self._select = loop._selector.select

    def time(self) -> float:
        """Seconds; in place of the loop's `time`."""
        looked_s = time.monotonic()
        self._now_s += min(looked_s - self._looked_s, _MOMENT_S)
        self._looked_s = looked_s
        return self._now_s

    def select(self, timeout: float | None = None) -> Any:
        """Waits for sockets and timers; in place of the selector's `select`."""
        self.time()
        found = self._select(timeout)
        looked_s = time.monotonic()
        waited_s = looked_s - self._looked_s
        self._now_s += waited_s if timeout is None else min(waited_s, max(timeout, 0.0))
        self._looked_s = looked_s
        return found


def without_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the running loop such a clock until the test ends."""
    loop: Any = asyncio.get_running_loop()
    clock = StallFreeClock(loop)
    monkeypatch.setattr(loop, "time", clock.time)
    monkeypatch.setattr(loop._selector, "select", clock.select)
