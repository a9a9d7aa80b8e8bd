"""Ingress and IngressClass (Kubernetes, networking.k8s.io): what was there before the Gateway API.

The words and the rules that an API server checks. What becomes of them is worked out in `model/ingresses.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Items, Number, Part, Rule, Text
from tripylon.api.meta import Hostname, NamespaceName, ObjectName, Port, Resource

INGRESS_GROUP = "networking.k8s.io"
"""API group of Ingress and IngressClass."""
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
"""Names an Ingress's class, as was done before `ingressClassName` came."""
DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
"""`true` on the IngressClass of those that name none."""


# --- IngressClass -------------------------------------------------------------------------------------------


class IngressClassParametersReference(Part, frozen=True, gc=False, kw_only=True):
    """The object with a class's settings; for classes of ours a Gateway."""

    api_group: str = ""
    """API group of the object: `gateway.networking.k8s.io`."""
    kind: Annotated[str, Text(min=1)]
    """Kind of the object: `Gateway`."""
    name: ObjectName
    """Name of the Gateway whose listeners take the Ingresses of the class."""
    scope: Annotated[str, Text(values=("Cluster", "Namespace"))] = ""
    """`Namespace`, since a Gateway has one."""
    namespace: NamespaceName = ""
    """Namespace of the Gateway."""


class IngressClassSpec(Part, frozen=True, gc=False, kw_only=True):
    """Who serves the class, and how."""

    controller: Annotated[str, Text(max=250)] = ""
    """The controller that serves Ingresses of the class; ours: `gateway.tripylon.dev/controller`."""
    parameters: IngressClassParametersReference | None = None
    """The Gateway that takes them; none: every Gateway of ours with `spec.defaultScope: All`."""


class IngressClass(Resource, frozen=True, gc=False, kw_only=True):
    """A class of Ingresses: which controller serves them, and through which Gateway."""

    GROUP: ClassVar[str] = INGRESS_GROUP

    spec: IngressClassSpec = IngressClassSpec()
    """Who serves the class, and how."""


# --- Ingress ------------------------------------------------------------------------------------------------


class ServiceBackendPort(Part, frozen=True, gc=False, kw_only=True):
    """A port of a Service, by name or by number."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(cel="has(self.name) != has(self.number)", message="must have either a name or a number; state one"),
    )

    name: Annotated[str, Text(max=15)] = ""
    """Name of the port."""
    number: Port | None = None
    """Number of the port."""


class IngressServiceBackend(Part, frozen=True, gc=False, kw_only=True):
    """A Service of the Ingress's own namespace."""

    name: ObjectName
    """Name of the Service."""
    port: ServiceBackendPort
    """Which of its ports."""


class TypedLocalObjectReference(Part, frozen=True, gc=False, kw_only=True):
    """An object of the same namespace."""

    api_group: str = ""
    """API group of the object; empty for the core group."""
    kind: Annotated[str, Text(min=1)]
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""


class IngressBackend(Part, frozen=True, gc=False, kw_only=True):
    """Where requests go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.service) != has(self.resource)",
            message="must have either a service or a resource; state one",
        ),
    )

    service: IngressServiceBackend | None = None
    """A Service."""
    resource: TypedLocalObjectReference | None = None
    """Another object. No kind is supported: requests for it are answered with 500, and that is told."""


class HTTPIngressPath(Part, frozen=True, gc=False, kw_only=True):
    """A path, and where its requests go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.path) && self.path != '' ? self.path.startsWith('/') : "
            "self.pathType == 'ImplementationSpecific'",
            message="must begin with '/'; add it",
            field_path=".path",
        ),
        Rule(
            cel="self.pathType == 'ImplementationSpecific' || !has(self.path) || "
            "!self.path.matches('//|/[.]{1,2}(/|$)|%2[fF]')",
            message="must not contain '//', '/./', '/../' or an encoded '/'; write it as clients send it",
            field_path=".path",
        ),
    )

    path: Annotated[str, Text(max=4096)] = ""
    """The path; empty: all paths."""
    path_type: Annotated[str, Text(values=("Exact", "ImplementationSpecific", "Prefix"))]
    """`Exact`; `Prefix`: by whole parts between slashes; `ImplementationSpecific`: the same as `Prefix` here."""
    backend: IngressBackend
    """Where its requests go."""


class HTTPIngressRuleValue(Part, frozen=True, gc=False, kw_only=True):
    """The paths of a host."""

    paths: Annotated[tuple[HTTPIngressPath, ...], Items(min=1)]
    """The paths. The longest that fits decides, and of equal ones the exact one, whatever their order."""


class IngressRule(Part, frozen=True, gc=False, kw_only=True):
    """What happens to requests for one host."""

    host: Hostname = ""
    """The host name; `*.` in front stands for exactly one label. Empty: every host."""
    http: HTTPIngressRuleValue | None = None
    """The paths of the host; none: its requests go to the default backend."""


class IngressTLS(Part, frozen=True, gc=False, kw_only=True):
    """A certificate."""

    hosts: Annotated[tuple[Hostname, ...], Items()] = ()
    """The host names that it is presented for; none: all that no other certificate is for."""
    secret_name: str = ""
    """Secret of type `kubernetes.io/tls` in the Ingress's own namespace; empty: the Gateway has the certificate."""


class IngressSpec(Part, frozen=True, gc=False, kw_only=True):
    """Which requests go where."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(cel="has(self.defaultBackend) || has(self.rules)", message="must have a defaultBackend or rules; add one"),
    )

    ingress_class_name: Annotated[str, Text(max=253)] = ""
    """The IngressClass; empty: what the annotation `kubernetes.io/ingress.class` says, else the default class."""
    default_backend: IngressBackend | None = None
    """Where requests go that no rule takes: those for hosts of the Ingress, and those for hosts that nobody has."""
    tls: Annotated[tuple[IngressTLS, ...], Items()] = ()
    """Certificates, for HTTPS beside HTTP."""
    rules: Annotated[tuple[IngressRule, ...], Items()] = ()
    """The hosts with their paths."""


class IngressPortStatus(Part, frozen=True, gc=False, kw_only=True):
    """A port at which an Ingress is reached."""

    port: Annotated[int, Number()]
    """The port."""
    protocol: str
    """`TCP`."""
    error: str = ""
    """What is wrong with it; empty: nothing."""


class IngressLoadBalancerIngress(Part, frozen=True, gc=False, kw_only=True):
    """A place at which an Ingress is reached."""

    ip: str = ""
    """Its IP address; empty: it has a host name."""
    hostname: str = ""
    """Its host name; empty: it has an IP address."""
    ports: Annotated[tuple[IngressPortStatus, ...], Items()] = ()
    """Its ports; not told by us."""


class IngressLoadBalancerStatus(Part, frozen=True, gc=False, kw_only=True):
    """Where an Ingress is reached."""

    ingress: Annotated[tuple[IngressLoadBalancerIngress, ...], Items()] = ()
    """The places; empty: none yet."""


class IngressStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about an Ingress."""

    load_balancer: IngressLoadBalancerStatus = IngressLoadBalancerStatus()
    """Where it is reached: the addresses of the Gateways that take it."""


class Ingress(Resource, frozen=True, gc=False, kw_only=True):
    """Requests for hosts and paths, and the Services that they go to."""

    GROUP: ClassVar[str] = INGRESS_GROUP

    spec: IngressSpec = IngressSpec()
    """Which requests go where."""
    status: IngressStatus | None = None
    """What the controller says about it."""

    @property
    def class_name(self) -> str:
        """The class that it names; empty: none."""
        return self.spec.ingress_class_name or self.metadata.annotations.get(CLASS_ANNOTATION, "")
