"""BackendTLSPolicy → how a Service is reached by TLS (Gateway API, BackendTLSPolicy).

For each port of a Service one policy is in force: one that names the port's section before one that names none, then
the oldest, then the first by name. The invariant: once a policy is in force, its Service is reached by verified TLS or
not at all; a policy that cannot be followed does not give way to another one, or to plain text. Which Gateways a
policy concerns is worked out in `policy_ancestors.py`; `backends.py` asks `in_force`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tripylon.api.policies import BackendTLSPolicy, SubjectAltName
from tripylon.api.refs import LocalObjectReference
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.authorities import CA_KEY, AuthorityFault, authority, is_supported
from tripylon.model.authorities import read_authorities as authorities_of
from tripylon.model.cluster_plans import BackendPolicy
from tripylon.model.policy_findings import about_policy
from tripylon.values import Built, Name
from tripylon.world.world import (
    BACKEND_TLS_POLICIES,
    BACKEND_TLS_POLICIES_BY_SERVICE,
    SERVICES,
)

AUTHORITIES: Table[Name, bytes] = Table("authorities of policies")
"""The PEM bundle of each policy that names authorities of its own, of which at least one can be read."""
POLICIES: Table[Name, BackendPolicy] = Table("backend tls policies resolved")
TARGETS: Table[Name, tuple[tuple[str, Name], ...]] = Table("backend tls policies in force")
"""By Service: the section (a port's name; empty: all ports without a policy of their own), and the policy in force."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from policies to what is in force, in order."""
    return (
        Derive(AUTHORITIES, (BACKEND_TLS_POLICIES,), read_authorities),
        Derive(POLICIES, (BACKEND_TLS_POLICIES,), plan_policy),
        Derive(TARGETS, (BACKEND_TLS_POLICIES_BY_SERVICE,), judge_target),
    )


def in_force(read: Read, service: Name, port: str) -> BackendPolicy | None:
    """The policy that rules a named port of a Service; None: it is reached in plain text."""
    targets = read.get(TARGETS, service)
    found = dict(targets) if targets is not None else {}
    name = found.get(port) or found.get("")
    return read.get(POLICIES, name) if name is not None else None


# --- Authorities -----------------------------------------------------------------------------------------------------


def read_authorities(read: Read, name: Name) -> Built[bytes, Finding] | None:
    """The certificates of all authorities that can be read. A finding tells of each that cannot, and when none can."""
    policy = read.get(BACKEND_TLS_POLICIES, name)
    if policy is None or not policy.spec.validation.ca_certificate_refs:
        return None
    findings: list[Finding] = []
    bundles: list[bytes] = []
    for index, ref in enumerate(policy.spec.validation.ca_certificate_refs):
        found = _bundle(read, policy, ref, f"spec.validation.caCertificateRefs[{index}]")
        if isinstance(found, Finding):
            findings.append(found)
        else:
            bundles.append(found)
    if not bundles:
        findings.append(
            about_policy(
                policy,
                "NoValidCACertificate",
                "has no authority to verify backends by",
                "Name one that can be read; until then requests for its backends are answered with 500",
                "spec.validation.caCertificateRefs",
            )
        )
        return Built(b"", tuple(findings))
    return Built(b"\n".join(bundles), tuple(findings))


def _bundle(read: Read, policy: BackendTLSPolicy, ref: LocalObjectReference, field: str) -> bytes | Finding:
    target = authority(ref.group, ref.kind, policy.key.namespace, ref.name)
    if not is_supported(read, target):
        what = f"refers to authorities of kind {ref.group or 'core'}/{ref.kind}, which is not supported"
        hint = f"Refer to a ConfigMap with the certificates under `{CA_KEY}`"
        return about_policy(policy, "InvalidKind", what, hint, f"{field}.kind", condition="ResolvedRefs")
    found = authorities_of(read, target)
    if isinstance(found, AuthorityFault):
        place = f"{field}.name"
        return about_policy(policy, "InvalidCACertificateRef", found.what, found.hint, place, condition="ResolvedRefs")
    return found


# --- The policy itself -----------------------------------------------------------------------------------------------


def plan_policy(read: Read, name: Name) -> Built[BackendPolicy, Finding] | None:
    """What a policy asks for, and whether it can be had."""
    policy = read.get(BACKEND_TLS_POLICIES, name)
    if policy is None:
        return None
    validation = policy.spec.validation
    known = validation.well_known_ca_certificates
    findings = [*_unread(policy), *_targets(read, policy)]
    if known not in ("", "System"):
        findings.append(
            about_policy(
                policy,
                "Invalid",
                f"asks for the authorities `{known}`, which are not known",
                "Use System, or name some by `caCertificateRefs`; until then requests for its backends are answered "
                "with 500",
                "spec.validation.wellKnownCACertificates",
            )
        )
    system = known == "System" and not validation.ca_certificate_refs
    bundle = read.get(AUTHORITIES, name)
    plan = BackendPolicy(
        name=name,
        sni=validation.hostname,
        names=tuple(dict.fromkeys(_san(each) for each in validation.subject_alt_names)),
        system=system,
        usable=system or bool(bundle),
    )
    return Built(plan, tuple(findings))


def _san(name: SubjectAltName) -> str:
    return name.uri if name.type == "URI" else name.hostname


def _unread(policy: BackendTLSPolicy) -> Iterator[Finding]:
    if policy.spec.options:
        options = ", ".join(f"`{key}`" for key in sorted(policy.spec.options))
        what = f"has options that nobody here reads: {options}"
        yield about_policy(policy, "UnsupportedValue", what, "Remove them", "spec.options", severity="warning")


def _targets(read: Read, policy: BackendTLSPolicy) -> Iterator[Finding]:
    """A finding for each target that is not there."""
    for index, target in enumerate(policy.spec.target_refs):
        field = f"spec.targetRefs[{index}]"
        if (target.group, target.kind) != ("", "Service"):
            what = f"is for a {target.group or 'core'}/{target.kind}, which no BackendTLSPolicy rules here"
            yield about_policy(policy, "TargetNotFound", what, "Name a Service", f"{field}.kind")
            continue
        name = Name(policy.key.namespace, target.name)
        service = read.get(SERVICES, name)
        if service is None:
            what = f"is for Service `{name}`, which does not exist"
            yield about_policy(policy, "TargetNotFound", what, "Create it, or correct the name", f"{field}.name")
        elif target.section_name and target.section_name not in {port.name for port in service.spec.ports}:
            names = ", ".join(f"`{port.name}`" for port in service.spec.ports if port.name)
            what = f"is for port `{target.section_name}` of Service `{name}`, which has none of that name"
            hint = f"Use one of {names}" if names else "Give the port a name"
            yield about_policy(policy, "TargetNotFound", what, hint, f"{field}.sectionName")


# --- Which policy is in force ----------------------------------------------------------------------------------------


def judge_target(read: Read, service: Name) -> Built[tuple[tuple[str, Name], ...], Finding] | None:
    """The winner for each section of a Service; a finding tells every other one which it is."""
    sections: dict[str, list[tuple[BackendTLSPolicy, int]]] = {}
    for policy in read.lookup(BACKEND_TLS_POLICIES_BY_SERVICE, service):
        for index, target in enumerate(policy.spec.target_refs):
            if (target.group, target.kind, target.name) == ("", "Service", service.name):
                sections.setdefault(target.section_name, []).append((policy, index))
    findings: list[Finding] = []
    won: list[tuple[str, Name]] = []
    for section, rivals in sorted(sections.items()):
        (first, _), *others = sorted(rivals, key=lambda rival: _age(rival[0]))
        won.append((section, first.key))
        for policy, index in others:
            if policy.key != first.key:
                findings.append(_conflict(policy, service, section, first.key, index))
    return Built(tuple(won), tuple(findings))


def _age(policy: BackendTLSPolicy) -> tuple[bool, str, Name]:
    """The older first, then by name; what states no age comes last."""
    created = policy.metadata.creation_timestamp
    return (not created, created, policy.key)


def _conflict(policy: BackendTLSPolicy, service: Name, section: str, winner: Name, index: int) -> Finding:
    what = f"port `{section}` of Service `{service}`" if section else f"Service `{service}`"
    return about_policy(
        policy,
        "Conflicted",
        f"is not in force for {what}, which the older BackendTLSPolicy `{winner}` rules",
        "Remove one of the two",
        f"spec.targetRefs[{index}]",
    )
