"""The control plane's own metrics, in a registry of their own. Envoy's are at `/metrics/envoy`.

What can be counted when somebody asks is counted then; only durations are recorded as they happen. The invariant: label
values come from fixed sets (kinds, severities), so the number of series does not grow with users' objects.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tripylon.admin.engine import Engine, is_ready, live_flight
from tripylon.api.kinds import KINDS, kind_of
from tripylon.world import world

_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SEVERITIES = ("error", "warning", "info")


class Metrics:
    """The series of one running gateway. Recording costs less than a microsecond."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        build = Histogram(
            "tripylon_build_seconds",
            "Time to bring plan and resources up to date after a change, in seconds.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        publish = Histogram(
            "tripylon_publish_seconds",
            "Time to hand changed resources to the streams of all proxies, in seconds.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.observe_build = build.observe
        self.observe_publish = publish.observe
        self._registry.register(_EngineCollector(engine))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """All series in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Counts what the engine holds, at the moment of being asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        yield self._objects()
        yield self._findings()
        yield from self._flights()
        yield from self._wire()
        yield _counter("tripylon_envoy_restarts", "Times that Envoy ended by itself.", self._engine.restarts)

    def _objects(self) -> Metric:
        family = GaugeMetricFamily("tripylon_objects", "Objects that are taken in, by kind.", labels=("kind",))
        counts = {kind.name: 0 for kind in KINDS}
        for resource in world.resources(self._engine.graph):
            counts[kind_of(resource).name] += 1
        for kind, number in counts.items():
            family.add_metric((kind,), number)
        return family

    def _findings(self) -> Metric:
        family = GaugeMetricFamily(
            "tripylon_findings", "What there is to tell users, by severity.", labels=("severity",)
        )
        counts = dict.fromkeys(_SEVERITIES, 0)
        for finding in self._engine.graph.all_findings():
            counts[finding.severity] += 1
        for problem in self._engine.problems:
            counts[problem.severity] += 1
        for severity, number in counts.items():
            family.add_metric((severity,), number)
        return family

    def _flights(self) -> Iterator[Metric]:
        flight, live = self._engine.group.flight, live_flight(self._engine)
        yield _gauge("tripylon_flight", "Number of the last change that was published.", flight)
        yield _gauge("tripylon_live_flight", "Number of the last change that all proxies serve; -1: no proxy.", live)
        yield _gauge("tripylon_ready", "1 when a proxy serves at least the first flight.", int(is_ready(self._engine)))

    def _wire(self) -> Iterator[Metric]:
        counters = self._engine.group.counters
        yield _gauge("tripylon_xds_connected_proxies", "Proxies that are connected now.", counters.streams)
        yield _counter("tripylon_xds_connects", "Streams that proxies have opened.", counters.connects)
        yield _counter("tripylon_xds_pushes", "Responses that were sent.", counters.pushes)
        yield _counter("tripylon_xds_resources", "Resources that were sent.", counters.resources)
        yield _counter("tripylon_xds_removals", "Removals that were sent.", counters.removals)
        yield _counter("tripylon_xds_sent_bytes", "Bytes of responses that were sent.", counters.sent_bytes)
        yield _counter("tripylon_xds_acks", "Responses that proxies took.", counters.acks)
        yield _counter("tripylon_xds_nacks", "Responses that proxies refused.", counters.nacks)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
