"""The composition root of a standalone gateway: settings → the parts, wired, in one TaskGroup.

The only file that knows every folder. The order of starting is the order of what can fail for reasons of the user's: the
state directory, the ports, then processes. The invariant: when `run` returns, no process and no socket is left, unless
we were killed; then Envoy goes on serving, and the next `run` takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from pathlib import Path

import structlog

from tripylon.envoy.bootstrap import bootstrap
from tripylon.envoy.options import EmitOptions
from tripylon.files.envoy import EnvoyProcess
from tripylon.files.launch import Launch, check_binary
from tripylon.files.ports import check_ports
from tripylon.files.source import FileSource
from tripylon.files.state import StateDir, open_state
from tripylon.files.watch import watch
from tripylon.loop import Engine
from tripylon.model.gateways import SOCKETS
from tripylon.model.options import Options
from tripylon.pb.descriptors import envoy_binary
from tripylon.settings import Settings
from tripylon.xds.server import XdsServer

_log = structlog.get_logger("tripylon")
NODE_ID = "tripylon"
CLUSTER = "standalone"


async def run(settings: Settings) -> int:
    """Serves the objects of some files and folders until SIGINT or SIGTERM; the exit code."""
    binary = settings.envoy_binary or envoy_binary()
    check_binary(binary)
    with open_state(settings.state) as state:
        engine = Engine(model_options(settings), emit_options(settings))
        source = FileSource(settings.paths)
        engine.apply(source.scan().put)
        envoy = EnvoyProcess(_launch(settings, state, binary), state)
        await serve(engine, source, envoy, state)
    return 0


async def serve(engine: Engine, source: FileSource, envoy: EnvoyProcess, state: StateDir) -> None:
    """Runs all parts until told to stop, then ends them in the opposite order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = XdsServer(lambda _: engine.group)
    adopted = await envoy.adopt()
    check_ports(sockets(engine), ours=[envoy.pid] if envoy.pid else [])
    await server.start_unix(state.ads_socket)
    if not adopted:
        await envoy.start()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(envoy.watch()), tasks.create_task(_follow(engine, source))]
        await stop.wait()
        await envoy.drain_and_stop(10.0)
        for task in running:
            task.cancel()
    await server.stop()


async def _follow(engine: Engine, source: FileSource) -> None:
    """Looks at the files again whenever something changed."""
    async for _ in watch(source.watched):
        changes = source.scan()
        if changes.put or changes.delete:
            engine.apply(changes.put, changes.delete)


def sockets(engine: Engine) -> set[tuple[str, int]]:
    """Every address and port that the gateways ask for."""
    return {place for places in engine.graph.rows(SOCKETS).values() for place in places}


def model_options(settings: Settings) -> Options:
    """The settings that the model depends on."""
    return Options(bind_address=settings.bind)


def emit_options(settings: Settings) -> EmitOptions:
    """The settings that emission depends on."""
    access_log = "" if settings.access_log == "off" else settings.access_log
    return EmitOptions(access_log=access_log, system_ca=system_ca())


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
        bootstrap=bootstrap(NODE_ID, CLUSTER, ads=str(state.ads_socket), admin=str(state.admin_socket)),
        node_id=NODE_ID,
        concurrency=settings.workers,
    )
