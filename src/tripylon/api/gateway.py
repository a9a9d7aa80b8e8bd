"""GatewayClass and Gateway: where requests come in.

What listeners mean together (conflicts, isolation, certificates) is worked out in `model/gateways.py`; here are only
the words and the rules that a schema can state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from tripylon.api.filters import ExternalAuth, present_by_type
from tripylon.api.markers import Entries, Items, Number, Part, Rule, Text
from tripylon.api.meta import (
    GATEWAY_GROUP,
    HOSTNAME_PATTERN,
    QUALIFIED_KEYS,
    Conditions,
    ControllerName,
    Group,
    Hostname,
    KindName,
    LabelSelector,
    ObjectName,
    Port,
    Resource,
    SectionName,
    pending,
)
from tripylon.api.refs import LocalObjectReference, ObjectReference, ParametersReference, SecretObjectReference

_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

# --- GatewayClass -------------------------------------------------------------------------------------------


class GatewayClassSpec(Part, frozen=True, gc=False, kw_only=True):
    """Which controller serves the Gateways of this class, and how."""

    controller_name: Annotated[
        ControllerName,
        Rule(cel="self == oldSelf", message="cannot be changed; make another GatewayClass instead"),
    ]
    """Name of the controller as a domain and a path; Tripylon's is `gateway.tripylon.dev/controller`."""
    parameters_ref: ParametersReference | None = None
    """Object with settings for all Gateways of this class; absent: the controller's own defaults."""
    description: Annotated[str, Text(max=64)] = ""
    """What the class is for, in at most 64 characters."""


class SupportedFeature(Part, frozen=True, gc=False, kw_only=True):
    """A feature of the Gateway API that the controller offers."""

    name: str
    """Name of the feature, such as `HTTPRouteQueryParamMatching`."""


class GatewayClassStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about the class."""

    conditions: Conditions = pending("Accepted")
    """State of the class: `Accepted`, `SupportedVersion`."""
    supported_features: Annotated[tuple[SupportedFeature, ...], Items(max=64, kind="map", keys=("name",))] = ()
    """Features offered, in the order of their names."""


class GatewayClass(Resource, frozen=True, gc=False, kw_only=True):
    """A kind of gateway that users may ask for by name."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: GatewayClassSpec
    """What the class is."""
    status: GatewayClassStatus = GatewayClassStatus()
    """What the controller says about it."""


# --- Gateway: who may attach --------------------------------------------------------------------------------


class RouteGroupKind(Part, frozen=True, gc=False, kw_only=True):
    """A kind of route."""

    group: Group = GATEWAY_GROUP
    """API group of the kind; default `gateway.networking.k8s.io`."""
    kind: KindName
    """The kind, such as `HTTPRoute`."""


class RouteNamespaces(Part, frozen=True, gc=False, kw_only=True):
    """Namespaces whose routes may attach."""

    from_: Annotated[str, Text(values=("All", "Selector", "Same"))] = msgspec.field(name="from", default="Same")
    """`All`, `Same` (default: the Gateway's own) or `Selector` (those that `selector` chooses)."""
    selector: LabelSelector | None = None
    """Chooses namespaces by their labels; only read when `from` is `Selector`."""


class AllowedRoutes(Part, frozen=True, gc=False, kw_only=True):
    """Which routes may attach to a listener."""

    namespaces: RouteNamespaces = RouteNamespaces()
    """Where the routes may live; default: the Gateway's namespace."""
    kinds: Annotated[tuple[RouteGroupKind, ...], Items(max=8)] = ()
    """Kinds of routes; empty: all that fit the listener's protocol."""


class ListenerNamespaces(Part, frozen=True, gc=False, kw_only=True):
    """Namespaces whose ListenerSets may attach."""

    from_: Annotated[str, Text(values=("All", "Selector", "Same", "None"))] = msgspec.field(name="from", default="None")
    """`None` (default), `All`, `Same` (the Gateway's own) or `Selector` (those that `selector` chooses)."""
    selector: LabelSelector | None = None
    """Chooses namespaces by their labels; only read when `from` is `Selector`."""


class AllowedListeners(Part, frozen=True, gc=False, kw_only=True):
    """Which ListenerSets may add listeners to a Gateway."""

    namespaces: ListenerNamespaces = ListenerNamespaces()
    """Where the ListenerSets may live; default: nowhere."""


# --- Gateway: listeners -------------------------------------------------------------------------------------


class ListenerTLS(Part, frozen=True, gc=False, kw_only=True):
    """How a listener handles TLS."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=(
                "self.mode != 'Terminate' || (has(self.certificateRefs) && size(self.certificateRefs) > 0)"
                " || (has(self.options) && size(self.options) > 0)"
            ),
            message="must name a certificate (or `options` must be set) to terminate TLS; add a reference to a Secret",
            reason="FieldValueRequired",
            field_path=".certificateRefs",
        ),
    )

    mode: Annotated[str, Text(values=("Terminate", "Passthrough"))] = "Terminate"
    """`Terminate` (default): the gateway decrypts. `Passthrough`: the encrypted stream goes to the backend as it is."""
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], Items(max=64)] = ()
    """Certificates with keys, Secrets of type `kubernetes.io/tls`; the one that fits the server name is used."""
    options: Annotated[dict[str, Annotated[str, Text(min=0, max=4096)]], Entries(max=16)] = msgspec.field(
        default_factory=dict
    )
    """Settings of particular implementations."""


class ListenerFilter(Part, frozen=True, gc=False, kw_only=True):
    """A filter that runs before a route is chosen."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *present_by_type("externalAuth", "ExternalAuth"),
        *present_by_type("extensionRef", "ExtensionRef"),
    )

    type: Annotated[str, Text(values=("ExternalAuth", "ExtensionRef"))]
    """Which of the fields below is set."""
    external_auth: ExternalAuth | None = None
    """Asks another service whether the request may pass; for type `ExternalAuth`."""
    extension_ref: LocalObjectReference | None = None
    """An object that says what to do; for type `ExtensionRef`."""


class ListenerFilters(Part, frozen=True, gc=False, kw_only=True):
    """Filters of a listener."""

    requests: Annotated[tuple[ListenerFilter, ...], Items(max=16)] = ()
    """Filters that every request of the listener passes, in this order."""


class Listener(Part, frozen=True, gc=False, kw_only=True):
    """A port, protocol and host name at which a Gateway takes requests."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.filters) || self.protocol == 'HTTP' || self.protocol == 'HTTPS'",
            message="must not be set unless the protocol is HTTP or HTTPS; remove them",
            field_path=".filters",
        ),
        Rule(
            cel="!has(self.tls) || !(self.protocol in ['HTTP', 'TCP', 'UDP'])",
            message="must not be set because the protocol is neither HTTPS nor TLS; remove it or change the protocol",
            field_path=".tls",
        ),
        Rule(
            cel="self.protocol != 'HTTPS' || !has(self.tls) || self.tls.mode == 'Terminate'",
            message="must be Terminate because the protocol is HTTPS; use protocol TLS to pass streams through",
            field_path=".tls.mode",
        ),
        Rule(
            cel="self.protocol != 'TLS' || has(self.tls)",
            message="must be set because the protocol is TLS; add it with mode Terminate or Passthrough",
            reason="FieldValueRequired",
            field_path=".tls",
        ),
        Rule(
            cel="!has(self.hostname) || !(self.protocol in ['TCP', 'UDP'])",
            message="must not be set because the protocol is TCP or UDP, which know no host names; remove it",
            field_path=".hostname",
        ),
    )

    name: SectionName
    """Name of the listener, unique within the Gateway; routes name it by `sectionName`."""
    hostname: Hostname = ""
    """Host name served, exact or with `*.` in front; empty: all. Compared with the SNI (TLS) or the Host (HTTP)."""
    port: Port
    """Port, 1 to 65535; several listeners may share one."""
    protocol: Annotated[
        str,
        Text(
            min=1,
            max=255,
            pattern=rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|{_DOMAIN}\/[A-Za-z0-9]+$",
            words="a protocol such as HTTP, HTTPS, TLS, TCP or UDP, or one of your own such as 'example.com/name'",
        ),
    ]
    """`HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or a protocol of an implementation with its domain in front."""
    tls: ListenerTLS | None = None
    """TLS settings; required for HTTPS in practice and for TLS, forbidden for HTTP, TCP and UDP."""
    allowed_routes: AllowedRoutes = AllowedRoutes()
    """Which routes may attach; default: those of the Gateway's namespace whose kind fits the protocol."""
    filters: ListenerFilters | None = None
    """Filters before a route is chosen (experimental channel); only for HTTP and HTTPS."""


DIFFERENT_LISTENERS = Rule(
    cel=(
        "self.all(a, self.exists_one(b, a.port == b.port && a.protocol == b.protocol"
        " && (has(a.hostname) ? a.hostname : '') == (has(b.hostname) ? b.hostname : '')))"
    ),
    message="must differ in port, protocol or hostname; change or remove the listener that repeats another",
    reason="FieldValueDuplicate",
)

# --- Gateway: addresses -------------------------------------------------------------------------------------

_ADDRESS_TYPE = Annotated[
    str,
    Text(
        min=1,
        max=253,
        pattern=rf"^Hostname|IPAddress|NamedAddress|{_DOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$",
        words="IPAddress, Hostname, NamedAddress, or a type of your own such as 'example.com/name'",
    ),
]
_ADDRESS_BY_TYPE: Mapping[str, object] = {
    "oneOf": [
        {
            "properties": {
                "type": {"enum": ["IPAddress"]},
                "value": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
            }
        },
        {"properties": {"type": {"not": {"enum": ["IPAddress"]}}}},
    ]
}
_ROUTABILITY = Annotated[
    str,
    Text(max=253),
    Rule(
        cel=(
            "self in ['', 'Cluster'] || "
            f'(self.matches(r"""^{_DOMAIN}/.+$""") && !self.matches(r"""^([^/]*\\.)?k8s\\.io/"""))'
        ),
        message="must be empty, `Cluster`, or a word of your own behind your domain and '/' (k8s.io is reserved)",
    ),
]


def _unique_addresses(kind: str) -> Rule:
    return Rule(
        cel=(
            f"self.all(a, a.type != '{kind}' || !has(a.value)"
            f" || self.exists_one(b, b.type == '{kind}' && has(b.value) && b.value == a.value))"
        ),
        message=f"must not have the same {kind} twice; remove one",
        reason="FieldValueDuplicate",
    )


class GatewaySpecAddress(Part, frozen=True, gc=False, kw_only=True):
    """An address that is asked for."""

    EXTRA: ClassVar[Mapping[str, object]] = _ADDRESS_BY_TYPE
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f'self.type != "Hostname" || !has(self.value) || self.value.matches(r"""{HOSTNAME_PATTERN}""")',
            message="must be a host name in lower case, or empty, because the type is Hostname",
            field_path=".value",
        ),
    )

    type: _ADDRESS_TYPE = "IPAddress"
    """`IPAddress` (default), `Hostname`, `NamedAddress`, or an implementation's own with its domain in front."""
    value: Annotated[str, Text(max=253)] = ""
    """The address; empty: any of the type."""
    routability: _ROUTABILITY = ""
    """From where it can be reached (experimental channel): `Cluster`, or an implementation's own; empty: not said."""


class GatewayStatusAddress(Part, frozen=True, gc=False, kw_only=True):
    """An address at which the Gateway is reached."""

    EXTRA: ClassVar[Mapping[str, object]] = _ADDRESS_BY_TYPE
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f'self.type != "Hostname" || self.value.matches(r"""{HOSTNAME_PATTERN}""")',
            message="must be a host name in lower case, because the type is Hostname",
            field_path=".value",
        ),
    )

    type: _ADDRESS_TYPE = "IPAddress"
    """`IPAddress` (default), `Hostname`, `NamedAddress`, or an implementation's own with its domain in front."""
    value: Annotated[str, Text(min=1, max=253)]
    """The address."""
    routability: _ROUTABILITY = ""
    """From where it can be reached (experimental channel); empty: not said."""


# --- Gateway: TLS towards clients and backends --------------------------------------------------------------


class FrontendTLSValidation(Part, frozen=True, gc=False, kw_only=True):
    """How certificates of clients are checked."""

    ca_certificate_refs: Annotated[
        tuple[ObjectReference, ...],
        Items(min=1, max=16),
        Rule(
            cel=(
                "!self.exists(r, r.group == 'certificates.k8s.io' && r.kind == 'ClusterTrustBundle'"
                " && has(r.__namespace__))"
            ),
            message="must not give a ClusterTrustBundle a namespace, because the kind has none; remove it",
        ),
    ]
    """Authorities of clients' certificates: ConfigMaps (key `ca.crt`), Secrets or ClusterTrustBundles."""
    mode: Annotated[str, Text(values=("AllowValidOnly", "AllowInsecureFallback"))] = "AllowValidOnly"
    """`AllowValidOnly` (default): others are refused. `AllowInsecureFallback`: clients without a valid one may pass."""


class FrontendTLSConfig(Part, frozen=True, gc=False, kw_only=True):
    """TLS settings towards clients."""

    validation: FrontendTLSValidation | None = None
    """How clients' certificates are checked; absent: clients need none."""


class PortTLSConfig(Part, frozen=True, gc=False, kw_only=True):
    """TLS settings towards clients of one port."""

    port: Port
    """The port, 1 to 65535."""
    tls: FrontendTLSConfig
    """Settings that replace the default ones."""


class FrontendTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS towards clients."""

    default: FrontendTLSConfig
    """Settings of every HTTPS port that `perPort` does not name."""
    per_port: Annotated[tuple[PortTLSConfig, ...], Items(max=64, kind="map", keys=("port",))] = ()
    """Settings of single ports."""


class BackendClientTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS towards backends."""

    client_certificate_ref: SecretObjectReference | None = None
    """Certificate that the gateway shows to backends that it reaches by TLS; absent: none."""


class GatewayTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS settings of a whole Gateway."""

    backend: BackendClientTLS | None = None
    """Towards backends."""
    frontend: FrontendTLS | None = None
    """Towards clients."""


# --- Gateway ------------------------------------------------------------------------------------------------


class GatewayInfrastructure(Part, frozen=True, gc=False, kw_only=True):
    """What the objects made for a Gateway look like."""

    labels: Annotated[
        dict[
            str,
            Annotated[
                str,
                Text(
                    min=0,
                    max=63,
                    pattern="^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
                    words="a label value: letters, digits, '-', '_' and '.'",
                ),
            ],
        ],
        Entries(max=8),
        *QUALIFIED_KEYS,
    ] = msgspec.field(default_factory=dict)
    """Labels of everything made for the Gateway, at most 8."""
    annotations: Annotated[
        dict[str, Annotated[str, Text(min=0, max=4096)]],
        Entries(max=16),
        *QUALIFIED_KEYS,
    ] = msgspec.field(default_factory=dict)
    """Annotations of everything made for the Gateway, at most 16."""
    parameters_ref: LocalObjectReference | None = None
    """Object with settings of this Gateway; it goes before that of the class."""


class GatewaySpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    gateway_class_name: ObjectName
    """Name of the GatewayClass."""
    listeners: Annotated[tuple[Listener, ...], Items(min=1, max=64, kind="map", keys=("name",)), DIFFERENT_LISTENERS]
    """Where requests come in, 1 to 64."""
    addresses: Annotated[
        tuple[GatewaySpecAddress, ...],
        Items(max=16),
        _unique_addresses("IPAddress"),
        _unique_addresses("Hostname"),
    ] = ()
    """Addresses asked for; empty: the implementation chooses."""
    infrastructure: GatewayInfrastructure | None = None
    """What the objects made for the Gateway look like."""
    allowed_listeners: AllowedListeners | None = None
    """Which ListenerSets may add listeners; absent: none."""
    tls: GatewayTLS | None = None
    """TLS settings of the whole Gateway."""
    default_scope: Annotated[str, Text(values=("All", "None"))] = ""
    """`All`: routes with `useDefaultGateways` attach here (experimental channel). Empty or `None`: they do not."""


class ListenerStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about one listener."""

    name: SectionName
    """Name of the listener."""
    supported_kinds: Annotated[tuple[RouteGroupKind, ...], Items(max=8)] = ()
    """Kinds of routes that may attach; empty: none."""
    attached_routes: Annotated[int, Number()]
    """Number of routes attached."""
    conditions: Conditions
    """State of the listener: `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted` and others."""


class GatewayStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about the Gateway."""

    addresses: Annotated[tuple[GatewayStatusAddress, ...], Items(max=16)] = ()
    """Addresses at which it is reached."""
    conditions: Conditions = pending("Accepted", "Programmed")
    """State of the Gateway: `Accepted`, `Programmed`, `ResolvedRefs`."""
    listeners: Annotated[tuple[ListenerStatus, ...], Items(max=64, kind="map", keys=("name",))] = ()
    """State of each listener."""
    attached_listener_sets: Annotated[int, Number()] = 0
    """Number of ListenerSets attached."""


class Gateway(Resource, frozen=True, gc=False, kw_only=True):
    """A place where requests come in: addresses, listeners, certificates."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: GatewaySpec
    """What is asked for."""
    status: GatewayStatus = GatewayStatus()
    """What the controller says about it."""
