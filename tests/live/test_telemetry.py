"""XTelemetryPolicy on the real Envoy: collectors get spans, backends the trace, and who decides which are taken."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.collectors import Collector, GrpcCollector, HttpCollector
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "shop.example.com"


def collector(name: str, port: int, app_protocol: str) -> tuple[Manifest, Manifest]:
    """A Service with one endpoint on this machine."""
    ports = [{"name": "otlp", "port": 80, "targetPort": port, "appProtocol": app_protocol}]
    return (
        {"kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "otlp", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        },
    )


def policy(name: str, gateway: str, provider: str, **more: object) -> Manifest:
    backend: Manifest = {
        "backendRef": {"name": provider, "port": 80},
        "headers": [{"name": "X-Token", "value": "secret"}],
    }
    return {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XTelemetryPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}],
            "tracing": more | {"mode": "Enabled", "provider": backend},
        },
    }


def attribute(key: str) -> Manifest:
    return {"name": key, "sourceType": "Attribute", "attributeKey": key}


ATTRIBUTES: list[Manifest] = [
    {"name": "team", "sourceType": "Literal", "literalValue": "blue"},
    {"name": "tenant", "sourceType": "Header", "headerName": "X-Tenant"},
    *map(
        attribute,
        (
            *("http.request.method", "http.response.status_code", "http.route", "url.path", "url.query", "url.full"),
            *("url.scheme", "client.address", "server.address", "server.port", "user_agent.original"),
            *("http.request.header.x-tenant", "network.protocol.name", "network.transport", "client.port"),
        ),
    ),
]


class Stage:
    """Two gateways: `edge` tells a gRPC collector, `open` an HTTP collector."""

    def __init__(self, gateway: LiveGateway, by_grpc: Collector, by_http: Collector) -> None:
        self.gateway, self.by_grpc, self.by_http = gateway, by_grpc, by_http

    def get(self, gateway: str, path: str, *headers: tuple[str, str]) -> clients.Answer:
        answer = clients.http1(self.gateway.target(gateway, 80), clients.Call(host=HOST, path=path, headers=headers))
        assert answer.status == 200
        return answer


@pytest.fixture(scope="module")
def stage(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places, by_grpc, by_http = Places(fleet), GrpcCollector(), HttpCollector()
    route: Manifest = {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {
            "parentRefs": [{"name": "edge"}, {"name": "open"}],
            "rules": [{"name": "all", "backendRefs": [{"name": "echo-v1", "port": 8080}]}],
        },
    }
    own = places.complete(
        [
            *collector("grpc", by_grpc.port, "grpc"),
            *collector("http", by_http.port, "http"),
            policy("edge", "edge", "grpc", spanName="in the shop", serviceName="shop", attributes=ATTRIBUTES),
            policy("open", "open", "http", samplingRate={"numerator": 0}),
            route,
        ]
    )
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, places, [*places.base(), *own], "--concurrency", "1") as gateway:
        gateway.wait_live()
        yield Stage(gateway, by_grpc, by_http)
    by_grpc.stop()
    by_http.stop()
    places.close()


def parent(*, taken: bool) -> tuple[str, str]:
    """A trace's identifier, and the header with which somebody hands it on."""
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-{'01' if taken else '00'}"


def test_a_collector_by_grpc_gets_a_span_with_what_the_policy_asks_for(stage: Stage) -> None:
    answer = stage.get("edge", "/cart/1?a=b", ("X-Tenant", "t1"), ("User-Agent", "tests"))
    (span,) = stage.by_grpc.wait_for("/cart/1?a=b")
    assert (span.service, span.name, span.parent) == ("shop", "in the shop", "")
    assert span.headers["x-token"] == "secret"
    target = stage.gateway.target("edge", 80)
    assert {
        "team": "blue",
        "tenant": "t1",
        "http.request.method": "GET",
        "http.response.status_code": "200",
        "http.route": "HTTPRoute/infra/shop/all",
        "url.path": "/cart/1",
        "url.query": "a=b",
        "url.full": f"http://{HOST}/cart/1?a=b",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "server.address": HOST,
        "server.port": str(target.port),
        "user_agent.original": "tests",
        "http.request.header.x-tenant": "t1",
        "network.protocol.name": "http",
        "network.transport": "tcp",
    }.items() <= span.attributes.items()
    seen = answer.seen["headers"]
    assert isinstance(seen, dict)
    version, trace, _, flags = seen["Traceparent"][0].split("-")
    assert (version, trace, flags) == ("00", span.trace, "01")


def test_a_collector_by_http_gets_spans_of_what_others_decided_to_trace(stage: Stage) -> None:
    stage.get("open", "/not-drawn")
    _, declined = parent(taken=False)
    seen = stage.get("open", "/declined", ("traceparent", declined)).seen["headers"]
    assert isinstance(seen, dict)
    assert seen["Traceparent"][0].endswith("-00")
    trace, taken = parent(taken=True)
    stage.get("open", "/taken", ("traceparent", taken))
    (span,) = stage.by_http.wait_for("/taken")
    assert (span.trace, span.parent, span.service) == (trace, taken.split("-")[2], "open.infra")
    assert span.headers["x-token"] == "secret"
    assert set(stage.by_http.paths) == {"/v1/traces"}
    assert not stage.by_http.wait_for("/not-drawn", within_s=0)
    assert not stage.by_http.wait_for("/declined", within_s=0)


def test_who_ignores_others_decides_alone(stage: Stage) -> None:
    (changed,) = stage.gateway.places.complete(
        [policy("open", "open", "http", parentBasedSampling={"mode": "Disabled"}, serviceName="alone")]
    )
    stage.gateway.apply([changed])
    _, declined = parent(taken=False)
    stage.get("open", "/all-the-same", ("traceparent", declined))
    (span,) = stage.by_http.wait_for("/all-the-same")
    assert span.service == "alone"


def test_a_part_of_the_requests_is_drawn(stage: Stage) -> None:
    (changed,) = stage.gateway.places.complete(
        [policy("open", "open", "http", samplingRate={"numerator": 1, "denominator": 4}, serviceName="drawn")]
    )
    stage.gateway.apply([changed])
    for _ in range(200):
        stage.get("open", "/drawn")
    last, taken = parent(taken=True)
    stage.get("open", "/drawn", ("traceparent", taken))
    found = stage.by_http.wait_for("/drawn", 20)
    while last not in {span.trace for span in found}:
        found = stage.by_http.wait_for("/drawn", len(found) + 1)
    assert 20 <= len(found) <= 90
