"""What Services and EndpointSlices say without effect, told on them.

The invariant: nothing here changes what is served; clusters and endpoints are made in `backends.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tripylon.api.core import SERVICE_NAME_LABEL, EndpointSlice, Service
from tripylon.api.meta import Resource
from tripylon.findings import Finding, Severity
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.options import Options
from tripylon.model.policy_ancestors import users
from tripylon.model.slices import can_be_sent
from tripylon.values import Built, Name
from tripylon.world.world import ENDPOINT_SLICES, SERVICES


def _belongs(slice_: EndpointSlice) -> bool:
    """Whether a slice stands for a Service, a ServiceImport or an XBackend."""
    return bool(slice_.service_name or slice_.import_name or slice_.x_backend)


SLICES_LEFT_OUT: Index[Name, Name, EndpointSlice] = Index(
    "endpointslices with what gets no requests",
    ENDPOINT_SLICES,
    lambda key, slice_: (
        (key,) if not _belongs(slice_) or any(not can_be_sent(each.addresses) for each in slice_.endpoints) else ()
    ),
)
SLICE_VERDICTS: Table[Name, bool] = Table("endpointslice verdicts")
"""The EndpointSlices of which something cannot be used."""
CHOOSY_SERVICES: Index[Name, Name, Service] = Index(
    "services that choose among endpoints",
    SERVICES,
    lambda key, service: (
        (key,) if service.spec.session_affinity == "ClientIP" or service.spec.traffic_distribution else ()
    ),
)
SERVICE_VERDICTS: Table[Name, bool] = Table("service verdicts")
"""The Services that ask for a choice among endpoints which is not made."""


def derives(options: Options) -> tuple[Derive[Any, Any], ...]:
    """The steps that judge Services and EndpointSlices."""
    return (
        Derive(SLICE_VERDICTS, (SLICES_LEFT_OUT,), lambda read, name: judge_slice(read, name, options)),
        Derive(SERVICE_VERDICTS, (CHOOSY_SERVICES,), judge_service),
    )


def judge_slice(read: Read, name: Name, options: Options) -> Built[bool, Finding] | None:
    """Says which endpoints of an EndpointSlice get no requests: no Service has them, or they have no IP address."""
    slice_ = read.get(ENDPOINT_SLICES, name)
    if slice_ is None:
        return None
    if not _belongs(slice_):
        if not options.standalone:
            return None
        what, hint = "belongs to no Service", f"Name one by the label `{SERVICE_NAME_LABEL}`"
        field = "metadata.labels"
    elif slice_.address_type == "FQDN":
        what, hint = "holds host names, which are not looked up", "Use a Backend with `dns` for them"
        field = "addressType"
    else:
        place, bad = next((i, each) for i, each in enumerate(slice_.endpoints) if not can_be_sent(each.addresses))
        stated = f"`{bad.addresses[0]}`" if bad.addresses else "nothing"
        what, hint = f"has an endpoint with {stated} for an IP address", "Correct it"
        field = f"endpoints[{place}].addresses"
    message = f"EndpointSlice `{name}` {what}; no requests go there"
    return Built(value=False, findings=(_finding(slice_, "UnsupportedAddress", message, hint, field),))


def judge_service(read: Read, name: Name) -> Built[bool, Finding] | None:
    """Says what a Service that some route uses asks for in vain."""
    service = read.get(SERVICES, name)
    if service is None or not _is_used(read, service):
        return None
    return Built(value=False, findings=tuple(_unheeded(service)))


def _is_used(read: Read, service: Service) -> bool:
    return any(True for _ in users(read, service.key))


def _unheeded(service: Service) -> Iterator[Finding]:
    subject, rest = f"Service `{service.key}`", "which is not supported; requests are spread over all endpoints"
    if service.spec.session_affinity == "ClientIP":
        message = f"{subject} asks that each client keeps its endpoint, {rest}"
        yield _finding(service, "UnsupportedValue", message, "Do not rely on it", "spec.sessionAffinity")
    if service.spec.traffic_distribution:
        message = f"{subject} asks for {service.spec.traffic_distribution}, {rest}"
        hint = "Do not rely on it for what comes through a gateway"
        yield _finding(service, "UnsupportedValue", message, hint, "spec.trafficDistribution", severity="info")


def _finding(
    about: Resource, reason: str, message: str, hint: str, field: str, *, severity: Severity = "warning"
) -> Finding:
    return Finding(
        object=about.ref,
        severity=severity,
        condition="Accepted",
        reason=reason,
        message=message,
        hint=hint,
        field=field,
    )
