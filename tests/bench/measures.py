"""A measure: all values that were taken of one thing, its distribution, and what was aimed at.

Everything that `make bench` prints, writes and compares comes from these; no value is thrown away before the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

Unit = Literal["s", "bytes", "1/s", "ratio", "count"]
Statistic = Literal["median", "p90", "p99", "min", "max"]
FEW = 20
"""With fewer values a 90th or 99th percentile would be the greatest value under another name."""


class Distribution(msgspec.Struct, frozen=True):
    """What the values of a measure look like."""

    n: int
    min: float
    median: float
    p90: float
    p99: float
    max: float


class Aim(msgspec.Struct, frozen=True):
    """A bound that one statistic of a measure shall keep: at most `bound`, or at least, as `Measure.better` says."""

    statistic: Statistic
    bound: float


class Measure(msgspec.Struct, frozen=True):
    """One thing that was measured; `name` is the same in every run, so that runs can be compared."""

    name: str
    unit: Unit
    values: tuple[float, ...]
    aims: tuple[Aim, ...] = ()
    better: Literal["less", "more"] = "less"

    @property
    def distribution(self) -> Distribution:
        """Its values by rank."""
        ordered = sorted(self.values)
        ranks = (0.0, 0.5, 0.9, 0.99, 1.0)
        return Distribution(len(ordered), *(quantile(ordered, rank) for rank in ranks))

    def met(self, aim: Aim) -> bool:
        """Whether an aim was reached."""
        value = self.statistic(aim.statistic)
        return value <= aim.bound if self.better == "less" else value >= aim.bound

    def statistic(self, name: Statistic) -> float:
        """One statistic of its values."""
        value: float = getattr(self.distribution, name)
        return value

    def text(self, value: float) -> str:
        """A value of this measure for people, with its unit."""
        return text(value, self.unit)


def measure(
    name: str,
    unit: Unit,
    values: Iterable[float],
    *,
    aims: Iterable[tuple[Statistic, float]] = (),
    better: Literal["less", "more"] = "less",
) -> Measure:
    """A measure; values are kept with six digits, which is more than any clock here can tell."""
    kept = tuple(float(f"{value:.6g}") for value in values)
    assert kept, f"{name} has no values"
    return Measure(name, unit, kept, tuple(Aim(*aim) for aim in aims), better)


def quantile(ordered: list[float], rank: float) -> float:
    """The nearest-rank quantile of sorted values: always one that was measured; of two middle ones their mean."""
    count = len(ordered)
    if rank == 0.5 and count % 2 == 0:
        return (ordered[count // 2 - 1] + ordered[count // 2]) / 2
    return ordered[max(0, math.ceil(rank * count) - 1)]


def text(value: float, unit: Unit) -> str:
    """A value with its unit: times in ms, sizes in MB, three digits."""
    match unit:
        case "s":
            return f"{value:,.2f} s" if abs(value) >= 1 else f"{digits(value * 1000)} ms"
        case "bytes":
            return f"{digits(value / 1e6)} MB"
        case "1/s":
            return f"{value:,.0f}/s"
        case "ratio" | "count":
            return digits(value)


def digits(value: float) -> str:
    """Whole numbers from 100 on and where nothing is behind the point, else three digits that count."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(of: Measure) -> str:
    """The distribution in a cell: `median / p90 / p99 / max (n)`, or `min / median / max (n)` of few."""
    found = of.distribution
    if found.n == 1:
        return of.text(found.median)
    names: tuple[Statistic, ...] = ("median", "p90", "p99", "max") if found.n >= FEW else ("min", "median", "max")
    cells = [of.text(of.statistic(name)).rpartition(" ") for name in names]
    unit = cells[0][2] if cells[0][0] else ""
    if unit and all(cell[2] == unit for cell in cells):
        return f"{' / '.join(cell[0] for cell in cells)} {unit} (n={found.n})"
    return f"{' / '.join(''.join(cell) for cell in cells)} (n={found.n})"
