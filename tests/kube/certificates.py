"""An authority and a certificate that it signed for 127.0.0.1."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority(msgspec.Struct):
    certificate: Path
    chain: Path
    """Certificate and key of a leaf."""
    key: ec.EllipticCurvePrivateKey
    subject: x509.Name
    issued: int = 0

    def issue(self) -> Path:
        """Another leaf, in a file of its own: certificate and key."""
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = _builder(_name("leaf"), self.subject, leaf_key).add_extension(address, critical=False)
        form = serialization.PrivateFormat.PKCS8
        private = leaf_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        self.issued += 1
        made = self.chain.with_stem(f"leaf-{self.issued}")
        made.write_bytes(leaf.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + private)
        return made


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    key, subject = ec.generate_private_key(ec.SECP256R1()), _name(f"authority {folder.name}")
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    root = _builder(subject, subject, key).add_extension(constraints, critical=True)
    certificate, chain = folder / "ca.crt", folder / "leaf.pem"
    certificate.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made = Authority(certificate, chain, key, subject)
    made.issue().rename(chain)
    return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
