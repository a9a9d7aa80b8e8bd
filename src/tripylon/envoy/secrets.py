"""Certificates → Secret, as SDS sends them: renewed without touching a listener."""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.model.plan import Certificate
from tripylon.pb.messages import Secret


def secret(certificate: Certificate) -> Secret:
    """A certificate chain with its key."""
    built = Secret(name=names.secret(certificate.name))
    built.tls_certificate.certificate_chain.inline_bytes = certificate.chain
    built.tls_certificate.private_key.inline_bytes = certificate.key
    return built
