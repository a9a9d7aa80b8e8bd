"""Law of cost: what one change recomputes does not grow with how much else there is. Counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tests.laws import worlds
from tests.laws.worlds import make, new_graph
from tests.live.certificates import Authority

from tripylon.api.meta import Resource
from tripylon.graph import Graph
from tripylon.world import world as tables

FEW, MANY = 100, 20_000


def objects(count: int) -> Iterator[Resource]:
    """A gateway, and for each number a host with its own route, Service and endpoints."""
    yield worlds.EDGE
    for number in range(count):
        yield route(number, "/")
        yield make("Service", "a", f"s{number}", spec={"ports": [{"port": 80}]})
        yield slice_(number, "10.0.0.1")


def route(number: int, path: str) -> Resource:
    return make(
        "HTTPRoute",
        "a",
        f"r{number}",
        spec={
            "parentRefs": [{"name": "edge", "sectionName": "one"}],
            "hostnames": [f"h{number}.example.net"],
            "rules": [{"matches": [{"path": {"value": path}}], "backendRefs": [{"name": f"s{number}", "port": 80}]}],
        },
    )


def slice_(number: int, address: str) -> Resource:
    return make(
        "EndpointSlice",
        "a",
        f"s{number}",
        labels={"kubernetes.io/service-name": f"s{number}"},
        addressType="IPv4",
        endpoints=[{"addresses": [address]}],
        ports=[{"port": 8000}],
    )


def counted(there: Iterable[Resource]) -> tuple[Graph, Counter[str]]:
    """A settled graph, and the builds by table since then."""
    graph, builds = new_graph(), Counter[str]()
    for node in graph._order:
        assert node.derive is not None
        node.derive.build = _counting(node.derive.build, node.table.name, builds)
    for each in there:
        tables.put(graph, each)
    graph.flush()
    builds.clear()
    return graph, builds


def _counting(build: Callable[[Any, Any], Any], name: str, builds: Counter[str]) -> Callable[[Any, Any], Any]:
    def wrapped(read: Any, key: Any) -> Any:
        builds[name] += 1
        return build(read, key)

    return wrapped


@pytest.fixture(scope="module")
def graphs() -> tuple[tuple[Graph, Counter[str]], ...]:
    return counted(objects(FEW)), counted(objects(MANY))


CHANGES: dict[str, tuple[Callable[[Graph], Any], dict[str, int]]] = {
    "a changed route": (
        lambda graph: tables.put(graph, route(7, "/new")),
        {"route plans": 1, "host plans": 1, "host resources": 1},
    ),
    "a moved endpoint": (
        lambda graph: tables.put(graph, slice_(7, "10.0.0.2")),
        {"endpoint plans": 1, "endpoint resources": 1},
    ),
    "a new route with its Service": (
        lambda graph: [tables.put(graph, each) for each in list(objects(MANY + 1))[-3:]],
        {
            "route plans": 1,
            "host plans": 1,
            "layouts of route tables": 1,
            "host resources": 1,
            "cluster plans": 1,
            "cluster resources": 1,
            "endpoint plans": 1,
            "endpoint resources": 1,
        },
    ),
    "a route that goes": (
        lambda graph: tables.delete(graph, route(9, "/").ref),
        {"layouts of route tables": 1},
    ),
    "a Service that nobody uses": (
        lambda graph: tables.put(graph, make("Service", "b", "idle", spec={"ports": [{"port": 80}]})),
        {},
    ),
    "the same route again": (lambda graph: tables.put(graph, route(11, "/")), {}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_costs_the_same_at_any_size(graphs: tuple[tuple[Graph, Counter[str]], ...], name: str) -> None:
    change, expected = CHANGES[name]
    for graph, builds in graphs:
        builds.clear()
        change(graph)
        graph.flush()
        assert dict(builds) == expected


# --- ListenerSets --------------------------------------------------------------------------------------------------

FEW_SETS, MANY_SETS = 10, 250
PER_SET = 16
AUTHORITY = Authority()
INCOMERS = MANY_SETS
"""The first number that no world has."""


def listener_sets(count: int) -> Iterator[Resource]:
    """A gateway and ListenerSets that add all but one of its listeners, each with its own certificate and route."""
    yield open_gateway("first")
    for number in range(count):
        yield from (listener_set(number), certificate(number), set_route(number, "/"))


def open_gateway(label: str) -> Resource:
    spec = {
        "gatewayClassName": "ours",
        "allowedListeners": {"namespaces": {"from": "All"}},
        "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}],
    }
    return make("Gateway", "a", "edge", labels={"say": label}, spec=spec)


def listener_set(number: int, listeners: int = PER_SET) -> Resource:
    entries = [
        {
            "name": f"l{place}",
            "port": 8443,
            "protocol": "HTTPS",
            "hostname": f"h{place}.set{number}.example.com",
            "tls": {"certificateRefs": [{"name": f"c{number}"}]},
        }
        for place in range(listeners)
    ]
    return make("ListenerSet", "a", f"set{number}", spec={"parentRef": {"name": "edge"}, "listeners": entries})


def certificate(number: int) -> Resource:
    chain, key = AUTHORITY.issue(f"*.set{number}.example.com")
    data = {"tls.crt": chain, "tls.key": key}
    return make("Secret", "a", f"c{number}", type="kubernetes.io/tls", stringData=data)


def set_route(number: int, path: str) -> Resource:
    parent = {"kind": "ListenerSet", "name": f"set{number}"}
    spec = {"parentRefs": [parent], "rules": [{"matches": [{"path": {"value": path}}]}]}
    return make("HTTPRoute", "a", f"r{number}", spec=spec)


@pytest.fixture(scope="module")
def crowds() -> tuple[tuple[Graph, Counter[str]], ...]:
    return counted(listener_sets(FEW_SETS)), counted(listener_sets(MANY_SETS))


OF_ONE_SET = ("listenerset plans", "written listeners", "entries", "claims", "verdicts", "listeners", "listeners tls")
OF_ITS_OVERLAPS = ("overlaps of hostnames", "overlaps of certificates")
OF_THE_GATEWAY = ("gateway plans", "gateway tls")
OF_THE_PORT = ("ports of certificates", "port owners", "shared tables", "layouts of route tables")
WIRE = ("filter chains", "listener resources")


def once(*tables: tuple[str, ...]) -> dict[str, int]:
    return {table: 1 for group in tables for table in group}


SET_CHANGES: dict[str, tuple[Callable[[Graph], Any], dict[str, int]]] = {
    "a ListenerSet more, with its certificate and its route": (
        lambda graph: [
            tables.put(graph, each)
            for each in (certificate(INCOMERS), set_route(INCOMERS, "/"), listener_set(INCOMERS))
        ],
        {
            **once(OF_ONE_SET, OF_ITS_OVERLAPS, OF_THE_GATEWAY, OF_THE_PORT, WIRE),
            **once(
                (
                    "sockets",
                    "certificates",
                    "uses of certificates",
                    "common names of certificates",
                    "secret resources",
                    "route plans",
                )
            ),
            **dict.fromkeys(("place owners", "host plans", "host resources"), PER_SET),
        },
    ),
    "a ListenerSet with one listener less": (
        lambda graph: tables.put(graph, listener_set(3, PER_SET - 1)),
        {
            **once(OF_ONE_SET, OF_ITS_OVERLAPS, OF_THE_GATEWAY, OF_THE_PORT, WIRE),
            **once(("common names of certificates", "route plans")),
            **dict.fromkeys(("place owners", "host plans"), PER_SET - 1),
        },
    ),
    "a ListenerSet that goes": (
        lambda graph: tables.delete(graph, listener_set(6).ref),
        {
            **once(OF_THE_GATEWAY, OF_THE_PORT, ("sockets", "route plans", "listener resources")),
        },
    ),
    "a changed route": (
        lambda graph: tables.put(graph, set_route(4, "/new")),
        {**once(("route plans",)), **dict.fromkeys(("host plans", "host resources"), PER_SET)},
    ),
    "a renewed certificate": (
        lambda graph: tables.put(graph, certificate(5)),
        once(("certificates", "uses of certificates", "secret resources")),
    ),
    "a new label of the Gateway": (
        lambda graph: tables.put(graph, open_gateway("second")),
        once(("gateway heads", "written listeners", "frontend settings")),
    ),
}


@pytest.mark.parametrize("name", SET_CHANGES)
def test_a_listener_set_costs_its_own_listeners_at_any_size(
    crowds: tuple[tuple[Graph, Counter[str]], ...], name: str
) -> None:
    change, expected = SET_CHANGES[name]
    for graph, builds in crowds:
        builds.clear()
        change(graph)
        graph.flush()
        assert dict(builds) == expected
