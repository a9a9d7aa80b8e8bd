"""Every feature acts the same on an exact, a wildcard and no hostname, however routes are sent to the real Envoy.

The hole that this is about: a filter that is off by default would stay off where a request finds its route only at the
second look, as requests by a wildcard hostname do in scoped tables. So each filter of our connection managers is named
by a feature here, or the last test fails.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest
from tests.live import clients
from tests.live.auth_servers import GrpcAuth, HttpAuth
from tests.live.collectors import HttpCollector
from tests.live.every_feature import (
    BUDGETED,
    FEATURES,
    GRPC,
    HALF,
    HTTP,
    MORE_GRPC,
    MORE_HTTP,
    SENT,
    SHARED,
    a_pod,
    mirror,
    modifier,
)
from tests.live.every_host import (
    PLACES,
    Feature,
    Place,
    Stage,
    Visitor,
    backend,
    deployment,
    header_at_pod,
    routes,
    send,
)
from tests.live.every_host import visit as everybody
from tests.live.fleet import Fleet, Manifest, endpoint_slice
from tests.live.gateway import running
from tests.live.manifests import Places
from tests.live.series import configuration
from tests.live.test_backend_tls import config_map
from tests.live.test_backend_tls import policy as tls_by
from tests.live.test_external_auth import KNOWN, asking, service
from tests.live.test_retry_budget import REQUESTS
from tests.live.test_telemetry import collector as collected_by
from tests.live.test_telemetry import policy as traced_by

from tripylon.envoy import external_auth
from tripylon.envoy.scopes import HEADER

pytestmark = pytest.mark.live

# --- The gateway ---

GRPC_SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"


def calls() -> Iterator[Manifest]:
    """gRPC under each kind of hostname: one method with filters, one with a session, one whose backend is missing."""
    for place in PLACES:
        filters = [
            {
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"set": [{"name": "x-at", "value": place.name}]},
            },
            modifier("Request"),
            mirror(),
        ]
        rules: list[Manifest] = [
            {"filters": filters, "backendRefs": [backend("grpc-v1")]},
            {"sessionPersistence": {"cookie": {"name": "g"}}, "backendRefs": [backend("grpc-v2")]},
            {"backendRefs": [backend("no-such-service")]},
        ]
        for method, rule in zip(("Echo", "EchoTwo", "EchoThree"), rules, strict=True):
            rule["matches"] = [{"method": {"service": GRPC_SERVICE, "method": method}}]
        yield {
            "kind": "GRPCRoute",
            "metadata": {"name": f"calls-{place.name}"},
            "spec": {"parentRefs": [{"name": "edge"}], "hostnames": list(place.hostnames), "rules": rules},
        }


def ingress() -> Iterator[Manifest]:
    """A Gateway that serves an Ingress with a rule for each kind of hostname."""
    yield {
        "kind": "Gateway",
        "metadata": {"name": "front"},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    }
    gateway = {"apiGroup": "gateway.networking.k8s.io", "kind": "Gateway", "scope": "Namespace", "namespace": "infra"}
    yield {
        "kind": "IngressClass",
        "metadata": {"name": "front"},
        "spec": {"controller": "gateway.tripylon.dev/controller", "parameters": {**gateway, "name": "front"}},
    }
    service = {"name": "echo-v1", "port": {"number": 8080}}
    rules = [
        {
            **({"host": place.hostnames[0]} if place.hostnames else {}),
            "http": {"paths": [{"path": f"/{place.name}", "pathType": "Prefix", "backend": {"service": service}}]},
        }
        for place in PLACES
    ]
    yield {"kind": "Ingress", "metadata": {"name": "front"}, "spec": {"ingressClassName": "front", "rules": rules}}


def door() -> Iterator[Manifest]:
    """A Gateway whose listeners ask before a route is chosen: all that can be asked, two that are away, one missing."""
    ports = (
        (80, (HTTP, GRPC, MORE_HTTP, MORE_GRPC)),
        (8081, (asking("HTTP", "away"),)),
        (8082, (asking("GRPC", "away"),)),
    )
    listeners = [
        {"name": f"p{port}", "port": port, "protocol": "HTTP", "filters": {"requests": list(filters)}}
        for port, filters in (*ports, (8083, (asking("HTTP", "no-such-service"),)))
    ]
    yield {"kind": "Gateway", "metadata": {"name": "door"}, "spec": {"listeners": listeners}}
    yield from routes((Feature("open", {}, a_pod), Feature("own", {"filters": [GRPC]}, a_pod)), "door")


def vault() -> Iterator[Manifest]:
    """A Gateway with an HTTPS listener for each kind of hostname; on 8443 each asks who comes."""
    listeners: list[Manifest] = []
    for port, filters in ((443, {}), (8443, {"filters": {"requests": [HTTP]}})):
        for place in PLACES:
            hostname = {"hostname": place.hostnames[0]} if place.hostnames else {}
            secured: Manifest = {"port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "vault"}]}}
            listeners.append({"name": f"{place.name}-{port}", **secured, **hostname, **filters})
    yield {"kind": "Gateway", "metadata": {"name": "vault"}, "spec": {"listeners": listeners}}
    names = ["exact.example.com", "*.wild.example.com", "nobody.example.org"]
    yield {"kind": "Secret", "metadata": {"name": "vault"}, "names": names}
    for route in routes((Feature("secured", {}, a_pod),), "vault"):
        spec: Any = route["spec"]
        place = PLACES[[each.hostnames for each in PLACES].index(tuple(spec["hostnames"]))]
        spec["parentRefs"] = [{"name": "vault", "sectionName": f"{place.name}-{port}"} for port in (443, 8443)]
        yield route


def services(places: Places, fleet: Fleet, by_http: int, by_grpc: int, collector: int) -> Iterator[Manifest]:
    """Who is asked and told, and backends that are reached in their own ways."""
    for name, port in (
        ("http-auth", by_http),
        ("http-auth-2", by_http),
        ("grpc-auth", by_grpc),
        ("grpc-auth-2", by_grpc),
    ):
        yield from service(name, port)
    yield from service("away", int(places.resolve("${refused}")))
    yield from collected_by("collector", collector, "http")
    yield traced_by("traced", "edge", "collector")
    echo = fleet.placed("infra/echo-v3")
    bounded = {"name": "http", "port": 8080, "targetPort": echo.ports["http"]}
    yield {"kind": "Service", "metadata": {"name": "bounded"}, "spec": {"ports": [bounded]}}
    yield endpoint_slice(echo, ports=(("http", echo.ports["http"]),), service_name="bounded")
    constraint = {"budget": {"percent": 20, "interval": "1m"}, "minRetryRate": {"count": 1, "interval": "1m"}}
    yield {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackendTrafficPolicy",
        "metadata": {"name": "bounded"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "bounded"}], "retryConstraint": constraint},
    }
    secured = fleet.placed("infra/echo-v1")
    https = {"name": "https", "port": 443, "targetPort": secured.ports["https"]}
    yield {"kind": "Service", "metadata": {"name": "secured"}, "spec": {"ports": [https]}}
    yield endpoint_slice(secured, ports=(("https", secured.ports["https"]),), service_name="secured")
    yield config_map("backend-ca", fleet.authority)
    yield tls_by("secured", ca="backend-ca", hostname="backend.example.com")


@pytest.fixture(scope="module")
def stage(layout: str, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places, by_http, by_grpc, collector = Places(fleet), HttpAuth(), GrpcAuth(), HttpCollector()
    own = [
        *services(places, fleet, by_http.port, by_grpc.port, collector.port),
        *routes((*FEATURES, BUDGETED, HALF)),
        *calls(),
        *ingress(),
        *door(),
        *vault(),
    ]
    folder = tmp_path_factory.mktemp("gateway")
    options = ("--concurrency", "1", "--route-layout", layout)
    with running(folder, places, [*places.base(), *places.complete(own)], *options) as gateway:
        gateway.wait_live()
        yield Stage(gateway, fleet, by_http, by_grpc, collector)
        assert "[error]" not in (gateway.state / "envoy.log").read_text(), "nothing that Envoy finds fault with"
    for each in (by_http, by_grpc, collector):
        each.stop()
    places.close()


@pytest.mark.parametrize("feature", FEATURES, ids=[each.name for each in FEATURES])
def test_a_feature_is_the_same_on_every_host(stage: Stage, feature: Feature) -> None:
    everybody(stage, feature.name, feature.check)


@pytest.mark.parametrize("place", PLACES, ids=[each.name for each in PLACES])
def test_a_share_is_copied(stage: Stage, place: Place) -> None:
    mark = str(uuid.uuid4())
    with clients.Session(stage.gateway.target("edge", 80)) as session:
        call = clients.Call(host=place.hosts[0], path=f"/{place.name}/half", headers=(("X-Mark", mark),))
        assert {session.send(call).status for _ in range(SHARED)} == {200}
    assert abs(len(stage.copies(mark, SHARED // 2 - 32)) - SHARED // 2) <= 32


@pytest.mark.parametrize("place", PLACES, ids=[each.name for each in PLACES])
def test_a_budget_bounds_retries(stage: Stage, place: Place) -> None:
    first = stage.fleet.next_number()
    visitor = Visitor(stage, place, place.hosts[0], "http1", BUDGETED.name)
    with futures.ThreadPoolExecutor(REQUESTS) as pool:
        answers = list(pool.map(lambda _: visitor.get(), range(REQUESTS)))
    assert {answer.status for answer in answers} == {503}
    assert REQUESTS < len(stage.fleet.log_since(first)) <= REQUESTS * 2


def test_calls_are_the_same_on_every_host(stage: Stage) -> None:
    def check(visitor: Visitor) -> None:
        with clients.GrpcSession(visitor.target, visitor.host) as session:
            answer = session.call("Echo", SENT)
            headers: Any = answer.seen["headers"] if answer.seen else {}
            assert (answer.code, answer.pod.rpartition("-")[0]) == ("OK", "infra/grpc-v1")
            assert dict(answer.headers)["x-at"] == visitor.place.name
            assert (headers["X-Set"], "X-Remove" in headers) == (["ours"], False)
            assert HEADER not in {name.lower() for name in headers}
            kept = session.call("EchoTwo")
            cookie = dict(kept.headers)["set-cookie"].partition(";")[0].replace('"', "")
            assert cookie.startswith("g=")
            assert {session.call("EchoTwo", (("Cookie", cookie),)).pod for _ in range(6)} == {kept.pod}
            assert session.call("EchoThree").code == "UNAVAILABLE"
            assert session.call("other.Service/Echo").code == "UNIMPLEMENTED"

    everybody(stage, "calls", check)


def test_an_ingress_is_the_same_on_every_host(stage: Stage) -> None:
    def check(visitor: Visitor) -> None:
        if visitor.host.startswith("b.a."):
            assert visitor.get().status == 404, "a wildcard of an Ingress is one label"
        else:
            assert deployment(visitor.get()) == "echo-v1"
            assert visitor.ask("/elsewhere").status == 404

    everybody(stage, "any", check, gateway="front")


def test_a_listener_asks_on_every_host(stage: Stage) -> None:
    def check(visitor: Visitor) -> None:
        for path in ("/none", visitor.base):
            assert visitor.ask(path).status == 401
            assert visitor.ask(path, ("Authorization", "wrong"), method="OPTIONS").status in (401, 403, 501)
        path = visitor.unique()
        assert visitor.ask(path, KNOWN).status == 404
        assert stage.asked(path) == (2, 2)
        path = visitor.base + path
        answer = visitor.ask(path, KNOWN)
        assert deployment(answer) == "echo-v1"
        assert header_at_pod(answer, HEADER) == []
        assert stage.asked(path) == (2, 3 if visitor.feature == "own" else 2)

    everybody(stage, "open", check, gateway="door")
    everybody(stage, "own", check, gateway="door")


@pytest.mark.parametrize(("port", "status"), [(8081, 403), (8082, 403), (8083, 500)])
def test_a_listener_that_cannot_ask_lets_nobody_in_on_any_host(stage: Stage, port: int, status: int) -> None:
    def check(visitor: Visitor) -> None:
        for path in ("/none", visitor.base):
            for headers in ((), (KNOWN,)):
                answer = visitor.ask(path, *headers)
                assert (answer.status, answer.pod) == (status, "")

    everybody(stage, "open", check, gateway="door", port=port)


@pytest.mark.parametrize("port", [443, 8443])
def test_another_listeners_host_is_misdirected(stage: Stage, port: int) -> None:
    """Over HTTPS only hosts of the listener that the server name chose are answered, and after the same questions."""

    def check(visitor: Visitor) -> None:
        own = visitor.host in visitor.place.hosts and visitor.sni == visitor.place.hosts[0]
        if not own:
            assert {visitor.get().status, visitor.get("", KNOWN).status} == {421}
            return
        assert visitor.get().status == (200 if port == 443 else 401)
        answer = visitor.get("", KNOWN)
        assert deployment(answer) == "echo-v1"
        assert header_at_pod(answer, "X-Forwarded-Proto") == ["https"]
        assert visitor.ask("/none-such", KNOWN).status == 404

    send(
        (
            Visitor(stage, place, host, protocol, "secured", "vault", port, sni=connected.hosts[0])
            for connected in PLACES
            for place in PLACES
            for host in place.hosts
            for protocol in ("http1", "http2")
        ),
        check,
    )


# --- That no filter is left out ---

CHOSEN_BY_LISTENERS = {
    "envoy.filters.http.router": "every feature",
    "tripylon.scopes": "every feature, at a host in upper case or that of a wildcard",
    **dict.fromkeys(external_auth.LISTENER_SLOTS, "a listener asks on every host"),
}


def test_every_filter_is_tried(stage: Stage, layout: str) -> None:
    """A filter that joins the connection managers needs a feature here, whose routes set it up."""
    dumped = configuration(stage.gateway.state / "admin.sock")
    managers = [each for each in values(dumped, "http_filters") if len(each) > 1]
    added = [each for listed in values(managers, "default_filter_chain") for each in listed["filters"]]
    filters = {each["name"] for manager in managers for each in (*manager, *added)} - {"tripylon.filters"}
    tried = {name for feature in FEATURES for name in feature.filters}
    assert filters == tried | set(CHOSEN_BY_LISTENERS) - ({"tripylon.scopes"} if layout == "plain" else set())
    set_up: dict[str, set[str]] = {}
    for route in (each for listed in values(dumped, "routes") for each in listed):
        names = [name for settings in values(route, "typed_per_filter_config") for name in settings]
        set_up.setdefault(route["name"].rpartition("/")[2], set()).update(names)
    assert {each.name: set(each.filters) for each in FEATURES} == {each.name: set_up[each.name] for each in FEATURES}


def values(configuration: Any, key: str) -> Iterator[Any]:
    """All that is called so, at any depth."""
    inner = configuration.values() if isinstance(configuration, dict) else configuration
    if isinstance(configuration, dict) and key in configuration:
        yield configuration[key]
    for each in inner:
        if isinstance(each, dict | list):
            yield from values(each, key)
