"""Bundles of authorities' certificates, by which somebody else's certificate is checked.

A ConfigMap with the key `ca.crt` is what the Gateway API asks for; a Secret with the same key does as well, and a
ClusterTrustBundle, which has no namespace and needs no grant. The
invariant: what is returned are certificates that can be parsed, since Envoy refuses whatever names others.
"""

from __future__ import annotations

from typing import NamedTuple

from tripylon.api.trust import CERTIFICATES_GROUP
from tripylon.graph import Read
from tripylon.pem import read_certificates, written
from tripylon.values import Ref
from tripylon.world.withheld import absence_of
from tripylon.world.world import ABSENT_KINDS, CLUSTER_TRUST_BUNDLES, CONFIG_MAPS, SECRETS

CA_KEY = "ca.crt"
_KINDS = (("", "ConfigMap"), ("", "Secret"), (CERTIFICATES_GROUP, "ClusterTrustBundle"))


class AuthorityFault(NamedTuple):
    """Why there are no certificates; `what` follows the subject of a sentence."""

    what: str
    hint: str


def is_supported(read: Read, target: Ref) -> bool:
    """Whether an object is of a kind that holds authorities, and that can be had here."""
    kind = (target.group, target.kind)
    return kind in _KINDS and not read.get(ABSENT_KINDS, kind)


def authority(group: str, kind: str, namespace: str, name: str) -> Ref:
    """What a reference to authorities means; one of the whole cluster has no namespace."""
    return Ref(group, kind, "" if (group, kind) == _KINDS[2] else namespace, name)


def read_authorities(read: Read, target: Ref) -> bytes | AuthorityFault:
    """The certificates, in PEM, of an object of a supported kind."""
    if target.kind == "ClusterTrustBundle":
        return _trust_bundle(read, target)
    found = read.get(SECRETS, target.key) if target.kind == "Secret" else read.get(CONFIG_MAPS, target.key)
    if found is None:
        absence = absence_of(read, target, f"Create it, with key `{CA_KEY}`")
        return AuthorityFault(f"refers to {target}, which {absence.what}", absence.hint)
    return _checked(found.contents.get(CA_KEY, b""), target, CA_KEY)


def _trust_bundle(read: Read, target: Ref) -> bytes | AuthorityFault:
    found = read.get(CLUSTER_TRUST_BUNDLES, target.key)
    if found is None:
        return AuthorityFault(f"refers to {target}, which does not exist", "Create it, or correct the name")
    return _checked(found.spec.trust_bundle.encode(), target, "spec.trustBundle")


def _checked(bundle: bytes, target: Ref, place: str) -> bytes | AuthorityFault:
    try:
        return written(read_certificates(bundle))
    except ValueError:
        what = f"refers to {target}, which has no PEM certificates in `{place}`"
        return AuthorityFault(what, "Put the authorities' certificates there")
