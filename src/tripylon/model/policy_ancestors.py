"""Which Gateways a BackendTLSPolicy or an XBackend concerns: those through which a route refers to what it stands for,
those with a listener that asks it whether requests may pass, and those that send spans there.

The invariant: a Gateway is an ancestor as long as some attached route or listener of it may refer to the Service,
whether or not the Service or its policy can be used; what may not be referred to is not told to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tripylon.api.filters import GRPCRouteFilter, HTTPRouteFilter
from tripylon.api.gateway import Gateway
from tripylon.api.ingress import INGRESS_GROUP, Ingress
from tripylon.api.listener_sets import ListenerSet
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.policies import BackendTLSPolicy
from tripylon.api.refs import BackendObjectReference
from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.api.x_backends import X_GROUP
from tripylon.api.x_policies import XBackendTrafficPolicy, XTelemetryPolicy
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.ingress_places import INGRESS_PLACES
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES
from tripylon.values import Built, Name, Ref
from tripylon.world.grants import may_refer
from tripylon.world.world import (
    BACKEND_TLS_POLICIES,
    GATEWAYS,
    INGRESSES,
    LISTENER_SETS,
    ROUTES,
    TELEMETRY_POLICIES,
    X_BACKEND_TRAFFIC_POLICIES,
    X_BACKENDS,
    Route,
)


def services_of(ref: Ref, route: Route) -> Iterable[Name]:
    """The Services that a route refers to, those of mirrors and of services that are asked included."""
    return _named(ref, route, "", "Service")


def x_backends_of(ref: Ref, route: Route) -> Iterable[Name]:
    """The XBackends of its own namespace that a route refers to."""
    return (name for name in _named(ref, route, X_GROUP, "XBackend") if name.namespace == ref.namespace)


def _named(ref: Ref, route: Route, group: str, kind: str) -> Iterable[Name]:
    return dict.fromkeys(
        Name(each.namespace or ref.namespace, each.name)
        for each in references_of(route)
        if (each.group, each.kind) == (group, kind)
    )


def references_of(route: Route) -> Iterator[BackendObjectReference]:
    """Every reference to a backend in a route."""
    for rule in route.spec.rules:
        yield from rule.backend_refs
    if isinstance(route, HTTPRoute | GRPCRoute):
        for each in route.spec.rules:
            yield from _of_filters(each.filters)
            for backend in each.backend_refs:
                yield from _of_filters(backend.filters)


def _of_filters(filters: Iterable[HTTPRouteFilter | GRPCRouteFilter]) -> Iterator[BackendObjectReference]:
    for each in filters:
        if each.request_mirror is not None:
            yield each.request_mirror.backend_ref
        if isinstance(each, HTTPRouteFilter) and each.external_auth is not None:
            yield each.external_auth.backend_ref


def _services_of_ingress(name: Name, ingress: Ingress) -> Iterable[Name]:
    paths = (path for rule in ingress.spec.rules if rule.http is not None for path in rule.http.paths)
    backends = (ingress.spec.default_backend, *(path.backend for path in paths))
    return (Name(name.namespace, each.service.name) for each in backends if each is not None and each.service)


ROUTES_BY_SERVICE: Index[Name, Ref, Route] = Index("routes by service", ROUTES, services_of)
INGRESSES_BY_SERVICE: Index[Name, Name, Ingress] = Index("ingresses by service", INGRESSES, _services_of_ingress)
ROUTES_BY_X_BACKEND: Index[Name, Ref, Route] = Index("routes by xbackend", ROUTES, x_backends_of)


def _collector(group: str, kind: str) -> Callable[[Name, XTelemetryPolicy], Iterator[Name]]:
    """The name of a policy's collector if it is of a kind."""

    def named(policy: Name, value: XTelemetryPolicy) -> Iterator[Name]:
        provider = value.spec.tracing.provider if value.spec.tracing is not None else None
        ref = provider.backend_ref if provider is not None else None
        if ref is not None and (ref.group, ref.kind) == (group, kind):
            yield Name(ref.namespace or policy.namespace, ref.name)

    return named


TRACED_BY_SERVICE: Index[Name, Name, XTelemetryPolicy] = Index(
    "telemetry policies by service", TELEMETRY_POLICIES, _collector("", "Service")
)
TRACED_BY_X_BACKEND: Index[Name, Name, XTelemetryPolicy] = Index(
    "telemetry policies by xbackend", TELEMETRY_POLICIES, _collector(X_GROUP, "XBackend")
)


def _asked(name: Name, holder: Gateway | ListenerSet) -> Iterable[Ref]:
    """What listeners ask whether requests may pass."""
    filters = (each.filters.requests for each in holder.spec.listeners if each.filters is not None)
    refs = (each.external_auth.backend_ref for requests in filters for each in requests if each.external_auth)
    return dict.fromkeys(Ref(ref.group, ref.kind, ref.namespace or name.namespace, ref.name) for ref in refs)


GATEWAYS_BY_ASKED: Index[Ref, Name, Gateway] = Index("gateways by asked backend", GATEWAYS, _asked)
SETS_BY_ASKED: Index[Ref, Name, ListenerSet] = Index("listenersets by asked backend", LISTENER_SETS, _asked)
ANCESTORS: Table[Name, tuple[Name, ...]] = Table("ancestors of backend tls policies")
"""By BackendTLSPolicy: the Gateways that it concerns, sorted."""
TRAFFIC_ANCESTORS: Table[Name, tuple[Name, ...]] = Table("ancestors of backend traffic policies")
"""By XBackendTrafficPolicy: the Gateways that it concerns, sorted."""
X_BACKEND_ANCESTORS: Table[Name, tuple[Name, ...]] = Table("ancestors of xbackends")
"""By XBackend: the Gateways that reach it, sorted."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The step from policies to their Gateways; it comes after routes."""
    return (
        Derive(ANCESTORS, (BACKEND_TLS_POLICIES,), find_ancestors),
        Derive(TRAFFIC_ANCESTORS, (X_BACKEND_TRAFFIC_POLICIES,), find_traffic_ancestors),
        Derive(X_BACKEND_ANCESTORS, (X_BACKENDS,), find_x_ancestors),
    )


def find_ancestors(read: Read, name: Name) -> Built[tuple[Name, ...], Finding] | None:
    """The Gateways whose routes refer to a policy's Services."""
    policy = read.get(BACKEND_TLS_POLICIES, name)
    if policy is None:
        return None
    found: set[Name] = set()
    for service in _services(policy):
        for route in users(read, service.key):
            if may_refer(read, route, service):
                found.update(_gateways(read, route, originating=True))
        for tracing in read.lookup(TRACED_BY_SERVICE, service.key):
            if may_refer(read, tracing.ref, service):
                found.update(_traced(read, tracing))
        found.update(_asking(read, service))
    return Built(tuple(sorted(found)))


def find_traffic_ancestors(read: Read, name: Name) -> Built[tuple[Name, ...], Finding] | None:
    """The Gateways whose routes for requests refer to a policy's Services."""
    policy = read.get(X_BACKEND_TRAFFIC_POLICIES, name)
    if policy is None:
        return None
    found: set[Name] = set()
    for service in _services(policy):
        for route in users(read, service.key):
            plan = read.get(ROUTE_PLANS, route)
            if plan is not None and may_refer(read, route, service):
                found.update(parent.gateway for parent in plan.parents if parent.listeners)
    return Built(tuple(sorted(found)))


def _services(policy: BackendTLSPolicy | XBackendTrafficPolicy) -> Iterator[Ref]:
    """The Services that a policy is for; they are of its own namespace."""
    for target in policy.spec.target_refs:
        if (target.group, target.kind) == ("", "Service"):
            yield Ref("", "Service", policy.key.namespace, target.name)


def users(read: Read, service: Name) -> Iterator[Ref]:
    """The routes, and the Ingresses of ours, that refer to a Service."""
    yield from read.members(ROUTES_BY_SERVICE, service)
    for name in read.members(INGRESSES_BY_SERVICE, service):
        if read.get(INGRESS_PLACES, name) is not None:
            yield Ref(INGRESS_GROUP, "Ingress", *name)


def find_x_ancestors(read: Read, name: Name) -> Built[tuple[Name, ...], Finding] | None:
    """The Gateways whose routes refer to an XBackend."""
    if read.get(X_BACKENDS, name) is None:
        return None
    routes = read.members(ROUTES_BY_X_BACKEND, name)
    found = {gateway for route in routes for gateway in _gateways(read, route, originating=False)}
    for policy in read.lookup(TRACED_BY_X_BACKEND, name):
        if policy.key.namespace == name.namespace:
            found.update(_traced(read, policy))
    found.update(_asking(read, Ref(X_GROUP, "XBackend", *name)))
    return Built(tuple(sorted(found)))


def _asking(read: Read, target: Ref) -> Iterator[Name]:
    """The gateways of which some listener asks a backend, and may; an XBackend is for its own namespace."""
    holders = [(Ref(GATEWAY_GROUP, "Gateway", *name), name) for name in read.members(GATEWAYS_BY_ASKED, target)]
    for name in read.members(SETS_BY_ASKED, target):
        set_ = read.get(LISTENER_SET_PLANS, name)
        if set_ is not None and set_.admitted:
            holders.append((Ref(GATEWAY_GROUP, "ListenerSet", *name), set_.gateway))
    for holder, gateway in holders:
        own = holder.namespace == target.namespace
        if (own or (target.kind == "Service" and may_refer(read, holder, target))) and (
            read.get(GATEWAY_HEADS, gateway) is not None
        ):
            yield gateway


def _traced(read: Read, policy: XTelemetryPolicy) -> Iterator[Name]:
    """The gateways that a policy is for."""
    for target in policy.spec.target_refs:
        name = Name(policy.key.namespace, target.name)
        if (target.group, target.kind) == (GATEWAY_GROUP, "Gateway") and read.get(GATEWAY_HEADS, name) is not None:
            yield name


def _gateways(read: Read, route: Ref, *, originating: bool) -> Iterator[Name]:
    """Those whose listeners take the route; with `originating`, only where TLS to the backend could be up to us."""
    plan, stream = read.get(ROUTE_PLANS, route), read.get(STREAM_ROUTES, route)
    for parent in plan.parents if plan is not None else ():
        if parent.listeners:
            yield parent.gateway
    for attachment in stream.attachments if stream is not None else ():
        if not originating or (attachment.terminated and attachment.key.protocol != "UDP"):
            yield attachment.key.gateway
