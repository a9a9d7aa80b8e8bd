"""The composition root of a standalone gateway: settings → the parts, wired, in one TaskGroup.

The only file that knows every folder. What can fail for reasons of the user's is started first: the
state directory, the ports, then processes. The invariant: when `run` returns, no process and no socket is left, unless
we were killed; then Envoy goes on serving, and the next `run` takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import signal
import ssl
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from tripylon.admin.listening import Listening, listen
from tripylon.admin.metrics import Metrics
from tripylon.api.meta import Resource
from tripylon.envoy import series
from tripylon.envoy.bootstrap import bootstrap
from tripylon.envoy.options import EmitOptions
from tripylon.files.envoy import EnvoyProcess
from tripylon.files.launch import Launch, check_binary
from tripylon.files.ports import check_ports
from tripylon.files.problems import Problem
from tripylon.files.source import FileSource
from tripylon.files.state import StateDir, open_state
from tripylon.files.watch import watch
from tripylon.graph import Changes, Graph
from tripylon.loop import Applied, Engine, uncollected
from tripylon.model.gateways import SOCKETS
from tripylon.model.options import Options
from tripylon.pb.descriptors import envoy_binary
from tripylon.settings import Address, Settings
from tripylon.values import Ref
from tripylon.xds.cache import Group
from tripylon.xds.server import XdsServer

_log = structlog.get_logger("tripylon")
NODE_ID = "tripylon"
CLUSTER = "standalone"
_PAGES = "tripylon.admin.server"
_LIVE_LIMIT_S = 10.0
"""How long to wait for Envoy to take a change until the user is told that it has not."""
_INTERRUPTED = 130
_RETRY_EVERY_S = 5.0
"""How often a listener that Envoy refused, for a busy port for instance, is sent again."""
_KEEP_AFTER_S = 2.0
"""How long changes are gathered before what serves is written down again."""
_MANY = 100
"""So many changed objects are taken in by halves."""
_NOTHING = Applied(0, 0, frozenset(), 0.0, 0.0, Changes())


class Show(Protocol):
    """Who tells the user what goes on; called from the event loop, so it must not take long."""

    def started(self, gateway: Standalone, admin: Address | None, *, adopted: bool, live: bool) -> None:
        """The gateway runs; `live`: Envoy serves all of it. `adopted`: by an Envoy that was running already."""

    def changed(self, gateway: Standalone, applied: Applied, *, live: bool) -> None:
        """Something changed: what is served, or what there is to tell; the last of several changes at once."""

    def stopping(self, limit_s: float) -> None:
        """The gateway was told to stop and lets running requests end."""


class Standalone:
    """One running gateway as the admin pages and the user see it: the engine, its files and its Envoy."""

    def __init__(self, settings: Settings, objects: Iterable[Resource], state: StateDir, binary: Path) -> None:
        self.engine = Engine(model_options(settings), emit_options(settings), on_applied=self._note)
        self.metrics = Metrics(self)
        self.binary = binary
        self.envoy = EnvoyProcess(_launch(settings, state, binary), state)
        self.problems: tuple[Problem, ...] = ()
        self.built = False
        self._objects = tuple(objects)
        self._source = FileSource(settings.paths, kept=state.root / "served.json")
        self._unkept = asyncio.Event()
        self._last = _NOTHING
        self._changed = asyncio.Event()

    @property
    def graph(self) -> Graph:
        """World, plan and findings."""
        return self.engine.graph

    @property
    def group(self) -> Group:
        """The proxies."""
        return self.engine.group

    @property
    def restarts(self) -> int:
        """How often Envoy ended by itself."""
        return self.envoy.restarts

    def locate(self, ref: Ref, field: str = "") -> tuple[str, int, int] | None:
        """Where to edit an object."""
        return self._source.locate(ref, field)

    async def envoy_metrics(self) -> bytes:
        """Envoy's own series."""
        return await self.envoy.admin.prometheus()

    def load(self) -> None:
        """Read all objects and build all resources."""
        self.begin()
        self._finished()

    def begin(self) -> None:
        """Read all objects and build what routes lead to, which keeps an Envoy that starts busy the longest."""
        with uncollected():
            found = self._source.scan()
            _note_step("read")
            self.problems = found.problems
            self.engine.prepare((*self._objects, *found.put))
            gc.freeze()
        _note_step("begun")

    async def finish(self) -> None:
        """Build all other resources; from then on everything is published."""
        await self._advance()
        self._finished()

    async def _advance(self) -> None:
        """Build what waits for it, little by little, so that what is published already is written meanwhile."""
        with uncollected():
            while self.engine.advance():  # noqa: ASYNC110 - nothing is waited for, others are given way
                await asyncio.sleep(0)

    def _finished(self) -> None:
        with uncollected():
            self.engine.apply(())
            gc.freeze()
        _note_step("built")
        self.built = True

    async def follow(self) -> None:
        """Look at the files again whenever something changed, without end."""
        async for tick in watch(self._source.watched):
            if tick.note:
                _log.warning(tick.note)
            found = await asyncio.to_thread(self._source.scan)
            told, self.problems = self.problems, found.problems
            if found.put or found.delete:
                await self.take(found.put, found.delete)
                self._unkept.set()
            elif found.problems != told:
                self._changed.set()

    async def take(self, put: Collection[Resource], delete: Collection[Ref] = ()) -> Applied:
        """Take in changed objects: many of them by halves, so that Envoy has the first while we build the second."""
        if len(put) >= _MANY and self.group.sessions:
            self.engine.prepare(put)
            await self._advance()
            put = ()
        return self.engine.apply(put, delete)

    async def keep(self) -> None:
        """Write down what serves, some time after it changed, without end: a later run may find a document broken."""
        while True:
            try:
                await asyncio.to_thread(self._source.keep)
            except OSError as error:
                _log.warning("what serves cannot be written down for a later run", error=str(error))
            self._unkept.clear()
            await self._unkept.wait()
            await asyncio.sleep(_KEEP_AFTER_S)

    async def retry(self) -> None:
        """Give refused listeners another try now and then, without end."""
        while True:
            await asyncio.sleep(_RETRY_EVERY_S)
            self.engine.retry_refused_listeners()

    async def live(self) -> bool:
        """Wait until Envoy serves what was published last; False when it takes too long."""
        return await self.group.live(self.group.flight, timeout_s=_LIVE_LIMIT_S)

    async def report(self, show: Show, admin: Address | None, *, adopted: bool) -> None:
        """Tell the user about the start and every change, without end."""
        live = await self.live()
        _note_step("live")
        show.started(self, admin, adopted=adopted, live=live)
        self._changed.clear()
        self._last = _NOTHING
        while True:
            self.engine.rest()
            await self._changed.wait()
            self._changed.clear()
            applied = self._last
            show.changed(self, applied, live=await self.live())
            if self._last is applied:
                self._last = _NOTHING  # what changes next may be what is told about files, and publish nothing

    def _note(self, applied: Applied) -> None:
        self.metrics.observe_build(applied.build_s)
        self.metrics.observe_publish(applied.publish_s)
        if applied.changed or applied.subjects:
            self._last = msgspec.structs.replace(applied, changes=Changes())  # the keys of a first load are many
            self._changed.set()


class Stop:
    """What ends a run: the first signal asks for it, a second one cuts the waiting short."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.code = 0

    def listen(self) -> None:
        """From now on SIGINT and SIGTERM come here."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._ask, _INTERRUPTED)
        loop.add_signal_handler(signal.SIGTERM, self._ask, 0)

    def _ask(self, code: int) -> None:
        if self.asked.is_set():
            self.at_once.set()
        else:
            self.code = code
            self.asked.set()


async def run(settings: Settings, objects: Iterable[Resource] = (), *, show: Show) -> int:
    """Serve `objects` and those in files until SIGINT or SIGTERM; the exit code."""
    _note_step("imported")
    binary = settings.envoy_binary or envoy_binary()
    check_binary(binary)
    stop = Stop()
    stop.listen()
    with open_state(settings.state) as state:
        gateway = Standalone(settings, objects, state, binary)
        gateway.begin()
        await serve(gateway, settings, state, stop, show)
    return stop.code


async def serve(gateway: Standalone, settings: Settings, state: StateDir, stop: Stop, show: Show) -> None:
    """Start all parts, run them until told to stop, and end them in the opposite order."""
    server = XdsServer(lambda _: gateway.group)
    async with contextlib.AsyncExitStack() as parts:
        adopted = await gateway.envoy.adopt()
        if adopted:
            await (
                gateway.finish()
            )  # it has everything of an earlier run, and would be told to drop what we do not have yet
        ours = [gateway.envoy.pid] if gateway.envoy.pid else []
        tcp, udp = sockets(gateway.graph, udp=False), sockets(gateway.graph, udp=True)
        check_ports(tcp, udp=udp, ours=ours, envoy_binary=gateway.binary)
        pages = listen(settings.admin) if settings.admin is not None else None
        if pages is not None:
            parts.callback(pages.close)
        await server.start_unix(state.ads_socket)
        parts.push_async_callback(server.stop)
        if not adopted:
            await _start(gateway)
        async with asyncio.TaskGroup() as tasks:
            lasting = [tasks.create_task(gateway.envoy.watch())]
            if pages is not None:
                lasting.append(tasks.create_task(_serve_pages(gateway, pages)))
            following = [
                tasks.create_task(gateway.follow()),
                tasks.create_task(gateway.keep()),
                tasks.create_task(gateway.retry()),
                tasks.create_task(gateway.report(show, pages.address if pages is not None else None, adopted=adopted)),
            ]
            await stop.asked.wait()
            show.stopping(settings.drain_limit_s)
            for task in following:
                task.cancel()  # a change that is sent while Envoy drains could open a listener again
            await _drain(gateway.envoy, stop, settings.drain_limit_s)
            for task in lasting:
                task.cancel()


async def _start(gateway: Standalone) -> None:
    """Start Envoy, and build what is left while it takes in what it was sent."""
    starting = asyncio.create_task(gateway.envoy.start())
    try:
        await gateway.finish()
    finally:
        await starting


async def _serve_pages(gateway: Standalone, listening: Listening) -> None:
    """Serve the admin pages, without end. They are loaded beside the rest, which need not wait for a web framework."""
    await asyncio.to_thread(importlib.import_module, _PAGES)
    from tripylon.admin.server import serve as serve_admin

    async with serve_admin(gateway, gateway.metrics, listening):
        await asyncio.Event().wait()


async def _drain(envoy: EnvoyProcess, stop: Stop, limit_s: float) -> None:
    """Let running requests end, for a bounded time, and only until somebody asks a second time."""
    draining = asyncio.create_task(envoy.drain_and_stop(limit_s))
    impatient = asyncio.create_task(stop.at_once.wait())
    await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if not draining.done():
        draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining


def _note_step(done: str) -> None:
    """Says when a step of the start was over, on the clock of all processes, to whoever looks into a slow one."""
    _log.debug("start", done=done, monotonic_s=round(time.monotonic(), 4))


def sockets(graph: Graph, *, udp: bool) -> set[tuple[str, int]]:
    """Every address and port that the gateways ask for, of UDP or else of TCP."""
    places = (place for places in graph.rows(SOCKETS).values() for place in places)
    return {(place.address, place.port) for place in places if place.udp == udp}


def model_options(settings: Settings) -> Options:
    """The settings that the model depends on."""
    reserved = (settings.admin.port,) if settings.admin is not None and settings.admin.port else ()
    return Options(bind_address=settings.bind, reserved_ports=reserved)


def emit_options(settings: Settings) -> EmitOptions:
    """The settings that emission depends on."""
    access_log = "" if settings.access_log == "off" else settings.access_log
    return EmitOptions(access_log=access_log, route_layout=settings.route_layout, system_ca=system_ca())


def system_ca() -> str:
    """The file with the system's CA certificates, or an empty text."""
    paths = ssl.get_default_verify_paths()
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    for path in (paths.cafile, paths.openssl_cafile, *usual):
        if path and Path(path).is_file():
            return path
    return ""


def _launch(settings: Settings, state: StateDir, binary: Path) -> Launch:
    with contextlib.suppress(OSError):
        binary = binary.resolve()
    return Launch(
        binary=binary,
        bootstrap=bootstrap(
            NODE_ID,
            CLUSTER,
            ads=str(state.ads_socket),
            admin=str(state.admin_socket),
            stats=series.every() if settings.envoy_stats == "all" else series.usual(),
        ),
        node_id=NODE_ID,
        concurrency=settings.workers,
    )
