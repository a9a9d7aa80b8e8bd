"""Memory of the control plane, and how long files take: a first load, and another look after one document changed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
from tests.bench import gateways, layouts
from tests.bench.measures import Statistic, measure
from tests.bench.start import Client, free_port, tripylon
from tests.bench.table import Table, megabytes, milliseconds

from tripylon.files.source import FileSource

_AIMS = {"control plane": 350e6, "Envoy": 700e6}
_QUIET_S = 0.2
"""Files that changed so shortly ago are read again in any case."""


class Memory(msgspec.Struct, frozen=True):
    """Resident memory in bytes, once everything is live."""

    tripylon: int
    envoy: int


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def measured(folder: Path, count: int, backend_port: int, layout: str = "") -> Memory:
    """A gateway with so many routes, each with a Service and an EndpointSlice."""
    port = free_port()
    path = gateways.write_single(folder / "objects", count, port, backend_port)
    options = ("--access-log", "off", "--concurrency", "1", *layouts.flags(layout))
    with tripylon(folder, [path], options=options) as running:
        client = Client(port)
        client.wait(gateways.host(count - 1), pause_s=0.02)
        client.close()
        time.sleep(1.0)
        return Memory(resident_bytes(running.process.pid), resident_bytes(running.envoy_pid))


def table(folder: Path, backend_port: int, layout: str) -> Table:
    """Memory as a table."""
    rows, kept = [], []
    for count in (10, 5_000, 20_000):
        memory = measured(folder / f"memory-{count}", count, backend_port, layout)
        aims = _AIMS if count == 20_000 else {}
        for what, value in (("control plane", memory.tripylon), ("Envoy", memory.envoy)):
            bounds: list[tuple[Statistic, float]] = [("max", aims[what])] if aims else []
            kept.append(measure(f"memory with {count:,} routes: {what}", "bytes", [value], aims=bounds))
        rows.append((f"{count:,}", megabytes(memory.tripylon), megabytes(memory.envoy)))
    return Table(
        "Resident memory (MB)",
        ("routes", "control plane", "Envoy"),
        tuple(rows),
        "One second after everything is live; Envoy with one worker.",
        tuple(kept),
    )


def files_table(folder: Path, _backend_port: int) -> Table:
    """Loading files as a table."""
    whole = folder / "folder"
    gateways.write_documents(whole, 1_667, 8080, 9000)
    rows = [_row("5,000 files of one document", whole, whole / "00001.yaml", gateways.route(0, "/changed"))]
    single = gateways.write_single(folder / "single", 22_500, 8080, 9000)
    text = single.read_text()
    changed = text.replace(gateways.route(7), gateways.route(7, "/changed"))
    assert changed != text
    rows.append(_row(f"one file of {len(text) / 1e6:.0f} MB with 67,501 documents", single, single, changed))
    steps = ("first load", "nothing changed", "one document changed")
    return Table(
        "Files (milliseconds)",
        ("what", *steps),
        tuple((what, *map(milliseconds, times)) for what, times in rows),
        "From the look at the disk to decoded and validated objects; the build comes on top (see above).",
        tuple(
            measure(f"files, {what}: {step}", "s", [spent_s])
            for what, times in rows
            for step, spent_s in zip(steps, times, strict=True)
        ),
    )


def _row(what: str, root: Path, edited: Path, content: str) -> tuple[str, list[float]]:
    source = FileSource([root])
    times = [_scan(source, -1)]
    time.sleep(_QUIET_S)
    source.scan()
    times.append(_scan(source, 0))
    edited.write_text(content)
    times.append(_scan(source, 1))
    return what, times


def _scan(source: FileSource, expected: int) -> float:
    """Seconds of one scan, which must find so many changes (-1: any number)."""
    began_s = time.perf_counter()
    changes = source.scan()
    spent_s = time.perf_counter() - began_s
    assert not changes.problems
    assert expected in (-1, len(changes.put))
    return spent_s
