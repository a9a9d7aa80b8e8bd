"""Backends that speak TLS only, each with the certificate and the demands of its test; they say what they saw."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any

from tests.live.certificates import Authority


class TlsServer:
    """One address that answers HTTP/1.1 over TLS with `{"sni", "alpn", "client", "connection"}` as JSON.

    `clients` is the authority whose certificates clients must show; None: they are not asked for any.
    """

    def __init__(self, folder: Path, authority: Authority, *names: str, clients: Authority | None = None) -> None:
        chain, key = authority.issue(*names)
        file = folder / f"{names[0].replace('/', '_').replace(':', '_')}-{id(self)}.pem"
        file.write_text(chain + key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(file)
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.sni_callback = self._keep_name
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=clients.pem)
        self.connections = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port at 127.0.0.1."""
        return int(self._server.server_address[1])

    def secured(self, plain: Any) -> ssl.SSLSocket:
        """A connection after its handshake."""
        self.connections += 1
        return self._context.wrap_socket(plain, server_side=True)

    def stop(self) -> None:
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def _keep_name(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.sni = name or ""  # type: ignore[attr-defined]


def _handler(server: TlsServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = server.secured(self.request)
            self.number = server.connections
            super().setup()

        def do_GET(self) -> None:
            shown = self.request.getpeercert(binary_form=True)
            seen = {
                "sni": getattr(self.request, "sni", ""),
                "alpn": self.request.selected_alpn_protocol() or "",
                "client": ssl.DER_cert_to_PEM_cert(shown) if shown else "",
                "connection": self.number,
            }
            body = json.dumps(seen).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: tests look at answers."""

    return Handler
