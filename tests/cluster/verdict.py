"""What a run of the conformance suite showed, read out of the Go test's own output.

Each test has one verdict line; a test that began and has none was cut off, which is a failure, and so is a run that
prints no final verdict. The suite's table says which profile a test belongs to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

SUITE = "TestConformance"
NOWHERE = ("none", "extended")
"""The place of a test that belongs to no profile."""
_VERDICT = re.compile(r"^\x16?\s*--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)")
_BEGAN = re.compile(r"^\x16?=== RUN\s+(\S+)")


class Test(msgspec.Struct, frozen=True):
    """One test of the suite, and the features that a gateway must have for it."""

    name: str
    features: tuple[str, ...]
    provisional: bool


class Profile(msgspec.Struct, frozen=True):
    """One profile with the features of its two parts."""

    name: str
    core: tuple[str, ...]
    extended: tuple[str, ...]


class Table(msgspec.Struct, frozen=True):
    """What the suite holds."""

    tests: tuple[Test, ...]
    profiles: tuple[Profile, ...]

    def home(self, test: Test) -> tuple[str, str]:
        """Where the test is listed: the first profile that has it in its core, else the first that has it at all."""
        places = self.places(test)
        return next((place for place in places if place[1] == "core"), places[0] if places else NOWHERE)

    def places(self, test: Test) -> list[tuple[str, str]]:
        """Every profile that has all the test's features, and the part of it that they make: core or extended."""
        wanted = set(test.features)
        return [
            (profile.name, "core" if wanted <= set(profile.core) else "extended")
            for profile in self.profiles
            if wanted <= {*profile.core, *profile.extended}
        ]


class Result(msgspec.Struct, frozen=True):
    """One test's verdict: pass, fail, or skip (a feature that is not claimed)."""

    name: str
    verdict: str
    seconds: float


class Run(msgspec.Struct, frozen=True):
    """A whole run. It passed when the last line says so and nothing failed or was cut off."""

    results: tuple[Result, ...]
    failed_parts: tuple[str, ...]
    finished: bool
    """The Go test printed its last line."""

    @property
    def passed(self) -> bool:
        """False also when not one test ran."""
        ran = [result for result in self.results if result.verdict != "skip"]
        return self.finished and bool(ran) and not self.failures and not self.failed_parts

    @property
    def failures(self) -> tuple[str, ...]:
        """The names of the tests that failed."""
        return tuple(result.name for result in self.results if result.verdict == "fail")


def single(line: str) -> Result | None:
    """The verdict that a line of output gives of one whole test of the suite."""
    found = _VERDICT.match(line)
    if found is None:
        return None
    path = found[2].split("/")
    if path[0] != SUITE or len(path) != 2:
        return None
    return Result(path[1], found[1].lower(), float(found[3]))


def read(lines: Iterable[str]) -> Run:
    """The run that printed these lines."""
    results: dict[str, Result] = {}
    began: list[str] = []
    failed_parts: list[str] = []
    finished = suite_failed = False
    for line in lines:
        if result := single(line):
            results[result.name] = result
        elif found := _BEGAN.match(line):
            began.append(found[1])
        elif (found := _VERDICT.match(line)) and found[1] == "FAIL":
            suite_failed = suite_failed or found[2] == SUITE
            failed_parts.append(found[2].removeprefix(f"{SUITE}/"))
        elif line.strip("\x16\n ") in {"PASS", "FAIL"}:
            finished = True
    for path in began:
        _, _, name = path.partition("/")
        if name and "/" not in name and name not in results:
            results[name] = Result(name, "fail", 0.0)
    parts = tuple(part for part in failed_parts if part != SUITE)
    if suite_failed and not any(result.verdict == "fail" for result in results.values()):
        parts += ("the suite's own set-up or clean-up",)
    return Run(tuple(sorted(results.values(), key=lambda result: result.name)), parts, finished)


def page(run: Run, table: Table, *, title: str, profiles: Sequence[str]) -> str:
    """Markdown: totals by profile and part, then every test once, with its verdict."""
    lines = [f"# {title}", "", *totals(run, table, profiles)]
    for (name, part), results in by_place(run, table, profiles).items():
        lines += ["", f"## {name}, {part}", "", "| test | verdict | seconds |", "|---|---|---|"]
        lines += [f"| {result.name} | {result.verdict} | {result.seconds:.1f} |" for result in results]
    if run.failed_parts:
        lines += ["", "## What failed", "", *(f"- {part}" for part in run.failed_parts)]
    return "\n".join(lines) + "\n"


def by_place(run: Run, table: Table, profiles: Sequence[str]) -> dict[tuple[str, str], list[Result]]:
    """The results of the chosen profiles, each where it is listed, in the suite's order of profiles."""
    known = {test.name: test for test in table.tests}
    rows: dict[tuple[str, str], list[Result]] = {}
    for result in run.results:
        place = table.home(known[result.name]) if result.name in known else NOWHERE
        rows.setdefault(place, []).append(result)
    return {place: rows[place] for place in order(table, profiles) if place in rows}


def totals(run: Run, table: Table, profiles: Sequence[str]) -> list[str]:
    """A Markdown table: one row for each profile and part. A test counts in every profile that has its features."""
    known = {test.name: test for test in table.tests}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for result in run.results:
        places = table.places(known[result.name]) if result.name in known else []
        for place in places or [NOWHERE]:
            counts.setdefault(place, Counter())[result.verdict] += 1
    return [
        *("| profile | part | pass | fail | skip |", "|---|---|---|---|---|"),
        *(
            f"| {' | '.join(place)} | {count['pass']} | {count['fail']} | {count['skip']} |"
            for place in order(table, profiles)
            if (count := counts.get(place))
        ),
    ]


def order(table: Table, profiles: Sequence[str]) -> list[tuple[str, str]]:
    """The places of the chosen profiles as the suite orders them, then nowhere."""
    names = [profile.name for profile in table.profiles if profile.name in profiles]
    return [*((name, part) for name in names for part in ("core", "extended")), NOWHERE]
