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
    listed = {"path": "/check", "allowedHeaders": ["X-Token"], "allowedResponseHeaders": ["X-User"]}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "done.example.com"}}
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

    def get(self, path: str, *headers: tuple[str, str], body: bytes = b"") -> clients.Answer:
        call = clients.Call(host=HOST, path=path, headers=headers, body=body, method="POST" if body else "GET")
        return clients.http1(self.gateway.target("edge", 80), call)


@pytest.fixture
def stage(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    places, by_http, by_grpc = Places(fleet), HttpAuth(), GrpcAuth()
    own = places.complete([*service("http-auth", by_http.port), *service("grpc-auth", by_grpc.port), route()])
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, places, [*places.base(), *own], "--concurrency", "1") as gateway:
        gateway.wait_live()
        yield Stage(gateway, by_http, by_grpc)
    by_http.stop()
    by_grpc.stop()
    places.close()


def test_only_whom_the_service_knows_reaches_the_backend(stage: Stage) -> None:
    for path in ("/http", "/listed", "/body", "/grpc", "/both"):
        assert stage.get(path).status == 401, path
        answer = stage.get(path, KNOWN)
        assert (answer.status, answer.seen["host"]) == (200, HOST), path
    assert stage.get("/http").body == b"who are you?"
    assert stage.get("/moved").status == 401
    assert stage.get("/moved", KNOWN).status == 302
    assert stage.get("/open").status == 200


def test_what_the_service_sees_and_what_the_backend_sees_of_its_answer(stage: Stage) -> None:
    seen = stage.get("/http/a?b=c", KNOWN, ("X-Token", "t"), ("X-Other", "o")).seen["headers"]
    assert (seen["X-User"], seen["X-More"]) == (["ali"], ["treasure"])
    method, path, headers, _ = stage.by_http.asked[-1]
    assert (method, path, headers["host"], headers["content-length"]) == ("GET", "/http/a?b=c", HOST, "0")
    assert not {"x-token", "x-other"} & set(headers), "only what must be sent, unless it is listed"

    seen = stage.get("/listed/a", KNOWN, ("X-Token", "t"), ("X-Other", "o")).seen["headers"]
    assert seen["X-User"] == ["ali"]
    assert "X-More" not in seen
    _, path, headers, _ = stage.by_http.asked[-1]
    assert (path, headers["x-token"]) == ("/check/listed/a", "t")
    assert "x-other" not in headers

    seen = stage.get("/grpc", KNOWN, ("X-Other", "o")).seen["headers"]
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
