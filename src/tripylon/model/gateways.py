"""Gateway → listeners: what each listener accepts, what the whole is, and which sockets are whose.

A gateway's listeners are its own and those that ListenerSets and Ingresses add (`holders.py`); which of them are
refused is worked out in `conflicts.py`. The invariant: a listener that is refused never keeps another from being
served. TLS is resolved apart, in `tls.py`, so that a renewed certificate does not touch a route. Read `routes.py` next.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.conflicts import ROUTE_KINDS, VERDICTS, Refused, Verdict
from tripylon.model.entries import Entry, about_listener, chosen
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.holders import ENTRIES
from tripylon.model.options import Options
from tripylon.model.plan import GatewayHead, GatewayPlan, HolderKey, HolderListeners, Listener, merge_order
from tripylon.model.unread import unread
from tripylon.values import Built, Name


class Socket(NamedTuple):
    """What can be bound once on a machine."""

    address: str
    port: int
    udp: bool


SOCKETS: Table[Name, tuple[Socket, ...]] = Table("sockets")
"""What each gateway of ours has a right to bind, if no older one asks for it."""
LISTENERS: Table[HolderKey, HolderListeners] = Table("listeners")
"""The listeners of gateways of ours, by the object that states them."""
GATEWAY_PLANS: Table[Name, GatewayPlan] = Table("gateway plans")
VERDICTS_BY_GATEWAY: Index[Name, HolderKey, Verdict] = Index(
    "verdicts by gateway", VERDICTS, lambda key, _: (key.gateway,)
)
SOCKETS_BY_PLACE: Index[Socket, Name, tuple[Socket, ...]] = Index(
    "sockets by address and port", SOCKETS, lambda _, places: places
)
LISTENERS_BY_GATEWAY: Index[Name, HolderKey, HolderListeners] = Index(
    "listeners by gateway", LISTENERS, lambda key, _: (key.gateway,)
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (VERDICTS_BY_GATEWAY, SOCKETS_BY_PLACE, LISTENERS_BY_GATEWAY)


def derives(options: Options) -> tuple[Derive[Any, Any], ...]:
    """The steps from what is not refused to listeners and gateway plans, in order."""
    return (
        Derive(SOCKETS, (GATEWAY_HEADS,), lambda read, name: _sockets(read, name, options)),
        Derive(LISTENERS, (VERDICTS,), lambda read, key: _listeners(read, key, options)),
        Derive(GATEWAY_PLANS, (GATEWAY_HEADS,), _plan),
    )


def _listeners(read: Read, key: HolderKey, options: Options) -> Built[HolderListeners, Finding] | None:
    """The listeners of one object, and what is wrong with them."""
    holder, verdict = read.get(ENTRIES, key), read.get(VERDICTS, key)
    if holder is None or verdict is None:
        return None
    lost = verdict.refused
    head = read.get(GATEWAY_HEADS, key.gateway) if options.standalone else None
    if head is not None and head.accepted:
        lost = lost | _taken_by_others(read, head, holder.entries, lost)
    findings = [finding for found in lost.values() for finding in found]
    listeners = tuple(_listener(each, lost, findings) for each in holder.entries)
    findings.extend(unread(holder.entries))
    sockets = frozenset((each.port, each.protocol == "UDP") for each in listeners)
    tables = frozenset(each.table(key.gateway) for each in listeners if each.usable and each.http)
    return Built(HolderListeners(key, holder.order, listeners, sockets, tables), tuple(findings))


def _plan(read: Read, name: Name) -> Built[GatewayPlan, Finding] | None:
    """A gateway with all of its listeners in the order of merging."""
    head = read.get(GATEWAY_HEADS, name)
    if head is None:
        return None
    holders = sorted(read.lookup(LISTENERS_BY_GATEWAY, name), key=merge_order)
    listeners = tuple(chain.from_iterable(holder.listeners for holder in holders))
    sockets = frozenset(chain.from_iterable(holder.sockets for holder in holders))
    tables = frozenset(chain.from_iterable(holder.tables for holder in holders))
    return Built(GatewayPlan(name, head.addresses, listeners, head.accepted, sockets, tables))


def _listener(entry: Entry, lost: Refused, findings: list[Finding]) -> Listener:
    return Listener(
        id=entry.id,
        name=entry.spec.name,
        holder=entry.holder,
        place=entry.place,
        port=entry.spec.port,
        protocol=entry.spec.protocol,
        hostname=entry.hostname,
        kinds=_kinds(entry, findings),
        namespaces=chosen(entry.spec.allowed_routes.namespaces),
        usable=entry.id not in lost,
        terminates=entry.terminates,
        filtered=entry.spec.filters is not None and bool(entry.spec.filters.requests),
    )


def _kinds(entry: Entry, findings: list[Finding]) -> tuple[tuple[str, str], ...]:
    """The route kinds that may attach: what the protocol takes, narrowed by `allowedRoutes.kinds`."""
    listener = entry.spec
    served = tuple((GATEWAY_GROUP, kind) for kind in ROUTE_KINDS.get(listener.protocol, ()))
    if not listener.allowed_routes.kinds:
        return served
    pairs = [(kind.group, kind.kind) for kind in listener.allowed_routes.kinds]
    for group, kind in pairs:
        if (group, kind) not in served:
            findings.append(
                about_listener(
                    entry,
                    "ResolvedRefs",
                    "InvalidRouteKinds",
                    f"allows routes of kind {group or 'core'}/{kind}, which a listener of protocol "
                    f"{listener.protocol} does not take",
                    hint="Allow " + " or ".join(kind for _, kind in served) if served else "",
                    field="allowedRoutes.kinds",
                )
            )
    return tuple(dict.fromkeys(pair for pair in pairs if pair in served))


# --- Sockets: standalone, one proxy binds for all gateways ---------------------------------------------------------


def _sockets(read: Read, name: Name, options: Options) -> Built[tuple[Socket, ...], Finding] | None:
    head = read.get(GATEWAY_HEADS, name) if options.standalone else None
    if head is None or not head.accepted:
        return None
    ports = sorted({port for verdict in read.lookup(VERDICTS_BY_GATEWAY, name) for port in verdict.ports})
    return Built(tuple(Socket(address, *port) for address in head.addresses for port in ports))


def _taken_by_others(read: Read, gateway: GatewayHead, written: tuple[Entry, ...], lost: Refused) -> Refused:
    """The oldest gateway keeps a socket, the others' listeners are refused."""
    taken: Refused = {}
    for entry in written:
        port = entry.spec.port
        owners = [_owner(read, Socket(address, port, entry.is_udp)) for address in gateway.addresses]
        owner = next((owner for owner in owners if owner not in (None, gateway.name)), None)
        if owner is None or entry.id in lost:
            continue
        taken[entry.id] = (
            about_listener(
                entry,
                "Accepted",
                "PortUnavailable",
                f"wants port {port} of an address whose port {port} Gateway `{owner}` has",
                hint="Give one of the two another port, or an address of its own by `spec.addresses`",
                field="port",
            ),
        )
    return taken


def _owner(read: Read, place: Socket) -> Name | None:
    """The oldest gateway that asks for a socket, then the first by name."""

    def age(name: Name) -> tuple[bool, str, Name]:
        gateway = read.get(GATEWAY_HEADS, name)
        created = gateway.created if gateway else ""
        return (not created, created, name)

    return min(read.members(SOCKETS_BY_PLACE, place), key=age, default=None)
