"""XTelemetryPolicy → what a Gateway tells about the requests it serves: traces (GEP-4768, experimental).

One policy rules a Gateway: the oldest, then the first by namespace and name. The invariant: nothing of it is in the way
of a request; where spans cannot be sent as asked there are none, which is told, and all requests are served. What a
Gateway's listeners hold follows from the policy and from whether its collector takes OTLP by gRPC or by HTTP, which is
what its port says of itself (see `_speaks_http`): all else about a collector may change and break, and touches none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.refs import BackendObjectReference
from tripylon.api.x_policies import Tracing, TracingAttribute, XTelemetryPolicy
from tripylon.findings import Finding
from tripylon.graph import Derive, Read, Table
from tripylon.model.backends import PROTOCOLS_BY_TLS, Fault, import_port, resolve, service_port
from tripylon.model.client_certificates import CLIENT_CERTIFICATES, reached
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.plan import ClusterKey, SpanAttribute, TracingPlan
from tripylon.model.policy_findings import about_policy
from tripylon.model.route_plans import TRACING
from tripylon.model.x_backends import protocol_of
from tripylon.values import Built, Name, Ref
from tripylon.world.world import (
    BACKENDS,
    GATEWAYS,
    SERVICE_IMPORTS,
    SERVICES,
    TELEMETRY_POLICIES,
    TELEMETRY_POLICIES_BY_GATEWAY,
    X_BACKENDS,
)

ATTRIBUTE_KEYS = frozenset(
    (
        "client.address",
        "client.port",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "network.protocol.name",
        "network.transport",
        "server.address",
        "server.port",
        "url.full",
        "url.path",
        "url.query",
        "url.scheme",
        "user_agent.original",
    )
)
"""The attributes of a request by their OpenTelemetry names (GEP-5253), beside `http.request.header.` and a name."""
_HEADER_KEY = "http.request.header."
_OTLP_HTTP_PORT = 4318
"""Where collectors take OTLP by HTTP unless they are told otherwise (OpenTelemetry, OTLP specification)."""


class TelemetryVerdict(NamedTuple):
    """What one policy asks for, whatever becomes of it at each Gateway."""

    tracing: TracingPlan | None
    """None: nothing is traced, be it that nobody wants it or that it cannot be had."""
    told: tuple[int, ...]
    """Indexes of the targets under which its status has an entry."""


TELEMETRY_VERDICTS: Table[Name, TelemetryVerdict] = Table("telemetry policies resolved")


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from policies to what each gateway traces; they come after gateways."""
    return (
        Derive(TELEMETRY_VERDICTS, (TELEMETRY_POLICIES,), judge_policy),
        Derive(TRACING, (TELEMETRY_POLICIES_BY_GATEWAY,), judge_gateway),
    )


def judge_policy(read: Read, name: Name) -> Built[TelemetryVerdict, Finding] | None:
    """What a policy asks for, and whether it can be had."""
    policy = read.get(TELEMETRY_POLICIES, name)
    if policy is None:
        return None
    findings: list[Finding] = []
    told = tuple(_targets(read, policy, findings))
    tracing = policy.spec.tracing
    plan = _tracing(read, policy, tracing, findings) if tracing is not None and tracing.mode == "Enabled" else None
    return Built(TelemetryVerdict(plan, told), tuple(findings))


def _targets(read: Read, policy: XTelemetryPolicy, findings: list[Finding]) -> Iterator[int]:
    """The targets that are ours to tell about: our Gateways, and what is no Gateway at all."""
    seen: set[tuple[str, str, str]] = set()
    for index, target in enumerate(policy.spec.target_refs):
        identity = (target.group, target.kind, target.name)
        if identity in seen:
            continue
        seen.add(identity)
        name = Name(policy.key.namespace, target.name)
        if (target.group, target.kind) != (GATEWAY_GROUP, "Gateway"):
            what = f"is for a {target.group or 'core'}/{target.kind}, which no XTelemetryPolicy rules"
            findings.append(
                about_policy(policy, "TargetNotFound", what, "Name a Gateway", _target(index), parent=index)
            )
        elif read.get(GATEWAYS, name) is None:
            what = f"is for Gateway `{name}`, which does not exist"
            hint = "Create it, or correct the name"
            findings.append(about_policy(policy, "TargetNotFound", what, hint, _target(index), parent=index))
        elif read.get(GATEWAY_HEADS, name) is None:
            continue
        yield index


def judge_gateway(read: Read, gateway: Name) -> Built[TracingPlan, Finding] | None:
    """What a gateway traces: what the policy in force says. A finding tells every other one which that is."""
    if read.get(GATEWAY_HEADS, gateway) is None:
        return None
    first, *others = sorted(read.lookup(TELEMETRY_POLICIES_BY_GATEWAY, gateway), key=_age)
    findings = tuple(_conflict(policy, gateway, first.key) for policy in others)
    verdict = read.get(TELEMETRY_VERDICTS, first.key)
    plan = verdict.tracing if verdict is not None else None
    if plan is None:
        return Built(None, findings)
    collector = plan.collector
    if collector is not None:
        collector = reached(collector, read.get(CLIENT_CERTIFICATES, gateway))
    cluster = plan.cluster._replace(namespace=gateway.namespace, name=gateway.name)
    service = plan.service or f"{gateway.name}.{gateway.namespace}"
    return Built(replace(plan, cluster=cluster, collector=collector, service=service), findings)


def _age(policy: XTelemetryPolicy) -> tuple[bool, str, Name]:
    """The older first, then by name; what states no age comes last."""
    created = policy.metadata.creation_timestamp
    return (not created, created, policy.key)


def _conflict(policy: XTelemetryPolicy, gateway: Name, winner: Name) -> Finding:
    targets = policy.spec.target_refs
    index = next(i for i, each in enumerate(targets) if each.kind == "Gateway" and each.name == gateway.name)
    what = f"is not in force for Gateway `{gateway}`, which the older XTelemetryPolicy `{winner}` rules"
    return about_policy(policy, "Conflicted", what, "Remove one of the two", _target(index), parent=index)


# --- Tracing ---------------------------------------------------------------------------------------------------------


def _tracing(read: Read, policy: XTelemetryPolicy, tracing: Tracing, findings: list[Finding]) -> TracingPlan | None:
    if tracing.provider is None:
        return None
    ref = tracing.provider.backend_ref
    target, port = Ref(ref.group, ref.kind, ref.namespace or policy.key.namespace, ref.name), ref.port or 0
    by_http = _speaks_http(read, target, port)
    collector = _collector(read, policy, ref, by_http=by_http)
    if isinstance(collector, Fault):
        findings.append(_unreachable(policy, collector))
    parents = tracing.parent_based_sampling
    kept = parents.sampling_rate if parents is not None and parents.mode == "Enabled" else None
    if kept is not None and kept.numerator < kept.denominator:
        what = "keeps a share of the traces that others have begun, which cannot be done"
        hint = "Remove it, or have parent based sampling Disabled; until then all of them are kept"
        place = "spec.tracing.parentBasedSampling.samplingRate"
        findings.append(about_policy(policy, "UnsupportedValue", what, hint, place, severity="warning"))
    rate = tracing.sampling_rate
    return TracingPlan(
        policy=policy.key,
        cluster=ClusterKey("Collector", "", "", 0, "http1" if by_http else "http2"),
        collector=None if isinstance(collector, Fault) else collector,
        authority=_authority(target, port),
        headers=tuple((each.name, each.value) for each in tracing.provider.headers),
        numerator=rate.numerator if rate is not None else 1,
        denominator=rate.denominator if rate is not None else 1,
        follows=parents is None or parents.mode != "Disabled",
        service=tracing.service_name,
        span=tracing.span_name,
        attributes=tuple(_attributes(policy, tracing.attributes, findings)),
    )


def _attributes(
    policy: XTelemetryPolicy, wanted: Iterable[TracingAttribute], findings: list[Finding]
) -> Iterator[SpanAttribute]:
    for index, each in enumerate(wanted):
        match each.source_type:
            case "Header":
                yield SpanAttribute(each.name, "header", each.header_name.lower())
            case "Literal":
                yield SpanAttribute(each.name, "literal", each.literal_value)
            case _ if each.attribute_key.startswith(_HEADER_KEY) and each.attribute_key != _HEADER_KEY:
                yield SpanAttribute(each.name, "header", each.attribute_key.removeprefix(_HEADER_KEY))
            case _ if each.attribute_key in ATTRIBUTE_KEYS:
                yield SpanAttribute(each.name, "attribute", each.attribute_key)
            case _:
                what = f"asks for the attribute `{each.attribute_key}`, which is not known here"
                known = ", ".join(sorted(ATTRIBUTE_KEYS))
                hint = f"Use one of {known}, or {_HEADER_KEY} and a name; until then spans do not have it"
                place = f"spec.tracing.attributes[{index}].attributeKey"
                findings.append(about_policy(policy, "UnsupportedValue", what, hint, place, severity="warning"))


def _collector(
    read: Read, policy: XTelemetryPolicy, ref: BackendObjectReference, *, by_http: bool
) -> ClusterKey | Fault:
    """The collector, as it is to be spoken to: OTLP by gRPC needs HTTP/2."""
    found = resolve(read, policy.ref, ref)
    if isinstance(found, Fault) or by_http or found.protocol == "http2":
        return found
    return resolve(read, policy.ref, ref, grpc=True)


def _authority(target: Ref, port: int) -> str:
    """A Service's name in its cluster; the others have ports of their own."""
    host = f"{target.name}.{target.namespace}"
    return f"{host}:{port}" if target.kind in ("Service", "ServiceImport") else host


def _speaks_http(read: Read, target: Ref, port: int) -> bool:
    """Whether a collector takes OTLP by HTTP: it says so, or says nothing and has the port for it; else by gRPC.

    Of one that is not there, nothing is known but its port.
    """
    name, stated, spoken = target.key, "", None
    if target.kind == "Service" and (service := read.get(SERVICES, name)) is not None:
        found = service_port(service, port)
        stated = found.app_protocol if found is not None else ""
    elif target.kind == "ServiceImport" and (imported := read.get(SERVICE_IMPORTS, name)) is not None:
        offered = import_port(imported, port, "TCP")
        stated = offered.app_protocol if offered is not None else ""
    elif target.kind == "XBackend" and (x_backend := read.get(X_BACKENDS, name)) is not None:
        spoken = protocol_of(x_backend, None) if x_backend.spec.protocol else None
        port = x_backend.spec.port.number or 0
    elif target.kind == "Backend" and (backend := read.get(BACKENDS, name)) is not None:
        place = backend.spec.dns or backend.spec.static
        stated = place.app_protocol if place is not None else ""
        static = backend.spec.static.hosts if backend.spec.static is not None else ()
        port = backend.spec.dns.port if backend.spec.dns is not None else static[0].port if static else 0
    spoken = PROTOCOLS_BY_TLS.get(stated.lower()) if stated else spoken
    return spoken == "http1" or (spoken is None and port == _OTLP_HTTP_PORT)


# --- Findings --------------------------------------------------------------------------------------------------------


def _unreachable(policy: XTelemetryPolicy, fault: Fault) -> Finding:
    return about_policy(
        policy,
        fault.reason,
        fault.message,
        f"{fault.hint}; until then nothing is traced",
        "spec.tracing.provider.backendRef" + fault.field,
        condition="ResolvedRefs",
        severity=fault.severity,
    )


def _target(index: int) -> str:
    return f"spec.targetRefs[{index}]"
