"""Which objects state listeners of a gateway, and which: the Gateway, ListenerSets that it admits, Ingresses.

There is a row for each of these objects, so that one that comes or goes is a matter of itself and of those that want
the same port and hostname. Their order is the one in which they are merged (Gateway API, ListenerSet): the Gateway's
own, then older sets before younger ones, then sets by name, then Ingresses likewise. The invariant: everything that is
judged by order is judged along it. Read `conflicts.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tripylon.api.gateway import Listener, ListenerTLS
from tripylon.api.ingress import INGRESS_GROUP
from tripylon.api.listener_sets import ListenerEntry
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.refs import SecretObjectReference
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.entries import Entry
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.ingress_places import CERTIFICATES_BY_HOST, INGRESS_PLACES, IngressCertificate, IngressPlace
from tripylon.model.listener_sets import LISTENER_SET_PLANS
from tripylon.model.namespaces import allows
from tripylon.model.plan import GatewayHead, HolderKey, ListenerSetPlan, MergeOrder
from tripylon.values import Built, Name, Ref
from tripylon.world.world import GATEWAYS, LISTENER_SETS

HTTPS_PORT = 443
"""Where certificates of Ingresses are presented if a Gateway has no HTTPS listener of its own."""


class HolderEntries(msgspec.Struct, frozen=True, gc=False):
    """The listeners that one object wants a gateway to have, as they are written."""

    key: HolderKey
    order: MergeOrder
    entries: tuple[Entry, ...]


class PortName(NamedTuple):
    """A hostname on a port of a gateway."""

    gateway: Name
    port: int
    hostname: str


def _https(key: HolderKey, holder: HolderEntries) -> Sequence[Name]:
    return (key.gateway,) if any(each.spec.protocol == "HTTPS" for each in holder.entries) else ()


def _secure_names(key: HolderKey, holder: HolderEntries) -> Iterator[PortName]:
    for each in holder.entries:
        if each.spec.protocol in ("HTTPS", "TLS"):
            yield PortName(key.gateway, each.spec.port, each.hostname)


def _of_set(name: Name, plan: ListenerSetPlan) -> Sequence[HolderKey]:
    return (HolderKey(plan.gateway, Ref(GATEWAY_GROUP, "ListenerSet", *name)),) if plan.admitted else ()


def _of_ingress(name: Name, place: IngressPlace) -> Sequence[HolderKey]:
    holder = Ref(INGRESS_GROUP, "Ingress", *name)
    return [HolderKey(gateway, holder) for gateway in place.gateways if place.certificates]


WRITTEN: Table[HolderKey, HolderEntries] = Table("written listeners")
"""Those of Gateways and ListenerSets."""
SECURE_PORTS: Table[Name, int] = Table("ports of certificates")
"""The port of each gateway's first HTTPS listener; there its Ingresses' certificates are presented."""
ENTRIES: Table[HolderKey, HolderEntries] = Table("entries")
"""All, those of Ingresses too."""
GATEWAYS_AS_HOLDERS: Index[HolderKey, Name, GatewayHead] = Index(
    "gateways as holders", GATEWAY_HEADS, lambda name, _: (HolderKey(name, Ref(GATEWAY_GROUP, "Gateway", *name)),)
)
SETS_AS_HOLDERS: Index[HolderKey, Name, ListenerSetPlan] = Index("listenersets as holders", LISTENER_SET_PLANS, _of_set)
INGRESSES_AS_HOLDERS: Index[HolderKey, Name, IngressPlace] = Index("ingresses as holders", INGRESS_PLACES, _of_ingress)
HTTPS_HOLDERS: Index[Name, HolderKey, HolderEntries] = Index("holders of https listeners", WRITTEN, _https)
SECURE_NAMES: Index[PortName, HolderKey, HolderEntries] = Index(
    "written names of tls listeners", WRITTEN, _secure_names
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    GATEWAYS_AS_HOLDERS,
    SETS_AS_HOLDERS,
    INGRESSES_AS_HOLDERS,
    HTTPS_HOLDERS,
    SECURE_NAMES,
)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps to what each object asks of a gateway."""
    return (
        Derive(WRITTEN, (GATEWAYS_AS_HOLDERS, SETS_AS_HOLDERS), _written),
        Derive(SECURE_PORTS, (HTTPS_HOLDERS,), _secure_port),
        Derive(ENTRIES, (WRITTEN, INGRESSES_AS_HOLDERS), _entries),
    )


def _written(read: Read, key: HolderKey) -> Built[HolderEntries, Finding] | None:
    is_gateway = key.holder.kind == "Gateway"
    holder = read.get(GATEWAYS, key.gateway) if is_gateway else read.get(LISTENER_SETS, key.holder.key)
    if holder is None:
        return None
    created = holder.metadata.creation_timestamp
    order = _order(0, "", key.gateway) if is_gateway else _order(1, created, key.holder.key)
    listeners: tuple[Listener, ...] = holder.spec.listeners
    entries = (Entry(key.holder, spec, place, f"spec.listeners[{place}]") for place, spec in enumerate(listeners))
    return Built(HolderEntries(key, order, tuple(entries)))


def _order(rank: int, created: str, name: Name) -> MergeOrder:
    return MergeOrder(rank, not created, created, name)


def _secure_port(read: Read, gateway: Name) -> Built[int, Finding] | None:
    first = min(read.lookup(HTTPS_HOLDERS, gateway), key=entries_order, default=None)
    entries = first.entries if first is not None else ()
    return next((Built(each.spec.port) for each in entries if each.spec.protocol == "HTTPS"), None)


def entries_order(holder: HolderEntries) -> MergeOrder:
    """Sort key of objects that state listeners."""
    return holder.order


def _entries(read: Read, key: HolderKey) -> Built[HolderEntries, Finding] | None:
    if key.holder.kind != "Ingress":
        written = read.get(WRITTEN, key)
        return Built(written) if written is not None else None
    place, head = read.get(INGRESS_PLACES, key.holder.key), read.get(GATEWAY_HEADS, key.gateway)
    if place is None or head is None or not _admitted(read, head, place):
        return None
    port = read.get(SECURE_PORTS, key.gateway) or HTTPS_PORT
    wanted = [
        each for each in place.certificates if _is_first(read, head, place, PortName(head.name, port, each.hostname))
    ]
    entries = tuple(_for_certificate(key.holder, each, index, port) for index, each in enumerate(wanted))
    return Built(HolderEntries(key, _age(place), entries)) if entries else None


def _admitted(read: Read, gateway: GatewayHead, place: IngressPlace) -> bool:
    return allows(read, gateway.admits, gateway.name.namespace, place.name.namespace)


def _age(place: IngressPlace) -> MergeOrder:
    return _order(2, place.created, place.name)


def _is_first(read: Read, gateway: GatewayHead, place: IngressPlace, name: PortName) -> bool:
    """Whether an Ingress's certificate for a host is presented: nobody wrote a listener for it, the oldest has it."""
    if read.count(SECURE_NAMES, name):
        return False
    rivals = read.lookup(CERTIFICATES_BY_HOST, (gateway.name, name.hostname))
    return min((each for each in rivals if _admitted(read, gateway, each)), key=_age) == place


def _for_certificate(holder: Ref, certificate: IngressCertificate, index: int, port: int) -> Entry:
    """The HTTPS listener by which a gateway presents the certificate of an Ingress.

    Its name has a colon, which those of listeners that somebody wrote cannot have, so that ids differ.
    """
    listener = ListenerEntry(
        name=f"tls:{certificate.hostname or '*'}",
        hostname=certificate.hostname,
        port=port,
        protocol="HTTPS",
        tls=ListenerTLS(certificate_refs=(SecretObjectReference(name=certificate.secret),)),
    )
    return Entry(holder, listener, index, f"spec.tls[{certificate.place}]")
