"""What a route does to a request on its way: the filters of HTTPRoute and GRPCRoute.

A filter is a `type` and one field of that name. Which filters may stand together is stated in the rules below; what
they mean is worked out in `model/routes.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Items, Number, Part, Rule, Text
from tripylon.api.meta import Port, PreciseHostname
from tripylon.api.refs import BackendObjectReference, LocalObjectReference

_NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"
HeaderName = Annotated[
    str,
    Text(min=1, max=256, pattern=_NAME_PATTERN, words="a token: letters, digits and !#$%&'*+-.^_`|~"),
]
HeaderValue = Annotated[
    str,
    Text(
        min=1,
        max=4096,
        pattern=r"^[!-~]+([\t ]?[!-~]+)*$",
        words="visible ASCII characters with at most one space or tab between them, and none at the ends",
    ),
]

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


def present_by_type(field: str, type_: str) -> tuple[Rule, Rule]:
    """Rules that `field` is set exactly when `type` is `type_`."""
    return (
        Rule(
            cel=f"!has(self.{field}) || self.type == '{type_}'",
            message=f"must not be set unless `type` is {type_}; remove it or change the type",
            field_path=f".{field}",
        ),
        Rule(
            cel=f"self.type != '{type_}' || has(self.{field})",
            message=f"must be set because `type` is {type_}; add it or change the type",
            reason="FieldValueRequired",
            field_path=f".{field}",
        ),
    )


def _implied(field: str, type_field: str, value: str) -> tuple[Rule, Rule]:
    """Rules that `field` is set exactly when `type_field` is `value`."""
    return (
        Rule(
            cel=f"self.{type_field} != '{value}' || has(self.{field})",
            message=f"must be set because `{type_field}` is {value}; add it",
            reason="FieldValueRequired",
            field_path=f".{field}",
        ),
        Rule(
            cel=f"!has(self.{field}) || self.{type_field} == '{value}'",
            message=f"must not be set unless `{type_field}` is {value}; remove it",
            field_path=f".{field}",
        ),
    )


def at_most_once(*types: str) -> tuple[Rule, ...]:
    """Rules of a list of filters: none of these types twice."""
    return tuple(
        Rule(
            cel=f"self.filter(f, f.type == '{each}').size() <= 1",
            message=f"must not have more than one {each} filter; join them into one",
            reason="FieldValueDuplicate",
        )
        for each in types
    )


# --- Headers ------------------------------------------------------------------------------------------------


class Header(Part, frozen=True, gc=False, kw_only=True):
    """A header and its value."""

    name: HeaderName
    """Name of the header; upper and lower case are the same."""
    value: HeaderValue
    """Value of the header."""


class HeaderModifier(Part, frozen=True, gc=False, kw_only=True):
    """Changes headers. One name may stand in only one of the three lists."""

    set: Annotated[tuple[Header, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Headers that replace all of the same name."""
    add: Annotated[tuple[Header, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Headers that are added to those of the same name."""
    remove: Annotated[tuple[str, ...], Items(max=16, kind="set")] = ()
    """Names of headers that are removed."""


# --- Mirror -------------------------------------------------------------------------------------------------


class Fraction(Part, frozen=True, gc=False, kw_only=True):
    """A part of a whole."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.numerator <= self.denominator",
            message="must not be greater than the denominator",
            field_path=".numerator",
        ),
    )

    numerator: Annotated[int, Number(min=0)]
    """Upper part; 0: none."""
    denominator: Annotated[int, Number(min=1)] = 100
    """Lower part; default 100."""


class RequestMirror(Part, frozen=True, gc=False, kw_only=True):
    """Sends copies of requests to another backend, whose answers are dropped."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.percent) || !has(self.fraction)",
            message="must not be set together with `percent`; remove one",
            field_path=".fraction",
        ),
    )

    backend_ref: BackendObjectReference
    """Where the copies go."""
    percent: Annotated[int, Number(min=0, max=100)] | None = None
    """Share of the requests that are copied, 0 to 100; absent (and no `fraction`): all; 0: none."""
    fraction: Fraction | None = None
    """Share of the requests that are copied, more finely than `percent`."""


# --- Redirect and rewrite -----------------------------------------------------------------------------------

PATH_MODIFIER_TYPES = ("ReplaceFullPath", "ReplacePrefixMatch")


class PathModifier(Part, frozen=True, gc=False, kw_only=True):
    """A change of the path."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_implied("replaceFullPath", "type", "ReplaceFullPath"),
        *_implied("replacePrefixMatch", "type", "ReplacePrefixMatch"),
    )

    type: Annotated[str, Text(values=PATH_MODIFIER_TYPES)]
    """`ReplaceFullPath` or `ReplacePrefixMatch`."""
    replace_full_path: Annotated[str, Text(max=1024)] | None = None
    """The new path."""
    replace_prefix_match: Annotated[str, Text(max=1024)] | None = None
    """What takes the place of the matched prefix; needs exactly one PathPrefix match in the rule. Empty: nothing."""


class RequestRedirect(Part, frozen=True, gc=False, kw_only=True):
    """Answers with a redirect; what is not given stays as it was in the request."""

    scheme: Annotated[str, Text(values=("http", "https"))] = ""
    """`http` or `https`; empty: that of the request."""
    hostname: PreciseHostname = ""
    """Host name; empty: that of the request."""
    path: PathModifier | None = None
    """Change of the path; absent: the request's."""
    port: Port | None = None
    """Port; absent: the scheme's own if `scheme` is given, else the listener's."""
    status_code: Annotated[int, Number(values=(301, 302, 303, 307, 308), format="")] = 302
    """Status code; default 302."""


class URLRewrite(Part, frozen=True, gc=False, kw_only=True):
    """Changes what the backend sees as host and path."""

    hostname: PreciseHostname = ""
    """New value of the Host header; empty: that of the request."""
    path: PathModifier | None = None
    """Change of the path; absent: the request's."""


# --- CORS ---------------------------------------------------------------------------------------------------


def _star_alone(what: str) -> Rule:
    return Rule(
        cel="size(self) < 2 || !('*' in self)",
        message=f"must not have other {what} beside '*', which covers all; remove one or the other",
    )


class CORS(Part, frozen=True, gc=False, kw_only=True):
    """Answers browsers that ask whether a page of another origin may call."""

    allow_origins: Annotated[
        tuple[
            Annotated[
                str,
                Text(
                    min=1,
                    max=253,
                    pattern=(
                        r"(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)"
                    ),
                    words="'*' or an origin such as 'https://www.example.com:8443' or 'https://*.example.com'",
                ),
            ],
            ...,
        ],
        Items(max=64, kind="set"),
        _star_alone("origins"),
    ] = ()
    """Origins that may call; a `*` alone: every origin; empty: none."""
    allow_credentials: bool = False
    """Whether cookies and credentials may be sent along; default false."""
    allow_methods: Annotated[
        tuple[Annotated[str, Text(values=(*METHODS, "*"))], ...], Items(max=9, kind="set"), _star_alone("methods")
    ] = ()
    """Methods that may be used; a `*` alone: all. GET, HEAD and POST always may."""
    allow_headers: Annotated[tuple[HeaderName, ...], Items(max=64, kind="set"), _star_alone("headers")] = ()
    """Request headers that may be sent; a `*` alone: all."""
    expose_headers: Annotated[tuple[HeaderName, ...], Items(max=64, kind="set")] = ()
    """Answer headers that scripts may read; a `*` alone: all."""
    max_age: Annotated[int, Number(min=1)] = 5
    """How long a browser may keep the answer, in seconds; default 5."""


# --- External authorisation ---------------------------------------------------------------------------------

_HeaderNames = Annotated[tuple[str, ...], Items(max=64, kind="set")]


class GRPCAuth(Part, frozen=True, gc=False, kw_only=True):
    """Settings of an authorisation service that speaks Envoy's gRPC protocol."""

    allowed_headers: _HeaderNames = ()
    """Request headers that are sent to the service; empty: all."""


class HTTPAuth(Part, frozen=True, gc=False, kw_only=True):
    """Settings of an authorisation service that is asked by HTTP; 200 means allowed."""

    path: Annotated[
        str,
        Text(
            max=1024,
            pattern="^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$",
            words="a path: letters, digits, '/', '-._~!$&'()*+,;=:@' and %-escapes",
        ),
    ] = ""
    """Path put in front of the request's own; empty: none."""
    allowed_headers: _HeaderNames = ()
    """Further request headers that are sent; Host, Method, Path, Content-Length and Authorization always are."""
    allowed_response_headers: _HeaderNames = ()
    """Headers of the service's answer that are copied into the request to the backend; empty: the standard ones."""


class ForwardBody(Part, frozen=True, gc=False, kw_only=True):
    """Whether the authorisation service sees the body."""

    max_size: Annotated[int, Number(min=0)] = 0
    """Largest body that is sent, in bytes; larger ones are refused; 0: no body is sent."""


class ExternalAuth(Part, frozen=True, gc=False, kw_only=True):
    """Asks another service whether a request may pass. If the service fails, the request is refused."""

    RULES: ClassVar[tuple[Rule, ...]] = (*_implied("grpc", "protocol", "GRPC"), *_implied("http", "protocol", "HTTP"))

    protocol: Annotated[str, Text(values=("HTTP", "GRPC"))]
    """How the service is asked: `HTTP` or `GRPC`."""
    backend_ref: BackendObjectReference
    """The service."""
    grpc: GRPCAuth | None = None
    """Settings for protocol `GRPC`."""
    http: HTTPAuth | None = None
    """Settings for protocol `HTTP`."""
    forward_body: ForwardBody | None = None
    """Whether the service sees the body; absent: it does not."""


# --- The filters themselves ---------------------------------------------------------------------------------


class HTTPRouteFilter(Part, frozen=True, gc=False, kw_only=True):
    """One step of an HTTPRoute's rule, or of one of its backends."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *present_by_type("requestHeaderModifier", "RequestHeaderModifier"),
        *present_by_type("responseHeaderModifier", "ResponseHeaderModifier"),
        *present_by_type("requestMirror", "RequestMirror"),
        *present_by_type("requestRedirect", "RequestRedirect"),
        *present_by_type("urlRewrite", "URLRewrite"),
        *present_by_type("cors", "CORS"),
        *present_by_type("externalAuth", "ExternalAuth"),
        *present_by_type("extensionRef", "ExtensionRef"),
    )

    type: Annotated[
        str,
        Text(
            values=(
                "RequestHeaderModifier",
                "ResponseHeaderModifier",
                "RequestMirror",
                "RequestRedirect",
                "URLRewrite",
                "ExtensionRef",
                "CORS",
                "ExternalAuth",
            )
        ),
    ]
    """Which of the fields below is set."""
    request_header_modifier: HeaderModifier | None = None
    """Changes headers of the request."""
    response_header_modifier: HeaderModifier | None = None
    """Changes headers of the answer."""
    request_mirror: RequestMirror | None = None
    """Sends copies of requests elsewhere."""
    request_redirect: RequestRedirect | None = None
    """Answers with a redirect."""
    url_rewrite: URLRewrite | None = None
    """Changes host and path."""
    cors: CORS | None = None
    """Answers browsers' questions about other origins."""
    external_auth: ExternalAuth | None = None
    """Asks another service whether the request may pass (experimental channel)."""
    extension_ref: LocalObjectReference | None = None
    """An object that says what to do, such as a DirectResponse."""


HTTPRouteFilters = Annotated[
    tuple[HTTPRouteFilter, ...],
    Items(max=16),
    Rule(
        cel="!self.exists(f, f.type == 'RequestRedirect') || !self.exists(f, f.type == 'URLRewrite')",
        message="must not have both a RequestRedirect and a URLRewrite filter; remove one",
    ),
    *at_most_once("CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"),
]


class GRPCRouteFilter(Part, frozen=True, gc=False, kw_only=True):
    """One step of a GRPCRoute's rule, or of one of its backends."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *present_by_type("requestHeaderModifier", "RequestHeaderModifier"),
        *present_by_type("responseHeaderModifier", "ResponseHeaderModifier"),
        *present_by_type("requestMirror", "RequestMirror"),
        *present_by_type("extensionRef", "ExtensionRef"),
    )

    type: Annotated[
        str, Text(values=("ResponseHeaderModifier", "RequestHeaderModifier", "RequestMirror", "ExtensionRef"))
    ]
    """Which of the fields below is set."""
    request_header_modifier: HeaderModifier | None = None
    """Changes headers of the request."""
    response_header_modifier: HeaderModifier | None = None
    """Changes headers of the answer."""
    request_mirror: RequestMirror | None = None
    """Sends copies of requests elsewhere."""
    extension_ref: LocalObjectReference | None = None
    """An object that says what to do."""


GRPCRouteFilters = Annotated[
    tuple[GRPCRouteFilter, ...], Items(max=16), *at_most_once("RequestHeaderModifier", "ResponseHeaderModifier")
]
