"""Large clusters: a replica with many objects of one kind, what a change costs it, and what many at once cost it.

The way of a change is that of a replica that leads (`tests/laws/replica.py`), without a network and without an Envoy:
from the line of a watch by way of the graph to the response to one simulated proxy for each Gateway and the patches of
status. Each case is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec
from tests.bench import large_worlds as worlds
from tests.bench.large_worlds import World
from tests.bench.measures import Measure, measure, spread
from tests.bench.memory import resident_bytes
from tests.bench.table import Table, megabytes
from tests.kube.statuses import Object
from tests.laws.replica import Replica

from tripylon import log
from tripylon.loop import uncollected
from tripylon.xds.snapshot import LDS

_CHANGES, _BURST = 10, 500
_PER_SECOND, _SECONDS = 1_000, 5
_LIMIT_S = 60.0
"""After so long no further kind of change is measured."""

Kind = Literal["gateways", "routes", "sets", "endpoints", "certificates"]


class Case(msgspec.Struct, frozen=True):
    """What there is much of, and how much."""

    kind: Kind
    count: int

    @property
    def name(self) -> str:
        """For people."""
        return {
            "gateways": f"{self.count:,} Gateways of 5 routes",
            "routes": f"{self.count:,} routes",
            "sets": f"{self.count:,} ListenerSets of {worlds.PER_SET} listeners",
            "endpoints": f"{self.count:,} endpoints",
            "certificates": f"{self.count:,} certificates",
        }[self.kind]

    def world(self) -> World:
        """The objects and the changes."""
        match self.kind:
            case "gateways":
                return worlds.gateways(self.count, 5 * self.count)
            case "routes":
                return worlds.routes(self.count)
            case "sets":
                return worlds.listener_sets(self.count)
            case "endpoints":
                return worlds.endpoints(self.count)
            case "certificates":
                return worlds.certificates(self.count)


CASES = (
    Case("gateways", 1_000),
    Case("routes", 5_000),
    Case("routes", 40_000),
    Case("sets", 2_500),
    Case("endpoints", 100_000),
    Case("certificates", 5_000),
)


class Cost(msgspec.Struct, frozen=True):
    """What a case took: seconds, bytes; of each kind of change all values."""

    built_s: float
    bytes_more: float
    """Resident memory that came with the objects."""
    listener_bytes: int
    """Of all Listener resources."""
    wall_s: dict[str, list[float]]
    cpu_s: dict[str, list[float]]
    burst_s: float
    stream_lag_s: list[float]
    """Of a steady stream of changes, from the moment at which each is due until it is on the wire; or nothing."""
    stream_cpu_s: float
    """Processor time for each change of the stream."""


async def measured(case: Case) -> Cost:
    """One case, from nothing."""
    began_s = time.monotonic()
    world = case.world()
    objects, replica = list(world.objects), Replica()
    gc.collect()
    before = resident_bytes(os.getpid())
    lines = [replica.line(each, "ADDED") for each in objects]
    built_s = time.monotonic()
    with uncollected():
        await replica.start(lines)
    built_s = time.monotonic() - built_s
    del lines
    gc.collect()
    more = resident_bytes(os.getpid()) - before
    await replica.lead(each for each in objects if each["kind"] in ("GatewayClass", "Gateway"))
    gc.freeze()
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for name, change in world.changes.items():
        for number in range(_CHANGES + 1):
            taken = await _taken(replica, *change(number))
            if number:  # The first one finds nothing prepared.
                wall.setdefault(name, []).append(taken[0])
                cpu.setdefault(name, []).append(taken[1])
            if time.monotonic() - began_s > _LIMIT_S:
                break
    burst_s, _ = await _taken(replica, world.burst(_BURST), [])
    lags, each_s = await _stream(replica, world) if case.kind == "endpoints" else ([], 0.0)
    groups = replica.engine.gateways.groups()
    size = sum(len(resource.body) for group in groups for resource in group.resources(LDS).values())
    return Cost(built_s, more, size, wall, cpu, burst_s, lags, each_s)


async def _taken(replica: Replica, put: list[Object], gone: list[Object]) -> tuple[float, float]:
    """Seconds and processor seconds until a change is on the wire and all status is written."""
    lines = [*(replica.line(each) for each in put), *(replica.line(each, "DELETED") for each in gone)]
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await replica.take(lines)
    return time.perf_counter() - began_s, time.process_time() - cpu_s


async def _stream(replica: Replica, world: World) -> tuple[list[float], float]:
    """So many changes a second for some seconds; those that are due at one moment are taken together."""
    (change,) = world.changes.values()
    lines = [replica.line(change(1_000 + number)[0][0]) for number in range(_PER_SECOND * _SECONDS)]
    lags: list[float] = []
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while len(lags) < len(lines):
        due = min(len(lines), int((time.perf_counter() - began_s) * _PER_SECOND))
        if due == len(lags):
            await asyncio.sleep(len(lags) / _PER_SECOND + began_s - time.perf_counter() + 1 / _PER_SECOND)
            continue
        await replica.take(lines[len(lags) : due])
        now_s = time.perf_counter() - began_s
        lags += [now_s - number / _PER_SECOND for number in range(len(lags), due)]
    return lags, (time.process_time() - cpu_s) / len(lines)


# --- Tables --------------------------------------------------------------------------------------------------------


def table(_folder: Path, _backend_port: int) -> tuple[Table, ...]:
    """All cases."""
    costs = {case.name: _apart(case) for case in CASES}
    return _sizes(costs), _changes(costs), _streams(costs)


def _apart(case: Case) -> Cost:
    words = [sys.executable, "-m", "tests.bench.large", "--case", msgspec.json.encode(case).decode()]
    return msgspec.json.decode(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout, type=Cost)


def _sizes(costs: dict[str, Cost]) -> Table:
    rows: list[tuple[str, ...]] = []
    kept: list[Measure] = []
    for name, cost in costs.items():
        found = (
            measure(f"large, {name}: built", "s", [cost.built_s]),
            measure(f"large, {name}: memory", "bytes", [cost.bytes_more]),
            measure(f"large, {name}: burst", "s", [cost.burst_s]),
        )
        rows.append((name, *map(spread, found), megabytes(cost.listener_bytes)))
        kept += found
    return Table(
        "Large clusters",
        ("what there is", "read, built, sent", "memory", f"a burst of {_BURST} objects", "Listeners (MB)"),
        tuple(rows),
        "From the lines of the API server's lists to everything sent to a simulated proxy for each Gateway; the burst "
        "until all of it is sent and all status is written. In one process, with no network.",
        tuple(kept),
    )


def _changes(costs: dict[str, Cost]) -> Table:
    rows: list[tuple[str, ...]] = []
    kept: list[Measure] = []
    for name, cost in costs.items():
        for what, values in cost.wall_s.items():
            found = (
                measure(f"large, {name}: {what}", "s", values),
                measure(f"large, {name}: {what}, processor time", "s", cost.cpu_s[what]),
            )
            rows.append((name, what, *map(spread, found)))
            kept += found
    return Table(
        "One change in large clusters (least / median / most)",
        ("what there is", "change", "until sent and status written", "processor time"),
        tuple(rows),
        measures=tuple(kept),
    )


def _streams(costs: dict[str, Cost]) -> Table:
    rows: list[tuple[str, ...]] = []
    kept: list[Measure] = []
    for name, cost in costs.items():
        if cost.stream_lag_s:
            found = (
                measure(f"large, {name}: steady changes, until sent", "s", cost.stream_lag_s),
                measure(f"large, {name}: steady changes, processor time each", "s", [cost.stream_cpu_s]),
            )
            kept += found
            rows.append((name, f"{_PER_SECOND:,} for {_SECONDS} s", *map(spread, found)))
    return Table(
        "Endpoints that change all the time (median / 90 % / 99 % / max)",
        ("what there is", "changes a second", "from due until sent", "processor time for each"),
        tuple(rows),
        "A change is an EndpointSlice of which one address has moved.",
        tuple(kept),
    )


def main() -> None:
    """One case in this process, as JSON; or all, some or smaller ones as tables."""
    parser = argparse.ArgumentParser(prog="large", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="KIND", help="which kinds; else all")
    parser.add_argument("--scale", type=float, default=1.0, help="take so much of each number")
    parser.add_argument("--case", type=lambda text: msgspec.json.decode(text, type=Case), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        log.configure("error", "text")
        sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measured(asked.case))))
        return
    cases = [Case(case.kind, int(case.count * asked.scale)) for case in CASES]
    costs = {case.name: _apart(case) for case in cases if case.kind in asked.names or not asked.names}
    for each in (_sizes(costs), _changes(costs), _streams(costs)):
        if each.rows:
            print(each.text(), end="\n\n")


if __name__ == "__main__":
    main()
