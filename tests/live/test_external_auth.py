"""ExternalAuth on the real Envoy: who is let in, what service and backend see, and that failures let nobody in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.auth_servers import WORD, GrpcAuth, HttpAuth
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "shop.example.com"
KNOWN = ("Authorization", WORD)


def service(name: str, port: int) -> tuple[Manifest, Manifest]:
    """A Service with one endpoint on this machine."""
    ports = [{"name": "auth", "port": 80, "targetPort": port}]
    return (
        {"kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "auth", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        },
    )


def asking(protocol: str, backend: str, **settings: object) -> Manifest:
    """The filter."""
    external = {"protocol": protocol, "backendRef": {"name": backend, "port": 80}, protocol.lower(): {}, **settings}
    return {"type": "ExternalAuth", "externalAuth": external}


def rule(path: str, *filters: Manifest) -> Manifest:
    backends = [{"name": "echo-v1", "port": 8080}]
    if any(each["type"] == "RequestRedirect" for each in filters):
        backends = []
    return {"matches": [{"path": {"value": path}}], "filters": list(filters), "backendRefs": backends}


def route() -> Manifest:
    listed: Manifest = {"path": "/check", "allowedHeaders": ["X-Token"], "allowedResponseHeaders": ["X-User"]}
    redirect: Manifest = {"type": "RequestRedirect", "requestRedirect": {"hostname": "done.example.com"}}
    rules = [
        rule("/http", asking("HTTP", "http-auth")),
        rule("/listed", asking("HTTP", "http-auth", http=listed)),
        rule("/body", asking("HTTP", "http-auth", forwardBody={"maxSize": 16})),
        rule("/grpc", asking("GRPC", "grpc-auth")),
        rule("/both", asking("HTTP", "http-auth"), asking("GRPC", "grpc-auth")),
        rule("/moved", asking("HTTP", "http-auth"), redirect),
        rule("/gone", asking("HTTP", "no-such-service")),
        rule("/open"),
    ]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": rules},
    }


class Stage:
    """A gateway with a route whose rules ask the two services."""

    def __init__(self, gateway: LiveGateway, by_http: HttpAuth, by_grpc: GrpcAuth) -> None:
        self.gateway, self.by_http, self.by_grpc = gateway, by_http, by_grpc

    def headers(self, path: str, *headers: tuple[str, str]) -> dict[str, list[str]]:
        """What the backend got, names as the echo writes them."""
        found = self.get(path, *headers).seen["headers"]
        assert isinstance(found, dict)
        return found

    def get(self, path: str, *headers: tuple[str, str], body: bytes = b"") -> clients.Answer:
        call = clients.Call(host=HOST, path=path, headers=headers, body=body, method="POST" if body else "GET")
        return clients.http1(self.gateway.target("edge", 80), call)


@pytest.fixture
def stage(layout: str, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places, by_http, by_grpc = Places(fleet), HttpAuth(), GrpcAuth()
    own = places.complete([*service("http-auth", by_http.port), *service("grpc-auth", by_grpc.port), route()])
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, places, [*places.base(), *own], "--concurrency", "1", "--route-layout", layout) as gateway:
        gateway.wait_live()
        yield Stage(gateway, by_http, by_grpc)
        assert "[error]" not in (gateway.state / "envoy.log").read_text(), "nothing that Envoy finds fault with"
    by_http.stop()
    by_grpc.stop()
    places.close()


def test_only_whom_the_service_knows_reaches_the_backend(stage: Stage) -> None:
    for path in ("/http", "/listed", "/body", "/grpc", "/both"):
        assert stage.get(path).status == 401, path
        answer = stage.get(path, KNOWN)
        assert (answer.status, answer.seen["host"]) == (200, HOST), path
    assert stage.get("/http").body == b"who are you?"
    before = (len(stage.by_http.asked), len(stage.by_grpc.asked))
    assert stage.get("/both", KNOWN).status == 200
    assert (len(stage.by_http.asked), len(stage.by_grpc.asked)) == (before[0] + 1, before[1] + 1)
    assert stage.get("/moved").status == 401
    assert stage.get("/moved", KNOWN).status == 302
    assert stage.get("/open").status == 200


def test_what_the_service_sees_and_what_the_backend_sees_of_its_answer(stage: Stage) -> None:
    seen = stage.headers("/http/a?b=c", KNOWN, ("X-Token", "t"), ("X-Other", "o"))
    assert (seen["X-User"], seen["X-More"]) == (["ali"], ["treasure"])
    method, path, headers, _ = stage.by_http.asked[-1]
    assert (method, path, headers["host"], headers["content-length"]) == ("GET", "/http/a?b=c", HOST, "0")
    assert not {"x-token", "x-other"} & set(headers), "only what must be sent, unless it is listed"

    seen = stage.headers("/listed/a", KNOWN, ("X-Token", "t"), ("X-Other", "o"))
    assert seen["X-User"] == ["ali"]
    assert "X-More" not in seen
    _, path, headers, _ = stage.by_http.asked[-1]
    assert (path, headers["x-token"]) == ("/check/listed/a", "t")
    assert "x-other" not in headers

    seen = stage.headers("/grpc", KNOWN, ("X-Other", "o"))
    assert seen["X-User"] == ["ali"]
    assert stage.by_grpc.asked[-1].attributes.request.http.headers["x-other"] == "o"


def test_a_body_is_shown_whole_or_the_request_is_refused(stage: Stage) -> None:
    assert stage.get("/body", KNOWN, body=b"0123456789abcdef").status == 200
    assert stage.by_http.asked[-1][3] == b"0123456789abcdef"
    before = len(stage.by_http.asked)
    assert stage.get("/body", KNOWN, body=b"0123456789abcdef0").status == 413
    assert len(stage.by_http.asked) == before
    assert stage.get("/http", KNOWN, body=b"0123456789").status == 200
    assert (stage.by_http.asked[-1][2]["content-length"], stage.by_http.asked[-1][3]) == ("0", b"")


def test_nobody_passes_while_the_service_cannot_be_asked(stage: Stage) -> None:
    assert stage.get("/gone", KNOWN).status == 500
    stage.by_http.stop()
    stage.by_grpc.stop()
    for path in ("/http", "/listed", "/grpc", "/both", "/moved"):
        assert stage.get(path, KNOWN).status == 403, path
    assert stage.get("/open").status == 200


# --- Listeners that ask before a route is chosen -------------------------------------------------------------------


def door(*filters: Manifest) -> Manifest:
    """A Gateway with a listener that asks, and one of the same port that does not."""
    return {
        "kind": "Gateway",
        "metadata": {"name": "door"},
        "spec": {
            "listeners": [
                {"name": "asking", "port": 80, "protocol": "HTTP", "filters": {"requests": list(filters)}},
                {"name": "open", "port": 80, "protocol": "HTTP", "hostname": "open.example.com"},
            ]
        },
    }


def behind_the_door() -> Manifest:
    """A route by which users whom the listener's service named get elsewhere, where another service is asked."""
    named = {
        "matches": [{"headers": [{"name": "x-user", "value": "ali"}]}],
        "filters": [asking("GRPC", "grpc-auth")],
        "backendRefs": [{"name": "echo-v2", "port": 8080}],
    }
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "behind"},
        "spec": {
            "parentRefs": [{"name": "door"}],
            "hostnames": ["a.example.com", "open.example.com"],
            "rules": [named, rule("/")],
        },
    }


def knock(stage: Stage, host: str, *headers: tuple[str, str]) -> clients.Answer:
    return clients.http1(stage.gateway.target("door", 80), clients.Call(host=host, path="/", headers=headers))


def test_a_listener_asks_before_a_route_is_chosen(stage: Stage) -> None:
    places = stage.gateway.places
    stage.gateway.apply(places.complete([door(asking("HTTP", "http-auth")), behind_the_door()]))
    assert knock(stage, "a.example.com").status == 401
    assert knock(stage, "no.route.example.com").status == 401
    assert knock(stage, "no.route.example.com", KNOWN).status == 404
    assert knock(stage, "open.example.com").pod.startswith("infra/echo-v1-")
    answer = knock(stage, "a.example.com", KNOWN)
    assert answer.pod.startswith("infra/echo-v2-")
    assert answer.seen["host"] == "a.example.com"


def test_a_route_that_a_listeners_service_leads_to_is_not_reached_without_being_asked_for(stage: Stage) -> None:
    """The header that leads to the guarded route is only there after the listener's service has answered."""
    places = stage.gateway.places
    stage.gateway.apply(places.complete([door(asking("HTTP", "http-auth")), behind_the_door()]))
    before = len(stage.by_grpc.asked)
    assert knock(stage, "a.example.com", KNOWN).status == 200
    assert len(stage.by_grpc.asked) == before + 1
    stage.by_grpc.stop()
    assert knock(stage, "a.example.com", KNOWN).status == 403


def test_several_services_are_asked_in_order_and_none_can_be_left_out(stage: Stage) -> None:
    places = stage.gateway.places
    stage.gateway.apply(places.complete([door(asking("HTTP", "http-auth"), asking("GRPC", "grpc-auth"))]))
    assert knock(stage, "a.example.com", KNOWN).status == 404
    assert stage.by_grpc.asked[-1].attributes.request.http.headers["x-user"] == "ali"
    stage.gateway.apply(places.complete([door(asking("HTTP", "http-auth"), asking("GRPC", "no-such-service"))]))
    assert knock(stage, "a.example.com", KNOWN).status == 500
    assert knock(stage, "open.example.com").status == 404
    stage.gateway.apply(places.complete([door(asking("HTTP", "http-auth"))]))
    stage.by_http.stop()
    assert knock(stage, "a.example.com", KNOWN).status == 403
