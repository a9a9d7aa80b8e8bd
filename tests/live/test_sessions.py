"""Session persistence on the real Envoy: who stays where, for how long, and that weights hold all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "shop.example.com"
X_GROUP = "gateway.networking.x-k8s.io"


def x_backend(fleet: Fleet, name: str, deployment: str, persistence: Manifest) -> tuple[Manifest, Manifest]:
    """An XBackend with the pods of a deployment."""
    placed = fleet.placed(f"infra/{deployment}")
    port = placed.ports["http"]
    spec = {
        "type": "EndpointSelector",
        "port": {"number": port},
        "endpointSelector": {"matchLabels": {"app": deployment}},
        "sessionPersistence": persistence,
    }
    return (
        {"apiVersion": f"{X_GROUP}/v1alpha1", "kind": "XBackend", "metadata": {"name": name}, "spec": spec},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"x-{name}", "labels": {"gateway.tripylon.dev/x-backend": name}},
            "addressType": "IPv4",
            "ports": [{"name": "backend", "port": port}],
            "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in placed.addresses],
        },
    )


def route() -> Manifest:
    def x(name: str) -> Manifest:
        return {"group": X_GROUP, "kind": "XBackend", "name": name}

    service = {"name": "echo-v1", "port": 8080}
    rules: list[tuple[str, list[Manifest], Manifest]] = [
        ("/split", [x("one"), x("two")], {}),
        ("/header", [x("header")], {}),
        ("/bound", [x("bound")], {}),
        ("/rule", [service, {**service, "name": "echo-v2"}], {"sessionPersistence": {"cookie": {"name": "r"}}}),
        ("/free", [service], {}),
    ]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": [HOST],
            "rules": [
                {"matches": [{"path": {"value": path}}], "backendRefs": backends, **more}
                for path, backends, more in rules
            ],
        },
    }


class Browser:
    """Keeps cookies by their names, and what it was told of each."""

    def __init__(self, gateway: LiveGateway) -> None:
        self.target = gateway.target("edge", 80)
        self.cookies: dict[str, str] = {}
        self.told: dict[str, str] = {}

    def get(self, path: str, *headers: tuple[str, str]) -> clients.Answer:
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        mine = (("Cookie", sent),) if sent else ()
        answer = clients.http1(self.target, clients.Call(host=HOST, path=path, headers=(*mine, *headers)))
        assert answer.status == 200, answer
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                pair, _, attributes = value.partition(";")
                cookie, _, content = pair.partition("=")
                self.cookies[cookie] = content.strip('"')
                self.told[cookie] = attributes
        return answer


@pytest.fixture(scope="module")
def gateway(layout: str, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    lasting = {"name": "b", "path": "/bound", "lifetimeType": "Permanent"}
    permanent: Manifest = {"cookie": lasting, "absoluteTimeout": "90s"}
    own = places.complete(
        [
            *x_backend(fleet, "one", "echo-v1", {"cookie": {}}),
            *x_backend(fleet, "two", "echo-v2", {"cookie": {"name": "two"}}),
            *x_backend(fleet, "header", "echo-v1", {"type": "Header", "header": {"name": "X-Session"}}),
            *x_backend(fleet, "bound", "echo-v1", permanent),
            route(),
        ]
    )
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, places, [*places.base(), *own], "--concurrency", "1", "--route-layout", layout) as started:
        started.wait_live()
        yield started
    places.close()


def pods_by_deployment(answers: list[clients.Answer]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for answer in answers:
        found.setdefault(answer.pod.rsplit("-", 1)[0], set()).add(answer.pod)
    return found


def test_weights_choose_the_backend_and_the_cookie_the_pod_within_it(gateway: LiveGateway) -> None:
    for path in ("/split", "/rule"):
        chosen: set[str] = set()
        for _ in range(4):
            browser = Browser(gateway)
            found = pods_by_deployment([browser.get(path) for _ in range(30)])
            assert set(found) == {"infra/echo-v1", "infra/echo-v2"}, "both backends get their share of one browser"
            assert all(len(pods) == 1 for pods in found.values()), found
            assert len(browser.cookies) == 2
            assert all("Path=/" in told and "Max-Age" not in told for told in browser.told.values())
            chosen.update(*found.values())
        assert len(chosen) > 2, "other browsers have sessions of their own"


def test_without_the_cookie_requests_go_everywhere(gateway: LiveGateway) -> None:
    assert len({Browser(gateway).get("/bound").pod for _ in range(40)}) == 2
    browser = Browser(gateway)
    assert len({browser.get("/free").pod for _ in range(40)}) == 2
    assert browser.cookies == {}


def test_the_token_reaches_the_backend(gateway: LiveGateway) -> None:
    browser = Browser(gateway)
    browser.get("/bound")
    seen = browser.get("/bound").seen["headers"]
    assert isinstance(seen, dict)
    assert seen["Cookie"] == [f"b={browser.cookies['b']}"]


def test_a_cookie_is_good_for_as_long_and_where_it_is_said(gateway: LiveGateway) -> None:
    browser = Browser(gateway)
    assert len({browser.get("/bound").pod for _ in range(30)}) == 1
    assert {"Max-Age=90", "Path=/bound", "HttpOnly"} <= set(browser.told["b"].replace(" ", "").split(";"))


def test_a_session_is_known_by_a_header(gateway: LiveGateway) -> None:
    browser = Browser(gateway)
    first = browser.get("/header")
    token = first.header("x-session")
    assert token
    for _ in range(30):
        answer = browser.get("/header", ("X-Session", token))
        assert answer.pod == first.pod
    seen = answer.seen["headers"]
    assert isinstance(seen, dict)
    assert seen["X-Session"] == [token]


def test_a_session_whose_pod_is_gone_goes_on_elsewhere(gateway: LiveGateway) -> None:
    browser = Browser(gateway)
    browser.cookies["b"] = "nonsense"
    assert browser.get("/bound").pod
    assert len({browser.get("/bound").pod for _ in range(30)}) == 1
