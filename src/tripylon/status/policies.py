"""The status of policies (Gateway API: PolicyStatus) and of XBackend: one entry for each Gateway concerned.

What is wrong with one is wrong under each Gateway alike, unless it is about one target. What no Gateway uses has no
entry.
"""

from __future__ import annotations

from tripylon.api.meta import GATEWAY_GROUP, Condition
from tripylon.api.policies import BackendTLSPolicy, PolicyAncestorStatus, PolicyStatus
from tripylon.api.refs import ParentReference
from tripylon.api.x_backends import XBackend, XBackendAncestorStatus, XBackendStatus
from tripylon.api.x_policies import XBackendTrafficPolicy, XTelemetryPolicy
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.options import Options
from tripylon.model.policy_ancestors import ANCESTORS, TRAFFIC_ANCESTORS, X_BACKEND_ANCESTORS
from tripylon.model.telemetry import TELEMETRY_VERDICTS
from tripylon.status.conditions import Scribe, about
from tripylon.values import Name


def policy_status(
    graph: Graph, policy: BackendTLSPolicy | XBackendTrafficPolicy, scribe: Scribe, options: Options
) -> PolicyStatus | None:
    """The status of a policy: our entries only; None when none of our Gateways uses it."""
    ancestors = graph.get(ANCESTORS if isinstance(policy, BackendTLSPolicy) else TRAFFIC_ANCESTORS, policy.key)
    if not ancestors:
        return None
    findings: tuple[Finding, ...] = graph.findings(policy.ref)
    entries = policy.status.ancestors if policy.status is not None else ()
    mine = {each.ancestor_ref: each.conditions for each in entries if each.controller_name == options.controller_name}
    return PolicyStatus(
        ancestors=tuple(_ancestor(_gateway_ref(name), findings, scribe, mine, options) for name in ancestors)
    )


def telemetry_status(graph: Graph, policy: XTelemetryPolicy, scribe: Scribe, options: Options) -> PolicyStatus | None:
    """The status of a policy that names its Gateways itself; None when none of them is ours to tell about."""
    verdict = graph.get(TELEMETRY_VERDICTS, policy.key)
    if verdict is None or not verdict.told:
        return None
    findings: tuple[Finding, ...] = graph.findings(policy.ref)
    entries = policy.status.ancestors if policy.status is not None else ()
    mine = {each.ancestor_ref: each.conditions for each in entries if each.controller_name == options.controller_name}
    targets = [(index, policy.spec.target_refs[index]) for index in verdict.told]
    refs = [
        (index, ParentReference(group=each.group, kind=each.kind, namespace=policy.key.namespace, name=each.name))
        for index, each in targets
    ]
    return PolicyStatus(
        ancestors=tuple(_ancestor(ref, findings, scribe, mine, options, target=index) for index, ref in refs)
    )


def x_backend_status(graph: Graph, backend: XBackend, scribe: Scribe, options: Options) -> XBackendStatus | None:
    """The status of an XBackend: our entries only; None when none of our Gateways reaches it."""
    ancestors = graph.get(X_BACKEND_ANCESTORS, backend.key)
    if not ancestors:
        return None
    findings: tuple[Finding, ...] = graph.findings(backend.ref)
    faults = about(findings, "Accepted") + about(findings, "Programmed")
    known = {
        each.ancestor_ref: each.conditions
        for each in backend.status.ancestors
        if each.controller_name == options.controller_name
    }
    return XBackendStatus(
        ancestors=tuple(
            XBackendAncestorStatus(
                controller_name=options.controller_name,
                ancestor_ref=ref,
                conditions=(
                    scribe.over(known.get(ref, ())).positive(
                        "Accepted", faults, good="Accepted", message="The destination is accepted."
                    ),
                ),
            )
            for ref in map(_gateway_ref, ancestors)
        )
    )


def _gateway_ref(gateway: Name) -> ParentReference:
    return ParentReference(group=GATEWAY_GROUP, kind="Gateway", namespace=gateway.namespace, name=gateway.name)


def _ancestor(
    ref: ParentReference,
    findings: tuple[Finding, ...],
    scribe: Scribe,
    previous: dict[ParentReference, tuple[Condition, ...]],
    options: Options,
    *,
    target: int | None = None,
) -> PolicyAncestorStatus:
    """One entry, which tells of the policy as a whole and, if `target` says so, of one of its targets."""
    scribe = scribe.over(previous.get(ref, ()))
    faults = about(findings, "Accepted", parent=target) + about(findings, "Programmed", parent=target)
    return PolicyAncestorStatus(
        ancestor_ref=ref,
        controller_name=options.controller_name,
        conditions=(
            scribe.positive("Accepted", faults, good="Accepted", message="The policy is in force."),
            scribe.positive(
                "ResolvedRefs",
                about(findings, "ResolvedRefs"),
                good="ResolvedRefs",
                message="All references are resolved.",
            ),
        ),
    )
