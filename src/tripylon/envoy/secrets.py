"""Certificates → Secret, as SDS sends them: renewed without touching a listener or a cluster."""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.model.plan import Certificate, ClientAuthorities
from tripylon.pb.messages import CertificateValidationContext, Secret
from tripylon.values import Name


def secret(certificate: Certificate) -> Secret:
    """A certificate chain with its key."""
    built = Secret(name=names.secret(certificate.name))
    built.tls_certificate.certificate_chain.inline_bytes = certificate.chain
    built.tls_certificate.private_key.inline_bytes = certificate.key
    return built


def authorities(policy: Name, bundle: bytes) -> Secret:
    """The authorities by which the backends of a BackendTLSPolicy are verified."""
    built = Secret(name=names.authorities(policy))
    built.validation_context.trusted_ca.inline_bytes = bundle
    return built


def client_authorities(plan: ClientAuthorities) -> Secret:
    """Whom the certificates of clients must come from, and whether others are let in all the same."""
    built = Secret(name=names.client_authorities(plan.key))
    context = built.validation_context
    context.trusted_ca.inline_bytes = plan.bundle
    if plan.insecure:
        context.trust_chain_verification = CertificateValidationContext.ACCEPT_UNTRUSTED
    return built
