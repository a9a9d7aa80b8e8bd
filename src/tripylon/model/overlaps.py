"""TLS listeners of one port that have names in common: a client may reuse one's connection for the other's host.

Their hostnames overlap, or their hostnames do not and the names of their certificates do. Nothing is refused for it, as
the proxy answers such a request with 421; it is told. The invariant: who tells reads the names that could be in common
with his, and not all that there are, and names but the first of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.conflicts import SHOWN, names_of
from tripylon.model.entries import Entry, about_listener
from tripylon.model.gateways import LISTENERS
from tripylon.model.holders import ENTRIES
from tripylon.model.plan import (
    HolderKey,
    HolderListeners,
    HolderTls,
    HostKey,
    Listener,
    MergeOrder,
    merge_order,
    route_table,
)
from tripylon.model.served import SECURE, SERVED, covering, place_of
from tripylon.model.tls import LISTENERS_TLS
from tripylon.values import Built, Name, hostname_matches, intersect_hostnames, wider_hostnames

KEPT = 16
"""So many listeners with a name in common are kept at hand, of which few are named."""


class CertificateName(NamedTuple):
    """A name on certificates that are presented on a port of a gateway."""

    gateway: Name
    port: int
    name: str


class Other(NamedTuple):
    """A listener with something in common, and where it stands in the order of merging."""

    order: MergeOrder
    place: int
    """Among those of its object."""
    id: str
    hostname: str


class Common(NamedTuple):
    """The listeners of which some certificate has a name in common with one."""

    first: tuple[Other, ...]
    all: bool
    """Whether these are all."""


def _below(key: HolderKey, holder: HolderListeners) -> Iterator[HostKey]:
    """The wider names of TLS listeners' hostnames."""
    for each in holder.listeners:
        if each.usable and each.protocol in SECURE:
            table = route_table(key.gateway, each.port, secure=True)
            yield from (HostKey(table, wider) for wider in wider_hostnames(each.hostname) if wider != each.hostname)


def _named(key: HolderKey, tls: HolderTls) -> Iterator[CertificateName]:
    for each in tls.presented:
        yield from (CertificateName(key.gateway, each.port, name) for name in each.names)


def _named_below(key: HolderKey, tls: HolderTls) -> Iterator[CertificateName]:
    for each in tls.presented:
        for name in each.names:
            yield from (
                CertificateName(key.gateway, each.port, wider) for wider in wider_hostnames(name) if wider != name
            )


BELOW: Index[HostKey, HolderKey, HolderListeners] = Index("tls listeners by wider names", LISTENERS, _below)
NAMED: Index[CertificateName, HolderKey, HolderTls] = Index("listeners by certificates' names", LISTENERS_TLS, _named)
NAMED_BELOW: Index[CertificateName, HolderKey, HolderTls] = Index(
    "listeners by wider names of certificates", LISTENERS_TLS, _named_below
)
COMMON: Table[CertificateName, Common] = Table("common names of certificates")
"""Only of names that several listeners have in common."""
HOSTNAME_OVERLAPS: Table[HolderKey, None] = Table("overlaps of hostnames")
"""Holds no rows, only findings."""
CERTIFICATE_OVERLAPS: Table[HolderKey, None] = Table("overlaps of certificates")
"""The same."""

INDEXES: tuple[Index[Any, Any, Any], ...] = (BELOW, NAMED, NAMED_BELOW)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps that tell of overlaps; nothing is built of them."""
    return (
        Derive(HOSTNAME_OVERLAPS, (LISTENERS,), _hostname_overlaps),
        Derive(COMMON, (NAMED,), _common),
        Derive(CERTIFICATE_OVERLAPS, (LISTENERS_TLS,), _certificate_overlaps),
    )


# --- Hostnames -----------------------------------------------------------------------------------------------------


def _hostname_overlaps(read: Read, key: HolderKey) -> Built[None, Finding] | None:
    holder, written = read.get(LISTENERS, key), read.get(ENTRIES, key)
    if holder is None or written is None:
        return None
    findings = []
    for listener, entry in zip(holder.listeners, written.entries, strict=True):
        if listener.usable and listener.protocol in SECURE:
            others = sorted(dict.fromkeys(_overlapping(read, key.gateway, listener)))
            if others:
                what = (
                    f"has hostnames in common with {names_of([each.id for each in others])} on port {listener.port}; "
                    "clients that reuse a connection for a hostname of another listener are told to connect anew (421)"
                )
                hint = "Ignore this if their certificates cover no common name"
                findings.append(_finding(entry, "OverlappingHostnames", what, hint))
    return Built(None, tuple(findings)) if findings else None


def _overlapping(read: Read, gateway: Name, listener: Listener) -> Iterator[Other]:
    """The listeners of a port whose hostnames cover one's, and those that its hostname covers."""
    at = place_of(gateway, listener)
    for place in covering(read, at):
        yield from _others(read.lookup(SERVED, place), listener)
    if not listener.hostname or listener.hostname.startswith("*."):
        yield from _others(read.lookup(BELOW, at), listener)


def _others(holders: Iterable[HolderListeners], listener: Listener) -> Iterator[Other]:
    for holder in holders:
        for place, each in enumerate(holder.listeners):
            beside = each.usable and each.protocol in SECURE and each.port == listener.port and each.id != listener.id
            if beside and intersect_hostnames(each.hostname, listener.hostname) is not None:
                yield Other(holder.order, place, each.id, each.hostname)


# --- Certificates --------------------------------------------------------------------------------------------------


def _common(read: Read, name: CertificateName) -> Built[Common, Finding] | None:
    first = tuple(islice(_sharing(read, name), KEPT + 1))
    return Built(Common(first[:KEPT], len(first) <= KEPT)) if len(first) > 1 else None


def _sharing(read: Read, name: CertificateName) -> Iterator[Other]:
    """The listeners on whose certificates there is a name that one covers, or that covers it; in order of merging."""
    covers = frozenset(wider_hostnames(name.name))
    holders = {tls.key: tls for each in covers for tls in read.lookup(NAMED, name._replace(name=each))}
    if name.name.startswith("*."):
        holders |= {tls.key: tls for tls in read.lookup(NAMED_BELOW, name)}
    for tls in sorted(holders.values(), key=merge_order):
        for place, each in enumerate(tls.presented):
            if each.port == name.port and any(
                other in covers or hostname_matches(name.name, other) for other in each.names
            ):
                yield Other(tls.order, place, each.listener, each.hostname)


def _certificate_overlaps(read: Read, key: HolderKey) -> Built[None, Finding] | None:
    """Overlapping hostnames are told apart, so here are only listeners whose hostnames have nothing in common."""
    tls, written = read.get(LISTENERS_TLS, key), read.get(ENTRIES, key)
    if tls is None or written is None:
        return None
    findings = []
    entries = {each.id: each for each in written.entries} if tls.presented else {}
    for each in tls.presented:
        names = [CertificateName(key.gateway, each.port, name) for name in sorted(each.names)]
        found = [common for name in names if (common := read.get(COMMON, name)) is not None]
        whole = all(common.all for common in found)
        others = _apart(each.hostname, (other for common in found for other in common.first))
        if not whole and len(others) <= SHOWN:
            others = _apart(each.hostname, (other for name in names for other in _sharing(read, name)))
            whole = True
        if others:
            shown = names_of([other.id for other in others]) if whole else _first_of(others)
            what = (
                f"has certificate names in common with {shown} on port {each.port}; clients that reuse a connection "
                "for a hostname of another listener are told to connect anew (421)"
            )
            hint = "Give each listener a certificate for its own hostname"
            entry = entries[each.listener]
            findings.append(_finding(entry, "OverlappingCertificates", what, hint, "tls.certificateRefs"))
    return Built(None, tuple(findings)) if findings else None


def _apart(hostname: str, others: Iterable[Other]) -> list[Other]:
    return sorted({other for other in others if intersect_hostnames(other.hostname, hostname) is None})


def _first_of(others: list[Other]) -> str:
    """The first of so many that they are not counted, so that one more changes no message."""
    return "listeners " + ", ".join(f"`{other.id}`" for other in others[:SHOWN]) + " and others"


def _finding(entry: Entry, reason: str, what: str, hint: str, field: str = "") -> Finding:
    return about_listener(entry, "OverlappingTLSConfig", reason, what, hint=hint, field=field, severity="info")
