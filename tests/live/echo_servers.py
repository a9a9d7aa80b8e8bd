"""The protocols of the echo backend: HTTP/1.1 with WebSocket, HTTP/2 in clear text and over TLS, gRPC, and lean pods.

`echo.py` decides the answers. Every pod has an address of its own; the pods of a deployment share their port numbers,
as the endpoints of an EndpointSlice do, so the first pod's ports come from the system and the others follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable

import grpc  # type: ignore[import-untyped]
import h2.config
import h2.connection
import h2.events
import msgspec
from tests.live.echo import Answer, Deployment, Echo, Placed, Pod, Ready, Request, Settings
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as WebSocketRequest
from websockets.server import ServerProtocol

GRPC_SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}
_MAX_HEAD = 256 * 1024

Connection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Servers:
    """All open ports of the process."""

    def __init__(self) -> None:
        self.plain: list[asyncio.Server] = []
        self.grpc: list[grpc.aio.Server] = []

    async def stop(self) -> None:
        """Closes every port; running requests are cut off."""
        for server in self.plain:
            server.close()
        for grpc_server in self.grpc:
            await grpc_server.stop(None)


def run(config: str) -> None:
    """Plays the pods of the JSON `config` until standard input closes."""
    asyncio.run(_run(msgspec.json.decode(config, type=Settings)))


async def _run(settings: Settings) -> None:
    servers, ready = await serve(settings, Echo())
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await servers.stop()


async def serve(settings: Settings, echo: Echo) -> tuple[Servers, Ready]:
    """Opens the ports of every pod and of the control server."""
    servers = Servers()
    address = ipaddress.ip_address(settings.first_address)
    placed = []
    for deployment in settings.deployments:
        addresses = tuple(str(address + number) for number in range(deployment.replicas))
        address += deployment.replicas
        placed.append(await _place(servers, settings, echo, deployment, addresses))
    control = await asyncio.start_server(_control(echo), "127.0.0.1", 0)
    servers.plain.append(control)
    return servers, Ready(control.sockets[0].getsockname()[1], tuple(placed))


async def _place(
    servers: Servers, settings: Settings, echo: Echo, deployment: Deployment, addresses: tuple[str, ...]
) -> Placed:
    """Opens a deployment's ports: the system chooses at the first address, the other addresses take the same."""
    names = {"http": ("http", "h2c", "https"), "grpc": ("grpc",), "lean": ("http",)}[deployment.kind]
    if not settings.certificate:
        names = tuple(name for name in names if name != "https")
    ports: dict[str, int] = {}
    for name in names:
        sockets = _sockets(addresses)
        ports[name] = sockets[0].getsockname()[1]
        for number, listening in enumerate(sockets):
            pod = Pod(deployment.namespace, f"{deployment.name}-{number}")
            await _open(servers, settings, echo, pod, name if deployment.kind != "lean" else "lean", listening)
    return Placed(deployment.namespace, deployment.name, deployment.kind, addresses, ports)


def _sockets(addresses: tuple[str, ...]) -> list[socket.socket]:
    """Bound sockets with one port number at every address; tries again when another program holds it somewhere."""
    for _ in range(20):
        sockets: list[socket.socket] = []
        port = 0
        try:
            for address in addresses:
                sockets.append(socket.create_server((address, port), backlog=1024))
                port = sockets[0].getsockname()[1]
        except OSError:
            for opened in sockets:
                opened.close()
            continue
        return sockets
    raise OSError(f"no port is free at all of {', '.join(addresses)}")


async def _open(
    servers: Servers, settings: Settings, echo: Echo, pod: Pod, name: str, listening: socket.socket
) -> None:
    if name == "grpc":
        host, port = listening.getsockname()
        listening.close()
        servers.grpc.append(await _grpc_server(pod, echo, f"{host}:{port}"))
    elif name == "lean":
        loop = asyncio.get_running_loop()
        servers.plain.append(await loop.create_server(lambda: LeanPod(pod.name), sock=listening))
    else:
        connection, context = {
            "http": (_http1(pod, echo), None),
            "h2c": (_h2c(pod, echo), None),
            "https": (_https(pod, echo), _tls(settings.certificate) if name == "https" else None),
        }[name]
        servers.plain.append(await asyncio.start_server(connection, sock=listening, ssl=context, limit=_MAX_HEAD))


def _tls(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def keep_server_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.sni = name or ""  # type: ignore[attr-defined]

    context.sni_callback = keep_server_name
    return context


def _http1(pod: Pod, echo: Echo) -> Connection:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _closing(writer, _serve_http1(pod, echo, reader, writer, None))

    return connection


def _h2c(pod: Pod, echo: Echo) -> Connection:
    """HTTP/2 with prior knowledge; whoever speaks HTTP/1 is refused with 400."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.read(len(_PREFACE))
        if _PREFACE.startswith(start[:4]) and start:
            await _closing(writer, Http2(pod, echo, reader, writer, None).serve(start))
        else:
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await _closing(writer, writer.drain())

    return connection


def _https(pod: Pod, echo: Echo) -> Connection:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secured = writer.get_extra_info("ssl_object")
        tls = {
            "version": secured.version(),
            "serverName": getattr(secured, "sni", ""),
            "negotiatedProtocol": secured.selected_alpn_protocol() or "",
            "cipherSuite": secured.cipher()[0],
        }
        if tls["negotiatedProtocol"] == "h2":
            await _closing(writer, Http2(pod, echo, reader, writer, tls).serve(b""))
        else:
            await _closing(writer, _serve_http1(pod, echo, reader, writer, tls))

    return connection


async def _closing(writer: asyncio.StreamWriter, work: Awaitable[None]) -> None:
    """Runs a connection's work; a client that goes away is nothing to tell."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
        await work
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        writer.close()


async def _serve_http1(
    pod: Pod, echo: Echo, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: dict[str, str] | None
) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        request, length = _parse_head(head, tls)
        if request.header("Upgrade").lower() == "websocket" and request.target.split("?")[0] == "/ws":
            await _websocket(head, reader, writer)
            return
        await _read_body(reader, request, length)
        answer = await echo.answer(pod, request)
        if answer.reset:
            _reset(writer)
            return
        writer.write(_encode_http1(answer, head_only=request.method == "HEAD"))
        await writer.drain()
        if "close" in request.header("Connection").lower():
            return


def _parse_head(head: bytes, tls: dict[str, str] | None) -> tuple[Request, int | None]:
    """The request and its body's length; None for a chunked body."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, proto = lines[0].split(" ", 2)
    pairs = [line.partition(":") for line in lines[1:] if line]
    fields = tuple((name, value.strip()) for name, _, value in pairs if name.lower() != "host")
    host = "".join(value.strip() for name, _, value in pairs if name.lower() == "host")
    request = Request(method, target, host, proto, fields, tls)
    length = None if "chunked" in request.header("Transfer-Encoding") else int(request.header("Content-Length") or 0)
    return request, length


async def _read_body(reader: asyncio.StreamReader, request: Request, length: int | None) -> None:
    """Reads the body away; echoes do not need it."""
    if length is not None:
        await reader.readexactly(length)
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    while (await reader.readline()).strip():
        pass


def _encode_http1(answer: Answer, *, head_only: bool) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    head = f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Answer')}\r\n{fields}"
    length = "" if answer.status in {204, 304} else f"Content-Length: {len(answer.body)}\r\n"
    return f"{head}{length}\r\n".encode("latin-1") + (b"" if head_only else answer.body)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _websocket(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts the upgrade and sends every text or binary message back."""
    protocol = ServerProtocol()
    protocol.receive_data(head)
    while True:
        for event in protocol.events_received():
            if isinstance(event, WebSocketRequest):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                protocol.send_text(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                protocol.send_binary(bytes(event.data))
        for piece in protocol.data_to_send():
            if not piece:
                return
            writer.write(piece)
        data = await reader.read(65536)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()


class Http2:
    """One HTTP/2 connection; requests are answered side by side."""

    def __init__(
        self,
        pod: Pod,
        echo: Echo,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tls: dict[str, str] | None,
    ) -> None:
        self._pod, self._echo, self._tls = pod, echo, tls
        self._reader, self._writer = reader, writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._requests: dict[int, Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, start: bytes) -> None:
        """Serves until the client leaves; `start` is what was read already."""
        self._h2.initiate_connection()
        data = start
        while True:
            for event in self._h2.receive_data(data) if data else ():
                self._take(event)
            self._writer.write(self._h2.data_to_send())
            await self._writer.drain()
            data = await self._reader.read(65536)
            if not data:
                return

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            fields = [(str(name), str(value)) for name, value in event.headers or ()]
            pseudo = {name: value for name, value in fields if name.startswith(":")}
            plain = tuple((name, value) for name, value in fields if not name.startswith(":") and name != "host")
            host = pseudo.get(":authority") or dict(fields).get("host", "")
            self._requests[event.stream_id or 0] = Request(
                pseudo[":method"], pseudo[":path"], host, "HTTP/2.0", plain, self._tls
            )
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, h2.events.StreamEnded):
            task = asyncio.get_running_loop().create_task(self._answer(event.stream_id or 0))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: int) -> None:
        request = self._requests.pop(stream)
        answer = await self._echo.answer(self._pod, request)
        with contextlib.suppress(h2.exceptions.ProtocolError, ConnectionError):
            if answer.reset:
                self._h2.reset_stream(stream)
            else:
                names = ((name.lower(), value) for name, value in answer.headers)
                self._h2.send_headers(stream, [(":status", str(answer.status)), *names])
                self._h2.send_data(stream, b"" if request.method == "HEAD" else answer.body, end_stream=True)
            self._writer.write(self._h2.data_to_send())


async def _grpc_server(pod: Pod, echo: Echo, address: str) -> grpc.aio.Server:
    """A gRPC server of the echo service; messages are JSON, since only code, method, metadata and pod matter."""

    def handler(name: str) -> grpc.RpcMethodHandler:
        async def call(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
            metadata = tuple((str(key), str(value)) for key, value in context.invocation_metadata() or ())
            request = Request("POST", f"/{GRPC_SERVICE}/{name}", "", "HTTP/2.0", metadata)
            answer = await echo.answer(pod, request)
            return answer.body

        return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(GRPC_SERVICE, {name: handler(name) for name in ("Echo", "EchoTwo")}),)
    )
    server.add_insecure_port(address)
    await server.start()
    return server


class LeanPod(asyncio.Protocol):
    """Answers every HTTP/1.1 request at once with its name; for load, where the backend must cost next to nothing.

    Requests have no body. The path `/slow` is answered after half a second.
    """

    def __init__(self, name: str) -> None:
        body = name.encode()
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *whole, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in whole:
            if head.startswith(b"GET /slow"):
                asyncio.get_running_loop().call_later(0.5, self._transport.write, self._answer)
            else:
                self._transport.write(self._answer)


def _control(echo: Echo) -> Connection:
    """`GET /requests?since=N`: the log as JSON."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        since = int(head.split(b" ")[1].partition(b"=")[2] or b"0")
        body = msgspec.json.encode(echo.log_since(since))
        answer = Answer(headers=(("Content-Type", "application/json"), ("Connection", "close")), body=body)
        writer.write(_encode_http1(answer, head_only=False))
        await _closing(writer, writer.drain())

    return connection
