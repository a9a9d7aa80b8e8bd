"""Scoped and plain tables of routes answer alike, whatever a client writes as its host; and the header is ours alone.

Each request here is sent byte by byte to the real Envoy in both layouts, and what is expected does not name the layout.
That the header reaches no mirror is shown in `test_every_host.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import pytest
from tests.live import clients
from tests.live.auth_servers import GrpcAuth, HttpAuth
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from tests.live.test_external_auth import KNOWN, asking, service

from tripylon.envoy.scopes import HEADER

pytestmark = pytest.mark.live

EXACT, WILD, OTHER = "exact.example.com", "a.wild.example.com", "other.example.org"
V1, V2, V3 = "echo-v1", "echo-v2", "echo-v3"
"""Backends of the exact hostname, the wildcard, and all other hosts of `two`; `open` has no route for the last."""
ENDS = (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
CLOSED = "closed"
"""Envoy ends the connection."""

# --- Hosts, and what answers: at `two`, at `open` ---

HOSTS: dict[str, tuple[str, str]] = {
    EXACT: (V1, V1),
    EXACT.upper(): (V1, V1),
    f"{EXACT}:80": (V1, V1),
    "EXACT.example.com:65000": (V1, V1),
    f"{EXACT}:": (V1, V1),
    f"{EXACT}:word": (V1, V1),
    f"{EXACT}:-1": (V1, V1),
    f"{EXACT}  ": (V1, V1),
    f"{EXACT}.": (V3, "404"),
    f"{EXACT}.:80": (V3, "404"),
    f"x.{EXACT}": (V3, "404"),
    f"user@{EXACT}": (V3, "404"),
    f"{EXACT},{OTHER}": (V3, "404"),
    f"{EXACT};x": (V3, "404"),
    f"{EXACT}=x": (V3, "404"),
    "exact%2Eexample.com": (V3, "404"),
    WILD: (V2, V2),
    WILD.upper(): (V2, V2),
    f"{WILD}:80": (V2, V2),
    f"{WILD}:word": (V2, V2),
    f"b.{WILD}": (V2, V2),
    "*.wild.example.com": (V2, V2),
    f"{'a' * 8192}.wild.example.com": (V2, V2),
    f"{WILD}.": (V3, "404"),
    "wild.example.com": (V3, "404"),
    ".wild.example.com": (V3, "404"),
    OTHER: (V3, "404"),
    "127.0.0.1": (V3, "404"),
    "[::1]": (V3, "404"),
    "[::1]:80": (V3, "404"),
    "::1": (V3, "404"),
    "": (V3, "404"),
    "*": (V3, "404"),
    "-": (V3, "404"),
    "%": (V3, "404"),
    "%REQ(HOST)%": (V3, "404"),
    "ex_act.example.com": (V3, "404"),
    "a" * 8192: (V3, "404"),
    "a" * 40_000: (V3, "404"),
    "a" * 70_000: ("431", "431"),
    "a|b": ("400", "400"),
    "|": ("400", "400"),
    "|*": ("400", "400"),
    f"x|{EXACT}": ("400", "400"),
    f"{EXACT}|x": ("400", "400"),
    f"{EXACT} {OTHER}": ("400", "400"),
    f"{EXACT}\t{OTHER}": ("400", "400"),
    f"{EXACT}/x": ("400", "400"),
    f"{EXACT}?x": ("400", "400"),
    f"{EXACT}#x": ("400", "400"),
    f'"{EXACT}"': ("400", "400"),
    f"{EXACT}\xe9": ("400", "400"),
    f"{EXACT}\0": ("400", "400"),
}
LINES: dict[str, tuple[str, tuple[str, str]]] = {
    "no host": ("GET / HTTP/1.1\r\n", ("400", "400")),
    "HTTP/1.0": ("GET / HTTP/1.0\r\n", ("426", "426")),
    "HTTP/1.0 with a host": (f"GET / HTTP/1.0\r\nHost: {EXACT}\r\n", ("426", "426")),
    "absolute form": (f"GET http://{EXACT}/ HTTP/1.1\r\nHost: {OTHER}\r\n", (V1, V1)),
    "absolute form with a port": (f"GET http://{EXACT.upper()}:80/ HTTP/1.1\r\nHost: {OTHER}\r\n", (V1, V1)),
    "absolute form of a wildcard": (f"GET http://{WILD}/ HTTP/1.1\r\nHost: {EXACT}\r\n", (V2, V2)),
    "absolute form of another host": (f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {EXACT}\r\n", (V3, "404")),
    "OPTIONS *": (f"OPTIONS * HTTP/1.1\r\nHost: {EXACT}\r\n", ("404", "404")),
    "OPTIONS * of a wildcard": (f"OPTIONS * HTTP/1.1\r\nHost: {WILD}\r\n", ("404", "404")),
    "CONNECT": (f"CONNECT {EXACT}:80 HTTP/1.1\r\nHost: {EXACT}:80\r\n", ("404", "404")),
    "CONNECT of a wildcard": (f"CONNECT {WILD}:80 HTTP/1.1\r\nHost: {WILD}:80\r\n", ("404", "404")),
    "two hosts": (f"GET / HTTP/1.1\r\nHost: {EXACT}\r\nHost: {OTHER}\r\n", (V3, "404")),
    "a hop's header": (f"GET / HTTP/1.1\r\nHost: {EXACT}\r\nConnection: {HEADER}\r\n", (V1, V1)),
    "a hop's header of a wildcard": (f"GET / HTTP/1.1\r\nHost: {WILD}\r\nConnection: {HEADER}\r\n", (V2, V2)),
}
Fields = tuple[tuple[str, str], ...]
FIELDS: dict[str, tuple[Fields, tuple[str, str]]] = {
    "authority": (((":authority", EXACT),), (V1, V1)),
    "authority in upper case": (((":authority", EXACT.upper()),), (V1, V1)),
    "authority of a wildcard": (((":authority", WILD),), (V2, V2)),
    "authority with a dot": (((":authority", f"{EXACT}."),), (V3, "404")),
    "long authority": (((":authority", "a" * 8192),), (V3, "404")),
    "neither": ((), (CLOSED, CLOSED)),
    "host alone": ((("host", EXACT),), (V1, V1)),
    "host alone in upper case": ((("host", EXACT.upper()),), (V1, V1)),
    "host alone of a wildcard": ((("host", WILD),), (V2, V2)),
    "authority and another host": (((":authority", EXACT), ("host", OTHER)), (V1, V1)),
    "another authority and host": (((":authority", OTHER), ("host", EXACT)), (V3, "404")),
    "empty authority": (((":authority", ""),), (CLOSED, CLOSED)),
    "empty authority and host": (((":authority", ""), ("host", EXACT)), (CLOSED, CLOSED)),
    "authority with a bar": (((":authority", f"x|{EXACT}"),), (CLOSED, CLOSED)),
    "two authorities": (((":authority", EXACT), (":authority", OTHER)), (CLOSED, CLOSED)),
    "the header": (((":authority", OTHER), (HEADER, "infra/two/80|exact.example.com")), (V3, "404")),
    "the header twice": (((":authority", WILD), (HEADER, "x"), (HEADER, "y")), (V2, V2)),
}
OWN_VALUES = ("x", "", "*", "|", "{two}|exact.example.com", "{two}|*", "{open}|exact.example.com", f"a\r\n{HEADER}: b")
"""What clients may write into the header; `{two}` and `{open}` are names of tables."""


def backend(name: str) -> Manifest:
    return {"name": name, "port": 8080}


def routes(gateway: str, section: str, *services: str) -> Iterator[Manifest]:
    """Routes of a listener: one for the exact hostname, one for the wildcard, one for all hosts."""
    for number, (hostnames, name) in enumerate(zip(([EXACT], ["*.wild.example.com"], []), services, strict=False)):
        rules = [{"backendRefs": [backend(name)]}]
        spec = {"parentRefs": [{"name": gateway, "sectionName": section}], "hostnames": hostnames, "rules": rules}
        yield {"kind": "HTTPRoute", "metadata": {"name": f"{gateway}-{section}-{number}"}, "spec": spec}


def gateways() -> Iterator[Manifest]:
    """`two` has two ports with tables of their own; `door` asks before a route is chosen, by HTTP and by gRPC."""
    yield {
        "kind": "Gateway",
        "metadata": {"name": "two"},
        "spec": {
            "listeners": [
                {"name": "first", "port": 80, "protocol": "HTTP"},
                {"name": "second", "port": 8080, "protocol": "HTTP"},
            ]
        },
    }
    by_http = asking("HTTP", "http-auth", http={"allowedHeaders": [HEADER, "host"]})
    doors = (("http", 80, by_http), ("grpc", 8080, asking("GRPC", "grpc-auth")))
    listeners = [
        {"name": name, "port": port, "protocol": "HTTP", "filters": {"requests": [asked]}}
        for name, port, asked in doors
    ]
    yield {"kind": "Gateway", "metadata": {"name": "door"}, "spec": {"listeners": listeners}}
    yield from (*routes("two", "first", V1, V2, V3), *routes("two", "second", V2), *routes("open", "http", V1, V2))
    yield from (*routes("door", "http", V1, V2, V3), *routes("door", "grpc", V1, V2, V3))


class Stage(NamedTuple):
    gateway: LiveGateway
    by_http: HttpAuth
    by_grpc: GrpcAuth

    def lines(self, gateway: str, head: str, *headers: str, port: int = 80) -> str:
        """What answers an HTTP/1.1 request as it is written: a deployment, or a status."""
        lines = (*head.rstrip("\r\n").split("\r\n"), *headers)
        connection = () if any(each.startswith("Connection:") for each in lines) else ("Connection: close",)
        with clients.dial(self.gateway.target(gateway, port)) as opened:
            opened.sendall("\r\n".join((*lines, *connection, "", "")).encode("latin-1"))
            answer = b""
            with contextlib.suppress(ConnectionError):
                while b"\r\n\r\n" not in answer or not whole(answer):
                    received = opened.recv(65536)
                    if not received:
                        break
                    answer += received
        assert HEADER.encode() not in answer.lower(), "neither the pod nor the client sees the header"
        return told(answer) or answer.split(b" ")[1].decode()

    def fields(self, gateway: str, *fields: tuple[str, str]) -> str:
        """What answers an HTTP/2 request, allowed or not: a deployment, or a status."""
        settings = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        protocol = h2.connection.H2Connection(settings)
        protocol.initiate_connection()
        protocol.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), *ordered(fields)], True)
        status, body, ended = "", b"", False
        with clients.dial(self.gateway.target(gateway, 80)) as opened, contextlib.suppress(ConnectionError):
            opened.sendall(protocol.data_to_send())
            while not ended and (received := opened.recv(65536)):
                for event in protocol.receive_data(received):
                    if isinstance(event, h2.events.ResponseReceived):
                        status = str(event.headers[0][1])
                    elif isinstance(event, h2.events.DataReceived):
                        body += event.data or b""
                    ended = ended or isinstance(event, ENDS)
                opened.sendall(protocol.data_to_send())
        assert HEADER.encode() not in body.lower()
        return told(body) or status or CLOSED


def ordered(fields: Fields) -> list[tuple[str, str]]:
    """Pseudo-headers first, as HTTP/2 wants them."""
    return sorted(fields, key=lambda field: not field[0].startswith(":"))


def whole(answer: bytes) -> bool:
    """Whether all of an answer is there, if it says how long it is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
    return length is not None and len(body) >= int(length.partition(b":")[2])


def told(body: bytes) -> str:
    """The deployment of which a pod says that it answered; empty: none did."""
    return next((name for name in (V1, V2, V3) if f'"pod":"{name}-'.encode() in body), "")


@pytest.fixture(scope="module")
def stage(layout: str, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places = Places(fleet)
    misleading = [(HEADER, f"infra/door/{places.port(port)}|{EXACT}") for port in (80, 8080)]
    by_http = HttpAuth(misleading[0], ("x-envoy-auth-headers-to-remove", HEADER))
    by_grpc = GrpcAuth(misleading[1], removed=(HEADER,))
    own = [*service("http-auth", by_http.port), *service("grpc-auth", by_grpc.port), *gateways()]
    folder = tmp_path_factory.mktemp("gateway")
    log = folder / "access.log"
    options = ("--concurrency", "1", "--route-layout", layout, "--access-log", str(log))
    with running(folder, places, [*places.base(), *places.complete(own)], *options) as gateway:
        gateway.wait_live()
        yield Stage(gateway, by_http, by_grpc)
        written = (gateway.state / "envoy.log").read_text()
        assert not [word for word in ("[error]", "[critical]", "[warning]") if word in written], written
    by_http.stop()
    by_grpc.stop()
    places.close()
    logged = log.read_text().lower()
    assert EXACT in logged
    assert HEADER not in logged


@pytest.mark.parametrize("host", HOSTS, ids=[each[:40].encode("unicode_escape").decode() or "empty" for each in HOSTS])
def test_a_host_is_answered_by_its_routes(stage: Stage, host: str) -> None:
    found = tuple(stage.lines(gateway, f"GET / HTTP/1.1\r\nHost: {host}") for gateway in ("two", "open"))
    assert found == HOSTS[host]


@pytest.mark.parametrize("name", LINES)
def test_a_request_is_answered_by_its_hosts_routes(stage: Stage, name: str) -> None:
    head, expected = LINES[name]
    assert tuple(stage.lines(gateway, head) for gateway in ("two", "open")) == expected


def test_an_http2_request_is_answered_by_its_hosts_routes(stage: Stage) -> None:
    """All at once, since Envoy takes a second to end a connection that it does not understand."""
    with futures.ThreadPoolExecutor(2 * len(FIELDS)) as pool:
        asked = {
            name: [pool.submit(stage.fields, gateway, *fields) for gateway in ("two", "open")]
            for name, (fields, _) in FIELDS.items()
        }
        found = {name: tuple(each.result() for each in both) for name, both in asked.items()}
    assert found == {name: expected for name, (_, expected) in FIELDS.items()}


def test_two_ports_are_the_only_thing_that_layouts_take_differently(stage: Stage, layout: str) -> None:
    """The scope's key ends at the first colon. Such a host is none (RFC 3986, 3.2), and is treated as without ports."""
    for host, plain, scoped in ((f"{EXACT}:80:90", V3, V1), (f"{WILD}:80:90", V3, V3), (f"{OTHER}:80:90", V3, V3)):
        assert stage.lines("two", f"GET / HTTP/1.1\r\nHost: {host}") == (plain if layout == "plain" else scoped)


@pytest.mark.parametrize("value", OWN_VALUES)
def test_a_clients_own_header_never_counts(stage: Stage, value: str) -> None:
    port = stage.gateway.places.port(80)
    own = f"{HEADER}: " + value.format(two=f"infra/two/{port}", open=f"infra/open/{port}")
    for host in (EXACT, EXACT.upper(), WILD, OTHER):
        expected = HOSTS[host]
        found = tuple(stage.lines(gateway, f"GET / HTTP/1.1\r\nHost: {host}", own) for gateway in ("two", "open"))
        assert found == expected


def test_tables_of_one_envoy_do_not_see_each_others_hosts(stage: Stage) -> None:
    for host in (EXACT, EXACT.upper(), f"{EXACT}:80"):
        assert stage.lines("two", f"GET / HTTP/1.1\r\nHost: {host}", port=80) == V1
        assert stage.lines("two", f"GET / HTTP/1.1\r\nHost: {host}", port=8080) == V2
    for host in (WILD, OTHER):
        assert stage.lines("two", f"GET / HTTP/1.1\r\nHost: {host}", port=8080) == "404"
        for gateway in ("edge", "selected"):
            assert stage.lines(gateway, f"GET / HTTP/1.1\r\nHost: {host}") == "404"


@pytest.mark.parametrize("port", [80, 8080])
def test_a_service_neither_sees_nor_sets_the_header(stage: Stage, port: int) -> None:
    """The services of `door` answer that it leads to another host's routes, and that it shall go."""
    known = f"{KNOWN[0]}: {KNOWN[1]}"
    for host, expected in ((EXACT, V1), (EXACT.upper(), V1), (WILD, V2), (WILD.upper(), V2), (OTHER, V3)):
        head = f"GET / HTTP/1.1\r\nHost: {host}"
        assert stage.lines("door", head, port=port) == "401"
        assert stage.lines("door", head, known, f"{HEADER}: x", port=port) == expected
    assert stage.by_http.asked if port == 80 else stage.by_grpc.asked
    assert not [each for each in stage.by_http.asked if HEADER in each[2]]
    assert not [each for each in stage.by_grpc.asked if HEADER in each.attributes.request.http.headers]
