"""One change among many routes: until Envoy answers by it, what it costs us, and what the same costs without a graph.

The control plane runs in this process so that its steps can be timed; Envoy and the client are processes of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.bench import gateways
from tests.bench.live import Live, running
from tests.bench.measures import Measure, Statistic, measure, spread
from tests.bench.table import Table

from tripylon.api.kinds import decode_json
from tripylon.api.routes import HTTPRoute

SIZES = (1_000, 5_000, 20_000)
_TIMES = 100
_NEW = 40
_COSTS = 200
_REBUILDS = 5
_BURSTS = 5
_BURST = 500
_BURST_AT = 5_000
_SAMPLED = 20
_CHANGED_AIMS = {1_000: (0.0015, 0.003), 5_000: (0.0025, 0.005), 20_000: (0.005, 0.010)}
_NEW_AIMS = {1_000: 0.003, 5_000: 0.004, 20_000: 0.006}
_BURST_AIM_S = 0.120
_COST_AIM_S = 0.0005


class Step(msgspec.Struct, frozen=True):
    """One change; all in seconds, the last two from the moment at which the engine was given the objects."""

    built: float
    published: float
    acknowledged: float
    answered: float


class Result(msgspec.Struct, frozen=True):
    """Everything that was measured at one size."""

    changed: list[Step]
    new: list[Step]
    cost: list[float]
    """Processor seconds of this process for a change: decoding, graph, emission, sending, reading the answer."""
    rebuilt: list[float]
    """Seconds until the answer when everything is built anew for the change."""
    burst: list[float]
    """Seconds until all of many new routes answer; empty where that is not measured."""


async def measured(folder: Path, count: int, backend_port: int, layout: str) -> Result:
    """All changes at one size, one after the other; each finds the gateway at rest."""
    async with running(folder, count, backend_port, layout) as live:
        changed = [await _changed(live, number * 37 % count) for number in range(_TIMES)]
        new = [await _new(live, count + number, backend_port) for number in range(_NEW)]
        cost = await _costs(live, count)
        paths = _paths(count)
        rebuilt = [await _rebuilt(live, number, paths) for number in range(_REBUILDS)]
        bursts = _BURSTS if count == _BURST_AT else 0
        burst = [await _burst(live, count + 1_000 * (1 + number), backend_port) for number in range(bursts)]
        return Result(changed, new, cost, rebuilt, burst)


async def _changed(live: Live, number: int) -> Step:
    """Moves one route to another path, so that the client's path is answered with 404."""
    route = live.routes[number]
    new = gateways.changed(route, "/moved")
    await live.expect(route.spec.hostnames, 404)
    began_s = time.monotonic()
    applied = live.engine.apply([new])
    await live.live(applied.flight)
    acknowledged_s = time.monotonic()
    answered_s = await live.answered()
    return Step(applied.build_s, applied.publish_s, acknowledged_s - began_s, answered_s - began_s)


async def _new(live: Live, number: int, backend_port: int) -> Step:
    """Adds a host with its route, its Service and its EndpointSlice in one go."""
    objects = gateways.whole(number, backend_port)
    await live.expect([gateways.host(number)], 200)
    began_s = time.monotonic()
    applied = live.engine.apply(objects)
    await live.live(applied.flight)
    acknowledged_s = time.monotonic()
    answered_s = await live.answered()
    return Step(applied.build_s, applied.publish_s, acknowledged_s - began_s, answered_s - began_s)


async def _costs(live: Live, count: int) -> list[float]:
    """Processor time of changes that come as bytes, with nobody asking meanwhile."""
    texts = [gateways.changed_json(live.routes[number * 41 % count], "/cost") for number in range(_COSTS)]
    spent = []
    for text in texts:
        began_s = time.process_time()
        applied = live.engine.apply([decode_json(text)])
        await live.live(applied.flight)
        spent.append(time.process_time() - began_s)
    return spent


def _paths(count: int) -> dict[int, str]:
    """The paths that routes were moved to until now."""
    moved = {number * 37 % count: "/moved" for number in range(_TIMES)}
    return moved | {number * 41 % count: "/cost" for number in range(_COSTS)}


async def _rebuilt(live: Live, number: int, paths: dict[int, str]) -> float:
    """The change of `_changed`, by a control plane that keeps nothing between two changes."""
    place = next(each for each in range(number * 53 + 1, len(live.routes)) if each not in paths)
    paths[place] = "/moved"
    routes = [gateways.changed(each, paths[n]) if n in paths else each for n, each in enumerate(live.routes)]
    others = [each for each in live.objects if not isinstance(each, HTTPRoute)]
    await live.expect(live.routes[place].spec.hostnames, 404)
    began_s = time.monotonic()
    await live.live(live.publish_rebuilt([*others, *routes]))
    answered_s = await live.answered()
    live.engine.apply([routes[place]])
    return answered_s - began_s


async def _burst(live: Live, first: int, backend_port: int) -> float:
    """Adds many hosts with their routes and Services at once; the client asks some of them, the last one too."""
    numbers = range(first, first + _BURST)
    objects = [each for number in numbers for each in gateways.whole(number, backend_port)]
    asked = [gateways.host(number) for number in (*numbers[:: _BURST // _SAMPLED], numbers[-1])]
    await live.expect(asked, 200)
    began_s = time.monotonic()
    applied = await live.gateway.take(objects)
    answered_s = await live.answered()
    await live.live(applied.flight)
    await live.expect([gateways.host(number) for number in numbers], 200)
    await live.answered()
    live.engine.apply((), [each.ref for each in objects])
    await live.live(live.group.flight)
    return answered_s - began_s


def table(folder: Path, backend_port: int, layout: str) -> tuple[Table, ...]:
    """All sizes."""
    results = {count: asyncio.run(measured(folder / f"change-{count}", count, backend_port, layout)) for count in SIZES}
    return _latencies(results), _costs_table(results), _bursts(results)


def _latencies(results: dict[int, Result]) -> Table:
    rows, kept = [], []
    for what, aims in (("changed route", _CHANGED_AIMS), ("new route and Service", _NEW_AIMS)):
        for count, result in results.items():
            steps = result.changed if aims is _CHANGED_AIMS else result.new
            bounds = _CHANGED_AIMS[count] if aims is _CHANGED_AIMS else (_NEW_AIMS[count],)
            each = [
                _of(f"{what}, {count:,} hosts: {step}", [getattr(one, step) for one in steps])
                for step in ("built", "published", "acknowledged")
            ]
            each.append(_of(f"{what}, {count:,} hosts: answered", [one.answered for one in steps], bounds))
            rows.append((what, f"{count:,}", *map(spread, each)))
            kept += each
    for count, result in results.items():
        kept.append(_of(f"changed route, {count:,} hosts, everything rebuilt: answered", result.rebuilt))
        rows.append(("changed route, everything rebuilt", f"{count:,}", "", "", "", spread(kept[-1])))
    return Table(
        "One change (median / 90 % / 99 % / max)",
        ("change", "hosts", "built", "published", "acknowledged", "answered by it"),
        tuple(rows),
        "Each change after 20 ms of rest. The last two begin when the engine is given the objects and end at Envoy's "
        "acknowledgement and at the first answer by the change. Rebuilt: the same engine and the same Envoy, but the "
        "engine is fed from nothing for every change, as a control plane does that keeps no graph; only what differs "
        "is sent, here too (least / median / most).",
        tuple(kept),
    )


def _costs_table(results: dict[int, Result]) -> Table:
    kept = [
        measure(f"our processor time for a change, {count:,} hosts", "s", result.cost, aims=[("median", _COST_AIM_S)])
        for count, result in results.items()
    ]
    rows = tuple((f"{count:,}", spread(each)) for count, each in zip(results, kept, strict=True))
    return Table(
        "Processor time of the control plane for one change (median / 90 % / 99 % / max)",
        ("hosts", "per change"),
        rows,
        f"{_COSTS} changes, one after the other: decoding the JSON, graph, emission, writing to Envoy's stream and "
        "reading its acknowledgement.",
        tuple(kept),
    )


def _bursts(results: dict[int, Result]) -> Table:
    burst = _of(f"burst of {_BURST} routes into {_BURST_AT:,}: answered", results[_BURST_AT].burst, (_BURST_AIM_S,))
    return Table(
        f"{_BURST} new routes with their Services at once, among {_BURST_AT:,}",
        ("until they answer",),
        ((spread(burst),),),
        f"Taken in at once, as out of files, until {_SAMPLED} of them, the last one included, have answered 200; "
        "that all others do is then checked.",
        (burst,),
    )


def _of(name: str, values: Sequence[float], bounds: tuple[float, ...] = ()) -> Measure:
    statistics: tuple[Statistic, ...] = ("median", "p99")
    return measure(name, "s", values, aims=zip(statistics, bounds, strict=False))
