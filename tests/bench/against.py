"""`--against REVISION`: the same harness runs Tripylon as it is here and as another revision has it, in turns.

The other revision is checked out as a worktree of git and only its `src` is used, so both meet the same tests, the same
Python packages and the same Envoy. Each side is measured twice, A B B A, so that a machine that slowly gets busier or
quieter meets both alike.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from tests.bench.compare import told
from tests.bench.document import ROOT
from tests.bench.measures import Measure
from tests.bench.report import Report, merged, read, save


def measured(revision: str, names: Sequence[str], layout: str, out: Path | None) -> int:
    """Measures both and prints the comparison; the exit code. `out` gets the report of what is here."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, worktree(Path(folder), revision) as other:
        sides: dict[str, list[Report]] = {"a": [], "b": []}
        for name in names:
            for number, side in enumerate("abba"):
                path = Path(folder, f"{name}-{number}.json")
                print(f"measuring {name} of {revision if side == 'a' else 'this'}", file=sys.stderr, flush=True)
                if not _run(other if side == "a" else ROOT, name, layout, path):
                    print(f"{name} cannot be measured there", file=sys.stderr)
                    break
                sides[side].append(read(path))
        if not sides["a"] or not sides["b"]:
            return 1
        before, after = (pooled(sides[side]) for side in "ab")
    print(told(before, after))
    if out:
        save(after, out)
        save(before, out.with_name(f"{out.stem}-against{out.suffix}"))
    return 0


@contextlib.contextmanager
def worktree(folder: Path, revision: str) -> Iterator[Path]:
    """That revision's files; gone afterwards."""
    place = folder / "other"
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", place, revision], check=True)
    try:
        yield place
    finally:
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", place], check=True)


def pooled(reports: Sequence[Report]) -> Report:
    """Several runs of the same as one report: the tables of the last run, the values of all."""
    values: dict[str, tuple[float, ...]] = {}
    for report in reports:
        for name, each in report.measures.items():
            values[name] = values.get(name, ()) + each.values

    def all_of(each: Measure) -> Measure:
        return msgspec.structs.replace(each, values=values[each.name])

    last = merged(reports)
    sections = tuple(
        msgspec.structs.replace(
            section,
            tables=tuple(
                msgspec.structs.replace(table, measures=tuple(map(all_of, table.measures))) for table in section.tables
            ),
        )
        for section in last.sections
    )
    return Report(last.machine, sections)


def _run(checkout: Path, name: str, layout: str, out: Path) -> bool:
    command = [sys.executable, "-m", "tests.bench", name, "--json", str(out), *(["--layout", layout] if layout else [])]
    path = os.pathsep.join((str(checkout / "src"), str(ROOT)))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0
