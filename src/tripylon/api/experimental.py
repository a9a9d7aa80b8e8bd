"""XBackend, XBackendTrafficPolicy and XTelemetryPolicy: kinds of the Gateway API's experimental group.

Their fields may change from one release to the next. `model/` works out what they mean; here are only the words and
the rules that a schema can state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from tripylon.api.filters import Fraction, HeaderName, HeaderValue
from tripylon.api.markers import Entries, Items, Number, Part, Rule, Text
from tripylon.api.meta import (
    QUALIFIED_NAMES,
    Condition,
    ControllerName,
    Duration,
    Port,
    PreciseHostname,
    Resource,
)
from tripylon.api.policies import BackendTLSPolicyValidation, PolicyStatus
from tripylon.api.refs import BackendObjectReference, LocalObjectReference, ParentReference, SecretObjectReference
from tripylon.api.routes import SessionPersistence

EXPERIMENTAL_GROUP = "gateway.networking.x-k8s.io"
"""API group of the Gateway API's kinds that may still change."""


def _only_for(field: str, name: str, value: str) -> tuple[Rule, Rule]:
    """A field that must be set when another has a certain value, and must not be set otherwise."""
    return (
        Rule(
            cel=f"self.{name} != '{value}' || has(self.{field})",
            message=f"must be set because `{name}` is {value}; add it",
            reason="FieldValueRequired",
            field_path=f".{field}",
        ),
        Rule(
            cel=f"self.{name} == '{value}' || !has(self.{field})",
            message=f"must not be set unless `{name}` is {value}; remove it",
            field_path=f".{field}",
        ),
    )


# --- XBackend: where it is ----------------------------------------------------------------------------------


class BackendEndpointSelector(Part, frozen=True, gc=False, kw_only=True):
    """Chooses pods of the namespace."""

    match_labels: Annotated[
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
        Entries(min=1, max=64),
        *QUALIFIED_NAMES,
    ]
    """Labels that a pod must have with exactly these values, 1 to 64."""


class ExternalHostname(Part, frozen=True, gc=False, kw_only=True):
    """A host outside the cluster."""

    hostname: Annotated[
        PreciseHostname,
        Rule(
            cel="!self.endsWith('.cluster.local')",
            message="must not be a name of the cluster; refer to the Service instead",
        ),
    ]
    """Its DNS name."""


class BackendPort(Part, frozen=True, gc=False, kw_only=True):
    """Where connections go."""

    EXTRA: ClassVar[Mapping[str, object]] = {"minProperties": 1}

    number: Port | None = None
    """Port, 1 to 65535."""


class XBackendTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS to the destination."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_only_for("clientCertificateRef", "mode", "ClientAndServer"),
        Rule(
            cel="self.mode != 'None' || !has(self.validation)",
            message="must not be set because `mode` is None; remove it or choose ServerOnly",
            field_path=".validation",
        ),
        Rule(
            cel="self.mode == 'None' || has(self.validation)",
            message="must be set because `mode` asks for TLS; say how the certificate is verified",
            reason="FieldValueRequired",
            field_path=".validation",
        ),
    )

    mode: Annotated[str, Text(values=("None", "ServerOnly", "ClientAndServer"))]
    """`None`: plain text. `ServerOnly`: TLS. `ClientAndServer`: TLS in which we show a certificate, too."""
    validation: BackendTLSPolicyValidation | None = None
    """How the destination's certificate is verified; for every mode but `None`."""
    client_certificate_ref: SecretObjectReference | None = None
    """Certificate with key that is shown to the destination; for mode `ClientAndServer`."""


# --- XBackend -----------------------------------------------------------------------------------------------

_TLS_WANTED = "(has(self.tls) && self.tls.mode != 'None')"


class XBackendSpec(Part, frozen=True, gc=False, kw_only=True):
    """What the destination is."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_only_for("externalHostname", "type", "ExternalHostname"),
        *_only_for("endpointSelector", "type", "EndpointSelector"),
        Rule(
            cel=f"!has(self.protocol) || self.protocol != 'H2C' || !{_TLS_WANTED}",
            message="must have the mode None because the protocol is H2C; use HTTP2 for HTTP/2 over TLS",
            field_path=".tls",
        ),
        Rule(
            cel=f"!has(self.protocol) || self.protocol != 'HTTP2' || {_TLS_WANTED}",
            message="must ask for TLS because the protocol is HTTP2; use H2C for HTTP/2 in plain text",
            field_path=".tls",
        ),
        Rule(
            cel=f"!has(self.protocol) || self.protocol != 'WSS' || {_TLS_WANTED}",
            message="must ask for TLS because the protocol is WSS; choose another mode",
            field_path=".tls",
        ),
        Rule(
            cel="!has(self.sessionPersistence) || self.type == 'EndpointSelector'",
            message="must not be set unless `type` is EndpointSelector; remove it",
            field_path=".sessionPersistence",
        ),
    )

    type: Annotated[str, Text(values=("ExternalHostname", "EndpointSelector"))]
    """`ExternalHostname`: a host outside the cluster. `EndpointSelector`: pods of the namespace."""
    external_hostname: ExternalHostname | None = None
    """The host, for type `ExternalHostname`."""
    endpoint_selector: BackendEndpointSelector | None = None
    """The pods, for type `EndpointSelector`."""
    port: BackendPort
    """Port of the host or of the pods."""
    protocol: Annotated[str, Text(values=("TCP", "HTTP", "HTTP2", "HTTP11", "H2C", "MCP", "GRPC", "WSS"))] = ""
    """What is spoken; empty: what the route speaks, HTTP/1.1 for an HTTPRoute."""
    tls: XBackendTLS = XBackendTLS(mode="None")
    """TLS to the destination; default: plain text."""
    session_persistence: SessionPersistence | None = None
    """Keeps the requests of one session at one pod; for type `EndpointSelector`."""


class BackendAncestorStatus(Part, frozen=True, gc=False, kw_only=True):
    """What one controller says about a destination under one Gateway."""

    ancestor_ref: ParentReference
    """The Gateway through which the destination is reached."""
    controller_name: ControllerName
    """The controller that wrote this."""
    conditions: Annotated[tuple[Condition, ...], Items(kind="map", keys=("type",))] = ()
    """State of the destination there: `Accepted`, `ResolvedRefs`."""


class XBackendStatus(Part, frozen=True, gc=False, kw_only=True):
    """What controllers say about the destination."""

    ancestors: Annotated[tuple[BackendAncestorStatus, ...], Items(max=32)] = ()
    """One entry per Gateway and controller, at most 32."""


class XBackend(Resource, frozen=True, gc=False, kw_only=True):
    """A destination that is no Service: a host outside the cluster, or pods."""

    GROUP: ClassVar[str] = EXPERIMENTAL_GROUP

    spec: XBackendSpec
    """What the destination is."""
    status: XBackendStatus | None = None
    """What controllers say about it."""


# --- XBackendTrafficPolicy ----------------------------------------------------------------------------------


class RetryBudget(Part, frozen=True, gc=False, kw_only=True):
    """How many of the requests may be retries."""

    percent: Annotated[int, Number(min=0, max=100, format="")] = 20
    """Share of the requests in flight that may be retries, in percent, 0 to 100; default 20; 0: none."""
    interval: Annotated[
        Duration,
        Rule(
            cel="!(duration(self) < duration('1s') || duration(self) > duration('1h'))",
            message="must be between one second and one hour",
        ),
    ] = "10s"
    """Span of time over which requests are counted, 1s to 1h; default 10s."""


class RequestRate(Part, frozen=True, gc=False, kw_only=True):
    """A number of requests within a span of time."""

    count: Annotated[int, Number(min=1, max=1_000_000, format="")] = 0
    """Number of requests, 1 to 1,000,000; absent: not said."""
    interval: Annotated[
        Duration,
        Rule(
            cel="!(duration(self) == duration('0s') || duration(self) > duration('1h'))",
            message="must be longer than nothing and at most one hour",
        ),
    ] = ""
    """The span of time, at most 1h; empty: not said."""


class RetryConstraint(Part, frozen=True, gc=False, kw_only=True):
    """Bounds of retries, so that they do not bury a backend that struggles."""

    budget: RetryBudget = RetryBudget()
    """Share of the requests that may be retries; default 20 percent."""
    min_retry_rate: RequestRate = RequestRate(count=10, interval="1s")
    """Retries that are allowed whatever the budget says; default 10 in a second."""


class XBackendTrafficPolicySpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    target_refs: Annotated[
        tuple[LocalObjectReference, ...], Items(min=1, max=16, kind="map", keys=("group", "kind", "name"))
    ]
    """Services of the same namespace that it is for, 1 to 16."""
    retry_constraint: RetryConstraint | None = None
    """Bounds of retries towards them; absent: none but the routes' own."""
    session_persistence: SessionPersistence | None = None
    """Keeps the requests of one session at one endpoint; absent: not."""


class XBackendTrafficPolicy(Resource, frozen=True, gc=False, kw_only=True):
    """Says how requests are spread over a Service's endpoints, and how often they are tried again."""

    GROUP: ClassVar[str] = EXPERIMENTAL_GROUP

    spec: XBackendTrafficPolicySpec
    """What is asked for."""
    status: PolicyStatus | None = None
    """What controllers say about it."""


# --- XTelemetryPolicy ---------------------------------------------------------------------------------------

_Mode = Annotated[str, Text(values=("Enabled", "Disabled", "ImplementationDefault"))]
_DottedName = r"[a-zA-Z0-9_.:/-]+"


def _needs_enabled(field: str) -> Rule:
    return Rule(
        cel=f"!has(self.{field}) || self.mode == 'Enabled'",
        message="must not be set unless `mode` is Enabled; remove it or change the mode",
        field_path=f".{field}",
    )


class TelemetryHeader(Part, frozen=True, gc=False, kw_only=True):
    """A header that is sent with telemetry."""

    name: HeaderName
    """Name of the header."""
    value: HeaderValue
    """Its value."""


class TracingProvider(Part, frozen=True, gc=False, kw_only=True):
    """Where spans are sent."""

    backend_ref: BackendObjectReference
    """The collector."""
    headers: Annotated[tuple[TelemetryHeader, ...], Items(max=16, kind="map", keys=("name",))] = ()
    """Headers that go with what is sent, at most 16, such as a token."""


class ParentBasedSampling(Part, frozen=True, gc=False, kw_only=True):
    """Whether the decision of who sent the request holds."""

    RULES: ClassVar[tuple[Rule, ...]] = (_needs_enabled("samplingRate"),)

    mode: _Mode = "ImplementationDefault"
    """`Enabled`, `Disabled` or `ImplementationDefault` (default)."""
    sampling_rate: Fraction | None = None
    """Share of the requests whose sender decided for a trace that are traced."""


class TracingAttribute(Part, frozen=True, gc=False, kw_only=True):
    """An attribute of each span."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_only_for("headerName", "sourceType", "Header"),
        *_only_for("literalValue", "sourceType", "Literal"),
        *_only_for("attributeKey", "sourceType", "Attribute"),
    )

    name: Annotated[
        str, Text(min=1, max=256, pattern=f"^{_DottedName}$", words="letters, digits and '_', '.', ':', '/', '-'")
    ]
    """Name of the attribute."""
    source_type: Annotated[str, Text(values=("Header", "Literal", "Attribute"))]
    """Where its value comes from: `Header`, `Literal` or `Attribute`."""
    header_name: HeaderName = ""
    """Name of the request's header that holds the value; for `Header`."""
    literal_value: Annotated[str, Text(min=1, max=1024)] = ""
    """The value; for `Literal`."""
    attribute_key: Annotated[
        str, Text(min=1, max=256, pattern="^[a-z0-9_.-]+$", words="lower-case letters, digits and '_', '.', '-'")
    ] = ""
    """The attribute of the proxy that holds the value; for `Attribute`."""


class Tracing(Part, frozen=True, gc=False, kw_only=True):
    """Which requests are traced, and where their spans go."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *_only_for("provider", "mode", "Enabled"),
        _needs_enabled("samplingRate"),
        _needs_enabled("parentBasedSampling"),
        _needs_enabled("serviceName"),
        _needs_enabled("spanName"),
        _needs_enabled("attributes"),
    )

    mode: _Mode = "ImplementationDefault"
    """`Enabled`, `Disabled` or `ImplementationDefault` (default)."""
    provider: TracingProvider | None = None
    """Where spans are sent; for mode `Enabled`."""
    sampling_rate: Fraction | None = None
    """Share of the requests that are traced where nobody decided before."""
    parent_based_sampling: ParentBasedSampling | None = None
    """Whether the decision of who sent the request holds."""
    service_name: Annotated[
        str, Text(min=1, max=253, pattern=f"^{_DottedName}$", words="letters, digits and '_', '.', ':', '/', '-'")
    ] = ""
    """Name of the service that spans carry; empty: the proxy's own."""
    span_name: Annotated[
        str,
        Text(
            min=1,
            max=256,
            pattern=f"^{_DottedName}( {_DottedName})*$",
            words="words of letters, digits and '_', '.', ':', '/', '-' with single spaces between them",
        ),
    ] = ""
    """Name of each span; empty: the proxy's own."""
    attributes: Annotated[tuple[TracingAttribute, ...], Items(kind="map", keys=("name",))] = ()
    """Attributes that each span gets."""


class XTelemetryPolicySpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.tracing)",
            message="must be set, as there is nothing else to ask for; add it",
            reason="FieldValueRequired",
            field_path=".tracing",
        ),
    )

    target_refs: Annotated[tuple[LocalObjectReference, ...], Items(min=1, max=16)]
    """Gateways of the same namespace that it is for, 1 to 16."""
    tracing: Tracing | None = None
    """Which requests are traced, and where their spans go."""


class XTelemetryPolicy(Resource, frozen=True, gc=False, kw_only=True):
    """Says what a Gateway tells about the requests it serves."""

    GROUP: ClassVar[str] = EXPERIMENTAL_GROUP

    spec: XTelemetryPolicySpec
    """What is asked for."""
    status: PolicyStatus | None = None
    """What controllers say about it."""
