"""Services that are asked whether a request may pass, by Envoy's ext_authz filter.

Every connection manager has slots, switched off, which a route fills with filters of its own (the composite filter), so
that a new service touches no listener. The invariant: there is no mode in which a failure lets a request pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.envoy import names, scopes
from tripylon.envoy.source import duration
from tripylon.model.external_auth import MOST_SERVICES_OF_A_LISTENER, MOST_SERVICES_OF_A_PLACE
from tripylon.model.plan import AuthService
from tripylon.pb import pack
from tripylon.pb.messages import (
    Any,
    ApiVersion,
    Composite,
    CompositePerRoute,
    ExecuteFilterAction,
    ExtAuthz,
    HttpFilter,
    Matcher,
    Route,
    StringMatcher,
    VirtualHost,
)

_ROUTE, _LISTENER = "tripylon.external_auth", "tripylon.external_auth.listener"
ROUTE_SLOTS = tuple(f"{_ROUTE}.{place}" for place in range(2 * MOST_SERVICES_OF_A_PLACE))
"""What a route asks: the services of its rule, then those of a backend. One slot runs one service, in their order."""
LISTENER_SLOTS = tuple(f"{_LISTENER}.{place}" for place in range(MOST_SERVICES_OF_A_LISTENER))
"""What a listener asks; it comes before all else, and a route is chosen again after it."""
_TIMEOUT_MS = 2_000
"""How long a service may take; then the request is refused."""
_NOT_TO_BE_CHANGED = (
    "host|:.*|connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|date|server|"
    "x-tripylon-.*"
)
"""What an answer says of itself, or where a request goes; none of it is copied into the request."""


def slots(slot_names: tuple[str, ...]) -> Iterator[HttpFilter]:
    """Filters of a chain that run what a route or host puts into them, and nothing for others."""
    for name in slot_names:
        built = HttpFilter(name=name, disabled=True)
        built.typed_config.CopyFrom(pack(Composite()))
        yield built


def enable(route: Route, services: tuple[AuthService, ...]) -> None:
    """Has every request of a route ask these services, one after the other; the first that refuses has answered."""
    for slot_name, service in zip(ROUTE_SLOTS[: len(services)], services, strict=True):
        route.typed_per_filter_config[slot_name].CopyFrom(_run(service))


def enable_before_routes(host: VirtualHost, services: tuple[AuthService, ...]) -> None:
    """Has every request of a host ask these services before its route is chosen.

    What they add to the request may lead it to another route than the one that the chain of filters was made for, so
    the slots of routes are on for the whole host: a route that asks on its own is never reached without doing so.
    """
    for slot_name, service in zip(LISTENER_SLOTS[: len(services)], services, strict=True):
        host.typed_per_filter_config[slot_name].CopyFrom(_run(service, choose_again=True))
    for slot_name in ROUTE_SLOTS:
        host.typed_per_filter_config[slot_name].CopyFrom(pack(CompositePerRoute(matcher=Matcher())))


def unasked(route: Route) -> Route:
    """Has the requests of a route ask nobody, whatever its host asks."""
    for slot_name in LISTENER_SLOTS:
        route.typed_per_filter_config[slot_name].CopyFrom(pack(CompositePerRoute(matcher=Matcher())))
    return route


def _run(service: AuthService, *, choose_again: bool = False) -> Any:
    """The settings of a slot that asks a service.

    Envoy runs only the first filter of a `filter_chain` of the composite filter (1.40), so each service has a slot.
    """
    built = _filter(service)
    built.clear_route_cache = choose_again
    action = ExecuteFilterAction()
    action.typed_config.name = "ext_authz"
    action.typed_config.typed_config.CopyFrom(pack(built))
    matcher = Matcher()
    matcher.on_no_match.action.name = "run"
    matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return pack(CompositePerRoute(matcher=matcher))


def _filter(service: AuthService) -> ExtAuthz:
    built = ExtAuthz(validate_mutations=True)
    rules = built.decoder_header_mutation_rules
    rules.disallow_expression.regex = f"(?i)({_NOT_TO_BE_CHANGED})"
    built.disallowed_headers.patterns.append(StringMatcher(exact=scopes.HEADER))
    for name in service.asked_headers:
        built.allowed_headers.patterns.append(StringMatcher(exact=name, ignore_case=True))
    if service.max_body_bytes:
        built.with_request_body.max_request_bytes = service.max_body_bytes
        built.with_request_body.pack_as_bytes = service.grpc
    if service.grpc:
        built.transport_api_version = ApiVersion.V3
        built.grpc_service.envoy_grpc.cluster_name = names.cluster(service.cluster)
        built.grpc_service.timeout.CopyFrom(duration(_TIMEOUT_MS))
    else:
        _ask_by_http(built, service)
    return built


def _ask_by_http(built: ExtAuthz, service: AuthService) -> None:
    cluster = names.cluster(service.cluster)
    http = built.http_service
    http.server_uri.uri = "http://external-auth"
    http.server_uri.cluster = cluster
    http.server_uri.timeout.CopyFrom(duration(_TIMEOUT_MS))
    http.path_prefix = service.path
    wanted = http.authorization_response.allowed_upstream_headers.patterns
    for name in service.answered_headers:
        wanted.append(StringMatcher(exact=name, ignore_case=True))
    if not service.answered_headers:
        every = StringMatcher()
        every.safe_regex.regex = ".*"
        wanted.append(every)
