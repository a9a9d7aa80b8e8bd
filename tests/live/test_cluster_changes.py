"""A destination that changes in place, how it is found and spoken to: no request may meet half of a change."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.live import clients
from tests.live.clients import Answer, Call, Target
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

BACKEND = {"group": "gateway.tripylon.dev", "kind": "Backend", "name": "changing"}
TIMES = 6


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    edge: Manifest = {
        "kind": "Gateway",
        "metadata": {"name": "changing"},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    }
    route: Manifest = {
        "kind": "HTTPRoute",
        "metadata": {"name": "changing"},
        "spec": {"parentRefs": [{"name": "changing"}], "rules": [{"backendRefs": [BACKEND]}]},
    }
    manifests = [*fleet.manifests(), *places.complete([edge, route, plain(fleet)])]
    with running(tmp_path_factory.mktemp("gateway"), places, manifests, "--concurrency", "1") as gateway:
        yield gateway
    places.close()


def backend(spec: Manifest) -> Manifest:
    return {"kind": "Backend", "metadata": {"name": "changing"}, "spec": spec}


def hosts(fleet: Fleet, port: str, deployment: str = "echo-v1") -> Manifest:
    placed = fleet.placed(f"infra/{deployment}")
    return {"static": {"hosts": [{"host": address, "port": placed.ports[port]} for address in placed.addresses]}}


def plain(fleet: Fleet) -> Manifest:
    return backend(hosts(fleet, "http"))


def secure(fleet: Fleet, deployment: str = "echo-v1", sni: str = "backend.example.com") -> Manifest:
    return backend({**hosts(fleet, "https", deployment), "tls": {"sni": sni, "insecureSkipVerify": True}})


def over_http2(fleet: Fleet) -> Manifest:
    spec = hosts(fleet, "h2c")
    static = spec["static"]
    assert isinstance(static, dict)
    return backend({"static": {**static, "appProtocol": "h2c"}})


def by_name(fleet: Fleet) -> Manifest:
    """The address as a name: Envoy looks it up, and gets the address itself."""
    placed = fleet.placed("infra/echo-v1")
    return backend({"dns": {"hostname": placed.addresses[0], "port": placed.ports["http"], "lookupFamily": "V4Only"}})


def told(answer: Answer) -> tuple[int, str, str]:
    """Status, deployment, and the server name that it was asked for by TLS."""
    tls = answer.seen.get("tls")
    return answer.status, answer.pod.rpartition("-")[0], str(tls["serverName"]) if isinstance(tls, dict) else ""


@contextmanager
def asked_all_the_time(target: Target) -> Iterator[Counter[tuple[int, str, str]]]:
    """Requests one after the other in the background; what they were answered with, complete behind the block."""
    answers: Counter[tuple[int, str, str]] = Counter()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers[told(clients.http1(target, Call(host="changing.example.com")))] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("other", [secure, over_http2, by_name], ids=["tls", "http2", "dns"])
def test_no_request_meets_half_of_a_change(
    gateway: LiveGateway, fleet: Fleet, other: Callable[[Fleet], Manifest]
) -> None:
    with asked_all_the_time(gateway.target("changing", 80)) as answers:
        for _ in range(TIMES):
            gateway.apply(gateway.places.complete([other(fleet)]))
            gateway.apply(gateway.places.complete([plain(fleet)]))
    assert {status for status, _, _ in answers} == {200}, answers


def test_no_host_is_asked_for_the_name_of_another(gateway: LiveGateway, fleet: Fleet) -> None:
    pairs = (("echo-v1", "backend.example.com"), ("echo-v2", "abc.example.com"))
    gateway.apply(gateway.places.complete([secure(fleet, *pairs[0])]))
    with asked_all_the_time(gateway.target("changing", 80)) as answers:
        for _ in range(TIMES):
            for pair in reversed(pairs):
                gateway.apply(gateway.places.complete([secure(fleet, *pair)]))
    assert set(answers) == {(200, f"infra/{deployment}", sni) for deployment, sni in pairs}, answers
