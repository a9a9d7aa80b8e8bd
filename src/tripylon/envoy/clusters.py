"""Destinations → Cluster, and their addresses → ClusterLoadAssignment.

The invariant: a cluster that is reached by addresses gets them by EDS, so that a moved pod rebuilds neither the cluster
nor its connection pools; one that Envoy looks up by DNS carries its hosts itself.
"""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import BackendTls, ClusterPlan, Endpoint, EndpointsPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    CircuitBreakers,
    Cluster,
    ClusterHttpProtocolOptions,
    ClusterLoadAssignment,
    DnsCluster,
    DnsClusterLookupFamily,
    LbEndpoint,
    RoutingPriority,
    SubjectAltNameMatcher,
    TransportSocket,
    UpstreamTlsContext,
)
from tripylon.values import is_address

_CONNECT_TIMEOUT_MS = 5_000
_LEAST_REFRESH_MS = 2
"""Envoy takes no look-ups that are more frequent."""
_NO_CERTIFICATE = "00" * 32
"""The hash of no certificate: where nothing can be verified, nothing is let through, and requests answered with 503."""
_UNBOUNDED = 1_000_000
"""Connections, requests and retries at a time: Envoy's default of 1,024 (3 retries) fails requests under plain load."""
_LOOKUP_FAMILIES = {
    "Auto": DnsClusterLookupFamily.AUTO,
    "V4Only": DnsClusterLookupFamily.V4_ONLY,
    "V6Only": DnsClusterLookupFamily.V6_ONLY,
    "V4Preferred": DnsClusterLookupFamily.V4_PREFERRED,
    "All": DnsClusterLookupFamily.ALL,
}


def cluster(plan: ClusterPlan, endpoints: EndpointsPlan | None, options: EmitOptions) -> Cluster:
    """The Cluster of one destination; `endpoints` are needed only where they are not told apart."""
    name = names.cluster(plan.key)
    built = Cluster(
        name=name,
        connect_timeout=duration(_CONNECT_TIMEOUT_MS),
        lb_policy=Cluster.LEAST_REQUEST,
        circuit_breakers=_breakers(),
    )
    match plan.discovery:
        case "endpoints":
            built.type = Cluster.EDS
            built.eds_cluster_config.eds_config.CopyFrom(ads())
        case "listed":
            built.type = Cluster.STATIC
        case "dns":
            built.cluster_type.CopyFrom(_dns(plan))
            built.wait_for_warm_on_init.value = False  # a silent name server must not keep everything from starting
    if plan.discovery != "endpoints" and endpoints is not None:
        built.load_assignment.CopyFrom(load_assignment(endpoints))
    if plan.key.protocol == "http2":
        protocol = ClusterHttpProtocolOptions()
        protocol.explicit_http_config.http2_protocol_options.SetInParent()
        key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        built.typed_extension_protocol_options[key].CopyFrom(pack(protocol))
    if plan.tls is not None:
        context = _tls(plan.tls, options, http2=plan.key.protocol == "http2")
        built.transport_socket.CopyFrom(TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)))
    return built


def _dns(plan: ClusterPlan) -> Cluster.CustomClusterType:
    """That Envoy looks the hosts up itself, and spreads requests over all addresses found."""
    found = DnsCluster(
        dns_lookup_family=_LOOKUP_FAMILIES.get(plan.lookup_family, DnsClusterLookupFamily.AUTO),
        dns_refresh_rate=duration(max(plan.refresh_ms, _LEAST_REFRESH_MS)),
        respect_dns_ttl=plan.respect_ttl,
    )
    return Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(found))


def is_untrusted(plan: ClusterPlan, options: EmitOptions) -> bool:
    """Whether the hosts are to be verified by the system's authorities, and there are none."""
    return plan.tls is not None and not (plan.tls.insecure or plan.tls.ca or options.system_ca)


def load_assignment(plan: EndpointsPlan) -> ClusterLoadAssignment:
    """The addresses of one destination, grouped by zone; none at all is an assignment too."""
    built = ClusterLoadAssignment(cluster_name=names.cluster(plan.key))
    zones: dict[str, list[Endpoint]] = {}
    for endpoint in plan.endpoints:
        zones.setdefault(endpoint.zone, []).append(endpoint)
    for zone, endpoints in sorted(zones.items()):
        locality = built.endpoints.add()
        if zone:
            locality.locality.zone = zone
        for endpoint in endpoints:
            _add(locality.lb_endpoints.add(), endpoint)
    return built


def _add(place: LbEndpoint, endpoint: Endpoint) -> None:
    socket = place.endpoint.address.socket_address
    socket.address = endpoint.address
    socket.port_value = endpoint.port


def _breakers() -> CircuitBreakers:
    breakers = CircuitBreakers()
    thresholds = breakers.thresholds.add()
    thresholds.priority = RoutingPriority.DEFAULT
    thresholds.max_connections.value = _UNBOUNDED
    thresholds.max_pending_requests.value = _UNBOUNDED
    thresholds.max_requests.value = _UNBOUNDED
    thresholds.max_retries.value = _UNBOUNDED
    return breakers


def _tls(tls: BackendTls, options: EmitOptions, *, http2: bool) -> UpstreamTlsContext:
    context = UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    common.alpn_protocols.append("h2" if http2 else "http/1.1")
    if tls.client_chain:
        certificate = common.tls_certificates.add()
        certificate.certificate_chain.inline_bytes = tls.client_chain
        certificate.private_key.inline_bytes = tls.client_key
    if tls.insecure:
        return context
    validation = common.validation_context
    if tls.ca:
        validation.trusted_ca.inline_bytes = tls.ca
    elif options.system_ca:
        validation.trusted_ca.filename = options.system_ca
    else:
        validation.verify_certificate_hash.append(_NO_CERTIFICATE)
        return context
    for name in tls.names or ((tls.sni,) if tls.sni else ()):
        matcher = validation.match_typed_subject_alt_names.add()
        if "://" in name:
            matcher.san_type = SubjectAltNameMatcher.URI
        else:
            matcher.san_type = SubjectAltNameMatcher.IP_ADDRESS if is_address(name) else SubjectAltNameMatcher.DNS
        matcher.matcher.exact = name
    return context
