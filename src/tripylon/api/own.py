"""Tripylon's own kinds. Their cluster definitions, reference pages and editor schemas are generated from these structs.

Fields carry kgateway's names where kgateway has the same thing, so that its manifests work with another `apiVersion`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from tripylon.api.markers import Default, Items, Part, Rule, Text
from tripylon.api.meta import Conditions, Duration, Group, KindName, ObjectName, Port, PreciseHostname, Resource

OWN_GROUP = "gateway.tripylon.dev"
"""API group of our kinds."""

_AppProtocol = Annotated[
    str,
    Text(values=("http", "http2", "h2c", "grpc", "grpc-web", "ws", "kubernetes.io/h2c", "kubernetes.io/ws")),
]


class BackendHost(Part, frozen=True, gc=False, kw_only=True):
    """One host."""

    host: Annotated[str, Text(min=1, max=253)]
    """IP address or DNS name."""
    port: Port
    """Port, 1 to 65535."""


class StaticBackend(Part, frozen=True, gc=False, kw_only=True):
    """Hosts that are listed; requests are spread over them evenly."""

    hosts: Annotated[tuple[BackendHost, ...], Items(min=1, max=256)]
    """The hosts, 1 to 256: IP addresses, or DNS names, which are looked up again as their records expire."""
    app_protocol: _AppProtocol = ""
    """What is spoken: `http` (empty means the same), `http2`, `h2c`, `grpc`, `grpc-web` or `ws`."""


class DNSBackend(Part, frozen=True, gc=False, kw_only=True):
    """A DNS name; requests are spread evenly over all addresses that it resolves to."""

    hostname: PreciseHostname
    """The name, in lower case."""
    port: Port
    """Port, 1 to 65535."""
    app_protocol: _AppProtocol = ""
    """What is spoken: `http` (empty means the same), `http2`, `h2c`, `grpc`, `grpc-web` or `ws`."""
    lookup_family: Annotated[str, Text(values=("Auto", "V4Only", "V6Only", "V4Preferred", "All"))] = "Auto"
    """Addresses asked for: `Auto` (default: IPv6 first, else IPv4), `V4Only`, `V6Only`, `V4Preferred` or `All`."""
    refresh_rate: Duration = "5s"
    """How often the name is looked up, when the records' own time to live is not respected; default `5s`."""
    respect_ttl: bool = msgspec.field(name="respectTTL", default=True)
    """Whether the time to live of the DNS records decides when they are looked up again; default true."""


class BackendSecretReference(Part, frozen=True, gc=False, kw_only=True):
    """A Secret of the same namespace."""

    name: ObjectName
    """Name of the Secret."""


class BackendCAReference(Part, frozen=True, gc=False, kw_only=True):
    """A ConfigMap or Secret of the same namespace with certificates of authorities under the key `ca.crt`."""

    group: Annotated[Group, Default("")] = ""
    """API group; default empty, the core group."""
    kind: Annotated[KindName, Text(values=("ConfigMap", "Secret"))] = "ConfigMap"
    """`ConfigMap` (default) or `Secret`."""
    name: ObjectName
    """Name of the object."""


class BackendTLS(Part, frozen=True, gc=False, kw_only=True):
    """TLS to the hosts. Without any field the host's certificate is checked by the system's authorities."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.caCertificateRefs) || !has(self.wellKnownCACertificates)",
            message="must not be set together with `wellKnownCACertificates`; remove one",
            field_path=".caCertificateRefs",
        ),
        Rule(
            cel=(
                "!self.insecureSkipVerify || !(has(self.caCertificateRefs) || has(self.wellKnownCACertificates)"
                " || has(self.verifySubjectAltNames))"
            ),
            message="must not be true where certificates are to be checked; remove it or what is checked",
            field_path=".insecureSkipVerify",
        ),
    )

    sni: PreciseHostname = ""
    """Server name sent to the host, and checked in its certificate; empty: the host's DNS name, or none for an IP."""
    ca_certificate_refs: Annotated[tuple[BackendCAReference, ...], Items(min=1, max=8)] = ()
    """Authorities that the host's certificate must come from, 1 to 8; absent: the system's."""
    well_known_ca_certificates: Annotated[str, Text(values=("System",))] = msgspec.field(
        name="wellKnownCACertificates", default=""
    )
    """`System`: the authorities that the system trusts, as when nothing is given."""
    secret_ref: BackendSecretReference | None = None
    """Certificate with key that is shown to the host, a Secret of type `kubernetes.io/tls`; absent: none."""
    verify_subject_alt_names: Annotated[
        tuple[Annotated[str, Text(min=1, max=253)], ...], Items(max=16, kind="set")
    ] = ()
    """Names of which the host's certificate must carry at least one; empty: the server name sent."""
    insecure_skip_verify: Annotated[bool, Default(False)] = False
    """Whether any certificate is accepted; default false. For trials only."""


class BackendSpec(Part, frozen=True, gc=False, kw_only=True):
    """What the destination is."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.static) != has(self.dns)",
            message="must have exactly one of `static` and `dns`; add or remove one",
            reason="FieldValueRequired",
        ),
        Rule(
            cel="!has(self.type) || (self.type == 'Static' ? has(self.static) : has(self.dns))",
            message="must agree with what is set, `static` or `dns`; change or remove it",
            field_path=".type",
        ),
    )

    type: Annotated[str, Text(values=("Static", "DNS"))] = ""
    """`Static` or `DNS`; may be left out, as it follows from which of the fields below is set."""
    static: StaticBackend | None = None
    """Hosts that are listed."""
    dns: DNSBackend | None = None
    """A DNS name with all its addresses."""
    tls: BackendTLS | None = None
    """TLS to the hosts; absent: plain text."""


class BackendStatus(Part, frozen=True, gc=False, kw_only=True):
    """What the controller says about the Backend."""

    conditions: Conditions = ()
    """State of the Backend: `Accepted`."""


class Backend(Resource, frozen=True, gc=False, kw_only=True):
    """A destination of requests that is no Service. Routes refer to it by group `gateway.tripylon.dev`."""

    GROUP: ClassVar[str] = OWN_GROUP

    spec: BackendSpec
    """What the destination is."""
    status: BackendStatus | None = None
    """What the controller says about it."""
