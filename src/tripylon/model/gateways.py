"""Gateway → listeners: which gateways are ours, what each listener accepts, and which sockets are whose.

A gateway's listeners are its own and those that ListenerSets and Ingresses add (`entries.py`); which of them are
refused is worked out in `conflicts.py`. The invariant: a listener that is refused never keeps another from being
served. TLS is resolved apart, in `tls.py`, so that a renewed certificate does not touch a route. Read `routes.py` next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tripylon.api.gateway import Gateway
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.addresses import addresses, not_granted
from tripylon.model.conflicts import ROUTE_KINDS, Refused, overlaps, refused
from tripylon.model.entries import Entry, about_listener, chosen, entries
from tripylon.model.listeners import shared_by_https
from tripylon.model.options import Options
from tripylon.model.parameters import class_parameters, gateway_parameters
from tripylon.model.plan import GatewayPlan, Listener
from tripylon.model.unread import unread
from tripylon.values import Built, Name
from tripylon.world.world import GATEWAY_CLASSES, GATEWAYS


class Socket(NamedTuple):
    """What can be bound once on a machine."""

    address: str
    port: int
    udp: bool


CLASS_PLANS: Table[Name, bool] = Table("class plans")
"""The GatewayClasses of ours, each with whether it is accepted."""
GATEWAY_PLANS: Table[Name, GatewayPlan] = Table("gateway plans")
DEFAULT_GATEWAYS: Index[str, Name, Gateway] = Index(
    "default gateways", GATEWAYS, lambda _, gateway: ("All",) if gateway.spec.default_scope == "All" else ()
)
"""The gateways, of whomever, that routes get which want default ones."""
SOCKETS: Table[Name, tuple[Socket, ...]] = Table("sockets")
"""What each gateway of ours has a right to bind, if no older one asks for it."""
SOCKETS_BY_PLACE: Index[Socket, Name, tuple[Socket, ...]] = Index(
    "sockets by address and port", SOCKETS, lambda _, places: places
)


def derives(options: Options) -> tuple[Derive[Name, Any], ...]:
    """The steps from Gateway objects to gateway plans, in order."""
    return (
        Derive(CLASS_PLANS, (GATEWAY_CLASSES,), lambda read, name: _plan_class(read, name, options)),
        Derive(SOCKETS, (GATEWAYS,), lambda read, name: _sockets(read, name, options)),
        Derive(GATEWAY_PLANS, (GATEWAYS,), lambda read, name: plan_gateway(read, name, options)),
    )


def is_ours(read: Read, gateway: Gateway, options: Options) -> bool:
    """Whether the gateway's class is one of ours; standalone, a class that nobody wrote down is."""
    class_ = read.get(GATEWAY_CLASSES, Name("", gateway.spec.gateway_class_name))
    if class_ is None:
        return options.standalone
    return class_.spec.controller_name == options.controller_name


def _plan_class(read: Read, name: Name, options: Options) -> Built[bool, Finding] | None:
    """Whether a class of ours can be had as it is written; its gateways go on as they were if not."""
    class_ = read.get(GATEWAY_CLASSES, name)
    if class_ is None or class_.spec.controller_name != options.controller_name:
        return None
    findings = class_parameters(read, class_, options)
    return Built(value=not findings, findings=findings)


def plan_gateway(read: Read, name: Name, options: Options) -> Built[GatewayPlan, Finding] | None:
    """One gateway with its listeners, and what is wrong with them."""
    gateway = read.get(GATEWAYS, name)
    if gateway is None or not is_ours(read, gateway, options):
        return None
    findings: list[Finding] = []
    bound = addresses(gateway, options, findings)
    if not options.standalone:
        bound = (options.bind_address,)
        findings.extend(not_granted(read, gateway))
    parameters = gateway_parameters(read, gateway, options)
    # In a cluster they say how proxies are run, not what these serve: what runs goes on.
    accepted = _accepted([*findings, *parameters] if options.standalone else findings)
    findings.extend(parameters)
    written = entries(read, gateway)
    lost = refused(written, options)
    if options.standalone and accepted:
        lost |= _taken_by_others(read, gateway, written, bound, lost)
    for found in lost.values():
        findings.extend(found)
    listeners = tuple(_listener(each, lost, findings) for each in written)
    findings.extend(overlaps(tuple(each for each in written if each.id not in lost)))
    findings.extend(unread(written))
    usable = [each for each in listeners if each.usable]
    plan = GatewayPlan(
        name,
        bound,
        listeners,
        accepted,
        served={(each.port, each.hostname): each for each in usable if each.protocol != "UDP"},
        ids={each.id: each for each in usable},
        shared=shared_by_https(usable),
    )
    return Built(plan, tuple(findings))


def _accepted(findings: list[Finding]) -> bool:
    """Whether a gateway as a whole can be served, by what was found about it."""
    return not any(
        finding.severity == "error" and finding.condition == "Accepted" and not finding.listener for finding in findings
    )


def _listener(entry: Entry, lost: Refused, findings: list[Finding]) -> Listener:
    return Listener(
        id=entry.id,
        name=entry.spec.name,
        holder=entry.holder.ref,
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
    gateway = read.get(GATEWAYS, name)
    if gateway is None or not options.standalone or not is_ours(read, gateway, options):
        return None
    found: list[Finding] = []
    bound = addresses(gateway, options, found)
    found.extend(gateway_parameters(read, gateway, options))
    if not _accepted(found):
        return None
    written = entries(read, gateway)
    lost = refused(written, options)
    ports = sorted({(each.spec.port, each.spec.protocol == "UDP") for each in written if each.id not in lost})
    return Built(tuple(Socket(address, *port) for address in bound for port in ports))


def _taken_by_others(
    read: Read, gateway: Gateway, written: tuple[Entry, ...], bound: tuple[str, ...], lost: Refused
) -> Refused:
    """The oldest gateway keeps a socket, the others' listeners are refused."""
    taken: Refused = {}
    for entry in written:
        port = entry.spec.port
        owners = [_owner(read, Socket(address, port, entry.spec.protocol == "UDP")) for address in bound]
        owner = next((owner for owner in owners if owner not in (None, gateway.key)), None)
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
        gateway = read.get(GATEWAYS, name)
        created = gateway.metadata.creation_timestamp if gateway else ""
        return (not created, created, name)

    return min(read.members(SOCKETS_BY_PLACE, place), key=age, default=None)
