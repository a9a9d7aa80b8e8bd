"""The build, as a list: every step from the World's objects to the Plan, in the order in which a flush walks them."""

from __future__ import annotations

from typing import Any

from tripylon.graph import Derive, Index
from tripylon.model import (
    backend_policies,
    backends,
    client_certificates,
    conflicts,
    frontend_tls,
    gateway_heads,
    gateways,
    holders,
    hosts,
    ingress_classes,
    ingress_places,
    ingresses,
    listener_auth,
    listener_sets,
    overlaps,
    policy_ancestors,
    route_plans,
    routes,
    served,
    services,
    stream_plans,
    streams,
    telemetry,
    tls,
    told,
    traffic_policies,
    x_backends,
)
from tripylon.model.options import Options


def derives(options: Options) -> tuple[Derive[Any, Any], ...]:
    """What is told from outside, gateways, certificates, routes, and what routes lead to: clusters and hosts."""
    return (
        *told.derives(),
        *ingress_classes.derives(options),
        *gateway_heads.derives(options),
        *listener_sets.derives(),
        *holders.derives(),
        *conflicts.derives(options),
        *gateways.derives(options),
        *served.derives(),
        *frontend_tls.derives(),
        *tls.derives(),
        *overlaps.derives(),
        *client_certificates.derives(),
        *backend_policies.derives(),
        *listener_auth.derives(),
        *traffic_policies.derives(),
        *routes.derives(),
        *streams.derives(),
        *telemetry.derives(),
        *policy_ancestors.derives(),
        *x_backends.derives(),
        *backends.derives(),
        *services.derives(options),
        *hosts.derives(),
    )


INDEXES: tuple[Index[Any, Any, Any], ...] = (
    gateway_heads.DEFAULT_GATEWAYS,
    *holders.INDEXES,
    *conflicts.INDEXES,
    *gateways.INDEXES,
    *served.INDEXES,
    ingress_classes.DEFAULT_CLASSES,
    ingress_places.INGRESSES_BY_GATEWAY,
    ingress_places.CERTIFICATES_BY_HOST,
    ingresses.INGRESSES_OF_OURS,
    frontend_tls.FRONTENDS,
    *tls.INDEXES,
    *overlaps.INDEXES,
    listener_auth.FILTERED,
    client_certificates.GATEWAYS_WITH_CLIENT,
    policy_ancestors.ROUTES_BY_SERVICE,
    policy_ancestors.INGRESSES_BY_SERVICE,
    policy_ancestors.ROUTES_BY_X_BACKEND,
    policy_ancestors.GATEWAYS_BY_ASKED,
    policy_ancestors.SETS_BY_ASKED,
    policy_ancestors.TRACED_BY_SERVICE,
    policy_ancestors.TRACED_BY_X_BACKEND,
    backends.ROUTES_BY_CLUSTER,
    route_plans.LISTENERS_BY_CLUSTER,
    route_plans.TRACED_BY_CLUSTER,
    backends.CLUSTERS_BY_POLICY,
    backends.CLUSTERS_BY_CLIENT,
    services.SLICES_LEFT_OUT,
    services.CHOOSY_SERVICES,
    hosts.ROUTES_BY_HOST,
    hosts.LISTENER_HOSTS,
    routes.ROUTES_BY_LISTENER,
    streams.STREAM_OBJECTS,
    *stream_plans.INDEXES,
)
