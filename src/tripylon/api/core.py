"""Kubernetes' own kinds, as far as a gateway reads them: Service, EndpointSlice, Secret, ConfigMap, Namespace.

Fields that are not read here are accepted and dropped; in files, names that Kubernetes does not know are still errors.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from tripylon.api.markers import Items, Number, Part, Text
from tripylon.api.meta import Port, Resource

# --- Service ------------------------------------------------------------------------------------------------

_Protocol = Annotated[str, Text(values=("TCP", "UDP", "SCTP"))]
_PortName = Annotated[str, Text(max=63)]


class ServicePort(Part, frozen=True, gc=False, kw_only=True):
    """A port of a Service."""

    UNREAD: ClassVar[tuple[str, ...]] = ("nodePort",)

    name: _PortName = ""
    """Name of the port; EndpointSlices refer to it. Empty only when the Service has one port."""
    port: Port
    """Port of the Service, 1 to 65535, which routes name."""
    target_port: int | str | None = None
    """Port of the pods, as a number or a name; absent: the same as `port`."""
    protocol: _Protocol = "TCP"
    """`TCP` (default), `UDP` or `SCTP`."""
    app_protocol: str = ""
    """What is spoken: `http` (empty means the same), `kubernetes.io/ws`, `kubernetes.io/h2c`, `http2`, `grpc`."""


class ServiceSpec(Part, frozen=True, gc=False, kw_only=True):
    """What a Service is."""

    UNREAD: ClassVar[tuple[str, ...]] = (
        "allocateLoadBalancerNodePorts",
        "clusterIP",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamilyPolicy",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "selector",
        "sessionAffinityConfig",
    )

    type: Annotated[str, Text(values=("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))] = "ClusterIP"
    """`ClusterIP` (default), `NodePort`, `LoadBalancer` or `ExternalName`."""
    ports: Annotated[tuple[ServicePort, ...], Items(kind="map", keys=("port", "protocol"))] = ()
    """Ports of the Service."""
    external_name: str = ""
    """For type `ExternalName`: the DNS name that stands behind the Service."""
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    """Addresses within the cluster, as Kubernetes chose them; read where the Service leads to a Gateway's proxies."""
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    """Addresses of nodes at which the Service is reached, too; read as `clusterIPs`."""
    publish_not_ready_addresses: bool = False
    """Whether endpoints count as ready in any state; default false."""
    session_affinity: Annotated[str, Text(values=("ClientIP", "None"))] = "None"
    """`None` (default). `ClientIP` has no effect on what comes through a gateway, which is told."""
    traffic_distribution: str = ""
    """Preference among endpoints, such as `PreferSameZone`. It has no effect on what comes through a gateway either."""


class LoadBalancerIngress(Part, frozen=True, gc=False, kw_only=True):
    """A place where a load balancer takes connections."""

    UNREAD: ClassVar[tuple[str, ...]] = ("ipMode", "ports")

    ip: str = ""
    """Its IP address; empty: it has a host name."""
    hostname: str = ""
    """Its host name; empty: it has an IP address."""


class LoadBalancerStatus(Part, frozen=True, gc=False, kw_only=True):
    """What a load balancer did."""

    ingress: tuple[LoadBalancerIngress, ...] = ()
    """Where it takes connections; empty: nowhere yet."""


class ServiceStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the cluster did with the Service."""

    UNREAD: ClassVar[tuple[str, ...]] = ("conditions",)

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    """For type `LoadBalancer`: what the load balancer did."""


class Service(Resource, frozen=True, gc=False, kw_only=True):
    """A set of endpoints under one name."""

    spec: ServiceSpec = ServiceSpec()
    """What it is."""
    status: ServiceStatus = ServiceStatus()
    """What the cluster did with it."""


# --- EndpointSlice ------------------------------------------------------------------------------------------

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
"""Label of an EndpointSlice that names its Service."""
IMPORT_NAME_LABEL = "multicluster.kubernetes.io/service-name"
"""Label of an EndpointSlice that names its ServiceImport."""
X_BACKEND_LABEL = "gateway.tripylon.dev/x-backend"
"""Label of an EndpointSlice that names its XBackend, in the way of a label's value (`values.label_value`)."""


class EndpointConditions(Part, frozen=True, gc=False, kw_only=True):
    """State of an endpoint."""

    UNREAD: ClassVar[tuple[str, ...]] = ("terminating",)

    ready: bool | None = None
    """Whether it takes new requests; absent: it does."""
    serving: bool | None = None
    """Whether it answers, even while it ends; absent: as `ready`."""


class Endpoint(Part, frozen=True, gc=False, kw_only=True):
    """One instance behind a Service."""

    UNREAD: ClassVar[tuple[str, ...]] = ("deprecatedTopology", "hints", "hostname", "nodeName", "targetRef")

    addresses: Annotated[tuple[str, ...], Items(min=1, max=100, kind="set")]
    """Addresses of the instance; the first one is used."""
    conditions: EndpointConditions = EndpointConditions()
    """State of the instance."""
    zone: str = ""
    """Zone that it runs in; empty: unknown."""


class EndpointPort(Part, frozen=True, gc=False, kw_only=True):
    """A port of all endpoints of a slice. What is spoken there is said by the Service's port."""

    UNREAD: ClassVar[tuple[str, ...]] = ("appProtocol",)

    name: _PortName = ""
    """Name of the Service's port that it belongs to."""
    port: Annotated[int, Number(min=0, max=65535)] | None = None
    """Port of the endpoints; absent: every port."""
    protocol: _Protocol = "TCP"
    """`TCP` (default), `UDP` or `SCTP`."""


class EndpointSlice(Resource, frozen=True, gc=False, kw_only=True):
    """Endpoints of a Service; a Service may have several slices."""

    GROUP: ClassVar[str] = "discovery.k8s.io"

    address_type: Annotated[str, Text(values=("IPv4", "IPv6", "FQDN"))]
    """`IPv4`, `IPv6` or `FQDN`."""
    endpoints: Annotated[tuple[Endpoint, ...], Items(max=1000)] = ()
    """The endpoints."""
    ports: Annotated[tuple[EndpointPort, ...], Items(max=100)] = ()
    """Ports that every endpoint of the slice has."""

    @property
    def service_name(self) -> str:
        """Name of the Service that the slice belongs to, of the same namespace; empty: none."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")

    @property
    def import_name(self) -> str:
        """Name of the ServiceImport that the slice belongs to, of the same namespace; empty: none."""
        return self.metadata.labels.get(IMPORT_NAME_LABEL, "")

    @property
    def x_backend(self) -> str:
        """What stands for the XBackend that the slice belongs to, of the same namespace; empty: none."""
        return self.metadata.labels.get(X_BACKEND_LABEL, "")


# --- Secret, ConfigMap, Namespace ---------------------------------------------------------------------------


class Secret(Resource, frozen=True, gc=False, kw_only=True):
    """Confidential bytes, such as a certificate with its key."""

    UNREAD: ClassVar[tuple[str, ...]] = ("immutable",)

    type: str = ""
    """What is inside, such as `kubernetes.io/tls`; empty: `Opaque`."""
    data: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Content by key, written in base64."""
    string_data: dict[str, str] = msgspec.field(default_factory=dict)
    """Content by key as plain text; goes before `data`."""

    @property
    def contents(self) -> dict[str, bytes]:
        """What each key holds, `stringData` before `data`."""
        return {**self.data, **{key: text.encode() for key, text in self.string_data.items()}}


class ConfigMap(Resource, frozen=True, gc=False, kw_only=True):
    """Texts that are not confidential, such as certificates of authorities."""

    UNREAD: ClassVar[tuple[str, ...]] = ("immutable",)

    data: dict[str, str] = msgspec.field(default_factory=dict)
    """Texts by key."""
    binary_data: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Bytes by key, written in base64."""

    @property
    def contents(self) -> dict[str, bytes]:
        """What each key holds, as bytes."""
        return {**self.binary_data, **{key: text.encode() for key, text in self.data.items()}}


class Namespace(Resource, frozen=True, gc=False, kw_only=True):
    """A namespace; only its labels are read, by selectors."""

    UNREAD: ClassVar[tuple[str, ...]] = ("spec", "status")
