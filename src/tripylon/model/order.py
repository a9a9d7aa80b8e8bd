"""Who comes first: precedence between matches, rules and routes.

HTTPRoute and GRPCRoute state their own orders; both are brought to one sort key, so that they can share a host. The
invariant, property-tested in `tests/laws`: it is a total order that does not depend on the order of insertion.
"""

from __future__ import annotations

from tripylon.model.plan import Match, RouteEntry, RoutePlan, Value
from tripylon.values import hostname_specificity

# Only overlapping matches need an order, so one number per kind of path suffices for both kinds of route. A regular
# expression stands between exact and prefix, where the specification leaves its place to the implementation.
_EXACT, _REGEX, _PREFIX, _ANY_SERVICE = 3, 2, 1, 0

LAST = (0, 0, 0, 0, 0)
"""The rank of what comes behind every match of the same hostname."""


def http_rank(match: Match) -> tuple[int, ...]:
    """HTTPRouteRule: exact path, longest prefix, method, number of headers, number of query parameters."""
    kinds = {"Exact": _EXACT, "RegularExpression": _REGEX, "PathPrefix": _PREFIX}
    return (
        kinds[match.path_kind],
        len(match.path),
        1 if match.method else 0,
        len(match.headers),
        len(match.query),
    )


def ingress_rank(match: Match) -> tuple[int, ...]:
    """Ingress: longest path, exact before prefix; behind an HTTPRoute's equal match, so that paths can be moved."""
    kind, length, *_ = http_rank(match)
    return (kind, length, 0, 0, -1)


def grpc_rank(service: str, method: str, *, regex: bool, headers: tuple[Value, ...]) -> tuple[int, ...]:
    """GRPCRouteRule: characters of the service, then of the method, then number of headers."""
    if service and method:
        kind = _REGEX if regex else _EXACT
    else:
        kind = _PREFIX if service else _ANY_SERVICE
    return (kind, len(service), len(method), len(headers), 0)


def entry_order(own_hostname: str, route: RoutePlan, entry: RouteEntry, position: int) -> tuple[object, ...]:
    """Sort key of one entry within a host, least first.

    The route's own hostname decides (Gateway API 1.7), then the match, then age, name and place in the route.
    """
    ref = route.ref
    kind, length = hostname_specificity(own_hostname)
    rank = [-part for part in entry.match.rank]
    return (
        *(-kind, -length),
        *rank,
        *(not route.created, route.created),
        *(ref.namespace, ref.name, ref.kind),
        *(entry.rule.index, position),
    )
