"""`make bench`: prints all tables, or those named on the command line: start, change, memory, files, throughput.

Nothing here fails because of a figure. Figures of one table come from one run on one machine and may be compared with
each other; those of different runs hardly.
"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import backend, change, memory, start, throughput
from tests.bench.table import Table

from tripylon import log

TABLES: dict[str, Callable[[Path, int], Table]] = {
    "start": start.table,
    "change": change.table,
    "memory": memory.table,
    "files": lambda folder, _: memory.files_table(folder),
    "throughput": throughput.table,
}


def main(names: list[str]) -> int:
    """Measures and prints; the exit code."""
    if unknown := [name for name in names if name not in TABLES]:
        print(f"no such table: {', '.join(unknown)}; there are: {', '.join(TABLES)}", file=sys.stderr)
        return 2
    log.configure("error", "text")
    began_s = time.monotonic()
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {os.cpu_count()} processors, Python {sys.version.split()[0]}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        backend.answering(Path(folder, "backend")) as answering,
    ):
        for name in names or list(TABLES):
            print(f"\nmeasuring: {name} ...", file=sys.stderr, flush=True)
            print(f"\n{TABLES[name](Path(folder, name), answering.port).text()}", flush=True)
    print(f"\n{time.monotonic() - began_s:.0f} s in all", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
