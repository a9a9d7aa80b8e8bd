"""Mirrored requests: found in the log of the pods that they were copied to, in the share that was asked for."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.echo import Logged
from tests.live.echo_servers import GRPC_SERVICE
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

REQUESTS = 500
QUIET_S = 3.0
"""After how long without a request no more are taken to come; copies come on their own."""
DEVIATIONS = 4
"""Standard deviations by which a share may differ: an honest measurement does so once in 16,000."""


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    routes = [*(route(path, *mirrors) for path, mirrors in ROUTES.items()), GRPC_ROUTE]
    manifests = [*places.base(), *places.complete([*routes, SHARED_ROUTE])]
    with running(tmp_path_factory.mktemp("gateway"), places, manifests, "--concurrency", "1") as gateway:
        gateway.wait_live()
        yield gateway
    places.close()


Mirror = dict[str, object]


def mirror(name: str, port: int = 8080, **share: object) -> Mirror:
    return {"backendRef": {"name": name, "port": port}, **share}


ROUTES: dict[str, tuple[Mirror, ...]] = {
    "/one": (mirror("echo-v2"),),
    "/several": (mirror("echo-v2"), mirror("echo-v3")),
    "/fifth": (mirror("echo-v2", percent=20),),
    "/half": (mirror("echo-v2", fraction={"numerator": 25, "denominator": 50}),),
    "/third": (mirror("echo-v3", fraction={"numerator": 35}),),
    "/none": (mirror("echo-v2", percent=0),),
    "/missing": (mirror("does-not-exist"),),
}


GRPC_ROUTE: Manifest = {
    "kind": "GRPCRoute",
    "metadata": {"name": "mirror-calls"},
    "spec": {
        "parentRefs": [{"name": "edge"}],
        "hostnames": ["calls.example.com"],
        "rules": [
            {
                "filters": [{"type": "RequestMirror", "requestMirror": mirror("grpc-v2")}],
                "backendRefs": [{"name": "grpc-v1", "port": 8080}],
            }
        ],
    },
}


SHARES = (("echo-v1", 20), ("echo-v2", 40))
"""Backends of one rule, with half of the requests each, and the percentage of theirs that is copied to echo-v3."""
SHARED_ROUTE: Manifest = {
    "kind": "HTTPRoute",
    "metadata": {"name": "mirror-shared"},
    "spec": {
        "parentRefs": [{"name": "edge"}],
        "rules": [
            {
                "matches": [{"path": {"value": "/shared"}}],
                "backendRefs": [
                    {
                        "name": name,
                        "port": 8080,
                        "filters": [
                            {"type": "RequestMirror", "requestMirror": mirror("echo-v3", percent=percent)},
                            {
                                "type": "RequestHeaderModifier",
                                "requestHeaderModifier": {"set": [{"name": "X-Of", "value": name}]},
                            },
                        ],
                    }
                    for name, percent in SHARES
                ],
            }
        ],
    },
}


def route(path: str, *mirrors: Mirror) -> Manifest:
    """All requests for `path` to echo-v1, with a header changed, and copies to the mirrors."""
    changes = {"set": [{"name": "X-Set", "value": "set"}], "remove": ["X-Remove"]}
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": f"mirror-{path[1:]}"},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "rules": [
                {
                    "matches": [{"path": {"value": path}}],
                    "filters": [
                        {"type": "RequestHeaderModifier", "requestHeaderModifier": changes},
                        *({"type": "RequestMirror", "requestMirror": each} for each in mirrors),
                    ],
                    "backendRefs": [{"name": "echo-v1", "port": 8080}],
                }
            ],
        },
    }


def send(gateway: LiveGateway, path: str, times: int) -> str:
    """Sends requests that bear a new mark, all of which echo-v1 must answer; returns the mark."""
    mark = str(uuid.uuid4())
    headers = (("X-Mark", mark), ("X-Remove", "gone"))
    with clients.Session(gateway.target("edge", 80)) as session:
        for _ in range(times):
            answer = session.send(clients.Call(host="example.com", path=path, headers=headers))
            assert (answer.status, answer.pod.rpartition("-")[0]) == (200, "infra/echo-v1")
    return mark


def received(fleet: Fleet, mark: str, expected: int) -> list[Logged]:
    """What the pods received with that mark, once `expected` requests are there or no more come for seconds."""
    found: list[Logged] = []
    grew_s = time.monotonic()
    while len(found) < expected and time.monotonic() < grew_s + QUIET_S:
        before, found = len(found), [entry for entry in fleet.log_since(0) if entry.headers.get("X-Mark") == [mark]]
        if len(found) > before:
            grew_s = time.monotonic()
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("path", "deployments"),
    [("/one", {"echo-v1", "echo-v2"}), ("/several", {"echo-v1", "echo-v2", "echo-v3"})],
)
def test_every_mirror_gets_a_copy(gateway: LiveGateway, fleet: Fleet, path: str, deployments: set[str]) -> None:
    found = received(fleet, send(gateway, path, 1), len(deployments))
    assert sorted(entry.pod.rpartition("-")[0] for entry in found) == sorted(deployments)
    assert {entry.path for entry in found} == {path}
    for entry in found:
        assert entry.headers["X-Set"] == ["set"], entry
        assert "X-Remove" not in entry.headers, entry


@pytest.mark.parametrize(
    ("path", "deployment", "share"),
    [("/fifth", "echo-v2", 0.2), ("/half", "echo-v2", 0.5), ("/third", "echo-v3", 0.35), ("/none", "echo-v2", 0.0)],
)
def test_a_share_of_the_requests_is_mirrored(
    gateway: LiveGateway, fleet: Fleet, path: str, deployment: str, share: float
) -> None:
    found = received(fleet, send(gateway, path, REQUESTS), REQUESTS * 3)
    counts = Counter(entry.pod.rpartition("-")[0] for entry in found)
    allowed = DEVIATIONS * (REQUESTS * share * (1 - share)) ** 0.5
    assert counts.pop("echo-v1") == REQUESTS
    assert abs(counts.pop(deployment, 0) - share * REQUESTS) <= allowed
    assert not counts


def test_backends_have_shares_of_their_own_requests_mirrored(gateway: LiveGateway, fleet: Fleet) -> None:
    mark = str(uuid.uuid4())
    with clients.Session(gateway.target("edge", 80)) as session:
        for _ in range(REQUESTS):
            session.send(clients.Call(host="example.com", path="/shared", headers=(("X-Mark", mark),)))
    counts: Counter[tuple[str, str]] = Counter()
    for entry in received(fleet, mark, REQUESTS * 2):
        counts[entry.headers["X-Of"][0], entry.pod.rpartition("-")[0]] += 1
    for name, percent in SHARES:
        served, copied, share = counts[name, name], counts[name, "echo-v3"], percent / 100
        assert abs(served - REQUESTS / 2) <= DEVIATIONS * (REQUESTS / 4) ** 0.5, counts
        assert abs(copied - served * share) <= DEVIATIONS * (served * share * (1 - share)) ** 0.5, counts


def test_a_mirror_that_does_not_exist_harms_nobody(gateway: LiveGateway, fleet: Fleet) -> None:
    found = received(fleet, send(gateway, "/missing", 5), 5)
    assert [entry.pod.rpartition("-")[0] for entry in found] == ["echo-v1"] * 5


def test_calls_are_mirrored(gateway: LiveGateway, fleet: Fleet) -> None:
    mark = str(uuid.uuid4())
    with clients.GrpcSession(gateway.target("edge", 80), "calls.example.com") as session:
        assert session.call("Echo", (("x-mark", mark),)).code == "OK"
    found = received(fleet, mark, 2)
    assert sorted(entry.pod.rpartition("-")[0] for entry in found) == ["grpc-v1", "grpc-v2"]
    assert {entry.path for entry in found} == {f"/{GRPC_SERVICE}/Echo"}
