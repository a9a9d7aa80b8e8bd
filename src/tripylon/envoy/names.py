"""Every xDS name is made here, and read back here when Envoy complains about one.

The invariant: a name tells which object it comes from, holds no generation and no randomness, and is the same after a
restart. Hostnames, addresses and listener names hold no slash, and the ids of listeners that a ListenerSet adds hold
two, so the parts are unambiguous.
"""

from __future__ import annotations

from tripylon.model.plan import ClusterKey, FrontendKey, HostKey, Protocol, RouteTable
from tripylon.model.stream_plans import StreamKey
from tripylon.values import Name

_PROTOCOLS: tuple[Protocol, ...] = ("http2", "tcp", "udp")

NO_CLUSTER = "no-cluster"
"""A cluster that is never sent: the share of a backend that cannot be reached goes there, and is answered with 500."""


def route_table(table: RouteTable) -> str:
    """`namespace/gateway/port`, with `/https` for that of the HTTPS listeners: a RouteConfiguration."""
    return f"{table.gateway}/{table.port}" + ("/https" if table.secure else "")


def virtual_host(key: HostKey) -> str:
    """The route table's name and the hostname, `*` for every host: a VirtualHost as VHDS names it."""
    return f"{route_table(key.table)}/{key.hostname or '*'}"


def scope(key: HostKey) -> str:
    """The route table's name, a bar and the hostname: the scope of an exact hostname, which is its key, too.

    `*` stands for all hosts that have no scope of their own. Neither tables nor hostnames hold a bar.
    """
    return f"{route_table(key.table)}|{key.hostname or '*'}"


def listener(gateway: Name, port: int, address: str, udp: bool = False) -> str:
    """`namespace/gateway/port/address`, with `/udp` for one of datagrams: a Listener."""
    return f"{gateway}/{port}/{address}" + ("/udp" if udp else "")


def parse_listener(name: str) -> tuple[Name, int, str, bool] | None:
    """The gateway, port and address of a Listener's name, and whether it is for UDP; None when it is none of ours."""
    parts = name.removesuffix("/udp").split("/")
    if len(parts) != 4 or not parts[2].isdigit():
        return None
    return Name(parts[0], parts[1]), int(parts[2]), parts[3], name.endswith("/udp")


def stream(key: StreamKey) -> str:
    """`protocol/namespace/gateway/port/listener`, with `/hostname` or `/*` for TLS: a filter chain, a UDP cluster."""
    base = f"{key.protocol.lower()}/{key.gateway}/{key.port}/{key.listener}"
    return f"{base}/{key.hostname or '*'}" if key.protocol == "TLS" else base


def parse_sessions(name: str) -> StreamKey | None:
    """The UDP listener whose sessions go to a cluster of this name; None when it is none of ours."""
    parts = name.split("/")
    if len(parts) not in (5, 7) or parts[0] != "udp" or not parts[3].isdigit():
        return None
    return StreamKey(Name(parts[1], parts[2]), int(parts[3]), "UDP", "/".join(parts[4:]), "")


def parse_route_table(name: str) -> RouteTable | None:
    """The routing table of a RouteConfiguration's name; None when it is none of ours."""
    parts = name.split("/")
    if len(parts) not in (3, 4) or not parts[2].isdigit() or parts[3:] not in ([], ["https"]):
        return None
    return RouteTable(Name(parts[0], parts[1]), int(parts[2]), len(parts) == 4)


def parse_virtual_host(name: str) -> HostKey | None:
    """The host of a VirtualHost's name; None when it is none of ours."""
    head, _, hostname = name.rpartition("/")
    table = parse_route_table(head)
    return HostKey(table, "" if hostname == "*" else hostname) if table is not None else None


def parse_scope(name: str) -> HostKey | None:
    """The host of a scope's name, without a hostname for that of all others; None when it is none of ours."""
    head, _, hostname = name.partition("|")
    table = parse_route_table(head)
    return HostKey(table, "" if hostname == "*" else hostname) if table is not None and hostname else None


def cluster(key: ClusterKey) -> str:
    """`service/namespace/name/port` or `backend/namespace/name`, then the ways it is reached: a Cluster, its endpoints.

    `collector/namespace/gateway` is where a gateway sends its spans.
    The ways are `/http2`, `/tcp` or `/udp`, `/tls`, and `/by/namespace/gateway` for one with its own certificate.
    """
    parts = [key.kind.lower(), key.namespace, key.name]
    if key.port:
        parts.append(str(key.port))
    if key.protocol != "http1":
        parts.append(key.protocol)
    if key.tls:
        parts.append("tls")
    if key.gateway is not None:
        parts.extend(("by", *key.gateway))
    return "/".join(parts)


def parse_cluster(name: str) -> ClusterKey | None:
    """The destination of a Cluster's name; None when it is none of ours."""
    match name.split("/"):
        case ["service", namespace, service, port, *ways] if port.isdigit():
            key = ClusterKey("Service", namespace, service, int(port), "http1")
        case ["serviceimport", namespace, service, port, *ways] if port.isdigit():
            key = ClusterKey("ServiceImport", namespace, service, int(port), "http1")
        case ["backend", namespace, backend, *ways]:
            key = ClusterKey("Backend", namespace, backend, 0, "http1")
        case ["xbackend", namespace, backend, *ways]:
            key = ClusterKey("XBackend", namespace, backend, 0, "http1")
        case ["collector", namespace, gateway, *ways]:
            key = ClusterKey("Collector", namespace, gateway, 0, "http1")
        case _:
            return None
    if ways[-3:-2] == ["by"]:
        key = key._replace(gateway=Name(*ways[-2:]))
        ways = ways[:-3]
    protocol: Protocol = next((each for each in _PROTOCOLS if each in ways), "http1")
    found = key._replace(protocol=protocol, tls="tls" in ways)
    return found if cluster(found) == name else None


def secret(name: Name) -> str:
    """`secret/namespace/name`: a TLS certificate as SDS names it."""
    return f"secret/{name}"


def parse_secret(text: str) -> Name | None:
    """The Secret of an SDS name; None when it is none of ours."""
    parts = text.split("/")
    return Name(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "secret" else None


def authorities(policy: Name) -> str:
    """`authorities/namespace/policy`: what a BackendTLSPolicy's backends are verified by, as SDS names it."""
    return f"authorities/{policy}"


def client_authorities(key: FrontendKey) -> str:
    """`clients/namespace/gateway`, with `/port` for settings of a port's own: whom clients' certificates come from."""
    return f"clients/{key.gateway}/{key.port}" if key.port else f"clients/{key.gateway}"


def parse_client_authorities(text: str) -> FrontendKey | None:
    """The settings of an SDS name; None when it is none of ours."""
    match text.split("/"):
        case ["clients", namespace, gateway]:
            return FrontendKey(Name(namespace, gateway), 0)
        case ["clients", namespace, gateway, port] if port.isdigit():
            return FrontendKey(Name(namespace, gateway), int(port))
    return None


def parse_authorities(text: str) -> Name | None:
    """The BackendTLSPolicy of an SDS name; None when it is none of ours."""
    parts = text.split("/")
    return Name(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "authorities" else None
