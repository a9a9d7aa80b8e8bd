"""Whose status a change may make out of date: a superset, worked out without looking at any status."""

from __future__ import annotations

from tripylon.api.ingress import INGRESS_GROUP
from tripylon.api.kinds import KINDS
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.x_backends import X_GROUP
from tripylon.graph import Changes, Graph
from tripylon.model.gateways import CLASS_PLANS, GATEWAY_PLANS
from tripylon.model.ingress_places import INGRESSES_BY_GATEWAY
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.policy_ancestors import ANCESTORS, TRAFFIC_ANCESTORS, X_BACKEND_ANCESTORS
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES
from tripylon.model.telemetry import TELEMETRY_VERDICTS
from tripylon.model.tls import GATEWAY_TLS
from tripylon.status.attached import ATTACHED
from tripylon.values import Name, Ref
from tripylon.world import world

REPORTED = frozenset(
    (kind.group, kind.name) for kind in KINDS if kind.group and "status" in kind.struct.__struct_fields__
)
"""Group and name of the kinds whose status we may write."""


def concerned(changes: Changes, graph: Graph) -> set[Ref]:
    """Objects that are there and whose status may have to be written, after a flush."""
    found: set[Ref] = {*changes.subjects, *world.touched(changes)}
    found |= changes.keys(ROUTE_PLANS) | changes.keys(STREAM_ROUTES)
    for gateway in changes.keys(GATEWAY_PLANS) | changes.keys(GATEWAY_TLS) | changes.keys(world.REACHED):
        plan = graph.get(GATEWAY_PLANS, gateway)
        found |= {gateway_ref(gateway), *(listener.holder for listener in (plan.listeners if plan is not None else ()))}
    for gateway in changes.keys(GATEWAY_PLANS) | changes.keys(world.REACHED):
        ingresses = (place.name for place in graph.group(INGRESSES_BY_GATEWAY, gateway))
        found |= {Ref(INGRESS_GROUP, "Ingress", *name) for name in ingresses}
    found |= _counting(changes, graph)
    found |= {Ref(GATEWAY_GROUP, "ListenerSet", *name) for name in changes.keys(LISTENER_SET_PLANS)}
    classes = graph.rows(CLASS_PLANS) if changes.keys(world.ABSENT_KINDS) else changes.keys(CLASS_PLANS)
    found |= {Ref(GATEWAY_GROUP, "GatewayClass", *name) for name in classes}
    found |= {Ref(GATEWAY_GROUP, "BackendTLSPolicy", *name) for name in changes.keys(ANCESTORS)}
    found |= {Ref(X_GROUP, "XBackend", *name) for name in changes.keys(X_BACKEND_ANCESTORS)}
    found |= {Ref(X_GROUP, "XBackendTrafficPolicy", *name) for name in changes.keys(TRAFFIC_ANCESTORS)}
    found |= {Ref(X_GROUP, "XTelemetryPolicy", *name) for name in changes.keys(TELEMETRY_VERDICTS)}
    return {ref for ref in found if is_reported(ref) and world.find(graph, ref) is not None}


def _counting(changes: Changes, graph: Graph) -> set[Ref]:
    """Who states the listeners whose number of routes is another now; the other holders of a gateway count no less."""
    counts: dict[Name, set[str]] = {}
    for gateway, listener in changes.keys(ATTACHED):
        counts.setdefault(gateway, set()).add(listener)
    found: set[Ref] = set()
    for gateway, ids in counts.items():
        plan = graph.get(GATEWAY_PLANS, gateway)
        found |= {each.holder for each in (plan.listeners if plan is not None else ()) if each.id in ids}
    return found


def is_reported(ref: Ref) -> bool:
    """Whether an object is of a kind whose status we may write."""
    return (ref.group, ref.kind) in REPORTED


def gateway_ref(gateway: Name) -> Ref:
    """A Gateway among all objects."""
    return Ref(GATEWAY_GROUP, "Gateway", *gateway)
