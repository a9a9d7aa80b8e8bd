"""Bundles of authorities' certificates, by which somebody else's certificate is checked.

A ConfigMap with the key `ca.crt` is what the Gateway API asks for; a Secret with the same key does as well. The
invariant: what is returned are certificates that can be parsed, since Envoy refuses whatever names others.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography import x509

from tripylon.graph import Read
from tripylon.values import Ref
from tripylon.world.withheld import absence_of
from tripylon.world.world import CONFIG_MAPS, SECRETS

CA_KEY = "ca.crt"
_KINDS = ("ConfigMap", "Secret")


class AuthorityFault(NamedTuple):
    """Why there are no certificates; `what` follows the subject of a sentence."""

    what: str
    hint: str


def is_supported(target: Ref) -> bool:
    """Whether an object is of a kind that holds authorities."""
    return target.group == "" and target.kind in _KINDS


def read_authorities(read: Read, target: Ref) -> bytes | AuthorityFault:
    """The certificates, in PEM, of an object of a supported kind."""
    found = read.get(SECRETS, target.key) if target.kind == "Secret" else read.get(CONFIG_MAPS, target.key)
    if found is None:
        absence = absence_of(read, target, f"Create it, with key `{CA_KEY}`")
        return AuthorityFault(f"refers to {target}, which {absence.what}", absence.hint)
    bundle = found.contents.get(CA_KEY, b"")
    try:
        x509.load_pem_x509_certificates(bundle)
    except ValueError:
        what = f"refers to {target}, which has no PEM certificates in `{CA_KEY}`"
        return AuthorityFault(what, "Put the authorities' certificates there")
    return bundle.strip()
