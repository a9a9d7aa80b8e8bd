"""The status of GatewayClass and Gateway (Gateway API: GatewayClassStatus, GatewayStatus, ListenerStatus).

The Gateway stays accepted while one of its own listeners is, and programmed while nothing that could be served is
missing at the proxies. Read `listeners.py` for the listeners, `listener_sets.py` for those that others add.
"""

from __future__ import annotations

from tripylon.api.gateway import (
    Gateway,
    GatewayClass,
    GatewayClassStatus,
    GatewayStatus,
    GatewayStatusAddress,
)
from tripylon.api.meta import Condition
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.addresses import assigned
from tripylon.model.gateway_heads import CLASS_PLANS, GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS
from tripylon.model.options import Options
from tripylon.model.plan import HolderKey
from tripylon.model.tls import VALID_SETS
from tripylon.status.conditions import Programming, Scribe, about, joined, worst
from tripylon.status.features import supported_features
from tripylon.status.listeners import Judged, judge
from tripylon.values import is_address
from tripylon.world.world import ABSENT_KINDS, REACHED, Reached, ReachedAddress


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
    absent = {kind for _, kind in graph.rows(ABSENT_KINDS)}
    features = supported_features(standalone=options.standalone, absent=absent)
    return GatewayClassStatus(conditions=conditions, supported_features=features)


def gateway_status(
    graph: Graph, gateway: Gateway, scribe: Scribe, programming: Programming | None, options: Options
) -> GatewayStatus | None:
    """The status of a gateway of ours; None when its class is another controller's."""
    head = graph.get(GATEWAY_HEADS, gateway.key)
    if head is None:
        return None
    own = graph.get(LISTENERS, HolderKey(gateway.key, gateway.ref))
    findings: tuple[Finding, ...] = graph.findings(gateway.ref)
    listeners = tuple(
        judge(graph, head, listener, findings, scribe, programming, gateway.status.listeners)
        for listener in (own.listeners if own is not None else ())
    )
    scribe = scribe.over(gateway.status.conditions)
    accepted = _accepted(findings, listeners, scribe)
    reached = graph.get(REACHED, gateway.key)
    if options.standalone:
        reached = Reached(tuple(ReachedAddress(each) for each in head.addresses))
    return GatewayStatus(
        addresses=tuple(_address(each) for each in reached.addresses) if reached is not None else (),
        conditions=(
            accepted,
            _programmed(reached or Reached(), accepted, findings, listeners, scribe),
            _resolved(findings, listeners, scribe),
            *(() if options.standalone else _assigned(gateway, reached, findings, scribe)),
            *_insecure(findings, scribe),
        ),
        listeners=tuple(each.status for each in listeners),
        attached_listener_sets=graph.group_size(VALID_SETS, head.name) if head.accepted else 0,
    )


def _address(found: ReachedAddress) -> GatewayStatusAddress:
    type_ = "IPAddress" if is_address(found.value) else "Hostname"
    return GatewayStatusAddress(type=type_, value=found.value, routability=found.routability)


# --- The Gateway as a whole ----------------------------------------------------------------------------------------


def _accepted(findings: tuple[Finding, ...], listeners: tuple[Judged, ...], scribe: Scribe) -> Condition:
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
    listeners: tuple[Judged, ...],
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
        return scribe.write(
            "Programmed", "False", "Pending", f"The proxies or their Service have yet to take {_named(waiting)}."
        )
    states = {each.state for each in listeners}
    if "refused by proxies" in states and "programmed" not in states:
        return scribe.write("Programmed", "False", "Invalid", "The proxies refuse every listener.")
    does = "can be served" if "can be served" in states else "is served by the proxies"
    return scribe.write("Programmed", "True", "Programmed", f"The Gateway {does}.")


def _resolved(findings: tuple[Finding, ...], listeners: tuple[Judged, ...], scribe: Scribe) -> Condition:
    if faults := about(findings, "ResolvedRefs"):
        return scribe.write("ResolvedRefs", "False", worst(faults), joined(faults))
    if bad := [each.name for each in listeners if not each.resolved]:
        message = f"References of some listeners are not resolved: {_named(bad)}."
        return scribe.write("ResolvedRefs", "False", "ListenersNotResolved", message)
    return scribe.write("ResolvedRefs", "True", "ResolvedRefs", "All references are resolved.")


def _assigned(
    gateway: Gateway, reached: Reached | None, findings: tuple[Finding, ...], scribe: Scribe
) -> tuple[Condition, ...]:
    """How many of the addresses asked for there are (GEP-5093); nothing is written before anybody could know."""
    condition, entries = "AddressesAssigned", gateway.spec.addresses
    if reached is None or (not entries and not reached.addresses):
        return ()
    missing = [place for place, given in enumerate(assigned(entries, reached.addresses)) if given is None]
    if not missing:
        return (scribe.write(condition, "True", condition, "There is an address for each that is asked for."),)
    reason = "NotAssigned" if len(missing) == len(entries) else "PartiallyAssigned"
    places = ", ".join(f"`spec.addresses[{place}]`" for place in missing)
    told = joined(about(findings, condition))
    return (scribe.write(condition, "False", reason, f"There is no address for {places}. {told}".rstrip()),)


def _insecure(findings: tuple[Finding, ...], scribe: Scribe) -> tuple[Condition, ...]:
    """True while clients without a valid certificate are let in: a fact worth telling although it was asked for."""
    condition = "InsecureFrontendValidationMode"
    return scribe.negative(condition, tuple(each for each in findings if each.condition == condition))


def _named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
