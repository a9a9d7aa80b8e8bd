"""The two ends of the agreement test's wire: a client on keep-alive connections, and backends that say who they are.

Both are as small as can be, since ten thousand requests pass through them. The client speaks HTTP/1.1 only, in which
Envoy takes gRPC calls too; a backend speaks whichever of HTTP/1.1 and HTTP/2 it is spoken to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
from tests.laws.specified import Asked

_PREFACE = b"PRI"


class Heard(NamedTuple):
    """One answer: status, and the headers that tell who gave it."""

    status: int
    headers: dict[str, str]

    def words(self, *, grpc: bool) -> str:
        """The answer as the specification's reading puts it; gRPC errors as `grpc` with their number."""
        status = f"grpc {self.headers.get('grpc-status', '?')}" if grpc else str(self.status)
        if "location" in self.headers:
            return f"{status} to {self.headers['location'].split('/')[2]}"
        who = f" by {self.headers['x-rule']}" if "x-rule" in self.headers else ""
        if "x-backend" not in self.headers:
            return status + who
        return f"{self.headers['x-backend']} got {self.headers['x-target']}{who}"


# --- The client ----------------------------------------------------------------------------------------------------


class Client:
    """One connection, opened again when the other side has closed it."""

    def __init__(self, address: str, port: int, sni: str | None) -> None:
        self._place = (address, port)
        self._sni = sni
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, asked: Asked) -> str:
        """The answer in words; `closed` when the other side does not take the connection."""
        for last in (False, True):
            fresh = self._streams is None
            try:
                heard = await asyncio.wait_for(self._ask(asked), 10)
            except (OSError, EOFError):
                self.close()
                if fresh or last:
                    return "closed"
                continue
            if heard.headers.get("connection") == "close":
                self.close()
            return heard.words(grpc=asked.grpc)
        raise AssertionError("not reached")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _ask(self, asked: Asked) -> Heard:
        if self._streams is None:
            self._streams = await self._open()
        reader, writer = self._streams
        writer.write(_written(asked))
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if asked.method != "HEAD":
            await _skip(reader, headers)
        return Heard(int(first.split()[1]), headers)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._sni is None:
            return await asyncio.open_connection(*self._place)
        return await asyncio.open_connection(*self._place, ssl=_CONTEXT, server_hostname=self._sni)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = _context()


def _written(asked: Asked) -> bytes:
    query = "&".join(f"{name}={value}" for name, value in asked.query)
    lines = [f"{asked.method} {asked.path}{'?' + query if query else ''} HTTP/1.1", f"Host: {asked.host}"]
    lines += [f"{name}: {value}" for name, value in asked.headers]
    if asked.grpc:
        lines += ["content-type: application/grpc", "te: trailers"]
    if asked.method in ("POST", "PUT"):
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


async def _skip(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    elif length := int(headers.get("content-length", 0)):
        await reader.readexactly(length)


# --- The backends --------------------------------------------------------------------------------------------------


class Backend(asyncio.Protocol):
    """Answers everything with 200, its name and the target of the request."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._http2: h2.connection.H2Connection | None = None
        self._targets: dict[int, str] = {}
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._http2 is None and data.startswith(_PREFACE):
            self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
            self._http2.initiate_connection()
        if self._http2 is None:
            self._waiting += data
            *heads, self._waiting = self._waiting.split(b"\r\n\r\n")
            self._transport.write(b"".join(map(self._answer, heads)))
        else:
            self._speak_http2(self._http2, data)

    def _answer(self, head: bytes) -> bytes:
        _, target, _ = head.split(b" ", 2)
        return b"HTTP/1.1 200 OK\r\nx-backend: %b\r\nx-target: %b\r\ncontent-length: 0\r\n\r\n" % (
            self._name.encode(),
            target,
        )

    def _speak_http2(self, http2: h2.connection.H2Connection, data: bytes) -> None:
        for event in http2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived) and event.headers is not None:
                fields = {bytes(name): bytes(value).decode() for name, value in event.headers}
                self._targets[event.stream_id or 0] = fields[b":path"]
            elif isinstance(event, h2.events.StreamEnded):
                target = self._targets.pop(event.stream_id)
                headers = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")]
                headers += [("x-backend", self._name), ("x-target", target)]
                http2.send_headers(event.stream_id, headers, end_stream=True)
        self._transport.write(http2.data_to_send())


@contextlib.asynccontextmanager
async def backends(names: Iterable[str], address: str) -> AsyncIterator[dict[str, int]]:
    """Backends of these names while the block runs: the port of each."""
    loop = asyncio.get_running_loop()
    servers = {name: await loop.create_server(partial(Backend, name), address, 0) for name in names}
    try:
        yield {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.close()
