"""ClusterTrustBundle: certificates of authorities for a whole cluster (Kubernetes, certificates.k8s.io)."""

from __future__ import annotations

from typing import ClassVar

from tripylon.api.markers import Part
from tripylon.api.meta import Resource

CERTIFICATES_GROUP = "certificates.k8s.io"
"""API group of Kubernetes' own certificates."""


class ClusterTrustBundleSpec(Part, frozen=True, gc=False, kw_only=True):
    """Whom to trust."""

    signer_name: str = ""
    """The signer whose authorities these are; empty: any."""
    trust_bundle: str
    """Certificates of the authorities, in PEM."""


class ClusterTrustBundle(Resource, frozen=True, gc=False, kw_only=True):
    """Certificates of authorities, by which others' certificates are verified."""

    GROUP: ClassVar[str] = CERTIFICATES_GROUP

    spec: ClusterTrustBundleSpec
    """Whom to trust."""
