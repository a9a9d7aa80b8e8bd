"""What may answer one request, read from manifests by the words of the Gateway API, as plainly as can be.

Hostname choice, listener isolation and 421 (Listener.hostname), attachment (ParentReference, allowedRoutes), precedence
(HTTPRouteRule.matches, GRPCRouteRule.matches, the route's own hostname first) and what becomes of backends. Where the
text leaves a choice, such as between an HTTPRoute and a GRPCRoute of one hostname, every answer that it allows is in
the set. Nothing here is taken from the product, which is held against it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tests.laws.listener_rules import Written, refused

Manifest = dict[str, Any]
Rank = tuple[Any, ...]


class Asked(NamedTuple):
    """One request; `sni` is None on a port without TLS, and empty when the client sends no server name."""

    port: int
    host: str
    path: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    sni: str | None = None
    grpc: bool = False


class Listener(NamedTuple):
    """A listener that is served, and the object that it stands in."""

    holder: Manifest
    spec: Manifest

    @property
    def hostname(self) -> str:
        return str(self.spec.get("hostname", "")).lower()

    def shares_names(self, route: Manifest) -> bool:
        """Whether some hostname of a route overlaps the listener's."""
        return any(overlap(self.hostname, own) for own in route["spec"].get("hostnames") or ("",))


class Winner(NamedTuple):
    """The rule that answers."""

    route: Manifest
    place: int
    match: Manifest
    """The match that holds, of those of the rule the first in precedence."""

    @property
    def rule(self) -> Manifest:
        return dict(self.route["spec"]["rules"][self.place])

    @property
    def name(self) -> str:
        metadata = self.route["metadata"]
        return f"{self.route['kind']} {metadata['namespace']}/{metadata['name']} {self.place}"


Ranks = Callable[[Manifest, Asked], Iterator[tuple[Rank, Manifest]]]
"""The matches of a rule that hold, with their places in the kind's own order: the greater, the earlier."""


class Reading:
    """All objects of one gateway, its ListenerSets and what else they refer to."""

    def __init__(self, gateway: Manifest, objects: Iterable[Manifest]) -> None:
        self.objects = tuple(objects)
        self.routes = [each for each in self.objects if each["kind"] in ("HTTPRoute", "GRPCRoute")]
        self.listeners = _listeners(gateway, self.objects)

    def answers(self, asked: Asked) -> frozenset[str]:
        """Every answer that the specification allows, in words: a status, or a backend and the rule that chose it."""
        host = asked.host.partition(":")[0].lower()
        here = [
            each
            for each in self.listeners
            if each.spec["port"] == asked.port and (each.spec["protocol"] == "HTTPS") == (asked.sni is not None)
        ]
        rightful = most_specific(here, host)
        if asked.sni is not None:
            connected = most_specific(here, asked.sni)
            if connected is None:
                return frozenset({"closed"})
            if rightful is not None and rightful is not connected:
                return frozenset({"421"})
        if rightful is None:
            return frozenset({"404"})
        winners = self.winners(rightful, host, asked)
        if not winners:
            return frozenset({"404"})
        return frozenset(answer for winner in winners for answer in self._outcomes(winner, asked))

    def winners(self, listener: Listener, host: str, asked: Asked) -> list[Winner]:
        """The rules that may answer: the best one, or the best of either kind when both kinds have its hostname."""
        best: dict[str, tuple[Rank, Winner]] = {}
        for route in self.routes:
            if self.attached(route, listener):
                for rank, winner in matching(route, host, asked):
                    known = best.get(route["kind"])
                    if known is None or rank < known[0]:
                        best[route["kind"]] = (rank, winner)
        hostname = min((rank[0] for rank, _ in best.values()), default=None)
        return [winner for rank, winner in best.values() if rank[0] == hostname]

    def attached_to(self, route: Manifest) -> list[Listener]:
        """The listeners that a route is attached to, with hostnames in common."""
        return [each for each in self.listeners if self.attached(route, each) and each.shares_names(route)]

    def attached(self, route: Manifest, listener: Listener) -> bool:
        """Whether a parentRef means the listener, and the listener lets the route in."""
        holder, space = listener.holder, route["metadata"]["namespace"]
        allowed = listener.spec.get("allowedRoutes", {})
        kinds = [kind["kind"] for kind in allowed.get("kinds", ())]
        if kinds and route["kind"] not in kinds:
            return False
        if allowed.get("namespaces", {}).get("from", "Same") == "Same" and space != holder["metadata"]["namespace"]:
            return False
        return any(
            parent.get("kind", "Gateway") == holder["kind"]
            and (parent.get("namespace", space), parent["name"]) == key(holder)
            and parent.get("sectionName", listener.spec["name"]) == listener.spec["name"]
            and parent.get("port", listener.spec["port"]) == listener.spec["port"]
            for parent in route["spec"]["parentRefs"]
        )

    def _outcomes(self, winner: Winner, asked: Asked) -> Iterator[str]:
        for one in winner.rule.get("filters", ()):
            if one["type"] == "RequestRedirect":
                redirect = one["requestRedirect"]
                yield f"{redirect.get('statusCode', 302)} to {redirect['hostname']}:{asked.port}"
                return
        shares = [each for each in winner.rule.get("backendRefs", ()) if each.get("weight", 1)]
        if not shares:
            yield f"500 by {winner.name}"
        for each in shares:
            yield from self._share(winner, each, asked)

    def _share(self, winner: Winner, backend: Manifest, asked: Asked) -> Iterator[str]:
        """What the part of the requests gets that goes to one backend."""
        source, kind = winner.route["metadata"]["namespace"], winner.route["kind"]
        space = backend.get("namespace", source)
        granted = space == source or any(
            {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": source} in each["spec"]["from"]
            for each in self.objects
            if each["kind"] == "ReferenceGrant" and each["metadata"]["namespace"] == space
        )
        exists = any(each["kind"] == "Service" and key(each) == (space, backend["name"]) for each in self.objects)
        if not granted or not exists or backend.get("kind", "Service") != "Service":
            yield f"500 by {winner.name}"
            return
        ready = any(
            each["kind"] == "EndpointSlice"
            and each["metadata"]["namespace"] == space
            and each["metadata"]["labels"]["kubernetes.io/service-name"] == backend["name"]
            and each["endpoints"]
            for each in self.objects
        )
        if not ready:
            yield f"503 by {winner.name}"
            return
        query = "&".join(f"{name}={value}" for name, value in asked.query)
        for path in rewritten(winner, asked.path):
            yield f"{backend['name']} got {path}{'?' + query if query else ''} by {winner.name}"


def rewritten(winner: Winner, path: str) -> set[str]:
    """What a backend may get to see for a path (HTTPPathModifier)."""
    changes = [each["urlRewrite"]["path"] for each in winner.rule.get("filters", ()) if each["type"] == "URLRewrite"]
    if not changes:
        return {path}
    if changes[0]["type"] == "ReplaceFullPath":
        return {changes[0]["replaceFullPath"]}
    prefix, new = winner.match["path"]["value"], changes[0]["replacePrefixMatch"]
    rest, start = path[len(prefix.rstrip("/")) :], new.rstrip("/")
    found = {start + rest or "/"}
    if start and ((not rest and new.endswith("/")) or (rest == "/" and prefix == "/")):
        found |= {start, f"{start}/"}  # of the whole path being replaced the text's table does not show these
    return found


def key(manifest: Manifest) -> tuple[str, str]:
    """Namespace and name."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _listeners(gateway: Manifest, objects: tuple[Manifest, ...]) -> list[Listener]:
    """What is served of the gateway's own listeners and those of its ListenerSets, oldest set first."""
    sets = [each for each in objects if each["kind"] == "ListenerSet"]
    sets.sort(key=lambda each: (each["metadata"]["creationTimestamp"], *key(each)))
    holders = [gateway, *sets]
    written = [
        Written(place, each["name"], each["port"], each["protocol"], each.get("hostname", ""))
        for place, holder in enumerate(holders)
        for each in holder["spec"]["listeners"]
    ]
    lost = refused(written)
    return [
        Listener(holder, each)
        for place, holder in enumerate(holders)
        for each in holder["spec"]["listeners"]
        if (place, each["name"]) not in lost
    ]


def most_specific(listeners: Iterable[Listener], host: str) -> Listener | None:
    """The one listener that a host, or a server name, belongs to."""
    covering = [each for each in listeners if covers(each.hostname, host)]
    return max(covering, key=lambda each: specificity(each.hostname), default=None)


def covers(pattern: str, host: str) -> bool:
    """Whether a hostname, perhaps with a wildcard of one or more labels, covers a precise one."""
    if pattern == "":
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and host != pattern[1:]
    return host == pattern


def overlap(one: str, other: str) -> bool:
    """Whether two hostnames, perhaps with wildcards, have names in common."""
    return one == other or covers(one, other) or covers(other, one)


def specificity(hostname: str) -> tuple[int, int]:
    """Exact before wildcard before none; among wildcards the one with more labels behind the star."""
    return (0 if hostname == "" else 1 if hostname.startswith("*.") else 2), hostname.count(".")


def matching(route: Manifest, host: str, asked: Asked) -> Iterator[tuple[Rank, Winner]]:
    """The rules of a route that take a request, each with its place in the order of precedence, least first."""
    own = [name for name in route["spec"].get("hostnames") or ("",) if covers(name, host)]
    if not own:
        return
    kind, labels = max(map(specificity, own))
    ranks: Callable[[Manifest, Asked], Iterator[tuple[Rank, Manifest]]] = (
        grpc_ranks if route["kind"] == "GRPCRoute" else http_ranks
    )
    for index, rule in enumerate(route["spec"]["rules"]):
        for rank, match in ranks(rule, asked):
            age = (route["metadata"]["creationTimestamp"], *key(route))
            yield ((-kind, -labels), tuple(-part for part in rank), age, index), Winner(route, index, match)


def http_ranks(rule: Manifest, asked: Asked) -> Iterator[tuple[Rank, Manifest]]:
    """For each match that holds: exact path, longest prefix, method, number of headers, number of parameters.

    Regular expressions stand between exact paths and prefixes, the longer one first: the text leaves that to us.
    """
    for match in _matches(rule):
        path = match.get("path", {"type": "PathPrefix", "value": "/"})
        value = path["value"]
        match path["type"]:
            case "Exact":
                kind, holds = 2, asked.path == value
            case "RegularExpression":
                kind, holds = 1, re.fullmatch(value, asked.path) is not None
            case _:
                value = value.rstrip("/")
                kind, holds = 0, asked.path == value or asked.path.startswith(value + "/")
        headers, query = match.get("headers", ()), match.get("queryParams", ())
        if (
            holds
            and match.get("method", asked.method) == asked.method
            and fields(headers, [(name.lower(), text) for name, text in asked.headers], str.lower)
            and fields(query, list(asked.query), str)
        ):
            different = len({each["name"].lower() for each in headers})
            rank = (kind, len(value), "method" in match, different, len({each["name"] for each in query}))
            yield rank, match


def grpc_ranks(rule: Manifest, asked: Asked) -> Iterator[tuple[Rank, Manifest]]:
    """For each match that holds: characters of the service, of the method, number of headers."""
    service, _, method = asked.path.removeprefix("/").partition("/")
    for match in _matches(rule):
        wanted = match.get("method", {})
        headers = match.get("headers", ())
        if (
            asked.grpc
            and (not wanted.get("service") or wanted["service"] == service)
            and (not wanted.get("method") or wanted["method"] == method)
            and fields(headers, [(name.lower(), text) for name, text in asked.headers], str.lower)
        ):
            different = len({each["name"].lower() for each in headers})
            yield (len(wanted.get("service", "")), len(wanted.get("method", "")), different), match


def _matches(rule: Manifest) -> list[Manifest]:
    """The matches of a rule; one that takes everything stands for none."""
    return rule.get("matches") or [{}]


def fields(conditions: Iterable[Manifest], given: list[tuple[str, str]], fold: Callable[[str], str]) -> bool:
    """Whether every condition holds: of conditions with one name the first counts, of parameters the first value."""
    first: dict[str, Manifest] = {}
    for each in conditions:
        first.setdefault(fold(each["name"]), each)
    for name, each in first.items():
        value = next((text for known, text in given if known == name), None)
        if value is None:
            return False
        regex = each.get("type", "Exact") == "RegularExpression"
        if not (re.fullmatch(each["value"], value) if regex else each["value"] == value):
            return False
    return True
