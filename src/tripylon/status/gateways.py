"""The status of GatewayClass and Gateway (Gateway API: GatewayClassStatus, GatewayStatus, ListenerStatus).

A listener that is refused or lacks its certificate says so itself; the Gateway stays accepted while one listener is,
and programmed while nothing that could be served is missing at the proxies.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tripylon.api.gateway import (
    Gateway,
    GatewayClass,
    GatewayClassStatus,
    GatewayStatus,
    GatewayStatusAddress,
    ListenerStatus,
    RouteGroupKind,
)
from tripylon.api.meta import Condition
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.gateways import CLASS_PLANS, GATEWAY_PLANS
from tripylon.model.options import Options
from tripylon.model.plan import GatewayPlan, Listener
from tripylon.model.routes import ROUTES_BY_LISTENER
from tripylon.model.tls import GATEWAY_TLS
from tripylon.status.conditions import Programming, Scribe, about, joined, worst
from tripylon.status.features import supported_features
from tripylon.values import is_address
from tripylon.world.world import REACHED, Reached

_State = Literal["programmed", "can be served", "pending", "refused by proxies", "not accepted", "no certificate"]
"""What has become of a listener; without proxies it can be served at best. The last two are never sent to a proxy."""


class _Judged(NamedTuple):
    """One listener with what its Gateway's conditions depend on."""

    name: str
    accepted: bool
    resolved: bool
    state: _State
    status: ListenerStatus


def class_status(graph: Graph, class_: GatewayClass, scribe: Scribe, options: Options) -> GatewayClassStatus | None:
    """The status of a class of ours; None when it is another controller's."""
    if graph.get(CLASS_PLANS, class_.key) is None:
        return None
    findings = graph.findings(class_.ref)
    scribe = scribe.over(class_.status.conditions)
    conditions = (
        scribe.positive(
            "Accepted", about(findings, "Accepted"), good="Accepted", message="Gateways of this class are served."
        ),
        scribe.positive(
            "SupportedVersion",
            about(findings, "SupportedVersion"),
            good="SupportedVersion",
            message="The version of the Gateway API is supported.",
        ),
    )
    features = supported_features(standalone=options.standalone)
    return GatewayClassStatus(conditions=conditions, supported_features=features)


def gateway_status(
    graph: Graph, gateway: Gateway, scribe: Scribe, programming: Programming | None, options: Options
) -> GatewayStatus | None:
    """The status of a gateway of ours; None when its class is another controller's."""
    plan = graph.get(GATEWAY_PLANS, gateway.key)
    if plan is None:
        return None
    findings: tuple[Finding, ...] = graph.findings(gateway.ref)
    listeners = tuple(
        _listener(graph, plan, gateway, listener, findings, scribe, programming) for listener in plan.listeners
    )
    scribe = scribe.over(gateway.status.conditions)
    accepted = _accepted(findings, listeners, scribe)
    reached = Reached(plan.addresses) if options.standalone else graph.get(REACHED, gateway.key) or Reached()
    return GatewayStatus(
        addresses=tuple(_address(value) for value in reached.addresses),
        conditions=(
            accepted,
            _programmed(reached, accepted, findings, listeners, scribe),
            _resolved(findings, listeners, scribe),
        ),
        listeners=tuple(each.status for each in listeners),
    )


def _address(value: str) -> GatewayStatusAddress:
    return GatewayStatusAddress(type="IPAddress" if is_address(value) else "Hostname", value=value)


# --- The Gateway as a whole ----------------------------------------------------------------------------------------


def _accepted(findings: tuple[Finding, ...], listeners: tuple[_Judged, ...], scribe: Scribe) -> Condition:
    if faults := about(findings, "Accepted"):
        return scribe.write("Accepted", "False", worst(faults), joined(faults))
    bad = [each.name for each in listeners if not each.accepted]
    if not bad:
        return scribe.write("Accepted", "True", "Accepted", "The Gateway and all its listeners are accepted.")
    if len(bad) == len(listeners):
        return scribe.write("Accepted", "False", "ListenersNotValid", f"No listener is accepted: {_named(bad)}.")
    return scribe.write("Accepted", "True", "ListenersNotValid", f"Some listeners are not accepted: {_named(bad)}.")


def _programmed(
    reached: Reached,
    accepted: Condition,
    findings: tuple[Finding, ...],
    listeners: tuple[_Judged, ...],
    scribe: Scribe,
) -> Condition:
    """False while something that could be served is missing; listeners that cannot be served do not count."""
    if accepted.status == "False":
        return scribe.write("Programmed", "False", "Invalid", "The Gateway is not accepted.")
    if faults := about(findings, "Programmed"):
        return scribe.write("Programmed", "False", worst(faults), joined(faults))
    if not reached.addresses and reached.awaited:
        return scribe.write("Programmed", "False", "AddressNotAssigned", "The Gateway has no address yet.")
    if waiting := [each.name for each in listeners if each.state == "pending"]:
        return scribe.write("Programmed", "False", "Pending", f"The proxies have not taken {_named(waiting)} yet.")
    states = {each.state for each in listeners}
    if "refused by proxies" in states and "programmed" not in states:
        return scribe.write("Programmed", "False", "Invalid", "The proxies refuse every listener.")
    does = "can be served" if "can be served" in states else "is served by the proxies"
    return scribe.write("Programmed", "True", "Programmed", f"The Gateway {does}.")


def _resolved(findings: tuple[Finding, ...], listeners: tuple[_Judged, ...], scribe: Scribe) -> Condition:
    if faults := about(findings, "ResolvedRefs"):
        return scribe.write("ResolvedRefs", "False", worst(faults), joined(faults))
    if bad := [each.name for each in listeners if not each.resolved]:
        message = f"References of some listeners are not resolved: {_named(bad)}."
        return scribe.write("ResolvedRefs", "False", "ListenersNotResolved", message)
    return scribe.write("ResolvedRefs", "True", "ResolvedRefs", "All references are resolved.")


def _named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# --- One listener --------------------------------------------------------------------------------------------------


def _listener(
    graph: Graph,
    plan: GatewayPlan,
    gateway: Gateway,
    listener: Listener,
    findings: tuple[Finding, ...],
    scribe: Scribe,
    programming: Programming | None,
) -> _Judged:
    previous = next((each.conditions for each in gateway.status.listeners if each.name == listener.name), ())
    scribe = scribe.over(previous)
    mine = tuple(finding for finding in findings if finding.listener == listener.name)
    accepted = scribe.positive(
        "Accepted",
        about(mine, "Accepted", listener=listener.name),
        good="Accepted",
        message="The listener is accepted.",
    )
    resolved = scribe.positive(
        "ResolvedRefs",
        about(mine, "ResolvedRefs", listener=listener.name),
        good="ResolvedRefs",
        message="All references are resolved.",
    )
    state = _state(graph, plan, listener, mine, programming)
    status = ListenerStatus(
        name=listener.name,
        supported_kinds=tuple(RouteGroupKind(group=group, kind=kind) for group, kind in listener.kinds),
        attached_routes=graph.group_size(ROUTES_BY_LISTENER, (gateway.key, listener.name)),
        conditions=(
            accepted,
            _listener_programmed(state, mine, scribe),
            resolved,
            *_conflicted(listener, mine, scribe),
            *_overlapping(mine, scribe),
        ),
    )
    return _Judged(listener.name, accepted.status == "True", resolved.status == "True", state, status)


def _state(
    graph: Graph,
    plan: GatewayPlan,
    listener: Listener,
    mine: tuple[Finding, ...],
    programming: Programming | None,
) -> _State:
    """What has become of a listener; without proxies, whether it could be served."""
    if not plan.accepted or not listener.usable:
        return "not accepted"
    tls = graph.get(GATEWAY_TLS, plan.name)
    presents = tls is not None and any(each.listener == listener.name for each in tls.listeners)
    if listener.protocol == "HTTPS" and not presents:
        return "no certificate"
    if about(mine, "Programmed", listener=listener.name):
        return "refused by proxies"
    return "can be served" if programming is None else programming.listener(plan.name, listener.name)


def _listener_programmed(state: _State, mine: tuple[Finding, ...], scribe: Scribe) -> Condition:
    match state:
        case "programmed":
            return scribe.write("Programmed", "True", "Programmed", "The proxies serve the listener.")
        case "can be served":
            return scribe.write("Programmed", "True", "Programmed", "The listener can be served.")
        case "pending":
            return scribe.write("Programmed", "False", "Pending", "The proxies have not taken the listener yet.")
        case "refused by proxies":
            faults = tuple(each for each in mine if each.severity == "error" and each.condition == "Programmed")
            return scribe.write("Programmed", "False", "Invalid", joined(faults))
        case "not accepted":
            return scribe.write("Programmed", "False", "Invalid", "The listener or its Gateway is not accepted.")
        case "no certificate":
            return scribe.write("Programmed", "False", "Invalid", "The listener has no certificate to present.")


def _conflicted(listener: Listener, mine: tuple[Finding, ...], scribe: Scribe) -> tuple[Condition, ...]:
    faults = about(mine, "Conflicted", listener=listener.name)
    if faults:
        return scribe.negative("Conflicted", faults)
    return (scribe.write("Conflicted", "False", "NoConflicts", "The listener agrees with all others."),)


def _overlapping(mine: tuple[Finding, ...], scribe: Scribe) -> tuple[Condition, ...]:
    """True while listeners overlap: a fact worth telling although nothing is wrong, so of any severity."""
    return scribe.negative(
        "OverlappingTLSConfig", tuple(each for each in mine if each.condition == "OverlappingTLSConfig")
    )
