"""Health and metrics of a controller replica: what Kubernetes and Prometheus ask for, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from tripylon.errors import StartError
from tripylon.settings import Address

_SHUTDOWN_S = 1.0


class Probed(Protocol):
    """What is asked about."""

    def faults(self) -> tuple[str, ...]:
        """Why this replica must not get proxies yet; nothing: it may."""


@asynccontextmanager
async def serve(probed: Probed, registry: CollectorRegistry, address: Address) -> AsyncIterator[int]:
    """Answer for as long as the block runs; gives the port. StartError when the address cannot be had."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        faults = probed.faults()
        return web.Response(status=503 if faults else 200, text="\n".join(faults or ("ok",)) + "\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise StartError(f"Health pages cannot listen on {address}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
