"""Which gateways take an Ingress, and the certificates that it brings: what gateways ask for, apart from its routes.

How a place comes about is worked out in `ingress_classes.py`. Read `ingresses.py` next.
"""

from __future__ import annotations

import msgspec

from tripylon.api.ingress import Ingress
from tripylon.graph import Index, Table
from tripylon.values import Name


class IngressCertificate(msgspec.Struct, frozen=True, gc=False):
    """One host of `spec.tls` with its certificate."""

    hostname: str
    """In lower case; empty: all hosts."""
    secret: str
    """Name of the Secret in the Ingress's namespace."""
    place: int
    """Index in `spec.tls`."""


class IngressPlace(msgspec.Struct, frozen=True, gc=False):
    """An Ingress of a class of ours, as gateways see it."""

    name: Name
    created: str
    """RFC 3339 creation time; empty in files that do not state one."""
    gateways: tuple[Name, ...]
    """The gateways that its class leads to, sorted, whether they are there or not."""
    certificates: tuple[IngressCertificate, ...]
    """At most one for each hostname."""


INGRESS_PLACES: Table[Name, IngressPlace] = Table("ingress places")
"""Every Ingress of a class of ours."""
INGRESSES_BY_GATEWAY: Index[Name, Name, IngressPlace] = Index(
    "ingresses by gateway", INGRESS_PLACES, lambda _, place: place.gateways
)
CERTIFICATES_BY_HOST: Index[tuple[Name, str], Name, IngressPlace] = Index(
    "ingresses by gateway and host of a certificate",
    INGRESS_PLACES,
    lambda _, place: [(gateway, each.hostname) for gateway in place.gateways for each in place.certificates],
)


def certificates_of(ingress: Ingress) -> tuple[IngressCertificate, ...]:
    """The certificates that an Ingress names, of several for one host the first."""
    found: dict[str, IngressCertificate] = {}
    for place, each in enumerate(ingress.spec.tls):
        for hostname in (host.lower() for host in (each.hosts or ("",))):
            if each.secret_name:
                found.setdefault(hostname, IngressCertificate(hostname, each.secret_name, place))
    return tuple(found.values())
