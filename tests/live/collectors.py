"""Collectors of spans, by OTLP over gRPC and over HTTP; what they get is decoded as far as tests look at it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc  # type: ignore[import-untyped]
import msgspec

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Span(msgspec.Struct, frozen=True):
    """One span."""

    service: str
    name: str
    trace: str
    parent: str
    """Identifier of the span that it belongs to; empty: it begins the trace."""
    attributes: dict[str, str]
    headers: dict[str, str]
    """What came with the message that holds it, names in lower case."""


class Collector:
    """What every collector has: the spans so far, and a way to wait for more."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._spans: list[Span] = []
        self._more = threading.Condition()

    def take(self, path: str, message: bytes, headers: dict[str, str]) -> None:
        """A message came in."""
        found = list(spans(message, headers))
        with self._more:
            self.paths.append(path)
            self._spans.extend(found)
            self._more.notify_all()

    def wait_for(self, path: str, number: int = 1, *, within_s: float = 60.0) -> list[Span]:
        """All spans of requests for a path, as soon as there are so many; what there is when time is over."""

        def mine() -> list[Span]:
            return [each for each in self._spans if each.attributes.get("http.url", "").endswith(path)]

        with self._more:
            self._more.wait_for(lambda: len(mine()) >= number, within_s)
            return mine()


class HttpCollector(Collector):
    """Takes OTLP by HTTP."""

    def __init__(self) -> None:
        super().__init__()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector.take(self.path, b"".join(self._chunks()), headers)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def _chunks(self) -> Iterator[bytes]:
                """The body, which comes in chunks."""
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Takes nothing any more."""
        self._server.shutdown()
        self._server.server_close()


class GrpcCollector(Collector):
    """Takes OTLP by gRPC."""

    def __init__(self) -> None:
        super().__init__()

        def export(message: bytes, context: grpc.ServicerContext) -> bytes:
            self.take(f"/{_SERVICE}/Export", message, dict(context.invocation_metadata()))
            return b""

        handler = grpc.unary_unary_rpc_method_handler(export)
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def stop(self) -> None:
        """Takes nothing any more."""
        self._server.stop(None).wait()


# --- What OTLP is on the wire (protobuf; opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest) -----------


def spans(message: bytes, headers: dict[str, str]) -> Iterator[Span]:
    """All spans of one message."""
    for resource_spans in _all(message, 1):
        resource = next(_all(resource_spans, 1), b"")
        service = dict(_pair(each) for each in _all(resource, 1)).get("service.name", "")
        for scope in _all(resource_spans, 2):
            for span in _all(scope, 2):
                yield Span(
                    service,
                    next(_all(span, 5), b"").decode(),
                    next(_all(span, 1), b"").hex(),
                    next(_all(span, 4), b"").hex(),
                    dict(_pair(each) for each in _all(span, 9)),
                    headers,
                )


def _pair(message: bytes) -> tuple[str, str]:
    """A KeyValue whose value is a text."""
    value = next(_all(message, 2), b"")
    return next(_all(message, 1), b"").decode(), next(_all(value, 1), b"").decode()


def _all(message: bytes, wanted: int) -> Iterator[bytes]:
    """The values of a field that has lengths: a text, bytes or a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                size, at = _varint(message, at)
                if tag >> 3 == wanted:
                    yield message[at : at + size]
                at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
