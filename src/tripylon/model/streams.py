"""TLSRoute, TCPRoute and UDPRoute → who is served where: connections and datagrams that nobody looks into.

A place is a listener, and in one of protocol TLS a hostname of it, since a proxy takes but one route for each. Among
routes that want the same place the one with the most specific hostname of its own has it, then the oldest, then the
first by namespace and name; the others stay accepted, for they follow when it goes (Gateway API, TLSRoute, TCPRoute).
The invariant: a place that a more specific listener of the port covers is never given to a route of a wider one.
Read `envoy/streams.py` next.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from tripylon.api.streams import TCPRoute, TLSRoute, UDPRoute
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read
from tripylon.model.attachment import attach, intersections
from tripylon.model.backends import Fault, Stream, resolve, unread_port
from tripylon.model.client_certificates import CLIENT_CERTIFICATES, reached
from tripylon.model.filters import unresolved
from tripylon.model.plan import Listener, ParentPlan
from tripylon.model.served import takes
from tripylon.model.stream_plans import (
    ROUTES_BY_STREAM,
    STREAM_ROUTES,
    STREAMS,
    Share,
    StreamAttachment,
    StreamKey,
    StreamPlan,
    StreamProtocol,
    StreamRoutePlan,
)
from tripylon.values import Built, Name, Ref, hostname_specificity
from tripylon.world.world import ROUTES, Route

StreamRoute = TLSRoute | TCPRoute | UDPRoute

PROTOCOLS: dict[str, StreamProtocol] = {"TLSRoute": "TLS", "TCPRoute": "TCP", "UDPRoute": "UDP"}
"""The kinds, each with the protocol of the listeners that take it."""

STREAM_OBJECTS: Index[Ref, Ref, Route] = Index(
    "stream routes", ROUTES, lambda ref, _: (ref,) if ref.kind in PROTOCOLS else ()
)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from route objects to the places that they want, and from places to who has them."""
    return (
        Derive(STREAM_ROUTES, (STREAM_OBJECTS,), plan_stream_route),
        Derive(STREAMS, (ROUTES_BY_STREAM,), plan_stream),
    )


def plan_stream_route(read: Read, ref: Ref) -> Built[StreamRoutePlan, Finding] | None:
    """One route, resolved: its parents, the places it wants there, and where it leads."""
    route = read.get(ROUTES, ref)
    if not isinstance(route, StreamRoute):
        return None
    findings: list[Finding] = []
    parents: list[ParentPlan] = []
    attachments: dict[StreamAttachment, None] = {}
    for parent in attach(read, route, findings):
        parents.append(parent.plan)
        for listener in parent.listeners:
            attachments.update(dict.fromkeys(_attachments(read, route, parent.gateway, listener)))
    passed = any(not attachment.terminated for attachment in attachments)
    plan = StreamRoutePlan(
        ref,
        route.metadata.creation_timestamp,
        tuple(parents),
        tuple(sorted(attachments)),
        shares=_shares(read, route, findings),
        passed=_shares(read, route, [], originates=False) if passed else (),
    )
    findings.extend(_left_out(route))
    return Built(plan, tuple(findings))


def plan_stream(read: Read, key: StreamKey) -> Built[StreamPlan, Finding] | None:
    """Who has a place, and its destinations as the gateway reaches them."""
    wanting = read.lookup(ROUTES_BY_STREAM, key)
    if not wanting:
        return None
    first = min(wanting, key=lambda route: _precedence(route, key))
    terminated = any(each.terminated for each in _wishes(first, key))
    client = read.get(CLIENT_CERTIFICATES, key.gateway)
    shares = tuple(
        share._replace(cluster=reached(share.cluster, client) if share.cluster is not None else None)
        for share in (first.shares if terminated else first.passed)
    )
    return Built(StreamPlan(key, first.ref, shares))


def _attachments(read: Read, route: StreamRoute, gateway: Name, listener: Listener) -> Iterator[StreamAttachment]:
    """The places that a route wants through one listener: hostnames that belong to no more specific listener."""
    if not listener.usable:
        return
    protocol = PROTOCOLS[route.ref.kind]
    for common, own in intersections(route, listener):
        if protocol != "TLS" or takes(read, gateway, listener, common):
            key = StreamKey(gateway, listener.port, protocol, listener.id, common)
            yield StreamAttachment(key, own, terminated=protocol != "TLS" or listener.terminates)


def _wishes(route: StreamRoutePlan, key: StreamKey) -> Iterator[StreamAttachment]:
    """The attachments of a route to one place: it may want it by several of its hostnames."""
    at = bisect_left(route.attachments, (key,))
    while at < len(route.attachments) and route.attachments[at].key == key:
        yield route.attachments[at]
        at += 1


def _precedence(route: StreamRoutePlan, key: StreamKey) -> tuple[object, ...]:
    """Sort key of those who want a place, least first."""
    rank = max(hostname_specificity(each.own_hostname) for each in _wishes(route, key))
    return (-rank[0], -rank[1], not route.created, route.created, route.ref.namespace, route.ref.name)


def _shares(read: Read, route: StreamRoute, findings: list[Finding], *, originates: bool = True) -> tuple[Share, ...]:
    """The backends of the first rule that get a share; one that cannot be reached keeps it."""
    stream: Stream = "udp" if isinstance(route, UDPRoute) else "tcp"
    found: list[Share] = []
    for index, backend in enumerate(route.spec.rules[0].backend_refs if route.spec.rules else ()):
        field = f"spec.rules[0].backendRefs[{index}]"
        target = resolve(read, route.ref, backend, stream=stream, originates=originates)
        if isinstance(target, Fault):
            findings.append(unresolved(route, target, field))
        findings.extend(unread_port(route, backend, field))
        if backend.weight:
            found.append(Share(backend.weight, None if isinstance(target, Fault) else target))
    return tuple(found)


def _left_out(route: StreamRoute) -> Iterator[Finding]:
    """Older versions of the kinds allow several rules, without a word on which of them a connection takes."""
    if len(route.spec.rules) > 1:
        yield Finding(
            object=route.ref,
            condition="PartiallyInvalid",
            reason="UnsupportedValue",
            message=f"Dropped Rule: {route.ref} has {len(route.spec.rules)} rules, of which the first takes everything",
            hint="Put all backends into one rule, with weights",
            field="spec.rules[1]",
        )
