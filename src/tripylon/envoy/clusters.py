"""Destinations → Cluster, and their addresses → ClusterLoadAssignment.

The invariant: a cluster that is reached by addresses gets them by EDS, so that a moved pod rebuilds neither the cluster
nor its connection pools; one that Envoy looks up by DNS carries its hosts itself.
"""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.source import ads, duration
from tripylon.model.cluster_plans import BackendTls, ClusterPlan, Endpoint, EndpointsPlan, RetryBudget
from tripylon.model.plan import Protocol
from tripylon.pb import pack
from tripylon.pb.messages import (
    CertificateValidationContext,
    CircuitBreakers,
    Cluster,
    ClusterHttpProtocolOptions,
    ClusterLoadAssignment,
    DnsCluster,
    DnsClusterLookupFamily,
    LbEndpoint,
    RoutingPriority,
    SdsSecretConfig,
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
        circuit_breakers=load_limits(plan.budget),
    )
    match plan.discovery:
        case "endpoints":
            built.type = Cluster.EDS
            built.eds_cluster_config.eds_config.CopyFrom(ads())
        case "listed":
            built.type = Cluster.STATIC
        case "dns":
            built.cluster_type.CopyFrom(dns_lookups(plan.lookup_family, plan.refresh_ms, respect_ttl=plan.respect_ttl))
            built.wait_for_warm_on_init.value = False  # a silent name server must not keep everything from starting
    if plan.discovery != "endpoints" and endpoints is not None:
        built.load_assignment.CopyFrom(load_assignment(endpoints))
    if plan.key.protocol == "http2":
        protocol = ClusterHttpProtocolOptions()
        protocol.explicit_http_config.http2_protocol_options.SetInParent()
        key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        built.typed_extension_protocol_options[key].CopyFrom(pack(protocol))
    if plan.tls is not None:
        context = _tls(plan.tls, options, plan.key.protocol)
        built.transport_socket.CopyFrom(TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)))
    return built


def dns_lookups(
    family: str = "Auto", refresh_ms: int = 5_000, *, respect_ttl: bool = True
) -> Cluster.CustomClusterType:
    """That Envoy looks the hosts up itself, and spreads requests over all addresses found."""
    found = DnsCluster(
        dns_lookup_family=_LOOKUP_FAMILIES.get(family, DnsClusterLookupFamily.AUTO),
        dns_refresh_rate=duration(max(refresh_ms, _LEAST_REFRESH_MS)),
        respect_dns_ttl=respect_ttl,
    )
    return Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(found))


def is_untrusted(plan: ClusterPlan, options: EmitOptions) -> bool:
    """Whether the hosts are to be verified by the system's authorities, and there are none."""
    tls = plan.tls
    return tls is not None and not (tls.insecure or tls.ca or tls.authorities or options.system_ca)


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
            add_endpoint(locality.lb_endpoints.add(), endpoint)
    return built


def add_endpoint(place: LbEndpoint, endpoint: Endpoint) -> None:
    """One address."""
    socket = place.endpoint.address.socket_address
    socket.address = endpoint.address
    socket.port_value = endpoint.port


def load_limits(budget: RetryBudget | None = None) -> CircuitBreakers:
    """None that matter, as Envoy's own are there to be raised, but for retries that have a budget."""
    breakers = CircuitBreakers()
    thresholds = breakers.thresholds.add()
    thresholds.priority = RoutingPriority.DEFAULT
    thresholds.max_connections.value = _UNBOUNDED
    thresholds.max_pending_requests.value = _UNBOUNDED
    thresholds.max_requests.value = _UNBOUNDED
    thresholds.max_retries.value = _UNBOUNDED
    if budget is not None:
        thresholds.retry_budget.budget_percent.value = budget.percent
        thresholds.retry_budget.min_retry_concurrency.value = budget.least
    return breakers


def _tls(tls: BackendTls, options: EmitOptions, protocol: Protocol) -> UpstreamTlsContext:
    context = UpstreamTlsContext(sni=tls.sni)
    common = context.common_tls_context
    if protocol != "tcp":
        common.alpn_protocols.append("h2" if protocol == "http2" else "http/1.1")
    if tls.client is not None:
        common.tls_certificate_sds_secret_configs.append(_told_apart(names.secret(tls.client)))
    elif tls.client_chain:
        certificate = common.tls_certificates.add()
        certificate.certificate_chain.inline_bytes = tls.client_chain
        certificate.private_key.inline_bytes = tls.client_key
    if tls.insecure:
        return context
    if tls.authorities is not None:
        combined = common.combined_validation_context
        combined.validation_context_sds_secret_config.CopyFrom(_told_apart(names.authorities(tls.authorities)))
        _expect(combined.default_validation_context, tls)
        return context
    validation = common.validation_context
    if tls.ca:
        validation.trusted_ca.inline_bytes = tls.ca
    elif options.system_ca:
        validation.trusted_ca.filename = options.system_ca
    else:
        validation.verify_certificate_hash.append(_NO_CERTIFICATE)
        return context
    _expect(validation, tls)
    return context


def _told_apart(secret: str) -> SdsSecretConfig:
    """What comes by SDS, so that it is renewed without any connection lost."""
    config = SdsSecretConfig(name=secret)
    config.sds_config.CopyFrom(ads())
    return config


def _expect(validation: CertificateValidationContext, tls: BackendTls) -> None:
    """The names of which the host's certificate must carry one."""
    for name in tls.names or ((tls.sni,) if tls.sni else ()):
        matcher = validation.match_typed_subject_alt_names.add()
        if is_address(name):
            matcher.san_type = SubjectAltNameMatcher.IP_ADDRESS
        else:
            matcher.san_type = SubjectAltNameMatcher.URI if ":" in name else SubjectAltNameMatcher.DNS
        matcher.matcher.exact = name
