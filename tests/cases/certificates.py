"""Certificates for cases: good ones and ones with each fault, made once for a run."""

from __future__ import annotations

import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_YEARS = (2020, 2090)


@cache
def certificate(host: str = "www.example.com", fault: str = "") -> dict[str, str]:
    """`tls.crt` and `tls.key` for a host; `fault` says what is wrong with them."""
    key: _Key = ec.generate_private_key(ec.SECP256R1())
    match fault:
        case "weak":
            key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        case "ed25519":
            key = ed25519.Ed25519PrivateKey.generate()
    chain = _certificate(host, key, years={"expired": (2020, 2021), "early": (2089, 2090)}.get(fault, _YEARS))
    made = {"tls.crt": chain, "tls.key": _pem(key, NoEncryption())}
    match fault:
        case "mismatched":
            made["tls.key"] = _pem(ec.generate_private_key(ec.SECP256R1()), NoEncryption())
        case "encrypted":
            made["tls.key"] = _pem(key, BestAvailableEncryption(b"passphrase"))
        case "garbage":
            made["tls.crt"] = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
        case "garbage key":
            made["tls.key"] = "no key"
        case "no key":
            del made["tls.key"]
        case "no certificate":
            del made["tls.crt"]
    return made


@cache
def authorities(fault: str = "") -> dict[str, str]:
    """`ca.crt` with one authority."""
    if fault == "garbage":
        return {"ca.crt": "no certificate"}
    if fault == "missing":
        return {"other": "text"}
    return {"ca.crt": _certificate("ca.example.com", ec.generate_private_key(ec.SECP256R1()))}


def _certificate(host: str, key: _Key, *, years: tuple[int, int] = _YEARS) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    start, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in years)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def _pem(key: _Key, encryption: KeySerializationEncryption) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()
