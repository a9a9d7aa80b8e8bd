"""ServiceImport: a Service whose endpoints are in several clusters (the Multi-Cluster Services API).

Its EndpointSlices carry the label `multicluster.kubernetes.io/service-name`; see `core.IMPORT_NAME_LABEL`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Items, Part, Text
from tripylon.api.meta import Port, Resource


class ServiceImportPort(Part, frozen=True, gc=False, kw_only=True):
    """A port of the Service."""

    name: Annotated[str, Text(max=63)] = ""
    """Name of the port; EndpointSlices refer to it. Empty only when there is one port."""
    port: Port
    """Port, 1 to 65535, which routes name."""
    protocol: Annotated[str, Text(values=("TCP", "UDP", "SCTP"))] = "TCP"
    """`TCP` (default), `UDP` or `SCTP`."""
    app_protocol: str = ""
    """What is spoken, as in a Service."""


class ServiceImportSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is imported."""

    UNREAD: ClassVar[tuple[str, ...]] = (
        "internalTrafficPolicy",
        "ipFamilies",
        "sessionAffinity",
        "sessionAffinityConfig",
        "trafficDistribution",
    )

    type: Annotated[str, Text(values=("ClusterSetIP", "Headless"))]
    """`ClusterSetIP`: one address for all clusters. `Headless`: none."""
    ports: Annotated[tuple[ServiceImportPort, ...], Items()]
    """Ports of the Service."""
    ips: Annotated[tuple[str, ...], Items(max=2)] = ()
    """Addresses for all clusters, at most 2; requests go to endpoints, not there."""


class ServiceImport(Resource, frozen=True, gc=False, kw_only=True):
    """A Service whose endpoints are in several clusters. Routes refer to it by group `multicluster.x-k8s.io`."""

    GROUP: ClassVar[str] = "multicluster.x-k8s.io"
    UNREAD: ClassVar[tuple[str, ...]] = ("status",)

    spec: ServiceImportSpec
    """What is imported."""
