"""The status of routes of every kind, and of Backend (Gateway API: RouteParentStatus).

One entry for each parentRef that names a gateway of ours, whether it took the route or not. References are judged for
the route as a whole, so `ResolvedRefs` is written under every parent, also where the route is not accepted.
"""

from __future__ import annotations

from tripylon.api.meta import Condition
from tripylon.api.own import Backend, BackendStatus
from tripylon.api.refs import ParentReference
from tripylon.api.routes import RouteParentStatus, RouteStatus
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.attachment import default_parent
from tripylon.model.options import Options
from tripylon.model.plan import ParentPlan
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES
from tripylon.status.conditions import Scribe, about
from tripylon.world.world import Route


def route_status(graph: Graph, route: Route, scribe: Scribe, options: Options) -> RouteStatus | None:
    """The status of a route: our entries only; None when no parent is ours."""
    plan = graph.get(ROUTE_PLANS, route.ref) or graph.get(STREAM_ROUTES, route.ref)
    if plan is None or not plan.parents:
        return None
    findings: tuple[Finding, ...] = graph.findings(route.ref)
    entries = route.status.parents if route.status is not None else ()
    mine = {each.parent_ref: each.conditions for each in entries if each.controller_name == options.controller_name}
    return RouteStatus(
        parents=tuple(
            _parent(parent.index, _parent_ref(route, parent), findings, scribe, mine, options)
            for parent in plan.parents
        )
    )


def _parent_ref(route: Route, parent: ParentPlan) -> ParentReference:
    """The parent as the route names it, or as it would name a default gateway."""
    refs = route.spec.parent_refs
    return refs[parent.index] if parent.index < len(refs) else default_parent(parent.gateway)


def _parent(
    index: int,
    ref: ParentReference,
    findings: tuple[Finding, ...],
    scribe: Scribe,
    previous: dict[ParentReference, tuple[Condition, ...]],
    options: Options,
) -> RouteParentStatus:
    scribe = scribe.over(previous.get(ref, ()))
    faults = about(findings, "Accepted", parent=index) + about(findings, "Programmed", parent=index)
    under = tuple(fault for fault in faults if fault.parent is not None)
    accepted = scribe.positive(
        "Accepted", under or faults, good="Accepted", message="The route is attached to the parent."
    )
    resolved = scribe.positive(
        "ResolvedRefs",
        about(findings, "ResolvedRefs", parent=index),
        good="ResolvedRefs",
        message="All references are resolved.",
    )
    partial = about(findings, "PartiallyInvalid", parent=index) if accepted.status == "True" else ()
    return RouteParentStatus(
        parent_ref=ref,
        controller_name=options.controller_name,
        conditions=(accepted, resolved, *scribe.negative("PartiallyInvalid", partial)),
    )


def backend_status(graph: Graph, backend: Backend, scribe: Scribe) -> BackendStatus:
    """The status of a Backend, be it used or not."""
    findings: tuple[Finding, ...] = graph.findings(backend.ref)
    scribe = scribe.over(backend.status.conditions if backend.status is not None else ())
    faults = about(findings, "Accepted") + about(findings, "Programmed")
    return BackendStatus(
        conditions=(scribe.positive("Accepted", faults, good="Accepted", message="The Backend is accepted."),)
    )
