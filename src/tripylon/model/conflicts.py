"""Which listeners of a gateway are refused: those that cannot be served at all, and those that clash.

Inside one Gateway, or one ListenerSet, no winner is chosen: all that clash are refused (Gateway API, GatewaySpec).
Between them the earlier in the order of merging wins, also where it is refused itself for a clash, so that nobody gets
what a Gateway's owner has written down by waiting for a mistake. Read `gateways.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.api.gateway import Listener
from tripylon.findings import Finding
from tripylon.model.entries import Entry, about_listener, by_port
from tripylon.model.listeners import sharing_names
from tripylon.model.options import Options

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
_MANY = 5
"""So many listeners are named in one sentence."""

_MOST_FILTERS = 4
"""So many filters a listener can have; see `external_auth.py`."""

Refused = dict[str, tuple[Finding, ...]]
"""Ids of the listeners that are refused, with the findings that say why."""


def refused(listeners: tuple[Entry, ...], options: Options) -> Refused:
    """Listeners that cannot be served whatever other gateways want: each for itself, then the ones that clash."""
    alone = {each.id: found for each in listeners if (found := tuple(_faults(each, options)))}
    return alone | _conflicts(tuple(each for each in listeners if each.id not in alone))


# --- Each for itself -----------------------------------------------------------------------------------------------


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


def _conflicts(listeners: tuple[Entry, ...]) -> Refused:
    found: Refused = {}
    for rivals in by_port(listeners):
        families: dict[str, Entry] = {}
        hostnames: dict[str, Entry] = {}
        for group in _by_holder(rivals):
            lost = _lost_to_earlier(group, families, hostnames)
            kept = tuple(each for each in group if each.id not in lost)
            found |= lost | _lost_among_themselves(kept)
            for each in kept:
                families.setdefault(_family(each), each)
                hostnames.setdefault(each.hostname, each)
    return found


def _by_holder(listeners: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for each in listeners:
        groups.setdefault(each.holder.ref, []).append(each)
    return (tuple(group) for group in groups.values())


def _family(entry: Entry) -> str:
    return _FAMILIES.get(entry.spec.protocol, entry.spec.protocol)


def _lost_to_earlier(group: tuple[Entry, ...], families: dict[str, Entry], hostnames: dict[str, Entry]) -> Refused:
    """Listeners whose port has another protocol already, or whose hostname is taken there."""
    lost: Refused = {}
    for each in group:
        other = next((entry for family, entry in families.items() if family != _family(each)), None)
        if other is not None:
            what = f"wants port {each.spec.port}, where {_named(other)} has protocol {other.spec.protocol}"
            lost[each.id] = _conflict(each, "ProtocolConflict", what, "a port of its own")
        elif (other := hostnames.get(each.hostname)) is not None:
            what = f"wants port and hostname that {_named(other)} has already"
            lost[each.id] = _conflict(each, "HostnameConflict", what, "another hostname")
    return lost


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


def overlaps(listeners: tuple[Entry, ...]) -> Iterator[Finding]:
    """TLS listeners of one port whose hostnames overlap: a client may reuse one's connection for the other's host."""
    secure = tuple(each for each in listeners if each.spec.protocol in ("HTTPS", "TLS"))
    for group in by_port(secure):
        places = {each.id: place for place, each in enumerate(group)}
        sharing = sharing_names({each.id: frozenset((each.hostname,)) for each in group})
        for each in group:
            if others := sorted(sharing[each.id], key=places.__getitem__):
                yield about_listener(
                    each,
                    "OverlappingTLSConfig",
                    "OverlappingHostnames",
                    f"has hostnames in common with {names_of(others)} on port {each.spec.port}; clients that reuse a "
                    "connection for a hostname of another listener are told to connect anew (421)",
                    hint="Ignore this if their certificates cover no common name",
                    severity="info",
                )


def _named(entry: Entry) -> str:
    return f"listener `{entry.spec.name}` of {entry.holder.ref.kind} `{entry.holder.key}`"


def names_of(names: list[str]) -> str:
    """``listener `a` `` or ``listeners `a`, `b` and 3 more``."""
    shown = ", ".join(f"`{name}`" for name in names[:_MANY])
    rest = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ("listener " if len(names) == 1 else "listeners ") + shown + rest
