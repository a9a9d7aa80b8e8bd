"""A backend to try gateways with: it answers every request with what it got. `python backend.py [PORT]`, default 9000.

Needs nothing but Python. With `--with-parent` it ends when the process that started it does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        got = self.rfile.read(length)
        lines = [f"{self.command} {self.path}", *(f"{name}: {value}" for name, value in self.headers.items())]
        body = "\n".join(["The backend got:", *lines]).encode() + b"\n" + (b"\n" + got + b"\n" if got else b"")
        self.send_response(200)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the gateway has an access log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--with-parent"]
    port = int(words[0]) if words else 9000
    try:
        server = Server((HOST, port), Echo)
    except OSError as error:
        print(f"backend: cannot listen on {HOST}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    if "--with-parent" in sys.argv:
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
