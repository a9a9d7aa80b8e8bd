"""`bench compare A B`: what became of each measure from one report to another, and whether that is more than noise.

Noise is judged by the values themselves: two medians differ when the ranges in which each of them lies with 95 %
certainty do not touch. Of few values the range is all of them, and of fewer than six, too few to be certain by
themselves, a tenth around them as well. Measurements of one machine at different times may still differ by what else it
did, so look at the loads, and run it again.
"""

from __future__ import annotations

import math

import msgspec
from tests.bench.measures import FEW, Measure, text
from tests.bench.report import Report
from tests.bench.table import aligned

_AROUND = 0.1
_CERTAIN = 6
"""So many values lie on both sides of their median's true place in 97 of 100 cases; of five it is 94."""


class Change(msgspec.Struct, frozen=True):
    """One measure in both reports; `ratio` is that of the medians, B to A."""

    before: Measure
    after: Measure

    @property
    def ratio(self) -> float:
        """The median of B by that of A; infinite when A's is nothing."""
        old, new = self.before.distribution.median, self.after.distribution.median
        if old == new:
            return 1.0
        return new / old if old else math.inf

    @property
    def verdict(self) -> str:
        """`better` or `worse` when the difference is more than noise, else nothing."""
        (low, high), (new_low, new_high) = certain(self.before), certain(self.after)
        if new_low <= high and low <= new_high:
            return ""
        return "better" if (new_high < low) == (self.after.better == "less") else "worse"


def certain(of: Measure) -> tuple[float, float]:
    """The range in which the median lies, with 95 % certainty where there are values enough."""
    ordered = sorted(of.values)
    count = len(ordered)
    if count < _CERTAIN:
        return ordered[0] * (1 - _AROUND), ordered[-1] * (1 + _AROUND)
    if count < FEW:
        return ordered[0], ordered[-1]
    reach = 0.98 * math.sqrt(count)
    return ordered[max(0, math.floor(count / 2 - reach))], ordered[min(count - 1, math.ceil(count / 2 + reach))]


def changes(before: Report, after: Report) -> tuple[Change, ...]:
    """Every measure that both have, in the order of A."""
    new = after.measures
    return tuple(Change(old, new[name]) for name, old in before.measures.items() if name in new)


def told(before: Report, after: Report) -> str:
    """The comparison as Markdown; a measure that only one report has is named below the table."""
    heading = ("measure", "A: median (p99)", "B: median (p99)", "B / A", "beyond noise")
    rows = tuple(
        (each.before.name, _both(each.before), _both(each.after), f"{each.ratio:.2f}", each.verdict)
        for each in changes(before, after)
    )
    lines = [f"{name}: {_made(report)}" for name, report in (("A", before), ("B", after))]
    if before.machine != after.machine:
        lines.append("The machines differ: compare ratios within each report rather than these.")
    if alone := sorted(before.measures.keys() ^ after.measures.keys()):
        lines.append(f"In one of them only: {', '.join(alone)}.")
    return "\n\n".join([*lines, aligned(heading, rows)])


def _both(of: Measure) -> str:
    found = of.distribution
    return f"{text(found.median, of.unit)} ({text(found.p99, of.unit)}, n={found.n})"


def _made(report: Report) -> str:
    revisions = sorted({section.versions.revision for section in report.sections})
    loads = [section.conditions.load_before for section in report.sections]
    began = min((section.conditions.began for section in report.sections), default="")
    return f"revision {', '.join(revisions)} of {began}, load before {min(loads):.2f} to {max(loads):.2f}"
