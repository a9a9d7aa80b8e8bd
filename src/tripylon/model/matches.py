"""Matches of HTTPRoute and GRPCRoute → `Match`, with their precedence.

Regular expressions are compiled here with RE2, Envoy's own engine, since Envoy would refuse a whole routing table for
one bad expression. A match that cannot be built is left out; what that means for its rule is said in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import re2

from tripylon.api.routes import (
    GRPCHeaderMatch,
    GRPCMethodMatch,
    GRPCRouteMatch,
    HTTPHeaderMatch,
    HTTPQueryParamMatch,
    HTTPRouteMatch,
)
from tripylon.model.order import grpc_rank, http_rank
from tripylon.model.plan import Match, PathKind, Value

_PATH_KINDS: dict[str, PathKind] = {
    "Exact": "Exact",
    "PathPrefix": "PathPrefix",
    "RegularExpression": "RegularExpression",
}
_VALUE_KINDS = ("Exact", "RegularExpression")
_MAX_REGEX_MEMORY = 8 * 1024 * 1024
"""Bytes that one compiled expression may take; RE2's own default."""


class MatchError(Exception):
    """A match that cannot be built: which field below the match, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field
        self.why = why


def http_match(match: HTTPRouteMatch) -> Match:
    """One match of an HTTPRoute; MatchError when an expression is none or a type is unknown."""
    kind = _PATH_KINDS.get(match.path.type)
    if kind is None:
        raise MatchError("path.type", f"is the unknown `{match.path.type}`")
    if match.method == "CONNECT":
        raise MatchError("method", "is CONNECT, which asks for a tunnel, not for a path; there are none here")
    path = match.path.value
    if kind == "RegularExpression":
        check_regex(path, "path.value")
    elif kind == "PathPrefix":
        path = path.rstrip("/")
    built = Match(
        kind,
        path,
        match.method,
        _values("headers", match.headers, lower=True),
        _values("queryParams", match.query_params, lower=False),
    )
    return Match(built.path_kind, built.path, built.method, built.headers, built.query, http_rank(built))


def grpc_match(match: GRPCRouteMatch) -> Match:
    """One match of a GRPCRoute as a match on the path `/service/method`; MatchError as above."""
    headers = _values("headers", match.headers, lower=True)
    method = match.method
    if method is None or not (method.service or method.method):
        return Match("PathPrefix", "", "", headers, (), grpc_rank("", "", regex=False, headers=headers))
    kind, path = _grpc_path(method)
    regex = method.type == "RegularExpression"
    rank = grpc_rank(method.service or "", method.method or "", regex=regex, headers=headers)
    return Match(kind, path, "", headers, (), rank)


def _grpc_path(method: GRPCMethodMatch) -> tuple[PathKind, str]:
    service, name = method.service or "", method.method or ""
    if method.type == "RegularExpression":
        for field, text in (("service", service), ("method", name)):
            if text:
                check_regex(text, f"method.{field}")
        return "RegularExpression", f"/(?:{service or '[^/]+'})/(?:{name or '[^/]+'})"
    if method.type != "Exact":
        raise MatchError("method.type", f"is the unknown `{method.type}`")
    if service and name:
        return "Exact", f"/{service}/{name}"
    if service:
        return "PathPrefix", f"/{service}"
    return "RegularExpression", f"/[^/]+/{re2.escape(name)}"


def _values(
    field: str,
    matches: Sequence[HTTPHeaderMatch | GRPCHeaderMatch | HTTPQueryParamMatch],
    *,
    lower: bool,
) -> tuple[Value, ...]:
    """Header or parameter conditions; of several with one name the first counts, as the specification says."""
    found: dict[str, Value] = {}
    for index, match in enumerate(matches):
        if match.type not in _VALUE_KINDS:
            raise MatchError(f"{field}[{index}].type", f"is the unknown `{match.type}`")
        regex = match.type == "RegularExpression"
        if regex:
            check_regex(match.value, f"{field}[{index}].value")
        name = match.name.lower() if lower else match.name
        found.setdefault(name, Value(name, match.value, regex))
    return tuple(found.values())


def check_regex(expression: str, field: str) -> None:
    """MatchError when Envoy's engine would not take the expression."""
    if not expression:
        raise MatchError(field, "is an empty regular expression, which nothing matches")
    options = re2.Options()
    options.max_mem = _MAX_REGEX_MEMORY
    options.log_errors = False
    # As Envoy reads expressions and what they are compared with: byte by byte.
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        re2.compile(expression.encode(), options)
    except re2.error as error:
        detail = error.args[0]
        text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise MatchError(field, f"is no RE2 regular expression: {text}") from None
