"""Header changes, path and host rewrites, redirects.

Values that users write are literal: what Envoy would read as a substitution (`%REQ(...)%`, `\1`) is escaped.
"""

from __future__ import annotations

import re2

from tripylon.model.plan import HeaderChange, HostKey, Match, PathChange, Redirect
from tripylon.pb.messages import (
    HeaderValueOption,
    RedirectAction,
    RegexMatchAndSubstitute,
    Route,
    RouteAction,
    WeightedCluster,
)

_CODES = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}
_WELL_KNOWN = {"http": 80, "https": 443}


def change_headers(
    place: Route | WeightedCluster.ClusterWeight, request: HeaderChange | None, response: HeaderChange | None
) -> None:
    """Adds header changes to a route or to one of its weighted clusters."""
    if request is not None:
        place.request_headers_to_add.extend(_options(request))
        place.request_headers_to_remove.extend(request.remove)
    if response is not None:
        place.response_headers_to_add.extend(_options(response))
        place.response_headers_to_remove.extend(response.remove)


def prevail(narrow: HeaderChange | None, wide: HeaderChange | None) -> HeaderChange | None:
    """The change that has the effect of first the `wide` one and then the `narrow` one."""
    if narrow is None or wide is None:
        return narrow or wide
    over = {name.lower() for name in (*(name for name, _ in narrow.set), *narrow.remove)}
    return HeaderChange(
        tuple(pair for pair in wide.set if pair[0].lower() not in over) + narrow.set,
        tuple(pair for pair in wide.add if pair[0].lower() not in over) + narrow.add,
        tuple(name for name in wide.remove if name.lower() not in over) + narrow.remove,
    )


def _options(change: HeaderChange) -> list[HeaderValueOption]:
    built: list[HeaderValueOption] = []
    for pairs, action in (
        (change.set, HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        (change.add, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    ):
        for name, value in pairs:
            option = HeaderValueOption(append_action=action, keep_empty_value=True)
            option.header.key = name
            option.header.value = value.replace("%", "%%")
            built.append(option)
    return built


def rewrite_path(place: RouteAction | RedirectAction, change: PathChange | None, match: Match) -> None:
    """Replaces the path, or the prefix that the rule matched (HTTPPathModifier); the query string is kept."""
    if change is None:
        return
    if change.kind == "full":
        if isinstance(place, RedirectAction):
            place.path_redirect = change.value or "/"
        else:
            place.regex_rewrite.CopyFrom(_substitute("^/.*", change.value or "/"))
    elif match.path and change.value:
        place.prefix_rewrite = change.value
    elif match.path:
        place.regex_rewrite.CopyFrom(_substitute(f"^{re2.escape(match.path)}/*", "/"))
    elif change.value:
        place.prefix_rewrite = f"{change.value}/"


def _substitute(pattern: str, value: str) -> RegexMatchAndSubstitute:
    built = RegexMatchAndSubstitute(substitution=value.replace("\\", "\\\\"))
    built.pattern.regex = pattern
    return built


def redirect(change: Redirect, match: Match, host: HostKey) -> RedirectAction:
    """The answer with a Location (HTTPRequestRedirectFilter).

    The port is the stated one, else the scheme's, else the listener's; it is left out where it goes without saying.
    Envoy would keep the port of the Host header, so either the port or the whole host is always stated, unless the
    listener's own port goes without saying too.
    """
    built = RedirectAction(response_code=_CODES.get(change.status, RedirectAction.FOUND))
    scheme = "https" if host.table.secure else "http"
    target = change.scheme or scheme
    port = change.port or (_WELL_KNOWN[target] if change.scheme else host.table.port)
    if change.scheme:
        built.scheme_redirect = change.scheme
    hostname = change.hostname
    if port != _WELL_KNOWN[target]:
        built.port_redirect = port
    elif not hostname and host.table.port != _WELL_KNOWN[scheme]:
        if host.hostname and not host.hostname.startswith("*."):
            hostname = host.hostname
        else:
            built.port_redirect = port
    if hostname:
        built.host_redirect = hostname
    rewrite_path(built, change.path, match)
    return built
