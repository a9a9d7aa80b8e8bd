"""BackendTLSPolicy: how a gateway reaches a Service by TLS; and the status that policies have alike.

Which of several policies is in force is worked out in `model/backend_policies.py`; here are only the words and the
rules that a schema can state.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from tripylon.api.markers import Entries, Items, Part, Rule, Text
from tripylon.api.meta import (
    GATEWAY_GROUP,
    ControllerName,
    Group,
    Hostname,
    KindName,
    ObjectName,
    PreciseHostname,
    Resource,
    SectionName,
)
from tripylon.api.refs import LocalObjectReference, ParentReference
from tripylon.api.routes import RouteConditions

# --- What policies have alike -------------------------------------------------------------------------------


class PolicyAncestorStatus(Part, frozen=True, gc=False, kw_only=True):
    """What one controller says about a policy under one Gateway."""

    ancestor_ref: ParentReference
    """The Gateway through which the policy has an effect."""
    controller_name: ControllerName
    """The controller that wrote this."""
    conditions: RouteConditions
    """State of the policy there: `Accepted`, `ResolvedRefs`."""


class PolicyStatus(Part, frozen=True, gc=False, kw_only=True):
    """What controllers say about a policy."""

    ancestors: Annotated[tuple[PolicyAncestorStatus, ...], Items(max=16)]
    """One entry per Gateway and controller, at most 16."""


class PolicyTarget(Part, frozen=True, gc=False, kw_only=True):
    """What a policy is for, an object of the same namespace."""

    group: Group
    """API group of the object; empty for the core group."""
    kind: KindName
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""
    section_name: SectionName = ""
    """Only this part of the object: of a Service, the port of this name. Empty: all without a policy of their own."""


_SAME_TARGET = "a.group == b.group && a.kind == b.kind && a.name == b.name"

PolicyTargets = Annotated[
    tuple[PolicyTarget, ...],
    Items(min=1, max=16),
    Rule(
        cel=f"self.all(a, self.all(b, !({_SAME_TARGET}) || has(a.sectionName) == has(b.sectionName)))",
        message="must give `sectionName` in all or none of the references to one target; add what is missing",
        reason="FieldValueRequired",
    ),
    Rule(
        cel=(
            f"self.all(a, self.exists_one(b, {_SAME_TARGET} && has(a.sectionName) == has(b.sectionName)"
            " && (!has(a.sectionName) || a.sectionName == b.sectionName)))"
        ),
        message="must not name the same target and section twice; remove one",
        reason="FieldValueDuplicate",
    ),
]

# --- BackendTLSPolicy ---------------------------------------------------------------------------------------


class SubjectAltName(Part, frozen=True, gc=False, kw_only=True):
    """A name that a backend's certificate may carry."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.type != 'Hostname' || has(self.hostname)",
            message="must be set because `type` is Hostname; add it",
            reason="FieldValueRequired",
            field_path=".hostname",
        ),
        Rule(
            cel="self.type == 'Hostname' || !has(self.hostname)",
            message="must not be set unless `type` is Hostname; remove it",
            field_path=".hostname",
        ),
        Rule(
            cel="self.type != 'URI' || has(self.uri)",
            message="must be set because `type` is URI; add it",
            reason="FieldValueRequired",
            field_path=".uri",
        ),
        Rule(
            cel="self.type == 'URI' || !has(self.uri)",
            message="must not be set unless `type` is URI; remove it",
            field_path=".uri",
        ),
    )

    type: Annotated[str, Text(values=("Hostname", "URI"))]
    """`Hostname` or `URI`."""
    hostname: Hostname = ""
    """A DNS name, for type `Hostname`; with `*.` in front it is the certificate's own wildcard name."""
    uri: Annotated[
        str,
        Text(
            min=1,
            max=253,
            pattern=r"^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?",
            words="a URI with a scheme, such as 'spiffe://example.com/web'",
        ),
    ] = ""
    """A URI with its scheme, for type `URI`, such as `spiffe://example.com/web`."""


class BackendTLSPolicyValidation(Part, frozen=True, gc=False, kw_only=True):
    """How a backend's certificate is verified."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.caCertificateRefs) != has(self.wellKnownCACertificates)",
            message="must have exactly one of `caCertificateRefs` and `wellKnownCACertificates`; add or remove one",
            reason="FieldValueRequired",
        ),
    )

    ca_certificate_refs: Annotated[tuple[LocalObjectReference, ...], Items(min=1, max=8)] = msgspec.field(
        name="caCertificateRefs", default=()
    )
    """Authorities that the certificate must come from, 1 to 8: ConfigMaps or Secrets with PEM under `ca.crt`."""
    well_known_ca_certificates: Annotated[
        str,
        Text(
            min=1,
            max=253,
            pattern=(
                r"^(System|([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
                r"/([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]))$"
            ),
            words="`System`, or a name with a domain and '/' in front",
        ),
    ] = msgspec.field(name="wellKnownCACertificates", default="")
    """`System`: the authorities that the system trusts. Other names are not known here."""
    hostname: PreciseHostname
    """Server name sent to the backend (SNI), which its certificate must be for unless `subjectAltNames` are given."""
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], Items(max=5)] = ()
    """Names of which the certificate must carry at least one, at most 5; absent: `hostname`."""


class BackendTLSPolicySpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    target_refs: PolicyTargets
    """Services that are reached by TLS, 1 to 16, each perhaps with a port's name as `sectionName`."""
    validation: BackendTLSPolicyValidation
    """How their certificates are verified."""
    options: Annotated[dict[str, Annotated[str, Text(min=0, max=4096)]], Entries(max=16)] = msgspec.field(
        default_factory=dict
    )
    """Settings of particular implementations; none are read here."""


class BackendTLSPolicy(Resource, frozen=True, gc=False, kw_only=True):
    """Has Services reached by TLS, and says how their certificates are verified."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: BackendTLSPolicySpec
    """What is asked for."""
    status: PolicyStatus | None = None
    """What controllers say about it."""
