"""The certificate that a Gateway shows to backends which it reaches by TLS (Gateway API, `spec.tls.backend`).

It is a Gateway's own, so a destination that would be shown it is one cluster for each such Gateway. The invariant: a
certificate that cannot be had is not left out; what would be shown it is then not reached at all, since a backend that
lets in anybody by TLS must not be trusted with requests that were meant for one that asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from tripylon.api.gateway import Gateway
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.plan import Certificate, ClientCertificate, ClusterKey, Destination, Filters, HostPlan, RulePlan
from tripylon.model.tls import CERTIFICATES
from tripylon.values import Built, Name, Ref
from tripylon.world.grants import may_refer
from tripylon.world.withheld import absence_of
from tripylon.world.world import GATEWAYS

_FIELD = "spec.tls.backend.clientCertificateRef"
_UNTIL_THEN = "until then no backend with a BackendTLSPolicy is reached"


def _asking(name: Name, gateway: Gateway) -> Iterable[Name]:
    return (name,) if _secret_ref(gateway) is not None else ()


GATEWAYS_WITH_CLIENT: Index[Name, Name, Gateway] = Index("gateways with a client certificate", GATEWAYS, _asking)
CLIENT_CERTIFICATES: Table[Name, ClientCertificate] = Table("client certificates")
"""By Gateway, only of those that state one."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The step from Gateways to what they show to backends."""
    return (Derive(CLIENT_CERTIFICATES, (GATEWAYS_WITH_CLIENT,), plan_client),)


def plan_client(read: Read, name: Name) -> Built[ClientCertificate, Finding] | None:
    """What a Gateway of ours shows to backends; a fault is its own `ResolvedRefs`, and it stays accepted."""
    gateway = read.get(GATEWAYS, name)
    if gateway is None or read.get(GATEWAY_HEADS, name) is None:
        return None
    target = _secret_ref(gateway)
    assert target is not None  # the index holds no others
    fault = _reference_fault(read, gateway, target)
    certificate = read.get(CERTIFICATES, target.key) if fault is None else None
    if fault is None:
        fault = _certificate_fault(read, gateway, target.key, certificate)
    usable = certificate is not None and bool(certificate.chain)
    return Built(ClientCertificate(name, target.key if usable else None), (fault,) if fault is not None else ())


def _secret_ref(gateway: Gateway) -> Ref | None:
    backend = gateway.spec.tls.backend if gateway.spec.tls is not None else None
    ref = backend.client_certificate_ref if backend is not None else None
    if ref is None:
        return None
    return Ref(ref.group or "", ref.kind or "Secret", ref.namespace or gateway.key.namespace, ref.name)


def _reference_fault(read: Read, gateway: Gateway, target: Ref) -> Finding | None:
    if (target.group, target.kind) != ("", "Secret"):
        what = f"names an object of kind {target.group or 'core'}/{target.kind} as its client certificate"
        return _finding(gateway, what, f"Name a Secret of type kubernetes.io/tls; {_UNTIL_THEN}", ".kind")
    if not may_refer(read, gateway.ref, target):
        hint = (
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` from Gateway of "
            f"`{gateway.key.namespace}` to Secret; {_UNTIL_THEN}"
        )
        what = f"may not use Secret `{target.key}` of another namespace"
        return _finding(gateway, what, hint, reason="RefNotPermitted")
    return None


def _certificate_fault(read: Read, gateway: Gateway, name: Name, certificate: Certificate | None) -> Finding | None:
    """What is wrong with a certificate, be it shown in spite of it or not."""
    if certificate is None:
        absence = absence_of(read, Ref("", "Secret", *name), f"Create Secret `{name}` of type kubernetes.io/tls")
        what = f"has no client certificate: Secret `{name}` {absence.what}"
        return _finding(gateway, what, f"{absence.hint}; {_UNTIL_THEN}")
    if not certificate.fault:
        return None
    cure = "Put a PEM certificate chain into `tls.crt` and its unencrypted key into `tls.key`; "
    if certificate.last_good:
        what = f"goes on with the client certificate that Secret `{name}` held before: it {certificate.fault} now"
        return _finding(gateway, what, f"{cure}to have the certificate withdrawn, delete the Secret")
    return _finding(gateway, f"cannot use Secret `{name}`: it {certificate.fault}", cure + _UNTIL_THEN)


def _finding(
    gateway: Gateway, what: str, hint: str, field: str = "", *, reason: str = "InvalidClientCertificateRef"
) -> Finding:
    return Finding(
        object=gateway.ref,
        condition="ResolvedRefs",
        reason=reason,
        message=f"Gateway `{gateway.key}` {what}",
        hint=hint,
        field=_FIELD + field,
    )


# --- What a destination is for one Gateway ---------------------------------------------------------------------------


def shows(cluster: ClusterKey) -> bool:
    """Whether a Gateway's certificate is shown to a destination: to those whose TLS comes from a BackendTLSPolicy."""
    return cluster.tls and cluster.kind in ("Service", "ServiceImport")


def reached(cluster: ClusterKey, client: ClientCertificate | None) -> ClusterKey | None:
    """A destination as one Gateway reaches it; None: not at all, for want of the certificate."""
    if client is None or not shows(cluster):
        return cluster
    return cluster._replace(gateway=client.gateway) if client.secret is not None else None


def reached_by(read: Read, gateways: Iterable[Name], clusters: Iterable[ClusterKey]) -> tuple[ClusterKey, ...]:
    """All destinations as some Gateways reach them, each once."""
    wanted = tuple(clusters)
    if not any(shows(cluster) for cluster in wanted):
        return wanted
    clients = [read.get(CLIENT_CERTIFICATES, gateway) for gateway in dict.fromkeys(gateways)]
    found = (reached(cluster, client) for cluster in wanted for client in clients)
    return tuple(dict.fromkeys(cluster for cluster in found if cluster is not None))


def host_reached(plan: HostPlan, client: ClientCertificate | None) -> HostPlan:
    """A host with the destinations as its Gateway reaches them."""
    if client is None:
        return plan
    rules: dict[int, RulePlan] = {}
    for entry in plan.entries:
        if id(entry.rule) not in rules:
            rules[id(entry.rule)] = _rule_reached(entry.rule, client)
    entries = tuple(replace(entry, rule=rules[id(entry.rule)]) for entry in plan.entries)
    return replace(plan, entries=entries)


def _rule_reached(rule: RulePlan, client: ClientCertificate) -> RulePlan:
    if not any(shows(cluster) for cluster in clusters_of(rule)):
        return rule
    destinations = tuple(_destination_reached(each, client) for each in rule.destinations)
    return replace(rule, destinations=destinations, filters=_filters_reached(rule.filters, client))


def _destination_reached(destination: Destination, client: ClientCertificate) -> Destination:
    cluster = reached(destination.cluster, client) if destination.cluster is not None else None
    return replace(destination, cluster=cluster, filters=_filters_reached(destination.filters, client))


def _filters_reached(filters: Filters, client: ClientCertificate) -> Filters:
    """A mirror that cannot be reached is left out: it is no part of the answer; a service to be asked closes it."""
    if not filters.mirrors and not filters.auth:
        return filters
    asked = tuple((service, reached(service.cluster, client)) for service in filters.auth)
    pairs = ((mirror, reached(mirror.cluster, client)) for mirror in filters.mirrors)
    return replace(
        filters,
        mirrors=tuple(replace(mirror, cluster=cluster) for mirror, cluster in pairs if cluster is not None),
        auth=tuple(replace(service, cluster=cluster) for service, cluster in asked if cluster is not None),
        closed=filters.closed or any(cluster is None for _, cluster in asked),
    )


def clusters_of(rule: RulePlan) -> Iterator[ClusterKey]:
    """Every destination of a rule, those of mirrors included."""
    for filters in (rule.filters, *(each.filters for each in rule.destinations)):
        for mirror in filters.mirrors:
            yield mirror.cluster
        for service in filters.auth:
            yield service.cluster
    for destination in rule.destinations:
        if destination.cluster is not None:
            yield destination.cluster
