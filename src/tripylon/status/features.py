"""The features of the Gateway API that we offer, as `GatewayClass.status.supportedFeatures` lists them.

The one place where a feature is claimed, each with what it rests on. In Kubernetes the official suite proves each that
it has a test for (`make conformance`); what generated objects show is claimed only there.
"""

from __future__ import annotations

from collections.abc import Container

from tripylon.api.gateway import SupportedFeature

CLAIMS: tuple[tuple[str, str], ...] = (
    ("BackendTLSPolicy", "a Service that has one is reached by verified TLS: model/backend_policies.py"),
    ("BackendTLSPolicySANValidation", "`subjectAltNames` are what the backend's certificate is matched with"),
    ("ClusterTrustBundle", "authorities may stand there, where the cluster serves the kind: model/authorities.py"),
    ("GRPCRoute", "the kind is read and served: model/routes.py"),
    ("GRPCRouteNamedRouteRule", "`rules[].name` is carried to the rule's plan"),
    ("GRPCRouteRequestHeaderModifier", "the filter is the one of HTTPRoute: model/filters.py"),
    ("Gateway", "the kind is read and served: model/gateways.py"),
    ("GatewayAddressEmpty", "an address without value is the one that we bind by default"),
    ("GatewayBackendClientCertificate", "each Gateway shows its own to backends: model/client_certificates.py"),
    ("GatewayFrontendClientCertificateValidation", "clients are checked by port: model/frontend_tls.py"),
    ("GatewayFrontendClientCertificateValidationInsecureFallback", "asked for, and told in a condition"),
    ("GatewayHTTPListenerIsolation", "each hostname of a port has one owner: model/served.py"),
    ("GatewayHTTPSListenerDetectMisdirectedRequests", "another listener's host is answered with 421: model/hosts.py"),
    ("GatewayListenerFilters", "services are asked before a route is chosen: model/listener_auth.py"),
    ("GatewayPort8080", "any port may be bound"),
    ("GatewayRouteHostnameIntersectionPrecedence", "a route's own hostname orders first: model/order.py"),
    ("GatewayStaticAddresses", "`spec.addresses` are bound, and judged one by one"),
    ("HTTPRoute", "the kind is read and served: model/routes.py"),
    ("HTTPRoute303RedirectStatusCode", "all five status codes of the filter are passed on"),
    ("HTTPRoute307RedirectStatusCode", "all five status codes of the filter are passed on"),
    ("HTTPRoute308RedirectStatusCode", "all five status codes of the filter are passed on"),
    ("HTTPRouteBackendProtocolH2C", "`appProtocol` decides the protocol of a cluster: model/backends.py"),
    ("HTTPRouteBackendProtocolWebSocket", "every route may be upgraded to WebSocket"),
    ("HTTPRouteBackendRequestHeaderModification", "filters on a backendRef are those of its share of requests"),
    ("HTTPRouteBackendTimeout", "`timeouts.backendRequest` bounds each try"),
    ("HTTPRouteBackendURLRewrite", "filters on a backendRef are those of its share of requests"),
    ("HTTPRouteCORS", "the filter is passed on whole: model/filters.py"),
    ("HTTPRouteDestinationPortMatching", "a parentRef's `port` chooses listeners: model/routes.py"),
    ("HTTPRouteHostRewrite", "the filter is passed on whole"),
    ("HTTPRouteMethodMatching", "matches and their precedence are whole: model/matches.py, model/order.py"),
    ("HTTPRouteNamedRouteRule", "`rules[].name` is carried to the rule's plan"),
    ("HTTPRouteParentRefPort", "a parentRef's `port` chooses listeners: model/routes.py"),
    ("HTTPRoutePathRedirect", "the filter is passed on whole"),
    ("HTTPRoutePathRewrite", "the filter is passed on whole"),
    ("HTTPRoutePortRedirect", "the port of the answer is worked out for each listener"),
    ("HTTPRouteQueryParamMatching", "matches and their precedence are whole: model/matches.py, model/order.py"),
    ("HTTPRouteRequestMirror", "a mirror is a second destination: model/filters.py"),
    ("HTTPRouteRequestMultipleMirrors", "a rule may have any number of mirrors"),
    ("HTTPRouteRequestPercentageMirror", "percent and fraction are passed on exactly"),
    ("HTTPRouteRequestTimeout", "`timeouts.request` bounds all tries together"),
    ("HTTPRouteResponseHeaderModification", "the filter is passed on whole"),
    ("HTTPRouteRetryCodes", "only the listed codes are tried again, `attempts: 0` never"),
    ("HTTPRouteRetryConnectionError", "a connection that fails is tried again whatever the codes are"),
    ("HTTPRouteSchemeRedirect", "the filter is passed on whole"),
    ("ListenerSet", "the sets that a Gateway admits add their listeners: model/holders.py"),
    ("ReferenceGrant", "asked for before the target is looked for: world/grants.py"),
    ("TCPRoute", "the kind is read and served: model/streams.py"),
    ("TLSRoute", "the kind is read and served: model/streams.py"),
    ("TLSRouteModeMixed", "each server name of a port is a filter chain of its own, of either mode: envoy/streams.py"),
    ("TLSRouteModeTerminate", "TLS ends with certificates that come as those of HTTPS do: envoy/downstream_tls.py"),
    ("UDPRoute", "the kind is read and served: model/streams.py"),
)
"""(feature, what it rests on), in the order of names; offered everywhere."""

CLUSTER_CLAIMS: tuple[tuple[str, str], ...] = (
    (
        "GatewayAddressRoutability",
        "an entry gets an address of its kind or none, which is told: kube/addresses.py",
    ),
    ("GatewayAddressRoutabilityCluster", "a Service for each address within the cluster: kube/manifests.py"),
    ("GatewayInfrastructure", "labels, annotations and parameters reach the generated objects: kube/manifests.py"),
)
"""The same, for what is offered in Kubernetes only."""


def supported_features(*, standalone: bool, absent: Container[str] = ()) -> tuple[SupportedFeature, ...]:
    """The features as the status of a class lists them: sorted, without kinds that are `absent` from the cluster."""
    claims = CLAIMS if standalone else (*CLAIMS, *CLUSTER_CLAIMS)
    return tuple(SupportedFeature(name=name) for name in sorted(name for name, _ in claims if name not in absent))
