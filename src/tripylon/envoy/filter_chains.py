"""The filter chains of ports with TLS, serialised for each object that states listeners.

Envoy's Listener is one message however many Gateway listeners share its port. So that one of thousands that changes
costs its own chains and not all of them, they are made by object, and `emit.py` only joins the bytes. The invariant:
they are joined in the order of the listeners' ids, wherever these come from.
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
from tripylon.pb.messages import Listener as EnvoyListener
from tripylon.values import Built, Name


class Port(NamedTuple):
    """A port of a gateway that takes connections."""

    gateway: Name
    port: int


class Chains(NamedTuple):
    """What one listener adds to its port."""

    listener: str
    """Its id."""
    port: int
    ready: bool
    """Whether it can be served; else its chains close its names, so that they pass through no other."""
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
        secure = (each for each in holder.listeners if each.usable and each.protocol in SECURE)
        found = tuple(_chains(read, key.gateway, each, presented.get(each.id), options) for each in secure)
        return Built(found) if found else None

    return (
        Derive(PASSING, (TLS_LISTENERS,), lambda _read, _port: Built(value=True)),
        Derive(CHAINS, (LISTENERS,), chains),
    )


def _chains(read: Read, gateway: Name, listener: Listener, tls: TlsPlan | None, options: EmitOptions) -> Chains:
    ready = not listener.terminates or tls is not None
    if listener.protocol == "HTTPS" and tls is not None:
        scoped = read.get(LAYOUTS, listener.table(gateway)) == "scoped"
        made = [listeners.https_chain(gateway, listener, tls, read.get(TRACING, gateway), options, scoped=scoped)]
    elif read.get(PASSING, Port(gateway, listener.port)):
        streamed = read.lookup(STREAMS_BY_PLACE, (gateway, listener.id))
        made = list(streams.tls_chains(gateway, listener, tls, streamed, options))
    else:
        made = []
    body = to_bytes(EnvoyListener(filter_chains=made)) if made else b""
    return Chains(listener.id, listener.port, ready, body)


def joined(holders: Iterable[tuple[Chains, ...]], port: int) -> bytes:
    """The chains of a port; none while no listener of it can be served."""
    found = [each for chains in holders for each in chains if each.port == port]
    if not any(each.ready for each in found):
        return b""
    return b"".join([each.body for each in sorted(found)])
