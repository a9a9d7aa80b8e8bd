"""Hosts → VirtualHost and RouteConfiguration: how a rule of a route becomes an Envoy route.

One Envoy route for each match, in the order of the host plan. The invariant: a rule or a share of a rule that cannot be
served keeps its place and answers 500 (503 to gRPC, which clients see as UNAVAILABLE), so nothing falls through to a
rule that was not meant for it. Filters on a path or on headers are in `rewrites.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.envoy import cors, names
from tripylon.envoy.rewrites import change_headers, redirect, rewrite_path
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import (
    Cors,
    Destination,
    HostKey,
    HostPlan,
    Match,
    Mirror,
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


def route_configuration(table: RouteTable) -> RouteConfiguration:
    """The empty frame of a routing table; its hosts come one by one (VHDS), so that a change sends one host only."""
    built = RouteConfiguration(name=names.route_table(table), ignore_port_in_host_matching=True)
    built.vhds.config_source.CopyFrom(ads())
    return built


def virtual_host(plan: HostPlan) -> VirtualHost:
    """Everything that one hostname answers. Envoy removes it by this name, so it must be the resource's own."""
    built = VirtualHost(name=names.virtual_host(plan.key), domains=[plan.key.hostname or "*"])
    for entry in plan.entries:
        for route in _routes(entry, plan.key):
            built.routes.append(route)
    return built


def _routes(entry: RouteEntry, host: HostKey) -> Iterator[Route]:
    """The Envoy routes of one match: one, or one for each backend when backends have filters of their own."""
    rule = entry.rule
    shares: list[tuple[Destination | None, int]] = [(None, _MILLION)]
    if not rule.broken and rule.filters.redirect is None and _needs_split(rule.destinations):
        shares = list(_shares(rule.destinations))
    for destination, threshold in shares:
        route = Route(name=_name(entry))
        _match(route.match, entry.match, grpc=entry.grpc)
        if threshold < _MILLION:
            route.match.runtime_fraction.default_value.CopyFrom(_fraction(threshold))
        _act(route, entry, host, destination)
        if destination is None or not destination.broken:
            policy = (destination.filters.cors if destination is not None else None) or rule.filters.cors
            if policy is not None and route.HasField("route"):
                cors.enable(route, policy)
                yield from _preflights(route, entry.match, policy)
        yield route


def _name(entry: RouteEntry) -> str:
    """Names the route's object and rule in access logs."""
    return f"{entry.route.kind}/{entry.route.namespace}/{entry.route.name}/{entry.rule.name or entry.rule.index}"


def _preflights(route: Route, match: Match, policy: Cors) -> Iterator[Route]:
    """The OPTIONS requests by which browsers ask whether they may use a rule.

    Those of other origins are refused with 403, as Envoy's filter would answer 200 with all headers but the origin. A
    rule for one method takes the others, too; a rule for all methods does so by itself.
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
    if match.method not in ("", "OPTIONS"):
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
    """Whether some backend has filters that Envoy knows for whole routes only (all but header changes)."""
    return any(
        each.broken or each.filters.rewrite or each.filters.redirect or each.filters.mirrors or each.filters.cors
        for each in destinations
    )


def _shares(destinations: tuple[Destination, ...]) -> Iterator[tuple[Destination, int]]:
    """Each backend with the millionths below which a request's random number means it or one before it."""
    total, passed = sum(each.weight for each in destinations), 0
    for each in destinations:
        passed += each.weight
        yield each, passed * _MILLION // total


def _act(route: Route, entry: RouteEntry, host: HostKey, only: Destination | None) -> None:
    """What happens to a matched request; `only` is the one backend that this route is for, None: all of them."""
    rule = entry.rule
    change_headers(route, rule.filters.request_headers, rule.filters.response_headers)
    told = rule.filters.redirect or (only.filters.redirect if only is not None else None)
    if rule.broken or (only is not None and only.broken):
        _fail(route, entry)
    elif told is not None:
        if only is not None:
            change_headers(route, None, only.filters.response_headers)
        route.redirect.CopyFrom(redirect(told, entry.match, host))
    elif not any(each.cluster for each in ((only,) if only is not None else rule.destinations)):
        _fail(route, entry)
    else:
        _forward(route.route, entry, only)


def _fail(route: Route, entry: RouteEntry) -> None:
    route.direct_response.status = 503 if entry.grpc else 500


def _forward(action: RouteAction, entry: RouteEntry, only: Destination | None) -> None:
    rule = entry.rule
    destinations = (only,) if only is not None else rule.destinations
    action.cluster_not_found_response_code = (
        RouteAction.SERVICE_UNAVAILABLE if entry.grpc else RouteAction.INTERNAL_SERVER_ERROR
    )
    plain = len(destinations) == 1 and not (
        destinations[0].filters.request_headers or destinations[0].filters.response_headers
    )
    if plain and destinations[0].cluster is not None:
        action.cluster = names.cluster(destinations[0].cluster)
    else:
        for each in destinations:
            _add_weighted(action.weighted_clusters.clusters.add(), each)
    for rewrite in (rule.filters.rewrite, only.filters.rewrite if only is not None else None):
        if rewrite is not None:
            if rewrite.hostname:
                action.host_rewrite_literal = rewrite.hostname
            rewrite_path(action, rewrite.path, entry.match)
    for mirror in (*rule.filters.mirrors, *(only.filters.mirrors if only is not None else ())):
        _mirror(action.request_mirror_policies.add(), mirror)
    _limits(action, rule)


def _add_weighted(place: WeightedCluster.ClusterWeight, destination: Destination) -> None:
    place.name = names.cluster(destination.cluster) if destination.cluster is not None else names.NO_CLUSTER
    place.weight.value = destination.weight
    change_headers(place, destination.filters.request_headers, destination.filters.response_headers)


def _mirror(place: RouteAction.RequestMirrorPolicy, mirror: Mirror) -> None:
    place.cluster = names.cluster(mirror.cluster)
    place.disable_shadow_host_suffix_append = True
    share = round(mirror.numerator * _MILLION / mirror.denominator)
    place.runtime_fraction.default_value.CopyFrom(_fraction(min(share, _MILLION)))


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
    policy.num_retries.value = rule.retry.attempts
    if rule.retry.backoff_ms:
        policy.retry_back_off.base_interval.CopyFrom(duration(rule.retry.backoff_ms))
    if per_try:
        policy.per_try_timeout.CopyFrom(duration(per_try))
    predicate = policy.retry_host_predicate.add()
    predicate.name = "envoy.retry_host_predicates.previous_hosts"
    predicate.typed_config.CopyFrom(pack(PreviousHostsPredicate()))
    action.retry_policy.CopyFrom(policy)
