"""A report: what one run of `make bench` found, as JSON and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from tests.bench.machine import Conditions, Machine, Versions
from tests.bench.measures import Measure
from tests.bench.table import Table


class Section(msgspec.Struct, frozen=True):
    """The tables of one measurement, and under which conditions they came about."""

    name: str
    conditions: Conditions
    versions: Versions
    layout: str
    tables: tuple[Table, ...]

    def text(self) -> str:
        """As Markdown."""
        return "\n\n".join([*(table.text() for table in self.tables), self.conditions.text()])


class Report(msgspec.Struct, frozen=True):
    """Everything of a run."""

    machine: Machine
    sections: tuple[Section, ...]

    @property
    def measures(self) -> dict[str, Measure]:
        """All measures by name."""
        tables = (table for section in self.sections for table in section.tables)
        return {each.name: each for table in tables for each in table.measures}


def save(report: Report, path: Path) -> None:
    """Writes a report."""
    path.write_bytes(msgspec.json.encode(report) + b"\n")


def read(path: Path) -> Report:
    """Reads one."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def merged(reports: Iterable[Report]) -> Report:
    """Reports of parts of the benchmark as one; of sections with one name and layout the last one counts."""
    reports = tuple(reports)
    sections = {(section.name, section.layout): section for report in reports for section in report.sections}
    return Report(reports[-1].machine, tuple(sections.values()))
