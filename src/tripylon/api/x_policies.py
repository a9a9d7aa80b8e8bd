"""XBackendTrafficPolicy and XTelemetryPolicy: policies of the Gateway API's experimental group.

Their fields may change from one release to the next. What they mean is worked out in `model/`; here are only the words
and the rules that a schema can state.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.filters import Fraction, HeaderName, HeaderValue
from tripylon.api.markers import Items, Number, Part, Rule, Text
from tripylon.api.meta import Duration, Resource
from tripylon.api.policies import PolicyStatus
from tripylon.api.refs import BackendObjectReference, LocalObjectReference
from tripylon.api.routes import SessionPersistence
from tripylon.api.x_backends import X_GROUP, only_for

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
    """Span of time over which requests are counted, 1s to 1h; default 10s. Not used: those under way are counted."""


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

    GROUP: ClassVar[str] = X_GROUP

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
        *only_for("headerName", "sourceType", "Header"),
        *only_for("literalValue", "sourceType", "Literal"),
        *only_for("attributeKey", "sourceType", "Attribute"),
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
        *only_for("provider", "mode", "Enabled"),
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
    """Share of the requests that are traced where nobody decided before; absent: all."""
    parent_based_sampling: ParentBasedSampling | None = None
    """Whether the decision of who sent the request holds."""
    service_name: Annotated[
        str, Text(min=1, max=253, pattern=f"^{_DottedName}$", words="letters, digits and '_', '.', ':', '/', '-'")
    ] = ""
    """Name of the service that spans carry; empty: the Gateway's name and namespace with a dot between them."""
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

    GROUP: ClassVar[str] = X_GROUP

    spec: XTelemetryPolicySpec
    """What is asked for."""
    status: PolicyStatus | None = None
    """What controllers say about it."""
