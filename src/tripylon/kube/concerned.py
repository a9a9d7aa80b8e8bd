"""Whose status a change may make out of date: a superset, worked out without looking at any status."""

from __future__ import annotations

from tripylon.api.ingress import INGRESS_GROUP
from tripylon.api.kinds import KINDS
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.x_backends import X_GROUP
from tripylon.graph import Changes, Graph
from tripylon.model.entries import holder_of
from tripylon.model.gateway_heads import CLASS_PLANS, GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS, LISTENERS_BY_GATEWAY
from tripylon.model.ingress_places import INGRESSES_BY_GATEWAY
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.policy_ancestors import ANCESTORS, TRAFFIC_ANCESTORS, X_BACKEND_ANCESTORS
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.model.stream_plans import STREAM_ROUTES
from tripylon.model.telemetry import TELEMETRY_VERDICTS
from tripylon.model.tls import LISTENERS_TLS
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
    for key in changes.keys(LISTENERS) | changes.keys(LISTENERS_TLS):
        found |= {key.holder, gateway_ref(key.gateway)}
    for gateway in changes.keys(GATEWAY_HEADS) | changes.keys(world.REACHED):
        found |= {gateway_ref(gateway), *(each.key.holder for each in graph.group(LISTENERS_BY_GATEWAY, gateway))}
        ingresses = (place.name for place in graph.group(INGRESSES_BY_GATEWAY, gateway))
        found |= {Ref(INGRESS_GROUP, "Ingress", *name) for name in ingresses}
    found |= {holder_of(gateway, listener) for gateway, listener in changes.keys(ATTACHED)}
    found |= {Ref(GATEWAY_GROUP, "ListenerSet", *name) for name in changes.keys(LISTENER_SET_PLANS)}
    classes = graph.rows(CLASS_PLANS) if changes.keys(world.ABSENT_KINDS) else changes.keys(CLASS_PLANS)
    found |= {Ref(GATEWAY_GROUP, "GatewayClass", *name) for name in classes}
    found |= {Ref(GATEWAY_GROUP, "BackendTLSPolicy", *name) for name in changes.keys(ANCESTORS)}
    found |= {Ref(X_GROUP, "XBackend", *name) for name in changes.keys(X_BACKEND_ANCESTORS)}
    found |= {Ref(X_GROUP, "XBackendTrafficPolicy", *name) for name in changes.keys(TRAFFIC_ANCESTORS)}
    found |= {Ref(X_GROUP, "XTelemetryPolicy", *name) for name in changes.keys(TELEMETRY_VERDICTS)}
    return {ref for ref in found if is_reported(ref) and world.find(graph, ref) is not None}


def is_reported(ref: Ref) -> bool:
    """Whether an object is of a kind whose status we may write."""
    return (ref.group, ref.kind) in REPORTED


def gateway_ref(gateway: Name) -> Ref:
    """A Gateway among all objects."""
    return Ref(GATEWAY_GROUP, "Gateway", *gateway)
