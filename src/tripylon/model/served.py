"""Which listener of a port owns a hostname (Gateway API, listener isolation), asked name by name.

Whoever asks depends on the names that could own his, of which a gateway's listeners have but few forms, and not on the
gateway's other listeners. Read `hosts.py` next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateways import LISTENERS
from tripylon.model.plan import HolderKey, HolderListeners, HostKey, Listener, RouteTable, merge_order, route_table
from tripylon.values import Built, Name

SECURE = ("HTTPS", "TLS")
"""The protocols that share a port, as the server name of a connection tells their listeners apart."""

_NAMELESS = ("TCP", "UDP")


class Form(NamedTuple):
    """What hostnames look like; a greater form is the more specific one."""

    exact: bool
    labels: int
    """So many labels it has, the asterisk not counted; 0: it is empty and stands for every host."""


def form(hostname: str) -> Form:
    """The form of a hostname."""
    if not hostname:
        return Form(exact=False, labels=0)
    exact = not hostname.startswith("*.")
    return Form(exact, hostname.count(".") + exact)


def place_of(gateway: Name, listener: Listener) -> HostKey:
    """Where a listener stands that is told from others by its hostname: those of a TLS port stand together."""
    return HostKey(route_table(gateway, listener.port, secure=listener.protocol in SECURE), listener.hostname)


def _places(key: HolderKey, holder: HolderListeners) -> Iterator[HostKey]:
    for each in holder.listeners:
        if each.usable and each.protocol not in _NAMELESS:
            yield place_of(key.gateway, each)


def _forms(key: HolderKey, holder: HolderListeners) -> Iterable[tuple[Name, Form]]:
    return [(key.gateway, form(each.hostname)) for each in holder.listeners]


def _names(key: HolderKey, holder: HolderListeners) -> Iterable[tuple[Name, str]]:
    return [(key.gateway, each.hostname) for each in holder.listeners if each.http]


def _tables(key: HolderKey, holder: HolderListeners) -> Iterator[RouteTable]:
    return (each.table(key.gateway) for each in holder.listeners if each.usable and each.protocol == "HTTPS")


SERVED: Index[HostKey, HolderKey, HolderListeners] = Index("served names", LISTENERS, _places)
NAMES: Index[tuple[Name, str], HolderKey, HolderListeners] = Index("http listeners by hostname", LISTENERS, _names)
"""Whatever their port, and also those that are refused."""
HOLDERS_BY_FORM: Index[tuple[Name, Form], HolderKey, HolderListeners] = Index(
    "holders by form of hostnames", LISTENERS, _forms
)
FORMS: Table[tuple[Name, Form], bool] = Table("forms of hostnames")
"""Those that hostnames of a gateway's listeners have."""
FORMS_BY_GATEWAY: Index[Name, tuple[Name, Form], bool] = Index("forms by gateway", FORMS, lambda key, _: (key[0],))
GATEWAY_FORMS: Table[Name, tuple[Form, ...]] = Table("forms of a gateway's hostnames")
"""The same together, the most specific first."""
HTTPS_TABLES: Index[RouteTable, HolderKey, HolderListeners] = Index("holders by https table", LISTENERS, _tables)
SHARED: Table[RouteTable, bool] = Table("shared tables")
"""Whether several HTTPS listeners share a port: there it matters which of them took a connection."""

INDEXES: tuple[Index[Any, Any, Any], ...] = (SERVED, NAMES, HOLDERS_BY_FORM, FORMS_BY_GATEWAY, HTTPS_TABLES)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps to what is common to many names, so that a listener more changes it seldom."""
    return (
        Derive(FORMS, (HOLDERS_BY_FORM,), lambda _read, _form: Built(value=True)),
        Derive(GATEWAY_FORMS, (FORMS_BY_GATEWAY,), _gateway_forms),
        Derive(SHARED, (HTTPS_TABLES,), _shared),
    )


def _gateway_forms(read: Read, gateway: Name) -> Built[tuple[Form, ...], Finding] | None:
    return Built(tuple(sorted((form for _, form in read.members(FORMS_BY_GATEWAY, gateway)), reverse=True)))


def _shared(read: Read, table: RouteTable) -> Built[bool, Finding] | None:
    holders = read.lookup(HTTPS_TABLES, table)
    return Built(
        len(holders) > 1 or sum(each == table for holder in holders for each in _tables(holder.key, holder)) > 1
    )


def owner(read: Read, host: HostKey) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    protocol = "HTTPS" if host.table.secure else "HTTP"
    found = (listener_at(read, place) for place in covering(read, host))
    return next((each for each in found if each is not None and each.protocol == protocol), None)


def owns(read: Read, listener: Listener, host: HostKey) -> bool:
    """Whether a hostname that a usable listener covers belongs to it within its routing table."""
    return _is_most_specific(read, listener, host, (listener.protocol,))


def takes(read: Read, gateway: Name, listener: Listener, hostname: str) -> bool:
    """Whether a usable listener takes the connections of its port for a server name, be others of HTTPS or of TLS."""
    return _is_most_specific(
        read, listener, HostKey(route_table(gateway, listener.port, secure=True), hostname), SECURE
    )


def _is_most_specific(read: Read, listener: Listener, host: HostKey, protocols: tuple[str, ...]) -> bool:
    for place in covering(read, host):
        if place.hostname == listener.hostname:
            return True
        other = listener_at(read, place)
        if other is not None and other.protocol in protocols:
            return False
    return False


def covering(read: Read, host: HostKey) -> Iterator[HostKey]:
    """The places of hostnames that cover one, its own included, as far as there could be any; the narrowest first."""
    for name in _covering(read, host.table.gateway, host.hostname):
        yield host if name == host.hostname else host_key(host.table, name)


def _covering(read: Read, gateway: Name, hostname: str) -> Iterator[str]:
    """The hostnames of a gateway's forms that cover one: its own, then those of its last labels."""
    own, labels = form(hostname), hostname.removeprefix("*.").split(".")
    for exact, count in read.get(GATEWAY_FORMS, gateway) or ():
        if (exact, count) == own:
            yield hostname
        elif not exact and count < len(labels):
            yield "*." + ".".join(labels[-count:]) if count else ""


def named(read: Read, gateway: Name, hostname: str) -> tuple[Listener, ...]:
    """A gateway's listeners for HTTP with a hostname, in the order of merging, on any port and also if refused."""
    holders = sorted(read.lookup(NAMES, (gateway, hostname)), key=merge_order)
    return tuple(each for holder in holders for each in holder.listeners if each.http and each.hostname == hostname)


def covering_listeners(read: Read, gateway: Name, hostname: str) -> Iterator[Listener]:
    """The same of all hostnames that cover one."""
    for name in _covering(read, gateway, hostname):
        yield from named(read, gateway, name)


def listener_at(read: Read, place: HostKey) -> Listener | None:
    """The usable listener that has a place."""
    for holder in read.lookup(SERVED, place):
        for each in holder.listeners:
            there = (each.port, each.hostname, each.usable) == (place.table.port, place.hostname, True)
            if there and each.protocol not in _NAMELESS:
                return each
    return None


@lru_cache(maxsize=4096)
def host_key(table: RouteTable, hostname: str) -> HostKey:
    """One object for all narrower hosts, since each of them holds on to the keys that it asked for."""
    return HostKey(table, hostname)
