"""What Envoy refused → findings on the objects that the refused resource was made from.

A refusal should never come: what Envoy would refuse is looked for before it is sent. If it comes all the same, Envoy
keeps what it had, and this says so to the user, in Envoy's own words. The invariant: a refusal of a resource that we
named always becomes a finding on some object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.x_backends import X_GROUP
from tripylon.envoy import names
from tripylon.envoy.emit import FALLBACKS
from tripylon.envoy.verify import clean_message
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.backends import CLUSTERS_BY_CLIENT, ROUTES_BY_CLUSTER
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import ClusterKey, FrontendKey, HolderTls, HostKey, Listener
from tripylon.model.route_plans import LISTENER_AUTH, LISTENERS_BY_CLUSTER, TRACED_BY_CLUSTER
from tripylon.model.stream_plans import STREAMS, STREAMS_BY_CLUSTER
from tripylon.model.tls import GATEWAY_TLS, TLS_BY_SECRET
from tripylon.values import Built, Name, Ref
from tripylon.xds.snapshot import BY_URL, CDS, EDS, LDS, RDS, SDS, SRDS, VHDS

RefusalKey = tuple[str, str]
"""Type URL and name of a resource."""

REFUSALS: Table[RefusalKey, str] = Table("refusals")
"""What some proxy refuses now, with its words: an input of the graph."""
REFUSED: Table[RefusalKey, str] = Table("refused resources")

_PREFIX = re.compile(r"^Error adding/updating [^:]*?\S+: ")
_FOREIGN_ADDRESS = "Cannot assign requested address"
_CANNOT_BIND = ("cannot bind", "Address already in use", "Permission denied")


def derives() -> tuple[Derive[RefusalKey, str], ...]:
    """The step from refusals to findings."""
    return (Derive(REFUSED, (REFUSALS,), _refused),)


def _refused(read: Read, key: RefusalKey) -> Built[str, Finding] | None:
    words = read.get(REFUSALS, key)
    if words is None:
        return None
    return Built(words, tuple(_findings(read, key, _said(words))))


def _said(words: str) -> str:
    """Envoy's reason in one line, without the name of the resource, which the finding says in the user's words."""
    return _PREFIX.sub("", clean_message(words))


def _findings(read: Read, key: RefusalKey, words: str) -> Iterator[Finding]:
    url, name = key
    short = BY_URL[url].short if url in BY_URL else url
    if url == LDS:
        listener = names.parse_listener(name)
        if listener is not None:
            gateway, port, address, udp = listener
            yield from _on_gateway(read, gateway, port, f"is refused by Envoy at {address}", words, udp=udp)
    elif url == RDS:
        table = names.parse_route_table(name)
        if table is not None:
            yield from _on_gateway(read, table.gateway, table.port, "is refused by Envoy", words)
    elif url in (VHDS, SRDS):
        for host in _hosts_of(read, url, name):
            yield from _on_host(read, host, f"Envoy refuses host `{host.hostname or '*'}`", words)
    elif url in (CDS, EDS):
        for ref in _routes_of_cluster(read, name):
            yield _on_route(ref, f"Envoy refuses {short} resource `{name}`, which it needs", words)
        cluster = names.parse_cluster(name)
        if cluster is not None:
            yield from _on_asking(read, cluster, f"asks by {short} resource `{name}`, which Envoy refuses", words)
        for tracing in read.lookup(TRACED_BY_CLUSTER, cluster) if cluster is not None else ():
            yield _on_tracing(tracing.policy, f"Envoy refuses {short} resource `{name}`", words)
    elif url == SDS:
        yield from _on_sds(read, name, words)


def _hosts_of(read: Read, url: str, name: str) -> Iterator[HostKey]:
    """The hosts of a virtual host's or scope's name: a fallback scope has all wildcard hosts of its table."""
    host = names.parse_virtual_host(name) if url == VHDS else names.parse_scope(name)
    if host is None:
        return
    if url == SRDS and not host.hostname:
        yield from sorted(read.members(FALLBACKS, host.table))
    else:
        yield host


def _on_sds(read: Read, name: str, words: str) -> Iterator[Finding]:
    """A certificate, by whomever it is presented, or authorities."""
    secret, policy = names.parse_secret(name), names.parse_authorities(name)
    clients = names.parse_client_authorities(name)
    if clients is not None:
        yield from _on_clients(read, clients, words)
    if policy is not None:
        yield _on_policy(policy, words)
    for tls in read.lookup(TLS_BY_SECRET, secret) if secret is not None else ():
        yield from _on_secret(read, tls, secret, words)
    clusters = read.lookup(CLUSTERS_BY_CLIENT, secret) if secret is not None else ()
    for gateway in dict.fromkeys(_shown_by(shown.key) for shown in clusters):
        if gateway is not None:
            yield _on_client(gateway, f"cannot use Secret `{secret}`", words)


def _shown_by(key: ClusterKey) -> Name | None:
    """The gateway whose own certificate a destination sees."""
    return Name(key.namespace, key.name) if key.kind == "Collector" else key.gateway


def _routes_of_cluster(read: Read, name: str) -> tuple[Ref, ...]:
    """The routes that lead to a cluster: to a destination, or to the destinations of a UDP listener together."""
    sessions = names.parse_sessions(name)
    if sessions is not None:
        stream = read.get(STREAMS, sessions)
        return (stream.route,) if stream is not None else ()
    cluster = names.parse_cluster(name)
    if cluster is None:
        return ()
    streams = (stream.route for stream in read.lookup(STREAMS_BY_CLUSTER, cluster))
    return (*(route.ref for route in read.lookup(ROUTES_BY_CLUSTER, cluster)), *dict.fromkeys(streams))


def _on_gateway(read: Read, name: Name, port: int, what: str, words: str, *, udp: bool = False) -> Iterator[Finding]:
    plan = read.get(GATEWAY_PLANS, name)
    for listener in plan.listeners if plan is not None else ():
        if listener.port == port and listener.usable and (listener.protocol == "UDP") == udp:
            yield _on_listener(name, listener, what, words)


def _on_secret(read: Read, tls: HolderTls, secret: Name | None, words: str) -> Iterator[Finding]:
    presenting = {each.listener for each in tls.listeners if secret in each.certificates}
    yield from _on_listeners(read, tls.key.gateway, presenting, f"cannot use Secret `{secret}`", words)


def _on_clients(read: Read, key: FrontendKey, words: str) -> Iterator[Finding]:
    tls = read.get(GATEWAY_TLS, key.gateway)
    presenting = tls.listeners if tls is not None else ()
    checking = {each.listener for each in presenting if each.clients and each.clients.authorities == key}
    yield from _on_listeners(read, key.gateway, checking, "cannot check clients", words)


def _on_client(gateway: Name, what: str, words: str) -> Finding:
    return Finding(
        object=Ref(GATEWAY_GROUP, "Gateway", *gateway),
        condition="ResolvedRefs",
        reason="InvalidClientCertificateRef",
        message=f"Gateway `{gateway}` {what}: {words}",
        hint="Envoy goes on with what it had before",
        field="spec.tls.backend.clientCertificateRef",
    )


def _on_tracing(policy: Name, what: str, words: str) -> Finding:
    return Finding(
        object=Ref(X_GROUP, "XTelemetryPolicy", *policy),
        condition="Programmed",
        reason="Invalid",
        message=f"XTelemetryPolicy `{policy}` has a collector that cannot be reached: {what}: {words}",
        hint="Correct what Envoy complains about; what it had before stays in force",
        field="spec.tracing.provider.backendRef",
    )


def _on_policy(policy: Name, words: str) -> Finding:
    return Finding(
        object=Ref(GATEWAY_GROUP, "BackendTLSPolicy", *policy),
        condition="ResolvedRefs",
        reason="InvalidCACertificateRef",
        message=f"BackendTLSPolicy `{policy}` names authorities that Envoy refuses: {words}",
        hint="Envoy goes on with what it had before",
        field="spec.validation.caCertificateRefs",
    )


def _on_listener(gateway: Name, listener: Listener, what: str, words: str) -> Finding:
    holder = listener.holder
    if _FOREIGN_ADDRESS in words:
        return Finding(
            object=Ref(GATEWAY_GROUP, "Gateway", *gateway),
            condition="Programmed",
            reason="AddressNotUsable",
            message=f"Gateway `{gateway}` cannot listen: {words}",
            hint="Use an address of this machine in `spec.addresses`, or leave it out",
            field="spec.addresses",
        )
    taken = any(sign in words for sign in _CANNOT_BIND)
    field = f"spec.listeners[{listener.place}]" + (".port" if taken else "")
    return Finding(
        object=holder,
        condition="Programmed",
        reason="PortUnavailable" if taken else "Invalid",
        message=f"Listener `{listener.name}` of {holder.kind} `{holder.key}` {what}: {words}",
        hint="Free the port, or use another" if taken else "Envoy goes on with what it had before",
        field="spec.tls" if holder.kind == "Ingress" else field,
        listener=listener.name,
    )


def _on_route(ref: Ref, what: str, words: str) -> Finding:
    return Finding(
        object=ref,
        condition="Accepted",
        reason="UnsupportedValue",
        message=f"{ref} is not in force as written: {what}: {words}",
        hint="Envoy goes on with what it had before",
    )


def _on_host(read: Read, key: HostKey, what: str, words: str) -> Iterator[Finding]:
    """The routes of a host, and the listener whose filters stand in it."""
    plan = read.get(HOSTS, key)
    if plan is None:
        return
    for ref in dict.fromkeys(entry.route for entry in plan.entries):
        yield _on_route(ref, what, words)
    if plan.auth is not None:
        yield from _on_listeners(read, key.table.gateway, {plan.auth.listener}, "has filters by which " + what, words)


def _on_asking(read: Read, cluster: ClusterKey, what: str, words: str) -> Iterator[Finding]:
    """The listeners that ask a service before a route is chosen."""
    for gateway in sorted(read.members(LISTENERS_BY_CLUSTER, cluster)):
        asking = read.get(LISTENER_AUTH, gateway) or ()
        ids = {each.listener for each in asking if any(service.cluster == cluster for service in each.services)}
        yield from _on_listeners(read, gateway, ids, what, words)


def _on_listeners(read: Read, gateway: Name, ids: set[str], what: str, words: str) -> Iterator[Finding]:
    plan = read.get(GATEWAY_PLANS, gateway)
    for listener in plan.listeners if plan is not None else ():
        if listener.id in ids:
            yield _on_listener(gateway, listener, what, words)
