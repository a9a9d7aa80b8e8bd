"""A corpus of certificates as people get them wrong: each pair of `tls.crt` and `tls.key`, and what is said of it.

Some are odd and yet good, and what is good must be taken by Envoy, which refuses a whole listener for one it dislikes.
Everything is made anew in each run; faults that no library makes are put into the bytes.
"""

from __future__ import annotations

import base64
import datetime
from functools import cache
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

_Key = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | dsa.DSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
HOST = "www.example.com"
_START, _END = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
_DAY = datetime.timedelta(days=1)


class Sample(NamedTuple):
    """One pair; `says` is part of the finding's message, empty when the pair is good."""

    name: str
    chain: bytes
    key: bytes
    says: str = ""


@cache
def samples() -> tuple[Sample, ...]:
    """All of them; the names differ."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf, pem = _der(key), _pem_key(key)
    chain = _pem(leaf)
    return (
        *_containers(leaf, chain, pem),
        *_contents(key, leaf, chain, pem),
        *_keys(chain, key, pem),
        *_kinds_of_key(),
        *_odd_but_good(key, leaf, chain, pem),
    )


# --- What is around the certificate --------------------------------------------------------------------------------


def _containers(leaf: bytes, chain: bytes, key: bytes) -> tuple[Sample, ...]:
    no_pem = "has a `tls.crt` that is no PEM certificate"
    lines = chain.splitlines(keepends=True)
    return (
        Sample("nothing", b"", b"", "has no `tls.crt` and `tls.key`"),
        Sample("empty", b"", key, "has no `tls.crt`"),
        Sample("blank", b"\n \n", key, no_pem),
        Sample("no-pem", b"certificate", key, no_pem),
        Sample("der", leaf, key, no_pem),
        Sample("pem-of-a-key", key, key, no_pem),
        Sample("pem-of-a-request", _relabelled(chain, b"CERTIFICATE REQUEST"), key, no_pem),
        Sample("pem-of-trust", _relabelled(chain, b"TRUSTED CERTIFICATE"), key, no_pem),
        Sample("pem-of-parameters", _relabelled(chain, b"DH PARAMETERS"), key, no_pem),
        Sample("cut-off", b"".join(lines[:4]), key, no_pem),
        Sample("line-missing", b"".join(lines[:3] + lines[4:]), key, no_pem),
        Sample("letter-missing", chain.replace(lines[2], lines[2][1:]), key, no_pem),
        Sample("wrong-letters", chain.replace(lines[2], b"*" + lines[2][1:]), key, no_pem),
        Sample("no-end", b"".join(lines[:-1]), key, no_pem),
        Sample("base64-twice", base64.b64encode(chain), key, no_pem),
        Sample("utf-16", chain.decode().encode("utf-16"), key, no_pem),
        Sample("second-is-garbage", chain + b"".join(lines[:2] + lines[-1:]), key, no_pem),
    )


def _relabelled(pem: bytes, label: bytes) -> bytes:
    return pem.replace(b"CERTIFICATE", label)


# --- What is in it -------------------------------------------------------------------------------------------------


def _contents(key: ec.EllipticCurvePrivateKey, leaf: bytes, chain: bytes, pem: bytes) -> tuple[Sample, ...]:
    other = ec.generate_private_key(ec.SECP256R1())
    authority = _pem(_der(other, host="ca.example.com", authority=True))
    issued = _pem(_der(key, issuer=other))
    no_pem = "has a `tls.crt` that is no PEM certificate"
    return (
        Sample("wrong-order", authority + issued, pem, "does not belong to the first certificate"),
        Sample("version-seven", _pem(_patched(leaf, _VERSION_3, _VERSION_7)), pem, no_pem),
        Sample("cut-der", _pem(leaf[:-20]), pem, no_pem),
        Sample("more-behind-der", _pem(leaf + b"\0\0\0"), pem, no_pem),
        Sample("zero-der", _pem(b""), pem, no_pem),
        Sample("point-off-the-curve", _pem(_off_the_curve(key, leaf)), pem, "public key that is none"),
        Sample("not-yet-valid", _pem(_der(key, start=_END - _DAY)), pem, "valid only from 2089-12-31"),
        Sample("expired", _pem(_der(key, end=_START + _DAY)), pem, "expired on 2020-01-02"),
        Sample("version-one-with-extensions", _pem(_patched(leaf, _VERSION_3, _VERSION_1)), pem, no_pem),
    )


_VERSION_1, _VERSION_3, _VERSION_7 = (b"\xa0\x03\x02\x01" + version for version in (b"\0", b"\2", b"\6"))


def _patched(der: bytes, old: bytes, new: bytes) -> bytes:
    assert old in der
    return der.replace(old, new)


def _off_the_curve(key: ec.EllipticCurvePrivateKey, der: bytes) -> bytes:
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _patched(der, point, point[:-1] + bytes((point[-1] ^ 1,)))


# --- Keys ----------------------------------------------------------------------------------------------------------


def _keys(chain: bytes, key: ec.EllipticCurvePrivateKey, pem: bytes) -> tuple[Sample, ...]:
    no_key = "has a `tls.key` that is no PEM private key"
    passphrase = BestAvailableEncryption(b"passphrase")
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = _pem_key(ec.generate_private_key(ec.SECP256R1()))
    return (
        Sample("key-of-another", chain, other, "does not belong to the first certificate"),
        Sample("key-empty", chain, b"", "has no `tls.key`"),
        Sample("key-blank", chain, b"\n", no_key),
        Sample("key-of-zeros", chain, b"\0" * 32, no_key),
        Sample("key-der", chain, der, no_key),
        Sample("key-is-public", chain, public, no_key),
        Sample("key-is-a-certificate", chain, chain, no_key),
        Sample("key-cut-off", chain, pem[: len(pem) // 2], no_key),
        Sample("key-encrypted", chain, _pem_key(key, encryption=passphrase), "is encrypted"),
        Sample("key-encrypted-as-of-old", chain, _pem_key(key, _OLD, passphrase), "is encrypted"),
    )


_OLD = PrivateFormat.TraditionalOpenSSL


def _kinds_of_key() -> tuple[Sample, ...]:
    rejected = "has a key that is neither RSA nor ECDSA on P-256, P-384 or P-521"

    def sample(name: str, key: _Key, says: str = "") -> Sample:
        return Sample(name, _pem(_der(key)), _pem_key(key), says)

    return (
        sample("rsa-1024", _rsa(1024), "has an RSA key of 1024 bits"),
        sample("rsa-2047", _rsa(2047), "has an RSA key of 2047 bits"),
        sample("rsa-2048", _rsa(2048)),
        sample("rsa-3072", _rsa(3072)),
        sample("ed25519", ed25519.Ed25519PrivateKey.generate(), rejected),
        sample("ed448", ed448.Ed448PrivateKey.generate(), rejected),
        sample("dsa", dsa.generate_private_key(1024), rejected),
        sample("p-224", ec.generate_private_key(ec.SECP224R1()), rejected),
        sample("secp256k1", ec.generate_private_key(ec.SECP256K1()), rejected),
        sample("p-384", ec.generate_private_key(ec.SECP384R1())),
        sample("p-521", ec.generate_private_key(ec.SECP521R1())),
    )


def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


# --- Odd, and yet good ---------------------------------------------------------------------------------------------


def _odd_but_good(key: ec.EllipticCurvePrivateKey, leaf: bytes, chain: bytes, pem: bytes) -> tuple[Sample, ...]:
    other = ec.generate_private_key(ec.SECP256R1())
    authority = _pem(_der(other, host="ca.example.com", authority=True))
    plain = _pem_key(key, _OLD)
    text = b"Certificate:\n    Data:\n        Version: 3 (0x2)\n"
    one_line = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(leaf) + b"\n-----END CERTIFICATE-----\n"
    return (
        Sample("good", chain, pem),
        Sample("crlf", chain.replace(b"\n", b"\r\n"), pem.replace(b"\n", b"\r\n")),
        Sample("text-in-front", text + chain, text + pem),
        Sample("text-behind", chain + b"\nthat is all\n", pem + b"\nthat is all\n"),
        Sample("text-between", chain + b"# the authority\n" + authority, pem),
        Sample("blank-around", b"\n\n" + chain + b"\n\n", b"\n\n" + pem + b"\n\n"),
        Sample("no-last-newline", chain.rstrip(), pem.rstrip()),
        Sample("one-line", one_line, pem),
        Sample("byte-order-mark", b"\xef\xbb\xbf" + chain, b"\xef\xbb\xbf" + pem),
        Sample("indented", chain.replace(b"\n", b"\n  "), pem),
        Sample("twice", chain + chain, pem),
        Sample("with-authority", _pem(_der(key, issuer=other)) + authority, pem),
        Sample("with-a-stranger", chain + _pem(_der(ec.generate_private_key(ec.SECP256R1()))), pem),
        Sample("sixty-of-them", chain * 60, pem),
        Sample("key-as-of-old", chain, plain),
        Sample("key-behind-parameters", chain, _P256_PARAMETERS + plain),
        Sample("key-behind-certificate", chain, chain + pem),
        Sample("key-in-chain", pem + chain, pem),
        Sample("name-is-no-text", _pem(_patched(leaf, b"\x82\x0fwww", b"\x82\x0f\xff\xfe\xfd")), pem),
        Sample("no-names", _pem(_der(key, named=False)), pem),
        Sample("authority-as-server", _pem(_der(key, authority=True)), pem),
        Sample("sha-512", _pem(_der(key, hash_=hashes.SHA512())), pem),
        Sample("x509-label", _relabelled(chain, b"X509 CERTIFICATE"), pem),
    )


_P256_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


def _der(
    key: _Key,
    *,
    host: str = HOST,
    named: bool = True,
    issuer: ec.EllipticCurvePrivateKey | None = None,
    start: datetime.datetime = _START,
    end: datetime.datetime = _END,
    authority: bool = False,
    hash_: hashes.SHA256 | hashes.SHA512 | None = None,
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    issued = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.example.com")]) if issuer else subject
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issued).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    if named:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signer = issuer or key
    bare = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(signer, None if bare else hash_ or hashes.SHA256()).public_bytes(Encoding.DER)


def _pem(der: bytes) -> bytes:
    body = base64.encodebytes(der).replace(b"\n", b"")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def _pem_key(
    key: _Key, format_: PrivateFormat = PrivateFormat.PKCS8, encryption: KeySerializationEncryption | None = None
) -> bytes:
    return key.private_bytes(Encoding.PEM, format_, encryption or NoEncryption())
