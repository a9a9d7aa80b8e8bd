"""A client in a process of its own that says when an answer changes: `python -m tests.bench.probe PORT`.

It reads lines `host path status` and asks again and again on one keep-alive connection until that status comes; then it
prints the time on the monotonic clock, which is the same for all processes. Of several hosts, joined by commas, each is
asked until it answers so. An answer is at most the length of one request and 0.1 ms older than its stamp.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

_LIMIT_S = 30.0


class Probe:
    """The other side: asks the process and reads its stamps."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def expect(self, host: str, path: str, status: int) -> None:
        """Begins to ask; returns once the first answer, still the old one, has come."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{host} {path} {status}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "asking\n"

    def seen(self) -> float:
        """Waits until the answer has changed; when that was, on the monotonic clock."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip():
            raise TimeoutError("the answer did not change")
        return float(line)


@contextlib.contextmanager
def probing(port: int) -> Iterator[Probe]:
    """A probe of a port of this machine."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.probe", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Probe(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """The process."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for line in sys.stdin:
            hosts, path, status = line.split()
            requests = [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for host in hosts.split(",")]
            wanted = status.encode()
            _ask(connection, requests[0])
            print("asking", flush=True)
            deadline = time.monotonic() + _LIMIT_S
            for request in requests:
                while _ask(connection, request) != wanted:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{request!r} was not answered with {status}")
                    time.sleep(0.0001)
            print(time.monotonic(), flush=True)


def _ask(connection: socket.socket, request: bytes) -> bytes:
    """One request; the three digits of the answer's status. Bodies are short and have a length."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += _receive(connection)
    return head[9:12]


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the gateway closed the connection")
    return data


if __name__ == "__main__":
    main()
