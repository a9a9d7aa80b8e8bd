"""Which listeners of a gateway are refused: those that cannot be served at all, and those that clash.

Inside one Gateway, or one ListenerSet, no winner is chosen: all that clash are refused (Gateway API, GatewaySpec).
Between them the earlier in the order of merging wins, also where it is refused itself for a clash, so that nobody gets
what a Gateway's owner has written down by waiting for a mistake. Read `gateways.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from tripylon.api.gateway import Listener
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.entries import Entry, about_listener, by_port
from tripylon.model.holders import ENTRIES
from tripylon.model.options import Options
from tripylon.model.plan import HolderKey, MergeOrder
from tripylon.values import Built, Name

ROUTE_KINDS: dict[str, tuple[str, ...]] = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute",),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
"""Protocols that are served, each with the kinds of route that it takes."""

_FAMILIES = {"HTTPS": "TLS"}
"""Protocols that share a port with another one, since the server name of a connection tells them apart."""
SHOWN = 5
"""So many listeners are named in one sentence."""

_MOST_FILTERS = 4
"""So many filters a listener can have; see `external_auth.py`."""

Refused = dict[str, tuple[Finding, ...]]
"""Ids of the listeners that are refused, with the findings that say why."""


class Port(NamedTuple):
    """A port of a gateway, for connections or for datagrams."""

    gateway: Name
    port: int
    udp: bool


class Place(NamedTuple):
    """A hostname on a port of a gateway: what one listener has."""

    port: Port
    hostname: str


class Claims(msgspec.Struct, frozen=True, gc=False):
    """The listeners that one object wants a gateway to have, as far as they can be served at all."""

    key: HolderKey
    order: MergeOrder
    entries: tuple[Entry, ...]
    alone: Refused
    """Those that cannot be served whatever others want."""

    def on(self, port: Port) -> tuple[Entry, ...]:
        """Those on one port."""
        return tuple(each for each in self.entries if (each.spec.port, each.is_udp) == (port.port, port.udp))


class PortOwner(msgspec.Struct, frozen=True, gc=False):
    """Who came first on a port, and so says which protocol it has."""

    order: MergeOrder
    families: tuple[Entry, ...]
    """The first listener of each family of protocols there; several: they clash, and nobody else may be there."""


class PlaceOwner(NamedTuple):
    """Who came first at a hostname, of those whose protocol the port has."""

    order: MergeOrder
    entry: Entry


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Which listeners of one object are refused, be it for themselves or for a clash."""

    refused: Refused
    ports: frozenset[tuple[int, bool]]
    """The ports of the others, each with whether it is one of UDP."""


def _ports(key: HolderKey, claims: Claims) -> list[Port]:
    return [Port(key.gateway, each.spec.port, each.is_udp) for each in claims.entries]


def _places(key: HolderKey, claims: Claims) -> list[Place]:
    return [Place(Port(key.gateway, each.spec.port, each.is_udp), each.hostname) for each in claims.entries]


CLAIMS: Table[HolderKey, Claims] = Table("claims")
CLAIMS_BY_PORT: Index[Port, HolderKey, Claims] = Index("claims by port", CLAIMS, _ports)
CLAIMS_BY_PLACE: Index[Place, HolderKey, Claims] = Index("claims by port and hostname", CLAIMS, _places)
PORT_OWNERS: Table[Port, PortOwner] = Table("port owners")
PLACE_OWNERS: Table[Place, PlaceOwner] = Table("place owners")
VERDICTS: Table[HolderKey, Verdict] = Table("verdicts")

INDEXES: tuple[Index[Any, Any, Any], ...] = (CLAIMS_BY_PORT, CLAIMS_BY_PLACE)


def derives(options: Options) -> tuple[Derive[Any, Any], ...]:
    """The steps from what each object asks to what of it is refused: each for itself, then those that clash."""
    return (
        Derive(CLAIMS, (ENTRIES,), lambda read, key: _claims(read, key, options)),
        Derive(PORT_OWNERS, (CLAIMS_BY_PORT,), _port_owner),
        Derive(PLACE_OWNERS, (CLAIMS_BY_PLACE,), _place_owner),
        Derive(VERDICTS, (CLAIMS,), _verdict),
    )


# --- Each for itself -----------------------------------------------------------------------------------------------


def _claims(read: Read, key: HolderKey, options: Options) -> Built[Claims, Finding] | None:
    holder = read.get(ENTRIES, key)
    if holder is None:
        return None
    alone = {each.id: found for each in holder.entries if (found := tuple(_faults(each, options)))}
    sound = tuple(each for each in holder.entries if each.id not in alone) if alone else holder.entries
    return Built(Claims(key, holder.order, sound, alone))


def _faults(entry: Entry, options: Options) -> Iterator[Finding]:
    listener = entry.spec
    if listener.protocol not in ROUTE_KINDS:
        yield about_listener(
            entry,
            "Accepted",
            "UnsupportedProtocol",
            f"has protocol {listener.protocol}, which is not supported",
            hint=f"Use one of {', '.join(ROUTE_KINDS)}",
            field="protocol",
        )
    elif listener.protocol == "HTTPS" and entry.tls_mode != "Terminate":
        yield about_listener(
            entry,
            "Accepted",
            "UnsupportedValue",
            f"has TLS mode {entry.tls_mode}, which an HTTPS listener cannot have",
            hint="Use mode Terminate",
            field="tls.mode",
        )
    elif listener.filters is not None and (what := _unrunnable(listener)):
        yield about_listener(
            entry,
            "Accepted",
            "UnsupportedValue",
            f"has {what}; it is closed so that nothing passes unfiltered",
            hint="Use filters of type ExternalAuth, on listeners of protocol HTTP or HTTPS",
            field="filters",
        )
    else:
        yield from _port_faults(entry, options)


def _unrunnable(listener: Listener) -> str:
    """Which filters of a listener cannot be run; empty: all can."""
    if listener.protocol not in ("HTTP", "HTTPS"):
        return f"filters, which nothing passes by protocol {listener.protocol}"
    requests = listener.filters.requests if listener.filters is not None else ()
    others = sorted({each.type for each in requests if each.external_auth is None})
    if len(requests) > _MOST_FILTERS:
        return f"{len(requests)} filters, of which a listener can have {_MOST_FILTERS}"
    return f"filters of type {' and '.join(others)}, which are not supported" if others else ""


def _port_faults(entry: Entry, options: Options) -> Iterator[Finding]:
    port = entry.spec.port
    if port in options.reserved_ports:
        yield about_listener(
            entry,
            "Accepted",
            "PortUnavailable",
            f"has port {port}, which the proxy itself needs",
            hint=f"Use another port than {', '.join(map(str, options.reserved_ports))}",
            field="port",
        )
    elif port < 1024 and not options.privileged_ports:
        yield about_listener(
            entry,
            "Accepted",
            "PortUnavailable",
            f"has port {port}, which this user may not bind",
            hint="Use a port from 1024 on, run as root, or lower net.ipv4.ip_unprivileged_port_start",
            field="port",
        )


# --- Together ------------------------------------------------------------------------------------------------------


def _port_owner(read: Read, port: Port) -> Built[PortOwner, Finding] | None:
    first = min(read.lookup(CLAIMS_BY_PORT, port), key=_order)
    families: dict[str, Entry] = {}
    for each in first.on(port):
        families.setdefault(_family(each), each)
    return Built(PortOwner(first.order, tuple(families.values())))


def _place_owner(read: Read, place: Place) -> Built[PlaceOwner, Finding] | None:
    owner = read.get(PORT_OWNERS, place.port)
    for claims in sorted(read.lookup(CLAIMS_BY_PLACE, place), key=_order):
        for each in claims.on(place.port):
            if each.hostname == place.hostname and _of_another_family(owner, claims.order, each) is None:
                return Built(PlaceOwner(claims.order, each))
    return None


def _order(claims: Claims) -> MergeOrder:
    return claims.order


def _verdict(read: Read, key: HolderKey) -> Built[Verdict, Finding] | None:
    claims = read.get(CLAIMS, key)
    if claims is None:
        return None
    lost = dict(claims.alone)
    for rivals in by_port(claims.entries):
        port = Port(key.gateway, rivals[0].spec.port, rivals[0].is_udp)
        to_earlier = _lost_to_earlier(read, claims, port, rivals)
        lost |= to_earlier
        lost |= _lost_among_themselves(tuple(each for each in rivals if each.id not in to_earlier))
    ports = frozenset((each.spec.port, each.is_udp) for each in claims.entries if each.id not in lost)
    return Built(Verdict(lost, ports))


def _family(entry: Entry) -> str:
    return _FAMILIES.get(entry.spec.protocol, entry.spec.protocol)


def _lost_to_earlier(read: Read, claims: Claims, port: Port, rivals: tuple[Entry, ...]) -> Refused:
    """Listeners whose port has another protocol already, or whose hostname is taken there."""
    owner = read.get(PORT_OWNERS, port)
    lost: Refused = {}
    for each in rivals:
        if (other := _of_another_family(owner, claims.order, each)) is not None:
            what = f"wants port {port.port}, where {_named(other)} has protocol {other.spec.protocol}"
            lost[each.id] = _conflict(each, "ProtocolConflict", what, "a port of its own")
        elif (first := read.get(PLACE_OWNERS, Place(port, each.hostname))) is not None and first.order < claims.order:
            what = f"wants port and hostname that {_named(first.entry)} has already"
            lost[each.id] = _conflict(each, "HostnameConflict", what, "another hostname")
    return lost


def _of_another_family(owner: PortOwner | None, order: MergeOrder, entry: Entry) -> Entry | None:
    """The listener that has given a port another protocol than one wants that came later."""
    if owner is None or owner.order == order:
        return None
    return next((other for other in owner.families if _family(other) != _family(entry)), None)


def _lost_among_themselves(group: tuple[Entry, ...]) -> Refused:
    """Listeners of one object that share a port with one of another protocol, or port and hostname with another."""
    lost: Refused = {}
    families: dict[str, list[str]] = {}
    hostnames: dict[str, list[str]] = {}
    for each in group:
        families.setdefault(_family(each), []).append(each.spec.name)
        hostnames.setdefault(each.hostname, []).append(each.spec.name)
    for each in group:
        twins = hostnames[each.hostname]
        if len(families) > 1:
            others = [name for family, names in families.items() if family != _family(each) for name in names]
            what = f"shares port {each.spec.port} with {names_of(others)} of another protocol"
            lost[each.id] = _conflict(each, "ProtocolConflict", what, "a port of its own")
        elif len(twins) > 1:
            others = [name for name in twins if name != each.spec.name]
            what = f"has the same port and hostname as {names_of(others)}"
            lost[each.id] = _conflict(each, "HostnameConflict", what, "another hostname")
    return lost


def _conflict(entry: Entry, reason: str, what: str, cure: str) -> tuple[Finding, ...]:
    hint = f"Give it {cure}"
    return tuple(about_listener(entry, condition, reason, what, hint=hint) for condition in ("Conflicted", "Accepted"))


def _named(entry: Entry) -> str:
    return f"listener `{entry.spec.name}` of {entry.holder.kind} `{entry.holder.key}`"


def names_of(names: list[str]) -> str:
    """``listener `a` `` or ``listeners `a`, `b` and 3 more``."""
    shown = ", ".join(f"`{name}`" for name in names[:SHOWN])
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ("listener " if len(names) == 1 else "listeners ") + shown + rest
