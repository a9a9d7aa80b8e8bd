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
from tripylon.values import Built, Name, wider_hostnames

SECURE = ("HTTPS", "TLS")
"""The protocols that share a port, as the server name of a connection tells their listeners apart."""


class Form(NamedTuple):
    """What hostnames look like."""

    gateway: Name
    exact: bool
    labels: int
    """So many labels it has, the asterisk not counted; 0: it is empty and stands for every host."""


def form(gateway: Name, hostname: str) -> Form:
    """The form of a hostname of a gateway's listeners."""
    if not hostname:
        return Form(gateway, exact=False, labels=0)
    exact = not hostname.startswith("*.")
    return Form(gateway, exact, hostname.count(".") + exact)


def place_of(gateway: Name, listener: Listener) -> HostKey:
    """Where a listener stands that is told from others by its hostname: those of a TLS port stand together."""
    return HostKey(route_table(gateway, listener.port, secure=listener.protocol in SECURE), listener.hostname)


def _places(key: HolderKey, holder: HolderListeners) -> Iterator[HostKey]:
    for each in holder.listeners:
        if each.usable and each.protocol not in ("TCP", "UDP"):
            yield place_of(key.gateway, each)


def _forms(key: HolderKey, holder: HolderListeners) -> Iterator[Form]:
    return (form(key.gateway, each.hostname) for each in holder.listeners)


def _names(key: HolderKey, holder: HolderListeners) -> Iterable[tuple[Name, str]]:
    return [(key.gateway, each.hostname) for each in holder.listeners if each.http]


def _tables(key: HolderKey, holder: HolderListeners) -> Iterator[RouteTable]:
    return (each.table(key.gateway) for each in holder.listeners if each.usable and each.protocol == "HTTPS")


SERVED: Index[HostKey, HolderKey, HolderListeners] = Index("served names", LISTENERS, _places)
NAMES: Index[tuple[Name, str], HolderKey, HolderListeners] = Index("http listeners by hostname", LISTENERS, _names)
"""Whatever their port, and also those that are refused."""
HOLDERS_BY_FORM: Index[Form, HolderKey, HolderListeners] = Index("holders by form of hostnames", LISTENERS, _forms)
FORMS: Table[Form, Form] = Table("forms of hostnames")
"""Those that hostnames of a gateway's listeners have."""
FORMS_BY_GATEWAY: Index[Name, Form, Form] = Index("forms by gateway", FORMS, lambda form, _: (form.gateway,))
HTTPS_TABLES: Index[RouteTable, HolderKey, HolderListeners] = Index("holders by https table", LISTENERS, _tables)
SHARED: Table[RouteTable, bool] = Table("shared tables")
"""Whether several HTTPS listeners share a port: there it matters which of them took a connection."""

INDEXES: tuple[Index[Any, Any, Any], ...] = (SERVED, NAMES, HOLDERS_BY_FORM, FORMS_BY_GATEWAY, HTTPS_TABLES)


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps to what is common to many names, so that a listener more changes it seldom."""
    return (
        Derive(FORMS, (HOLDERS_BY_FORM,), lambda _, form: Built(form)),
        Derive(SHARED, (HTTPS_TABLES,), _shared),
    )


def _shared(read: Read, table: RouteTable) -> Built[bool, Finding] | None:
    holders = read.lookup(HTTPS_TABLES, table)
    return Built(
        len(holders) > 1 or sum(each == table for holder in holders for each in _tables(holder.key, holder)) > 1
    )


def owner(read: Read, host: HostKey) -> Listener | None:
    """The one listener that a hostname belongs to within a routing table: the most specific that covers it."""
    return _most_specific(read, host, ("HTTPS",) if host.table.secure else ("HTTP",))


def tls_owner(read: Read, gateway: Name, port: int, hostname: str) -> Listener | None:
    """The one listener of a port that takes connections for a server name, be it of protocol HTTPS or TLS."""
    return _most_specific(read, HostKey(route_table(gateway, port, secure=True), hostname), SECURE)


def _most_specific(read: Read, host: HostKey, protocols: tuple[str, ...]) -> Listener | None:
    found = (listener_at(read, place) for place in covering(read, host))
    return next((each for each in found if each is not None and each.protocol in protocols), None)


def covering(read: Read, host: HostKey) -> Iterator[HostKey]:
    """The places of hostnames that cover one, its own included, as far as there could be any; the narrowest first."""
    for name in _covering(read, host.table.gateway, host.hostname):
        yield host if name == host.hostname else host_key(host.table, name)


def _covering(read: Read, gateway: Name, hostname: str) -> Iterator[str]:
    forms = frozenset(read.members(FORMS_BY_GATEWAY, gateway))
    return (name for name in wider_hostnames(hostname) if form(gateway, name) in forms)


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
            if each.usable and each.hostname == place.hostname and place_of(holder.key.gateway, each) == place:
                return each
    return None


@lru_cache(maxsize=4096)
def host_key(table: RouteTable, hostname: str) -> HostKey:
    """One object for all narrower hosts, since each of them holds on to the keys that it asked for."""
    return HostKey(table, hostname)
