"""The status of ListenerSet (Gateway API: ListenerSetStatus).

A set is accepted while its gateway lets it in and one of its listeners can be served; unlike a Gateway it is not
accepted by listeners that lack a certificate.
"""

from __future__ import annotations

from tripylon.api.listener_sets import ListenerSet, ListenerSetStatus
from tripylon.api.meta import Condition
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.plan import GatewayHead, HolderKey
from tripylon.status.conditions import Programming, Scribe, about, joined, worst
from tripylon.status.listeners import Judged, judge


def listener_set_status(
    graph: Graph, set_: ListenerSet, scribe: Scribe, programming: Programming | None
) -> ListenerSetStatus | None:
    """The status of a set whose gateway is ours; None when it is another controller's."""
    plan = graph.get(LISTENER_SET_PLANS, set_.key)
    gateway = graph.get(GATEWAY_HEADS, plan.gateway) if plan is not None else None
    if gateway is None:
        return None
    holder = graph.get(LISTENERS, HolderKey(gateway.name, set_.ref))
    findings: tuple[Finding, ...] = graph.findings(set_.ref)
    listeners = tuple(
        judge(graph, gateway, listener, findings, scribe, programming, set_.status.listeners)
        for listener in (holder.listeners if holder is not None else ())
    )
    scribe = scribe.over(set_.status.conditions)
    accepted = _accepted(gateway, findings, listeners, scribe)
    return ListenerSetStatus(
        conditions=(accepted, _programmed(gateway, accepted, listeners, scribe)),
        listeners=tuple(each.status for each in listeners),
    )


def _accepted(
    gateway: GatewayHead, findings: tuple[Finding, ...], listeners: tuple[Judged, ...], scribe: Scribe
) -> Condition:
    if faults := about(findings, "Accepted"):
        return scribe.write("Accepted", "False", worst(faults), joined(faults))
    if not gateway.accepted:
        message = f"Gateway `{gateway.name}` is not accepted."
        return scribe.write("Accepted", "False", "ParentNotAccepted", message)
    bad = ", ".join(f"`{each.name}`" for each in listeners if not each.valid)
    if not bad:
        return scribe.write("Accepted", "True", "Accepted", "The ListenerSet and all its listeners are accepted.")
    if not any(each.valid for each in listeners):
        return scribe.write("Accepted", "False", "ListenersNotValid", f"No listener is valid: {bad}.")
    return scribe.write("Accepted", "True", "ListenersNotValid", f"Some listeners are not valid: {bad}.")


def _programmed(gateway: GatewayHead, accepted: Condition, listeners: tuple[Judged, ...], scribe: Scribe) -> Condition:
    """False while something that could be served is missing; listeners that cannot be served do not count."""
    if accepted.status == "False":
        reason = "ParentNotProgrammed" if accepted.reason == "ParentNotAccepted" else accepted.reason
        return scribe.write("Programmed", "False", reason, "The ListenerSet is not accepted.")
    if waiting := ", ".join(f"`{each.name}`" for each in listeners if each.state == "pending"):
        message = f"The proxies of Gateway `{gateway.name}` have not taken {waiting} yet."
        return scribe.write("Programmed", "False", "Pending", message)
    states = {each.state for each in listeners}
    if "refused by proxies" in states and "programmed" not in states:
        return scribe.write("Programmed", "False", "Invalid", "The proxies refuse every listener.")
    does = "can be served" if "can be served" in states else "is served by the proxies"
    return scribe.write("Programmed", "True", "Programmed", f"The ListenerSet {does}.")
