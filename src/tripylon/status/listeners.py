"""The status of one listener, be it stated by a Gateway or by a ListenerSet (Gateway API: ListenerStatus).

A listener that is refused or lacks its certificate says so itself. Read `gateways.py` and `listener_sets.py` for what
the whole makes of it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tripylon.api.gateway import ListenerStatus, RouteGroupKind
from tripylon.api.meta import Condition
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.plan import GatewayHead, HolderKey, Listener
from tripylon.model.tls import LISTENERS_TLS
from tripylon.status.attached import attached
from tripylon.status.conditions import Programming, Scribe, about, joined, worst
from tripylon.world.world import REACHED

State = Literal["programmed", "can be served", "pending", "refused by proxies", "not accepted", "no certificate"]
"""What has become of a listener; without proxies it can be served at best. The last two are never sent to a proxy."""


class Judged(NamedTuple):
    """One listener with what the conditions of the whole depend on."""

    name: str
    accepted: bool
    resolved: bool
    state: State
    status: ListenerStatus

    @property
    def valid(self) -> bool:
        """Whether it is accepted and nothing that it needs is missing."""
        return self.accepted and self.state not in ("not accepted", "no certificate")


def judge(
    graph: Graph,
    gateway: GatewayHead,
    listener: Listener,
    findings: tuple[Finding, ...],
    scribe: Scribe,
    programming: Programming | None,
    previous: tuple[ListenerStatus, ...],
) -> Judged:
    """The status of one listener, from the findings on the object that states it."""
    scribe = scribe.over(next((each.conditions for each in previous if each.name == listener.name), ()))
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
    state = _state(graph, gateway, listener, mine, programming)
    status = ListenerStatus(
        name=listener.name,
        supported_kinds=tuple(RouteGroupKind(group=group, kind=kind) for group, kind in listener.kinds),
        attached_routes=attached(graph, (gateway.name, listener.id)),
        conditions=(
            accepted,
            _programmed(listener, state, mine, scribe),
            resolved,
            *_conflicted(listener, mine, scribe),
            *_overlapping(mine, scribe),
        ),
    )
    return Judged(listener.name, accepted.status == "True", resolved.status == "True", state, status)


def _state(
    graph: Graph,
    gateway: GatewayHead,
    listener: Listener,
    mine: tuple[Finding, ...],
    programming: Programming | None,
) -> State:
    """What has become of a listener; without proxies, whether it could be served."""
    if not gateway.accepted or not listener.usable:
        return "not accepted"
    tls = graph.get(LISTENERS_TLS, HolderKey(gateway.name, listener.holder))
    presents = tls is not None and any(each.listener == listener.id for each in tls.listeners)
    if listener.terminates and not presents:
        return "no certificate"
    if about(mine, "Programmed", listener=listener.name):
        return "refused by proxies"
    if programming is None:
        return "can be served"
    reached = graph.get(REACHED, gateway.name)
    if reached is not None and ("UDP" if listener.protocol == "UDP" else "TCP", listener.port) in reached.closed:
        return "pending"
    return programming.listener(gateway.name, listener.id)


def _programmed(listener: Listener, state: State, mine: tuple[Finding, ...], scribe: Scribe) -> Condition:
    match state:
        case "programmed":
            return scribe.write("Programmed", "True", "Programmed", "The proxies serve the listener.")
        case "can be served":
            return scribe.write("Programmed", "True", "Programmed", "The listener can be served.")
        case "pending":
            return scribe.write(
                "Programmed", "False", "Pending", "The proxies or their Service have yet to take the listener."
            )
        case "refused by proxies":
            faults = tuple(each for each in mine if each.severity == "error" and each.condition == "Programmed")
            return scribe.write("Programmed", "False", "Invalid", joined(faults))
        case "not accepted" if listener.holder.kind == "ListenerSet" and (
            clashes := about(mine, "Conflicted", listener=listener.name)
        ):
            return scribe.write("Programmed", "False", worst(clashes), joined(clashes))
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
