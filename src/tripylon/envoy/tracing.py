"""What a gateway traces, by Envoy's OpenTelemetry tracer: a span for each request, sent to a collector by OTLP.

The tracer is part of the connection manager, so a change of it drains the gateway's listeners; hence it names the
collector by the gateway, and a collector that moves or breaks is another content of that cluster. The invariant: who
has begun a trace is told on to the backend (W3C `traceparent`), whether or not the request is traced here.
"""

from __future__ import annotations

from types import MappingProxyType

from tripylon.envoy import names
from tripylon.envoy.source import duration
from tripylon.model.plan import TracingPlan
from tripylon.pb import pack
from tripylon.pb.messages import (
    AlwaysOnSamplerConfig,
    FractionalPercent,
    HeaderValue,
    HttpTracing,
    OpenTelemetryConfig,
    ParentBasedSamplerConfig,
    TraceIdRatioBasedSamplerConfig,
    TypedExtensionConfig,
)

_TIMEOUT_MS = 5_000
_MILLION = 1_000_000
_SAMPLERS = "envoy.tracers.opentelemetry.samplers."
FORMATS = MappingProxyType(
    {
        "client.address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "client.port": "%DOWNSTREAM_REMOTE_PORT%",
        "http.request.method": "%REQ(:METHOD)%",
        "http.response.status_code": "%RESPONSE_CODE%",
        "http.route": "%ROUTE_NAME%",
        "network.protocol.name": "http",
        "network.transport": "tcp",
        "server.address": "%REQ(:AUTHORITY)%",
        "server.port": "%DOWNSTREAM_LOCAL_PORT%",
        "url.full": "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%%REQ(:PATH)%",
        "url.path": "%PATH(NQ)%",
        "url.query": "%QUERY_PARAMS(ORIG)%",
        "url.scheme": "%REQ(:SCHEME)%",
        "user_agent.original": "%REQ(USER-AGENT)%",
    }
)
"""What each attribute is in Envoy's words."""


def tracing(plan: TracingPlan) -> HttpTracing:
    """The tracing of a connection manager. Whether a request is traced is left to the sampler alone."""
    built = HttpTracing(operation=plan.span)
    for each in plan.attributes:
        tag = built.custom_tags.add()
        tag.tag = each.name
        match each.source:
            case "header":
                tag.request_header.name = each.value
            case "literal":
                tag.literal.value = each.value
            case "attribute":
                tag.value = FORMATS[each.value]
    built.provider.name = "envoy.tracers.opentelemetry"
    built.provider.typed_config.CopyFrom(pack(_tracer(plan)))
    return built


def _tracer(plan: TracingPlan) -> OpenTelemetryConfig:
    built = OpenTelemetryConfig(service_name=plan.service)
    if plan.cluster.protocol == "http2":
        built.grpc_service.envoy_grpc.cluster_name = names.cluster(plan.cluster)
        built.grpc_service.envoy_grpc.authority = plan.authority
        built.grpc_service.timeout.CopyFrom(duration(_TIMEOUT_MS))
        for name, value in plan.headers:
            built.grpc_service.initial_metadata.append(HeaderValue(key=name.lower(), value=value))
    else:
        built.http_service.http_uri.uri = f"http://{plan.authority}/v1/traces"
        built.http_service.http_uri.cluster = names.cluster(plan.cluster)
        built.http_service.http_uri.timeout.CopyFrom(duration(_TIMEOUT_MS))
        for name, value in plan.headers:
            built.http_service.request_headers_to_add.add().header.CopyFrom(HeaderValue(key=name, value=value))
    built.sampler.CopyFrom(_sampler(plan))
    return built


def _sampler(plan: TracingPlan) -> TypedExtensionConfig:
    """Draws lots by the trace's identifier, so that all proxies of a trace that draw come to the same result."""
    if plan.numerator >= plan.denominator:
        drawn = TypedExtensionConfig(name=f"{_SAMPLERS}always_on", typed_config=pack(AlwaysOnSamplerConfig()))
    else:
        ratio = TraceIdRatioBasedSamplerConfig()
        ratio.sampling_percentage.numerator = plan.numerator * _MILLION // plan.denominator
        ratio.sampling_percentage.denominator = FractionalPercent.MILLION
        drawn = TypedExtensionConfig(name=f"{_SAMPLERS}trace_id_ratio_based", typed_config=pack(ratio))
    if not plan.follows:
        return drawn
    return TypedExtensionConfig(
        name=f"{_SAMPLERS}parent_based", typed_config=pack(ParentBasedSamplerConfig(wrapped_sampler=drawn))
    )
