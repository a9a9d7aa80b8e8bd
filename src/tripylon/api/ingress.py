"""Ingress and IngressClass: how requests came into a cluster before the Gateway API, read for whoever still has them.

What an Ingress means in terms of listeners and routes is worked out in `model/`; here are only the words and the rules
that a schema can state.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.core import LoadBalancerStatus
from tripylon.api.markers import Items, Part, Rule, Text
from tripylon.api.meta import Hostname, ObjectName, Port, Resource

NETWORKING_GROUP = "networking.k8s.io"
"""API group of Kubernetes' own kinds of networking."""

# --- Ingress: where requests go -----------------------------------------------------------------------------


class ServiceBackendPort(Part, frozen=True, gc=False, kw_only=True):
    """A port of a Service."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.name) != has(self.number)",
            message="must have exactly one of `name` and `number`; add or remove one",
            reason="FieldValueRequired",
        ),
    )

    name: Annotated[str, Text(max=63)] = ""
    """Its name; empty: `number` is given."""
    number: Port | None = None
    """Its number, 1 to 65535; absent: `name` is given."""


class IngressServiceBackend(Part, frozen=True, gc=False, kw_only=True):
    """A Service of the same namespace."""

    name: ObjectName
    """Name of the Service."""
    port: ServiceBackendPort
    """Port of the Service."""


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
            message="must have exactly one of `service` and `resource`; add or remove one",
            reason="FieldValueRequired",
        ),
    )

    service: IngressServiceBackend | None = None
    """The Service."""
    resource: TypedLocalObjectReference | None = None
    """An object of another kind; none are served."""


# --- Ingress: rules -----------------------------------------------------------------------------------------


class HTTPIngressPath(Part, frozen=True, gc=False, kw_only=True):
    """Requests by their path, and where they go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.pathType == 'ImplementationSpecific' || (has(self.path) && self.path.startsWith('/'))",
            message="must be given and begin with '/', unless `pathType` is ImplementationSpecific",
            field_path=".path",
        ),
    )

    path: str = ""
    """The path; empty, which only `ImplementationSpecific` allows: every path."""
    path_type: Annotated[str, Text(values=("Exact", "Prefix", "ImplementationSpecific"))]
    """`Exact`, `Prefix` (whole parts of the path) or `ImplementationSpecific` (the same as `Prefix`)."""
    backend: IngressBackend
    """Where the requests go."""


class HTTPIngressRule(Part, frozen=True, gc=False, kw_only=True):
    """What is done for a host."""

    paths: Annotated[tuple[HTTPIngressPath, ...], Items(min=1)]
    """By path, where requests go."""


class IngressRule(Part, frozen=True, gc=False, kw_only=True):
    """Requests for a host, and where they go."""

    host: Hostname = ""
    """The host, exact or with `*.` in front, which stands for one label; empty: every host."""
    http: HTTPIngressRule | None = None
    """By path, where requests go; absent: all go to the default backend."""


class IngressTLS(Part, frozen=True, gc=False, kw_only=True):
    """Hosts that are served by HTTPS, and their certificate."""

    hosts: Annotated[tuple[Hostname, ...], Items()] = ()
    """The hosts; empty: those that the certificate is for."""
    secret_name: str = ""
    """Name of the Secret with certificate and key, of the same namespace; empty: another Ingress names it."""


class IngressSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.rules) || has(self.defaultBackend)",
            message="must have `rules` or `defaultBackend`; say where requests go",
            reason="FieldValueRequired",
        ),
    )

    ingress_class_name: str = ""
    """Name of the IngressClass; empty: the annotation `kubernetes.io/ingress.class`, else the default class."""
    default_backend: IngressBackend | None = None
    """Where requests go that no rule is for; absent: they are answered with 404."""
    tls: Annotated[tuple[IngressTLS, ...], Items()] = ()
    """Hosts that are served by HTTPS."""
    rules: Annotated[tuple[IngressRule, ...], Items()] = ()
    """Where requests go, by host and path."""


class IngressStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about the Ingress."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    """Where it is reached."""


class Ingress(Resource, frozen=True, gc=False, kw_only=True):
    """Where requests for hosts and paths go."""

    GROUP: ClassVar[str] = NETWORKING_GROUP

    spec: IngressSpec
    """What is asked for."""
    status: IngressStatus = IngressStatus()
    """What the controller says about it."""


# --- IngressClass -------------------------------------------------------------------------------------------


class IngressClassParameters(Part, frozen=True, gc=False, kw_only=True):
    """An object with settings."""

    api_group: str = ""
    """API group of the object; empty for the core group."""
    kind: Annotated[str, Text(min=1)]
    """Kind of the object."""
    name: ObjectName
    """Name of the object."""
    scope: Annotated[str, Text(values=("Cluster", "Namespace"))] = "Cluster"
    """`Cluster` (default), or `Namespace`: the object lives in `namespace`."""
    namespace: str = ""
    """Namespace of the object; required when `scope` is `Namespace`, empty otherwise."""


class IngressClassSpec(Part, frozen=True, gc=False, kw_only=True):
    """Which controller serves the Ingresses of this class."""

    controller: Annotated[str, Text(max=250)] = ""
    """Name of the controller; Tripylon's is `gateway.tripylon.dev/controller`."""
    parameters: IngressClassParameters | None = None
    """Object with settings for all Ingresses of this class; absent: none."""


class IngressClass(Resource, frozen=True, gc=False, kw_only=True):
    """A class of Ingresses, and who serves them."""

    GROUP: ClassVar[str] = NETWORKING_GROUP

    spec: IngressClassSpec = IngressClassSpec()
    """Which controller serves them."""
