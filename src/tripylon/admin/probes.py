"""Health and metrics of a controller replica: what Kubernetes and Prometheus ask for, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from tripylon.errors import StartError
from tripylon.settings import Address

_SHUTDOWN_S = 1.0
_Answer = Callable[[web.Request], Awaitable[web.Response]]


class Probed(Protocol):
    """What is asked about."""

    def faults(self) -> tuple[str, ...]:
        """Why this replica must not get proxies yet; nothing: it may."""


@asynccontextmanager
async def serve_health(probed: Probed, address: Address) -> AsyncIterator[int]:
    """Answer `/healthz` and `/readyz` while the block runs; gives the port. StartError when it cannot be had."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        faults = probed.faults()
        return web.Response(status=503 if faults else 200, text="\n".join(faults or ("ok",)) + "\n")

    async with _served({"/healthz": healthz, "/readyz": readyz}, address, "Health pages") as port:
        yield port


@asynccontextmanager
async def serve_metrics(render: Callable[[], bytes], address: Address) -> AsyncIterator[int]:
    """Answer `/metrics` while the block runs; gives the port. StartError when it cannot be had."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async with _served({"/metrics": metrics}, address, "Metrics") as port:
        yield port


@asynccontextmanager
async def _served(pages: Mapping[str, _Answer], address: Address, what: str) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get(path, answer) for path, answer in pages.items()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise StartError(f"{what} cannot listen on {address}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
