"""The metrics of one replica of the controller, in a registry of their own.

What can be counted when somebody asks is counted then. The invariant: label values come from fixed sets, so the number
of series does not grow with users' objects. Read `metrics.py` for the families that every control plane has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tripylon.admin import metrics
from tripylon.graph import Graph
from tripylon.kube.report import Counters as StatusCounters
from tripylon.kube.watch import KindState
from tripylon.xds.cache import Counters

_STATES = ("starting", "live", "absent", "forbidden", "failing")


class Replica(Protocol):
    """A running replica."""

    @property
    def graph(self) -> Graph:
        """World, plan and findings as of the last flush."""

    @property
    def ready(self) -> bool:
        """Whether proxies get all that they are to have."""

    @property
    def leading(self) -> bool:
        """Whether it writes status and runs the proxies."""

    @property
    def wire(self) -> Counters:
        """What went to all proxies together."""

    @property
    def statuses(self) -> StatusCounters:
        """What was written."""

    @property
    def statuses_waiting(self) -> int:
        """How many objects wait to be judged or written."""

    def lists(self) -> tuple[KindState, ...]:
        """How it stands with what is followed at the API server."""


class ReplicaMetrics:
    """The series of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        durations = metrics.Durations(self._registry)
        self.observe_build = durations.build.observe
        self.observe_publish = durations.publish.observe
        self._requests = PrometheusCounter(
            "tripylon_kube_requests",
            "Requests to the API server, by verb, resource and status code; 0: no answer came.",
            ("verb", "resource", "code"),
            registry=self._registry,
        )
        self._registry.register(_ReplicaCollector(replica))
        metrics.register_process(self._registry)

    def count_request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """A request to the API server was answered; code 0: it was not. See `kube.calls.OnCall`."""
        self._requests.labels(verb, resource, str(code)).inc()

    def render(self) -> bytes:
        """All series in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)


class _ReplicaCollector(Collector):
    """Counts what the replica holds, at the moment of being asked."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def collect(self) -> Iterator[Metric]:
        replica = self._replica
        yield metrics.objects(replica.graph)
        yield metrics.findings(replica.graph)
        yield metrics.gauge("tripylon_ready", "1 when proxies get all that they are to have.", int(replica.ready))
        yield metrics.gauge("tripylon_leader", "1 when this replica writes status and deploys.", int(replica.leading))
        yield self._lists()
        yield from metrics.wire(replica.wire)
        written = replica.statuses
        yield metrics.counter("tripylon_status_writes", "Statuses that were written.", written.writes)
        yield metrics.counter("tripylon_status_skipped", "Statuses that had nothing to write.", written.skipped)
        yield metrics.counter("tripylon_status_conflicts", "Writes that others got in the way of.", written.conflicts)
        yield metrics.counter("tripylon_status_errors", "Writes that the API server refused.", written.errors)
        yield metrics.gauge("tripylon_status_waiting", "Objects that wait to be written.", replica.statuses_waiting)

    def _lists(self) -> Metric:
        family = GaugeMetricFamily(
            "tripylon_kube_lists", "Lists that are followed at the API server, by state.", labels=("state",)
        )
        counts = dict.fromkeys(_STATES, 0)
        for each in self._replica.lists():
            counts[each.state] = counts.get(each.state, 0) + 1
        for state, number in counts.items():
            family.add_metric((state,), number)
        return family
