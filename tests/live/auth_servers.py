"""Services that are asked whether a request may pass, by HTTP and by ext_authz: whoever has the word is let in."""

from __future__ import annotations

import http.server
import threading
from concurrent import futures
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass

from tripylon.pb.descriptors import pool

WORD = "open sesame"
_CHECK = "envoy.service.auth.v3.Authorization"
_PACKAGE = "envoy.service.auth.v3"
_UNAUTHENTICATED = 16


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    """Connections that wait; one that finds no place is tried again after a second."""


class HttpAuth:
    """Asked by HTTP. `asked` holds method, path, headers (names in lower case) and body of each question.

    `more` are further headers of what it answers to whom it knows.
    """

    def __init__(self, *more: tuple[str, str]) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                asked.append((self.command, self.path, headers, body))
                known = headers.get("authorization") == WORD
                said = b"" if known else b"who are you?"
                self.send_response(200 if known else 401)
                self.send_header("x-user", "ali")
                self.send_header("x-more", "treasure")
                self.send_header("host", "evil.example.com")
                for name, value in more if known else ():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answers nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class GrpcAuth:
    """Asked by gRPC. `asked` holds the questions as messages.

    `more` are further headers that its answers set, `removed` those that they take away.
    """

    def __init__(self, *more: tuple[str, str], removed: tuple[str, ...] = ()) -> None:
        self.asked: list[Any] = []
        request = GetMessageClass(pool().FindMessageTypeByName(f"{_PACKAGE}.CheckRequest"))
        response = GetMessageClass(pool().FindMessageTypeByName(f"{_PACKAGE}.CheckResponse"))

        def check(question: Any, _: object) -> Any:
            self.asked.append(question)
            headers = question.attributes.request.http.headers
            answer: Any = response()
            if headers.get("authorization") != WORD:
                answer.status.code = _UNAUTHENTICATED
                answer.denied_response.status.code = 401
                return answer
            answer.ok_response.headers_to_remove.extend(removed)
            for name, value in (("x-user", "ali"), ("host", "evil.example.com"), *more):
                option = answer.ok_response.headers.add()
                option.header.key, option.header.value = name, value
            return answer

        handler = grpc.unary_unary_rpc_method_handler(
            check, request_deserializer=request.FromString, response_serializer=lambda each: each.SerializeToString()
        )
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_CHECK, {"Check": handler}),))
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    def stop(self) -> None:
        """Answers nobody any more."""
        self._server.stop(None).wait()
