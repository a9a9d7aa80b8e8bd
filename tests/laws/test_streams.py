"""Who gets a connection or a datagram, by the words of the Gateway API, against what Envoy would do with its listener.

The reading is plain: the most specific listener of the port that covers the server name, then the route with the most
specific hostname there, its own hostname, its age, its name. Nothing in it is taken from the product but which
listeners stand (conflicts have laws of their own) and which have a certificate.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from tests.laws import worlds
from tests.laws.worlds import World, settled

from tripylon.api.gateway import Gateway
from tripylon.envoy.emit import LISTENER_RESOURCES
from tripylon.envoy.listeners import ListenerKey
from tripylon.envoy.plain import plain
from tripylon.graph import Graph
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.plan import Listener
from tripylon.model.stream_plans import STREAMS, StreamKey
from tripylon.model.tls import GATEWAY_TLS
from tripylon.values import Name

PIPES = Name("a", "pipes")
ASKED = (
    *("www.example.com", "shop.example.com", "cart.shop.example.com", "a.b.shop.example.com", "deep.www.example.com"),
    *("example.com", "other.org", "sub.other.org", ""),
)
ROUTES = worlds.few(worlds.STREAM_ROUTES, 1, 6, key=lambda each: each.ref)


@given(
    worlds.few(worlds.STREAM_ROUTES, 1, 6, key=lambda each: each.ref), worlds.PIPES, worlds.few(worlds.SECRETS, 0, 2)
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_connection_and_datagram_goes_to_the_route_that_the_specification_names(
    routes: list[Any], pipes: Gateway, secrets: list[Any]
) -> None:
    world = worlds.by_ref([*worlds.base(), *secrets, pipes, *routes])
    graph = settled(world.values())
    plan = graph.get(GATEWAY_PLANS, PIPES)
    assert plan is not None
    standing = [each for each in plan.listeners if each.usable]
    for listener in standing:
        if listener.protocol in ("TCP", "UDP"):
            key = StreamKey(PIPES, listener.port, listener.protocol, listener.id, "")  # type: ignore[arg-type]
            found = graph.get(STREAMS, key)
            assert (found.route if found else None) == first(world, listener, f"{listener.protocol}Route", "")
    secure = [each for each in standing if each.protocol in ("TLS", "HTTPS")]
    for name in ASKED if secure else ():
        assert served(graph, secure[0].port, name) == expected(graph, world, secure, name), name


def expected(graph: Graph, world: World, listeners: list[Listener], name: str) -> str:
    """The chain that a server name should meet: of a route, of an HTTPS listener, or one that closes."""
    tls = graph.get(GATEWAY_TLS, PIPES)
    certified = {each.listener for each in tls.listeners} if tls else set()
    covering = [each for each in listeners if covers(each.hostname, name)]
    if not covering or all(each.terminates and each.id not in certified for each in listeners):
        return "closed"
    rightful = max(covering, key=lambda each: rank(each.hostname))
    if rightful.protocol == "HTTPS" and rightful.id in certified:
        return f"https {rightful.id}"
    if rightful.terminates and rightful.id not in certified:
        return "closed"
    found = first(world, rightful, "TLSRoute", name)
    return str(found) if found else "closed"


def first(world: World, listener: Listener, kind: str, name: str) -> Any:
    """The route that has a listener, or a server name at it."""
    best: tuple[Any, ...] | None = None
    for route in world.values():
        if route.ref.kind != kind or not any(names_listener(each, route, listener) for each in parents(route)):
            continue
        for own in getattr(route.spec, "hostnames", ("",)):  # type: ignore[attr-defined]
            narrow = own if covers(listener.hostname, own) else listener.hostname
            if not (covers(listener.hostname, own) or covers(own, listener.hostname)) or not covers(narrow, name):
                continue
            created = route.metadata.creation_timestamp
            age = (not created, created, route.metadata.namespace, route.metadata.name)
            place = (tuple(-each for each in rank(narrow)), tuple(-each for each in rank(own)), age)
            if best is None or place < best[0]:
                best = (place, route.ref)
    return best[1] if best else None


def parents(route: Any) -> Any:
    return route.spec.parent_refs


def names_listener(parent: Any, route: Any, listener: Listener) -> bool:
    return (
        (parent.namespace or route.metadata.namespace, parent.name) == PIPES
        and parent.section_name in ("", listener.name)
        and parent.port in (None, listener.port)
    )


def covers(pattern: str, name: str) -> bool:
    """Whether a hostname stands for another one, or for a wildcard below it; the empty one stands for all."""
    return not pattern or pattern == name or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def rank(hostname: str) -> tuple[int, int]:
    return (0 if not hostname else 1 if hostname.startswith("*.") else 2, len(hostname))


def served(graph: Graph, port: int, name: str) -> str:
    """What Envoy does: the chain of the very server name, else of the longest wildcard, else the one without names."""
    resource = graph.get(LISTENER_RESOURCES, ListenerKey(PIPES, port, "0.0.0.0"))
    chains = plain(resource)["filter_chains"] if resource is not None else []
    matching = [(chain, server) for chain in chains for server in chain_names(chain) if covers(server, name)]
    if not matching:
        return "closed"
    chain, _ = max(matching, key=lambda pair: rank(pair[1]))
    if chain["filters"][-1]["name"].endswith("http_connection_manager"):
        return f"https {chain['name']}"
    listener, hostname = chain["name"].split("/", 4)[4].rsplit("/", 1)
    stream = graph.get(STREAMS, StreamKey(PIPES, port, "TLS", listener, "" if hostname == "*" else hostname))
    plan = graph.get(GATEWAY_PLANS, PIPES)
    assert plan is not None
    ends = any(each.id == listener and each.terminates for each in plan.listeners)
    if stream is None or (ends and "transport_socket" not in chain):
        assert chain["filters"][0]["typed_config"]["cluster"] == "no-cluster"
        return "closed"
    return str(stream.route)


def chain_names(chain: Any) -> list[str]:
    names: list[str] = chain.get("filter_chain_match", {}).get("server_names", [""])
    return names
