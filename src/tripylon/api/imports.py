"""ServiceImport: a Service of other clusters too, as the multi-cluster Services API brings it (KEP-1645, GEP-1748)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Items, Part, Text
from tripylon.api.meta import Port, Resource

IMPORT_GROUP = "multicluster.x-k8s.io"
"""API group of Services of several clusters."""


class ServiceImportPort(Part, frozen=True, gc=False, kw_only=True):
    """A port of an imported Service."""

    name: Annotated[str, Text(max=63)] = ""
    """Name of the port; EndpointSlices refer to it. Empty only when there is one port."""
    protocol: Annotated[str, Text(values=("TCP", "UDP", "SCTP"))] = "TCP"
    """`TCP` (default), `UDP` or `SCTP`."""
    app_protocol: str = ""
    """What is spoken, as in a Service."""
    port: Port
    """Port, 1 to 65535, which routes name."""


class ServiceImportSpec(Part, frozen=True, gc=False, kw_only=True):
    """What an imported Service is."""

    UNREAD: ClassVar[tuple[str, ...]] = (
        "internalTrafficPolicy",
        "ipFamilies",
        "ips",
        "sessionAffinity",
        "sessionAffinityConfig",
        "trafficDistribution",
    )

    type: Annotated[str, Text(values=("ClusterSetIP", "Headless"))] = "ClusterSetIP"
    """`ClusterSetIP` or `Headless`; endpoints are reached directly in both cases."""
    ports: Annotated[tuple[ServiceImportPort, ...], Items()] = ()
    """Ports of the Service."""


class ServiceImport(Resource, frozen=True, gc=False, kw_only=True):
    """A Service whose endpoints are in several clusters."""

    GROUP: ClassVar[str] = IMPORT_GROUP
    UNREAD: ClassVar[tuple[str, ...]] = ("status",)

    spec: ServiceImportSpec = ServiceImportSpec()
    """What it is."""
