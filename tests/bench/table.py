"""Tables as the benchmark prints them and `docs/benchmarks.md` shows them."""

from __future__ import annotations

import msgspec
from tests.bench.measures import Measure


class Table(msgspec.Struct, frozen=True):
    """A title, a heading and rows of text; `note` says what to know about the figures.

    `measures` are the values behind it, as far as they shall be kept in the JSON and compared with those of other runs.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    measures: tuple[Measure, ...] = ()

    def text(self, level: int = 3) -> str:
        """As Markdown whose columns line up."""
        parts = [f"{'#' * level} {self.title}", "", aligned(self.heading, self.rows)]
        return "\n".join([*parts, *(["", self.note] if self.note else [])])


def aligned(heading: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """A Markdown table."""
    lines = (heading, *rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]

    def row(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([row(heading), rule, *map(row, rows)])


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds: whole ones from 10 on, else with two digits behind the point."""
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def megabytes(size: float) -> str:
    """Bytes as MB."""
    return f"{size / 1e6:,.0f}"
