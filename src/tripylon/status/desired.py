"""The `status` that an object should have, from what the graph and the proxies say now.

Pure: the same graph, object and time give the same status, and nothing is written anywhere. What other controllers
wrote into a shared status is not looked at here; `merge.py` joins the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tripylon.api.gateway import Gateway, GatewayClass, GatewayClassStatus, GatewayStatus, ListenerStatus
from tripylon.api.ingress import Ingress, IngressStatus
from tripylon.api.kinds import kind_of
from tripylon.api.listener_sets import ListenerSet, ListenerSetStatus
from tripylon.api.markers import Part
from tripylon.api.meta import Resource
from tripylon.api.own import Backend, BackendStatus
from tripylon.api.policies import BackendTLSPolicy, PolicyAncestorStatus, PolicyStatus
from tripylon.api.refs import ParentReference
from tripylon.api.routes import GRPCRoute, HTTPRoute, RouteStatus
from tripylon.api.streams import TCPRoute, TLSRoute, UDPRoute
from tripylon.api.x_backends import XBackend, XBackendAncestorStatus, XBackendStatus
from tripylon.api.x_policies import XBackendTrafficPolicy, XTelemetryPolicy
from tripylon.graph import Graph
from tripylon.model.options import Options
from tripylon.status.conditions import Programming, Scribe
from tripylon.status.gateways import class_status, gateway_status
from tripylon.status.ingresses import ingress_status
from tripylon.status.listener_sets import listener_set_status
from tripylon.status.policies import policy_status, telemetry_status, x_backend_status
from tripylon.status.routes import backend_status, route_status

Status = (
    GatewayClassStatus
    | GatewayStatus
    | ListenerSetStatus
    | RouteStatus
    | PolicyStatus
    | XBackendStatus
    | BackendStatus
    | IngressStatus
)

FIRST_GENERATION = 1
"""The generation of an object that was just made; objects in files do not state any."""


def desired(
    graph: Graph, resource: Resource, *, options: Options, programming: Programming | None, now: str
) -> Status | None:
    """The status that we give an object; None for kinds that have none, and for objects that are not ours.

    `programming=None` means that there is no proxy (`check`): what could be programmed counts as programmed. `now` is
    the time, in RFC 3339, of conditions that change; the others keep the time that `resource.status` states.
    """
    scribe = Scribe(resource.metadata.generation or FIRST_GENERATION, now, ())
    match resource:
        case GatewayClass():
            return class_status(graph, resource, scribe, options)
        case Gateway():
            return gateway_status(graph, resource, scribe, programming, options)
        case ListenerSet():
            return listener_set_status(graph, resource, scribe, programming)
        case HTTPRoute() | GRPCRoute() | TLSRoute() | TCPRoute() | UDPRoute():
            return route_status(graph, resource, scribe, options)
        case BackendTLSPolicy() | XBackendTrafficPolicy():
            return policy_status(graph, resource, scribe, options)
        case XTelemetryPolicy():
            return telemetry_status(graph, resource, scribe, options)
        case XBackend():
            return x_backend_status(graph, resource, scribe, options)
        case Ingress():
            return ingress_status(graph, resource, options)
        case Backend():
            return backend_status(graph, resource, scribe)
    return None


def with_status(resource: Resource, status: Status | None, *, written: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with its status as plain values, in the order in which people read it.

    `written` is the object as its author wrote it, for fields that the structs drop; by default the struct is printed.
    """
    kind = kind_of(resource)
    plain: dict[str, Any] = dict(written) if written is not None else _plain(resource)
    plain.pop("status", None)
    head = {
        "apiVersion": plain.pop("apiVersion", "") or kind.api_version,
        "kind": plain.pop("kind", "") or kind.name,
    }
    return head | plain | ({"status": status_values(status)} if status is not None else {})


def status_values(status: Status) -> dict[str, Any]:
    """A status as plain values, as it is sent and printed, with the defaults that readers look for."""
    plain = _plain(status)
    if isinstance(status, RouteStatus):
        for entry, parent in zip(plain["parents"], status.parents, strict=True):
            entry["parentRef"] = _parent_values(parent.parent_ref)
    if isinstance(status, PolicyStatus | XBackendStatus):
        refs = [_parent_values(each.ancestor_ref) for each in _ancestors(status)]
        entries = plain.get("ancestors", [])
        plain["ancestors"] = [{**entry, "ancestorRef": ref} for entry, ref in zip(entries, refs, strict=True)]
    if isinstance(status, GatewayStatus) and status.addresses:
        plain["addresses"] = [
            {"type": each.type, "value": each.value, "routability": each.routability} for each in status.addresses
        ]
    if isinstance(status, GatewayStatus | ListenerSetStatus):
        plain["listeners"] = [_listener_values(each) for each in status.listeners]
    return plain


def _ancestors(status: PolicyStatus | XBackendStatus) -> Iterator[PolicyAncestorStatus | XBackendAncestorStatus]:
    yield from status.ancestors


def _listener_values(status: ListenerStatus) -> dict[str, Any]:
    kinds = [{"group": each.group, "kind": each.kind} for each in status.supported_kinds]
    return {"name": status.name, "supportedKinds": kinds} | _plain(status) | {"supportedKinds": kinds}


def _parent_values(ref: ParentReference) -> dict[str, Any]:
    return {"group": ref.group, "kind": ref.kind} | _plain(ref)


def _plain(value: Part) -> dict[str, Any]:
    """What JSON would hold: lists instead of tuples, base64 instead of bytes."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain
