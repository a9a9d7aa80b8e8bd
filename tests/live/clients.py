"""Clients of the live tests: one request over HTTP/1.1, HTTP/2 with prior knowledge, HTTPS, gRPC or WebSocket.

The address that is dialled, the server name of the TLS handshake and the Host header are three separate things here, as
tests of gateways need them. Every call is bounded by a time-out.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import msgspec
from tests.live.echo_servers import GRPC_SERVICE
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

TIMEOUT_S = 10.0
ProtocolError = (http.client.HTTPException, h2.exceptions.ProtocolError, WebSocketException)
"""What clients raise when the answer is none, besides OSError."""


class Target(msgspec.Struct, frozen=True):
    """Where to dial. With `authority` (PEM) the connection is TLS and the certificate must fit `sni`."""

    address: str
    port: int
    authority: str = ""
    sni: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request."""

    method: str = "GET"
    path: str = "/"
    host: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True):
    """What came back. `seen` is the echo's JSON, empty when a pod of ours did not answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seen: dict[str, object]

    def header(self, name: str) -> str | None:
        """All values of a header joined with commas, or None when it is missing."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ",".join(values) if values else None

    @property
    def pod(self) -> str:
        """`namespace/name` of the pod that answered, or the empty string."""
        return f"{self.seen['namespace']}/{self.seen['pod']}" if self.seen else ""


@contextlib.contextmanager
def dial(target: Target, *, protocols: tuple[str, ...] = ("http/1.1",)) -> Iterator[socket.socket]:
    """A connection to the target, through TLS when it has an authority."""
    with socket.create_connection((target.address, target.port), timeout=TIMEOUT_S) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not target.authority:
            yield plain
            return
        context = ssl.create_default_context(cadata=target.authority)
        context.set_alpn_protocols(list(protocols))
        context.check_hostname = bool(target.sni)
        with context.wrap_socket(plain, server_hostname=target.sni or None) as secured:
            yield secured


def http1(target: Target, call: Call) -> Answer:
    """One request over a connection of its own."""
    with Session(target) as session:
        return session.send(call)


class Session:
    """An HTTP/1.1 connection for many requests, one after the other."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Session:
        self._connection = http.client.HTTPConnection(self._target.address, self._target.port, timeout=TIMEOUT_S)
        self._connection.sock = self._stack.enter_context(dial(self._target))
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._stack.close()

    def send(self, call: Call) -> Answer:
        """Sends a request and reads its answer whole."""
        connection = self._connection
        connection.putrequest(call.method, call.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", call.host)
        for name, value in call.headers:
            connection.putheader(name, value)
        if call.body:
            connection.putheader("Content-Length", str(len(call.body)))
        connection.endheaders(call.body or None)
        response = connection.getresponse()
        body = response.read()
        return _answer(response.status, tuple(response.getheaders()), body)


def http2(target: Target, call: Call) -> Answer:
    """One HTTP/2 request: prior knowledge in clear text, ALPN through TLS."""
    with dial(target, protocols=("h2",)) as connection:
        return http2_over(connection, call, scheme="https" if target.authority else "http")


def http2_over(connection: socket.socket, call: Call, *, scheme: str = "http") -> Answer:
    """The only HTTP/2 request of an open connection."""
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    protocol.initiate_connection()
    pseudo = [(":method", call.method), (":scheme", scheme), (":authority", call.host), (":path", call.path)]
    fields = [*pseudo, *((name.lower(), value) for name, value in call.headers)]
    protocol.send_headers(1, fields, end_stream=not call.body)
    if call.body:
        protocol.send_data(1, call.body, end_stream=True)
    connection.sendall(protocol.data_to_send())
    headers: list[tuple[str, str]] = []
    body = b""
    while True:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the connection ended before the answer did")
        for event in protocol.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                headers = [(str(name), str(value)) for name, value in event.headers or ()]
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
                protocol.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            elif isinstance(event, h2.events.StreamReset):
                raise ConnectionResetError(f"the stream was reset with code {event.error_code}")
            elif isinstance(event, h2.events.StreamEnded):
                plain = tuple(field for field in headers if not field[0].startswith(":"))
                return _answer(int(dict(headers)[":status"]), plain, body)
        connection.sendall(protocol.data_to_send())


class GrpcAnswer(msgspec.Struct, frozen=True):
    """What a gRPC call ended with: the code's name, such as `OK` or `UNAVAILABLE`, and the echo's JSON."""

    code: str
    seen: dict[str, object] = {}
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def pod(self) -> str:
        """`namespace/name` of the pod that answered, or the empty string."""
        return f"{self.seen['namespace']}/{self.seen['pod']}" if self.seen else ""


class GrpcSession:
    """A gRPC channel for many calls."""

    def __init__(self, target: Target, authority: str) -> None:
        options = [("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
        if target.authority:
            credentials = grpc.ssl_channel_credentials(target.authority.encode())
            options.append(("grpc.ssl_target_name_override", target.sni))
            self._channel = grpc.secure_channel(f"{target.address}:{target.port}", credentials, options)
        else:
            self._channel = grpc.insecure_channel(f"{target.address}:{target.port}", options)

    def __enter__(self) -> GrpcSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> GrpcAnswer:
        """Calls a method of the echo service, or of another one when `method` is written `service/method`."""
        path = f"/{method}" if "/" in method else f"/{GRPC_SERVICE}/{method}"
        stub = self._channel.unary_unary(path)
        lower = tuple((name.lower(), value) for name, value in metadata)
        try:
            body, call = stub.with_call(b"", metadata=lower, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return GrpcAnswer(error.code().name)
        headers = tuple((str(name), str(value)) for name, value in call.initial_metadata())
        return GrpcAnswer("OK", msgspec.json.decode(body), headers)


def websocket(target: Target, call: Call, messages: tuple[str | bytes, ...]) -> tuple[str | bytes, ...]:
    """Opens a WebSocket, sends each message and returns what came back for it."""
    with socket.create_connection((target.address, target.port), timeout=TIMEOUT_S) as plain:
        address = f"ws://{call.host}{call.path}"
        headers = list(call.headers)
        with connect(address, sock=plain, additional_headers=headers, open_timeout=TIMEOUT_S, proxy=None) as opened:
            answers = []
            for message in messages:
                opened.send(message)
                answers.append(opened.recv(timeout=TIMEOUT_S))
            return tuple(answers)


def _answer(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> Answer:
    json = any(name.lower() == "content-type" and value == "application/json" for name, value in headers)
    return Answer(status, headers, body, msgspec.json.decode(body) if json and body else {})
