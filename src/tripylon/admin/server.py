"""The admin pages over HTTP: `/`, `/healthz`, `/readyz`, `/metrics`, `/metrics/envoy`, `/picture`.

The invariants: only reading is possible; and while the server is bound to this machine alone, it answers only requests
that name this machine, so that no web page can read it by pointing a name of its own here (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from tripylon.admin.engine import Engine, is_ready, live_flight
from tripylon.admin.listening import Listening
from tripylon.admin.metrics import Metrics
from tripylon.admin.picture import picture
from tripylon.errors import TripylonError
from tripylon.settings import parse_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_S = 1.0

_INDEX = """Tripylon

/healthz        whether this control plane runs
/readyz         whether Envoy serves what was published: 200 or 503, with the numbers of flights
/metrics        the control plane's metrics
/metrics/envoy  Envoy's metrics
/picture        objects, gateways, listeners, hosts, routes, backends, findings and proxies as JSON
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(engine: Engine, metrics: Metrics, listening: Listening) -> AsyncIterator[None]:
    """Serve the pages for as long as the block runs."""
    app = make_app(engine, metrics, loopback=listening.address.loopback)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        for each in listening.sockets:
            await web.SockSite(runner, each).start()
        yield
    finally:
        await runner.cleanup()


def make_app(engine: Engine, metrics: Metrics, *, loopback: bool) -> web.Application:
    """The pages; `loopback` turns the check of the Host header on."""
    pages = _Pages(engine, metrics)
    app = web.Application(middlewares=[_only_this_machine] if loopback else [])
    app.add_routes(
        [
            web.get("/", pages.index),
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
            web.get("/metrics/envoy", pages.envoy_metrics),
            web.get("/picture", pages.picture),
        ]
    )
    return app


class _Pages:
    """One handler for each page."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics

    async def index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        ready = is_ready(self._engine)
        state = {"ready": ready, "flight": self._engine.group.flight, "live": live_flight(self._engine)}
        return _json(state, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": _TEXT_FORMAT})

    async def envoy_metrics(self, _: web.Request) -> web.Response:
        try:
            body = await self._engine.envoy_metrics()
        except TripylonError as error:
            return web.Response(status=502, text=f"{error}\n")
        return web.Response(body=body, headers={"Content-Type": _TEXT_FORMAT})

    async def picture(self, _: web.Request) -> web.Response:
        return _json(picture(self._engine))


@web.middleware
async def _only_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _names_this_machine(request.host):
        return web.Response(status=403, text="This address answers only requests to localhost or 127.0.0.1.\n")
    return await handler(request)


def _names_this_machine(host: str) -> bool:
    try:
        return parse_address(host, default_host="", default_port=80).loopback
    except ValueError:
        return False


def _json(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
