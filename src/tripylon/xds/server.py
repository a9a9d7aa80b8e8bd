"""The ADS server: gRPC over a Unix socket, TCP or TLS, delta only, raw bytes out.

Each stream has one reader and one writer task; a publish only wakes writers, so no stream waits for another's socket.
A writer asks its session for more only when the last bytes are written: what a slow proxy misses merges meanwhile.
The invariant: who is not authorised learns nothing, not even whether there is a configuration. Read `connections.py`
for what is below.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream as Call
from h2.exceptions import StreamClosedError

from tripylon.errors import StartError, TripylonError
from tripylon.xds.cache import Group, Session
from tripylon.xds.codec import RawCodec
from tripylon.xds.connections import TrackingServer, receive
from tripylon.xds.tls import Certificate

if TYPE_CHECKING:
    from tripylon.pb.messages import DeltaDiscoveryRequest, Node

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_FIRST_REQUEST_S = 10.0
_FIRST_REQUEST_BYTES, _REQUEST_BYTES = 4 << 20, 64 << 20
"""How long a request may be: the first one, which has some 100 bytes for each cluster that a proxy has, and others."""

Authorise = Callable[["Node", Mapping[str, str]], Awaitable[str]]
"""Says why a stream is refused, by its node and the metadata that came with it; an empty text lets it in.

A TripylonError means that it cannot be told now: the proxy is asked to try again.
"""

Admit = Callable[[Mapping[str, str]], Awaitable[str]]
"""The same by the metadata alone, before anything is read."""


class Service(Protocol):
    """Something else that is served on the same port, and answers for itself who may use it."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Its methods."""

    def close(self) -> None:
        """Ends its streams."""


class XdsServer:
    """Serves groups to proxies. `select_group` gets the node of a new stream; None refuses it.

    `admit` and `authorise` are asked before. `services` are served besides. `stop` bounds its waiting by `stop_s`
    seconds; over TCP a peer that says nothing for `silence_s` seconds is asked for a sign of life, and is given up
    after as long again, as is one that has no stream for so long.
    """

    def __init__(
        self,
        select_group: Callable[[Node], Group | None],
        *,
        admit: Admit | None = None,
        authorise: Authorise | None = None,
        services: Collection[Service] = (),
        stop_s: float = 2.0,
        silence_s: float = 15.0,
    ) -> None:
        self._select_group = select_group
        self._admit, self._authorise = admit, authorise
        self._services = tuple(services)
        self._stop_s = stop_s
        self._silence_s = silence_s
        self._numbers = itertools.count(1)
        self._stopping = False
        self._writers: set[asyncio.Event] = set()
        self._server: TrackingServer | None = None
        self._path: Path | None = None
        self._bound: tuple[int, int] | None = None
        """What `_path` was when we made it: another process may have put its own there since."""

    async def start_unix(self, path: Path) -> None:
        """Listens on a Unix socket that only its owner may open; StartError when that is not possible."""
        listening = _bind_unix(path)
        self._path, self._bound = path, _identity(path)
        await self._start(listening)

    async def start_tcp(self, host: str, port: int, certificate: Certificate | None = None) -> int:
        """Listens on TCP, port 0 for a free one, and returns the port; StartError when that is not possible.

        With a certificate over TLS; once it is replaced, new connections see the new one and open ones go on.
        """
        try:
            listening = socket.create_server((host, port), family=_family(host))
        except OSError as error:
            raise StartError(
                f"Cannot listen for proxies on {host}:{port}: {error.strerror}; use another port"
            ) from error
        bound: int = listening.getsockname()[1]
        await self._start(listening, certificate, silence_s=self._silence_s)
        return bound

    async def stop(self) -> None:
        """Ends all streams in order, so that proxies reconnect at once, and stops listening."""
        server = self._server
        if server is None:
            return
        self._server = None
        self._stopping = True
        for awake in self._writers:
            awake.set()
        for service in self._services:
            service.close()
        server.stop_listening()
        await server.drained(self._stop_s)
        server.hang_up()
        await server.drained(self._stop_s)
        if self._path is not None and _identity(self._path) == self._bound:
            self._path.unlink(missing_ok=True)

    async def _start(
        self, listening: socket.socket, certificate: Certificate | None = None, *, silence_s: float | None = None
    ) -> None:
        self._server = TrackingServer([self, *self._services], codec=RawCodec(), silence_s=silence_s)
        await self._server.listen(listening, certificate)

    def __mapping__(self) -> dict[str, Handler]:
        """The methods, as grpclib asks for them."""
        both = Cardinality.STREAM_STREAM
        return {
            _SERVICE + "DeltaAggregatedResources": Handler(self._serve, both, bytes, bytes),
            _SERVICE + "StreamAggregatedResources": Handler(_refuse_full_state, both, bytes, bytes),
        }

    async def _serve(self, call: Call[bytes, bytes]) -> None:
        if self._admit is not None:
            await _check(self._admit(_metadata(call)))
        first = await _first_request(call)
        if first is None or self._stopping:
            return
        request = _decode(first)
        if self._authorise is not None:
            await _check(self._authorise(request.node, _metadata(call)))
        group = self._select_group(request.node)
        if group is None:
            raise GRPCError(Status.NOT_FOUND, f"no configuration for node {request.node.id!r}")
        awake = asyncio.Event()
        session = group.connect(next(self._numbers), request.node.id, awake.set)
        self._writers.add(awake)
        try:
            session.receive(request)
            await self._converse(call, session, awake)
        finally:
            self._writers.discard(awake)
            session.close()

    async def _converse(self, call: Call[bytes, bytes], session: Session, awake: asyncio.Event) -> None:
        """Reads and writes until the proxy ends the stream, the connection breaks, or the server stops."""
        tasks = (
            asyncio.create_task(_read(call, session)),
            asyncio.create_task(self._write(call, session, awake)),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(StreamTerminatedError, StreamClosedError, ConnectionError):  # the proxy has gone
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, call: Call[bytes, bytes], session: Session, awake: asyncio.Event) -> None:
        """Sends until the server stops, and then ends after a whole message, never within one."""
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            awake.clear()
            for response in session.responses(clock()):
                await call.send_message(response.payload)
            if (deadline := session.deadline) is None:
                await awake.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await awake.wait()


async def _first_request(call: Call[bytes, bytes]) -> bytes | None:
    """The request that says who asks; a peer that sends none holds the stream for a bounded time only."""
    try:
        async with asyncio.timeout(_FIRST_REQUEST_S):
            return await receive(call, _FIRST_REQUEST_BYTES)
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, "no request came") from None


def _metadata(call: Call[bytes, bytes]) -> dict[str, str]:
    return {key: value for key, value in (call.metadata or {}).items() if isinstance(value, str)}


async def _check(answer: Awaitable[str]) -> None:
    try:
        refusal = await answer
    except TripylonError as error:
        raise GRPCError(Status.UNAVAILABLE, f"cannot tell who asks: {error}") from error
    if refusal:
        raise GRPCError(Status.PERMISSION_DENIED, refusal)


async def _read(call: Call[bytes, bytes], session: Session) -> None:
    while (message := await receive(call, _REQUEST_BYTES)) is not None:
        session.receive(_decode(message))


def _decode(message: bytes) -> DeltaDiscoveryRequest:
    from google.protobuf.message import DecodeError

    from tripylon.pb.messages import DeltaDiscoveryRequest

    try:
        return DeltaDiscoveryRequest.FromString(message)
    except DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, "this is no DeltaDiscoveryRequest") from error


async def _refuse_full_state(call: Call[bytes, bytes]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "only incremental xDS is served: set api_type DELTA_GRPC in ads_config")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, None when there is nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600; what an earlier process left behind is removed, a living one is not."""
    try:
        if path.exists() or path.is_symlink():
            _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(before)
        listening.listen()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"Cannot listen for proxies on {path}: {reason}; choose another path") from error
    return listening


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise StartError(f"Cannot listen for proxies on {path}: there is a file of that name; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise StartError(f"Cannot listen for proxies on {path}: another process serves there; stop it or use another path")
