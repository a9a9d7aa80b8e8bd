"""A gateway in the process of the benchmark, with a real Envoy, so that each step of a change can be timed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.bench import gateways, layouts
from tests.bench.probe import Probe, probing
from tests.bench.start import Client, free_port

from tripylon.api.meta import Resource
from tripylon.api.routes import HTTPRoute
from tripylon.app import Standalone, emit_options, model_options
from tripylon.files.state import open_state
from tripylon.loop import Engine
from tripylon.pb.descriptors import envoy_binary
from tripylon.settings import Settings
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import TYPES

LIVE_LIMIT_S = 60.0


class Live:
    """A running gateway with `count` routes, everything it was given, and a client that watches an answer."""

    def __init__(self, gateway: Standalone, settings: Settings, objects: tuple[Resource, ...], probe: Probe) -> None:
        self.gateway = gateway
        self.engine = gateway.engine
        self.group = gateway.group
        self.objects = objects
        self.routes = [each for each in objects if isinstance(each, HTTPRoute)]
        self.probe = probe
        self._settings = settings

    async def live(self, flight: int) -> None:
        """Waits until Envoy has acknowledged a flight."""
        assert await self.group.live(flight, timeout_s=LIVE_LIMIT_S)

    async def expect(self, hosts: Sequence[str], status: int) -> None:
        """The client asks from now on, in a process of its own; then everything comes to rest."""
        await asyncio.to_thread(self.probe.expect, ",".join(hosts), "/", status)
        await asyncio.sleep(0.02)

    async def answered(self) -> float:
        """When the client had the answer that it was told to expect, on the monotonic clock."""
        return await asyncio.to_thread(self.probe.seen)

    def publish_rebuilt(self, objects: Sequence[Resource]) -> int:
        """What a control plane does that keeps nothing: builds everything anew and sends what differs; the flight."""
        fresh = Engine(model_options(self._settings), emit_options(self._settings))
        fresh.apply(objects)
        return self.group.publish({kind.url: fresh.group.resources(kind.url) for kind in TYPES})


@contextlib.asynccontextmanager
async def running(folder: Path, count: int, backend_port: int, layout: str) -> AsyncIterator[Live]:
    """A gateway that serves so many routes."""
    port = free_port()
    objects = gateways.objects(folder / "objects", count, port, backend_port)
    settings = Settings(
        paths=(),
        bind="127.0.0.1",
        admin=None,
        state=folder / "state",
        concurrency=1,
        access_log="off",
        **layouts.settings(layout),
    )
    async with serving(settings, objects) as gateway:
        await asyncio.to_thread(Client(port).wait, gateways.host(count - 1))
        with probing(port) as probe:
            yield Live(gateway, settings, objects, probe)


@contextlib.asynccontextmanager
async def serving(settings: Settings, objects: tuple[Resource, ...]) -> AsyncIterator[Standalone]:
    """A gateway in this process whose Envoy has taken all of these objects."""
    with open_state(settings.state) as state:
        gateway = Standalone(settings, objects, state, envoy_binary())
        gateway.load()
        server = XdsServer(lambda _: gateway.group)
        await server.start_unix(state.ads_socket)
        try:
            await gateway.envoy.start()
            assert await gateway.group.live(gateway.group.flight, timeout_s=LIVE_LIMIT_S)
            gateway.engine.rest()
            yield gateway
        finally:
            await gateway.envoy.drain_and_stop(0.0)
            await server.stop()
