"""Which listeners take a route, for every kind of route alike.

The order of judgement at a parent is section and port, then namespace and kind, then hostnames; the finding is about
the step that went furthest (Gateway API, RouteParentStatus). The invariant: what is wrong under one parent changes
nothing under another. What a route does where it is attached is worked out in `routes.py` and `streams.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.refs import ParentReference
from tripylon.api.streams import TCPRoute, UDPRoute
from tripylon.findings import Finding
from tripylon.graph import Read
from tripylon.model.gateway_heads import DEFAULT_GATEWAYS, GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.namespaces import allows
from tripylon.model.plan import HolderKey, HolderListeners, Listener, ParentPlan
from tripylon.values import Name, Ref, intersect_hostnames
from tripylon.world.world import Route

PARENT_KINDS = ("Gateway", "ListenerSet")


class Attached(NamedTuple):
    """What became of one parentRef: the gateway that it leads to, and the listeners that take the route, if any."""

    gateway: Name
    plan: ParentPlan
    listeners: tuple[Listener, ...]


class _Parent(NamedTuple):
    """What a parentRef names: a gateway, and the object whose listeners count."""

    gateway: Name
    holder: Ref
    listeners: HolderListeners | None
    """None: the gateway does not let the object in."""


def attach(read: Read, route: Route, findings: list[Finding]) -> Iterator[Attached]:
    """Each parentRef of a route that leads to a gateway of ours, with the listeners that take the route.

    Behind those that are written come the default gateways, if the route wants them (Gateway API, GEP-3793).
    """
    for index, ref in enumerate((*route.spec.parent_refs, *_defaults(read, route))):
        parent = _parent(read, route, index, ref, findings)
        if parent is not None:
            listeners = _listeners(read, route, index, ref, parent, findings)
            plan = ParentPlan(index, parent.gateway, tuple(listener.id for listener in listeners))
            yield Attached(parent.gateway, plan, listeners)


def _defaults(read: Read, route: Route) -> Iterator[ParentReference]:
    """References to the default gateways that a route wants and does not name itself."""
    if route.spec.use_default_gateways != "All":
        return
    named = {
        Name(ref.namespace or route.metadata.namespace, ref.name)
        for ref in route.spec.parent_refs
        if (ref.group, ref.kind) == (GATEWAY_GROUP, "Gateway")
    }
    for gateway in sorted(read.members(DEFAULT_GATEWAYS, "All")):
        if gateway not in named and read.get(GATEWAY_HEADS, gateway) is not None:
            yield default_parent(gateway)


def default_parent(gateway: Name) -> ParentReference:
    """A default gateway as a route would name it; its status does so."""
    return ParentReference(namespace=gateway.namespace, name=gateway.name)


def _field(route: Route, index: int) -> str:
    """What brought a parent in."""
    return f"spec.parentRefs[{index}]" if index < len(route.spec.parent_refs) else "spec.useDefaultGateways"


def intersections(route: Route, listener: Listener) -> list[tuple[str, str]]:
    """(intersection, the route's own hostname) for each hostname of the route that overlaps the listener's."""
    hostnames = () if isinstance(route, TCPRoute | UDPRoute) else route.spec.hostnames
    return [
        (common, own)
        for own in (hostnames or ("",))
        if (common := intersect_hostnames(listener.hostname, own)) is not None
    ]


def _parent(read: Read, route: Route, index: int, ref: ParentReference, findings: list[Finding]) -> _Parent | None:
    """The gateway of ours that a parentRef names, if it does; a parent that is not there is told, but has no status."""
    if ref.group != GATEWAY_GROUP or ref.kind not in PARENT_KINDS:
        if ref.group == GATEWAY_GROUP:
            findings.append(_unknown_kind(route, index, ref))
        return None
    holder = Ref(ref.group, ref.kind, ref.namespace or route.metadata.namespace, ref.name)
    set_ = read.get(LISTENER_SET_PLANS, holder.key) if ref.kind == "ListenerSet" else None
    gateway = set_.gateway if set_ is not None else holder.key
    listeners = read.get(LISTENERS, _key(gateway, holder))
    # A Gateway of ours has a row, since it states some listener.
    if set_ is None and (ref.kind == "ListenerSet" or listeners is None):
        findings.append(_missing(route, index, holder))
        return None
    return _Parent(gateway, holder, listeners)


@lru_cache(maxsize=4096)
def _key(gateway: Name, holder: Ref) -> HolderKey:
    """One object for all routes of a parent, since each of them holds on to it."""
    return HolderKey(gateway, holder)


def _missing(route: Route, index: int, parent: Ref) -> Finding:
    return Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="NoMatchingParent",
        message=f"{route.ref} names {parent.kind} `{parent.key}` as parent, which does not exist here",
        hint=f"Create the {parent.kind}, or correct name and namespace of the parentRef",
        field=f"spec.parentRefs[{index}]",
        parent=index,
    )


def _unknown_kind(route: Route, index: int, parent: ParentReference) -> Finding:
    """A parent of a kind that other gateways have; those of foreign groups are others' business."""
    return Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="NoMatchingParent",
        message=f"{route.ref} names {parent.kind} `{parent.name}` as parent, a kind that is not supported",
        hint="Name a Gateway or a ListenerSet",
        field=f"spec.parentRefs[{index}].kind",
        parent=index,
    )


class _Fault(NamedTuple):
    reason: str
    message: str
    hint: str


def _listeners(
    read: Read, route: Route, index: int, ref: ParentReference, parent: _Parent, findings: list[Finding]
) -> tuple[Listener, ...]:
    """The listeners that take the route under one parentRef; none: a finding says at which step it failed."""
    found = _judge(read, route, ref, parent)
    if not isinstance(found, _Fault):
        return found
    findings.append(
        Finding(
            object=route.ref,
            condition="Accepted",
            reason=found.reason,
            message=f"{route.ref} is not attached: {parent.holder.kind} `{parent.holder.key}` has {found.message}",
            hint=found.hint,
            field=_field(route, index),
            parent=index,
        )
    )
    return ()


def _judge(read: Read, route: Route, ref: ParentReference, parent: _Parent) -> tuple[Listener, ...] | _Fault:
    if parent.listeners is None:
        return _Fault(
            "NoMatchingParent",
            f"no listener, since Gateway `{parent.gateway}` does not let it in",
            f"See the status of {parent.holder}",
        )
    named = [
        listener
        for listener in parent.listeners.listeners
        if (not ref.section_name or listener.name == ref.section_name)
        and (ref.port is None or listener.port == ref.port)
    ]
    if not named:
        return _no_such_listener(ref)
    kind, space = (GATEWAY_GROUP, route.ref.kind), route.metadata.namespace
    allowed = [
        listener
        for listener in named
        if kind in listener.kinds and allows(read, listener.namespaces, parent.holder.namespace, space)
    ]
    if not allowed:
        return _Fault(
            "NotAllowedByListeners",
            f"no listener that allows {route.ref.kind}s of namespace `{space}`",
            "Allow it by the listener's `allowedRoutes`",
        )
    fitting = tuple(listener for listener in allowed if intersections(route, listener))
    if not fitting:
        hosts = ", ".join(sorted(f"`{listener.hostname}`" for listener in allowed))
        return _Fault(
            "NoMatchingListenerHostname",
            f"no listener whose hostname fits those of the route; there are {hosts}",
            "Name a hostname that a listener covers",
        )
    return fitting


def _no_such_listener(ref: ParentReference) -> _Fault:
    wanted = " and ".join(
        ([f"named `{ref.section_name}`"] if ref.section_name else [])
        + ([f"on port {ref.port}"] if ref.port is not None else [])
    )
    return _Fault("NoMatchingParent", f"no listener {wanted}", "Correct `sectionName` or `port` of the parentRef")
