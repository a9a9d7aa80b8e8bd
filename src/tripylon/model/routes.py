"""HTTPRoute and GRPCRoute → route plans: where a route is attached, and what each of its rules does.

The order of judgement at a parent is section and port, then namespace and kind, then hostnames; the finding is about
the step that went furthest (Gateway API, RouteParentStatus). The invariant: what is wrong under one parent changes
nothing under another. What a rule does is worked out in `rules.py`; read it next.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.refs import ParentReference
from tripylon.api.routes import GRPCRoute
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.listeners import owner
from tripylon.model.namespaces import allows
from tripylon.model.plan import Attachment, ClusterKey, GatewayPlan, HostKey, Listener, ParentPlan, RoutePlan, RulePlan
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.rules import plan_grpc_rules, plan_http_rules
from tripylon.values import Built, Name, Ref, intersect_hostnames
from tripylon.world.world import ROUTES, Route

ROUTES_BY_LISTENER: Index[tuple[Name, str], Ref, RoutePlan] = Index(
    "routes by listener",
    ROUTE_PLANS,
    lambda _, route: (
        {(parent.gateway, listener) for parent in route.parents for listener in parent.listeners}
        if route.accepted
        else ()
    ),
)
"""The accepted routes of each (gateway, listener): what `attachedRoutes` counts."""


def derives() -> tuple[Derive[Ref, RoutePlan], ...]:
    """The step from route objects to route plans."""
    return (Derive(ROUTE_PLANS, (ROUTES,), plan_route),)


def plan_route(read: Read, ref: Ref) -> Built[RoutePlan, Finding] | None:
    """One route, resolved: its parents, the hostnames it serves there, and its rules."""
    route = read.get(ROUTES, ref)
    if route is None:
        return None
    findings: list[Finding] = []
    parents: list[ParentPlan] = []
    attachments: dict[Attachment, None] = {}
    for index, parent in enumerate(route.spec.parent_refs):
        gateway = _gateway(read, route, index, parent, findings)
        if gateway is None:
            continue
        listeners = _attach(read, route, index, parent, gateway, findings)
        parents.append(ParentPlan(index, gateway.name, tuple(listener.name for listener in listeners)))
        for listener in listeners:
            attachments.update(dict.fromkeys(_attachments(route, gateway, listener)))
    if route.spec.use_default_gateways == "All":
        findings.append(_no_defaults(route))
    if isinstance(route, GRPCRoute):
        rules = plan_grpc_rules(read, route, findings)
    else:
        rules = plan_http_rules(read, route, findings)
    plan = RoutePlan(
        ref=ref,
        created=route.metadata.creation_timestamp,
        grpc=isinstance(route, GRPCRoute),
        rules=rules,
        parents=tuple(parents),
        attachments=tuple(attachments),
        clusters=tuple(dict.fromkeys(_clusters(rules))) if attachments else (),
        accepted=not any(
            finding.severity == "error" and finding.condition == "Accepted" and finding.parent is None
            for finding in findings
        ),
    )
    return Built(plan, tuple(findings))


def _no_defaults(route: Route) -> Finding:
    return Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="UnsupportedValue",
        message=f"{route.ref} wants to be attached to default gateways, which are not supported",
        hint="Name the Gateways in `parentRefs`",
        field="spec.useDefaultGateways",
    )


def _gateway(
    read: Read, route: Route, index: int, parent: ParentReference, findings: list[Finding]
) -> GatewayPlan | None:
    """The gateway of ours that a parentRef names, if it does; a parent that is not there is told, but has no status."""
    if (parent.group, parent.kind) != (GATEWAY_GROUP, "Gateway"):
        if parent.group == GATEWAY_GROUP:
            findings.append(_unknown_kind(route, index, parent))
        return None
    name = Name(parent.namespace or route.metadata.namespace, parent.name)
    plan = read.get(GATEWAY_PLANS, name)
    if plan is None:
        findings.append(
            Finding(
                object=route.ref,
                severity="warning",
                condition="Accepted",
                reason="NoMatchingParent",
                message=f"{route.ref} names Gateway `{name}` as parent, which does not exist here",
                hint="Create the Gateway, or correct name and namespace of the parentRef",
                field=f"spec.parentRefs[{index}]",
                parent=index,
            )
        )
    return plan


def _unknown_kind(route: Route, index: int, parent: ParentReference) -> Finding:
    """A parent of a kind that other gateways have; those of foreign groups are others' business."""
    return Finding(
        object=route.ref,
        severity="warning",
        condition="Accepted",
        reason="NoMatchingParent",
        message=f"{route.ref} names {parent.kind} `{parent.name}` as parent, a kind that is not supported",
        hint="Name a Gateway",
        field=f"spec.parentRefs[{index}].kind",
        parent=index,
    )


def _attach(
    read: Read, route: Route, index: int, parent: ParentReference, gateway: GatewayPlan, findings: list[Finding]
) -> tuple[Listener, ...]:
    """The listeners that take the route under one parentRef; none: a finding says at which step it failed."""
    reason = "NoMatchingParent"
    named = [
        listener
        for listener in gateway.listeners
        if (not parent.section_name or listener.name == parent.section_name)
        and (parent.port is None or listener.port == parent.port)
    ]
    wanted = " and ".join(
        ([f"named `{parent.section_name}`"] if parent.section_name else [])
        + ([f"on port {parent.port}"] if parent.port is not None else [])
    )
    message, hint = f"no listener {wanted}".rstrip(), "Correct `sectionName` or `port` of the parentRef"
    if named:
        kind = (GATEWAY_GROUP, route.ref.kind)
        space = route.metadata.namespace
        allowed = [
            listener
            for listener in named
            if kind in listener.kinds and allows(read, listener.namespaces, gateway.name.namespace, space)
        ]
        reason = "NotAllowedByListeners"
        message = f"no listener that allows {route.ref.kind}s of namespace `{space}`"
        hint = "Allow it by the listener's `allowedRoutes`"
        if allowed:
            fitting = [listener for listener in allowed if _intersections(route, listener)]
            if fitting:
                return tuple(fitting)
            reason = "NoMatchingListenerHostname"
            hosts = ", ".join(sorted(f"`{listener.hostname}`" for listener in allowed))
            message = f"no listener whose hostname fits those of the route; there are {hosts}"
            hint = "Name a hostname that a listener covers"
    findings.append(
        Finding(
            object=route.ref,
            condition="Accepted",
            reason=reason,
            message=f"{route.ref} is not attached: Gateway `{gateway.name}` has {message}",
            hint=hint,
            field=f"spec.parentRefs[{index}]",
            parent=index,
        )
    )
    return ()


def _intersections(route: Route, listener: Listener) -> list[tuple[str, str]]:
    """(intersection, the route's own hostname) for each hostname of the route that overlaps the listener's."""
    return [
        (common, own)
        for own in (route.spec.hostnames or ("",))
        if (common := intersect_hostnames(listener.hostname, own)) is not None
    ]


def _attachments(route: Route, gateway: GatewayPlan, listener: Listener) -> Iterator[Attachment]:
    """What the route serves through one listener: the hostnames of it that belong to no more specific listener."""
    if not listener.usable:
        return
    table = listener.table(gateway.name)
    for common, own in _intersections(route, listener):
        if owner(gateway, table, common) == listener:
            yield Attachment(HostKey(table, common), listener.name, own)


def _clusters(rules: tuple[RulePlan, ...]) -> Iterator[ClusterKey]:
    for rule in rules:
        for mirror in rule.filters.mirrors:
            yield mirror.cluster
        for destination in rule.destinations:
            if destination.cluster is not None:
                yield destination.cluster
            for mirror in destination.filters.mirrors:
                yield mirror.cluster
