"""Proxies by bare HTTP/2 frames: cheap enough for a thousand in one process, and free to misbehave.

`RawProxy` is one connection with one stream. Its `Site` is what all proxies of a group have in common: what a response
means is worked out once for all of them, by its bytes. It subscribes to what clusters and listeners refer to, as Envoy
does, and acknowledges at once.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from tripylon.pb.messages import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from tripylon.xds.client import METHOD, References
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, VHDS

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_MOST = (1 << 31) - 1
_FIRST_WINDOW, _FRAME_BYTES = 65_535, 16_384
_INITIAL_WINDOW = 4
_REMEMBERED = 64
"""How many responses a site keeps in mind: proxies that get the same ones get them at about the same time."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without Huffman code or index; both texts are shorter than 16,000 bytes."""
    return b"\0" + b"".join(_length(len(text)) + text.encode() for text in (name, value))


def _length(size: int) -> bytes:
    if size < 127:
        return bytes((size,))
    size -= 127
    return bytes((127, size)) if size < 128 else bytes((127, size & 127 | 128, size >> 7))


def hello(metadata: Mapping[str, str]) -> bytes:
    """What opens a connection and its stream; the windows are so wide that they never need widening."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": "ads",
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    settings = struct.pack(">HI", _INITIAL_WINDOW, _MOST)
    widen = struct.pack(">I", _MOST - _FIRST_WINDOW)
    head = b"".join(_literal(name, value) for name, value in fields.items())
    return _PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW, 0, 0, widen) + frame(_HEADERS, 4, 1, head)


def message(request: DeltaDiscoveryRequest) -> bytes:
    """A request as gRPC frames it."""
    payload = request.SerializeToString()
    return struct.pack(">?I", False, len(payload)) + payload


class Lesson(msgspec.Struct, frozen=True):
    """What a response says."""

    url: str
    names: tuple[str, ...]
    removed: tuple[str, ...]
    refers: Mapping[str, tuple[str, ...]]
    """Names by the type that the resources refer to."""
    ack: bytes


class Site:
    """What proxies of one group share."""

    def __init__(self, references: References) -> None:
        self.versions: dict[str, dict[str, str]] = {}
        """What all of them have in the end, by type: what one says that it has when it comes back."""
        self._references = references
        self._lessons: dict[bytes, Lesson] = {}

    def lesson(self, payload: bytes) -> Lesson:
        known = self._lessons.get(payload)
        if known is None:
            while len(self._lessons) >= _REMEMBERED:
                del self._lessons[next(iter(self._lessons))]
            known = self._lessons[payload] = self._learn(payload)
        return known

    def _learn(self, payload: bytes) -> Lesson:
        response = DeltaDiscoveryResponse.FromString(payload)
        url, refers = response.type_url, dict[str, dict[str, None]]()
        held = self.versions.setdefault(url, {})
        for resource in response.resources:
            held[resource.name] = resource.version
            for to, name in self._references(url, resource.resource.value):
                refers.setdefault(to, {})[name] = None
        for name in response.removed_resources:
            held.pop(name, None)
        return Lesson(
            url,
            tuple(resource.name for resource in response.resources),
            tuple(response.removed_resources),
            {to: tuple(names) for to, names in refers.items()},
            message(DeltaDiscoveryRequest(type_url=url, response_nonce=response.nonce)),
        )


class RawProxy(asyncio.Protocol):
    """One proxy. `refuses`: its complaint about everything; `returning`: it says what it has from an earlier stream."""

    def __init__(
        self,
        node: str,
        site: Site,
        *,
        cluster: str = "",
        refuses: str = "",
        returning: bool = False,
        metadata: Mapping[str, str] | None = None,
        on_end: Callable[[RawProxy], None] = lambda _: None,
    ) -> None:
        self.node, self._cluster, self._site = node, cluster, site
        self._refuses, self._returning, self._metadata = refuses, returning, metadata or {}
        self._on_end = on_end
        self.responses: Counter[str] = Counter()
        """By type URL."""
        self.ended = False
        self._opened: set[str] = set()
        self._asked: dict[str, set[str]] = {}
        self._said_who = False
        self._transport: asyncio.Transport
        self._pieces: list[bytes] = []
        """Of a frame that is not whole yet."""
        self._have = 0
        self._text = bytearray()
        """Of a message that is not whole yet."""
        self._queue = bytearray()
        self._windows = {0: _FIRST_WINDOW, 1: _FIRST_WINDOW}

    # What tests do to it

    def stall(self) -> None:
        """Reads no more."""
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # What the network does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(hello(self._metadata))
        self._say(self._open(CDS), self._open(LDS))
        if self._returning:
            self._say(*(self._open(url, known) for url, known in self._site.versions.items() if url not in (CDS, LDS)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        first = self._pieces[0]
        if len(first) >= 9 and self._have < 9 + int.from_bytes(first[:3]):
            return
        whole = b"".join(self._pieces) if len(self._pieces) > 1 else data
        at = 0
        while len(whole) - at >= 9 and len(whole) - at >= 9 + (size := int.from_bytes(whole[at : at + 3])):
            body = whole[at + 9 : at + 9 + size]
            self._frame(whole[at + 3], whole[at + 4], int.from_bytes(whole[at + 5 : at + 9]), body)
            at += 9 + size
        self._pieces = [whole[at:]] if at < len(whole) else []
        self._have = len(whole) - at

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _DATA:
            self._text += body
            self._messages()
        elif kind == _SETTINGS and not flags & 1:
            for at in range(0, len(body), 6):
                setting, value = struct.unpack_from(">HI", body, at)
                if setting == _INITIAL_WINDOW:
                    self._windows[1] += value - _FIRST_WINDOW
            self._transport.write(frame(_SETTINGS, 1, 0))
            self._flush()
        elif kind == _PING and not flags & 1:
            self._transport.write(frame(_PING, 1, 0, body))
        elif kind == _WINDOW:
            self._windows[stream] = self._windows.get(stream, 0) + int.from_bytes(body)
            self._flush()
        elif kind in (_RESET, _GOAWAY) or (kind == _HEADERS and flags & 1):
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._transport.close()
            self._on_end(self)

    # What it says

    def _messages(self) -> None:
        while len(self._text) >= 5:
            size = int.from_bytes(self._text[1:5])
            if len(self._text) < 5 + size:
                return
            payload = bytes(memoryview(self._text)[5 : 5 + size])
            del self._text[: 5 + size]
            self._take(payload)

    def _take(self, payload: bytes) -> None:
        lesson = self._site.lesson(payload)
        self.responses[lesson.url] += 1
        if self._refuses:
            refusal = DeltaDiscoveryRequest.FromString(lesson.ack[5:])
            refusal.error_detail.message = self._refuses
            self._say(message(refusal))
            return
        for to in (EDS, SDS, RDS):
            self._subscribe(to, lesson.refers.get(to, ()))
        if lesson.url == CDS and lesson.removed:
            self._unsubscribe(EDS, lesson.removed)
        if lesson.url == RDS and VHDS not in self._opened:
            self._say(self._open(VHDS))
        self._say(lesson.ack)

    def _subscribe(self, url: str, names: tuple[str, ...]) -> None:
        if not names:
            return
        if url not in self._opened:
            self._say(self._open(url, names))
        elif new := [name for name in names if name not in self._asked[url]]:
            self._asked[url].update(new)
            self._say(message(DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=new)))

    def _unsubscribe(self, url: str, names: Iterable[str]) -> None:
        if gone := [name for name in names if name in self._asked.get(url, ())]:
            self._asked[url].difference_update(gone)
            self._say(message(DeltaDiscoveryRequest(type_url=url, resource_names_unsubscribe=gone)))

    def _open(self, url: str, names: Iterable[str] = ()) -> bytes:
        self._opened.add(url)
        self._asked[url] = set(names)
        named = () if url in (CDS, LDS, VHDS) else names
        known = self._site.versions.get(url, {}) if self._returning else {}
        request = DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=named, initial_resource_versions=known)
        if not self._said_who:
            self._said_who = True
            request.node.id, request.node.cluster = self.node, self._cluster
        return message(request)

    def _say(self, *messages: bytes) -> None:
        for each in messages:
            self._queue += each
        self._flush()

    def _flush(self) -> None:
        while self._queue and (room := min(_FRAME_BYTES, *self._windows.values())) > 0:
            part = bytes(self._queue[:room])
            del self._queue[:room]
            for stream in self._windows:
                self._windows[stream] -= len(part)
            self._transport.write(frame(_DATA, 0, 1, part))


async def connect(
    proxy: RawProxy, *, path: str | None = None, port: int = 0, trust: ssl.SSLContext | None = None
) -> RawProxy:
    """Over a Unix socket, or over TCP to this machine, with TLS if there is something to trust."""
    loop = asyncio.get_running_loop()
    if path is not None:
        await loop.create_unix_connection(lambda: proxy, path)
    else:
        name = "localhost" if trust is not None else None
        await loop.create_connection(lambda: proxy, "127.0.0.1", port, ssl=trust, server_hostname=name)
    return proxy
