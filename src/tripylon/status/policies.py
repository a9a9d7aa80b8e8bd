"""The status of BackendTLSPolicy (Gateway API: PolicyStatus) and XBackend: one entry for each Gateway concerned.

What is wrong with a policy or XBackend is wrong under each Gateway alike. What no Gateway uses has no entry.
"""

from __future__ import annotations

from tripylon.api.meta import GATEWAY_GROUP, Condition
from tripylon.api.policies import BackendTLSPolicy, PolicyAncestorStatus, PolicyStatus
from tripylon.api.refs import ParentReference
from tripylon.api.x_backends import XBackend, XBackendAncestorStatus, XBackendStatus
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.options import Options
from tripylon.model.policy_ancestors import ANCESTORS, X_BACKEND_ANCESTORS
from tripylon.status.conditions import Scribe, about
from tripylon.values import Name


def policy_status(graph: Graph, policy: BackendTLSPolicy, scribe: Scribe, options: Options) -> PolicyStatus | None:
    """The status of a policy: our entries only; None when none of our Gateways uses it."""
    ancestors = graph.get(ANCESTORS, policy.key)
    if not ancestors:
        return None
    findings: tuple[Finding, ...] = graph.findings(policy.ref)
    entries = policy.status.ancestors if policy.status is not None else ()
    mine = {each.ancestor_ref: each.conditions for each in entries if each.controller_name == options.controller_name}
    return PolicyStatus(ancestors=tuple(_ancestor(name, findings, scribe, mine, options) for name in ancestors))


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
    gateway: Name,
    findings: tuple[Finding, ...],
    scribe: Scribe,
    previous: dict[ParentReference, tuple[Condition, ...]],
    options: Options,
) -> PolicyAncestorStatus:
    ref = _gateway_ref(gateway)
    scribe = scribe.over(previous.get(ref, ()))
    faults = about(findings, "Accepted") + about(findings, "Programmed")
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
