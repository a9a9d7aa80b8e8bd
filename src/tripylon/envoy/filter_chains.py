"""The filter chains of ports with TLS, serialised for each object that states listeners.

Envoy's Listener is one message however many Gateway listeners share its port. So that one of thousands that changes
costs its own chains and not all of them, they are made by object, and `emit.py` only joins the bytes. The invariant:
they are joined in the order of these objects' names, whatever came first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tripylon.envoy import listeners, streams
from tripylon.envoy.layouts import LAYOUTS
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import to_bytes
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateways import LISTENERS
from tripylon.model.plan import HolderKey, HolderListeners, Listener, TlsPlan
from tripylon.model.route_plans import TRACING
from tripylon.model.served import SECURE
from tripylon.model.stream_plans import STREAMS, StreamKey, StreamPlan
from tripylon.model.tls import LISTENERS_TLS
from tripylon.pb.messages import FilterChain
from tripylon.pb.messages import Listener as EnvoyListener
from tripylon.values import Built, Name, Ref


class Port(NamedTuple):
    """A port of a gateway that takes connections."""

    gateway: Name
    port: int


class Chains(NamedTuple):
    """What the listeners of one object add to a port."""

    holder: Ref
    port: int
    ready: bool
    """Whether any of them can be served; chains of others close their names, so that they pass through no other."""
    body: bytes
    """A field `filter_chains` of Envoy's Listener for each chain."""


def _passing(key: HolderKey, holder: HolderListeners) -> Iterator[Port]:
    return (Port(key.gateway, each.port) for each in holder.listeners if each.usable and each.protocol == "TLS")


def _ports(key: HolderKey, chains: tuple[Chains, ...]) -> Iterator[Port]:
    return (Port(key.gateway, each.port) for each in chains)


CHAINS: Table[HolderKey, tuple[Chains, ...]] = Table("filter chains")
PASSING: Table[Port, bool] = Table("ports with listeners of protocol tls")
TLS_LISTENERS: Index[Port, HolderKey, HolderListeners] = Index("listeners of protocol tls by port", LISTENERS, _passing)
CHAINS_BY_PORT: Index[Port, HolderKey, tuple[Chains, ...]] = Index("filter chains by port", CHAINS, _ports)
STREAMS_BY_PLACE: Index[tuple[Name, str], StreamKey, StreamPlan] = Index(
    "streams by listener", STREAMS, lambda key, _: ((key.gateway, key.listener),)
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (TLS_LISTENERS, CHAINS_BY_PORT, STREAMS_BY_PLACE)


def derives(options: EmitOptions) -> tuple[Derive[Any, Any], ...]:
    """The step from listeners to their chains."""

    def chains(read: Read, key: HolderKey) -> Built[tuple[Chains, ...], Finding] | None:
        holder, tls = read.get(LISTENERS, key), read.get(LISTENERS_TLS, key)
        if holder is None:
            return None
        presented = {each.listener: each for each in (tls.listeners if tls is not None else ())}
        ports: dict[int, list[Listener]] = {}
        for each in sorted(holder.listeners, key=lambda each: each.id):
            if each.usable and each.protocol in SECURE:
                ports.setdefault(each.port, []).append(each)
        return (
            Built(tuple(_chains(read, key, there, presented, options) for there in ports.values())) if ports else None
        )

    return (
        Derive(PASSING, (TLS_LISTENERS,), lambda _read, _port: Built(value=True)),
        Derive(CHAINS, (LISTENERS,), chains),
    )


def _chains(
    read: Read, key: HolderKey, there: list[Listener], presented: dict[str, TlsPlan], options: EmitOptions
) -> Chains:
    port = there[0].port
    made = [chain for each in there for chain in _of_listener(read, key.gateway, each, presented.get(each.id), options)]
    ready = any(not each.terminates or each.id in presented for each in there)
    return Chains(key.holder, port, ready, to_bytes(EnvoyListener(filter_chains=made)) if made else b"")


def _of_listener(
    read: Read, gateway: Name, listener: Listener, tls: TlsPlan | None, options: EmitOptions
) -> Iterable[FilterChain]:
    if listener.protocol == "HTTPS" and tls is not None:
        scoped = read.get(LAYOUTS, listener.table(gateway)) == "scoped"
        return (listeners.https_chain(gateway, listener, tls, read.get(TRACING, gateway), options, scoped=scoped),)
    if read.get(PASSING, Port(gateway, listener.port)):
        streamed = read.lookup(STREAMS_BY_PLACE, (gateway, listener.id))
        return streams.tls_chains(gateway, listener, tls, streamed, options)
    return ()


def in_order(holders: Iterable[tuple[Chains, ...]], port: int) -> list[bytes]:
    """The chains of a port, to be joined; none while no listener of it can be served."""
    found = sorted(each for chains in holders for each in chains if each.port == port)
    return [each.body for each in found] if any(each.ready for each in found) else []
