"""A host plan in words: one line for each match in its order, `match -> where it goes {what else happens}`."""

from __future__ import annotations

from tripylon.model.plan import (
    ClusterKey,
    Destination,
    Filters,
    HeaderChange,
    HostKey,
    HostPlan,
    Match,
    Mirror,
    PathChange,
    Redirect,
    Rewrite,
    RouteEntry,
    RulePlan,
    Value,
)
from tripylon.model.stream_plans import StreamKey, StreamPlan


def host_name(key: HostKey) -> str:
    """`gateway:port host`; `/https` follows the port of HTTPS listeners, a namespace but `default` comes first."""
    table = key.table
    return (
        f"{_name(table.gateway.namespace, table.gateway.name)}:{table.port}"
        + ("/https" if table.secure else "")
        + f" {key.hostname or '*'}"
    )


def host_lines(plan: HostPlan) -> list[str]:
    return [f"by connections of {plan.rightful}"] * bool(plan.rightful) + [_line(entry) for entry in plan.entries]


def stream_name(key: StreamKey) -> str:
    """`gateway:port/listener`, and for TLS the server name behind it."""
    place = f"{_name(key.gateway.namespace, key.gateway.name)}:{key.port}/{key.listener}"
    return f"{place} {key.hostname or '*'}" if key.protocol == "TLS" else place


def stream_line(plan: StreamPlan) -> str:
    """`route -> where connections or sessions go`."""
    shares = [(each.weight, _cluster(each.cluster) if each.cluster is not None else "nowhere") for each in plan.shares]
    where = " | ".join(f"{weight} {target}" for weight, target in shares) if len(shares) > 1 else ""
    return f"{_name(plan.route.namespace, plan.route.name)} -> {where or (shares[0][1] if shares else 'nowhere')}"


def _line(entry: RouteEntry) -> str:
    extras = _extras(entry.rule)
    grpc = "grpc " if entry.grpc else ""
    return f"{grpc}{_match(entry.match)} -> {_where(entry.rule)}" + (f" {{{'; '.join(extras)}}}" if extras else "")


def _name(namespace: str, name: str) -> str:
    return name if namespace == "default" else f"{namespace}/{name}"


def _match(match: Match) -> str:
    paths = {"Exact": match.path, "PathPrefix": f"{match.path}/*", "RegularExpression": f"~{match.path}"}
    words = [match.method] if match.method else []
    words.append(paths[match.path_kind])
    words += [f"[{_value(each)}]" for each in match.headers]
    words += [f"?{_value(each)}" for each in match.query]
    return " ".join(words)


def _value(value: Value) -> str:
    return f"{value.name}{'~' if value.regex else '='}{value.value}"


def _where(rule: RulePlan) -> str:
    if rule.broken:
        return "broken"
    if rule.filters.redirect is not None:
        return _redirect(rule.filters.redirect)
    if not rule.destinations:
        return "nowhere"
    if len(rule.destinations) == 1:
        return _destination(rule.destinations[0])
    return " | ".join(f"{each.weight} {_destination(each)}" for each in rule.destinations)


def _destination(each: Destination) -> str:
    filters = _filters(each.filters)
    if each.filters.redirect is not None:
        filters.append(_redirect(each.filters.redirect))
    if each.session is not None:
        lasts = f" for {each.session.lasts_s}s" if each.session.lasts_s else ""
        path = f" at {each.session.path}" if each.session.path != "/" else ""
        filters.append(f"session by {each.session.kind} {each.session.name}{path}{lasts}")
    target = "broken" if each.broken else _cluster(each.cluster) if each.cluster is not None else "nowhere"
    return target + (f" ({', '.join(filters)})" if filters else "")


def _cluster(key: ClusterKey) -> str:
    port = f":{key.port}" if key.port else ""
    kind = "" if key.kind == "Service" else f"{key.kind} "
    tls = " tls" if key.tls and key.kind != "Backend" else ""
    return f"{kind}{_name(key.namespace, key.name)}{port}" + (" h2" if key.protocol == "http2" else "") + tls


def _redirect(redirect: Redirect) -> str:
    scheme = f"{redirect.scheme or '.'}://"
    port = f":{redirect.port}" if redirect.port else ""
    return f"redirect {redirect.status} {scheme}{redirect.hostname or '.'}{port}{_path(redirect.path)}"


def _path(path: PathChange | None) -> str:
    if path is None:
        return ""
    return f" path {path.value}" if path.kind == "full" else f" prefix {path.value or '/'}"


def _rewrite(rewrite: Rewrite) -> str:
    return "rewrite" + (f" host {rewrite.hostname}" if rewrite.hostname else "") + _path(rewrite.path)


def _filters(filters: Filters) -> list[str]:
    words: list[str] = []
    if filters.request_headers is not None:
        words.append(f"request {_headers(filters.request_headers)}")
    if filters.response_headers is not None:
        words.append(f"response {_headers(filters.response_headers)}")
    if filters.rewrite is not None:
        words.append(_rewrite(filters.rewrite))
    words += [_mirror(each) for each in filters.mirrors]
    if filters.cors is not None:
        words.append(f"cors {' '.join(filters.cors.origins) or 'nobody'}")
    words += [f"ask {'grpc' if each.grpc else 'http'} {_cluster(each.cluster)}" for each in filters.auth]
    return words


def _headers(change: HeaderChange) -> str:
    return " ".join(
        [f"{name}={value}" for name, value in change.set]
        + [f"{name}+={value}" for name, value in change.add]
        + [f"-{name}" for name in change.remove]
    )


def _mirror(mirror: Mirror) -> str:
    share = "" if mirror.numerator == mirror.denominator else f" {mirror.numerator}/{mirror.denominator}"
    return f"mirror {_cluster(mirror.cluster)}{share}"


def _extras(rule: RulePlan) -> list[str]:
    words = [f"rule {rule.name}"] if rule.name else []
    words += _filters(rule.filters)
    if rule.request_timeout_ms is not None:
        words.append(f"request timeout {rule.request_timeout_ms}ms")
    if rule.backend_timeout_ms is not None:
        words.append(f"backend timeout {rule.backend_timeout_ms}ms")
    if rule.retry is not None:
        codes = ",".join(map(str, rule.retry.codes))
        backoff = f" after {rule.retry.backoff_ms}ms" if rule.retry.backoff_ms else ""
        words.append(f"retry {rule.retry.attempts}" + (f" on {codes}" if codes else "") + backoff)
    return words
