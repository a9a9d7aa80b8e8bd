"""GatewayParameters: how the proxies of a Gateway are run in a cluster. A GatewayClass or a Gateway refers to one.

Fields carry kgateway's names where kgateway has the same thing. What Kubernetes itself defines (probes, affinities,
security contexts) is passed on as it is written: the API server that gets it is its judge. What class and Gateway say
together is worked out in `kube/parameters.py`, what is made of it in `kube/manifests.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from tripylon.api.markers import Entries, Items, Number, Part, Rule, Text
from tripylon.api.meta import Port, Resource
from tripylon.api.own import OWN_GROUP

Free = dict[str, Any]
"""An object whose fields Kubernetes defines; passed on as written."""
FreeList = Annotated[tuple[Free, ...], Items(max=64)]
Labels = Annotated[dict[str, Annotated[str, Text(max=63)]], Entries(max=64)]
Annotations = Annotated[dict[str, str], Entries(max=64)]
Seconds = Annotated[int, Number(min=0, max=31_536_000, format="int64")]
_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "critical", "off")
LogLevel = Annotated[str, Text(values=_LEVELS)]


# --- The container with Envoy ---------------------------------------------------------------------------------------


class Image(Part, frozen=True, gc=False, kw_only=True):
    """An image of a container. Each field that is absent keeps what the level above, or the installation, says."""

    registry: str | None = None
    """Registry, such as `docker.io`; empty: none in front of the repository."""
    repository: str | None = None
    """Name of the image in the registry, such as `envoyproxy/envoy`."""
    tag: str | None = None
    """Tag. Set without a digest it drops the digest of the level above; empty: none."""
    digest: str | None = None
    """Digest, such as `sha256:…`. Set without a tag it drops the tag of the level above; empty: none."""
    pull_policy: Annotated[str, Text(values=("Always", "IfNotPresent", "Never"))] = ""
    """When the image is fetched: `Always`, `IfNotPresent` or `Never`; absent: as Kubernetes chooses by the tag."""


class LogFormat(Part, frozen=True, gc=False, kw_only=True):
    """Form of the lines that Envoy itself logs; access logs are set elsewhere."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(cel="has(self.json) != has(self.text)", message="must have exactly one of `json` and `text`"),
    )

    json: Free | None = None
    """Names and values of a JSON object, the values with Envoy's format flags, such as `%v`."""
    text: Annotated[str, Text(max=1024)] = ""
    """A line with Envoy's format flags."""


class DnsResolver(Part, frozen=True, gc=False, kw_only=True):
    """How Envoy asks name servers."""

    udp_max_queries: Annotated[int, Number(min=0)] | None = None
    """Queries over one UDP socket before another one is opened; absent: 100; 0: no limit."""


class EnvoyBootstrap(Part, frozen=True, gc=False, kw_only=True):
    """The configuration that Envoy starts with."""

    log_level: LogLevel = ""
    """Least level that is logged: `trace`, `debug`, `info`, `warn`, `error`, `critical` or `off`; absent: `info`."""
    component_log_levels: Annotated[dict[str, LogLevel], Entries(max=64)] = msgspec.field(default_factory=dict)
    """Levels of single components of Envoy, such as `upstream: debug`."""
    log_format: LogFormat | None = None
    """Form of the lines; absent: Envoy's own."""
    dns_resolver: DnsResolver | None = None
    """How Envoy asks name servers."""


class EnvoyContainer(Part, frozen=True, gc=False, kw_only=True):
    """The container that runs Envoy. Its name is `envoy`."""

    image: Image | None = None
    """Its image; absent: the one that the installation names."""
    bootstrap: EnvoyBootstrap | None = None
    """The configuration that Envoy starts with."""
    security_context: Free | None = None
    """Kubernetes' security context of the container; merged into the default one (no privileges at all)."""
    resources: Free | None = None
    """Kubernetes' resource requests and limits."""
    env: FreeList = ()
    """Environment variables as Kubernetes writes them, at most 64; one of the same name replaces that of the class."""
    extra_args: Annotated[tuple[Annotated[str, Text(min=1, max=256)], ...], Items(min=1, max=32)] = ()
    """Further arguments of Envoy, such as `--concurrency` and `2`; those of the class come first."""
    extra_volume_mounts: FreeList = ()
    """Mounts of volumes that `podTemplate.extraVolumes` names."""


# --- Pods -----------------------------------------------------------------------------------------------------------


class GracefulShutdown(Part, frozen=True, gc=False, kw_only=True):
    """What a proxy does when its pod is asked to end."""

    enabled: bool | None = None
    """Whether it first fails its readiness, waits, and lets running requests end; absent: it does."""
    sleep_time_seconds: Seconds | None = None
    """How long it goes on taking new connections after its readiness failed, in seconds; absent: 10. Load balancers
    must have noticed by then."""


class PodTemplate(Part, frozen=True, gc=False, kw_only=True):
    """Pods of the proxies."""

    extra_labels: Labels = msgspec.field(default_factory=dict)
    """Labels of the pods; those of `spec.infrastructure` of the Gateway go before them."""
    extra_annotations: Annotations = msgspec.field(default_factory=dict)
    """Annotations of the pods; those of `spec.infrastructure` of the Gateway go before them."""
    security_context: Free | None = None
    """Kubernetes' security context of the pod; merged into the default one."""
    image_pull_secrets: FreeList = ()
    """Secrets to fetch images with, each as `name: …`."""
    node_selector: Annotated[dict[str, str], Entries(max=64)] = msgspec.field(default_factory=dict)
    """Labels that a node must have."""
    affinity: Free | None = None
    """Kubernetes' affinities of the pod."""
    tolerations: FreeList = ()
    """Taints of nodes that are tolerated."""
    topology_spread_constraints: FreeList = ()
    """How pods are spread; absent: over zones and nodes, as far as that can be had."""
    graceful_shutdown: GracefulShutdown | None = None
    """What a proxy does when its pod is asked to end."""
    termination_grace_period_seconds: Seconds | None = None
    """How long a pod may take to end, in seconds, everything in `gracefulShutdown` included; absent: 60."""
    startup_probe: Free | None = None
    """Kubernetes' startup probe; absent: Envoy must report itself ready within two minutes."""
    readiness_probe: Free | None = None
    """Kubernetes' readiness probe; absent: Envoy reports itself ready."""
    liveness_probe: Free | None = None
    """Kubernetes' liveness probe; absent: none, as Envoy ends by itself when it is broken."""
    extra_volumes: FreeList = ()
    """Volumes of the pods, beside our own."""
    priority_class_name: str = ""
    """Priority class of the pods; empty: the cluster's default."""


class ProxyDeployment(Part, frozen=True, gc=False, kw_only=True):
    """A Deployment runs the proxies."""

    replicas: Annotated[int, Number(min=0)] | None = None
    """Number of pods; absent: not set by us (Kubernetes starts with 1, an autoscaler may change it). Ignored where
    `horizontalPodAutoscaler` is set."""
    strategy: Free | None = None
    """Kubernetes' strategy of replacing pods; absent: rolling, and never one pod fewer than wanted."""


class ProxyDaemonSet(Part, frozen=True, gc=False, kw_only=True):
    """A DaemonSet runs the proxies, one on each node."""

    update_strategy: Free | None = None
    """Kubernetes' strategy of replacing pods; absent: rolling, a new pod first."""


# --- Service, ServiceAccount, statistics ----------------------------------------------------------------------------


class ProxyServicePort(Part, frozen=True, gc=False, kw_only=True):
    """More about one port of the Service."""

    port: Port
    """The listener's port, 1 to 65535."""
    node_port: Port | None = None
    """Port on every node, for the types `NodePort` and `LoadBalancer`; absent: Kubernetes chooses."""


class ProxyService(Part, frozen=True, gc=False, kw_only=True):
    """The Service in front of the proxies."""

    type: Annotated[str, Text(values=("ClusterIP", "NodePort", "LoadBalancer"))] = ""
    """`LoadBalancer` (absent means the same), `NodePort` or `ClusterIP`."""
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    """Address within the cluster; `None`: headless; absent: Kubernetes chooses. It cannot be changed later."""
    extra_labels: Labels = msgspec.field(default_factory=dict)
    """Labels of the Service; those of `spec.infrastructure` of the Gateway go before them."""
    extra_annotations: Annotations = msgspec.field(default_factory=dict)
    """Annotations of the Service; those of `spec.infrastructure` of the Gateway go before them."""
    ports: Annotated[tuple[ProxyServicePort, ...], Items(max=64, kind="map", keys=("port",))] = ()
    """More about single ports; which ports there are is said by the listeners."""
    external_traffic_policy: Annotated[str, Text(values=("Cluster", "Local"))] = ""
    """`Local`: nodes without a proxy refuse, and clients' addresses are kept; `Cluster` (absent means the same): any
    node takes connections."""
    load_balancer_class: str = ""
    """Which load balancer serves the Service; absent: the cluster's own."""
    load_balancer_source_ranges: Annotated[tuple[str, ...], Items(max=64)] = ()
    """Networks from which the load balancer takes connections; absent: all. They replace those of the class."""
    ip_families: Annotated[tuple[Annotated[str, Text(values=("IPv4", "IPv6"))], ...], Items(max=2)] = msgspec.field(
        name="ipFamilies", default=()
    )
    """Families of addresses, the preferred one first; absent: the cluster's."""
    ip_family_policy: Annotated[str, Text(values=("SingleStack", "PreferDualStack", "RequireDualStack"))] = (
        msgspec.field(name="ipFamilyPolicy", default="")
    )
    """Whether the Service has addresses of one family or both; absent: as the cluster does."""


class ProxyServiceAccount(Part, frozen=True, gc=False, kw_only=True):
    """The identity under which the proxies run."""

    extra_labels: Labels = msgspec.field(default_factory=dict)
    """Labels of the ServiceAccount."""
    extra_annotations: Annotations = msgspec.field(default_factory=dict)
    """Annotations of the ServiceAccount, such as the role of a cloud that it stands for."""


class StatsNameMatcher(Part, frozen=True, gc=False, kw_only=True):
    """Chooses series of Envoy by their names."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="[has(self.exact), has(self.prefix), has(self.suffix), has(self.contains), has(self.safeRegex)]"
            ".filter(each, each).size() == 1",
            message="must have exactly one of `exact`, `prefix`, `suffix`, `contains` and `safeRegex`",
        ),
    )

    exact: Annotated[str, Text(max=256)] = ""
    """The whole name."""
    prefix: Annotated[str, Text(max=256)] = ""
    """Beginning of the name."""
    suffix: Annotated[str, Text(max=256)] = ""
    """End of the name."""
    contains: Annotated[str, Text(max=256)] = ""
    """A part of the name."""
    safe_regex: Annotated[str, Text(max=256)] = ""
    """Regular expression (RE2) of the whole name."""
    ignore_case: bool = False
    """Whether upper and lower case count as the same; default false. Not read for `safeRegex`."""


class StatsMatcher(Part, frozen=True, gc=False, kw_only=True):
    """Which series Envoy keeps."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.inclusionList) != has(self.exclusionList)",
            message="must have exactly one of `inclusionList` and `exclusionList`",
        ),
    )

    inclusion_list: Annotated[tuple[StatsNameMatcher, ...], Items(max=16)] = ()
    """Series that are kept; all others are not even created. At most 16 entries."""
    exclusion_list: Annotated[tuple[StatsNameMatcher, ...], Items(max=16)] = ()
    """Series that are not created; all others are kept. At most 16 entries. Leave `downstream_cx_active` alone: by it
    a pod that ends sees whether it has connections."""


class Stats(Part, frozen=True, gc=False, kw_only=True):
    """Statistics of the proxies for Prometheus, at port 9091."""

    enabled: bool | None = None
    """Whether the port is open and annotated for Prometheus; absent: it is."""
    route_prefix_rewrite: str = ""
    """Page of Envoy's administration that `/metrics` shows; absent: `/stats/prometheus?usedonly`."""
    enable_stats_route: bool | None = None
    """Whether `/stats` shows a page, too; absent: it does."""
    stats_route_prefix_rewrite: str = ""
    """Page of Envoy's administration that `/stats` shows; absent: `/stats`."""
    matcher: StatsMatcher | None = None
    """Which series Envoy keeps; absent: those that dashboards need."""


# --- Overlays -------------------------------------------------------------------------------------------------------


class OverlayMetadata(Part, frozen=True, gc=False, kw_only=True):
    """Labels and annotations that an overlay adds."""

    labels: Labels = msgspec.field(default_factory=dict)
    """Labels."""
    annotations: Annotations = msgspec.field(default_factory=dict)
    """Annotations."""


class Overlay(Part, frozen=True, gc=False, kw_only=True):
    """A strategic merge patch of an object that we make; the class's overlay comes first, then the Gateway's.

    Lists of named things are merged by name; `$patch: delete` removes a thing, `$patch: replace` replaces a whole map
    or list, null removes a field.
    """

    metadata: OverlayMetadata | None = None
    """Labels and annotations that are added."""
    spec: Free | None = None
    """Any part of the object's `spec`."""


# --- GatewayParameters ----------------------------------------------------------------------------------------------


class KubeParameters(Part, frozen=True, gc=False, kw_only=True):
    """Proxies that we run in the cluster."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.deployment) || !has(self.daemonSet)",
            message="must not have both `deployment` and `daemonSet`; remove one",
        ),
    )

    deployment: ProxyDeployment | None = None
    """A Deployment runs the proxies; so it is when nothing is said."""
    daemon_set: ProxyDaemonSet | None = None
    """A DaemonSet runs the proxies instead, one on each node."""
    envoy_container: EnvoyContainer | None = None
    """The container that runs Envoy."""
    pod_template: PodTemplate | None = None
    """Pods of the proxies."""
    service: ProxyService | None = None
    """The Service in front of them."""
    service_account: ProxyServiceAccount | None = None
    """The identity under which they run."""
    stats: Stats | None = None
    """Statistics for Prometheus."""
    omit_default_security_context: bool | None = None
    """Whether security contexts are left to the cluster (OpenShift sets its own); absent: pods get the strictest ones.
    Without them listeners below port 1024 need another way to be bound."""
    deployment_overlay: Overlay | None = None
    """Patch of the Deployment."""
    daemon_set_overlay: Overlay | None = None
    """Patch of the DaemonSet."""
    service_overlay: Overlay | None = None
    """Patch of the Service."""
    service_account_overlay: Overlay | None = None
    """Patch of the ServiceAccount; its `spec` is merged into the ServiceAccount itself, which has none."""
    pod_disruption_budget: Overlay | None = None
    """When set, there is a PodDisruptionBudget for the pods, with this patch over it; empty: one pod at a time."""
    horizontal_pod_autoscaler: Overlay | None = None
    """When set, there is a HorizontalPodAutoscaler for the Deployment, with this patch over it."""
    vertical_pod_autoscaler: Overlay | None = None
    """When set, there is a VerticalPodAutoscaler for the pods, with this patch over it."""


class SelfManaged(Part, frozen=True, gc=False, kw_only=True):
    """Proxies that somebody else runs; nothing is made for the Gateway."""

    EXTRA: ClassVar[dict[str, object]] = {"x-kubernetes-preserve-unknown-fields": True}


class GatewayParametersSpec(Part, frozen=True, gc=False, kw_only=True):
    """How proxies are run. What a Gateway's parameters say is merged into what those of its class say."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.kube) != has(self.selfManaged)",
            message="must have exactly one of `kube` and `selfManaged`; add or remove one",
            reason="FieldValueRequired",
        ),
    )

    kube: KubeParameters | None = None
    """We run them in the cluster."""
    self_managed: SelfManaged | None = None
    """Somebody else runs them; they connect to the controller as the Gateway's proxies."""


class GatewayParameters(Resource, frozen=True, gc=False, kw_only=True):
    """How the proxies of a Gateway are run in a cluster.

    A GatewayClass names one in `spec.parametersRef`, a Gateway in `spec.infrastructure.parametersRef`.
    """

    GROUP: ClassVar[str] = OWN_GROUP

    spec: GatewayParametersSpec
    """How proxies are run."""
