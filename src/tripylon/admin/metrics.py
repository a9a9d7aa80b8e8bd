"""The control plane's own metrics, in a registry of their own. Envoy's are at `/metrics/envoy`.

What can be counted when somebody asks is counted then; only durations are recorded as they happen. The invariant: label
values come from fixed sets (kinds, severities), so the number of series does not grow with users' objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
from tripylon.files.problems import Problem
from tripylon.graph import Graph
from tripylon.world import world
from tripylon.xds.cache import Counters

_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_SEVERITIES = ("error", "warning", "info")


class Metrics:
    """The series of one running gateway. Recording costs less than a microsecond."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        durations = Durations(self._registry)
        self.observe_build = durations.build.observe
        self.observe_publish = durations.publish.observe
        self._registry.register(_EngineCollector(engine))
        register_process(self._registry)

    def render(self) -> bytes:
        """All series in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Counts what the engine holds, at the moment of being asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        yield objects(self._engine.graph)
        yield findings(self._engine.graph, self._engine.problems)
        yield from self._flights()
        yield from wire(self._engine.group.counters)
        yield counter("tripylon_envoy_restarts", "Times that Envoy ended by itself.", self._engine.restarts)

    def _flights(self) -> Iterator[Metric]:
        flight, live = self._engine.group.flight, live_flight(self._engine)
        yield gauge("tripylon_flight", "Number of the last change that was published.", flight)
        yield gauge("tripylon_live_flight", "Number of the last change that all proxies serve; -1: no proxy.", live)
        yield gauge("tripylon_ready", "1 when a proxy serves at least the first flight.", int(is_ready(self._engine)))


# --- Families that every control plane has ---------------------------------------------------------------------------


class Durations:
    """How long changes take. Recording one costs less than a microsecond."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.build = Histogram(
            "tripylon_build_seconds",
            "Time to bring plan and resources up to date after a change, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.publish = Histogram(
            "tripylon_publish_seconds",
            "Time to hand changed resources to the streams of all proxies, in seconds.",
            buckets=_SECONDS,
            registry=registry,
        )


def register_process(registry: CollectorRegistry) -> None:
    """The series about the process itself."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def objects(graph: Graph) -> Metric:
    """What is taken in."""
    family = GaugeMetricFamily("tripylon_objects", "Objects that are taken in, by kind.", labels=("kind",))
    counts = {kind.name: 0 for kind in KINDS}
    for resource in world.resources(graph):
        counts[kind_of(resource).name] += 1
    for kind, number in counts.items():
        family.add_metric((kind,), number)
    return family


def findings(graph: Graph, problems: Iterable[Problem] = ()) -> Metric:
    """What there is to tell."""
    family = GaugeMetricFamily("tripylon_findings", "What there is to tell users, by severity.", labels=("severity",))
    counts = dict.fromkeys(_SEVERITIES, 0)
    for told in (*graph.all_findings(), *problems):
        counts[told.severity] += 1
    for severity, number in counts.items():
        family.add_metric((severity,), number)
    return family


def wire(counters: Counters) -> Iterator[Metric]:
    """What went to proxies and came back."""
    yield gauge("tripylon_xds_connected_proxies", "Proxies that are connected now.", counters.streams)
    yield counter("tripylon_xds_connects", "Streams that proxies have opened.", counters.connects)
    yield counter("tripylon_xds_pushes", "Responses that were sent.", counters.pushes)
    yield counter("tripylon_xds_resources", "Resources that were sent.", counters.resources)
    yield counter("tripylon_xds_removals", "Removals that were sent.", counters.removals)
    yield counter("tripylon_xds_sent_bytes", "Bytes of responses that were sent.", counters.sent_bytes)
    yield counter("tripylon_xds_acks", "Responses that proxies took.", counters.acks)
    yield counter("tripylon_xds_nacks", "Responses that proxies refused.", counters.nacks)


def gauge(name: str, text: str, value: float) -> Metric:
    """A family of one series that goes up and down."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """A family of one series that only grows."""
    return CounterMetricFamily(name, text, value=value)
