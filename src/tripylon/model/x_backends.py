"""XBackend: a destination with its own protocol and TLS (Gateway API, GEP-4894; experimental).

Its hosts are one external name, or the pods that carry some labels. Those come by EndpointSlices that say for which
XBackend they stand; in a cluster Kubernetes makes them for a headless Service that `kube/selectors.py` keeps. The
invariant: what cannot be verified as written is not reached at all. `backends.py` asks; which Gateways reach it is
worked out in `policy_ancestors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tripylon.api.policies import BackendTLSPolicyValidation
from tripylon.api.x_backends import XBackend, XBackendTLS
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.authorities import AuthorityFault, authority, is_supported, read_authorities
from tripylon.model.cluster_plans import BackendTls, ClusterPlan, Endpoint, EndpointsPlan
from tripylon.model.plan import ClusterKey, Protocol
from tripylon.model.sessions import faults_of
from tripylon.model.slices import endpoints
from tripylon.model.tls import parse_certificate
from tripylon.values import Built, Name, Ref, label_value
from tripylon.world.grants import may_refer
from tripylon.world.withheld import absence_of
from tripylon.world.world import SECRETS, SLICES_BY_X_BACKEND, X_BACKENDS

_HTTP1 = ("", "HTTP", "HTTP11", "MCP", "WSS")
_HTTP2 = ("", "HTTP", "HTTP2", "H2C", "GRPC")
_AS_STATED: dict[str, Protocol] = {"HTTP2": "http2", "H2C": "http2", "GRPC": "http2"}

X_BACKEND_VERDICTS: Table[Name, bool] = Table("xbackend verdicts")
"""Every XBackend, each with whether it can be reached as written, be it used or not."""


def derives() -> tuple[Derive[Any, Any], ...]:
    """The step that judges XBackends."""
    return (Derive(X_BACKEND_VERDICTS, (X_BACKENDS,), judge_x_backend),)


def judge_x_backend(read: Read, name: Name) -> Built[bool, Finding] | None:
    """Whether an XBackend can be reached as it is written; if not, a finding on itself says why."""
    backend = read.get(X_BACKENDS, name)
    if backend is None:
        return None
    fault = fault_of(read, backend)
    if fault is None:
        return Built(value=True, findings=tuple(_sessions(backend)))
    what, field = fault
    finding = Finding(
        object=backend.ref,
        condition="Accepted",
        reason="Invalid",
        message=f"XBackend `{name}` {what}",
        hint="Correct it; until then requests for it are answered with 500",
        field=field,
    )
    return Built(value=False, findings=(finding,))


def _sessions(backend: XBackend) -> Iterator[Finding]:
    """What of its sessions is not as it is written."""
    persistence = backend.spec.session_persistence
    for fault in faults_of(persistence) if persistence is not None else ():
        yield Finding(
            object=backend.ref,
            severity="warning" if fault.kept else "error",
            condition="Accepted",
            reason="UnsupportedValue" if fault.kept else "Invalid",
            message=f"XBackend `{backend.key}` {fault.what}",
            hint=fault.hint,
            field=f"spec.sessionPersistence{fault.field}",
        )


def protocol_of(backend: XBackend, speaks: Protocol | None) -> Protocol | None:
    """What is spoken to an XBackend by a route that asks for a protocol, or for none; None: that cannot be."""
    stated = backend.spec.protocol
    match speaks:
        case "udp":
            return None
        case "tcp":
            return "tcp"
        case "http2":
            return "http2" if stated in _HTTP2 else None
        case _:
            return _AS_STATED.get(stated, "http1") if stated in (*_HTTP1, *_HTTP2) else None


def fault_of(read: Read, backend: XBackend) -> tuple[str, str] | None:
    """What is wrong with an XBackend, as the end of a sentence about it, and in which field; None: nothing."""
    if backend.spec.port.number is None:
        return "states no port", "spec.port"
    tls = _tls(read, backend)
    if isinstance(tls, str):
        return f"cannot be reached by TLS: {tls}", "spec.tls"
    return None


def is_by_tls(backend: XBackend) -> bool:
    """Whether it is reached by TLS."""
    return backend.spec.tls.mode != "None"


def plan_x_backend(read: Read, key: ClusterKey) -> ClusterPlan | None:
    """How an XBackend is reached; None when it cannot be."""
    backend = read.get(X_BACKENDS, Name(key.namespace, key.name))
    if backend is None:
        return None
    tls = _tls(read, backend)
    if isinstance(tls, str) or (tls is not None) != key.tls:
        return None
    if backend.spec.external_hostname is not None:
        return ClusterPlan(key, "dns", tls, lookup_family="All")  # whichever of IPv6 and IPv4 leads there
    return ClusterPlan(key, "endpoints", tls)


def x_backend_endpoints(read: Read, key: ClusterKey) -> EndpointsPlan:
    """The host, or the pods that take requests."""
    name = Name(key.namespace, key.name)
    backend = read.get(X_BACKENDS, name)
    port = backend.spec.port.number if backend is not None else None
    if backend is None or port is None:
        return EndpointsPlan(key, ())
    if backend.spec.external_hostname is not None:
        return EndpointsPlan(key, (Endpoint(backend.spec.external_hostname.hostname, port),))
    slices = read.lookup(SLICES_BY_X_BACKEND, Name(name.namespace, label_value(name.name)))
    return EndpointsPlan(key, endpoints(slices, lambda _: port))


# --- TLS -------------------------------------------------------------------------------------------------------------


def _tls(read: Read, backend: XBackend) -> BackendTls | str | None:
    """How the hosts are reached by TLS; None: in plain text; a text: why it cannot be done."""
    tls = backend.spec.tls
    if tls.mode == "None":
        return None
    if tls.validation is None:
        return "`validation` is missing"
    ca = _authorities(read, backend, tls.validation)
    if isinstance(ca, str):
        return ca
    shown = _client(read, backend, tls) if tls.mode == "ClientAndServer" else (b"", b"")
    if isinstance(shown, str):
        return shown
    names = tuple(each.uri if each.type == "URI" else each.hostname for each in tls.validation.subject_alt_names)
    return BackendTls(tls.validation.hostname, names, ca=ca, client_chain=shown[0], client_key=shown[1])


def _authorities(read: Read, backend: XBackend, validation: BackendTLSPolicyValidation) -> bytes | str:
    """The authorities in PEM, nothing for the system's; a text: why there are none."""
    if validation.well_known_ca_certificates not in ("", "System"):
        return f"the authorities `{validation.well_known_ca_certificates}` are not known"
    bundles: list[bytes] = []
    for ref in validation.ca_certificate_refs:
        target = authority(ref.group, ref.kind, backend.metadata.namespace, ref.name)
        if not is_supported(read, target):
            return f"it refers to authorities of kind {ref.group or 'core'}/{ref.kind}, which is not supported"
        found = read_authorities(read, target)
        if isinstance(found, AuthorityFault):
            return f"it {found.what}"
        bundles.append(found)
    return b"\n".join(bundles)


def _client(read: Read, backend: XBackend, tls: XBackendTLS) -> tuple[bytes, bytes] | str:
    """The certificate that is shown and its key; a text: why it cannot be had."""
    ref = tls.client_certificate_ref
    if ref is None:
        return "`clientCertificateRef` is missing"
    target = Ref(ref.group, ref.kind, ref.namespace or backend.metadata.namespace, ref.name)
    if (target.group, target.kind) != ("", "Secret"):
        return f"its client certificate is of kind {ref.group or 'core'}/{ref.kind}, and must be a Secret"
    if not may_refer(read, backend.ref, target):
        return f"it may not use Secret `{target.key}` of another namespace"
    secret = read.get(SECRETS, target.key)
    if secret is None:
        return f"Secret `{target.key}` with the client certificate {absence_of(read, target, '').what}"
    certificate = parse_certificate(target.key, secret)
    if certificate.fault:
        return f"Secret `{target.key}` {certificate.fault}"
    return certificate.chain, certificate.key
