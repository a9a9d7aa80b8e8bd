"""A host with many rules: a change serialises what is new of it, and comes out as if all had been built anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.laws import worlds
from tests.laws.worlds import make, new_graph

from tripylon.api.meta import Resource
from tripylon.envoy import emit, routes
from tripylon.graph import Graph
from tripylon.world import world as tables

ROUTES, RULES = 20, 16
HOST = "many.example.net"


def route(number: int, path: str = "/", *, rules: int = RULES, hostname: str = HOST) -> Resource:
    return make(
        "HTTPRoute",
        "a",
        f"r{number}",
        spec={
            "parentRefs": [{"name": "edge", "sectionName": "one"}],
            "hostnames": [hostname],
            "rules": [
                {
                    "matches": [{"path": {"value": f"{path}r{number}/p{rule}"}}],
                    "backendRefs": [{"name": "web", "port": 80}],
                }
                for rule in range(rules)
            ],
        },
    )


def world() -> dict[Any, Resource]:
    service = make("Service", "a", "web", spec={"ports": [{"port": 80}]})
    return {each.ref: each for each in (worlds.EDGE, service, *(route(number) for number in range(ROUTES)))}


def settled(objects: dict[Any, Resource]) -> Graph:
    graph = new_graph()
    for each in objects.values():
        tables.put(graph, each)
    graph.flush()
    return graph


def host(graph: Graph) -> bytes:
    (body,) = [each.body for each in graph.rows(emit.HOST_RESOURCES).values() if HOST in each.name]
    return body


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the routes that were made."""
    names: list[str] = []
    whole = routes._route

    def counted(*given: Any) -> Any:
        built = whole(*given)
        names.append(built.name)
        return built

    monkeypatch.setattr(routes, "_route", counted)
    yield names


CHANGES = {
    "a changed route": route(7, "/new/"),
    "a route with fewer rules": route(7, rules=3),
    "a new route": route(ROUTES),
    "a route that is for all hosts of the domain now": route(7, hostname="*.example.net"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_serialises_the_rules_of_its_route_only(made: list[str], name: str) -> None:
    objects, changed = world(), CHANGES[name]
    graph = settled(objects)
    made.clear()
    tables.put(graph, changed)
    graph.flush()
    assert set(made) <= {f"HTTPRoute/a/{changed.ref.name}/{rule}" for rule in range(RULES)}
    assert len(made) <= 2 * RULES, "once for each of its hosts"
    assert host(graph) == host(settled({**objects, changed.ref: changed}))


def test_a_change_of_the_backend_reaches_every_rule() -> None:
    objects = world()
    graph = settled(objects)
    before = host(graph)
    tables.delete(graph, next(ref for ref in objects if ref.kind == "Service"))
    graph.flush()
    assert host(graph) != before
    tables.put(graph, next(each for ref, each in objects.items() if ref.kind == "Service"))
    graph.flush()
    assert host(graph) == before


def test_a_host_that_goes_and_comes_again_is_made_anew(made: list[str]) -> None:
    objects = world()
    graph = settled(objects)
    before = host(graph)
    for ref in objects:
        if ref.kind == "HTTPRoute":
            tables.delete(graph, ref)
    graph.flush()
    made.clear()
    for ref, each in objects.items():
        if ref.kind == "HTTPRoute":
            tables.put(graph, each)
    graph.flush()
    assert len(made) == ROUTES * RULES
    assert host(graph) == before
