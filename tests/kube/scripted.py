"""An HTTP server that answers as an API server would, by a script: what to say to each list and each watch in turn.

`lists` and `watches` hold, by path, what comes next; the last answer to a list stays, and a watch without a script
stays open and silent. `requests` tells what was asked.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from tripylon.kube.client import Client, Timeouts
from tripylon.kube.config import ClusterConfig, User

Answer = web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]
Object = dict[str, Any]

GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"
ROUTES = f"{GATEWAY_API}/httproutes"


class Asked(msgspec.Struct):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


def route(name: str, version: int, *, path: str = "/", namespace: str = "shop") -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}]},
    }


def listing(*items: Object, version: int, token: str = "") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": str(version), "continue": token}, "items": items})

    return answer


def status(code: int, reason: str = "", message: str = "no", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(status_of(code, reason, message), status=code, headers=headers)

    return answer


def status_of(code: int, reason: str, message: str = "no") -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def kinds(*names: tuple[str, str]) -> Answer:
    """The kinds of a group and version: names and plurals."""

    async def answer(_: web.Request) -> web.StreamResponse:
        found = [{"name": plural, "kind": kind, "namespaced": True, "verbs": ["list"]} for kind, plural in names]
        return web.json_response({"kind": "APIResourceList", "resources": found})

    return answer


def line(type: str, obj: Object) -> bytes:
    return json.dumps({"type": type, "object": obj}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"kind": "HTTPRoute", "metadata": {"resourceVersion": str(version)}})


def stream(*parts: bytes, then: str = "end") -> Answer:
    """Say these, then `end` in order, `cut` the connection, or `stay` silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.005)
        if then == "cut":
            assert request.transport is not None
            request.transport.abort()
        elif then == "stay":
            await asyncio.sleep(3600)
        return response

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Scripted:
    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.lists: dict[str, deque[Answer]] = defaultdict(deque)
        self.watches: dict[str, deque[Answer]] = defaultdict(deque)
        self.answers: dict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        self.handle: Callable[[web.Request, bytes], Awaitable[web.StreamResponse | None]] | None = None
        self.url = ""
        self._asked = asyncio.Event()

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path].extend(answers)

    def asked(self, path: str, *, watch: bool | None = None, method: str = "GET") -> list[Asked]:
        return [
            each
            for each in self.requests
            if each.path == path and each.method == method and (watch is None or ("watch" in each.query) == watch)
        ]

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not true():
                self._asked.clear()
                await self._asked.wait()

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = Asked(request.method, request.path, dict(request.query), dict(request.headers), body)
        self.requests.append(asked)
        self._asked.set()
        if self.handle is not None and (answer := await self.handle(request, body)) is not None:
            return answer
        return await self._scripted(asked, request)

    async def _scripted(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        if "watch" in asked.query:
            queue = self.watches[asked.path]
            answer = queue.popleft() if queue else stream(then="stay")
        else:
            queue = self.answers.get((asked.method, asked.path)) or self.lists[asked.path]
            if not queue:
                answer = status(404, "NotFound", f"{asked.path} is not there")
            else:
                answer = queue.popleft() if len(queue) > 1 else queue[0]
        return await answer(request) if callable(answer) else answer


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.dispatch)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server(shutdown_timeout=0.05)
    server.url = str(running.make_url("")).rstrip("/")
    try:
        yield server
    finally:
        await running.close()


def client_of(server: Scripted, *, user: User | None = None, attempts: int = 3, **timeouts: float) -> Client:
    config = ClusterConfig(server=server.url, user=user or User(token="secret"))
    return Client(config, attempts=attempts, timeouts=Timeouts(**timeouts))


def names(items: Iterable[Any]) -> list[str]:
    return [item.metadata.name for item in items]
