"""XBackendTrafficPolicy → how often requests to a Service may be tried again (GEP-3388), and by what its sessions are
known (deprecated in favour of XBackend's). Experimental.

One policy rules a Service: the oldest, then the first by namespace and name. The invariant: it bounds what routes ask
for and asks for nothing itself. Which Gateways it concerns is worked out in `policy_ancestors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tripylon.api.x_policies import RetryConstraint, XBackendTrafficPolicy
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.cluster_plans import RetryBudget
from tripylon.model.policy_findings import about_policy
from tripylon.model.sessions import TRAFFIC_POLICIES, faults_of
from tripylon.values import Built, Name, parse_duration_ms
from tripylon.world.world import SERVICES, X_BACKEND_TRAFFIC_POLICIES, X_BACKEND_TRAFFIC_POLICIES_BY_SERVICE

TRAFFIC_VERDICTS: Table[Name, bool] = Table("backend traffic policies judged")
"""Every XBackendTrafficPolicy, each with whether all its targets are there."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from policies to what is in force; they come before routes."""
    return (
        Derive(TRAFFIC_VERDICTS, (X_BACKEND_TRAFFIC_POLICIES,), judge_policy),
        Derive(TRAFFIC_POLICIES, (X_BACKEND_TRAFFIC_POLICIES_BY_SERVICE,), judge_service),
    )


def retry_budget(read: Read, service: Name) -> RetryBudget | None:
    """How much of what goes to a Service may be retries; None: whatever routes ask for."""
    policy = read.get(TRAFFIC_POLICIES, service)
    constraint = policy.spec.retry_constraint if policy is not None else None
    return _budget(constraint) if constraint is not None else None


def _budget(constraint: RetryConstraint) -> RetryBudget:
    """What the proxy can count: retries under way, as a share of the requests under way, not of those of an interval.

    Of the floor, which is a rate, as many as may begin within a second.
    """
    least = constraint.min_retry_rate
    span = parse_duration_ms(least.interval) if least.interval else 1_000
    return RetryBudget(percent=constraint.budget.percent, least=-(-least.count * 1_000 // max(span, 1)))


def judge_policy(read: Read, name: Name) -> Built[bool, Finding] | None:
    """Whether a policy's targets are there; a finding tells of each that is not."""
    policy = read.get(X_BACKEND_TRAFFIC_POLICIES, name)
    if policy is None:
        return None
    missing = tuple(_missing(read, policy))
    return Built(not missing, (*missing, *_sessions(policy)))


def _missing(read: Read, policy: XBackendTrafficPolicy) -> Iterator[Finding]:
    for index, target in enumerate(policy.spec.target_refs):
        field = f"spec.targetRefs[{index}]"
        service = Name(policy.key.namespace, target.name)
        if (target.group, target.kind) != ("", "Service"):
            what = f"is for a {target.group or 'core'}/{target.kind}, which no XBackendTrafficPolicy rules here"
            yield about_policy(policy, "TargetNotFound", what, "Name a Service", f"{field}.kind")
        elif read.get(SERVICES, service) is None:
            what = f"is for Service `{service}`, which does not exist"
            yield about_policy(policy, "TargetNotFound", what, "Create it, or correct the name", f"{field}.name")


def _sessions(policy: XBackendTrafficPolicy) -> Iterator[Finding]:
    persistence = policy.spec.session_persistence
    for fault in faults_of(persistence) if persistence is not None else ():
        reason = "UnsupportedValue" if fault.kept else "Invalid"
        field = f"spec.sessionPersistence{fault.field}"
        yield about_policy(policy, reason, fault.what, fault.hint, field, severity="warning" if fault.kept else "error")


def judge_service(read: Read, service: Name) -> Built[XBackendTrafficPolicy, Finding] | None:
    """The policy in force for a Service; a finding tells every other one which it is."""
    rivals = sorted(read.lookup(X_BACKEND_TRAFFIC_POLICIES_BY_SERVICE, service), key=_age)
    if not rivals:
        return None
    first, *others = rivals
    return Built(first, tuple(_conflict(policy, service, first.key) for policy in others))


def _age(policy: XBackendTrafficPolicy) -> tuple[bool, str, Name]:
    """The older first, then by name; what states no age comes last."""
    created = policy.metadata.creation_timestamp
    return (not created, created, policy.key)


def _conflict(policy: XBackendTrafficPolicy, service: Name, winner: Name) -> Finding:
    targets = policy.spec.target_refs
    index = next(i for i, each in enumerate(targets) if (each.kind, each.name) == ("Service", service.name))
    what = f"is not in force for Service `{service}`, which the older XBackendTrafficPolicy `{winner}` rules"
    return about_policy(policy, "Conflicted", what, "Remove one of the two", f"spec.targetRefs[{index}]")
