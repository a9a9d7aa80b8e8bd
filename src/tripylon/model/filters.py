"""The filters of a rule or of a backendRef → `Filters`.

The invariant: a filter that cannot be built is never skipped. `FilterError` says why, and the caller answers the
requests concerned with 500. A mirror is the exception, as it is no part of the answer: one that leads nowhere is left
out and told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tripylon.api.filters import (
    CORS,
    ExternalAuth,
    GRPCRouteFilter,
    Header,
    HeaderModifier,
    HTTPRouteFilter,
    PathModifier,
    RequestMirror,
    RequestRedirect,
    URLRewrite,
)
from tripylon.api.routes import GRPCRoute
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.backends import Fault, resolve, unread_port
from tripylon.model.external_auth import MOST_SERVICES_OF_A_PLACE, plan_external_auth
from tripylon.model.plan import AuthService, Cors, Filters, HeaderChange, Mirror, PathChange, Redirect, Rewrite
from tripylon.world.world import Route

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
"""What no path of a request holds; Envoy refuses some of it, and the rest would end the request line."""
_FRAMING_HEADERS = (
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
)
"""Say where a message ends and what becomes of its connection. Changed by a filter, they would say something else than
what is sent, and the rest of a body would be read as the next request of somebody else on the same connection."""


class FilterError(Exception):
    """A filter that cannot be built: where, why, and what to do."""

    def __init__(self, field: str, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.field = field
        self.why = why
        self.hint = hint


def plan_filters(
    read: Read,
    route: Route,
    filters: tuple[HTTPRouteFilter, ...] | tuple[GRPCRouteFilter, ...],
    field: str,
    findings: list[Finding],
) -> Filters:
    """All filters at one place; FilterError for the first that cannot be built."""
    built: dict[str, object] = {}
    mirrors: list[Mirror] = []
    auth: list[AuthService] = []
    for index, each in enumerate(filters):
        place = f"{field}[{index}]"
        match each:
            case HTTPRouteFilter(type="RequestRedirect", request_redirect=RequestRedirect() as redirect):
                built["redirect"] = _redirect(redirect, f"{place}.requestRedirect.path")
            case HTTPRouteFilter(type="URLRewrite", url_rewrite=URLRewrite() as rewrite):
                built["rewrite"] = Rewrite(rewrite.hostname, _path(rewrite.path, f"{place}.urlRewrite.path"))
            case HTTPRouteFilter(type="CORS", cors=CORS() as cors):
                built["cors"] = _cors(cors)
                findings.extend(_exposes_all(route, cors, f"{place}.cors.exposeHeaders"))
            case HTTPRouteFilter(type="ExternalAuth", external_auth=ExternalAuth() as asking):
                auth.extend(_ask(read, route, asking, f"{place}.externalAuth.backendRef", findings))
            case HTTPRouteFilter() | GRPCRouteFilter():
                if each.type == "RequestHeaderModifier" and each.request_header_modifier is not None:
                    where = f"{place}.requestHeaderModifier"
                    built["request_headers"] = _headers(each.request_header_modifier, where)
                elif each.type == "ResponseHeaderModifier" and each.response_header_modifier is not None:
                    where = f"{place}.responseHeaderModifier"
                    built["response_headers"] = _headers(each.response_header_modifier, where)
                elif each.type == "RequestMirror" and each.request_mirror is not None:
                    mirrors.extend(_mirror(read, route, each.request_mirror, place, findings))
                else:
                    raise _unsupported(each, place)
    unreached = [name for name, there in (("RequestMirror", mirrors), ("CORS", "cors" in built)) if there]
    if "redirect" in built and unreached:
        findings.append(_unreached(route, unreached[0], field))
    _limit([each for each in filters if each.type == "ExternalAuth"], field)
    closed = len(auth) < sum(each.type == "ExternalAuth" for each in filters)
    return Filters(mirrors=tuple(mirrors), auth=tuple(auth), closed=closed, **built)  # type: ignore[arg-type]


def unresolved(route: Route, fault: Fault, field: str) -> Finding:
    """The finding on a reference that cannot be followed."""
    return Finding(
        object=route.ref,
        severity=fault.severity,
        condition="ResolvedRefs",
        reason=fault.reason,
        message=f"{route.ref} {fault.message}",
        hint=fault.hint,
        field=field + fault.field,
    )


def _unreached(route: Route, filter_type: str, field: str) -> Finding:
    return Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="IncompatibleFilters",
        message=f"{route.ref} has a {filter_type} filter beside a RequestRedirect, which answers before it",
        hint="Remove one of the two, or give them rules of their own",
        field=field,
    )


def _unsupported(each: HTTPRouteFilter | GRPCRouteFilter, place: str) -> FilterError:
    hint = "Remove the filter; until then the requests that it is for are answered with 500"
    if each.type == "ExtensionRef" and each.extension_ref is not None:
        ref = each.extension_ref
        kind = f"{ref.group or 'core'}/{ref.kind}"
        return FilterError(f"{place}.extensionRef", f"has an ExtensionRef filter of unknown kind {kind}", hint)
    return FilterError(f"{place}.type", f"has a filter of type {each.type}, which is not supported", hint)


def _headers(modifier: HeaderModifier, place: str) -> HeaderChange:
    for part, names in (
        ("set", [header.name for header in modifier.set]),
        ("add", [header.name for header in modifier.add]),
        ("remove", list(modifier.remove)),
    ):
        for index, name in enumerate(names):
            if not _TOKEN.fullmatch(name):
                raise FilterError(
                    f"{place}.{part}[{index}]",
                    f"has {name!r} in a header modifier, which is no name of a header",
                    "Write letters, digits and '-'; until then the requests concerned are answered with 500",
                )
            if hint := _why_fixed(name.lower()):
                raise FilterError(
                    f"{place}.{part}[{index}]",
                    f"changes the header `{name}` by a header modifier, which is not possible",
                    hint,
                )
    return HeaderChange(_firsts(modifier.set), _firsts(modifier.add), tuple(modifier.remove))


def _firsts(headers: tuple[Header, ...]) -> tuple[tuple[str, str], ...]:
    """Of several names that differ in case only the first counts (Gateway API, HTTPHeader)."""
    found: dict[str, tuple[str, str]] = {}
    for header in headers:
        found.setdefault(header.name.lower(), (header.name, header.value))
    return tuple(found.values())


def _why_fixed(name: str) -> str:
    """What to do instead of changing a header field that no header modifier may touch; empty for all others."""
    if name == "host":
        return "Use a URLRewrite filter with `hostname` to change the Host"
    if name in _FRAMING_HEADERS:
        return "Leave it out: it belongs to the connection, and Envoy sets it; until then the answer is 500"
    return ""


def _path(path: PathModifier | None, place: str) -> PathChange | None:
    if path is None:
        return None
    for field, value in (
        ("replaceFullPath", path.replace_full_path or ""),
        ("replacePrefixMatch", path.replace_prefix_match or ""),
    ):
        if _CONTROL.search(value):
            raise FilterError(
                f"{place}.{field}",
                f"replaces the path by {value!r}, which holds a space or a control character",
                "Escape it, a space as %20; until then the requests concerned are answered with 500",
            )
    if path.type == "ReplaceFullPath":
        return PathChange("full", _rooted(path.replace_full_path or ""))
    prefix = (path.replace_prefix_match or "").rstrip("/")
    return PathChange("prefix", _rooted(prefix) if prefix else "")


def _rooted(path: str) -> str:
    """A path that begins with a slash, as every path of a request does."""
    return path if path.startswith("/") else f"/{path}"


def _redirect(redirect: RequestRedirect, place: str) -> Redirect:
    path = _path(redirect.path, place)
    return Redirect(redirect.status_code, redirect.scheme, redirect.hostname, redirect.port or 0, path)


def _cors(cors: CORS) -> Cors:
    """The filter as stated. Browsers allow GET, HEAD and POST whatever the answer lists (Fetch, CORS-safelisted)."""
    return Cors(
        origins=cors.allow_origins,
        methods=cors.allow_methods,
        headers=cors.allow_headers,
        expose=tuple(name for name in cors.expose_headers if name != "*" or not cors.allow_credentials),
        credentials=cors.allow_credentials,
        max_age_s=cors.max_age,
    )


def _exposes_all(route: Route, cors: CORS, field: str) -> Iterator[Finding]:
    if not cors.allow_credentials or "*" not in cors.expose_headers:
        return
    yield Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="UnsupportedValue",
        message=f"{route.ref} exposes all headers to requests with credentials, for which browsers take `*` as a name",
        hint="Name the headers; until then `*` is left out",
        field=field,
    )


def _limit(asking: Sequence[object], field: str) -> None:
    """Nothing passes where more services are to be asked than can be."""
    if len(asking) > MOST_SERVICES_OF_A_PLACE:
        raise FilterError(
            field,
            f"has {len(asking)} filters of type ExternalAuth, of which one place can have {MOST_SERVICES_OF_A_PLACE}",
            "Have one service ask the others; until then the requests concerned are answered with 500",
        )


def _ask(
    read: Read, route: Route, asking: ExternalAuth, field: str, findings: list[Finding]
) -> tuple[AuthService, ...]:
    """The service to be asked; none: it cannot be, which is told, and nothing may pass."""
    service = plan_external_auth(read, route.ref, asking)
    if isinstance(service, Fault):
        findings.append(unresolved(route, service, field))
        return ()
    findings.extend(unread_port(route, asking.backend_ref, field))
    return (service,)


def _mirror(read: Read, route: Route, mirror: RequestMirror, place: str, findings: list[Finding]) -> tuple[Mirror, ...]:
    target = resolve(read, route.ref, mirror.backend_ref, grpc=isinstance(route, GRPCRoute))
    if isinstance(target, Fault):
        findings.append(
            Finding(
                object=route.ref,
                severity=target.severity,
                condition="ResolvedRefs",
                reason=target.reason,
                message=f"{route.ref} mirrors to a backend that cannot be reached: it {target.message}",
                hint=target.hint,
                field=f"{place}.requestMirror.backendRef{target.field}",
            )
        )
        return ()
    findings.extend(unread_port(route, mirror.backend_ref, f"{place}.requestMirror.backendRef"))
    if mirror.fraction is not None:
        return (Mirror(target, mirror.fraction.numerator, mirror.fraction.denominator),)
    return (Mirror(target, mirror.percent if mirror.percent is not None else 100, 100),)
