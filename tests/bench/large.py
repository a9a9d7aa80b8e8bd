"""Large clusters: a replica with many objects of one kind, what a change costs it, and what many at once cost it.

The way of a change is that of a replica that leads (`tests/laws/replica.py`), without a network:
from the line of a watch by way of the graph to the response to one simulated proxy for each Gateway and the patches of
status. One case has a real Envoy. Each is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import msgspec
from tests.bench import large_worlds as worlds
from tests.bench.large_worlds import World
from tests.bench.live import LIVE_LIMIT_S, serving
from tests.bench.measures import Measure, measure, spread
from tests.bench.memory import resident_bytes
from tests.bench.start import free_port
from tests.bench.table import Table, megabytes
from tests.kube.statuses import Object
from tests.laws.replica import Replica

from tripylon import log
from tripylon.api.kinds import decode_json
from tripylon.loop import uncollected
from tripylon.settings import Settings
from tripylon.xds.snapshot import LDS

_MOST_CHANGES, _LEAST_CHANGES, _CHANGES_S = 20, 3, 3.0
"""So many changes of a kind are made, or fewer if they take long."""
_BURST = 500
_PER_SECOND, _SECONDS = 1_000, 5

Kind = Literal["gateways", "routes", "sets", "endpoints", "certificates", "envoy"]


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
            "envoy": f"{self.count:,} ListenerSets of {worlds.PER_SET} listeners, with an Envoy",
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
            case "envoy":
                return worlds.listener_sets(self.count, (free_port(), free_port()))


CASES = (
    Case("gateways", 1_000),
    Case("routes", 5_000),
    Case("routes", 40_000),
    Case("sets", 2_500),
    Case("endpoints", 100_000),
    Case("certificates", 5_000),
    Case("envoy", 100),
)


class Cost(msgspec.Struct, frozen=True):
    """What a case took: seconds, bytes; of each kind of change all values."""

    built_s: float
    built_cpu_s: float
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
    envoy_bytes: int = 0
    """Resident memory of the Envoy, where there is one."""


async def measured(case: Case) -> Cost:
    """One case, from nothing."""
    world = case.world()
    objects, replica = list(world.objects), Replica()
    gc.collect()
    before = resident_bytes(os.getpid())
    lines = [replica.line(each, "ADDED") for each in objects]
    began_s, cpu_s = time.monotonic(), time.process_time()
    with uncollected():
        await replica.start(lines)
    built = time.monotonic() - began_s, time.process_time() - cpu_s
    del lines
    gc.collect()
    more = resident_bytes(os.getpid()) - before
    await replica.lead(each for each in objects if each["kind"] in ("GatewayClass", "Gateway"))
    gc.freeze()
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for name, change in world.changes.items():
        await _taken(replica, *change(0))  # The first one finds nothing prepared.
        taken = [each async for each in _many(change, lambda put, gone: _taken(replica, put, gone))]
        wall[name], cpu[name] = [each[0] for each in taken], [each[1] for each in taken]
    burst_s, _ = await _taken(replica, world.burst(_BURST), [])
    lags, each_s = await _stream(replica, world) if case.kind == "endpoints" else ([], 0.0)
    groups = replica.engine.gateways.groups()
    size = sum(len(resource.body) for group in groups for resource in group.resources(LDS).values())
    return Cost(*built, more, size, wall, cpu, burst_s, lags, each_s)


async def _many(
    change: worlds.Change, take: Callable[[list[Object], list[Object]], Awaitable[tuple[float, float]]]
) -> AsyncIterator[tuple[float, float]]:
    """What changes of a kind take, one after the other."""
    began_s = time.monotonic()
    for number in range(1, _MOST_CHANGES + 1):
        if number > _LEAST_CHANGES and time.monotonic() - began_s > _CHANGES_S:
            return
        yield await take(*change(number))


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


# --- With an Envoy -------------------------------------------------------------------------------------------------


async def _live(case: Case, folder: Path) -> Cost:
    """The same with an Envoy that acknowledges; standalone, so without status."""
    world = case.world()
    objects = tuple(decode_json(msgspec.json.encode(each)) for each in world.objects)
    settings = Settings(paths=(), bind="127.0.0.1", admin=None, state=folder / "state", concurrency=1, access_log="off")
    began_s, cpu_s = time.monotonic(), time.process_time()
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    async with serving(settings, objects) as gateway:
        built = time.monotonic() - began_s, time.process_time() - cpu_s

        async def take(put: list[Object], gone: list[Object]) -> tuple[float, float]:
            there = [decode_json(msgspec.json.encode(each)) for each in put]
            left = [decode_json(msgspec.json.encode(each)).ref for each in gone]
            began_s, cpu_s = time.perf_counter(), time.process_time()
            applied = gateway.engine.apply(there, left)
            assert await gateway.group.live(applied.flight, timeout_s=LIVE_LIMIT_S)
            return time.perf_counter() - began_s, time.process_time() - cpu_s

        for name, change in world.changes.items():
            taken = [each async for each in _many(change, take)]
            wall[name], cpu[name] = [each[0] for each in taken], [each[1] for each in taken]
        burst_s, _ = await take(world.burst(_BURST), [])
        size = sum(len(resource.body) for resource in gateway.group.resources(LDS).values())
        pid = gateway.envoy.pid
        assert pid is not None
        envoy = resident_bytes(pid)
    return Cost(*built, resident_bytes(os.getpid()), size, wall, cpu, burst_s, [], 0.0, envoy)


# --- Tables --------------------------------------------------------------------------------------------------------


def table(_folder: Path, _backend_port: int) -> tuple[Table, ...]:
    """All cases."""
    costs = {case.name: _apart(case) for case in CASES}
    return _sizes(costs), _changes(costs), _streams(costs)


def _apart(case: Case) -> Cost:
    words = [sys.executable, "-m", "tests.bench.large", "--case", msgspec.json.encode(case).decode()]
    return msgspec.json.decode(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout, type=Cost)


def _here(case: Case) -> Cost:
    if case.kind != "envoy":
        return asyncio.run(measured(case))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return asyncio.run(_live(case, Path(folder)))


def _sizes(costs: dict[str, Cost]) -> Table:
    rows: list[tuple[str, ...]] = []
    kept: list[Measure] = []
    for name, cost in costs.items():
        found = (
            measure(f"large, {name}: built", "s", [cost.built_s]),
            measure(f"large, {name}: built, processor time", "s", [cost.built_cpu_s]),
            measure(f"large, {name}: memory", "bytes", [cost.bytes_more]),
            measure(f"large, {name}: burst", "s", [cost.burst_s]),
        )
        envoy = measure(f"large, {name}: memory of Envoy", "bytes", [cost.envoy_bytes]) if cost.envoy_bytes else None
        listeners = megabytes(cost.listener_bytes) if cost.listener_bytes >= 1e6 else ""
        rows.append((name, *map(spread, found), listeners, spread(envoy) if envoy else ""))
        kept += (*found, envoy) if envoy else found
    return Table(
        "Large clusters",
        (
            "what there is",
            "read, built, sent",
            "processor time",
            "memory",
            f"a burst of {_BURST} objects",
            "Listeners (MB)",
            "memory of Envoy",
        ),
        tuple(rows),
        "From the lines of the API server's lists to everything sent to a simulated proxy for each Gateway; the burst "
        "until all of it is sent and all status is written. In one process, with no network. Memory is what came with "
        "the objects. The last line is a standalone gateway: until its Envoy has acknowledged, and all its memory.",
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
        "One change in large clusters (median / 90 % / 99 % / max)",
        ("what there is", "change", "until sent and status written", "processor time"),
        tuple(rows),
        "Up to 20 of each kind, fewer if they take long; of a few, least / median / most. With an Envoy: until it has "
        "acknowledged.",
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
        sys.stdout.buffer.write(msgspec.json.encode(_here(asked.case)))
        return
    cases = [Case(case.kind, int(case.count * asked.scale)) for case in CASES]
    costs = {case.name: _apart(case) for case in cases if case.kind in asked.names or not asked.names}
    for each in (_sizes(costs), _changes(costs), _streams(costs)):
        if each.rows:
            print(each.text(), end="\n\n")


if __name__ == "__main__":
    main()
