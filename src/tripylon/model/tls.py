"""Certificates: which Secrets an HTTPS listener presents, read, parsed and matched with their keys once.

The invariant: nothing unparsed reaches Envoy, since it would refuse the listener as a whole. A listener without any
usable certificate is not served; its neighbours are. A Secret that was good and is not any more goes on serving what it
held, for as long as it is there: a mistake in it shall not end anybody's connections.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tripylon.api.core import Secret
from tripylon.api.gateway import Gateway
from tripylon.api.ingress import Ingress
from tripylon.api.listener_sets import ListenerSet
from tripylon.findings import Finding, Severity
from tripylon.graph import Derive, Graph, Index, Read, Table
from tripylon.model.entries import Entry, about_listener
from tripylon.model.frontend_tls import check_clients
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import LISTENERS
from tripylon.model.holders import ENTRIES
from tripylon.model.plan import Certificate, GatewayTls, HolderKey, HolderTls, Presented, TlsPlan, merge_order
from tripylon.pem import read_certificates, written
from tripylon.values import Built, Name, Ref
from tripylon.world.grants import may_refer
from tripylon.world.withheld import absence_of
from tripylon.world.world import GATEWAYS, INGRESSES, LAST_GOOD_SECRETS, LISTENER_SETS, SECRETS

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS = 2048


class _Fault(NamedTuple):
    """What is wrong with what a listener presents; `message` follows the listener's name in the sentence."""

    reason: str
    message: str
    hint: str
    field: str = "tls"
    severity: Severity = "error"


class CertificateUse(msgspec.Struct, frozen=True, gc=False):
    """What a listener that refers to a Secret has of it."""

    presentable: bool
    hostnames: frozenset[str]
    """The names that the certificate is for."""
    fault: _Fault | None
    """What is to be told, be it presented in spite of it or not."""


def _secrets_named(name: Name, holder: Gateway | ListenerSet) -> Iterable[Name]:
    if isinstance(holder, Gateway) and holder.spec.tls is not None and holder.spec.tls.backend is not None:
        client = holder.spec.tls.backend.client_certificate_ref
        if client is not None:
            yield Name(client.namespace or name.namespace, client.name)
    for listener in holder.spec.listeners:
        if listener.tls is not None:
            for ref in listener.tls.certificate_refs:
                yield Name(ref.namespace or name.namespace, ref.name)


GATEWAYS_BY_SECRET: Index[Name, Name, Gateway] = Index("gateways by secret", GATEWAYS, _secrets_named)
SETS_BY_SECRET: Index[Name, Name, ListenerSet] = Index("listenersets by secret", LISTENER_SETS, _secrets_named)
INGRESSES_BY_SECRET: Index[Name, Name, Ingress] = Index(
    "ingresses by secret",
    INGRESSES,
    lambda name, ingress: (Name(name.namespace, each.secret_name) for each in ingress.spec.tls if each.secret_name),
)
CERTIFICATES: Table[Name, Certificate] = Table("certificates")
USES: Table[Name, CertificateUse] = Table("uses of certificates")
"""What matters of Secrets to those who refer to them; a renewed certificate changes nothing of it."""
LISTENERS_TLS: Table[HolderKey, HolderTls] = Table("listeners tls")
"""The TLS side of listeners, by the object that states them; a row for each, also where nothing ends TLS."""
GATEWAY_TLS: Table[Name, GatewayTls] = Table("gateway tls")
TLS_BY_SECRET: Index[Name, HolderKey, HolderTls] = Index(
    "tls by secret", LISTENERS_TLS, lambda _, tls: [name for each in tls.listeners for name in each.certificates]
)
TLS_BY_GATEWAY: Index[Name, HolderKey, HolderTls] = Index(
    "tls by gateway", LISTENERS_TLS, lambda key, _: (key.gateway,)
)
VALID_SETS: Index[Name, HolderKey, HolderTls] = Index(
    "valid listenersets by gateway",
    LISTENERS_TLS,
    lambda key, tls: (key.gateway,) if tls.valid and key.holder.kind == "ListenerSet" else (),
)
"""The ListenerSets of each gateway of which some listener can be served: what `attachedListenerSets` counts."""

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    GATEWAYS_BY_SECRET,
    SETS_BY_SECRET,
    INGRESSES_BY_SECRET,
    TLS_BY_SECRET,
    TLS_BY_GATEWAY,
    VALID_SETS,
)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from Secrets and listeners to what each listener presents, in order."""
    return (
        Derive(CERTIFICATES, (GATEWAYS_BY_SECRET, SETS_BY_SECRET, INGRESSES_BY_SECRET), _certificate),
        Derive(USES, (GATEWAYS_BY_SECRET, SETS_BY_SECRET, INGRESSES_BY_SECRET), _use),
        Derive(LISTENERS_TLS, (LISTENERS,), _listeners_tls),
        Derive(GATEWAY_TLS, (GATEWAY_HEADS,), _gateway_tls),
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
        certificates = read_certificates(chain)
    except ValueError:
        return Certificate(name, fault="has a `tls.crt` that is no PEM certificate")
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        return Certificate(name, fault="has a `tls.key` that is encrypted; store it without a passphrase")
    except (ValueError, UnsupportedAlgorithm):
        return Certificate(name, fault="has a `tls.key` that is no PEM private key")
    leaf = certificates[0]
    try:
        public = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return Certificate(name, fault="has a `tls.crt` whose first certificate has a public key that is none")
    if _spki(public) != _spki(private.public_key()):
        return Certificate(name, fault="has a `tls.key` that does not belong to the first certificate of `tls.crt`")
    if weakness := _weakness(public):
        return Certificate(name, fault=weakness)
    plain_key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    start, end = (int(time.timestamp()) for time in (leaf.not_valid_before_utc, leaf.not_valid_after_utc))
    return Certificate(name, written(certificates), plain_key, start, end, _hostnames(leaf))


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


def _use(read: Read, name: Name) -> Built[CertificateUse, Finding] | None:
    certificate = read.get(CERTIFICATES, name)
    fault = _certificate_fault(read, certificate, name)
    if certificate is None:
        return Built(CertificateUse(presentable=False, hostnames=frozenset(), fault=fault))
    return Built(CertificateUse(bool(certificate.chain), frozenset(certificate.hostnames), fault))


def _listeners_tls(read: Read, key: HolderKey) -> Built[HolderTls, Finding] | None:
    holder, written = read.get(LISTENERS, key), read.get(ENTRIES, key)
    if holder is None or written is None:
        return None
    findings: list[Finding] = []
    found: list[TlsPlan] = []
    presented: list[Presented] = []
    valid = []
    for listener, entry in zip(holder.listeners, written.entries, strict=True):
        tls = _listener_tls(read, key.gateway, entry, findings) if listener.terminates else None
        if listener.usable and tls is not None:
            found.append(tls)
            presented.append(Presented(tls.listener, listener.port, listener.hostname, _names(read, tls)))
        if listener.usable and (tls is not None or not listener.terminates):
            valid.append(listener)
    tables = frozenset(each.table(key.gateway) for each in valid if each.http)
    made = HolderTls(key, holder.order, tuple(found), tuple(presented), bool(valid), tables)
    return Built(made, tuple(findings))


def _names(read: Read, tls: TlsPlan) -> frozenset[str]:
    found = (read.get(USES, name) for name in tls.certificates)
    return frozenset().union(*(each.hostnames for each in found if each is not None))


def _gateway_tls(read: Read, name: Name) -> Built[GatewayTls, Finding] | None:
    if read.get(GATEWAY_HEADS, name) is None:
        return None
    holders = sorted(read.lookup(TLS_BY_GATEWAY, name), key=merge_order)
    found = tuple(chain.from_iterable(holder.listeners for holder in holders))
    return Built(GatewayTls(name, found))


def _listener_tls(read: Read, gateway: Name, entry: Entry, findings: list[Finding]) -> TlsPlan | None:
    """What one listener presents and asks for; None when it has no certificate, or nothing to check clients by."""
    names = _presentable(read, entry, findings)
    clients, checked = check_clients(read, gateway, entry, findings)
    return TlsPlan(entry.id, names, clients) if names and checked else None


def _presentable(read: Read, entry: Entry, findings: list[Finding]) -> tuple[Name, ...]:
    """The certificates of one listener that can be presented, in the order of their references."""
    refs = entry.spec.tls.certificate_refs if entry.spec.tls else ()
    hint = "Name a Secret of type kubernetes.io/tls in `tls.certificateRefs`"
    faults = [] if refs else [_Fault("InvalidCertificateRef", "has no certificate", hint)]
    names: list[Name] = []
    for i, ref in enumerate(refs):
        target = Ref(ref.group or "", ref.kind or "Secret", ref.namespace or entry.holder.namespace, ref.name)
        field = f"tls.certificateRefs[{i}]"
        fault = _reference_fault(read, entry.holder, target, field)
        if fault is None:
            use = read.get(USES, target.key)
            fault = use.fault._replace(field=field) if use is not None and use.fault is not None else None
            if use is not None and use.presentable:
                names.append(target.key)
        if fault is not None:
            faults.append(fault)
    findings.extend(
        about_listener(
            entry,
            "ResolvedRefs",
            fault.reason,
            fault.message,
            hint=fault.hint,
            field=fault.field,
            severity=fault.severity,
        )
        for fault in faults
    )
    return tuple(dict.fromkeys(names))


def _reference_fault(read: Read, source: Ref, target: Ref, field: str) -> _Fault | None:
    """Why a reference to a certificate may not be followed."""
    if (target.group, target.kind) != ("", "Secret"):
        what = f"refers to a {target.group or 'core'}/{target.kind}"
        return _Fault("InvalidCertificateRef", what, "A certificate must be a Secret", f"{field}.kind")
    if not may_refer(read, source, target):
        return _Fault(
            "RefNotPermitted",
            f"may not use Secret `{target.key}` of another namespace",
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` "
            f"from {source.kind} of `{source.namespace}` to Secret",
            field,
        )
    return None


def _certificate_fault(read: Read, certificate: Certificate | None, name: Name) -> _Fault | None:
    """What is wrong with a certificate that a listener refers to, be it presented in spite of it or not."""
    if certificate is None:
        absence = absence_of(read, Ref("", "Secret", *name), f"Create Secret `{name}` of type kubernetes.io/tls")
        what = f"has no certificate: Secret `{name}` {absence.what}"
        return _Fault("InvalidCertificateRef", what, absence.hint)
    if certificate.fault:
        hint = "Put a PEM certificate chain into `tls.crt` and its unencrypted key into `tls.key`"
        what = f"cannot use Secret `{name}`: it {certificate.fault}"
        if certificate.last_good:
            hint += "; to have the certificate withdrawn, delete the Secret"
            what = f"goes on with the certificate that Secret `{name}` held before: it {certificate.fault} now"
        return _Fault("InvalidCertificateRef", what, hint)
    return _out_of_time(certificate, name)


def _out_of_time(certificate: Certificate, name: Name) -> _Fault | None:
    """That a certificate ended or is yet to begin. It is still presented: the client decides, other hosts go on."""
    now = datetime.datetime.now(datetime.UTC)
    start, end = (
        datetime.datetime.fromtimestamp(time, datetime.UTC) for time in (certificate.not_before, certificate.not_after)
    )
    if end < now:
        what = f"presents Secret `{name}`, which expired on {end:%Y-%m-%d %H:%M} UTC"
        return _Fault("Expired", what, "Renew it", severity="warning")
    if start > now:
        what = f"presents Secret `{name}`, which is valid only from {start:%Y-%m-%d %H:%M} UTC on"
        return _Fault("NotYetValid", what, "Wait, use another one, or correct the clock", severity="warning")
    return None
