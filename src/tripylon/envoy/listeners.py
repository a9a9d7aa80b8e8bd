"""Gateways → Listener: one for each address and port, with a filter chain for each HTTPS listener; see `streams.py`
for those of TLS, TCP and UDP listeners.

An address that cannot be bound takes no other with it, and gateways may exchange their addresses. The invariant:
nothing in here changes unless a Gateway's listeners do, since Envoy drains a listener that changes. Hence routes come
by RDS and VHDS, or by SRDS if there are many hosts, certificates by SDS, and names and stat prefixes are stable.
"""

from __future__ import annotations

from typing import NamedTuple

from tripylon.envoy import cors, external_auth, names, scopes, sessions, streams, taken_by, tracing
from tripylon.envoy.access_log import access_log
from tripylon.envoy.downstream_tls import HANDSHAKE_TIMEOUT_MS, terminate
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import GatewayPlan, RouteTable, TlsPlan, TracingPlan
from tripylon.model.plan import Listener as ListenerPlan
from tripylon.model.stream_plans import StreamKey, StreamPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    Cors,
    FilterChain,
    HttpConnectionManager,
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
    gateway: GatewayPlan,
    tls: tuple[TlsPlan, ...],
    streamed: tuple[StreamPlan, ...],
    traced: TracingPlan | None,
    options: EmitOptions,
    *,
    scoped: bool,
) -> Listener | None:
    """The Listener of one address and port; None while none of its Gateway listeners can be served.

    `scoped` says whether the routes of its HTTP or HTTPS listeners come as scopes.
    """
    served = sorted(
        (
            each
            for each in gateway.listeners
            if each.usable and each.port == key.port and (each.protocol == "UDP") == key.udp
        ),
        key=lambda each: each.id,
    )
    if not served or key.address not in gateway.addresses or not gateway.accepted:
        return None
    built = Listener(name=names.listener(*key))
    built.per_connection_buffer_limit_bytes.value = _BUFFER_BYTES
    built.address.socket_address.CopyFrom(SocketAddress(address=key.address, port_value=key.port))
    match served[0].protocol:
        case "HTTP":
            table = RouteTable(key.gateway, key.port, secure=False)
            _add_manager(built.filter_chains.add(), table, traced, options, scoped=scoped)
        case "TCP":
            built.filter_chains.append(streams.tcp_chain(key.gateway, served[0], streamed, options))
        case "UDP":
            streams.add_sessions(built, StreamKey(key.gateway, key.port, "UDP", served[0].id, ""), options)
        case _:
            _add_secured(built, served, key, tls, streamed, traced, options, scoped=scoped)
            return built if built.filter_chains else None
    return built


def _add_secured(
    built: Listener,
    served: list[ListenerPlan],
    key: ListenerKey,
    tls: tuple[TlsPlan, ...],
    streamed: tuple[StreamPlan, ...],
    traced: TracingPlan | None,
    options: EmitOptions,
    *,
    scoped: bool,
) -> None:
    """A filter chain for each name that an HTTPS or TLS listener serves; the name that a client asks for chooses.

    One without a certificate has none; beside TLS listeners its names are closed, so that they pass through no other.
    """
    presented = {each.listener: each for each in tls}
    ready = [each for each in served if not each.terminates or each.id in presented]
    passing = any(each.protocol == "TLS" for each in served)
    for each in served if ready else ():
        if each.protocol == "HTTPS" and each in ready:
            _add_https(built.filter_chains.add(), key, each, presented[each.id], traced, options, scoped=scoped)
        elif passing:
            chains = streams.tls_chains(key.gateway, each, presented.get(each.id), streamed, options)
            built.filter_chains.extend(chains)
    inspector = built.listener_filters.add()
    inspector.name = "envoy.filters.listener.tls_inspector"
    inspector.typed_config.CopyFrom(pack(TlsInspector()))
    built.listener_filters_timeout.CopyFrom(duration(HANDSHAKE_TIMEOUT_MS))


def serves(gateway: GatewayPlan, tls: tuple[TlsPlan, ...], table: RouteTable) -> bool:
    """Whether some Listener refers to a routing table; a proxy never asks for one that no Listener names."""
    if not gateway.addresses or not gateway.accepted:
        return False
    presented = {each.listener for each in tls}
    return any(
        each.usable
        and each.http
        and each.table(gateway.name) == table
        and (each.protocol != "HTTPS" or each.id in presented)
        for each in gateway.listeners
    )


def _add_https(
    chain: FilterChain,
    key: ListenerKey,
    plan: ListenerPlan,
    tls: TlsPlan,
    traced: TracingPlan | None,
    options: EmitOptions,
    *,
    scoped: bool,
) -> None:
    chain.name = plan.id
    if plan.hostname:
        chain.filter_chain_match.server_names.append(plan.hostname)
    terminate(chain, tls, alpn=("h2", "http/1.1"))
    taken_by.note(chain, plan.id)
    _add_manager(chain, plan.table(key.gateway), traced, options, listener=plan.id, scoped=scoped)


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
    manager.http_filters.extend(external_auth.slots(external_auth.LISTENER_SLOTS))
    cross_origin = manager.http_filters.add()
    cross_origin.name = cors.FILTER
    cross_origin.disabled = True
    cross_origin.typed_config.CopyFrom(pack(Cors()))
    manager.http_filters.extend(external_auth.slots(external_auth.ROUTE_SLOTS))
    manager.http_filters.append(sessions.slot())
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
