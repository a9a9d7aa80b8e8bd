"""Our own certificate authority: what the Secret of the xDS certificate should hold, worked out from what it holds.

Pure but for fresh keys. The invariant: a certificate is served only when its authority has been in the bundle for a
day, so that every proxy that follows its files knows it; only the first one, and one that has to replace what was lost,
are served at once. Read `identity.py` for the Secret itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEW_AFTER = 2 / 3
"""Part of its life after which a certificate gets a successor."""
OVERLAP = timedelta(days=1)
"""How long an authority is announced before it signs what is served."""
SKEW = timedelta(hours=1)
"""Certificates count from so long ago, for proxies whose clocks are behind."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)


class Kept(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The content of the Secret, in PEM."""

    bundle: bytes = b""
    """Every authority that may sign what is served, now or soon (`ca.crt`)."""
    signer_key: bytes = b""
    """Key of the authority that signs now (`ca.key`)."""
    successor_key: bytes = b""
    """Key of the authority that is announced (`ca-next.key`); empty: none is."""
    chain: bytes = b""
    """The certificate to serve (`tls.crt`)."""
    key: bytes = b""
    """Its key (`tls.key`)."""


def advanced(kept: Kept, names: Sequence[str], now: datetime) -> Kept:
    """What the Secret should hold now; the same value when nothing is due.

    `names` are the DNS names of the server. What cannot be read is replaced; authorities that can be read stay in the
    bundle until they expire.
    """
    known = [each for each in _certificates(kept.bundle) if each.not_valid_after_utc > now]
    signer, signer_key = _pair(known, kept.signer_key)
    successor, successor_key = _pair(known, kept.successor_key)
    if signer is None or signer_key is None:
        signer, signer_key = successor or None, successor_key
        successor, successor_key = None, None
    if signer is None or signer_key is None:
        signer, signer_key = _new_authority(now)
        known = [signer, *known]
    if successor is None and _is_due(signer, now):
        successor, successor_key = _new_authority(now)
        known = [*known, successor]
    if successor is not None and successor_key is not None and now >= successor.not_valid_before_utc + SKEW + OVERLAP:
        signer, signer_key = successor, successor_key
        successor, successor_key = None, None
    chain, key = kept.chain, kept.key
    if not _serves(kept, signer, names, now):
        chain, key = _new_leaf(signer, signer_key, names, now)
    return Kept(
        bundle=_unchanged(kept.bundle, known) or b"".join(map(_pem, known)),
        signer_key=_same_key(kept.signer_key, signer_key),
        successor_key=_same_key(kept.successor_key, successor_key),
        chain=chain,
        key=key,
    )


def _certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates in a bundle that can be read."""
    found = []
    for text in _PEM.findall(pem):
        try:
            found.append(x509.load_pem_x509_certificate(text))
        except ValueError:
            continue
    return found


def _pair(
    known: Sequence[x509.Certificate], key_pem: bytes
) -> tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey | None]:
    """The authority that a key belongs to, and the key."""
    key = _load_key(key_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None, None
    found = next((each for each in known if each.public_key() == key.public_key()), None)
    return (found, key) if found is not None else (None, None)


def _load_key(pem: bytes) -> PrivateKeyTypes | None:
    try:
        return serialization.load_pem_private_key(pem, None) if pem else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is time for a successor."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return now >= certificate.not_valid_before_utc + life * RENEW_AFTER


def _serves(kept: Kept, signer: x509.Certificate, names: Sequence[str], now: datetime) -> bool:
    """Whether the certificate that is there can be served on: ours, by this authority, for these names, not due."""
    leaf = next(iter(_certificates(kept.chain)), None)
    key = _load_key(kept.key)
    if leaf is None or key is None or leaf.public_key() != key.public_key() or _is_due(leaf, now):
        return False
    try:
        leaf.verify_directly_issued_by(signer)
        carried = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(names) <= set(carried.get_values_for_type(x509.DNSName))


def _unchanged(bundle: bytes, known: Sequence[x509.Certificate]) -> bytes:
    """The bundle as it is written, if it holds just these."""
    return bundle if _certificates(bundle) == list(known) else b""


def _same_key(written: bytes, key: ec.EllipticCurvePrivateKey | None) -> bytes:
    """A key in PEM, as it is written if it is the same."""
    if key is None:
        return b""
    before = _load_key(written)
    return written if before is not None and before.public_key() == key.public_key() else _key_pem(key)


def _new_authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Authorities of one name but different keys would confuse whoever searches by name.
    name = _name(f"Tripylon xDS authority {x509.random_serial_number():x}"[:64])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _new_leaf(
    signer: x509.Certificate, signer_key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    life = min(LEAF_LIFE, signer.not_valid_after_utc - now)
    builder = (
        _builder(_name("Tripylon xDS server"), signer.subject, key.public_key(), now, life)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    return _pem(builder.sign(signer_key, hashes.SHA256())), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def utc_now() -> datetime:
    """The time by the system's clock."""
    return datetime.now(UTC)
