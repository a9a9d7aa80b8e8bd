"""The lanes: endpoints, certificates, authorities and collectors each change by their own resources, and a flight holds
nothing else; no listener, which would drain connections, and no route."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from tests.laws.worlds import GATEWAY_API, Manifest, make
from tests.live.certificates import Authority

from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.settings import RouteLayout
from tripylon.xds.snapshot import BY_URL
from tripylon.xds.snapshot import Resource as XdsResource

AUTHORITIES = (Authority("one"), Authority("two"))
X_API = "gateway.networking.x-k8s.io"


def secret(name: str, number: int = 0) -> Resource:
    chain, key = AUTHORITIES[number].issue("shop.example.com")
    return make("Secret", "a", name, type="kubernetes.io/tls", stringData={"tls.crt": chain, "tls.key": key})


def authorities(name: str, number: int = 0) -> Resource:
    return make("ConfigMap", "a", name, data={"ca.crt": AUTHORITIES[number].pem})


def service(name: str, namespace: str = "a", **port: object) -> Resource:
    return make("Service", namespace, name, spec={"ports": [{"name": "one", "port": 80} | port]})


def endpoints(of: str, address: str, namespace: str = "a") -> Resource:
    return make(
        "EndpointSlice",
        namespace,
        f"{of}-1",
        labels={"kubernetes.io/service-name": of},
        addressType="IPv4",
        endpoints=[{"addresses": [address]}],
        ports=[{"name": "one", "port": 8000}],
    )


def route(name: str, to: str, **more: object) -> Resource:
    rule = {"backendRefs": [{"name": to, "port": 80}]} | more
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [f"{name}.example.com"], "rules": [rule]}
    return make("HTTPRoute", "a", name, spec=spec)


def telemetry(collector: str = "collector", **ref: object) -> Resource:
    backend: Manifest = {"name": collector, "port": 80} | ref
    target = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
    tracing = {"mode": "Enabled", "provider": {"backendRef": backend}}
    return make("XTelemetryPolicy", "a", "traces", spec={"targetRefs": [target], "tracing": tracing})


def tls_policy() -> Resource:
    validation = {
        "hostname": "secret.example.com",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "backends"}],
    }
    spec = {"targetRefs": [{"group": "", "kind": "Service", "name": "secured"}], "validation": validation}
    return make("BackendTLSPolicy", "a", "secured", spec=spec)


def gateway() -> Resource:
    clients = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}]}
    spec: Manifest = {
        "gatewayClassName": "ours",
        "tls": {
            "frontend": {"default": {"validation": clients}},
            "backend": {"clientCertificateRef": {"name": "own"}},
        },
        "listeners": [
            {"name": "http", "port": 8080, "protocol": "HTTP"},
            {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]}},
        ],
    }
    return make("Gateway", "a", "edge", spec=spec)


ASKING = {
    "type": "ExternalAuth",
    "externalAuth": {"protocol": "GRPC", "backendRef": {"name": "auth", "port": 80}},
}
GRANT = make(
    "ReferenceGrant",
    "far",
    "all",
    spec={
        "from": [{"group": X_API, "kind": "XTelemetryPolicy", "namespace": "a"}],
        "to": [{"group": "", "kind": "Service"}],
    },
)


def objects() -> list[Resource]:
    """One gateway that uses every lane."""
    return [
        make("GatewayClass", "", "ours", spec={"controllerName": "gateway.tripylon.dev/controller"}),
        gateway(),
        *(secret(name) for name in ("cert", "own")),
        *(authorities(name) for name in ("clients", "backends")),
        *(service(name) for name in ("web", "secured", "auth", "collector")),
        *(endpoints(name, "10.0.0.1") for name in ("web", "secured", "auth", "collector")),
        service("collector", "far"),
        endpoints("collector", "10.0.0.2", "far"),
        GRANT,
        tls_policy(),
        telemetry(),
        route("web", "web", filters=[ASKING]),
        route("secured", "secured"),
    ]


class Flights:
    """An engine whose flights are noted."""

    def __init__(self, *also: Resource, layout: RouteLayout = "plain") -> None:
        self.engine = Engine(Options(), EmitOptions(route_layout=layout))
        self.engine.apply([*objects(), *also])
        self.flights: list[dict[str, set[str]]] = []
        self._publish = self.engine.group.publish
        self.engine.group.publish = self._noted  # type: ignore[method-assign, assignment]

    def _noted(self, changes: Mapping[str, Mapping[str, XdsResource | None]]) -> int:
        before = {url: dict(self.engine.group.resources(url)) for url in BY_URL}
        flight = self._publish(changes)
        sent = {
            BY_URL[url].short: {name for name in named if before[url].get(name) != self._now(url).get(name)}
            for url, named in changes.items()
        }
        self.flights.append({short: names for short, names in sent.items() if names})
        return flight

    def _now(self, url: str) -> Mapping[str, XdsResource]:
        return self.engine.group.resources(url)

    def after(self, *put: Resource, gone: tuple[Resource, ...] = ()) -> dict[str, set[str]]:
        """What one change sends, by type."""
        self.flights.clear()
        self.engine.apply(put, [each.ref for each in gone])
        return {short: names for flight in self.flights for short, names in flight.items()}


LAYOUTS: tuple[RouteLayout, ...] = ("plain", "scoped")


@pytest.fixture(scope="module", params=LAYOUTS)
def world(request: pytest.FixtureRequest) -> Flights:
    return Flights(layout=request.param)


COLLECTOR = "collector/a/edge/http2"
TO_COLLECTOR = {"CDS": {COLLECTOR}, "EDS": {COLLECTOR}}
LANES: dict[str, tuple[Callable[[], Resource], dict[str, set[str]]]] = {
    "endpoints": (lambda: endpoints("web", "10.0.0.9"), {"EDS": {"service/a/web/80"}}),
    "endpoints of a service that is asked": (
        lambda: endpoints("auth", "10.0.0.9"),
        {"EDS": {"service/a/auth/80/http2"}},
    ),
    "a listener's certificate": (lambda: secret("cert"), {"SDS": {"secret/a/cert"}}),
    "the certificate that backends see": (lambda: secret("own"), {"SDS": {"secret/a/own"}}),
    "authorities of clients": (lambda: authorities("clients", 1), {"SDS": {"clients/a/edge"}}),
    "authorities of backends": (lambda: authorities("backends", 1), {"SDS": {"authorities/a/secured"}}),
    "endpoints of a collector": (lambda: endpoints("collector", "10.0.0.9"), {"EDS": {COLLECTOR}}),
}


@pytest.mark.parametrize("name", LANES)
def test_a_lane_carries_nothing_else(world: Flights, name: str) -> None:
    change, expected = LANES[name]
    assert world.after(change()) == expected


def test_a_collector_may_break_and_come_back() -> None:
    world = Flights()
    collector = service("collector")
    assert world.after(gone=(collector,)) == {"EDS": {COLLECTOR}}
    assert world.after(collector) == {"EDS": {COLLECTOR}}
    assert world.after(service("collector", port=81)) == {"EDS": {COLLECTOR}}  # lacks the port that is named
    assert world.after(service("collector", appProtocol="ftp")) == {}
    assert world.after(service("collector", appProtocol="grpc")) == {"EDS": {COLLECTOR}}
    assert world.after(gone=(collector,)) == {"EDS": {COLLECTOR}}


def test_a_collector_that_may_not_be_used_gets_nothing_and_no_listener_changes() -> None:
    world = Flights(telemetry(namespace="far"))
    assert world.after(gone=(GRANT,)) == {"EDS": {COLLECTOR}}
    assert world.after(GRANT) == {"EDS": {COLLECTOR}}


def test_a_collector_may_get_and_lose_tls() -> None:
    world = Flights(telemetry("secured"))
    assert world.after(gone=(tls_policy(),))["CDS"] >= {COLLECTOR}
    sent = world.after(tls_policy())
    assert sent["CDS"] >= {COLLECTOR}
    assert "LDS" not in sent


ROUTES: dict[RouteLayout, dict[str, set[str]]] = {
    "plain": {"VHDS": {"a/edge/8080/new.example.com", "a/edge/8443/https/new.example.com"}},
    "scoped": {"SRDS": {"a/edge/8080|new.example.com", "a/edge/8443/https|new.example.com"}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_route_and_its_service_are_one_flight(layout: RouteLayout) -> None:
    world = Flights(layout=layout)
    sent = world.after(service("new"), endpoints("new", "10.0.0.3"), route("new", "new"))
    assert len(world.flights) == 1
    assert sent == {"CDS": {"service/a/new/80"}, "EDS": {"service/a/new/80"}, **ROUTES[layout]}
