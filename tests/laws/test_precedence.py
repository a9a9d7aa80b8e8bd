"""Laws of precedence: the order is total, and the first match of a host is the rule that the specification names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws import reference, worlds
from tests.laws.reference import Request, Winner
from tests.laws.worlds import GRPC_MATCHES, HOSTNAMES, PATH_MATCHES, World, http_matches, one, routes, settled

from tripylon.api.gateway import Gateway, Listener
from tripylon.graph import Graph
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.order import entry_order
from tripylon.model.plan import HostKey, HostPlan, RouteEntry, RouteTable, Value
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.values import Name

HTTP_REQUESTS = st.builds(
    Request,
    one("www.example.com", "shop.example.com", "cart.shop.example.com", "other.org", "x.com", "deep.x.example.com"),
    one("/", "/a", "/a/", "/a/b", "/ab", "/ab/b", "/a/b/c", "/a/bc", "/z"),
    one("GET", "POST"),
    st.lists(st.tuples(one("x-one", "X-Two"), one("1", "2", "3")), max_size=2, unique_by=lambda each: each[0]).map(
        tuple
    ),
    st.lists(st.tuples(one("q", "Q"), one("1", "2")), max_size=2, unique_by=lambda each: each[0]).map(tuple),
)
GRPC_REQUESTS = st.builds(
    Request,
    one("www.example.com", "shop.example.com", "cart.shop.example.com", "other.org"),
    one("/shop.Cart/Add", "/shop.Cart/Drop", "/shop.CartBig/Add", "/other.Service/Add", "/other.Service/Get"),
    st.just("POST"),
    HTTP_REQUESTS.map(lambda request: request.headers),
    st.just(()),
    st.just(True),
)
_TARGET = st.just([{"name": "web", "port": 80}])
_HTTP = routes(
    "HTTPRoute",
    st.fixed_dictionaries({"matches": worlds.few(http_matches(PATH_MATCHES), 1, 3), "backendRefs": _TARGET}),
)
_GRPC = routes("GRPCRoute", st.fixed_dictionaries({"matches": worlds.few(GRPC_MATCHES, 0, 3), "backendRefs": _TARGET}))
_OTHERS = st.one_of(worlds.GATEWAYS, worlds.NAMESPACES)


@given(worlds.worlds(_HTTP, _OTHERS), st.lists(HTTP_REQUESTS, min_size=4, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_http_requests_reach_the_rule_that_the_specification_names(world: World, requests: list[Request]) -> None:
    hold(world, requests)


@given(worlds.worlds(_GRPC, _OTHERS), st.lists(GRPC_REQUESTS, min_size=3, max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_grpc_calls_reach_the_rule_that_the_specification_names(world: World, requests: list[Request]) -> None:
    # How an HTTPRoute and a GRPCRoute of one hostname rank is ours to choose, so only one kind is held here.
    hold({ref: each for ref, each in world.items() if ref.kind != "HTTPRoute"}, requests)


def hold(world: World, requests: list[Request]) -> None:
    """Compares the plan with the reference for every socket of every gateway."""
    graph = settled(world.values())
    for gateway, table, names in sockets(graph, world):
        listeners = [listener for listener in gateway.spec.listeners if listener.name in names]
        if not table.secure:
            hold_socket(graph, world, gateway, table, listeners, [], "", requests)
            continue
        for taker in listeners:
            rivals = [listener for listener in listeners if listener is not taker]
            hold_socket(graph, world, gateway, table, [taker], rivals, taker.name, requests)


def hold_socket(
    graph: Graph,
    world: World,
    gateway: Gateway,
    table: RouteTable,
    listeners: list[Listener],
    rivals: list[Listener],
    taker: str,
    requests: list[Request],
) -> None:
    """Compares the plan with the reference for connections that reach these listeners, and not their rivals."""
    for request in requests:
        expected = reference.answer(world.values(), gateway, listeners, rivals, request)
        assert served(graph, table, taker, request) == expected, (table, taker, request)


def sockets(graph: Graph, world: World) -> Iterator[tuple[Gateway, RouteTable, set[str]]]:
    """Each routing table with the listeners that are served by it; which are refused is not for precedence to say."""
    for name, plan in graph.rows(GATEWAY_PLANS).items():
        tables: dict[RouteTable, set[str]] = {}
        for listener in plan.listeners:
            if listener.usable and listener.http:
                tables.setdefault(listener.table(name), set()).add(listener.name)
        for each in world.values():
            if isinstance(each, Gateway) and each.key == name:
                for table, names in tables.items():
                    yield each, table, names


def served(graph: Graph, table: RouteTable, taker: str, request: Request) -> Winner | None:
    """What a proxy does with a plan: the host as Envoy finds it, then its first entry that matches.

    `taker` is the HTTPS listener that took the connection.
    """
    plan = find_host(graph, table, request.host)
    if plan is None:
        return None
    if plan.rightful not in ("", taker):
        return reference.MISDIRECTED
    return next(((each.route, each.rule.index) for each in plan.entries if matches(each, request)), None)


def find_host(graph: Graph, table: RouteTable, host: str) -> HostPlan | None:
    """The exact name, else the longest wildcard that covers it, else the catch-all."""
    labels = host.split(".")
    candidates = [host, *(".".join(["*", *labels[count:]]) for count in range(1, len(labels))), ""]
    plans = (graph.get(HOSTS, HostKey(table, candidate)) for candidate in candidates)
    return next((plan for plan in plans if plan is not None), None)


def matches(entry: RouteEntry, request: Request) -> bool:
    """Whether a plan's match takes a request."""
    wanted = entry.match
    match wanted.path_kind:
        case "Exact":
            holds = request.path == wanted.path
        case "PathPrefix":
            holds = request.path == wanted.path or request.path.startswith(wanted.path + "/")
        case "RegularExpression":
            holds = re.fullmatch(wanted.path, request.path) is not None
    return (
        holds
        and (request.grpc or not entry.grpc)
        and wanted.method in ("", request.method)
        and all(value(each, {name.lower(): text for name, text in request.headers}) for each in wanted.headers)
        and all(value(each, dict(request.query)) for each in wanted.query)
    )


def value(wanted: Value, given: dict[str, str]) -> bool:
    """Whether a condition on a named value holds."""
    text = given.get(wanted.name)
    return text is not None and (re.fullmatch(wanted.value, text) is not None if wanted.regex else text == wanted.value)


@given(worlds.worlds(), st.lists(one(*HOSTNAMES), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_two_entries_are_equal_in_order(world: World, own: list[str]) -> None:
    graph = settled(world.values())
    for name in own:
        orders = [
            entry_order(name, route, RouteEntry(route.ref, route.grpc, rule, match), position)
            for route in graph.rows(ROUTE_PLANS).values()
            for rule in route.rules
            for position, match in enumerate(rule.matches)
        ]
        ordered = sorted(orders)
        assert all(one < other for one, other in itertools.pairwise(ordered))


def test_the_reference_is_not_blind() -> None:
    """One world by hand, so that plan and reference cannot agree on nothing at all."""
    world = worlds.by_ref(
        [
            *worlds.base(),
            *(
                worlds.make(
                    "HTTPRoute",
                    "a",
                    name,
                    spec={
                        "parentRefs": [{"name": "edge"}],
                        "hostnames": [host],
                        "rules": [{"matches": [{"path": {"value": path}}]}],
                    },
                )
                for name, host, path in (("wide", "*.example.com", "/a/b"), ("narrow", "www.example.com", "/a"))
            ),
        ]
    )
    graph = settled(world.values())
    table = RouteTable(Name("a", "edge"), 8080, secure=False)
    found = [served(graph, table, "", Request("www.example.com", path)) for path in ("/a/b", "/a", "/z")]
    assert [winner and winner[0].name for winner in found] == ["narrow", "narrow", "r0"]
    other = served(graph, table, "", Request("shop.example.com", "/a/b/c"))
    assert other is not None
    assert other[0].name == "wide"
    hold(world, [Request("www.example.com", "/a/b"), Request("shop.example.com", "/a/b/c"), Request("x.org", "/a")])
