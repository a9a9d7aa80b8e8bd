"""XBackend: a destination that states its own protocol and TLS (experimental channel, GEP-4894).

How it is reached is worked out in `model/x_backends.py`; here are only the words and the rules that a schema can state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from tripylon.api.markers import Entries, Items, Part, Rule, Text
from tripylon.api.meta import QUALIFIED_NAMES, Condition, ControllerName, Port, PreciseHostname, Resource
from tripylon.api.policies import BackendTLSPolicyValidation
from tripylon.api.refs import ParentReference, SecretObjectReference
from tripylon.api.routes import SessionPersistence

X_GROUP = "gateway.networking.x-k8s.io"
"""API group of kinds that are tried out."""


def only_for(field: str, name: str, value: str) -> tuple[Rule, Rule]:
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


class XBackendPort(Part, frozen=True, gc=False, kw_only=True):
    """The port of a destination."""

    EXTRA: ClassVar[Mapping[str, object]] = {"minProperties": 1}

    number: Port | None = None
    """Port of the host, or of the pods, 1 to 65535."""


class ExternalHostname(Part, frozen=True, gc=False, kw_only=True):
    """A host outside the cluster."""

    hostname: Annotated[
        PreciseHostname,
        Rule(
            cel="!self.endsWith('.cluster.local')",
            message="must not be a name of the cluster (`.cluster.local`); refer to the Service instead",
        ),
    ]
    """DNS name of the host."""


class EndpointSelector(Part, frozen=True, gc=False, kw_only=True):
    """Pods of the namespace."""

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
    """Labels that a pod must carry, 1 to 64."""


class XBackendTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS to the hosts."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *only_for("clientCertificateRef", "mode", "ClientAndServer"),
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
    """`None`: plain text. `ServerOnly`: the host is verified. `ClientAndServer`: it is shown a certificate, too."""
    client_certificate_ref: SecretObjectReference | None = None
    """Certificate that is shown to the host, for mode `ClientAndServer`."""
    validation: BackendTLSPolicyValidation | None = None
    """How the host's certificate is verified; required unless the mode is `None`."""


_NO_TLS = XBackendTLS(mode="None")


_TLS_WANTED = "(has(self.tls) && self.tls.mode != 'None')"


class XBackendSpec(Part, frozen=True, gc=False, kw_only=True):
    """What the destination is."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *only_for("externalHostname", "type", "ExternalHostname"),
        *only_for("endpointSelector", "type", "EndpointSelector"),
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
    """`ExternalHostname` or `EndpointSelector`."""
    port: XBackendPort
    """The port of the host, or of the pods."""
    external_hostname: ExternalHostname | None = None
    """A host outside the cluster, for type `ExternalHostname`."""
    endpoint_selector: EndpointSelector | None = None
    """Pods of the namespace, for type `EndpointSelector`."""
    protocol: Annotated[str, Text(values=("TCP", "HTTP", "HTTP2", "HTTP11", "H2C", "MCP", "GRPC", "WSS"))] = ""
    """What is spoken: `HTTP`, `HTTP11`, `HTTP2` (by TLS), `H2C`, `GRPC`, `MCP`, `TCP`, `WSS`; absent: as the route."""
    tls: XBackendTLS = _NO_TLS
    """TLS to the hosts; default mode `None`, plain text."""
    session_persistence: SessionPersistence | None = None
    """Keeps the requests of one session at one pod, for type `EndpointSelector`."""


class XBackendAncestorStatus(Part, frozen=True, gc=False, kw_only=True):
    """What one controller says about a destination under one Gateway."""

    controller_name: ControllerName
    """The controller that wrote this."""
    ancestor_ref: ParentReference
    """The Gateway that reaches the destination."""
    conditions: Annotated[tuple[Condition, ...], Items(kind="map", keys=("type",))] = ()
    """State of the destination there: `Accepted`."""


class XBackendStatus(Part, frozen=True, gc=False, kw_only=True):
    """What controllers say about the destination."""

    ancestors: Annotated[tuple[XBackendAncestorStatus, ...], Items(max=32)] = ()
    """One entry per Gateway and controller, at most 32."""


class XBackend(Resource, frozen=True, gc=False, kw_only=True):
    """A destination with its own protocol and TLS, for routes of its namespace."""

    GROUP: ClassVar[str] = X_GROUP

    spec: XBackendSpec
    """What the destination is."""
    status: XBackendStatus = XBackendStatus()
    """What controllers say about it."""
