"""Services that are asked whether a request may pass, by Envoy's ext_authz filter.

Every connection manager has a slot, switched off, which a route fills with filters of its own (the composite filter),
so that a new service touches no listener. The invariant: there is no mode in which a failure lets a request pass.
"""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.envoy.source import duration
from tripylon.model.plan import AuthService
from tripylon.pb import pack
from tripylon.pb.messages import (
    ApiVersion,
    Composite,
    CompositePerRoute,
    ExecuteFilterAction,
    ExtAuthz,
    HttpFilter,
    Matcher,
    Route,
    SkipFilter,
    StringMatcher,
)

SLOT = "tripylon.external_auth"
_TIMEOUT_MS = 2_000
"""How long a service may take; then the request is refused."""
_NOT_TO_BE_CHANGED = (
    "host|:.*|connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|date|server"
)
"""What an answer says of itself, or where a request goes; none of it is copied into the request."""


def slot() -> HttpFilter:
    """The filter of a chain that runs what a route puts into it, and nothing for other routes."""
    built = HttpFilter(name=SLOT, disabled=True)
    nothing = Composite()
    nothing.matcher.on_no_match.action.name = "skip"
    nothing.matcher.on_no_match.action.typed_config.CopyFrom(pack(SkipFilter()))
    built.typed_config.CopyFrom(pack(nothing))
    return built


def enable(route: Route, services: tuple[AuthService, ...]) -> None:
    """Has every request of a route ask these services, one after the other; the first that refuses has answered."""
    built = CompositePerRoute()
    built.matcher.CopyFrom(_run(services))
    route.typed_per_filter_config[SLOT].CopyFrom(pack(built))


def _run(services: tuple[AuthService, ...]) -> Matcher:
    action = ExecuteFilterAction()
    for place, service in enumerate(services):
        each = action.filter_chain.typed_config.add() if len(services) > 1 else action.typed_config
        each.name = f"{SLOT}.{place}"
        each.typed_config.CopyFrom(pack(_filter(service)))
    matcher = Matcher()
    matcher.on_no_match.action.name = "run"
    matcher.on_no_match.action.typed_config.CopyFrom(pack(action))
    return matcher


def _filter(service: AuthService) -> ExtAuthz:
    built = ExtAuthz(validate_mutations=True)
    rules = built.decoder_header_mutation_rules
    rules.disallow_expression.regex = f"(?i)({_NOT_TO_BE_CHANGED})"
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
