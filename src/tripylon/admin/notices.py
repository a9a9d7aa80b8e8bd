"""Notices: findings and problems of files in one form, each with the place to edit. What `check` prints as JSON.

The invariant: the order is that of the files, whatever order things were found in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tripylon.files.problems import Problem
from tripylon.findings import Finding, Severity
from tripylon.values import Ref

Locate = Callable[[Ref, str], tuple[str, int, int] | None]


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Which object is meant."""

    group: str
    kind: str
    namespace: str
    name: str


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing to tell a user, and where to edit."""

    object: Identity | None
    """None: the document is too broken to tell, or it is about a file as a whole."""
    field: str
    """Path of the field, such as `spec.rules[0].name`; empty: the object as a whole."""
    file: str
    """Empty for an object that came from no file."""
    line: int
    """From 1; 0: the file as a whole."""
    column: int
    """From 1; 0: the file as a whole."""
    severity: Severity
    condition: str
    """The condition that this turns bad in a cluster; empty where an API server would refuse the object."""
    reason: str
    message: str
    hint: str

    @property
    def place(self) -> str:
        """`file:line:column`, as compilers write it."""
        if not self.file:
            return f"{self.object.kind} {self.object.namespace}/{self.object.name}" if self.object else "-"
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


def notices(findings: Iterable[Finding], problems: Iterable[Problem], locate: Locate) -> tuple[Notice, ...]:
    """All of them, by file, line and column; what turns several conditions bad, once, with the first of them."""
    found = {*(_of_problem(problem) for problem in problems), *(_of_finding(finding, locate) for finding in findings)}
    once: dict[Notice, Notice] = {}
    for notice in sorted(found, key=lambda each: (*_order(each), each.condition)):
        once.setdefault(msgspec.structs.replace(notice, condition=""), notice)
    return tuple(once.values())


def count(found: Iterable[Notice]) -> tuple[int, int]:
    """How many errors and how many warnings."""
    severities = [notice.severity for notice in found]
    return severities.count("error"), severities.count("warning")


def _order(notice: Notice) -> tuple[str, int, int, str, str, str]:
    return notice.file, notice.line, notice.column, notice.place, notice.field, notice.message


def _of_problem(problem: Problem) -> Notice:
    return Notice(
        object=Identity(*problem.object) if problem.object else None,
        field=problem.field,
        file=problem.file,
        line=problem.line,
        column=problem.column,
        severity=problem.severity,
        condition="",
        reason=problem.reason,
        message=problem.message,
        hint=problem.hint,
    )


def _of_finding(finding: Finding, locate: Locate) -> Notice:
    file, line, column = locate(finding.object, finding.field) or ("", 0, 0)
    return Notice(
        object=Identity(*finding.object),
        field=finding.field,
        file=file,
        line=line,
        column=column,
        severity=finding.severity,
        condition=finding.condition,
        reason=finding.reason,
        message=finding.message,
        hint=finding.hint,
    )
