"""Cross-origin requests (HTTPCORSFilter), by Envoy's cors filter: off in the chain, on for routes that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import re2

from tripylon.model.plan import Cors
from tripylon.pb import pack
from tripylon.pb.messages import CorsFilterPolicy, HeaderMatcher, Route, StringMatcher

FILTER = "envoy.filters.http.cors"
_NOTHING = "[^\\s\\S]"
"""Matches no origin: a policy without origins allows none, and still answers preflights itself."""


def enable(route: Route, policy: Cors) -> None:
    """Switches the filter on for one route."""
    built = CorsFilterPolicy(
        allow_methods=", ".join(policy.methods),
        allow_headers=", ".join(policy.headers),
        expose_headers=", ".join(policy.expose),
        max_age=str(policy.max_age_s),
    )
    built.allow_credentials.value = policy.credentials
    built.forward_not_matching_preflights.value = False
    for origin in policy.origins:
        built.allow_origin_string_match.append(_origin(origin))
    if not policy.origins:
        never = StringMatcher()
        never.safe_regex.regex = _NOTHING
        built.allow_origin_string_match.append(never)
    route.typed_per_filter_config[FILTER].CopyFrom(pack(built))


def foreign_origin(policy: Cors) -> Iterator[HeaderMatcher]:
    """The conditions under which a request comes from an origin that the policy does not allow."""
    yield HeaderMatcher(name="origin", present_match=True)
    for origin in policy.origins:
        yield HeaderMatcher(name="origin", string_match=_origin(origin), invert_match=True)


def _origin(origin: str) -> StringMatcher:
    """An origin; a `*` in it stands for anything that can be in a host name, dots included."""
    built = StringMatcher()
    if origin == "*":
        built.safe_regex.regex = ".*"
    elif "*" in origin:
        built.safe_regex.regex = "[A-Za-z0-9.-]+".join(re2.escape(part) for part in origin.split("*"))
    else:
        built.exact = origin
    return built
