"""Gateways → Listener: one for each address and port, with a filter chain for each HTTPS listener; see `streams.py`
for those of TLS, TCP and UDP listeners, and `filter_chains.py` for how chains and Listener come together.

An address that cannot be bound takes no other with it, and gateways may exchange their addresses. The invariant:
nothing in here changes unless a Gateway's listeners do, since Envoy drains a listener that changes. Hence routes come
by RDS and VHDS, or by SRDS if there are many hosts, certificates by SDS, and names and stat prefixes are stable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from tripylon.envoy import cors, external_auth, names, scopes, sessions, streams, taken_by, tracing
from tripylon.envoy.access_log import access_log
from tripylon.envoy.downstream_tls import HANDSHAKE_TIMEOUT_MS, terminate
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import Listener as ListenerPlan
from tripylon.model.plan import RouteTable, TlsPlan, TracingPlan
from tripylon.model.stream_plans import StreamKey, StreamPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    Cors,
    FilterChain,
    HttpConnectionManager,
    HttpFilter,
    Listener,
    Router,
    SocketAddress,
    TlsInspector,
)
from tripylon.values import Name

_BUFFER_BYTES = 32 * 1024
_REQUEST_HEADERS_TIMEOUT_MS = 10_000
_HTTP2_STREAMS = 100
_HTTP2_STREAM_WINDOW = 64 * 1024
_HTTP2_CONNECTION_WINDOW = 1024 * 1024


class ListenerKey(NamedTuple):
    """One port of one gateway, at one of its addresses."""

    gateway: Name
    port: int
    address: str
    udp: bool = False


def listener(
    key: ListenerKey,
    served: Sequence[ListenerPlan],
    streamed: tuple[StreamPlan, ...],
    traced: TracingPlan | None,
    options: EmitOptions,
    *,
    scoped: bool,
) -> Listener | None:
    """The Listener of a port without TLS, by its listeners in order; None if there are none, or if it has TLS.

    `scoped` says whether the routes of its HTTP listeners come as scopes.
    """
    built = _bound(key)
    match served[0].protocol if served else "":
        case "HTTP":
            table = RouteTable(key.gateway, key.port, secure=False)
            _add_manager(built.filter_chains.add(), table, traced, options, scoped=scoped)
        case "TCP":
            built.filter_chains.append(streams.tcp_chain(key.gateway, served[0], streamed, options))
        case "UDP":
            streams.add_sessions(built, StreamKey(key.gateway, key.port, "UDP", served[0].id, ""), options)
        case _:
            return None
    return built


def secured(key: ListenerKey) -> Listener:
    """The Listener of a port with TLS, without its filter chains: the name that a client asks for chooses one of them.

    There is one for each name that an HTTPS or TLS listener serves. One without a certificate has none; beside TLS
    listeners its names are closed, so that they pass through no other.
    """
    built = _bound(key)
    inspector = built.listener_filters.add()
    inspector.name = "envoy.filters.listener.tls_inspector"
    inspector.typed_config.CopyFrom(pack(TlsInspector()))
    built.listener_filters_timeout.CopyFrom(duration(HANDSHAKE_TIMEOUT_MS))
    return built


def _bound(key: ListenerKey) -> Listener:
    built = Listener(name=names.listener(*key))
    built.per_connection_buffer_limit_bytes.value = _BUFFER_BYTES
    built.address.socket_address.CopyFrom(SocketAddress(address=key.address, port_value=key.port))
    return built


def https_chain(
    gateway: Name, plan: ListenerPlan, tls: TlsPlan, traced: TracingPlan | None, options: EmitOptions, *, scoped: bool
) -> FilterChain:
    """The filter chain of an HTTPS listener that has its certificates."""
    chain = FilterChain(name=plan.id)
    if plan.hostname:
        chain.filter_chain_match.server_names.append(plan.hostname)
    terminate(chain, tls, alpn=("h2", "http/1.1"))
    taken_by.note(chain, plan.id)
    _add_manager(chain, plan.table(gateway), traced, options, listener=plan.id, scoped=scoped)
    return chain


@cache
def filters() -> tuple[HttpFilter, ...]:
    """What routes may set up, in this order, each off by default; not to be changed."""
    return (
        *external_auth.slots(external_auth.LISTENER_SLOTS),
        HttpFilter(name=cors.FILTER, disabled=True, typed_config=pack(Cors())),
        *external_auth.slots(external_auth.ROUTE_SLOTS),
        sessions.slot(),
    )


def _add_manager(
    chain: FilterChain,
    table: RouteTable,
    traced: TracingPlan | None,
    options: EmitOptions,
    *,
    listener: str = "",
    scoped: bool,
) -> None:
    """The connection manager: what is the same for every request of a chain; `listener` is whose, if it has several."""
    manager = HttpConnectionManager(
        stat_prefix="/".join(filter(None, (names.route_table(table), listener))).replace(".", "_"),
        codec_type=HttpConnectionManager.AUTO,
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        request_headers_timeout=duration(_REQUEST_HEADERS_TIMEOUT_MS),
    )
    manager.use_remote_address.value = True
    manager.normalize_path.value = True
    manager.rds.route_config_name = names.route_table(table)
    manager.rds.config_source.CopyFrom(ads())
    manager.http2_protocol_options.max_concurrent_streams.value = _HTTP2_STREAMS
    manager.http2_protocol_options.initial_stream_window_size.value = _HTTP2_STREAM_WINDOW
    manager.http2_protocol_options.initial_connection_window_size.value = _HTTP2_CONNECTION_WINDOW
    manager.upgrade_configs.add().upgrade_type = "websocket"
    manager.http_filters.extend(filters())
    router = manager.http_filters.add()
    router.name = "envoy.filters.http.router"
    router.typed_config.CopyFrom(pack(Router()))
    if scoped:
        scopes.use(manager, table)
    if traced is not None:
        manager.tracing.CopyFrom(tracing.tracing(traced))
    if options.access_log:
        manager.access_log.append(access_log(options.access_log))
    network = chain.filters.add()
    network.name = "envoy.filters.network.http_connection_manager"
    network.typed_config.CopyFrom(pack(manager))
