"""HTTPRoute and GRPCRoute → route plans: under which hostnames a route is reached, and what each of its rules does.

Which listeners take it is worked out in `attachment.py`, what a rule does in `rules.py`; read that next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tripylon.api.routes import GRPCRoute, HTTPRoute
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read
from tripylon.model.attachment import attach, intersections
from tripylon.model.client_certificates import clusters_of, reached_by
from tripylon.model.ingresses import INGRESSES_OF_OURS, plan_ingress
from tripylon.model.plan import (
    Attachment,
    ClusterKey,
    HostKey,
    Listener,
    ParentPlan,
    RoutePlan,
    RulePlan,
    attachment_order,
)
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.rules import plan_grpc_rules, plan_http_rules
from tripylon.model.served import owns
from tripylon.values import Built, Name, Ref
from tripylon.world.world import ROUTES, Route

ROUTES_BY_LISTENER: Index[tuple[Name, str], Ref, RoutePlan] = Index(
    "routes by listener",
    ROUTE_PLANS,
    lambda _, route: (
        {(parent.gateway, listener) for parent in route.parents for listener in parent.listeners}
        if route.accepted and route.ref.kind != "Ingress"
        else ()
    ),
)
"""The accepted routes of each (gateway, listener): what `attachedRoutes` counts. An Ingress is none."""


def derives() -> tuple[Derive[Ref, RoutePlan], ...]:
    """The step from route objects, and from Ingresses, to route plans."""
    return (Derive(ROUTE_PLANS, (ROUTES, INGRESSES_OF_OURS), plan_route),)


def plan_route(read: Read, ref: Ref) -> Built[RoutePlan, Finding] | None:
    """One route, resolved: its parents, the hostnames it serves there, and its rules; None for what is no HTTP."""
    if ref.kind == "Ingress":
        return plan_ingress(read, ref)
    route = read.get(ROUTES, ref) if ref.kind in ("HTTPRoute", "GRPCRoute") else None
    if not isinstance(route, HTTPRoute | GRPCRoute):
        return None
    findings: list[Finding] = []
    parents: list[ParentPlan] = []
    attachments: dict[Attachment, None] = {}
    for parent in attach(read, route, findings):
        parents.append(parent.plan)
        for listener in parent.listeners:
            attachments.update(dict.fromkeys(_attachments(read, route, parent.gateway, listener)))
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
        attachments=tuple(sorted(attachments, key=attachment_order)),
        clusters=_clusters(read, attachments, rules),
        accepted=not any(
            finding.severity == "error" and finding.condition == "Accepted" and finding.parent is None
            for finding in findings
        ),
    )
    return Built(plan, tuple(findings))


def _attachments(read: Read, route: Route, gateway: Name, listener: Listener) -> Iterator[Attachment]:
    """What the route serves through one listener: the hostnames of it that belong to no more specific listener."""
    if not listener.usable:
        return
    table = listener.table(gateway)
    for common, own in intersections(route, listener):
        host = HostKey(table, common)
        if owns(read, listener, host):
            yield Attachment(host, listener.id, own)


def _clusters(read: Read, attachments: Iterable[Attachment], rules: tuple[RulePlan, ...]) -> tuple[ClusterKey, ...]:
    """Every destination, as the gateways that serve the route reach it."""
    gateways = dict.fromkeys(attachment.host.table.gateway for attachment in attachments)
    wanted = dict.fromkeys(cluster for rule in rules for cluster in clusters_of(rule))
    return reached_by(read, gateways, wanted) if gateways else ()
