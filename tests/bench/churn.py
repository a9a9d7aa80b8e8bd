"""Requests that fail while everything changes twenty times a second, by HTTP and by HTTPS."""

from __future__ import annotations

from pathlib import Path

from tests.bench.measures import Measure, measure, spread
from tests.bench.table import Table
from tests.live.churn import DEPLOYMENTS, Churning, Found, loaded
from tests.live.fleet import Fleet

_RATE = 2_000.0
_REQUESTS = 100_000


def table(folder: Path, _backend_port: int, layout: str) -> Table:
    """Each scheme by itself, with a control plane of its own."""
    rows: list[tuple[str, ...]] = []
    kept: list[Measure] = []
    for scheme in ("http", "https"):
        found = _measured(folder / scheme, scheme, layout)
        each = _measures(scheme, found)
        kept += each
        changes = sum(found.done.kinds.values())
        cells = (f"{found.requests:,}", f"{found.requests_per_s:,.0f}", f"{changes:,}", spread(each[1]))
        rows.append((scheme.upper(), *cells, str(len(found.wrong))))
    return Table(
        "Under load while everything changes",
        ("by", "requests", "requests/s", "changes", "a change is live after", "**wrong or failed answers**"),
        tuple(rows),
        "20 changes a second in turns: a route moved to another Service, a route added or removed, endpoints moved, a "
        "Service replaced under all of its routes, a certificate replaced. An answer is wrong when it was not right at "
        "any moment of its request; a connection that broke or was refused counts as well. A connection carries 200 "
        "requests, so new ones are made all the time.",
        tuple(kept),
    )


def _measured(folder: Path, scheme: str, layout: str) -> Found:
    folder.mkdir(parents=True)
    with Fleet(folder, DEPLOYMENTS) as fleet, Churning(folder / "churn", fleet, layout=layout) as churning:
        return loaded(churning, folder, rates={scheme: _RATE}, seconds=_REQUESTS / _RATE)


def _measures(scheme: str, found: Found) -> tuple[Measure, ...]:
    wrong = [float(len(found.wrong))]
    return (
        measure(f"churn by {scheme.upper()}: wrong or failed answers", "count", wrong, aims=[("max", 0.0)]),
        measure(f"churn by {scheme.upper()}: a change is live", "s", found.done.live_s),
        measure(f"churn by {scheme.upper()}: requests/s", "1/s", [found.requests_per_s], better="more"),
    )
