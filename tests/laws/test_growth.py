"""Law of growth: nothing on the whole way of one change grows with how many routes there are. Counted, not timed.

The way is that of a replica that leads, from the line of a watch to the response on the wire and the patch of status
(`replica.py`). What is counted: calls of functions, bytes that are hashed, bytes that are sent, responses, writes of
status, and the memory that is needed meanwhile, which tells of copies that no call shows.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from tests.kube.statuses import Object
from tests.laws.replica import OPTIONS, Line, Replica
from tests.live.certificates import Authority

from tripylon.xds import snapshot

FEW, MANY = 100, 20_000
_SLACK, _SLACK_BYTES = 1.05, 8_000
"""For what depends on the order of sets and on the length of numbers; a copy of 20,000 pointers takes 160,000 bytes."""
SPACE = "shop"
CLASS: Object = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "tripylon"},
    "spec": {"controllerName": OPTIONS.controller_name},
}
EDGE: Object = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "edge", "namespace": SPACE},
    "spec": {
        "gatewayClassName": "tripylon",
        "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {
                "name": "https",
                "port": 443,
                "protocol": "HTTPS",
                "hostname": "*.example.com",
                "tls": {"certificateRefs": [{"name": "cert"}]},
            },
        ],
    },
}


class Cost(msgspec.Struct, frozen=True):
    """What one change took."""

    calls: int
    hashed_bytes: int
    responses: int
    sent_bytes: int
    written: tuple[str, ...]
    """Kinds of the objects whose status is written, sorted."""


class Place:
    """A replica with so many objects of a kind, the loop that it lives in, and the counting of what it does."""

    def __init__(self, count: int, there: Iterable[Object], led: Iterable[Object]) -> None:
        self.count = count
        self.replica = Replica()
        self._runner = asyncio.Runner()
        self._runner.run(self.replica.fill(there))
        self._runner.run(self.replica.lead(led))
        self.hashed_bytes = 0

    def close(self) -> None:
        self._runner.close()

    def take(self, put: list[Object], gone: list[Object]) -> None:
        lines = self._lines(put, gone)
        self._runner.run(self.replica.take(lines))

    def cost(self, put: list[Object], gone: list[Object]) -> Cost:
        """Takes in a change and counts."""
        lines, calls = self._lines(put, gone), 0

        def count(_: Any, event: str, __: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        async def counted() -> None:
            sys.setprofile(count)
            try:
                await self.replica.take(lines)
            finally:
                sys.setprofile(None)

        proxies = self.replica.proxies.values()
        responses, sent_bytes = sum(each.sent for each in proxies), sum(each.received for each in proxies)
        hashed_bytes = self.hashed_bytes
        self.replica.patches.clear()
        gc.disable()
        try:
            self._runner.run(counted())
        finally:
            gc.enable()
        return Cost(
            calls=calls,
            hashed_bytes=self.hashed_bytes - hashed_bytes,
            responses=sum(each.sent for each in proxies) - responses,
            sent_bytes=sum(each.received for each in proxies) - sent_bytes,
            written=tuple(sorted(ref.kind for ref, _ in self.replica.patches)),
        )

    def memory(self, put: list[Object], gone: list[Object]) -> int:
        """Takes in a change; the most bytes that were in use for it at any time."""
        lines = self._lines(put, gone)

        async def traced() -> int:
            tracemalloc.start()
            try:
                await self.replica.take(lines)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        return self._runner.run(traced())

    def _lines(self, put: list[Object], gone: list[Object]) -> list[Line]:
        line = self.replica.line
        return [*(line(each) for each in put), *(line(each, "DELETED") for each in gone)]


# --- Objects -------------------------------------------------------------------------------------------------------

AUTHORITY = Authority()


def objects(count: int) -> Iterator[Object]:
    yield from (CLASS, EDGE, certificate(), authorities())
    for number in range(count):
        yield from (route(number), service(number), slice_(number))
    for number in range(80, FEW):
        yield policy(number)


def named(api_version: str, kind: str, name: str, **rest: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": SPACE}, **rest}


def route(number: int, path: str = "/", service: int | None = None) -> Object:
    backend = {"name": f"service-{number if service is None else service:05}", "port": 80}
    spec = {
        "parentRefs": [{"name": "edge"}],
        "hostnames": [f"host-{number:05}.example.com"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [backend]}],
    }
    return named("gateway.networking.k8s.io/v1", "HTTPRoute", f"route-{number:05}", spec=spec)


def service(number: int) -> Object:
    return named("v1", "Service", f"service-{number:05}", spec={"ports": [{"port": 80}]})


def slice_(number: int, address: str = "10.0.0.1") -> Object:
    made = named("discovery.k8s.io/v1", "EndpointSlice", f"service-{number:05}", addressType="IPv4")
    made["metadata"]["labels"] = {"kubernetes.io/service-name": f"service-{number:05}"}
    return made | {"endpoints": [{"addresses": [address]}], "ports": [{"port": 8000, "protocol": "TCP"}]}


def certificate() -> Object:
    chain, key = AUTHORITY.issue("*.example.com")
    return named("v1", "Secret", "cert", type="kubernetes.io/tls", stringData={"tls.crt": chain, "tls.key": key})


def authorities() -> Object:
    return named("v1", "ConfigMap", "authorities", data={"ca.crt": AUTHORITY.pem})


def policy(number: int, hostname: str = "backend.example.com") -> Object:
    validation = {
        "hostname": hostname,
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authorities"}],
    }
    targets = [{"group": "", "kind": "Service", "name": f"service-{number:05}"}]
    spec = {"targetRefs": targets, "validation": validation}
    return named("gateway.networking.k8s.io/v1", "BackendTLSPolicy", f"policy-{number:05}", spec=spec)


def gateway(label: str) -> Object:
    return EDGE | {"metadata": {**EDGE["metadata"], "labels": {"say": label}}}


# --- Changes -------------------------------------------------------------------------------------------------------

Change = Callable[[Place, int], tuple[list[Object], list[Object]]]
"""What is put and what goes, by what is counted and a number below 20 that no change of its kind had before."""


class Growth(msgspec.Struct, frozen=True):
    """A kind of change, how many responses it sends, and whose status it writes."""

    change: Change
    responses: int
    written: tuple[str, ...]


def _new(place: Place, number: int) -> list[Object]:
    return [make(place.count + number) for make in (service, slice_, route)]


CHANGES: dict[str, Growth] = {
    "a changed route": Growth(lambda _, number: ([route(number, f"/{number:02}")], []), 1, ("HTTPRoute",)),
    "a route that goes to another Service": Growth(
        lambda _, number: ([route(20 + number, service=number)], []), 1, ("HTTPRoute",)
    ),
    "a new route with a new Service": Growth(
        lambda place, number: (_new(place, number), []), 3, ("Gateway", "HTTPRoute")
    ),
    "a route that goes, and its Service": Growth(
        lambda _, number: ([], [make(40 + number) for make in (route, service, slice_)]), 1, ("Gateway",)
    ),
    "a moved endpoint": Growth(lambda _, number: ([slice_(60 + number, f"10.0.1.{number}")], []), 1, ()),
    "a renewed certificate": Growth(lambda *_: ([certificate()], []), 1, ()),
    "a changed BackendTLSPolicy": Growth(
        lambda _, number: ([policy(80 + number, f"other-{number:02}.example.com")], []), 3, ("BackendTLSPolicy",)
    ),
    "a new label of the Gateway": Growth(lambda _, number: ([gateway(f"{number:02}")], []), 0, ("Gateway",)),
}


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, ...]]:
    found = tuple(Place(count, objects(count), (CLASS, EDGE)) for count in (FEW, MANY))
    yield found
    for place in found:
        place.close()


@pytest.fixture
def hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts what is hashed, for all places alike."""
    (name,) = {"places", "crowds", "fleets"} & set(request.fixturenames)
    there: tuple[Place, ...] = request.getfixturevalue(name)

    class Counted:
        def __init__(self, data: bytes, **options: Any) -> None:
            self._digest = blake2b(**options)
            self.update(data)

        def update(self, data: bytes) -> None:
            for place in there:
                place.hashed_bytes += len(data)
            self._digest.update(data)

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(snapshot, "blake2b", Counted)


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_takes_as_much_work_at_any_size(places: tuple[Place, ...], name: str) -> None:
    few, many = _costs(places, CHANGES[name])
    _assert_alike(few, many)


def _costs(places: tuple[Place, ...], growth: Growth) -> list[Cost]:
    """What a change takes at each place, after some of its kind."""
    costs = []
    for place in places:
        for number in range(3):
            place.take(*growth.change(place, number))
        costs.append(place.cost(*growth.change(place, 3)))
    assert costs[0].responses == growth.responses
    assert costs[0].written == growth.written
    return costs


def _assert_alike(few: Cost, many: Cost) -> None:
    """All is the same, but for what the order of sets makes of calls."""
    assert many == msgspec.structs.replace(few, calls=many.calls)
    assert many.calls <= few.calls * _SLACK


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_takes_as_much_memory_at_any_size(places: tuple[Place, ...], name: str) -> None:
    few, many = (
        min(place.memory(*CHANGES[name].change(place, 10 + number)) for number in range(5)) for place in places
    )
    assert many <= few * _SLACK + _SLACK_BYTES


# --- Many ListenerSets ---------------------------------------------------------------------------------------------

FEW_SETS, MANY_SETS = 10, 250
PER_SET = 16
_CALLS_PER_SET = 16
"""So many calls each other set may take where the Listener of the port, which is about all of them, is joined anew."""
OPEN_EDGE = EDGE | {"spec": EDGE["spec"] | {"allowedListeners": {"namespaces": {"from": "Same"}}}}


def listener_sets(count: int) -> Iterator[Object]:
    yield from (CLASS, OPEN_EDGE, certificate(), service(0), slice_(0))
    for number in range(count):
        yield from (listener_set(number), set_certificate(number), set_route(number))


def listener_set(number: int, listeners: int = PER_SET) -> Object:
    entries = [
        {
            "name": f"https-{place:02}",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": f"host-{place:02}.set-{number:05}.example.org",
            "tls": {"certificateRefs": [{"name": f"cert-{number:05}"}]},
        }
        for place in range(listeners)
    ]
    spec = {"parentRef": {"name": "edge"}, "listeners": entries}
    return named("gateway.networking.k8s.io/v1", "ListenerSet", f"set-{number:05}", spec=spec)


def set_certificate(number: int) -> Object:
    chain, key = AUTHORITY.issue(f"*.set-{number:05}.example.org")
    data = {"tls.crt": chain, "tls.key": key}
    return named("v1", "Secret", f"cert-{number:05}", type="kubernetes.io/tls", stringData=data)


def set_route(number: int, path: str = "/") -> Object:
    made = route(number, path, service=0)
    parent = {"kind": "ListenerSet", "name": f"set-{number:05}"}
    spec = {key: value for key, value in made["spec"].items() if key != "hostnames"} | {"parentRefs": [parent]}
    return made | {"spec": spec}


def _with_all(number: int) -> list[Object]:
    return [make(MANY_SETS + number) for make in (set_certificate, set_route, listener_set)]


SET_CHANGES: dict[str, Growth] = {
    "a changed route": Growth(lambda _, number: ([set_route(number, f"/{number}")], []), 1, ("HTTPRoute",)),
    "a renewed certificate": Growth(lambda _, number: ([set_certificate(number)], []), 1, ()),
    "a new label of the Gateway": Growth(
        lambda _, number: ([OPEN_EDGE | {"metadata": {**EDGE["metadata"], "labels": {"say": f"{number}"}}}], []),
        0,
        ("Gateway",),
    ),
}
LISTENER_CHANGES: dict[str, Growth] = {
    "a ListenerSet more, with its certificate and its route": Growth(
        lambda _, number: (_with_all(number), []), 2, ("Gateway", "HTTPRoute", "ListenerSet")
    ),
    "a ListenerSet with one listener less": Growth(
        lambda _, number: ([listener_set(number, PER_SET - 1)], []), 2, ("ListenerSet",)
    ),
    "a ListenerSet that goes": Growth(lambda _, number: ([], [listener_set(9 - number)]), 2, ("Gateway",)),
}


@pytest.fixture(scope="module")
def crowds() -> Iterator[tuple[Place, ...]]:
    found = tuple(Place(count, listener_sets(count), (CLASS, OPEN_EDGE)) for count in (FEW_SETS, MANY_SETS))
    yield found
    for place in found:
        place.close()


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("name", SET_CHANGES)
def test_a_change_that_is_not_about_listeners_takes_no_note_of_them(crowds: tuple[Place, ...], name: str) -> None:
    few, many = _costs(crowds, SET_CHANGES[name])
    _assert_alike(few, many)


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("name", LISTENER_CHANGES)
def test_a_listener_set_costs_others_only_the_joining_of_their_bytes(crowds: tuple[Place, ...], name: str) -> None:
    few, many = _costs(crowds, LISTENER_CHANGES[name])
    assert (many.responses, many.written) == (few.responses, few.written)
    assert many.calls <= few.calls * _SLACK + _CALLS_PER_SET * (MANY_SETS - FEW_SETS)


# --- Many Gateways -------------------------------------------------------------------------------------------------

FEW_GATEWAYS, MANY_GATEWAYS = 10, 300


def gateways(count: int) -> Iterator[Object]:
    yield from (CLASS, certificate(), service(0), slice_(0))
    for number in range(count):
        yield from (gateway_of(number), route_of(number))


def gateway_of(number: int, label: str = "") -> Object:
    return EDGE | {"metadata": {"name": f"edge-{number:05}", "namespace": SPACE, "labels": {"say": label}}}


def route_of(number: int, path: str = "/") -> Object:
    made = route(number, path, service=0)
    return made | {"spec": made["spec"] | {"parentRefs": [{"name": f"edge-{number:05}"}]}}


GATEWAY_CHANGES: dict[str, Growth] = {
    "a changed route": Growth(lambda _, number: ([route_of(number, f"/{number}")], []), 1, ("HTTPRoute",)),
    "a Gateway more, with its route": Growth(
        lambda place, number: ([make(place.count + number) for make in (gateway_of, route_of)], []),
        0,  # Its proxy is not there yet.
        ("Gateway", "HTTPRoute"),
    ),
    "a new label of a Gateway": Growth(lambda _, number: ([gateway_of(5, f"{number}")], []), 0, ("Gateway",)),
}


@pytest.fixture(scope="module")
def fleets() -> Iterator[tuple[Place, ...]]:
    found = tuple(Place(count, gateways(count), (CLASS, gateway_of(5))) for count in (FEW_GATEWAYS, MANY_GATEWAYS))
    yield found
    for place in found:
        place.close()


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("name", GATEWAY_CHANGES)
def test_a_change_at_one_gateway_takes_no_note_of_others(fleets: tuple[Place, ...], name: str) -> None:
    few, many = _costs(fleets, GATEWAY_CHANGES[name])
    _assert_alike(few, many)
