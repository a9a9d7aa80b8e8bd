"""Gateways → Listener: one for each address and port, with a filter chain for each HTTPS listener.

An address that cannot be bound takes no other with it, and gateways may exchange their addresses. The invariant:
nothing in here changes unless a Gateway's listeners do, since Envoy drains a listener that changes. Hence routes come
by RDS and VHDS, certificates by SDS, and names and stat prefixes are stable.
"""

from __future__ import annotations

from typing import NamedTuple

from tripylon.envoy import cors, names
from tripylon.envoy.access_log import access_log
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import GatewayPlan, RouteTable, TlsPlan
from tripylon.model.plan import Listener as ListenerPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    Cors,
    DownstreamTlsContext,
    FilterChain,
    HttpConnectionManager,
    Listener,
    Router,
    SocketAddress,
    TlsInspector,
    TlsParameters,
    TransportSocket,
)
from tripylon.values import Name

_BUFFER_BYTES = 32 * 1024
_REQUEST_HEADERS_TIMEOUT_MS = 10_000
_TLS_INSPECTION_TIMEOUT_MS = 10_000
_HTTP2_STREAMS = 100
_HTTP2_STREAM_WINDOW = 64 * 1024
_HTTP2_CONNECTION_WINDOW = 1024 * 1024


class ListenerKey(NamedTuple):
    """One port of one gateway, at one of its addresses."""

    gateway: Name
    port: int
    address: str


def listener(key: ListenerKey, gateway: GatewayPlan, tls: tuple[TlsPlan, ...], options: EmitOptions) -> Listener | None:
    """The Listener of one address and port; None while none of its Gateway listeners can be served."""
    served = [each for each in gateway.listeners if each.port == key.port and each.usable]
    if not served or key.address not in gateway.addresses or not gateway.accepted:
        return None
    built = Listener(name=names.listener(*key))
    built.per_connection_buffer_limit_bytes.value = _BUFFER_BYTES
    built.address.socket_address.CopyFrom(SocketAddress(address=key.address, port_value=key.port))
    if served[0].protocol == "HTTP":
        _add_manager(built.filter_chains.add(), RouteTable(key.gateway, key.port, ""), options)
        return built
    presented = {each.listener: each for each in tls}
    for each in sorted(served, key=lambda each: each.id):
        if each.id in presented:
            _add_https(built.filter_chains.add(), key, each, presented[each.id], options)
    if not built.filter_chains:
        return None
    inspector = built.listener_filters.add()
    inspector.name = "envoy.filters.listener.tls_inspector"
    inspector.typed_config.CopyFrom(pack(TlsInspector()))
    built.listener_filters_timeout.CopyFrom(duration(_TLS_INSPECTION_TIMEOUT_MS))
    return built


def serves(gateway: GatewayPlan, tls: tuple[TlsPlan, ...], table: RouteTable) -> bool:
    """Whether some Listener refers to a routing table; a proxy never asks for one that no Listener names."""
    if not gateway.addresses or not gateway.accepted:
        return False
    presented = {each.listener for each in tls}
    return any(
        each.usable and each.table(gateway.name) == table and (each.protocol != "HTTPS" or each.id in presented)
        for each in gateway.listeners
    )


def _add_https(chain: FilterChain, key: ListenerKey, plan: ListenerPlan, tls: TlsPlan, options: EmitOptions) -> None:
    chain.name = plan.id
    if plan.hostname:
        chain.filter_chain_match.server_names.append(plan.hostname)
    context = DownstreamTlsContext()
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2
    common.alpn_protocols.extend(("h2", "http/1.1"))
    for certificate in tls.certificates:
        config = common.tls_certificate_sds_secret_configs.add()
        config.name = names.secret(certificate)
        config.sds_config.CopyFrom(ads())
    chain.transport_socket.CopyFrom(TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)))
    chain.transport_socket_connect_timeout.CopyFrom(duration(_TLS_INSPECTION_TIMEOUT_MS))
    _add_manager(chain, plan.table(key.gateway), options)


def _add_manager(chain: FilterChain, table: RouteTable, options: EmitOptions) -> None:
    """The connection manager: what is the same for every request of a routing table."""
    manager = HttpConnectionManager(
        stat_prefix=names.route_table(table).replace(".", "_"),
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
    cross_origin = manager.http_filters.add()
    cross_origin.name = cors.FILTER
    cross_origin.disabled = True
    cross_origin.typed_config.CopyFrom(pack(Cors()))
    router = manager.http_filters.add()
    router.name = "envoy.filters.http.router"
    router.typed_config.CopyFrom(pack(Router()))
    if options.access_log:
        manager.access_log.append(access_log(options.access_log))
    network = chain.filters.add()
    network.name = "envoy.filters.network.http_connection_manager"
    network.typed_config.CopyFrom(pack(manager))
