"""Listeners that move: renamed, turned to another protocol, exchanged between gateways. Open connections end well."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.live import clients
from tests.live.clients import Call, Session
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "www.example.com"
ADDRESS = "${address:infra/moved}"


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    secret: Manifest = {"kind": "Secret", "metadata": {"name": "moved"}, "names": [HOST]}
    manifests = [*fleet.manifests(), *places.complete([secret, route("one", "echo-v1"), route("two", "echo-v2")])]
    with running(tmp_path_factory.mktemp("gateway"), places, manifests, "--concurrency", "1") as gateway:
        yield gateway
    places.close()


@pytest.fixture
def change(gateway: LiveGateway) -> Callable[..., None]:
    return lambda *manifests: gateway.apply(gateway.places.complete(list(manifests)))


def one_listener(gateway: str, name: str, port: int, *, secure: bool = False) -> Manifest:
    """A gateway on the address that all gateways of this module share."""
    tls = {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "moved"}]}} if secure else {"protocol": "HTTP"}
    spec = {"addresses": [{"value": ADDRESS}], "listeners": [{"name": name, "port": port} | tls]}
    return {"kind": "Gateway", "metadata": {"name": gateway}, "spec": spec}


def route(gateway: str, service: str) -> Manifest:
    spec = {"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [{"name": service, "port": 8080}]}]}
    return {"kind": "HTTPRoute", "metadata": {"name": f"of-{gateway}"}, "spec": spec}


def seen(session: Session) -> tuple[int, str]:
    answer = session.send(Call(host=HOST))
    return answer.status, answer.pod.rpartition("-")[0]


V1, V2 = (200, "infra/echo-v1"), (200, "infra/echo-v2")


def test_a_renamed_listener_ends_its_connections_with_right_answers(
    gateway: LiveGateway, change: Callable[..., None]
) -> None:
    change(one_listener("one", "https", 443, secure=True))
    target = gateway.target("moved", 443, sni=HOST)
    with Session(target) as session:
        assert seen(session) == V1
        change(one_listener("one", "renamed", 443, secure=True))
        assert seen(session) == V1
    with Session(target) as session:
        assert seen(session) == V1


def test_a_listener_turns_from_https_to_http_and_back(gateway: LiveGateway, change: Callable[..., None]) -> None:
    secure, plain = gateway.target("moved", 443, sni=HOST), gateway.target("moved", 443)
    change(one_listener("one", HOST, 443, secure=True))
    with Session(secure) as session:
        assert seen(session) == V1
        change(one_listener("one", HOST, 443))
        assert seen(session) == V1
    with Session(plain) as session:
        assert seen(session) == V1
        change(one_listener("one", HOST, 443, secure=True))
        assert seen(session) == V1
    assert clients.http1(secure, Call(host=HOST)).status == 200


def test_gateways_exchange_their_ports(gateway: LiveGateway, change: Callable[..., None]) -> None:
    change(one_listener("one", "http", 80), one_listener("two", "http", 8080))
    with Session(gateway.target("moved", 80)) as first, Session(gateway.target("moved", 8080)) as second:
        assert (seen(first), seen(second)) == (V1, V2)
        change(one_listener("one", "http", 8080), one_listener("two", "http", 80))
        assert (seen(first), seen(second)) == (V1, V2)
    with Session(gateway.target("moved", 80)) as first, Session(gateway.target("moved", 8080)) as second:
        assert (seen(first), seen(second)) == (V2, V1)
        change(one_listener("one", "http", 80), one_listener("two", "http", 8080))
        change(one_listener("one", "http", 8080), one_listener("two", "http", 80))
    assert clients.http1(gateway.target("moved", 80), Call(host=HOST)).pod.startswith("infra/echo-v2")
    gateway.delete(["Gateway infra/two"])


def test_gateways_exchange_their_addresses(gateway: LiveGateway, change: Callable[..., None]) -> None:
    own = gateway.places.address("infra/own")

    def at(name: str, address: str) -> Manifest:
        spec = {"addresses": [{"value": address}], "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
        return {"kind": "Gateway", "metadata": {"name": name}, "spec": spec}

    change(at("one", ADDRESS), at("two", own))
    with Session(gateway.target("moved", 80)) as first, Session(gateway.target("own", 80)) as second:
        assert (seen(first), seen(second)) == (V1, V2)
        change(at("one", own), at("two", ADDRESS))
        assert (seen(first), seen(second)) == (V1, V2)
    with Session(gateway.target("moved", 80)) as first, Session(gateway.target("own", 80)) as second:
        assert (seen(first), seen(second)) == (V2, V1)
    assert not gateway.picture()["findings"]
    gateway.delete(["Gateway infra/two"])


def test_an_address_that_cannot_be_bound_takes_no_other_with_it(
    gateway: LiveGateway, change: Callable[..., None]
) -> None:
    addresses = [{"value": "203.0.113.1"}, {"value": ADDRESS}]
    spec = {"addresses": addresses, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    change({"kind": "Gateway", "metadata": {"name": "one"}, "spec": spec})
    assert clients.http1(gateway.target("moved", 80), Call(host=HOST)).status == 200
    (told,) = [finding["message"] for finding in gateway.picture()["findings"] if finding["object"]["name"] == "one"]
    assert "203.0.113.1" in told


def test_hosts_of_a_port_that_went_do_not_come_back_with_it(gateway: LiveGateway, change: Callable[..., None]) -> None:
    port = gateway.target("moved", 80)
    change(one_listener("one", "http", 80))
    with Session(port) as session:
        assert seen(session) == V1
        gateway.delete(["Gateway infra/one"])
        gateway.delete(["HTTPRoute infra/of-one"])
        change(one_listener("one", "http", 80))
        assert clients.http1(port, Call(host=HOST)).status == 404
    change(route("one", "echo-v1"))
    assert clients.http1(port, Call(host=HOST)).status == 200
