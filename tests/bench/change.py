"""One changed route among many: in the graph and emission, until Envoy acknowledged it, until Envoy answers by it.

The control plane runs in this process so that its steps can be timed; Envoy and the client are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from tests.bench import gateways
from tests.bench.probe import Probe, probing
from tests.bench.start import Client, free_port
from tests.bench.table import Table, milliseconds

from tripylon.api.meta import Resource
from tripylon.api.routes import HTTPRoute
from tripylon.app import Standalone
from tripylon.files.state import open_state
from tripylon.pb.descriptors import envoy_binary
from tripylon.settings import Settings
from tripylon.xds.server import XdsServer

_LIVE_LIMIT_S = 60.0
_ROW = 200


class Result(msgspec.Struct, frozen=True):
    """Changes one at a time, each when everything has come to rest, and seconds of the graph in a row of changes."""

    alone: list[Change]
    in_a_row: list[float]


class Change(msgspec.Struct, frozen=True):
    """One change; all in seconds, the last two from the moment at which the engine was given the object."""

    built: float
    published: float
    acknowledged: float
    answered: float


@contextlib.asynccontextmanager
async def serving(folder: Path, objects: tuple[Resource, ...]) -> AsyncIterator[Standalone]:
    """A gateway in this process, with a real Envoy that serves all of it."""
    settings = Settings(paths=(), bind="127.0.0.1", admin=None, state=folder, concurrency=1, access_log="off")
    with open_state(settings.state) as state:
        gateway = Standalone(settings, objects, state, envoy_binary())
        gateway.load()
        server = XdsServer(lambda _: gateway.group)
        await server.start_unix(state.ads_socket)
        try:
            await gateway.envoy.start()
            assert await gateway.group.live(gateway.group.flight, timeout_s=_LIVE_LIMIT_S)
            gateway.engine.rest()
            yield gateway
        finally:
            await gateway.envoy.drain_and_stop(0.0)
            await server.stop()


async def measure(folder: Path, count: int, backend_port: int, times: int) -> Result:
    """So many changes, each of another route, among `count` routes."""
    port = free_port()
    objects = gateways.objects(folder / "objects", count, port, backend_port)
    routes = [each for each in objects if isinstance(each, HTTPRoute)]
    async with serving(folder / "state", objects) as gateway:
        await asyncio.to_thread(Client(port).wait, gateways.host(count - 1))
        with probing(port) as probe:
            alone = [await _change(gateway, probe, routes[number * 37 % count]) for number in range(times)]
        row = [gateways.changed(routes[number * 41 % count], "/row") for number in range(_ROW)]
        return Result(alone, [gateway.engine.apply([each]).build_s for each in row])


async def _change(gateway: Standalone, probe: Probe, route: HTTPRoute) -> Change:
    """Moves one route to another path, so that the client's path is answered with 404."""
    new = gateways.changed(route, "/moved")
    await asyncio.to_thread(probe.expect, route.spec.hostnames[0], "/", 404)
    await asyncio.sleep(0.02)
    began_s = time.monotonic()
    applied = gateway.engine.apply([new])
    assert await gateway.group.live(applied.flight, timeout_s=_LIVE_LIMIT_S)
    acknowledged_s = time.monotonic()
    answered_s = await asyncio.to_thread(probe.seen)
    return Change(applied.build_s, applied.publish_s, acknowledged_s - began_s, answered_s - began_s)


def table(folder: Path, backend_port: int) -> Table:
    """The changes as a table of medians."""
    rows = []
    for count in (1_000, 5_000, 20_000):
        result = asyncio.run(measure(folder / f"change-{count}", count, backend_port, 30))
        medians = (
            statistics.median(result.in_a_row),
            statistics.median(change.built for change in result.alone),
            statistics.median(change.published for change in result.alone),
            statistics.median(change.acknowledged for change in result.alone),
            statistics.median(change.answered for change in result.alone),
        )
        rows.append((f"{count:,}", *map(milliseconds, medians)))
    return Table(
        "One changed route (milliseconds, medians of 30)",
        ("routes", "graph and emission, in a row", "the same alone", "publish", "acknowledged", "answered by it"),
        tuple(rows),
        f"In a row: each of {_ROW} changes one after the other. Alone: each after 20 ms of rest, when the processor's "
        "caches hold something else. The last two begin when the engine is given the changed object and end at Envoy's "
        "acknowledgement and at the first answer by the change; what grows with the number of routes is the time of "
        "Envoy, which rebuilds the routing table of the port.",
    )
