"""`make soak`: half an hour of changes under load, in which nothing may fail and nothing may grow.

Twenty changes a second run under 500 requests a second by HTTP and 500 by HTTPS, for `SOAK_SECONDS` (1,800 unless told
otherwise). Each minute prints a line; in the pause behind it memory and open files are read. It fails when an answer
was wrong, or when memory or open files of the control plane or of Envoy are in the last third more than 5 % above what
they were in the second one; in the first one caches fill.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec
from tests.bench.memory import resident_bytes
from tests.live.churn import DEPLOYMENTS, Churning, loaded
from tests.live.fleet import Fleet

_RATES = {"http": 500.0, "https": 500.0}
_WINDOW_S = 60.0
_WINDOWS = 9
"""At least so many, shorter ones when the time is short: a third of them is compared with another third."""
_GROWTH = 1.05
_FILES = 8
"""Open files more or less that mean nothing: connections that close a little later."""


class Use(msgspec.Struct, frozen=True):
    """What a process holds."""

    resident_bytes: float
    files: float


def use(pid: int) -> Use:
    """What a process holds now."""
    return Use(resident_bytes(pid), len(list(Path(f"/proc/{pid}/fd").iterdir())))


def grown(uses: list[Use]) -> list[str]:
    """What grew from the second third to the last one: medians, so that one moment does not decide."""
    third = len(uses) // 3
    middle, last = uses[third : 2 * third], uses[-third:]
    found = []
    for what, slack in (("resident_bytes", 0), ("files", _FILES)):
        before = median(getattr(one, what) for one in middle)
        after = median(getattr(one, what) for one in last)
        if after > before * _GROWTH + slack:
            found.append(f"{what} grew from {before:,.0f} to {after:,.0f}")
    return found


def main(seconds: float, layout: str) -> int:
    """Runs and prints; 1 when something failed or grew."""
    window_s = min(_WINDOW_S, seconds / _WINDOWS)
    uses: dict[str, list[Use]] = {"control plane": [], "Envoy": []}
    bad: list[str] = []
    requests = changes = 0
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        folder = Path(place)
        with Fleet(folder, DEPLOYMENTS) as fleet, Churning(folder / "churn", fleet, layout=layout) as churning:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s - window_s / 2:
                found = loaded(churning, folder, rates=_RATES, seconds=window_s)
                time.sleep(min(2.0, window_s / 5))
                requests += found.requests
                changes += sum(found.done.kinds.values())
                bad += found.wrong
                for name, pid in (("control plane", churning.up.pid), ("Envoy", churning.up.envoy_pid)):
                    uses[name].append(use(pid))
                held = ", ".join(
                    f"{name} {of[-1].resident_bytes / 1e6:,.1f} MB, {of[-1].files} files" for name, of in uses.items()
                )
                print(f"{requests:,} requests, {changes:,} changes, {len(bad)} wrong; {held}", flush=True)
    bad += [f"{name}: {what}" for name, of in uses.items() for what in grown(of)]
    print("\n".join([*bad[:20], f"{'failed' if bad else 'nothing failed, nothing grew'}"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(float(os.environ.get("SOAK_SECONDS") or 1800), os.environ.get("SOAK_LAYOUT", "")))
