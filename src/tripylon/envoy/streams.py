"""TLSRoute, TCPRoute and UDPRoute → filter chains of a TCP listener, and UDP listeners with the cluster of their
sessions.

Nobody looks into what passes: connections go to a cluster as they are, or after their TLS has ended here. The
invariant: each place (`model/stream_plans.py`) is a filter chain of its own, so that a route which changes ends the
connections of its own places only; a place that nobody has is closed, never given to a wider one. Datagrams go by EDS:
a UDP listener itself does not change with its routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tripylon.envoy import names
from tripylon.envoy.access_log import stream_log
from tripylon.envoy.clusters import add_endpoint, dns_lookups, load_limits
from tripylon.envoy.downstream_tls import terminate
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.cluster_plans import Endpoint, EndpointsPlan
from tripylon.model.plan import Listener, TlsPlan
from tripylon.model.stream_plans import Share, StreamKey, StreamPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    Cluster,
    ClusterLoadAssignment,
    FilterChain,
    ListenerFilter,
    SocketAddress,
    TcpProxy,
    UdpProxyConfig,
    UdpRoute,
)
from tripylon.pb.messages import Listener as EnvoyListener
from tripylon.values import Name, is_address

_CONNECT_TIMEOUT_MS = 5_000
_SESSION_IDLE_TIMEOUT_MS = 60_000
"""How long a UDP session is kept without a datagram in either direction."""
_DATAGRAM_BYTES = 9_000
"""The longest datagram that is passed on, as jumbo frames carry it; longer ones are dropped."""
_NOWHERE = Endpoint("127.0.0.1", 0)
"""No socket can have port 0, so what is sent there is lost: the share of a backend that cannot be reached."""


# --- TCP and TLS -----------------------------------------------------------------------------------------------------


def tcp_chain(gateway: Name, listener: Listener, streams: Iterable[StreamPlan], options: EmitOptions) -> FilterChain:
    """The one chain of a TCP listener."""
    stream = next((each for each in streams if each.key.listener == listener.id), None)
    return _chain(StreamKey(gateway, listener.port, "TCP", listener.id, ""), stream, options)


def tls_chains(
    gateway: Name, listener: Listener, tls: TlsPlan | None, streams: Iterable[StreamPlan], options: EmitOptions
) -> Iterator[FilterChain]:
    """A chain for each server name that a TLS listener serves, and one that closes the rest of its own names.

    Only the latter while it has no certificate to end TLS with: what is meant for it goes to no wider listener.
    """
    bare = listener.terminates and tls is None
    found = {} if bare else {each.key.hostname: each for each in streams if each.key.listener == listener.id}
    for hostname in sorted({listener.hostname, *found}):
        stream = found.get(hostname)
        chain = _chain(StreamKey(gateway, listener.port, "TLS", listener.id, hostname), stream, options)
        if hostname:
            chain.filter_chain_match.server_names.append(hostname)
        if tls is not None and stream is not None:
            terminate(chain, tls)
        yield chain


def _chain(key: StreamKey, stream: StreamPlan | None, options: EmitOptions) -> FilterChain:
    proxy = TcpProxy(stat_prefix=names.stream(key).replace(".", "_"))
    shares = stream.shares if stream is not None else ()
    if len(shares) > 1:
        for share in shares:
            proxy.weighted_clusters.clusters.add(name=_cluster(share), weight=share.weight)
    else:
        proxy.cluster = _cluster(shares[0]) if shares else names.NO_CLUSTER
    if options.access_log:
        proxy.access_log.append(stream_log(options.access_log))
    chain = FilterChain(name=names.stream(key))
    network = chain.filters.add()
    network.name = "envoy.filters.network.tcp_proxy"
    network.typed_config.CopyFrom(pack(proxy))
    return chain


def _cluster(share: Share) -> str:
    return names.cluster(share.cluster) if share.cluster is not None else names.NO_CLUSTER


# --- UDP -------------------------------------------------------------------------------------------------------------


def add_sessions(built: EnvoyListener, key: StreamKey, options: EmitOptions) -> None:
    """Makes a listener one for UDP, whose sessions go to the cluster of the place, be it there or not."""
    built.address.socket_address.protocol = SocketAddress.UDP
    built.udp_listener_config.downstream_socket_config.max_rx_datagram_size.value = _DATAGRAM_BYTES
    proxy = UdpProxyConfig(
        stat_prefix=names.stream(key).replace(".", "_"), idle_timeout=duration(_SESSION_IDLE_TIMEOUT_MS)
    )
    proxy.upstream_socket_config.max_rx_datagram_size.value = _DATAGRAM_BYTES
    action = proxy.matcher.on_no_match.action
    action.name = "route"
    action.typed_config.CopyFrom(pack(UdpRoute(cluster=names.stream(key))))
    if options.access_log:
        proxy.access_log.append(stream_log(options.access_log))
    built.listener_filters.append(ListenerFilter(name="envoy.filters.udp_listener.udp_proxy", typed_config=pack(proxy)))


Addressed = tuple[tuple[Share, EndpointsPlan | None], ...]
"""The shares of a place, each with its addresses."""


def sessions_cluster(key: StreamKey, shares: Addressed) -> Cluster:
    """The cluster of a place's sessions: each share is a locality with the share's weight."""
    built = Cluster(
        name=names.stream(key),
        connect_timeout=duration(_CONNECT_TIMEOUT_MS),
        lb_policy=Cluster.ROUND_ROBIN,
        circuit_breakers=load_limits(),
    )
    built.common_lb_config.locality_weighted_lb_config.SetInParent()
    if _need_dns(shares):
        built.cluster_type.CopyFrom(dns_lookups())
        built.wait_for_warm_on_init.value = False
        built.load_assignment.CopyFrom(sessions_assignment(key, shares))
    else:
        built.type = Cluster.EDS
        built.eds_cluster_config.eds_config.CopyFrom(ads())
    return built


def sessions_endpoints(key: StreamKey, shares: Addressed) -> ClusterLoadAssignment | None:
    """What EDS tells of a place; None where the cluster carries its hosts itself, since some are names."""
    return None if _need_dns(shares) else sessions_assignment(key, shares)


def sessions_assignment(key: StreamKey, shares: Addressed) -> ClusterLoadAssignment:
    """Where a place's sessions go, by weight; what cannot be reached keeps its share."""
    built = ClusterLoadAssignment(cluster_name=names.stream(key))
    for place, (share, addresses) in enumerate(shares):
        locality = built.endpoints.add()
        locality.locality.region = str(place)
        locality.load_balancing_weight.value = share.weight
        for endpoint in (addresses.endpoints if addresses is not None else ()) or (_NOWHERE,):
            add_endpoint(locality.lb_endpoints.add(), endpoint)
    return built


def _need_dns(shares: Addressed) -> bool:
    return any(
        not is_address(endpoint.address)
        for _, addresses in shares
        if addresses is not None
        for endpoint in addresses.endpoints
    )
