"""The echo backend of the live tests: one process that plays many pods and says what reached it.

Run as `python -m tests.live.echo CONFIG` (JSON, see `Settings`); it prints one line of JSON (`Ready`) once every port
is open and ends when its standard input closes, so that it cannot outlive the test run. What a pod answers is decided
here; `echo_servers.py` holds the protocols (HTTP/1.1 with WebSocket, HTTP/2, gRPC, TLS).
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter, deque
from urllib.parse import parse_qs, urlsplit

import msgspec

MAX_LOG = 200_000
_GO_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Deployment(msgspec.Struct, frozen=True):
    """Some pods that are alike: `http` pods serve HTTP/1.1, h2c and HTTPS, `grpc` pods gRPC, `lean` pods fixed text."""

    namespace: str
    name: str
    replicas: int = 1
    kind: str = "http"


class Settings(msgspec.Struct, frozen=True):
    """What the process plays. Pods get addresses of their own, counted up from `first_address`."""

    deployments: tuple[Deployment, ...]
    first_address: str
    certificate: str = ""
    """PEM file with the chain and the key of the HTTPS ports; empty: no HTTPS ports."""


class Placed(msgspec.Struct, frozen=True):
    """Where the pods of a deployment listen: one address for each pod, the same ports at all of them."""

    namespace: str
    name: str
    kind: str
    addresses: tuple[str, ...]
    ports: dict[str, int]


class Ready(msgspec.Struct, frozen=True):
    """Printed when every port is open. `control` serves the log at `127.0.0.1`."""

    control: int
    deployments: tuple[Placed, ...]


class Pod(msgspec.Struct, frozen=True):
    """One pod: its name is `<deployment>-<number>`."""

    namespace: str
    name: str


class Request(msgspec.Struct, frozen=True):
    """A request as it came in; header names as on the wire."""

    method: str
    target: str
    host: str
    proto: str
    headers: tuple[tuple[str, str], ...]
    tls: dict[str, str] | None = None

    def header(self, name: str) -> str:
        """All values of a header joined with commas; empty when it is missing."""
        return ",".join(value for key, value in self.headers if key.lower() == name.lower())


class Answer(msgspec.Struct, frozen=True):
    """What goes back; `reset` breaks the connection instead."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    reset: bool = False


class Logged(msgspec.Struct, frozen=True):
    """One entry of the log of received requests."""

    number: int
    namespace: str
    pod: str
    method: str
    path: str
    host: str
    headers: dict[str, list[str]]


class Echo:
    """Decides the answers of all pods of the process and keeps the log of what came in."""

    def __init__(self) -> None:
        self._log: deque[Logged] = deque(maxlen=MAX_LOG)
        self._received = 0
        self._failures: Counter[str] = Counter()

    async def answer(self, pod: Pod, request: Request) -> Answer:
        """The answer of `pod`, after the delay that the request asks for."""
        self._remember(pod, request)
        url = urlsplit(re.sub("^/+", "/", request.target))
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/health":
            return Answer(body=b"OK")
        if url.path.startswith("/status/"):
            code = url.path.removeprefix("/status/")
            return Answer(status=int(code)) if re.fullmatch("[2-5][0-9][0-9]", code) else Answer(status=400)
        if url.path.startswith("/retry/"):
            refusal = await self._fail_first(query)
            if refusal is not None:
                return refusal
        await asyncio.sleep(go_seconds(query.get("delay", "")))
        return Answer(headers=_wanted_headers(request), body=describe(pod, request))

    def log_since(self, number: int) -> list[Logged]:
        """Entries whose number is at least `number`; the next number to ask for is the last one's plus one."""
        return [entry for entry in self._log if entry.number >= number]

    async def _fail_first(self, query: dict[str, str]) -> Answer | None:
        """`/retry/…?uuid=U&succeedAfter=N[&responseCode=C][&delayRetry=D]`: the first N requests of U fail."""
        if "uuid" not in query or not query.get("succeedAfter", "").isdigit():
            return Answer(status=400, body=b"uuid and succeedAfter are needed")
        self._failures[query["uuid"]] += 1
        if self._failures[query["uuid"]] > int(query["succeedAfter"]):
            return None
        await asyncio.sleep(go_seconds(query.get("delayRetry", "")))
        code = query.get("responseCode", "")
        return Answer(status=int(code)) if code.isdigit() else Answer(reset=True)

    def _remember(self, pod: Pod, request: Request) -> None:
        self._log.append(
            Logged(
                self._received,
                pod.namespace,
                pod.name,
                request.method,
                request.target,
                request.host,
                canonical_headers(request.headers),
            )
        )
        self._received += 1


def describe(pod: Pod, request: Request) -> bytes:
    """The JSON that tells what reached the pod."""
    seen: dict[str, object] = {
        "path": request.target,
        "host": request.host,
        "method": request.method,
        "proto": request.proto,
        "headers": canonical_headers(request.headers),
        "namespace": pod.namespace,
        "pod": pod.name,
    }
    if request.tls is not None:
        seen["tls"] = request.tls
    return msgspec.json.encode(seen)


def canonical_headers(headers: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Header values by name in Go's canonical case, in the order of arrival."""
    collected: dict[str, list[str]] = {}
    for name, value in headers:
        collected.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    return collected


def go_seconds(text: str) -> float:
    """Seconds of a Go duration such as `1.5s` or `300ms`; 0 for anything else."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _GO_DURATION.findall(text))


def _wanted_headers(request: Request) -> tuple[tuple[str, str], ...]:
    """`X-Echo-Set-Header: name:value,name2:value2` sets headers of the answer."""
    wanted: dict[str, list[str]] = {}
    for part in request.header("X-Echo-Set-Header").split(","):
        name, colon, value = part.partition(":")
        if colon and value.strip():
            wanted.setdefault(name.strip(), []).append(value.strip())
    plain = (("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"))
    return (*plain, *((name, ",".join(values)) for name, values in wanted.items()))


if __name__ == "__main__":
    from tests.live.echo_servers import run

    run(sys.argv[1])
