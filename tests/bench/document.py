"""The pages of the docs that come from reports: tables between markers are written anew, prose is left alone.

A marker is `<!-- bench:NAME -->`; what follows it up to `<!-- /bench -->` is the table NAME: a measurement, one of them
by layout (`change.plain`), `machine`, `aims` or `history`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tests.bench.measures import Measure, text
from tests.bench.report import Report
from tests.bench.table import aligned

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
REPORT = ROOT / "docs" / "benchmarks.json"
"""The report that the page was written from."""
HISTORY = ROOT / "docs" / "regressions.json"
HISTORY_PAGE = ROOT / "docs" / "regressions.md"
_PART = re.compile(r"(<!-- bench:([a-z.-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


class Entry(msgspec.Struct, frozen=True):
    """What one revision reached: median and 99th percentile of each measure with an aim, by name."""

    date: str
    revision: str
    load_before: float
    figures: dict[str, tuple[float, float]]


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with its marked parts; a part that is not there stays as it is."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{parts[found[2]]}\n\n{found[3]}" if found[2] in parts else found[0]

    return _PART.sub(part, page)


def parts(report: Report) -> dict[str, str]:
    """All parts that a report can fill."""
    found = {"machine": _machine(report), "aims": aims(report)}
    for section in report.sections:
        found[f"{section.name}.{section.layout}" if section.layout else section.name] = section.text()
    return found


def aims(report: Report) -> str:
    """What was aimed at and what came of it."""
    rows = [
        (
            each.name,
            f"{'at most' if each.better == 'less' else 'at least'} {text(aim.bound, each.unit)} ({aim.statistic})",
            text(each.statistic(aim.statistic), each.unit),
            "yes" if each.met(aim) else "**no**",
        )
        for each in report.measures.values()
        for aim in each.aims
    ]
    return aligned(("measure", "aim", "measured", "met"), tuple(rows))


def entry(report: Report) -> Entry:
    """A report as a line of the history."""
    first = min(report.sections, key=lambda section: section.conditions.began)
    with_aims: dict[str, Measure] = {name: each for name, each in report.measures.items() if each.aims}
    figures = {name: (each.distribution.median, each.distribution.p99) for name, each in with_aims.items()}
    revisions = sorted({section.versions.revision for section in report.sections})
    return Entry(first.conditions.began[:10], ", ".join(revisions), first.conditions.load_before, figures)


def history(entries: list[Entry], units: Mapping[str, Measure]) -> str:
    """The history as a table: a line for each measure, a column for each revision."""
    names = [name for name in units if any(name in each.figures for each in entries)]
    heading = ("median / p99", *(f"{each.revision} ({each.date}, load {each.load_before:.1f})" for each in entries))
    rows = tuple((name, *(_cell(each, name, units[name]) for each in entries)) for name in names)
    return aligned(heading, rows)


def write(report: Report) -> None:
    """Writes the page and keeps the report that it was written from."""
    PAGE.write_text(filled(PAGE.read_text(), parts(report)))
    REPORT.write_bytes(msgspec.json.encode(report) + b"\n")


def record(report: Report) -> None:
    """Adds a report to the history; one of the same revision and day is replaced."""
    new = entry(report)
    kept = [each for each in _entries() if (each.date, each.revision) != (new.date, new.revision)]
    HISTORY.write_bytes(msgspec.json.format(msgspec.json.encode([*kept, new]), indent=1) + b"\n")
    HISTORY_PAGE.write_text(
        filled(
            HISTORY_PAGE.read_text(), {"history": history([*kept, new], report.measures), "machine": _machine(report)}
        )
    )


def _entries() -> list[Entry]:
    return msgspec.json.decode(HISTORY.read_bytes(), type=list[Entry]) if HISTORY.exists() else []


def _cell(of: Entry, name: str, measure: Measure) -> str:
    if name not in of.figures:
        return ""
    return " / ".join(text(value, measure.unit) for value in of.figures[name])


def _machine(report: Report) -> str:
    versions = dict.fromkeys(section.versions.text() for section in report.sections)
    return "\n".join([f"- {report.machine.text()}", *(f"- {each}" for each in versions)])
