"""Backends for streams, each at a port of its own: they answer every piece that comes with their name and what it was.

A TLS backend shows a certificate for its names and says which server name the client asked for.
"""

from __future__ import annotations

import socketserver
import ssl
import threading
from pathlib import Path
from typing import Any

from tests.live.certificates import Authority


class _UdpServer(socketserver.ThreadingUDPServer):
    max_packet_size = 65_535


class StreamServer:
    """A TCP backend, by TLS if it has an authority, or a UDP backend."""

    def __init__(
        self, name: str, *, udp: bool = False, authority: Authority | None = None, folder: Path | None = None
    ) -> None:
        self.name, self.authority = name, authority
        self._context: ssl.SSLContext | None = None
        if authority is not None and folder is not None:
            chain, key = authority.issue("*.example.com", "*.two.example.com")
            file = folder / f"{name}.pem"
            file.write_text(chain + key)
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(file)
            self._context.sni_callback = self._keep_name
        kind = _UdpServer if udp else socketserver.ThreadingTCPServer
        self._server: socketserver.BaseServer = kind(("127.0.0.1", 0), self._datagrams() if udp else self._stream())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def said(self, piece: bytes, sni: str = "") -> bytes:
        """The answer to a piece."""
        return f"{self.name} {sni}".encode().strip() + b": " + piece

    def _stream(self) -> type[socketserver.BaseRequestHandler]:
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                connection: Any = self.request
                try:
                    if server._context is not None:
                        connection = server._context.wrap_socket(connection, server_side=True)
                    while piece := connection.recv(4096):
                        connection.sendall(server.said(piece, getattr(connection, "asked_for", "")))
                except OSError:
                    return

        return Handler

    def _datagrams(self) -> type[socketserver.BaseRequestHandler]:
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                piece, answer_by = self.request
                answer_by.sendto(server.said(piece), self.client_address)

        return Handler

    @staticmethod
    def _keep_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.asked_for = name or ""  # type: ignore[attr-defined]
