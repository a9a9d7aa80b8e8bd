"""Gateway → listeners: which gateways are ours, what each listener accepts, and which listeners are refused.

No winner is chosen inside one Gateway: listeners that clash are all refused (Gateway API, Gateway.spec.listeners). The
invariant: a listener that is refused never keeps another from being served. TLS is resolved apart, in `tls.py`, so that
a renewed certificate does not touch a route. Read `routes.py` next.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from tripylon.api.gateway import AllowedRoutes, Gateway
from tripylon.api.gateway import Listener as ListenerSpec
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.listener_findings import about_listener
from tripylon.model.options import Options
from tripylon.model.parameters import class_parameters, gateway_parameters
from tripylon.model.plan import GatewayPlan, Listener, Namespaces
from tripylon.model.unread import unread
from tripylon.values import Built, Name, intersect_hostnames, is_address
from tripylon.world.world import GATEWAY_CLASSES, GATEWAYS, REACHED

ROUTE_KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "HTTP": ((GATEWAY_GROUP, "HTTPRoute"), (GATEWAY_GROUP, "GRPCRoute")),
    "HTTPS": ((GATEWAY_GROUP, "HTTPRoute"), (GATEWAY_GROUP, "GRPCRoute")),
}
"""Protocols that are served, each with the kinds of route that it takes."""

CLASS_PLANS: Table[Name, bool] = Table("class plans")
"""The GatewayClasses of ours, each with whether it is accepted."""
GATEWAY_PLANS: Table[Name, GatewayPlan] = Table("gateway plans")
SOCKETS: Table[Name, tuple[tuple[str, int], ...]] = Table("sockets")
"""The addresses and ports that each gateway of ours has a right to, if no older one asks for them."""
SOCKETS_BY_PLACE: Index[tuple[str, int], Name, tuple[tuple[str, int], ...]] = Index(
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
    """Whether a class of ours can be had as it is written; its gateways are served by our defaults even if not."""
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
    addresses = _addresses(gateway, options, findings)
    if not options.standalone:
        addresses = (options.bind_address,)
        findings.extend(_not_granted(read, gateway))
    findings.extend(gateway_parameters(read, gateway, options))
    accepted = _accepted(findings)
    refused = _refused_among_themselves(gateway, options)
    if options.standalone and accepted:
        refused |= _taken_by_others(read, gateway, addresses, refused)
    for found in refused.values():
        findings.extend(found)
    listeners = tuple(_listener(gateway, listener, refused, findings) for listener in gateway.spec.listeners)
    findings.extend(_overlaps(gateway, refused))
    findings.extend(unread(gateway))
    return Built(GatewayPlan(name, addresses, listeners, accepted), tuple(findings))


def _accepted(findings: list[Finding]) -> bool:
    """Whether a gateway as a whole can be served, by what was found about it."""
    return not any(
        finding.severity == "error" and finding.condition == "Accepted" and not finding.listener for finding in findings
    )


def _listener(
    gateway: Gateway, listener: ListenerSpec, refused: dict[str, tuple[Finding, ...]], findings: list[Finding]
) -> Listener:
    return Listener(
        name=listener.name,
        port=listener.port,
        protocol=listener.protocol,
        hostname=listener.hostname.lower(),
        kinds=_kinds(gateway, listener, findings),
        namespaces=_namespaces(listener.allowed_routes),
        usable=listener.name not in refused,
    )


def _kinds(gateway: Gateway, listener: ListenerSpec, findings: list[Finding]) -> tuple[tuple[str, str], ...]:
    """The route kinds that may attach: what the protocol takes, narrowed by `allowedRoutes.kinds`."""
    served = ROUTE_KINDS.get(listener.protocol, ())
    if not listener.allowed_routes.kinds:
        return served
    pairs = [(kind.group, kind.kind) for kind in listener.allowed_routes.kinds]
    for group, kind in pairs:
        if (group, kind) not in served:
            findings.append(
                about_listener(
                    gateway,
                    listener,
                    "ResolvedRefs",
                    "InvalidRouteKinds",
                    f"allows routes of kind {group or 'core'}/{kind}, which a listener of protocol "
                    f"{listener.protocol} does not take",
                    hint="Allow " + " or ".join(kind for _, kind in served) if served else "",
                    field="allowedRoutes.kinds",
                )
            )
    return tuple(dict.fromkeys(pair for pair in pairs if pair in served))


def _namespaces(allowed: AllowedRoutes) -> Namespaces:
    """From where routes may come; a mode that is not known, or a selector that is missing, lets none in."""
    selector = allowed.namespaces.selector
    match allowed.namespaces.from_:
        case "All":
            return Namespaces("All")
        case "Same":
            return Namespaces("Same")
        case "Selector" if selector is not None:
            return Namespaces(
                "Selector",
                tuple(sorted(selector.match_labels.items())),
                tuple((item.key, item.operator, item.values) for item in selector.match_expressions),
            )
    return Namespaces("None")


def _addresses(gateway: Gateway, options: Options, findings: list[Finding]) -> tuple[str, ...]:
    """The IP addresses to bind; an address that cannot be one is a finding, and the others still serve."""
    if not gateway.spec.addresses:
        return (options.bind_address,)
    usable: list[str] = []
    for place, address in enumerate(gateway.spec.addresses):
        field = f"spec.addresses[{place}]"
        if (address.type or "IPAddress") != "IPAddress":
            findings.append(
                Finding(
                    object=gateway.ref,
                    condition="Accepted",
                    reason="UnsupportedAddress",
                    message=f"Gateway `{gateway.key}` asks for an address of type {address.type}, "
                    "which is not supported",
                    hint="Use type IPAddress, or leave `spec.addresses` out",
                    field=f"{field}.type",
                )
            )
        elif address.routability:
            findings.append(
                Finding(
                    object=gateway.ref,
                    condition="Programmed",
                    reason="AddressNotUsable",
                    message=f"Gateway `{gateway.key}` asks for an address with routability {address.routability}, "
                    "which cannot be had",
                    hint="Leave `routability` out",
                    field=f"{field}.routability",
                )
            )
        elif not address.value:
            usable.append(options.bind_address)
        elif is_address(address.value):
            usable.append(str(ipaddress.ip_address(address.value)))
        else:
            findings.append(
                Finding(
                    object=gateway.ref,
                    condition="Programmed",
                    reason="AddressNotUsable",
                    message=f"Gateway `{gateway.key}` asks for the address `{address.value}`, which is no IP address",
                    hint="Write an IPv4 or IPv6 address of this machine",
                    field=f"{field}.value",
                )
            )
    return tuple(dict.fromkeys(usable))


def _not_granted(read: Read, gateway: Gateway) -> Iterator[Finding]:
    """Addresses that the Gateway asks for and that whoever runs its proxies could not get."""
    reached = read.get(REACHED, gateway.key)
    for address in reached.unusable if reached is not None else ():
        yield Finding(
            object=gateway.ref,
            condition="Programmed",
            reason="AddressNotUsable",
            message=f"Gateway `{gateway.key}` asks for the address `{address}`, which its Service does not get",
            hint="Use an address that the cluster's load balancer hands out, or leave `spec.addresses` out",
            field="spec.addresses",
        )


def _sockets(read: Read, name: Name, options: Options) -> Built[tuple[tuple[str, int], ...], Finding] | None:
    gateway = read.get(GATEWAYS, name)
    if gateway is None or not options.standalone or not is_ours(read, gateway, options):
        return None
    found: list[Finding] = []
    addresses = _addresses(gateway, options, found)
    found.extend(gateway_parameters(read, gateway, options))
    if not _accepted(found):
        return None
    refused = _refused_among_themselves(gateway, options)
    ports = sorted({listener.port for listener in gateway.spec.listeners if listener.name not in refused})
    return Built(tuple((address, port) for address in addresses for port in ports))


def _refused_among_themselves(gateway: Gateway, options: Options) -> dict[str, tuple[Finding, ...]]:
    """Listeners that cannot be served whatever other gateways want: each for itself, then the ones that clash."""
    refused = _refused_alone(gateway, options)
    return refused | _conflicts(
        gateway, [listener for listener in gateway.spec.listeners if listener.name not in refused]
    )


def _refused_alone(gateway: Gateway, options: Options) -> dict[str, tuple[Finding, ...]]:
    """Listeners that cannot be served whatever the others are, with the findings that say why."""
    refused: dict[str, tuple[Finding, ...]] = {}
    for listener in gateway.spec.listeners:
        if found := tuple(_faults(gateway, listener, options)):
            refused[listener.name] = found
    return refused


def _faults(gateway: Gateway, listener: ListenerSpec, options: Options) -> Iterator[Finding]:
    mode = (listener.tls.mode if listener.tls else None) or "Terminate"
    if listener.protocol not in ROUTE_KINDS:
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "UnsupportedProtocol",
            f"has protocol {listener.protocol}, which is not supported",
            hint="Use " + " or ".join(ROUTE_KINDS),
            field="protocol",
        )
    elif listener.protocol == "HTTPS" and mode != "Terminate":
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "UnsupportedValue",
            f"has TLS mode {mode}, which an HTTPS listener cannot have",
            hint="Use mode Terminate",
            field="tls.mode",
        )
    elif listener.filters is not None:
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "UnsupportedValue",
            "has filters, which are not supported; it is closed so that nothing passes unfiltered",
            hint="Put the filters into the routes",
            field="filters",
        )
    elif listener.protocol == "HTTPS" and _verifies_clients(gateway, listener.port):
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "UnsupportedValue",
            "would have to verify client certificates by `spec.tls.frontend`, which is not supported; "
            "it is closed so that nobody enters unverified",
            hint="Leave `spec.tls.frontend` out to serve without client certificates",
        )
    elif listener.port in options.reserved_ports:
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "PortUnavailable",
            f"has port {listener.port}, which the proxy itself needs",
            hint=f"Use another port than {', '.join(map(str, options.reserved_ports))}",
            field="port",
        )
    elif listener.port < 1024 and not options.privileged_ports:
        yield about_listener(
            gateway,
            listener,
            "Accepted",
            "PortUnavailable",
            f"has port {listener.port}, which this user may not bind",
            hint="Use a port from 1024 on, run as root, or lower net.ipv4.ip_unprivileged_port_start",
            field="port",
        )


def _verifies_clients(gateway: Gateway, port: int) -> bool:
    """Whether clients of a port must show a certificate: by the port's own settings, else by the default ones."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return False
    config = next((each.tls for each in frontend.per_port if each.port == port), frontend.default)
    return config.validation is not None


def _conflicts(gateway: Gateway, listeners: Iterable[ListenerSpec]) -> dict[str, tuple[Finding, ...]]:
    """Every listener that shares a port with another of a different protocol, or port and hostname with another."""
    ports: dict[int, list[ListenerSpec]] = {}
    for listener in listeners:
        ports.setdefault(listener.port, []).append(listener)
    refused: dict[str, tuple[Finding, ...]] = {}
    for rivals in ports.values():
        protocols = sorted({rival.protocol for rival in rivals})
        for listener in rivals:
            twins = [rival.name for rival in rivals if rival.hostname.lower() == listener.hostname.lower()]
            if len(protocols) > 1:
                others = [rival.name for rival in rivals if rival.protocol != listener.protocol]
                what = f"shares port {listener.port} with {_names(others)} of another protocol"
                refused[listener.name] = _conflict(gateway, listener, "ProtocolConflict", what, "a port of its own")
            elif len(twins) > 1:
                twins.remove(listener.name)
                what = f"has the same port and hostname as {_names(twins)}"
                refused[listener.name] = _conflict(gateway, listener, "HostnameConflict", what, "another hostname")
    return refused


def _overlaps(gateway: Gateway, refused: dict[str, tuple[Finding, ...]]) -> Iterator[Finding]:
    """HTTPS listeners of one port whose hostnames overlap: a client may reuse one's connection for the other's host."""
    served = [each for each in gateway.spec.listeners if each.protocol == "HTTPS" and each.name not in refused]
    for listener in served:
        others = [
            other.name
            for other in served
            if other is not listener
            and other.port == listener.port
            and intersect_hostnames(other.hostname.lower(), listener.hostname.lower()) is not None
        ]
        if others:
            yield about_listener(
                gateway,
                listener,
                "OverlappingTLSConfig",
                "OverlappingHostnames",
                f"has hostnames in common with {_names(others)} on port {listener.port}; clients that reuse a "
                "connection for a hostname of another listener are told to connect anew (421)",
                hint="Ignore this if their certificates cover no common name",
                severity="info",
            )


def _names(names: list[str]) -> str:
    return ("listener " if len(names) == 1 else "listeners ") + ", ".join(f"`{name}`" for name in names)


def _conflict(gateway: Gateway, listener: ListenerSpec, reason: str, what: str, cure: str) -> tuple[Finding, ...]:
    hint = f"Give it {cure}"
    return (
        about_listener(gateway, listener, "Conflicted", reason, what, hint=hint),
        about_listener(gateway, listener, "Accepted", reason, what, hint=hint),
    )


def _taken_by_others(
    read: Read, gateway: Gateway, addresses: tuple[str, ...], refused: dict[str, tuple[Finding, ...]]
) -> dict[str, tuple[Finding, ...]]:
    """Standalone, one proxy binds for all gateways: the oldest keeps a socket, the others' listeners are refused."""
    taken: dict[str, tuple[Finding, ...]] = {}
    for listener in gateway.spec.listeners:
        owners = [_owner(read, address, listener.port) for address in addresses]
        owner = next((owner for owner in owners if owner not in (None, gateway.key)), None)
        if owner is None or listener.name in refused:
            continue
        taken[listener.name] = (
            about_listener(
                gateway,
                listener,
                "Accepted",
                "PortUnavailable",
                f"wants port {listener.port} of an address whose port {listener.port} Gateway `{owner}` has",
                hint="Give one of the two another port, or an address of its own by `spec.addresses`",
                field="port",
            ),
        )
    return taken


def _owner(read: Read, address: str, port: int) -> Name | None:
    """The oldest gateway that asks for a socket, then the first by name."""

    def age(name: Name) -> tuple[bool, str, Name]:
        gateway = read.get(GATEWAYS, name)
        created = gateway.metadata.creation_timestamp if gateway else ""
        return (not created, created, name)

    return min(read.members(SOCKETS_BY_PLACE, (address, port)), key=age, default=None)
