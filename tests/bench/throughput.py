"""What our configuration costs a request: Envoy under `tripylon run` against a bare Envoy, in turns, one backend."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tests.bench import backend, gateways, layouts
from tests.bench.load import generator, load, processor_s
from tests.bench.measures import Measure, Statistic, measure
from tests.bench.start import Client, free_port, tripylon
from tests.bench.table import Table

_HOSTS = 1_000
_ROUNDS = 7
_SECONDS = 2
_SILENT = f"Tripylon, {_HOSTS:,} hosts, no access log"
_LOGGING = f"Tripylon, {_HOSTS:,} hosts, JSON access log"
_AIMS = {_SILENT: 0.96, _LOGGING: 0.93}


class Proxy(msgspec.Struct, frozen=True):
    """One proxy under test."""

    name: str
    port: int
    pid: int


class Figures(msgspec.Struct, frozen=True):
    """One round at one proxy."""

    requests_per_s: float
    latency_s: float
    processor_s: float
    """Of the proxy, for one request."""


def measured(proxies: list[Proxy]) -> dict[str, list[Figures]]:
    """Rounds in turns, so that what else the machine does meets all alike."""
    found: dict[str, list[Figures]] = {proxy.name: [] for proxy in proxies}
    for number in range(_ROUNDS + 1):
        for proxy in proxies if number % 2 else reversed(proxies):
            before_s = processor_s(proxy.pid)
            done = load(proxy.port, gateways.host(_HOSTS - 1), _SECONDS if number else 1)
            spent_s = processor_s(proxy.pid) - before_s
            if number:
                requests = done.requests_per_s * _SECONDS
                found[proxy.name].append(Figures(done.requests_per_s, done.latency_s, spent_s / requests))
    return found


@contextlib.contextmanager
def ours(folder: Path, backend_port: int, name: str, *, log: str, layout: str) -> Iterator[Proxy]:
    """A gateway with many hosts of which one is asked."""
    port = free_port()
    path = gateways.write_single(folder / "objects", _HOSTS, port, backend_port)
    options = ("--concurrency", "1", "--access-log", log, *layouts.flags(layout))
    with tripylon(folder, [path], level="info", options=options) as running:
        client = Client(port)
        client.wait(gateways.host(_HOSTS - 1), pause_s=0.02)
        client.close()
        yield Proxy(name, port, running.envoy_pid)


def table(folder: Path, backend_port: int, layout: str) -> Table:
    """The proxies as a table; ratios are medians over the rounds, each round against the bare Envoy's of the same."""
    access_log = str(folder / "access.log")
    with contextlib.ExitStack() as stack:
        bare = stack.enter_context(backend.forwarding(folder / "bare", backend_port))
        proxies = [
            Proxy("bare Envoy", bare.port, bare.pid),
            stack.enter_context(ours(folder / "silent", backend_port, _SILENT, log="off", layout=layout)),
            stack.enter_context(ours(folder / "logging", backend_port, _LOGGING, log=access_log, layout=layout)),
        ]
        found = measured(proxies)
    base = found["bare Envoy"]
    kept = [each for name, figures in found.items() for each in _measures(name, figures, base)]
    rows = [(name, *_cells(figures, base)) for name, figures in found.items()]
    return Table(
        f"Requests through Envoy (one worker, 32 connections, load by {generator()})",
        (
            "proxy",
            "requests/s",
            "ratio",
            "median latency (us)",
            "added (us)",
            "processor time per request (us)",
            "ratio",
        ),
        tuple(rows),
        f"{_ROUNDS} rounds of {_SECONDS} s in turns before one backend, an Envoy that answers by itself; ratios are "
        "medians of each round's ratio to the bare Envoy of the same round.",
        tuple(kept),
    )


def _measures(name: str, figures: list[Figures], base: list[Figures]) -> list[Measure]:
    pairs = list(zip(figures, base, strict=True))
    kept = [
        measure(f"{name}: requests/s", "1/s", [one.requests_per_s for one in figures], better="more"),
        measure(f"{name}: processor time per request", "s", [one.processor_s for one in figures]),
    ]
    if name in _AIMS:
        ratios = [one.requests_per_s / other.requests_per_s for one, other in pairs]
        aims: list[tuple[Statistic, float]] = [("median", _AIMS[name])]
        kept.append(measure(f"{name}: requests/s to bare Envoy", "ratio", ratios, aims=aims, better="more"))
        spent = [one.processor_s / other.processor_s for one, other in pairs]
        kept.append(measure(f"{name}: processor time to bare Envoy", "ratio", spent))
    return kept


def _cells(figures: list[Figures], base: list[Figures]) -> tuple[str, ...]:
    pairs = list(zip(figures, base, strict=True))
    ratio = statistics.median(one.requests_per_s / other.requests_per_s for one, other in pairs)
    latency = statistics.median(one.latency_s for one in figures)
    added = statistics.median(one.latency_s - other.latency_s for one, other in pairs)
    spent = statistics.median(one.processor_s for one in figures)
    spent_ratio = statistics.median(one.processor_s / other.processor_s for one, other in pairs)
    return (
        f"{statistics.median(one.requests_per_s for one in figures):,.0f}",
        f"{ratio:.2f}",
        f"{latency * 1e6:,.0f}",
        f"{added * 1e6:+,.0f}",
        f"{spent * 1e6:.1f}",
        f"{spent_ratio:.2f}",
    )
