"""Certificates: which Secrets an HTTPS listener presents, read, parsed and matched with their keys once.

The invariant: nothing unparsed reaches Envoy, since it would refuse the listener as a whole. A listener without any
usable certificate is not served; its neighbours are. A Secret that was good and is not any more goes on serving what it
held, for as long as it is there: a mistake in it shall not end anybody's connections.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tripylon.api.core import Secret
from tripylon.api.gateway import Gateway
from tripylon.api.gateway import Listener as ListenerSpec
from tripylon.findings import Finding
from tripylon.graph import Derive, Graph, Index, Read, Table
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.plan import Certificate, GatewayPlan, GatewayTls, TlsPlan
from tripylon.values import Built, Name, Ref, intersect_hostnames, wider_hostnames
from tripylon.world.grants import may_refer
from tripylon.world.world import GATEWAYS, LAST_GOOD_SECRETS, SECRETS

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS = 2048


def _secrets_named(name: Name, gateway: Gateway) -> Iterable[Name]:
    for listener in gateway.spec.listeners:
        if listener.tls is not None:
            for ref in listener.tls.certificate_refs:
                yield Name(ref.namespace or name.namespace, ref.name)


GATEWAYS_BY_SECRET: Index[Name, Name, Gateway] = Index("gateways by secret", GATEWAYS, _secrets_named)
CERTIFICATES: Table[Name, Certificate] = Table("certificates")
GATEWAY_TLS: Table[Name, GatewayTls] = Table("gateway tls")
TLS_BY_SECRET: Index[Name, Name, GatewayTls] = Index(
    "gateway tls by secret", GATEWAY_TLS, lambda _, tls: [name for each in tls.listeners for name in each.certificates]
)


def derives() -> tuple[Derive[Name, Any], ...]:
    """The steps from Secrets and gateway plans to what each listener presents, in order."""
    return (
        Derive(CERTIFICATES, (GATEWAYS_BY_SECRET,), _certificate),
        Derive(GATEWAY_TLS, (GATEWAY_PLANS,), _gateway_tls),
    )


def _certificate(read: Read, name: Name) -> Built[Certificate, Finding] | None:
    secret = read.get(SECRETS, name)
    if secret is None:
        return None
    certificate = parse_certificate(name, secret)
    if certificate.fault and (before := read.get(LAST_GOOD_SECRETS, name)) is not None:
        certificate = msgspec.structs.replace(parse_certificate(name, before), fault=certificate.fault, last_good=True)
    return Built(certificate)


def keep_last_good(graph: Graph, secret: Secret) -> None:
    """Remember what a Secret held, if that served and what is about to come does not; to be called before it comes."""
    known = graph.get(CERTIFICATES, secret.key)
    if known is None or (known.fault and not known.last_good):
        return
    if not parse_certificate(secret.key, secret).fault:
        graph.delete(LAST_GOOD_SECRETS, secret.key)
    elif graph.get(LAST_GOOD_SECRETS, secret.key) is None and (before := graph.get(SECRETS, secret.key)) is not None:
        graph.put(LAST_GOOD_SECRETS, secret.key, before)


def forget_last_good(graph: Graph, secret: Name) -> None:
    """A Secret is gone: nothing that it held serves any longer."""
    graph.delete(LAST_GOOD_SECRETS, secret)


def parse_certificate(name: Name, secret: Secret) -> Certificate:
    """Reads `tls.crt` and `tls.key`; whatever is wrong is said in `fault`, and then nothing of it is used."""
    contents = secret.contents
    chain, key = contents.get("tls.crt", b""), contents.get("tls.key", b"")
    if not chain or not key:
        missing = " and ".join(f"`{part}`" for part, value in (("tls.crt", chain), ("tls.key", key)) if not value)
        return Certificate(name, fault=f"has no {missing}")
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        return Certificate(name, fault="has a `tls.crt` that is no PEM certificate")
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        return Certificate(name, fault="has a `tls.key` that is encrypted; store it without a passphrase")
    except (ValueError, UnsupportedAlgorithm):
        return Certificate(name, fault="has a `tls.key` that is no PEM private key")
    leaf = certificates[0]
    public = leaf.public_key()
    if _spki(public) != _spki(private.public_key()):
        return Certificate(name, fault="has a `tls.key` that does not belong to the first certificate of `tls.crt`")
    if weakness := _weakness(public):
        return Certificate(name, fault=weakness)
    return Certificate(name, chain, key, int(leaf.not_valid_after_utc.timestamp()), _hostnames(leaf))


def _hostnames(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _weakness(key: PublicKeyTypes) -> str:
    """Why Envoy would refuse a key, or nothing."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            return f"has an RSA key of {key.key_size} bits; at least {_RSA_BITS} are needed"
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        return "has a key that is neither RSA nor ECDSA on P-256, P-384 or P-521"
    return ""


def _gateway_tls(read: Read, name: Name) -> Built[GatewayTls, Finding] | None:
    plan, gateway = read.get(GATEWAY_PLANS, name), read.get(GATEWAYS, name)
    if plan is None or gateway is None:
        return None
    findings: list[Finding] = []
    found = tuple(
        tls
        for listener, spec in zip(plan.listeners, gateway.spec.listeners, strict=True)
        if listener.protocol == "HTTPS"
        and (tls := _listener_tls(read, gateway, spec, findings)) is not None
        and listener.usable
    )
    findings.extend(_overlaps(read, gateway, plan, found))
    return Built(GatewayTls(name, found), tuple(findings))


def _overlaps(read: Read, gateway: Gateway, plan: GatewayPlan, found: tuple[TlsPlan, ...]) -> Iterator[Finding]:
    """Listeners of one port and different hostnames whose certificates have names in common.

    A client may then reuse one's connection for the other's host. Overlapping hostnames are told by `gateways.py`.
    """
    specs = {listener.name: listener for listener in plan.listeners}
    sharing = sharing_names({each.listener: frozenset(_presented(read, each)) for each in found})
    places = {listener.name: place for place, listener in enumerate(plan.listeners)}
    for one in sharing:
        others = [
            other
            for other in sorted(sharing[one], key=places.__getitem__)
            if specs[other].port == specs[one].port
            and intersect_hostnames(specs[other].hostname, specs[one].hostname) is None
        ]
        if others:
            names = ("listener " if len(others) == 1 else "listeners ") + ", ".join(f"`{each}`" for each in others)
            yield Finding(
                object=gateway.ref,
                severity="info",
                condition="OverlappingTLSConfig",
                reason="OverlappingCertificates",
                message=f"Listener `{one}` of Gateway `{gateway.key}` has certificate names in common with {names} on "
                f"port {specs[one].port}; clients that reuse a connection for a hostname of another listener are told "
                "to connect anew (421)",
                hint="Give each listener a certificate for its own hostname",
                field=f"spec.listeners[{places[one]}].tls.certificateRefs",
                listener=one,
            )


def sharing_names(names: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """For each listener with certificates for these names the others of which some name covers or is one of its own."""
    owners: dict[str, list[str]] = {}
    for listener, own in names.items():
        for name in own:
            owners.setdefault(name, []).append(listener)
    sharing: dict[str, set[str]] = {listener: set() for listener in names}
    for name, narrow in owners.items():
        for wider in wider_hostnames(name):
            for one in owners.get(wider, ()):
                sharing[one].update(narrow)
                for other in narrow:
                    sharing[other].add(one)
    for listener, others in sharing.items():
        others.discard(listener)
    return sharing


def _presented(read: Read, tls: TlsPlan) -> Iterator[str]:
    for name in tls.certificates:
        certificate = read.get(CERTIFICATES, name)
        yield from certificate.hostnames if certificate is not None else ()


def _listener_tls(read: Read, gateway: Gateway, listener: ListenerSpec, findings: list[Finding]) -> TlsPlan | None:
    """The certificates of one listener, in the order of their references; None when there is none to present."""
    refs = listener.tls.certificate_refs if listener.tls else ()
    place = next(i for i, each in enumerate(gateway.spec.listeners) if each.name == listener.name)
    subject = f"Listener `{listener.name}` of Gateway `{gateway.key}`"
    names: list[Name] = []

    def complain(reason: str, message: str, hint: str, field: str, severity: str = "error") -> None:
        findings.append(
            Finding(
                object=gateway.ref,
                severity="warning" if severity == "warning" else "error",
                condition="ResolvedRefs",
                reason=reason,
                message=f"{subject} {message}",
                hint=hint,
                field=f"spec.listeners[{place}].tls{field}",
                listener=listener.name,
            )
        )

    if not refs:
        complain(
            "InvalidCertificateRef",
            "has no certificate",
            "Name a Secret of type kubernetes.io/tls in `tls.certificateRefs`",
            "",
        )
    for i, ref in enumerate(refs):
        field = f".certificateRefs[{i}]"
        target = Ref(ref.group or "", ref.kind or "Secret", ref.namespace or gateway.key.namespace, ref.name)
        if (target.group, target.kind) != ("", "Secret"):
            kind = f"{target.group or 'core'}/{target.kind}"
            complain("InvalidCertificateRef", f"refers to a {kind}", "A certificate must be a Secret", f"{field}.kind")
            continue
        if not may_refer(read, gateway.ref, target):
            complain(
                "RefNotPermitted",
                f"may not use Secret `{target.key}` of another namespace",
                f"Allow it with a ReferenceGrant in namespace `{target.namespace}` "
                f"from Gateway of `{gateway.key.namespace}` to Secret",
                field,
            )
            continue
        certificate = read.get(CERTIFICATES, target.key)
        if certificate is None:
            complain(
                "InvalidCertificateRef",
                f"has no certificate: Secret `{target.key}` does not exist",
                f"Create Secret `{target.key}` of type kubernetes.io/tls",
                field,
            )
        elif certificate.last_good:
            complain(
                "InvalidCertificateRef",
                f"goes on with the certificate that Secret `{target.key}` held before: it {certificate.fault} now",
                "Put a PEM certificate chain into `tls.crt` and its unencrypted key into `tls.key`; to have the "
                "certificate withdrawn, delete the Secret",
                field,
            )
            names.append(target.key)
        elif certificate.fault:
            complain(
                "InvalidCertificateRef",
                f"cannot use Secret `{target.key}`: it {certificate.fault}",
                "Put a PEM certificate chain into `tls.crt` and its unencrypted key into `tls.key`",
                field,
            )
        else:
            if (expired := _expired(certificate)) is not None:
                complain("Expired", f"presents Secret `{target.key}`, which {expired}", "Renew it", field, "warning")
            names.append(target.key)
    return TlsPlan(listener.name, tuple(dict.fromkeys(names))) if names else None


def _expired(certificate: Certificate) -> str | None:
    """When a certificate ended, if it did. It is still presented: the client decides, and the other hosts go on."""
    end = datetime.datetime.fromtimestamp(certificate.not_after, datetime.UTC)
    return f"expired on {end:%Y-%m-%d %H:%M} UTC" if end < datetime.datetime.now(datetime.UTC) else None
