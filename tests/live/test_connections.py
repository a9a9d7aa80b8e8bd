"""Changes spare what is under way: open connections, WebSockets and running requests outlive every edit around them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.live import clients
from tests.live.clients import Call, Session, Target
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from websockets.sync.client import connect

pytestmark = pytest.mark.live

ROTATIONS = 10


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    with running(tmp_path_factory.mktemp("gateway"), places, fleet.manifests(), "--concurrency", "1") as gateway:
        yield gateway
    places.close()


@pytest.fixture
def change(gateway: LiveGateway) -> Iterator[Callable[..., None]]:
    """Applies objects, and in the end takes away what was there at the beginning of the test."""
    before = set(gateway.folder.iterdir())

    def apply(*manifests: Manifest) -> None:
        gateway.apply(gateway.places.complete(list(manifests)))

    yield apply
    for path in set(gateway.folder.iterdir()) - before:
        path.unlink()
    gateway.wait_live()


def listener(name: str, *, hostname: str = "", port: int = 80, certificate: str = "") -> Manifest:
    tls = {"tls": {"certificateRefs": [{"name": certificate}]}} if certificate else {}
    own = {"hostname": hostname} if hostname else {}
    return {"name": name, "port": port, "protocol": "HTTPS" if certificate else "HTTP"} | own | tls


def edge(*listeners: Manifest) -> Manifest:
    return {"kind": "Gateway", "metadata": {"name": "spared"}, "spec": {"listeners": list(listeners)}}


def secret(name: str, *names: str) -> Manifest:
    return {"kind": "Secret", "metadata": {"name": name}, "names": list(names)}


def route(name: str, service: str, port: int = 8080, *, hostname: str = "") -> Manifest:
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "spared"}],
            "hostnames": [hostname] if hostname else [],
            "rules": [{"backendRefs": [{"name": service, "port": port}]}],
        },
    }


def pod(session: Session, host: str) -> str:
    """The deployment that answers over an open connection."""
    answer = session.send(Call(host=host))
    assert answer.status == 200
    return answer.pod.rpartition("-")[0]


def test_a_connection_outlives_changes_of_routes_and_listeners(
    gateway: LiveGateway, change: Callable[..., None]
) -> None:
    change(edge(listener("http", hostname="a.example.com")), route("a", "echo-v1"))
    with Session(gateway.target("spared", 80)) as session:
        assert pod(session, "a.example.com") == "infra/echo-v1"
        change(route("a", "echo-v2"))
        assert pod(session, "a.example.com") == "infra/echo-v2"
        change(route("b", "echo-v3", hostname="b.example.com"))
        change(edge(listener("http", hostname="a.example.com"), listener("more", hostname="b.example.com")))
        assert pod(session, "b.example.com") == "infra/echo-v3"
        change(edge(listener("http", hostname="a.example.com"), listener("port", port=8080)))
        assert pod(session, "a.example.com") == "infra/echo-v2"
        assert session.send(Call(host="b.example.com")).status == 404


def test_a_tls_connection_outlives_new_certificates_and_listeners(
    gateway: LiveGateway, change: Callable[..., None]
) -> None:
    first = listener("a", hostname="a.example.org", port=443, certificate="a")
    change(secret("a", "a.example.org"), secret("b", "b.example.org"), edge(first), route("a", "echo-v1"))
    with Session(gateway.target("spared", 443, sni="a.example.org")) as session:
        assert pod(session, "a.example.org") == "infra/echo-v1"
        change(secret("a", "a.example.org"))
        assert pod(session, "a.example.org") == "infra/echo-v1"
        change(edge(first, listener("b", hostname="b.example.org", port=443, certificate="b")))
        assert pod(session, "a.example.org") == "infra/echo-v1"
        new = clients.http1(gateway.target("spared", 443, sni="b.example.org"), Call(host="b.example.org"))
        assert new.status == 200
        change(edge(first))
        assert pod(session, "a.example.org") == "infra/echo-v1"


def test_no_handshake_fails_while_a_certificate_is_renewed(gateway: LiveGateway, change: Callable[..., None]) -> None:
    change(
        secret("a", "a.example.org"),
        edge(listener("a", hostname="a.example.org", port=443, certificate="a")),
        route("a", "echo-v1"),
    )
    target, statuses, done = gateway.target("spared", 443, sni="a.example.org"), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                statuses.append(str(clients.http1(target, Call(host="a.example.org")).status))
            except OSError as error:
                statuses.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(ROTATIONS):
            change(secret("a", "a.example.org"))
    finally:
        done.set()
        asking.join()
    assert set(statuses) == {"200"}
    assert len(statuses) > ROTATIONS


def test_a_websocket_outlives_its_route(gateway: LiveGateway, change: Callable[..., None]) -> None:
    change(edge(listener("http")), route("ws", "echo-v1", 8082))
    target = gateway.target("spared", 80)
    with clients.dial(target) as plain, connect("ws://ws.example.com/ws", sock=plain, proxy=None) as opened:
        for manifests in ([route("ws", "echo-v2", 8082)], [route("other", "echo-v3", hostname="other.example.com")]):
            change(*manifests)
            opened.send("still there")
            assert opened.recv(timeout=10) == "still there"


def test_a_running_request_outlives_its_route_and_its_endpoints(
    gateway: LiveGateway, fleet: Fleet, change: Callable[..., None]
) -> None:
    placed = fleet.placed("infra/echo-v3")
    slice_of: Manifest = {
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": "moving-1", "labels": {"kubernetes.io/service-name": "moving"}},
        "ports": [{"name": "http", "port": placed.ports["http"]}],
    }
    change(
        edge(listener("http")),
        route("slow", "moving"),
        {"kind": "Service", "metadata": {"name": "moving"}, "spec": {"ports": [{"name": "http", "port": 8080}]}},
        slice_of | {"endpoints": [{"addresses": [placed.addresses[0]]}]},
    )
    answers = []
    target = gateway.target("spared", 80)
    slow = threading.Thread(target=lambda: answers.append(slow_answer(target)))
    number = fleet.next_number()
    slow.start()
    while not fleet.log_since(number):
        time.sleep(0.02)
    change(slice_of | {"endpoints": []})
    gateway.delete(["HTTPRoute infra/slow"])
    assert clients.http1(target, Call(host="slow.example.com")).status == 404
    slow.join()
    assert answers == [(200, "infra/echo-v3-0")]


def slow_answer(target: Target) -> tuple[int, str]:
    answer = clients.http1(target, Call(host="slow.example.com", path="/?delay=2s"))
    return answer.status, answer.pod
