"""Which rule answers a request, straight from the specification's words, with no thought of speed or of Envoy.

Written from the objects as users wrote them (Gateway API: Listener isolation, ParentReference, HTTPRouteRule.matches,
GRPCRouteRule.matches), and from nothing of `model/`, which it is held against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tripylon.api.core import Namespace
from tripylon.api.gateway import Gateway, Listener
from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.values import Ref

Rank = tuple[Any, ...]
Winner = tuple[Ref, int]
"""A route and the index of its rule."""


class Request(NamedTuple):
    """One request as it reaches a listener; a gRPC call has the path `/service/method`."""

    host: str
    path: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    grpc: bool = False


MISDIRECTED: Winner = (Ref("", "421", "", ""), 0)
"""What answers a request that another HTTPS listener of the port should have got."""


def answer(
    objects: Iterable[Any], gateway: Gateway, listeners: list[Listener], rivals: list[Listener], request: Request
) -> Winner | None:
    """The rule that answers a request at one of `listeners`, which share a socket; None: 404.

    `rivals` are the other HTTPS listeners of the port, if the socket is one of HTTPS.
    """
    objects = list(objects)
    covering = [listener for listener in (*listeners, *rivals) if covers(listener.hostname, request.host)]
    if not covering:
        return None
    listener = max(covering, key=lambda each: specificity(each.hostname))
    if listener in rivals:
        return MISDIRECTED
    found: list[tuple[Rank, Winner]] = []
    for route in objects:
        if isinstance(route, HTTPRoute | GRPCRoute) and attached(objects, route, gateway, listener):
            found.extend(matching(route, request))
    return min(found)[1] if found else None


def covers(pattern: str, host: str) -> bool:
    """Whether a hostname, perhaps with a wildcard of one or more labels, covers a precise one."""
    if pattern == "":
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and host != pattern[1:]
    return host == pattern


def specificity(hostname: str) -> tuple[int, int]:
    """Exact before wildcard before none; among equals the longer one."""
    kind = 0 if hostname == "" else 1 if hostname.startswith("*.") else 2
    return kind, len(hostname)


def attached(objects: list[Any], route: Any, gateway: Gateway, listener: Listener) -> bool:
    """Whether some parentRef of the route means the listener, and the listener lets the route in."""
    return allowed(objects, route, gateway, listener) and any(
        parent.kind == "Gateway"
        and (parent.namespace or route.metadata.namespace, parent.name) == tuple(gateway.key)
        and parent.section_name in ("", listener.name)
        and parent.port in (None, listener.port)
        for parent in route.spec.parent_refs
    )


def allowed(objects: list[Any], route: Any, gateway: Gateway, listener: Listener) -> bool:
    """`allowedRoutes`: kinds and namespaces."""
    kinds, spaces = listener.allowed_routes.kinds, listener.allowed_routes.namespaces
    if kinds and type(route).__name__ not in [kind.kind for kind in kinds]:
        return False
    space = route.metadata.namespace
    if spaces.from_ != "Selector":
        return spaces.from_ == "All" or space == gateway.metadata.namespace
    assert spaces.selector is not None
    labels = {
        label
        for each in objects
        if isinstance(each, Namespace) and each.metadata.name == space
        for label in each.metadata.labels.items()
    }
    return all(label in labels for label in spaces.selector.match_labels.items()) and all(
        expression.operator == "NotIn" and (expression.key, value) not in labels
        for expression in spaces.selector.match_expressions
        for value in expression.values
    )


def matching(route: Any, request: Request) -> Iterator[tuple[Rank, Winner]]:
    """The rules of a route that take a request, each with its place in the order of precedence, least first."""
    own = [name for name in route.spec.hostnames or ("",) if covers(name, request.host)]
    if not own:
        return
    kind, length = specificity(max(own, key=specificity))
    made = route.metadata.creation_timestamp
    age = (made == "", made, route.metadata.namespace, route.metadata.name, type(route).__name__)
    for index, rule in enumerate(route.spec.rules):
        ranks = grpc_ranks(rule, request) if isinstance(route, GRPCRoute) else http_ranks(rule, request)
        for rank in ranks:
            yield ((-kind, -length), tuple(-each for each in rank), age, index), (route.ref, index)


def http_ranks(rule: Any, request: Request) -> Iterator[tuple[int, ...]]:
    """For each match that holds: exact path, longest prefix, method, number of headers, number of parameters.

    Regular expressions come between exact paths and prefixes, the longer expression first: ours to choose.
    """
    for match in rule.matches:
        kind = {"Exact": 2, "RegularExpression": 1, "PathPrefix": 0}[match.path.type]
        path = match.path.value if kind else match.path.value.rstrip("/")
        holds = (
            request.path == path,
            re.fullmatch(path, request.path) is not None if kind == 1 else False,
            request.path == path or request.path.startswith(path + "/"),
        )[2 - kind]
        if (
            holds
            and match.method in ("", request.method)
            and fields(match.headers, request.headers, lower=True)
            and fields(match.query_params, request.query, lower=False)
        ):
            yield kind, len(path), bool(match.method), len(match.headers), len(match.query_params)


def grpc_ranks(rule: Any, request: Request) -> Iterator[tuple[int, ...]]:
    """For each match that holds: characters of the service, of the method, number of headers."""
    if not request.grpc:
        return
    service, method = request.path.removeprefix("/").split("/")
    if not rule.matches:
        yield 0, 0, 0
    for match in rule.matches:
        wanted = match.method
        holds = wanted is None or (word(wanted, wanted.service, service) and word(wanted, wanted.method, method))
        if holds and fields(match.headers, request.headers, lower=True):
            yield (
                len((wanted and wanted.service) or ""),
                len((wanted and wanted.method) or ""),
                len(match.headers),
            )


def word(match: Any, wanted: str | None, given: str) -> bool:
    """Whether a service or method is the one that is wanted."""
    if not wanted:
        return True
    return re.fullmatch(wanted, given) is not None if match.type == "RegularExpression" else wanted == given


def fields(matches: Iterable[Any], given: tuple[tuple[str, str], ...], *, lower: bool) -> bool:
    """Whether every condition on headers (names in any case) or parameters holds."""
    values = {name.lower() if lower else name: value for name, value in given}
    return all(
        (value := values.get(each.name.lower() if lower else each.name)) is not None
        and (re.fullmatch(each.value, value) is not None if each.type == "RegularExpression" else each.value == value)
        for each in matches
    )
