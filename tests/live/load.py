"""An open-loop load client: sends a stated number of requests per second, whether or not the answers keep up.

Run as `python -m tests.live.load SETTINGS` (JSON, see `Load`). It prints `serving` after its first answers, runs until
its standard input closes, waits for what is under way, and writes its records into the output file. `LoadClient` starts
it and reads the records.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import msgspec
from tests.live.fleet import ROOT

TICK_S = 0.002
MAX_CONNECTIONS = 400
FINISH_S = 10.0
READY_AFTER = 200


class Load(msgspec.Struct, frozen=True):
    """What to send: GET requests for `path`, for each one a host drawn from `hosts`."""

    address: str
    port: int
    hosts: tuple[str, ...]
    output: str
    rate: float = 2000.0
    path: str = "/"
    seed: int = 1
    authority: str = ""
    """PEM file with the authority of the server's certificate; empty: no TLS."""
    requests_per_connection: int = 0
    """After so many requests a connection is closed and another one opened; 0: never."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request: when it was sent and answered (seconds of the monotonic clock), for which host, and the outcome.

    The outcome is `200 <body>`, or the status alone for other answers, `reset` for a connection that ended, `refused`
    when none could be opened, `lost` when no answer came.
    """

    sent_s: float
    done_s: float
    host: str
    outcome: str


class LoadClient:
    """A load client in a process of its own."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def __enter__(self) -> LoadClient:
        arguments = (sys.executable, "-m", "tests.live.load", msgspec.json.encode(self._load).decode())
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def finish(self) -> list[Record]:
        """Ends the load and returns every request that was sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(FINISH_S * 3) == 0
        return msgspec.msgpack.decode(Path(self._load.output).read_bytes(), type=list[Record])


class _Connection(asyncio.Protocol):
    """One keep-alive connection that carries one request at a time."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self.host = ""
        self.sent_s = 0.0
        self.requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, host: str, request: bytes) -> None:
        assert self._transport is not None
        self.host, self.sent_s = host, time.monotonic()
        self.requests += 1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head, body = self._data[:end].lower(), self._data[end + 4 :]
        start = head.find(b"\r\ncontent-length:")
        length = int(head[start + 17 :].partition(b"\r")[0]) if start >= 0 else 0
        if len(body) < length:
            return
        self._data = b""
        status = head[9:12].decode()
        self._sender.answered(self, f"{status} {body.decode()}" if status == "200" else status)
        if b"\r\nconnection: close" in head or self.requests == self._sender.requests_per_connection:
            if self._transport is not None:
                self._transport.close()
        else:
            self._sender.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._sender.lost(self)


class _Sender:
    """Paces the requests and keeps the records."""

    def __init__(self, load: Load) -> None:
        self._idle: deque[_Connection] = deque()
        self._queue: deque[str] = deque()
        self.records: list[Record] = []
        self._load = load
        self.requests_per_connection = load.requests_per_connection
        self._tls = ssl.create_default_context(cafile=load.authority) if load.authority else None
        self._waiting: set[_Connection] = set()
        self._connections = 0
        self._random = random.Random(load.seed)
        self._requests = {host: f"GET {load.path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode() for host in load.hosts}
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Sends until standard input closes."""
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        begin, sent, announced = time.monotonic(), 0, False
        while not ended.done():
            due = int((time.monotonic() - begin) * self._load.rate) - sent
            for _ in range(due):
                self._send(self._random.choice(self._load.hosts))
            sent += due
            if not announced and len(self.records) >= READY_AFTER:
                announced = bool(sys.stdout.write("serving\n"))
                sys.stdout.flush()
            await asyncio.sleep(TICK_S)
        deadline = time.monotonic() + FINISH_S
        while (self._waiting or self._opening or self._queue) and time.monotonic() < deadline:
            await asyncio.sleep(TICK_S)
        now = time.monotonic()
        self.records += [Record(one.sent_s, now, one.host, "lost") for one in self._waiting]
        self.records += [Record(now, now, host, "lost") for host in self._queue]

    def answered(self, connection: _Connection, outcome: str) -> None:
        self._waiting.discard(connection)
        self.records.append(Record(connection.sent_s, time.monotonic(), connection.host, outcome))

    def lost(self, connection: _Connection) -> None:
        self._connections -= 1
        if connection in self._waiting:
            self.answered(connection, "reset")
        elif connection in self._idle:
            self._idle.remove(connection)
        if self._queue:
            self._send(self._queue.popleft())

    def free(self, connection: _Connection) -> None:
        """Takes back a connection that may carry the next request."""
        if self._queue:
            self._send_over(connection, self._queue.popleft())
        else:
            self._idle.append(connection)

    def _send(self, host: str) -> None:
        """Sends over an idle connection, else over a new one, else as soon as one of the many is free."""
        if self._idle:
            self._send_over(self._idle.pop(), host)
        elif self._connections >= MAX_CONNECTIONS:
            self._queue.append(host)
        else:
            self._connections += 1
            task = asyncio.get_running_loop().create_task(self._open(host))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, host: str) -> None:
        begin = time.monotonic()
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self),
                self._load.address,
                self._load.port,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
        except OSError:
            self._connections -= 1
            self.records.append(Record(begin, time.monotonic(), host, "refused"))
            return
        self._send_over(connection, host)

    def _send_over(self, connection: _Connection, host: str) -> None:
        self._waiting.add(connection)
        connection.send(host, self._requests[host])


async def _main(settings: str) -> None:
    load = msgspec.json.decode(settings, type=Load)
    sender = _Sender(load)
    await sender.run()
    Path(load.output).write_bytes(msgspec.msgpack.encode(sender.records))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
