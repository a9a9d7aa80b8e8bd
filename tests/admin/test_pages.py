"""The admin pages as clients see them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families
from tests.admin.gateway import MARK, FakeGateway, everything, secret

from tripylon.admin.listening import listen
from tripylon.admin.metrics import Metrics
from tripylon.admin.server import make_app, serve
from tripylon.envoy import emit
from tripylon.envoy.refusals import REFUSALS
from tripylon.errors import StartError
from tripylon.files.problems import Problem
from tripylon.settings import Address
from tripylon.xds.snapshot import LDS

Client = TestClient[web.Request, web.Application]
PAGES = ("/", "/healthz", "/readyz", "/metrics", "/metrics/envoy", "/picture")


@pytest.fixture
def running() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
async def client(running: FakeGateway) -> AsyncIterator[Client]:
    app = make_app(running, Metrics(running), loopback=True)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_ready_only_when_a_proxy_has_the_first_flight(
    running: FakeGateway,
    client: Client,
) -> None:
    async def ready() -> tuple[int, dict[str, object]]:
        answer = await client.get("/readyz")
        return answer.status, await answer.json()

    assert await ready() == (503, {"ready": False, "flight": 0, "live": -1})
    running.load(*everything())
    assert await ready() == (503, {"ready": False, "flight": 1, "live": -1})
    running.connect()
    assert await ready() == (200, {"ready": True, "flight": 1, "live": 1})
    running.engine.apply((), [running_route.ref for running_route in everything() if running_route.kind == "HTTPRoute"])
    status, state = await ready()
    assert (status, state["flight"], state["live"]) == (200, 2, 1)
    running.settle()
    assert (await ready())[1]["live"] == 2
    running.disconnect()
    assert await ready() == (503, {"ready": False, "flight": 2, "live": -1})


async def test_nothing_to_serve_is_ready_once_it_is_known(
    running: FakeGateway,
    client: Client,
) -> None:
    running.connect()
    assert (await client.get("/readyz")).status == 503
    running.load()
    assert (await client.get("/readyz")).status == 200


async def test_metrics_count_what_there_is(
    running: FakeGateway,
    client: Client,
) -> None:
    running.load(*everything())
    running.connect()
    running.restarts = 3
    running.problems = (Problem(file="a.yaml", reason="InvalidSyntax", message="no YAML", severity="error"),)
    text = await (await client.get("/metrics")).text()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["tripylon_objects", "Secret"] == 1
    assert samples["tripylon_objects", "GRPCRoute"] == 0
    # A backend of the route that does not exist, and the file that is no YAML.
    assert samples["tripylon_findings", "error"] == 2
    assert samples["tripylon_flight",] == samples["tripylon_live_flight",] == 1
    assert samples["tripylon_ready",] == 1
    assert samples["tripylon_xds_connected_proxies",] == 1
    assert samples["tripylon_xds_pushes_total",] == samples["tripylon_xds_acks_total",] > 0
    assert samples["tripylon_xds_nacks_total",] == 0
    assert samples["tripylon_xds_sent_bytes_total",] > 100
    assert samples["tripylon_envoy_restarts_total",] == 3


async def test_durations_are_recorded(running: FakeGateway) -> None:
    metrics = Metrics(running)
    metrics.observe_build(0.002)
    metrics.observe_build(20.0)
    metrics.observe_publish(0.00005)
    text = metrics.render().decode()
    assert 'tripylon_build_seconds_bucket{le="0.003"} 1.0' in text
    assert "tripylon_build_seconds_count 2.0" in text
    assert 'tripylon_publish_seconds_bucket{le="0.0001"} 1.0' in text


async def test_envoys_metrics_are_passed_on(
    running: FakeGateway,
    client: Client,
) -> None:
    answer = await client.get("/metrics/envoy")
    assert (answer.status, await answer.text()) == (200, "envoy_server_live 1\n")
    running.envoy_answers = False
    answer = await client.get("/metrics/envoy")
    assert (answer.status, await answer.text()) == (502, "Envoy's administration does not answer\n")


async def test_the_picture(running: FakeGateway, client: Client) -> None:
    running.load(*everything())
    running.connect()
    picture = await (await client.get("/picture")).json()
    assert picture["world"]["Secret"] == [{"name": "shop/edge", "generation": 0}]
    (gateway,) = picture["gateways"]
    http, https = gateway["listeners"]
    assert (http["serving"], https["serving"], https["certificates"]) == (True, True, ["shop/edge"])
    (host,) = http["hosts"]
    assert host["hostname"] == "*"
    assert host["routes"] == [
        {
            "match": "/shop/* header authorization",
            "to": ["Backend shop/shop 75%", "500 25%"],
            "route": "HTTPRoute shop/shop rule 0",
        }
    ]
    assert [each["hostname"] for each in https["hosts"]] == ["a.example.com"]
    assert picture["routes"][0]["listeners"] == ["shop/edge/http", "shop/edge/https"]
    (backend,) = picture["backends"]
    assert (backend["name"], backend["tls"], backend["endpoints"]) == ("Backend shop/shop", True, ["127.0.0.1:9000"])
    (finding,) = picture["findings"]
    assert (finding["reason"], finding["file"], finding["line"]) == ("BackendNotFound", "shop.yaml", 7)
    assert picture["proxies"] == [{"node": "edge-1", "stream": 1, "live": 1}]
    assert picture["refusals"] == []


async def test_a_listener_without_its_port_is_not_shown_as_served(running: FakeGateway, client: Client) -> None:
    running.load(*everything())
    running.connect()
    words = "cannot bind '0.0.0.0:8080': Address already in use"
    for name in emit.everything(running.graph)[LDS]:
        if "/8080" in name:
            running.graph.put(REFUSALS, (LDS, name), words)
    running.graph.flush()
    picture = await (await client.get("/picture")).json()
    (gateway,) = picture["gateways"]
    assert [listener["serving"] for listener in gateway["listeners"]] == [False, True]


async def test_no_secret_is_shown_anywhere(
    running: FakeGateway,
    client: Client,
) -> None:
    running.load(*everything())
    running.connect()
    shown = "".join([await (await client.get(page)).text() for page in PAGES])
    assert "shop/edge" in shown
    for hidden in (MARK, "PRIVATE KEY", "BEGIN CERTIFICATE", json.dumps(secret().metadata.name)[1:-1] + '","data'):
        assert hidden not in shown


@pytest.mark.parametrize("host", ["evil.example", "127.evil.example", "localhost.evil.example:9095", "10.0.0.1", ""])
async def test_another_host_is_refused(
    client: Client,
    host: str,
) -> None:
    for page in PAGES:
        assert (await client.get(page, headers={"Host": host})).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9095", "127.0.0.9", "[::1]:9095"])
async def test_this_machine_is_served(
    client: Client,
    host: str,
) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status == 200


async def test_reachable_from_elsewhere_every_host_is_served(running: FakeGateway) -> None:
    app = make_app(running, Metrics(running), loopback=False)
    async with TestClient(TestServer(app)) as made:
        assert (await made.get("/healthz", headers={"Host": "gateway.example"})).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_written(
    client: Client,
    method: str,
) -> None:
    for page in PAGES:
        assert (await client.request(method, page)).status == 405


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartError, match=rf"cannot listen on {address}: .*--admin"):
            listen(address)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_others_is_told(host: str) -> None:
    with pytest.raises(StartError, match="cannot listen on"):
        listen(Address(host, 0))


async def test_port_zero_is_a_free_one_and_who_asks_early_waits(running: FakeGateway) -> None:
    listening = listen(Address("127.0.0.1", 0))
    reader, writer = await asyncio.open_connection(*listening.address)
    async with serve(running, Metrics(running), listening):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"ok\n")
        writer.close()
