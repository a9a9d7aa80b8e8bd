"""Memory of the control plane, and how long files take: a first load, and another look after one document changed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
from tests.bench import gateways
from tests.bench.start import Client, free_port, tripylon
from tests.bench.table import Table, megabytes, milliseconds

from tripylon.files.source import FileSource

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


def measure(folder: Path, count: int, backend_port: int) -> Memory:
    """A gateway with so many routes, each with a Service and an EndpointSlice."""
    port = free_port()
    path = gateways.write_single(folder / "objects", count, port, backend_port)
    with tripylon(folder, [path]) as running:
        client = Client(port)
        client.wait(gateways.host(count - 1), pause_s=0.02)
        client.close()
        time.sleep(1.0)
        return Memory(resident_bytes(running.process.pid), resident_bytes(running.envoy_pid))


def table(folder: Path, backend_port: int) -> Table:
    """Memory as a table."""
    rows = []
    for count in (10, 5_000, 20_000):
        memory = measure(folder / f"memory-{count}", count, backend_port)
        rows.append((f"{count:,}", megabytes(memory.tripylon), megabytes(memory.envoy)))
    return Table("Resident memory (MB)", ("routes", "control plane", "Envoy"), tuple(rows))


def files_table(folder: Path) -> Table:
    """Loading files as a table."""
    whole = folder / "folder"
    gateways.write_documents(whole, 1_667, 8080, 9000)
    rows = [_row("5,000 files of one document", whole, whole / "00001.yaml", gateways.route(0, "/changed"))]
    single = gateways.write_single(folder / "single", 22_500, 8080, 9000)
    text = single.read_text()
    changed = text.replace(gateways.route(7), gateways.route(7, "/changed"))
    assert changed != text
    rows.append(_row(f"one file of {len(text) / 1e6:.0f} MB with 67,501 documents", single, single, changed))
    return Table(
        "Files (milliseconds)",
        ("what", "first load", "nothing changed", "one document changed"),
        tuple(rows),
        "From the look at the disk to decoded and validated objects; the build comes on top (see above).",
    )


def _row(what: str, root: Path, edited: Path, content: str) -> tuple[str, ...]:
    source = FileSource([root])
    times = [_scan(source, -1)]
    time.sleep(_QUIET_S)
    source.scan()
    times.append(_scan(source, 0))
    edited.write_text(content)
    times.append(_scan(source, 1))
    return (what, *map(milliseconds, times))


def _scan(source: FileSource, expected: int) -> float:
    """Seconds of one scan, which must find so many changes (-1: any number)."""
    began_s = time.perf_counter()
    changes = source.scan()
    spent_s = time.perf_counter() - began_s
    assert not changes.problems
    assert expected in (-1, len(changes.put))
    return spent_s
