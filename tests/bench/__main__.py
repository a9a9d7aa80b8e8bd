"""`make bench`: measures everything, or what is named on the command line, and prints tables.

A measurement is a function of a folder to work in and the port of a backend; it is added by one line in `TABLES`, or in
`BY_LAYOUT` when it can be made with either layout of routes. Its module is imported only when it is asked for, since
another revision may lack what others need. The tables that it returns are printed; the measures in them are kept in the
JSON, with every value. Nothing here fails because of a figure.

    python -m tests.bench change memory --json out.json     some of them
    python -m tests.bench change --against v0.1.0           another revision in the same run
    python -m tests.bench compare a.json b.json             two reports
    python -m tests.bench write a.json ...                  docs/benchmarks.md, from these
    python -m tests.bench record a.json ...                 one more column in docs/regressions.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.bench import against, backend, document, layouts, machine
from tests.bench.compare import told
from tests.bench.load import generator
from tests.bench.report import Report, Section, merged, read, save
from tests.bench.table import Table

from tripylon import log

Tables = Table | tuple[Table, ...]
TABLES = {
    "files": "memory:files_table",
    "fleet": "fleet:table",
    "rules": "rules:table",
    "large": "large:table",
}
BY_LAYOUT = {name: f"{name}:table" for name in ("start", "change", "memory", "throughput", "churn")}
"""By name where the function is: module of this package, and name."""
ORDER = ("start", "change", "memory", "files", "throughput", "churn")
"""These first; all others follow as they stand in `TABLES`."""


def names() -> tuple[str, ...]:
    """All measurements in the order in which they are made."""
    return tuple(dict.fromkeys((*ORDER, *BY_LAYOUT, *TABLES)))


def main(words: Sequence[str]) -> int:
    """Does what the command line says; the exit code."""
    if words and words[0] in _PAGES:
        return _PAGES[words[0]]([read(Path(word)) for word in words[1:]])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which; there are {', '.join(names())}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here, too")
    parser.add_argument("--layout", choices=layouts.CHOICES, default="", help="force the layout of route tables")
    parser.add_argument("--against", metavar="REVISION", default="", help="measure that revision in turns with this")
    asked = parser.parse_args(words)
    wanted = asked.names or list(names())
    if unknown := [name for name in wanted if name not in names()]:
        print(f"no such table: {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    if asked.against:
        return against.measured(asked.against, wanted, asked.layout, asked.json)
    _measured(wanted, asked.layout, asked.json)
    return 0


def _measured(wanted: Sequence[str], layout: str, out: Path | None) -> None:
    """Measures, prints and writes after each measurement, so that one that fails does not take the others with it."""
    log.configure("error", "text")
    began_s = time.monotonic()
    here, versions = machine.machine(), machine.versions(generator())
    print(f"{here.text()}\n{versions.text()}", flush=True)
    sections = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        backend.answering(Path(folder, "backend")) as answering,
    ):
        for name in wanted:
            print(f"\nmeasuring: {name} ...", file=sys.stderr, flush=True)
            watch = machine.Watch()
            place = Path(folder, name)
            made = _made(name, place, answering.port, layout)
            tables = (made,) if isinstance(made, Table) else made
            used = layout if name in BY_LAYOUT else ""
            sections.append(Section(name, watch.conditions(), versions, used, tables))
            print(f"\n{sections[-1].text()}", flush=True)
            if out:
                save(Report(here, tuple(sections)), out)
    print(f"\n{time.monotonic() - began_s:.0f} s in all", file=sys.stderr)


def _made(name: str, place: Path, backend_port: int, layout: str) -> Tables:
    module, _, function = (BY_LAYOUT.get(name) or TABLES[name]).partition(":")
    measuring = getattr(import_module(f"tests.bench.{module}"), function)
    more = (layout,) if name in BY_LAYOUT else ()
    tables: Tables = measuring(place, backend_port, *more)
    return tables


def _compare(reports: list[Report]) -> int:
    if len(reports) != 2:
        print("compare takes two reports", file=sys.stderr)
        return 2
    print(told(*reports))
    return 0


def _write(reports: list[Report]) -> int:
    document.write(merged(reports))
    return 0


def _record(reports: list[Report]) -> int:
    document.record(merged(reports))
    return 0


_PAGES = {"compare": _compare, "write": _write, "record": _record}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
