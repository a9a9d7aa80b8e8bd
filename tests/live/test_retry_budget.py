"""XBackendTrafficPolicy on the real Envoy: retries stop where a Service's budget ends, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import pytest
from tests.live import clients
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "shop.example.com"
REQUESTS = 40
ATTEMPTS = 3


def route(name: str, service: str) -> Manifest:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "retry": {"codes": [503], "attempts": ATTEMPTS, "backoff": "400ms"},
        "backendRefs": [{"name": service, "port": 8080}],
    }
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [f"{name}.example.com"], "rules": [rule]}
    return {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    constraint = {"budget": {"percent": 20, "interval": "1m"}, "minRetryRate": {"count": 1, "interval": "1m"}}
    policy: Manifest = {
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XBackendTrafficPolicy",
        "metadata": {"name": "few"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "echo-v1"}],
            "retryConstraint": constraint,
        },
    }
    own = places.complete([policy, route("bounded", "echo-v1"), route("free", "echo-v2")])
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, places, [*places.base(), *own], "--concurrency", "1") as started:
        started.wait_live()
        yield started
    places.close()


def tries(gateway: LiveGateway, fleet: Fleet, name: str) -> int:
    """How often the pods were asked for so many requests at the same time that all fail."""
    first = fleet.next_number()
    target = gateway.target("edge", 80)
    call = clients.Call(host=f"{name}.example.com", path="/status/503")
    with futures.ThreadPoolExecutor(REQUESTS) as pool:
        answers = list(pool.map(lambda _: clients.http1(target, call), range(REQUESTS)))
    assert {answer.status for answer in answers} == {503}
    return len(fleet.log_since(first))


def test_without_a_policy_every_request_is_tried_as_often_as_its_route_says(gateway: LiveGateway, fleet: Fleet) -> None:
    assert tries(gateway, fleet, "free") == REQUESTS * (1 + ATTEMPTS)


def test_a_budget_bounds_the_retries_of_a_service(gateway: LiveGateway, fleet: Fleet) -> None:
    asked = tries(gateway, fleet, "bounded")
    assert REQUESTS < asked <= REQUESTS * 2
