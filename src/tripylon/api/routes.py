"""HTTPRoute and GRPCRoute: which requests go where.

Precedence between matches is `model/order.py`, attachment to listeners `model/routes.py`; the steps on the way are in
`filters.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.filters import METHODS, GRPCRouteFilters, HeaderName, HeaderValue, HTTPRouteFilters
from tripylon.api.markers import Items, Number, Part, Rule, Text
from tripylon.api.meta import (
    GATEWAY_GROUP,
    Condition,
    ControllerName,
    Duration,
    Hostname,
    Resource,
    SectionName,
)
from tripylon.api.refs import BackendRef, ParentReference

# --- What all routes share ----------------------------------------------------------------------------------


def _value(item: str, field: str, absent: str = "''") -> str:
    return f"(has({item}.{field}) ? {item}.{field} : {absent})"


def _same(*parts: tuple[str, str]) -> str:
    return " && ".join(f"{_value('a', field, absent)} == {_value('b', field, absent)}" for field, absent in parts)


_SAME_PARENT = _same(("group", "''"), ("kind", "''"), ("name", "''"), ("__namespace__", "''"))

ParentRefs = Annotated[
    tuple[ParentReference, ...],
    Items(max=32),
    Rule(
        cel=(
            f"self.all(a, self.all(b, !({_SAME_PARENT})"
            " || (has(a.sectionName) == has(b.sectionName) && has(a.port) == has(b.port))))"
        ),
        message="must give `sectionName` or `port` in all or none of the references to one parent; add what is missing",
        reason="FieldValueRequired",
    ),
    Rule(
        cel=f"self.all(a, self.exists_one(b, {_SAME_PARENT} && {_same(('sectionName', chr(39) * 2), ('port', '0'))}))",
        message="must not name the same parent, section and port twice; remove one",
        reason="FieldValueDuplicate",
    ),
]

UNIQUE_RULE_NAMES = Rule(
    cel="self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))",
    message="must have different names; rename the rule that repeats another's name",
    reason="FieldValueDuplicate",
)
MATCHES_IN_ALL = Rule(
    cel=(
        " + ".join(f"(size(self) > {i} && has(self[{i}].matches) ? size(self[{i}].matches) : 0)" for i in range(16))
        + " <= 128"
    ),
    message="must not have more than 128 matches in all its rules together; split the route",
)

RouteConditions = Annotated[tuple[Condition, ...], Items(min=1, max=8, kind="map", keys=("type",))]


class RouteParentStatus(Part, frozen=True, gc=False, kw_only=True):
    """What one controller says about the route under one parent."""

    parent_ref: ParentReference
    """The parent, as the route names it."""
    controller_name: ControllerName
    """The controller that wrote this."""
    conditions: RouteConditions
    """State of the route under the parent: `Accepted`, `ResolvedRefs` and others."""


class RouteStatus(Part, frozen=True, gc=False, kw_only=True):
    """What controllers say about the route."""

    parents: Annotated[tuple[RouteParentStatus, ...], Items(max=32)]
    """One entry per parent and controller."""


class CookieConfig(Part, frozen=True, gc=False, kw_only=True):
    """The cookie that keeps a session at its backend."""

    name: HeaderName = ""
    """Name of the cookie; empty: the gateway chooses."""
    lifetime_type: Annotated[str, Text(values=("Permanent", "Session"))] = "Session"
    """`Session` (default): until the browser is closed. `Permanent`: until `absoluteTimeout` has passed."""
    path: Annotated[str, Text(max=1024)] = "/"
    """Path of the cookie; default `/`."""


class HeaderConfig(Part, frozen=True, gc=False, kw_only=True):
    """The header that keeps a session at its backend."""

    name: HeaderName
    """Name of the header."""


class SessionPersistence(Part, frozen=True, gc=False, kw_only=True):
    """Keeps the requests of one session at one backend (experimental channel)."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.cookie) || self.cookie.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
            message="must be set because the cookie's lifetime is Permanent; add it",
            reason="FieldValueRequired",
            field_path=".absoluteTimeout",
        ),
        Rule(
            cel="!has(self.cookie) || self.type == 'Cookie'",
            message="must not be set unless `type` is Cookie; remove it",
            field_path=".cookie",
        ),
        Rule(
            cel="self.type != 'Cookie' || has(self.cookie)",
            message="must be set because `type` is Cookie; add it, `{}` suffices",
            reason="FieldValueRequired",
            field_path=".cookie",
        ),
        Rule(
            cel="!has(self.header) || self.type == 'Header'",
            message="must not be set unless `type` is Header; remove it",
            field_path=".header",
        ),
        Rule(
            cel="self.type != 'Header' || has(self.header)",
            message="must be set because `type` is Header; add it",
            reason="FieldValueRequired",
            field_path=".header",
        ),
    )

    type: Annotated[str, Text(values=("Cookie", "Header"))] = "Cookie"
    """How the session is known: `Cookie` (default) or `Header`."""
    cookie: CookieConfig | None = None
    """The cookie, for type `Cookie`."""
    header: HeaderConfig | None = None
    """The header, for type `Header`."""
    absolute_timeout: Duration = ""
    """How long a session lasts at most; empty: without limit."""


DefaultGateways = Annotated[str, Text(values=("All", "None"))]

# --- HTTPRoute: matches -------------------------------------------------------------------------------------

_PLAIN = "!(self.type in ['Exact', 'PathPrefix'])"


class HTTPPathMatch(Part, frozen=True, gc=False, kw_only=True):
    """Compares the path of a request."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(cel=f"{_PLAIN} || self.value.startsWith('/')", message="must begin with '/'", field_path=".value"),
        Rule(
            cel=f"{_PLAIN} || !self.value.contains('//')",
            message="must not contain '//'; write one '/'",
            field_path=".value",
        ),
        Rule(
            cel=f'{_PLAIN} || !self.value.matches(r"""/\\.\\.?(/|$)""")',
            message="must not contain '.' or '..' as a part of the path; write where it leads",
            field_path=".value",
        ),
        Rule(
            cel=f"{_PLAIN} || !(self.value.contains('%2f') || self.value.contains('%2F'))",
            message="must not contain '%2f', an escaped '/'",
            field_path=".value",
        ),
        Rule(
            cel=(f'{_PLAIN} || self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&\'()*+,;=:@]|[%][0-9a-fA-F]{{2}})+$""")'),
            message="must consist of letters, digits, '/', -._~!$&'()*+,;=:@ and %-escapes; escape other characters",
            field_path=".value",
        ),
    )

    type: Annotated[str, Text(values=("Exact", "PathPrefix", "RegularExpression"))] = "PathPrefix"
    """`PathPrefix` (default, whole parts of the path), `Exact` or `RegularExpression` (RE2, the whole path)."""
    value: Annotated[str, Text(max=1024)] = "/"
    """What the path is compared with; default `/`."""


class HTTPHeaderMatch(Part, frozen=True, gc=False, kw_only=True):
    """Compares a header of a request."""

    type: Annotated[str, Text(values=("Exact", "RegularExpression"))] = "Exact"
    """`Exact` (default) or `RegularExpression` (RE2, the whole value)."""
    name: HeaderName
    """Name of the header; upper and lower case are the same."""
    value: HeaderValue
    """What the value is compared with."""


class HTTPQueryParamMatch(Part, frozen=True, gc=False, kw_only=True):
    """Compares a query parameter of a request."""

    type: Annotated[str, Text(values=("Exact", "RegularExpression"))] = "Exact"
    """`Exact` (default) or `RegularExpression` (RE2, the whole value)."""
    name: HeaderName
    """Name of the parameter; upper and lower case differ."""
    value: Annotated[str, Text(min=1, max=1024)]
    """What the value is compared with."""


class HTTPRouteMatch(Part, frozen=True, gc=False, kw_only=True):
    """Requests that a rule takes: all of what is given here must hold."""

    path: HTTPPathMatch = HTTPPathMatch()
    """The path; default: every path."""
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Headers that must all match."""
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Query parameters that must all match."""
    method: Annotated[str, Text(values=METHODS)] = ""
    """The method; empty: every method."""


# --- HTTPRoute: rules ---------------------------------------------------------------------------------------


class HTTPBackendRef(BackendRef, frozen=True, gc=False, kw_only=True):
    """A destination of an HTTPRoute's rule."""

    filters: HTTPRouteFilters = ()
    """Steps for requests that go to this destination only."""


class HTTPRouteTimeouts(Part, frozen=True, gc=False, kw_only=True):
    """How long a request may take."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=(
                "!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s')"
                " || duration(self.backendRequest) <= duration(self.request)"
            ),
            message="must not be longer than `request`, which spans it",
            field_path=".backendRequest",
        ),
    )

    request: Duration = ""
    """From arrival to the end of the answer, over all tries; `0s`: no limit; empty: the gateway's default."""
    backend_request: Duration = ""
    """One try at one backend; `0s`: no limit; empty: as `request`."""


class HTTPRouteRetry(Part, frozen=True, gc=False, kw_only=True):
    """When a request is tried again."""

    codes: Annotated[tuple[Annotated[int, Number(min=400, max=599, format="")], ...], Items(kind="set")] = ()
    """Status codes of the backend that lead to another try, 400 to 599; failed connections always do."""
    attempts: Annotated[int, Number(min=0, format="")] = 1
    """How often a request is tried again at most; default 1; 0: never."""
    backoff: Duration = ""
    """Shortest time before another try; empty: the gateway's default."""


def _one_prefix_match(field: str, inside: str, where: str) -> Rule:
    """A filter that replaces the matched prefix needs to know which one that is."""
    modifies = f"has(f.{field}) && has(f.{field}.path) && has(f.{field}.path.replacePrefixMatch)"
    present = f"has(self.{inside}) && " + (
        f"self.filters.exists_one(f, {modifies})"
        if inside == "filters"
        else f"self.backendRefs.exists_one(b, has(b.filters) && b.filters.exists_one(f, {modifies}))"
    )
    return Rule(
        cel=(
            f"!({present})"
            " || (size(self.matches) == 1 && has(self.matches[0].path) && self.matches[0].path.type == 'PathPrefix')"
        ),
        message=f"must be exactly one, with a PathPrefix, because `{field}.path.replacePrefixMatch` is used {where}",
        field_path=".matches",
    )


class HTTPRouteRule(Part, frozen=True, gc=False, kw_only=True):
    """Requests, what is done to them, and where they go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=(
                "!has(self.backendRefs) || size(self.backendRefs) == 0 || !has(self.filters)"
                " || !self.filters.exists(f, has(f.requestRedirect))"
            ),
            message="must not be set together with a RequestRedirect filter, which answers itself; remove one",
            field_path=".backendRefs",
        ),
        _one_prefix_match("requestRedirect", "filters", "in a filter"),
        _one_prefix_match("urlRewrite", "filters", "in a filter"),
        _one_prefix_match("requestRedirect", "backendRefs", "in a filter of a backendRef"),
        _one_prefix_match("urlRewrite", "backendRefs", "in a filter of a backendRef"),
    )

    name: SectionName = ""
    """Name of the rule, by which policies refer to it; empty: none."""
    matches: Annotated[tuple[HTTPRouteMatch, ...], Items(max=64)] = (HTTPRouteMatch(),)
    """Requests that the rule takes: any of these; default: every request."""
    filters: HTTPRouteFilters = ()
    """Steps that requests pass, in this order where order matters."""
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Items(max=16)] = ()
    """Where requests go, by weight; empty: the answer is 500, unless a filter answers."""
    timeouts: HTTPRouteTimeouts | None = None
    """How long a request may take; absent: the gateway's default."""
    retry: HTTPRouteRetry | None = None
    """When a request is tried again; absent: the gateway's default."""
    session_persistence: SessionPersistence | None = None
    """Keeps a session at its backend (experimental channel); absent: it is not kept."""


class HTTPRouteSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    parent_refs: ParentRefs = ()
    """Gateways and listeners that the route wants to be attached to."""
    use_default_gateways: DefaultGateways = ""
    """`All`: attaches to Gateways with `defaultScope: All`, too (experimental channel). Empty, `None`: not."""
    hostnames: Annotated[tuple[Hostname, ...], Items(max=16)] = ()
    """Host names served, exact or with `*.` in front; empty: those of the listener."""
    rules: Annotated[tuple[HTTPRouteRule, ...], Items(min=1, max=16), UNIQUE_RULE_NAMES, MATCHES_IN_ALL] = (
        HTTPRouteRule(),
    )
    """The rules, 1 to 16; default: one that takes every request and has no backend."""


class HTTPRoute(Resource, frozen=True, gc=False, kw_only=True):
    """Says where HTTP requests go."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: HTTPRouteSpec
    """What is asked for."""
    status: RouteStatus | None = None
    """What controllers say about it."""


# --- GRPCRoute ----------------------------------------------------------------------------------------------


class GRPCMethodMatch(Part, frozen=True, gc=False, kw_only=True):
    """Compares the gRPC service and method of a call."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.service) || has(self.method)",
            message="must give `service`, `method` or both",
            reason="FieldValueRequired",
        ),
        Rule(
            cel=(
                "self.type != 'Exact' || !has(self.service) || "
                'self.service.matches(r"""^(?i)\\.?[a-z_][a-z_0-9]*(\\.[a-z_][a-z_0-9]*)*$""")'
            ),
            message="must be a gRPC service such as 'package.v1.Service'",
            field_path=".service",
        ),
        Rule(
            cel=('self.type != \'Exact\' || !has(self.method) || self.method.matches(r"""^[A-Za-z_][A-Za-z_0-9]*$""")'),
            message="must be a gRPC method such as 'GetItem'",
            field_path=".method",
        ),
    )

    type: Annotated[str, Text(values=("Exact", "RegularExpression"))] = "Exact"
    """`Exact` (default) or `RegularExpression` (RE2, the whole name)."""
    service: Annotated[str, Text(max=1024)] | None = None
    """The service with its package; absent: every service."""
    method: Annotated[str, Text(max=1024)] | None = None
    """The method; absent: every method."""


class GRPCHeaderMatch(Part, frozen=True, gc=False, kw_only=True):
    """Compares a header (metadata) of a call."""

    type: Annotated[str, Text(values=("Exact", "RegularExpression"))] = "Exact"
    """`Exact` (default) or `RegularExpression` (RE2, the whole value)."""
    name: HeaderName
    """Name of the header; upper and lower case are the same."""
    value: Annotated[str, Text(min=1, max=4096)]
    """What the value is compared with."""


class GRPCRouteMatch(Part, frozen=True, gc=False, kw_only=True):
    """Calls that a rule takes: all of what is given here must hold."""

    method: GRPCMethodMatch | None = None
    """Service and method; absent: every call."""
    headers: Annotated[tuple[GRPCHeaderMatch, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Headers that must all match."""


class GRPCBackendRef(BackendRef, frozen=True, gc=False, kw_only=True):
    """A destination of a GRPCRoute's rule."""

    filters: GRPCRouteFilters = ()
    """Steps for calls that go to this destination only."""


class GRPCRouteRule(Part, frozen=True, gc=False, kw_only=True):
    """Calls, what is done to them, and where they go."""

    name: SectionName = ""
    """Name of the rule, by which policies refer to it; empty: none."""
    matches: Annotated[tuple[GRPCRouteMatch, ...], Items(max=64)] = ()
    """Calls that the rule takes: any of these; empty: every call."""
    filters: GRPCRouteFilters = ()
    """Steps that calls pass."""
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], Items(max=16)] = ()
    """Where calls go, by weight; empty: the answer is UNAVAILABLE."""
    session_persistence: SessionPersistence | None = None
    """Keeps a session at its backend (experimental channel); absent: it is not kept."""


class GRPCRouteSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    parent_refs: ParentRefs = ()
    """Gateways and listeners that the route wants to be attached to."""
    use_default_gateways: DefaultGateways = ""
    """`All`: attaches to Gateways with `defaultScope: All`, too (experimental channel). Empty, `None`: not."""
    hostnames: Annotated[tuple[Hostname, ...], Items(max=16)] = ()
    """Host names served, exact or with `*.` in front; empty: those of the listener."""
    rules: Annotated[tuple[GRPCRouteRule, ...], Items(max=16), MATCHES_IN_ALL, UNIQUE_RULE_NAMES] = ()
    """The rules, at most 16; empty: no call is taken."""


class GRPCRoute(Resource, frozen=True, gc=False, kw_only=True):
    """Says where gRPC calls go."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: GRPCRouteSpec
    """What is asked for."""
    status: RouteStatus | None = None
    """What controllers say about it."""
