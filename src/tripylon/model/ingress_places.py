"""Which gateways take an Ingress, and the certificates that it brings: what gateways ask for, apart from its routes.

How a place comes about is worked out in `ingress_classes.py`. Read `ingresses.py` next.
"""

from __future__ import annotations

import msgspec

from tripylon.api.gateway import ListenerTLS
from tripylon.api.ingress import INGRESS_GROUP, Ingress
from tripylon.api.listener_sets import ListenerEntry, ListenerSet, ListenerSetSpec, ParentGatewayReference
from tripylon.api.meta import ObjectMeta
from tripylon.api.refs import SecretObjectReference
from tripylon.graph import Index, Table
from tripylon.values import Name, Ref


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
CERTIFICATES_BY_GATEWAY: Index[Name, Name, IngressPlace] = Index(
    "ingresses with certificates by gateway",
    INGRESS_PLACES,
    lambda _, place: place.gateways if place.certificates else (),
)


class IngressListeners(ListenerSet, frozen=True, gc=False, kw_only=True):
    """The HTTPS listeners that an Ingress adds to a gateway by its certificates: a ListenerSet that nobody wrote.

    Names of its listeners have a colon, which those of real ones cannot have, so that their ids differ.
    """

    places: tuple[int, ...] = ()
    """For each listener the index in the Ingress's `spec.tls`."""

    @property
    def ref(self) -> Ref:
        """The Ingress."""
        return Ref(INGRESS_GROUP, "Ingress", self.metadata.namespace, self.metadata.name)


def certificates_of(ingress: Ingress) -> tuple[IngressCertificate, ...]:
    """The certificates that an Ingress names, of several for one host the first."""
    found: dict[str, IngressCertificate] = {}
    for place, each in enumerate(ingress.spec.tls):
        for hostname in (host.lower() for host in (each.hosts or ("",))):
            if each.secret_name:
                found.setdefault(hostname, IngressCertificate(hostname, each.secret_name, place))
    return tuple(found.values())


def listeners_of(place: IngressPlace, gateway: Name, port: int, *, without: frozenset[str]) -> IngressListeners | None:
    """The listeners for the hosts of an Ingress's certificates, but for those that are there; None: there are none."""
    wanted = tuple(each for each in place.certificates if each.hostname not in without)
    if not wanted:
        return None
    return IngressListeners(
        metadata=ObjectMeta(name=place.name.name, namespace=place.name.namespace, creation_timestamp=place.created),
        spec=ListenerSetSpec(
            parent_ref=ParentGatewayReference(name=gateway.name, namespace=gateway.namespace),
            listeners=tuple(
                ListenerEntry(
                    name=f"tls:{each.hostname or '*'}",
                    hostname=each.hostname,
                    port=port,
                    protocol="HTTPS",
                    tls=ListenerTLS(certificate_refs=(SecretObjectReference(name=each.secret),)),
                )
                for each in wanted
            ),
        ),
        places=tuple(each.place for each in wanted),
    )
