"""A `tripylon` command that serves, as a process of its own: what it says, what it answers, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_S = 60.0


class Answer(NamedTuple):
    """What a request was answered with."""

    status: int
    body: str


class Standalone:
    """One running command; its output is collected in files."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.admin = free_port()
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        command = [sys.executable, "-m", "tripylon", *words, "--admin", f"127.0.0.1:{self.admin}"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder)

    def said(self) -> str:
        return self.err.read_text()

    def wait_said(self, text: str, *, times: int = 1) -> str:
        """Wait until stderr holds the text that often."""
        wait_for(lambda: self.said().count(text) >= times, lambda: f"{text!r} was not said: {self.said()}")
        return self.said()

    def ready(self) -> Standalone:
        wait_for(self._is_ready, self.said)
        return self

    def picture(self) -> dict[str, Any]:
        picture: dict[str, Any] = json.loads(request(self.admin, "/picture").body)
        return picture

    def envoy_pid(self, state: Path) -> int:
        pid: int = json.loads((state / "envoy.pid").read_text())["process"]["pid"]
        return pid

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=LIMIT_S)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said()}"
        try:
            return request(self.admin, "/readyz").status == 200
        except OSError:
            return False


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[Standalone]:
    """The command for as long as the block runs, ended orderly whatever happens."""
    standalone = Standalone(folder, *words)
    try:
        yield standalone
    finally:
        if standalone.process.poll() is None:
            standalone.end(signal.SIGTERM)


@contextlib.contextmanager
def backend(text: str, gate: threading.Event | None = None) -> Iterator[int]:
    """An HTTP server that answers everything with `text` and the Host header that it got; gives its port.

    With a gate, each answer waits until that is open.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if gate is not None:
                gate.wait(LIMIT_S)
            body = f"{text} {self.headers['host']}".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def request(port: int, path: str = "/", *, host: str = "localhost", tls: bool = False) -> Answer:
    """One GET to a port of 127.0.0.1."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    connection: http.client.HTTPConnection
    if tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=unverified)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode())


def wait_for(condition: Callable[[], bool], why: Callable[[], str]) -> None:
    ends = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < ends, why()
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
