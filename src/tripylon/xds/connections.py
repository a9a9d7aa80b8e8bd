"""The connections below the ADS server: HTTP/2 by grpclib, each known, each closed in order, silent peers found out.

grpclib goes on taking streams on connections after it was told to stop, and closes a connection whose peer vanished
only when all that was sent has arrived, which is never. So the server here keeps its connections, and each of them
asks its peer for a sign of life. The invariant: a certificate that is replaced changes no connection that is open.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING, cast

from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Handler, Server, Stream

from tripylon.xds.tls import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from grpclib._typing import IServable
    from h2.config import H2Configuration

_WINDOW_BYTES = 1 << 20
"""What a peer may send before anybody reads it, on a connection as on a stream."""
_HEAD = struct.Struct(">?I")
"""Before each message of gRPC: whether it is compressed, and its length."""
_PING = b"tripylon"
_UNWRITTEN_BYTES = 64 << 10
"""How much that a peer has not read makes its writers wait; over TLS asyncio would wait for eight times as much."""
_BACKLOG = 4096
"""Connections that may wait to be taken: all proxies come back at once, and the kernel drops what is too many."""


async def receive(call: Stream[bytes, bytes], most_bytes: int) -> bytes | None:
    """The next message of a stream; None when there are no more. GRPCError for one that is longer than it may be.

    grpclib itself would take in whatever is sent, up to 4 GiB.
    """
    head = await call._stream.recv_data(_HEAD.size)
    if not head:
        return None
    compressed, length = _HEAD.unpack(head)
    if compressed:
        raise GRPCError(Status.UNIMPLEMENTED, "messages must not be compressed")
    if length > most_bytes:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes is too long, {most_bytes} are allowed")
    return await call._stream.recv_data(length)


class TrackingServer(Server):
    """A grpclib server that also closes its connections.

    With `silence_s` a peer that says nothing for so many seconds is asked for a sign of life, and its connection is
    dropped when it gives none for as long again; so is one without any stream for as long.
    """

    def __init__(self, handlers: Collection[IServable], *, codec: CodecBase, silence_s: float | None = None) -> None:
        config = Configuration(http2_connection_window_size=_WINDOW_BYTES, http2_stream_window_size=_WINDOW_BYTES)
        super().__init__(handlers, codec=codec, config=config)
        self._silence_s = silence_s
        self._tls: ssl.SSLContext | None = None
        self._connections: set[_Connection] = set()

    async def listen(self, listening: socket.socket, certificate: Certificate | None) -> None:
        """Takes connections on a bound socket, over TLS if there is a certificate."""
        self._tls = _following(certificate) if certificate is not None else None
        await self.start(sock=listening, backlog=_BACKLOG)

    def _protocol_factory(self) -> H2Protocol:
        first = _Arrival(self._welcome)
        if self._tls is not None:
            loop = asyncio.get_running_loop()
            return cast("H2Protocol", _Tls(loop, first, self._tls, None, server_side=True))  # type: ignore[arg-type]
        return cast("H2Protocol", first)

    def _welcome(self) -> _Connection:
        made = super()._protocol_factory()
        handler = cast("Handler", made.handler)
        return _Connection(handler, self._config, made.h2_config, silence_s=self._silence_s, among=self._connections)

    def stop_listening(self) -> None:
        """Takes no more connections; the open ones go on."""
        assert self._server is not None
        self._server.close()

    async def drained(self, patience_s: float) -> None:
        """Waits until the handlers of all streams have ended, or until patience is over."""
        tasks = {task for handler in self._handlers for task in (*handler._tasks.values(), *handler._cancelled)}
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)

    def hang_up(self) -> None:
        """Cancels what still runs and closes every connection, each with a GOAWAY first."""
        self.close()
        for protocol in tuple(self._connections):
            protocol.hang_up()
        self._connections.clear()


class _Arrival(asyncio.Protocol):
    """Stands for a connection until it is one: nothing is kept of those that fail to agree on TLS."""

    def __init__(self, welcome: Callable[[], _Connection]) -> None:
        self._welcome = welcome

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = self._welcome()
        transport.set_protocol(connection)
        connection.connection_made(transport)


class _Tls(SSLProtocol):
    """TLS that reads by single records: asyncio's own sets 256 KiB aside for each connection, for good."""

    max_size = 16 << 10


class _Connection(H2Protocol):
    """One connection; it is `among` the open ones while it is open."""

    def __init__(
        self,
        handler: Handler,
        config: Configuration,
        h2_config: H2Configuration,
        *,
        silence_s: float | None,
        among: set[_Connection],
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._silence_s = silence_s
        self._among = among
        self._heard = True
        self._asked = False
        self._unused = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_UNWRITTEN_BYTES)
        super().connection_made(transport)
        self._among.add(self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._among.discard(self)
        super().connection_lost(exc)

    def is_open(self) -> bool:
        """Whether it is not closed."""
        return not self.connection.is_closing()

    def hang_up(self) -> None:
        """Says goodbye and closes."""
        if self.is_open():
            self.connection._connection.close_connection()
            self.connection.flush()
            self.processor.close("the server stops")

    def _is_unused(self) -> bool:
        return self.is_open() and not self.connection._connection.open_inbound_streams

    def _wait(self) -> None:
        if self._silence_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._silence_s, self._look)

    def _look(self) -> None:
        """After each span of time: fine if the peer said something, else ask, else drop what cannot be reached.

        What has no stream now, as the last time, is of no use: nobody shall hold connections who may not have streams.
        """
        if self._transport is None:
            return
        if self._is_unused() and self._unused:
            self.hang_up()
            return
        self._unused = self._is_unused()
        if self._heard:
            self._heard = self._asked = False
        elif not self._asked:
            self._asked = True
            if self.is_open():
                self.connection._connection.ping(_PING)
                self.connection.flush()
        else:
            self._transport.abort()
            return
        self._wait()


def _following(certificate: Certificate) -> ssl.SSLContext:
    """A context for listening that hands every new connection to the context that the certificate has by then."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.minimum_version = ssl.TLSVersion.TLSv1_2
    listening.set_alpn_protocols(["h2"])
    listening.num_tickets = 0  # a resumed session would keep the certificate of its first connection

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = certificate.context

    listening.sni_callback = choose  # called for every connection, also for those that name no server
    return listening
