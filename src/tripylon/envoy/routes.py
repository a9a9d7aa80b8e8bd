"""Hosts → VirtualHost and RouteConfiguration: how a rule of a route becomes an Envoy route.

One Envoy route for each match, in the order of the host plan. The invariant: a rule or a share of a rule that cannot be
served keeps its place and answers 500 (503 to gRPC, which clients see as UNAVAILABLE), so nothing falls through to a
rule that was not meant for it. Filters on a path or on headers are in `rewrites.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tripylon.envoy import cors, external_auth, names, route_trees, scopes, sessions, taken_by
from tripylon.envoy.rewrites import change_headers, prevail, redirect, rewrite_path
from tripylon.envoy.source import ads, duration
from tripylon.graph import Read
from tripylon.model.plan import (
    NO_FILTERS,
    Cors,
    Destination,
    Filters,
    HostKey,
    HostPlan,
    Match,
    Mirror,
    Rewrite,
    RouteEntry,
    RouteTable,
    RulePlan,
    Value,
)
from tripylon.pb import pack
from tripylon.pb.messages import (
    FractionalPercent,
    HeaderMatcher,
    PreviousHostsPredicate,
    QueryParameterMatcher,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)

_MILLION = 1_000_000
_RETRY_HOST_ATTEMPTS = 5
_MAX_RETRIES = 2**32 - 1
"""What Envoy can count; the Gateway API sets no bound."""


class _Share(NamedTuple):
    """The requests of a match that one Envoy route serves: those with a random number of `above` up to `below`.

    Envoy draws one number for each request, here in millionths, and compares all fractions with it.
    """

    only: Destination | None
    """The one backend that the share is for; None: all of them."""
    above: int
    below: int


_ALL = _Share(None, 0, _MILLION)


def route_configuration(table: RouteTable) -> RouteConfiguration:
    """The empty frame of a routing table; its hosts come one by one (VHDS), so that a change sends one host only."""
    built = RouteConfiguration(name=names.route_table(table), ignore_port_in_host_matching=True)
    built.request_headers_to_remove.append(scopes.HEADER)
    built.vhds.config_source.CopyFrom(ads())
    return built


def virtual_host(plan: HostPlan, *, scoped: bool = False, read: Read | None = None) -> VirtualHost:
    """Everything that one hostname answers. Envoy removes it by this name, so it must be the resource's own.

    `scoped`: as the one host of a scope of its own. `read` keeps the routes of hosts that have many.
    """
    built = VirtualHost(name=names.virtual_host(plan.key), domains=["*" if scoped else plan.key.hostname or "*"])
    if plan.auth is not None and not plan.auth.closed:
        external_auth.enable_before_routes(built, plan.auth.services)
    entries = () if plan.auth is not None and plan.auth.closed else plan.entries
    last = _last(plan, scoped=scoped)
    if read is not None and len(entries) > route_trees.MANY:
        kept = [part for entry in entries for part in read.kept(_parts, entry, plan.key, plan.rightful)]
        route_trees.fill(built, (*kept, *map(route_trees.part, last)))
    else:
        built.routes.extend(route for entry in entries for route in _served(entry, plan.key, plan.rightful))
        built.routes.extend(last)
        route_trees.plant(built)
    return built


def _parts(entry: RouteEntry, host: HostKey, rightful: str) -> tuple[route_trees.Part, ...]:
    return tuple(map(route_trees.part, _served(entry, host, rightful)))


def _served(entry: RouteEntry, host: HostKey, rightful: str) -> Iterator[Route]:
    """What a match answers to those who may ask for the host."""
    for route in _routes(entry, host):
        yield _demanded(route, rightful)


def _demanded(route: Route, rightful: str) -> Route:
    if rightful:
        taken_by.demand(route, rightful)
    return route


def _last(plan: HostPlan, *, scoped: bool) -> Iterator[Route]:
    """What a host answers behind all of its matches, or in their place."""
    if plan.auth is not None and plan.auth.closed:
        yield _demanded(_answer("closed", 500), plan.rightful)
    elif plan.auth is not None or plan.rightful:
        yield _demanded(_answer("none", 404), plan.rightful)
    if plan.rightful:
        yield _unasked(_answer("misdirected", 421), plan)
    if scoped:
        yield _unasked(scopes.otherwise(), plan)


def _unasked(route: Route, plan: HostPlan) -> Route:
    return route if plan.auth is None else external_auth.unasked(route)


def _answer(name: str, status: int) -> Route:
    """Answers everything: 421 has clients connect anew by the right name (RFC 9110, 15.5.20).

    404 is what no route would mean, too, but requests without a route pass no filter, and may not be answered by 421.
    """
    route = Route(name=name)
    route.match.prefix = "/"
    route.direct_response.status = status
    return route


def _routes(entry: RouteEntry, host: HostKey) -> Iterator[Route]:
    """The Envoy routes of one match: one, or one for each backend when backends have filters of their own."""
    rule = entry.rule
    split = not rule.broken and rule.filters.redirect is None and _needs_split(rule.destinations)
    shares = tuple(_shares(rule.destinations)) if split else (_ALL,)
    built = [_route(entry, host, share) for share in shares]
    if split and rule.filters.cors is not None:
        yield from _preflights_of_split(built, entry.match, rule.filters.cors)
    for share, route in zip(shares, built, strict=True):
        own = share.only.filters.cors if share.only is not None else None
        policy = own or rule.filters.cors
        if policy is not None and route.HasField("route"):
            cors.enable(route, policy)
            if own or not split:
                yield from _preflights(route, entry.match, policy)
        yield route


def _route(entry: RouteEntry, host: HostKey, share: _Share) -> Route:
    route = Route(name=_name(entry))
    _match(route.match, entry.match, grpc=entry.grpc)
    if share.below < _MILLION:
        route.match.runtime_fraction.default_value.CopyFrom(_fraction(share.below))
    _act(route, entry, host, share)
    return route


def _name(entry: RouteEntry) -> str:
    """Names the route's object and rule in access logs."""
    return f"{entry.route.kind}/{entry.route.namespace}/{entry.route.name}/{entry.rule.name or entry.rule.index}"


def _preflights_of_split(routes: list[Route], match: Match, policy: Cors) -> Iterator[Route]:
    """Preflights of all shares at once: a backend that cannot be reached fails its share of requests, not of these."""
    route = next((each for each in routes if each.HasField("route")), None)
    if route is not None:
        asking = Route()
        asking.CopyFrom(route)
        asking.match.ClearField("runtime_fraction")
        cors.enable(asking, policy)
        yield from _preflights(asking, match, policy, itself=False)


def _preflights(route: Route, match: Match, policy: Cors, *, itself: bool = True) -> Iterator[Route]:
    """The OPTIONS requests by which browsers ask whether they may use a rule.

    Those of other origins are refused with 403, as Envoy's filter would answer 200 with all headers but the origin. A
    rule for one method takes the others, too; a rule for all methods does so by itself, if its route is `itself` there.
    """
    asking = Route()
    asking.CopyFrom(route)
    headers = [header for header in asking.match.headers if header.name != ":method"]
    del asking.match.headers[:]
    asking.match.headers.extend([*headers, _header(Value(":method", "OPTIONS"))])
    asked = asking.match.headers.add()
    asked.name = "access-control-request-method"
    if match.method in ("", "OPTIONS"):
        asked.present_match = True
    else:
        asked.string_match.exact = match.method
    if "*" not in policy.origins:
        refused = Route(name=route.name)
        refused.match.CopyFrom(asking.match)
        refused.match.headers.extend(cors.foreign_origin(policy))
        refused.direct_response.status = 403
        yield refused
    if not itself or match.method not in ("", "OPTIONS"):
        yield asking


# --- Matches ---


def _match(place: RouteMatch, match: Match, *, grpc: bool) -> None:
    if match.path_kind == "Exact":
        place.path = match.path
    elif match.path_kind == "RegularExpression":
        place.safe_regex.regex = match.path
    elif match.path:
        place.path_separated_prefix = match.path
    else:
        place.prefix = "/"
    if grpc:
        place.grpc.SetInParent()
    if match.method:
        place.headers.append(_header(Value(":method", match.method)))
    for header in match.headers:
        place.headers.append(_header(header))
    for parameter in match.query:
        built = QueryParameterMatcher(name=parameter.name)
        if parameter.regex:
            built.string_match.safe_regex.regex = parameter.value
        else:
            built.string_match.exact = parameter.value
        place.query_parameters.append(built)


def _header(value: Value) -> HeaderMatcher:
    built = HeaderMatcher(name=value.name)
    if value.regex:
        built.string_match.safe_regex.regex = value.value
    else:
        built.string_match.exact = value.value
    return built


def _fraction(millionths: int) -> FractionalPercent:
    return FractionalPercent(numerator=millionths, denominator=FractionalPercent.MILLION)


# --- Actions ---


def _needs_split(destinations: tuple[Destination, ...]) -> bool:
    """Whether some backend is closed, or has filters that Envoy knows for whole routes only: all but header changes."""
    return any(
        each.broken
        or each.filters.closed
        or each.filters.rewrite
        or each.filters.redirect
        or each.filters.mirrors
        or each.filters.cors
        or each.filters.auth
        for each in destinations
    )


def _shares(destinations: tuple[Destination, ...]) -> Iterator[_Share]:
    """Each backend with its share of the random numbers."""
    total, passed = sum(each.weight for each in destinations), 0
    for each in destinations:
        above, passed = passed, passed + each.weight
        yield _Share(each, above * _MILLION // total, passed * _MILLION // total)


def _act(route: Route, entry: RouteEntry, host: HostKey, share: _Share) -> None:
    """What happens to a matched request of a share."""
    rule, only = entry.rule, share.only
    own = NO_FILTERS if only is None else only.filters
    told = rule.filters.redirect or own.redirect
    if services := (*rule.filters.auth, *own.auth):
        external_auth.enable(route, services)
    if rule.broken or rule.filters.closed or own.closed or (only is not None and only.broken):
        _fail(route, entry)
    elif told is not None:
        change_headers(route, None, prevail(own.response_headers, rule.filters.response_headers))
        route.redirect.CopyFrom(redirect(told, entry.match, host))
    elif not any(each.cluster for each in ((only,) if only is not None else rule.destinations)):
        _fail(route, entry)
    else:
        _forward(route, entry, share)


def _fail(route: Route, entry: RouteEntry) -> None:
    change_headers(route, None, entry.rule.filters.response_headers)
    route.direct_response.status = 503 if entry.grpc else 500


def _forward(route: Route, entry: RouteEntry, share: _Share) -> None:
    rule, action = entry.rule, route.route
    destinations = rule.destinations if share.only is None else (share.only,)
    action.cluster_not_found_response_code = (
        RouteAction.SERVICE_UNAVAILABLE if entry.grpc else RouteAction.INTERNAL_SERVER_ERROR
    )
    for each in destinations:
        _add_weighted(action.weighted_clusters.clusters.add(), each)
    if any(each.filters.request_headers or each.filters.response_headers for each in destinations):
        for place, each in zip(action.weighted_clusters.clusters, destinations, strict=True):
            _change_headers_of_share(place, rule.filters, each.filters)
    else:
        change_headers(route, rule.filters.request_headers, rule.filters.response_headers)
        if len(destinations) == 1 and destinations[0].cluster is not None and destinations[0].session is None:
            action.cluster = names.cluster(destinations[0].cluster)
    own = NO_FILTERS if share.only is None else share.only.filters
    _rewrite(action, rule.filters.rewrite or Rewrite(), own.rewrite or Rewrite(), entry.match)
    for mirror in (*rule.filters.mirrors, *own.mirrors):
        _mirror(action.request_mirror_policies.add(), mirror, share)
    _limits(action, rule)


def _add_weighted(place: WeightedCluster.ClusterWeight, destination: Destination) -> None:
    place.name = names.cluster(destination.cluster) if destination.cluster is not None else names.NO_CLUSTER
    place.weight.value = destination.weight
    if destination.session is not None:
        sessions.enable(place, destination.session)


def _change_headers_of_share(place: WeightedCluster.ClusterWeight, rule: Filters, own: Filters) -> None:
    """The changes of a rule and of its backend as one, for Envoy would make those of the backend first."""
    change_headers(
        place,
        prevail(own.request_headers, rule.request_headers),
        prevail(own.response_headers, rule.response_headers),
    )


def _rewrite(action: RouteAction, wide: Rewrite, narrow: Rewrite, match: Match) -> None:
    """What a rule and its backend rewrite; of two hosts or two paths the backend's prevails."""
    if hostname := narrow.hostname or wide.hostname:
        action.host_rewrite_literal = hostname
    rewrite_path(action, narrow.path or wide.path, match)


def _mirror(place: RouteAction.RequestMirrorPolicy, mirror: Mirror, share: _Share) -> None:
    """Copies a part of a share. The number that Envoy compares with is the one by which it chose the share."""
    place.cluster = names.cluster(mirror.cluster)
    place.disable_shadow_host_suffix_append = True
    part = round((share.below - share.above) * mirror.numerator / mirror.denominator)
    place.runtime_fraction.default_value.CopyFrom(_fraction(share.above + part if part else 0))


def _limits(action: RouteAction, rule: RulePlan) -> None:
    """Timeouts and retries. Envoy's own default of 15 s for a whole request is never wanted here."""
    per_try = rule.backend_timeout_ms or 0
    whole = rule.request_timeout_ms or 0
    if per_try and rule.retry is None:
        whole, per_try = min(whole, per_try) if whole else per_try, 0
    action.timeout.CopyFrom(duration(whole))
    if rule.retry is None:
        return
    policy = RetryPolicy(host_selection_retry_max_attempts=_RETRY_HOST_ATTEMPTS)
    policy.retry_on = "connect-failure,refused-stream"
    if rule.retry.codes:
        policy.retry_on += ",retriable-status-codes"
        policy.retriable_status_codes.extend(rule.retry.codes)
    policy.num_retries.value = min(rule.retry.attempts, _MAX_RETRIES)
    if rule.retry.backoff_ms:
        policy.retry_back_off.base_interval.CopyFrom(duration(rule.retry.backoff_ms))
    if per_try:
        policy.per_try_timeout.CopyFrom(duration(per_try))
    predicate = policy.retry_host_predicate.add()
    predicate.name = "envoy.retry_host_predicates.previous_hosts"
    predicate.typed_config.CopyFrom(pack(PreviousHostsPredicate()))
    action.retry_policy.CopyFrom(policy)
