"""Churn under load: 200 random edits while 2,000 requests per second run.

Every answer must be one that was right at some moment between sending and receiving. From the moment that a change is
reported live, only the new answer is right; while it is under way, the old one is, too. The edits are drawn from a
seed, so a failure can be run again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.live import churn as fast
from tests.live.echo import Deployment
from tests.live.fleet import Fleet, Manifest, endpoint_slice
from tests.live.gateway import LiveGateway
from tests.live.load import Load, LoadClient, Record
from tests.live.manifests import Places

from tripylon.envoy.scopes import MANY_HOSTS

pytestmark = [pytest.mark.live, pytest.mark.slow]

SEED = 20261125
EDITS = 200
RESTARTS = 8
RATE = 2000.0
SECONDS = 10.0
HOSTS = 24
SERVICES = 6
PODS = tuple(f"pod-{number}" for number in range(8))
DEPLOYMENTS = tuple(Deployment("churn", pod, 1, "lean") for pod in PODS)
ABSENT = "404"


class Shown(msgspec.Struct, frozen=True):
    """An answer that a host gives: right from `from_s` on, the only right one from `live_s` on."""

    outcome: str
    from_s: float
    live_s: float


class Churn:
    """The objects as they are now, the edits that change them, and what each host answered when."""

    def __init__(self, fleet: Fleet, gateway: LiveGateway) -> None:
        self._fleet = fleet
        self._gateway = gateway
        self._random = random.Random(SEED)
        self._service_of: dict[str, int | None] = {}
        self._pod_of = [number % len(PODS) for number in range(SERVICES)]
        self._name_of = [f"service-{number}" for number in range(SERVICES)]
        self._story: dict[str, list[Shown]] = {host: [] for host in hosts()}
        self.kinds: Counter[str] = Counter()

    def begin(self) -> None:
        """The objects of the start."""
        places = self._gateway.places
        for manifest in places.complete([GATEWAY]):
            self._gateway.write(manifest)
        for service in range(SERVICES):
            self._write_service(service)
        for number, host in enumerate(hosts()):
            self._service_of[host] = number % SERVICES if number % 4 else None
            self._write_route(host)
        self._gateway.start()
        self._gateway.wait_live()
        self._note(float("-inf"), float("-inf"))

    def edit(self) -> None:
        """One random edit, followed until it is live."""
        edits: tuple[Callable[[], None], ...] = (
            self._add_or_remove,
            self._swap_service,
            self._move_endpoints,
            self._replace_service,
        )
        begin = time.monotonic()
        change = self._random.choice(edits)
        self.kinds[change.__name__] += 1
        change()
        self._gateway.wait_live()
        self._note(begin, time.monotonic())

    def edit_while_down(self) -> None:
        """The control plane is killed, an edit is made, and the next control plane takes over."""
        begin = time.monotonic()
        self._gateway.kill()
        self._random.choice((self._add_or_remove, self._swap_service, self._move_endpoints))()
        self._gateway.start()
        self._gateway.wait_live()
        self._note(begin, time.monotonic())

    def wrong(self, records: list[Record]) -> list[str]:
        """Every answer that was not right at any moment of its request."""
        return [
            f"{record.host} answered {record.outcome!r} at {record.sent_s:.4f}-{record.done_s:.4f}; {told}"
            for record in records
            if (told := self._judge(record))
        ]

    def _judge(self, record: Record) -> str:
        story = self._story[record.host]
        ends = [*(after.live_s for after in story[1:]), float("inf")]
        right = {
            shown.outcome
            for shown, end in zip(story, ends, strict=True)
            if shown.from_s <= record.done_s and record.sent_s <= end
        }
        return "" if record.outcome in right else f"right were {sorted(right)}"

    def _note(self, from_s: float, live_s: float) -> None:
        for host, story in self._story.items():
            service = self._service_of[host]
            outcome = ABSENT if service is None else f"200 {PODS[self._pod_of[service]]}-0"
            if not story or story[-1].outcome != outcome:
                story.append(Shown(outcome, from_s, live_s))

    def _add_or_remove(self) -> None:
        host = self._random.choice(hosts())
        self._service_of[host] = self._random.randrange(SERVICES) if self._service_of[host] is None else None
        self._write_route(host)

    def _swap_service(self) -> None:
        present = [host for host in hosts() if self._service_of[host] is not None]
        for host in self._random.sample(present, min(3, len(present))):
            self._service_of[host] = self._random.randrange(SERVICES)
            self._write_route(host)

    def _move_endpoints(self) -> None:
        service = self._random.randrange(SERVICES)
        self._pod_of[service] = self._random.randrange(len(PODS))
        self._gateway.write(self._endpoints(service))

    def _replace_service(self) -> None:
        """A new Service with the same pods takes over the routes of an old one, which then goes."""
        service = self._random.randrange(SERVICES)
        old = self._name_of[service]
        self._name_of[service] = f"service-{service}-{self.kinds.total()}"
        self._write_service(service)
        self._gateway.wait_live()
        for host in hosts():
            if self._service_of[host] == service:
                self._write_route(host)
        self._gateway.wait_live()
        for kind, name in (("Service", old), ("EndpointSlice", f"{old}-1")):
            self._gateway.path(f"{kind} churn/{name}").unlink()

    def _write_service(self, service: int) -> None:
        self._gateway.write(service_manifest(self._name_of[service]))
        self._gateway.write(self._endpoints(service))

    def _write_route(self, host: str) -> None:
        service = self._service_of[host]
        if service is not None:
            self._gateway.write(route_manifest(host, self._name_of[service]))
        else:
            self._gateway.path(f"HTTPRoute churn/{host.partition('.')[0]}").unlink(missing_ok=True)

    def _endpoints(self, service: int) -> Manifest:
        placed = self._fleet.placed(f"churn/{PODS[self._pod_of[service]]}")
        return endpoint_slice(placed, ports=(("http", placed.ports["http"]),), service_name=self._name_of[service])


GATEWAY: Manifest = {
    "kind": "Gateway",
    "metadata": {"namespace": "churn", "name": "edge"},
    "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
}


def hosts() -> tuple[str, ...]:
    return tuple(f"host-{number}.example.com" for number in range(HOSTS))


def route_manifest(host: str, service: str) -> Manifest:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": "churn", "name": host.partition(".")[0]},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": [host],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    }


def service_manifest(name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "churn", "name": name},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }


@pytest.fixture
def churn(tmp_path: Path) -> Iterator[tuple[Churn, LiveGateway]]:
    with Fleet(tmp_path, DEPLOYMENTS) as fleet:
        places = Places(fleet)
        gateway = LiveGateway(tmp_path / "gateway", places, "--concurrency", "1", "--access-log", "off")
        try:
            yield Churn(fleet, gateway), gateway
        finally:
            gateway.stop()
            places.close()


def test_no_edit_fails_a_request_or_leaves_a_stale_answer(
    churn: tuple[Churn, LiveGateway], tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    edits, gateway = churn
    edits.begin()
    target = gateway.target("churn/edge", 80)
    load = Load(target.address, target.port, hosts(), str(tmp_path / "records"), rate=RATE, seed=SEED)
    with LoadClient(load) as client:
        began = time.monotonic()
        for _ in range(EDITS):
            edits.edit()
        took = time.monotonic() - began
        records = client.finish()
    record_testsuite_property("churn requests per second", round(len(records) / took))
    record_testsuite_property("churn seconds per edit", round(took / EDITS, 3))
    wrong = edits.wrong(records)
    assert not wrong, f"{len(wrong)} of {len(records)} answers are wrong:\n" + "\n".join(wrong[:20])
    assert len(records) >= EDITS
    assert set(edits.kinds) == {"_add_or_remove", "_swap_service", "_move_endpoints", "_replace_service"}


def test_edits_made_while_the_control_plane_is_down_fail_no_request(
    churn: tuple[Churn, LiveGateway], tmp_path: Path
) -> None:
    edits, gateway = churn
    edits.begin()
    target = gateway.target("churn/edge", 80)
    load = Load(target.address, target.port, hosts(), str(tmp_path / "records"), rate=RATE / 2, seed=SEED)
    with LoadClient(load) as client:
        for _ in range(RESTARTS):
            edits.edit()
            edits.edit_while_down()
        records = client.finish()
    wrong = edits.wrong(records)
    assert not wrong, f"{len(wrong)} of {len(records)} answers are wrong:\n" + "\n".join(wrong[:20])


WAYS: dict[str, dict[str, object]] = {
    "plain": {"layout": "plain"},
    "scoped": {"layout": "scoped"},
    "now plain, now scoped": {"still_hosts": MANY_HOSTS - 14},
}
DRAINED_S = 60.0
"""So long connections of before may be answered as it was when their table moved."""


@pytest.mark.parametrize("way", WAYS)
def test_no_request_fails_while_everything_changes_twenty_times_a_second(
    way: str, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    with Fleet(tmp_path, fast.DEPLOYMENTS) as fleet, fast.Churning(tmp_path / "churn", fleet, **WAYS[way]) as churning:
        settled_s = DRAINED_S if way.startswith("now") else fast.SETTLED_S
        rates = {"http": RATE / 2, "https": RATE / 2}
        found = fast.loaded(churning, tmp_path, rates=rates, seconds=SECONDS, settled_s=settled_s)
    changes = f"{sum(found.done.kinds.values())} changes, {found.done.moved_tables} of the layout"
    record_testsuite_property(f"fast churn, {way}", f"{found.requests} requests, {changes}")
    assert bool(found.done.moved_tables) == (way not in ("plain", "scoped")), found.done
    assert not found.wrong, f"{len(found.wrong)} of {found.requests} answers are wrong:\n" + "\n".join(found.wrong[:20])
    assert set(found.done.kinds) == fast.KINDS
    assert found.requests >= sum(found.done.kinds.values())
