"""A backend to try gateways with: it answers every request with what it got. `python backend.py [PORT…]`, default 9000.

Needs nothing but Python. `/delay/SECONDS` is answered late, `/flaky` every other time with 503, and `/last` with what
the request before it was. With `--tls FOLDER` it speaks TLS with the files `tls.crt` and `tls.key` in there; with
`--with-parent` it ends when the process that started it does.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__((HOST, port), Echo)
        self.last = "Nothing yet.\n"
        self.flaky = itertools.count()
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        if self.path == "/last":
            return self.send(200, self.server.last)
        length = int(self.headers.get("content-length") or 0)
        got = self.rfile.read(length).decode(errors="replace")
        lines = [f"{self.command} {self.path}", *(f"{name}: {value}" for name, value in self.headers.items())]
        self.server.last = "\n".join([f"The backend on port {self.server.server_port} got:", *lines, ""])
        if got:
            self.server.last += f"\n{got}\n"
        if self.path.startswith("/delay/"):
            time.sleep(float(self.path.removeprefix("/delay/")))
        failing = self.path == "/flaky" and next(self.server.flaky) % 2 == 0
        return self.send(503, "Not now.\n") if failing else self.send(200, self.server.last)

    def send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway has an access log."""


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def tls_of(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


def main() -> int:
    parser = argparse.ArgumentParser(description="Answers every request with what it got.")
    parser.add_argument("ports", nargs="*", type=int, default=[9000], metavar="PORT")
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="folder with tls.crt and tls.key")
    parser.add_argument("--with-parent", action="store_true", help="end with the process that started this one")
    options = parser.parse_args()
    servers = []
    for port in options.ports:
        try:
            servers.append(Server(port, tls_of(options.tls) if options.tls else None))
        except OSError as error:
            print(f"backend: cannot listen on {HOST}:{port}: {error.strerror}", file=sys.stderr)
            return 1
    if options.with_parent:
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        servers[0].serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
