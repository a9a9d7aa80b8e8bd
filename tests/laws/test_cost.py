"""Law of cost: what one change recomputes does not grow with how much else there is. Counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.laws import worlds
from tests.laws.worlds import make, new_graph

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


def counted(count: int) -> tuple[Graph, Counter[str]]:
    """A settled graph, and the builds by table since then."""
    graph, builds = new_graph(), Counter[str]()
    for node in graph._order:
        assert node.derive is not None
        node.derive.build = _counting(node.derive.build, node.table.name, builds)
    for each in objects(count):
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
    return counted(FEW), counted(MANY)


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
