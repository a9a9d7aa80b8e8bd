"""TLSRoute, TCPRoute and UDPRoute on the real Envoy: who answers, what is cut, and what a change leaves alone."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.live.certificates import Authority
from tests.live.clients import Call, Session
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from tests.live.stream_servers import StreamServer

pytestmark = pytest.mark.live

TCP, UDP, TLS = 5432, 53, 443
CUT = (b"", None)
"""What a client reads from a connection that was closed, or reset."""

GATEWAY: Manifest = {
    "kind": "Gateway",
    "metadata": {"name": "streams"},
    "spec": {
        "listeners": [
            {"name": "tcp", "port": TCP, "protocol": "TCP"},
            {"name": "udp", "port": UDP, "protocol": "UDP"},
            {
                "name": "pass",
                "port": TLS,
                "protocol": "TLS",
                "hostname": "*.example.com",
                "tls": {"mode": "Passthrough"},
            },
            {
                "name": "end",
                "port": TLS,
                "protocol": "TLS",
                "hostname": "end.example.com",
                "tls": {"certificateRefs": [{"name": "end"}]},
            },
            {
                "name": "web",
                "port": TLS,
                "protocol": "HTTPS",
                "hostname": "web.example.com",
                "tls": {"certificateRefs": [{"name": "web"}]},
            },
        ]
    },
}


class Stage:
    """A gateway whose listeners pass streams on, and its clients."""

    def __init__(self, gateway: LiveGateway, backends: Authority) -> None:
        self.gateway, self.backends = gateway, backends

    def apply(self, *manifests: Manifest) -> None:
        self.gateway.apply(self.gateway.places.complete(list(manifests)))

    def place(self, port: int) -> tuple[str, int]:
        return self.gateway.places.address("infra/streams"), self.gateway.places.port(port)

    def connect(self, port: int = TCP) -> socket.socket:
        return socket.create_connection(self.place(port), timeout=10)

    def secured(self, name: str, authority: Authority) -> ssl.SSLSocket:
        """A connection by TLS whose server's certificate has been verified."""
        return ssl.create_default_context(cadata=authority.pem).wrap_socket(self.connect(TLS), server_hostname=name)

    def tcp(self) -> bytes | None:
        """What one new connection is answered; None: it was reset."""
        with self.connect() as connection:
            return said(connection)

    def udp(self, wait_s: float = 5) -> bytes | None:
        """What one datagram from a new port is answered; None: nothing in this time."""
        with self.session(wait_s) as session:
            return said(session)

    def session(self, wait_s: float = 5) -> socket.socket:
        session = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        session.settimeout(wait_s)
        session.connect(self.place(UDP))
        return session


def said(connection: socket.socket, piece: bytes = b"hello") -> bytes | None:
    try:
        connection.sendall(piece)
        return connection.recv(4096)
    except (ConnectionError, TimeoutError):
        return None


def is_cut(stage: Stage, name: str) -> bool:
    """Whether a connection for a server name is accepted and then closed, without a word of TLS."""
    hello, context = ssl.MemoryBIO(), ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with stage.connect(TLS) as connection:
        return said(connection, hello.read()) in CUT


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StreamServer]]:
    folder, authority = tmp_path_factory.mktemp("servers"), Authority("Authority of the stream backends")
    made = {name: StreamServer(name) for name in ("tcp-1", "tcp-2")}
    made |= {name: StreamServer(name, udp=True) for name in ("udp-1", "udp-2")}
    made |= {name: StreamServer(name, authority=authority, folder=folder) for name in ("tls-1", "tls-2")}
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture(scope="module")
def stage(fleet: Fleet, servers: dict[str, StreamServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places = Places(fleet)
    start = [*fleet.manifests(), *places.complete([GATEWAY, secret("end"), secret("web"), *services(servers)])]
    with running(tmp_path_factory.mktemp("gateway"), places, start, "--concurrency", "1") as gateway:
        assert servers["tls-1"].authority is not None
        yield Stage(gateway, servers["tls-1"].authority)
    places.close()


@pytest.fixture
def routes(stage: Stage) -> Iterator[Callable[..., None]]:
    """Applies objects, and in the end takes away what was not there at the beginning of the test."""
    before = set(stage.gateway.folder.iterdir())
    yield stage.apply
    for path in set(stage.gateway.folder.iterdir()) - before:
        path.unlink()
    stage.gateway.wait_live()


def secret(name: str) -> Manifest:
    return {"kind": "Secret", "metadata": {"name": name}, "names": [f"{name}.example.com"]}


def services(servers: dict[str, StreamServer]) -> list[Manifest]:
    """A Service with the port 9000 for each server."""
    made: list[Manifest] = []
    for name, server in servers.items():
        port = {"name": "p", "protocol": "UDP" if name.startswith("udp") else "TCP"}
        made.append({"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [port | {"port": 9000}]}})
        made.append(
            {
                "kind": "EndpointSlice",
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [port | {"port": server.port}],
                "endpoints": [{"addresses": ["127.0.0.1"]}],
            }
        )
    return made


def route(kind: str, name: str, section: str, *backends: tuple[str, int], hostname: str = "", age: int = 0) -> Manifest:
    """A stream route; `age` in years."""
    return {
        "kind": kind,
        "metadata": {"name": name, "creationTimestamp": f"{2020 - age}-01-01T00:00:00Z"},
        "spec": {
            "parentRefs": [{"name": "streams", "sectionName": section}],
            **({"hostnames": [hostname]} if hostname else {}),
            "rules": [{"backendRefs": [{"name": each, "port": 9000, "weight": weight} for each, weight in backends]}],
        },
    }


# --- TCP -------------------------------------------------------------------------------------------------------------


def test_connections_are_shared_by_weight(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("TCPRoute", "db", "tcp", ("tcp-1", 70), ("tcp-2", 30)))
    counted = Counter(stage.tcp() for _ in range(300))
    assert set(counted) == {b"tcp-1: hello", b"tcp-2: hello"}
    assert 170 <= counted[b"tcp-1: hello"] <= 250


def test_a_share_without_a_backend_is_cut_and_the_rest_is_served(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("TCPRoute", "db", "tcp", ("tcp-1", 1), ("gone", 1)))
    counted = Counter(stage.tcp() or b"" for _ in range(100))
    assert set(counted) == {b"tcp-1: hello", b""}
    assert 25 <= counted[b""] <= 75


@pytest.mark.parametrize("backend", [("gone", 1), ("udp-1", 1), ("tcp-1", 0)])
def test_a_route_without_a_usable_backend_is_accepted_and_cut(
    stage: Stage, routes: Callable[..., None], backend: tuple[str, int]
) -> None:
    routes(route("TCPRoute", "db", "tcp", backend))
    assert stage.tcp() in CUT


def test_a_listener_without_a_route_accepts_and_cuts(stage: Stage) -> None:
    assert stage.tcp() in CUT
    assert stage.udp(0.3) is None
    assert is_cut(stage, "any.example.com")


def test_the_oldest_route_has_all_connections_and_the_next_follows_it(
    stage: Stage, routes: Callable[..., None]
) -> None:
    routes(route("TCPRoute", "young", "tcp", ("tcp-2", 1)), route("TCPRoute", "old", "tcp", ("tcp-1", 1), age=5))
    assert {stage.tcp() for _ in range(20)} == {b"tcp-1: hello"}
    stage.gateway.delete(["TCPRoute infra/old"])
    assert stage.tcp() == b"tcp-2: hello"


# --- UDP -------------------------------------------------------------------------------------------------------------


def test_sessions_are_shared_by_weight_and_stay_where_they_are(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("UDPRoute", "dns", "udp", ("udp-1", 70), ("udp-2", 30)))
    sessions = [stage.session() for _ in range(100)]
    first = [said(session) for session in sessions]
    assert Counter(first) == {b"udp-1: hello": 70, b"udp-2: hello": 30}
    assert [said(session) for session in sessions] == first
    _, figures = stage.gateway.get("/metrics/envoy")
    assert re.search(rb"^envoy_udp_downstream_sess_active\S* 1\d\d$", figures, re.MULTILINE)
    for session in sessions:
        session.close()


def test_the_share_of_a_udp_backend_that_is_not_there_is_dropped(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("UDPRoute", "dns", "udp", ("udp-1", 1), ("gone", 1)))
    sessions = [stage.session() for _ in range(20)]
    for session in sessions:
        session.sendall(b"hello")
    answered = wait_for(sessions, 10, within_s=10) | wait_for(sessions, 11, within_s=0.3)
    assert len(answered) == 10
    assert {session.recv(4096) for session in answered} == {b"udp-1: hello"}
    for session in sessions:
        session.close()


def wait_for(sessions: list[socket.socket], number: int, *, within_s: float) -> set[socket.socket]:
    """The sessions that have an answer, as soon as there are so many of them or the time is over."""
    end = time.monotonic() + within_s
    while len(ready := select.select(sessions, (), (), 0.05)[0]) < number and time.monotonic() < end:
        continue
    return set(ready)


def test_the_oldest_udp_route_has_all_sessions(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("UDPRoute", "old", "udp", ("udp-1", 1), age=5), route("UDPRoute", "young", "udp", ("udp-2", 1)))
    assert {stage.udp() for _ in range(20)} == {b"udp-1: hello"}
    stage.gateway.delete(["UDPRoute infra/old"])
    assert stage.udp() == b"udp-2: hello"


def test_datagrams_pass_up_to_nine_thousand_bytes(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("UDPRoute", "dns", "udp", ("udp-1", 1)))
    with stage.session() as session:
        session.send(b"x" * 20_000)
        session.send(b"x" * 8_900)
        assert session.recv(65535) == b"udp-1: " + b"x" * 8_900


def test_a_udp_port_that_another_program_has_is_told_and_the_others_serve(
    stage: Stage, routes: Callable[..., None]
) -> None:
    routes(route("UDPRoute", "dns", "udp", ("udp-1", 1)))
    late: Manifest = {"kind": "Gateway", "metadata": {"name": "late"}}
    place = stage.gateway.places.address("infra/late"), stage.gateway.places.port(54)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(place)
        routes(late | {"spec": {"listeners": [{"name": "udp", "port": 54, "protocol": "UDP"}]}})
        found: Any = stage.gateway.picture()["findings"]
        assert [each["reason"] for each in found if each["object"]["name"] == "late"] == ["PortUnavailable"]
        assert stage.udp() == b"udp-1: hello"


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_is_passed_through_by_server_name(stage: Stage, routes: Callable[..., None]) -> None:
    routes(
        route("TLSRoute", "one", "pass", ("tls-1", 1), hostname="one.example.com"),
        route("TLSRoute", "wide", "pass", ("tls-2", 1), hostname="*.two.example.com"),
    )
    with stage.secured("one.example.com", stage.backends) as connection:
        assert said(connection) == b"tls-1 one.example.com: hello"
    with stage.secured("a.two.example.com", stage.backends) as connection:
        assert said(connection) == b"tls-2 a.two.example.com: hello"
    for name in ("other.example.com", "two.example.com", "example.org"):
        assert is_cut(stage, name), name


def test_tls_ends_at_the_gateway_beside_what_is_passed_through(stage: Stage, routes: Callable[..., None]) -> None:
    routes(
        route("TLSRoute", "end", "end", ("tcp-1", 1), hostname="end.example.com"),
        route("TLSRoute", "wide", "pass", ("tls-1", 1), hostname="*.example.com"),
    )
    with stage.secured("end.example.com", stage.gateway.places.authority) as connection:
        assert said(connection) == b"tcp-1: hello"
    with stage.secured("pass.example.com", stage.backends) as connection:
        assert said(connection) == b"tls-1 pass.example.com: hello"


def test_what_ends_here_goes_on_by_tls_where_a_policy_says_so(stage: Stage, routes: Callable[..., None]) -> None:
    routes(
        {"kind": "ConfigMap", "metadata": {"name": "backends"}, "data": {"ca.crt": stage.backends.pem}},
        policy("tls-1", "inner.example.com"),
        policy("tls-2", "other.example.org"),
        route("TLSRoute", "end", "end", ("tls-1", 1), hostname="end.example.com"),
        route("TLSRoute", "pass", "pass", ("tls-1", 1), hostname="pass.example.com"),
        route("TCPRoute", "db", "tcp", ("tls-1", 1)),
    )
    with stage.secured("end.example.com", stage.gateway.places.authority) as connection:
        assert said(connection) == b"tls-1 inner.example.com: hello"
    with stage.secured("pass.example.com", stage.backends) as connection:
        assert said(connection) == b"tls-1 pass.example.com: hello"
    assert stage.tcp() == b"tls-1 inner.example.com: hello"
    routes(route("TCPRoute", "db", "tcp", ("tls-2", 1)))
    assert stage.tcp() in CUT, "its certificate is for another name"


def policy(service: str, hostname: str) -> Manifest:
    """Has a Service reached by TLS, verified by the authority of the backends."""
    authority = {"group": "", "kind": "ConfigMap", "name": "backends"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "BackendTLSPolicy",
        "metadata": {"name": service},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": service}],
            "validation": {"hostname": hostname, "caCertificateRefs": [authority]},
        },
    }


def test_a_tls_route_without_a_backend_is_cut(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("TLSRoute", "lost", "pass", ("gone", 1), hostname="lost.example.com"))
    assert is_cut(stage, "lost.example.com")


def test_of_two_routes_the_more_specific_serves_and_both_are_accepted(
    stage: Stage, routes: Callable[..., None]
) -> None:
    routes(
        route("TLSRoute", "older", "pass", ("tls-1", 1), hostname="a.example.com", age=5),
        route("TLSRoute", "younger", "pass", ("tls-2", 1), hostname="a.example.com"),
    )
    with stage.secured("a.example.com", stage.backends) as connection:
        assert said(connection) == b"tls-1 a.example.com: hello"
    for name in ("older", "younger"):
        status: Any = stage.gateway.objects()[f"TLSRoute infra/{name}"]["status"]
        (parent,) = status["parents"]
        assert {each["type"]: each["status"] for each in parent["conditions"]} == {
            "Accepted": "True",
            "ResolvedRefs": "True",
        }


# --- Changes ---------------------------------------------------------------------------------------------------------


def test_a_change_of_one_route_leaves_all_other_connections_of_the_port(
    stage: Stage, routes: Callable[..., None]
) -> None:
    web: Manifest = {
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [{"name": "streams", "sectionName": "web"}],
            "rules": [{"backendRefs": [{"name": "echo-v1", "port": 8080}]}],
        },
    }
    routes(
        web,
        route("TLSRoute", "kept", "pass", ("tls-1", 1), hostname="kept.example.com"),
        route("TLSRoute", "end", "end", ("tcp-1", 1), hostname="end.example.com"),
        route("TCPRoute", "db", "tcp", ("tcp-1", 1)),
    )
    with (
        stage.secured("kept.example.com", stage.backends) as kept,
        stage.secured("end.example.com", stage.gateway.places.authority) as end,
        stage.connect() as tcp,
        Session(stage.gateway.target("streams", TLS, sni="web.example.com")) as session,
    ):
        connections = ((kept, b"tls-1 kept.example.com: hello"), (end, b"tcp-1: hello"), (tcp, b"tcp-1: hello"))
        for change in (
            route("TLSRoute", "other", "pass", ("tls-2", 1), hostname="other.example.com"),
            route("TLSRoute", "other", "pass", ("tls-1", 1), ("tls-2", 1), hostname="other.example.com"),
            route("UDPRoute", "dns", "udp", ("udp-1", 1)),
            route("TLSRoute", "other", "pass", ("gone", 1), hostname="*.other.example.com"),
        ):
            assert [said(connection) for connection, _ in connections] == [wanted for _, wanted in connections]
            assert session.send(Call(host="web.example.com")).status == 200
            routes(change)
        stage.gateway.delete(["TLSRoute infra/other"])
        assert [said(connection) for connection, _ in connections] == [wanted for _, wanted in connections]
        assert session.send(Call(host="web.example.com")).status == 200


def counted(gateway: LiveGateway, name: str) -> int:
    """One of the figures that Envoy's listener manager keeps."""
    _, body = gateway.get("/metrics/envoy")
    found = re.findall(rf"^envoy_listener_manager_{name}\S* (\d+)$", body.decode(), re.MULTILINE)
    return sum(map(int, found))


def test_envoy_drains_the_filter_chains_of_a_changed_route_and_no_others(
    fleet: Fleet, servers: dict[str, StreamServer], tmp_path: Path
) -> None:
    places = Places(fleet)
    start: list[Manifest] = [
        *(GATEWAY, secret("end"), secret("web"), *services(servers)),
        route("TLSRoute", "kept", "pass", ("tls-1", 1), hostname="kept.example.com"),
        route("TLSRoute", "other", "pass", ("tls-1", 1), hostname="other.example.com"),
        route("TCPRoute", "db", "tcp", ("tcp-1", 1)),
    ]
    # Envoy updates in place what its workers have begun with, so the first change comes after the start.
    with running(tmp_path, places, places.complete(start), "--concurrency", "1") as gateway:
        stage = Stage(gateway, Authority())

        def figures() -> tuple[int, int, int]:
            names = ("listener_in_place_updated", "total_filter_chains_draining", "total_listeners_draining")
            return counted(gateway, names[0]), counted(gateway, names[1]), counted(gateway, names[2])

        assert figures() == (0, 0, 0)
        stage.apply(route("TLSRoute", "more", "pass", ("tls-1", 1), hostname="more.example.com"))
        assert figures() == (1, 0, 0)
        stage.apply(route("TLSRoute", "other", "pass", ("tls-1", 1), ("tls-2", 1), hostname="other.example.com"))
        assert figures() == (2, 1, 0)
        stage.apply(route("TCPRoute", "db", "tcp", ("tcp-2", 1)))
        assert figures() == (3, 2, 0)
        modified = counted(gateway, "listener_modified")
        stage.apply(route("UDPRoute", "dns", "udp", ("udp-1", 1)))
        stage.apply(route("UDPRoute", "dns", "udp", ("udp-1", 1), ("udp-2", 1)))
        assert (figures(), counted(gateway, "listener_modified")) == ((3, 2, 0), modified)
    places.close()


def test_connections_and_sessions_outlive_the_control_plane(stage: Stage, routes: Callable[..., None]) -> None:
    routes(route("TCPRoute", "db", "tcp", ("tcp-1", 1)), route("UDPRoute", "dns", "udp", ("udp-1", 1)))
    with stage.connect() as connection, stage.session() as session:
        assert (said(connection), said(session)) == (b"tcp-1: hello", b"udp-1: hello")
        stage.gateway.kill()
        assert (said(connection), said(session)) == (b"tcp-1: hello", b"udp-1: hello")
        stage.gateway.start()
        assert (said(connection), said(session)) == (b"tcp-1: hello", b"udp-1: hello")
        assert stage.tcp() == b"tcp-1: hello"


def test_endpoints_move_under_a_udp_route(
    stage: Stage, routes: Callable[..., None], servers: dict[str, StreamServer]
) -> None:
    moved = StreamServer("udp-3", udp=True)
    routes(*services({"udp-x": servers["udp-1"]}), route("UDPRoute", "dns", "udp", ("udp-x", 1)))
    with stage.session() as session:
        assert said(session) == b"udp-1: hello"
        routes(*services({"udp-x": moved}))
        assert said(session) == b"udp-3: hello"
    moved.stop()
