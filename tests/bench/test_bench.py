"""What the benchmark is made of holds together; its figures are nobody's business here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from tests.bench import __main__ as bench
from tests.bench import document, gateways
from tests.bench.against import pooled
from tests.bench.compare import changes, told
from tests.bench.machine import Watch, machine, versions
from tests.bench.measures import measure, spread
from tests.bench.report import Report, Section, merged, read, save
from tests.bench.table import Table, megabytes, milliseconds
from tests.live.churn import SETTLED_S, Shown, wrong
from tests.live.load import Record
from tests.live.soak import Use, grown

from tripylon.api.routes import HTTPRoute
from tripylon.files.source import FileSource


def test_its_objects_are_valid_and_the_same_in_every_form(tmp_path: Path) -> None:
    objects = gateways.objects(tmp_path / "one", 5, 8080, 9000)
    gateways.write_folder(tmp_path / "some", 5, 8080, 9000)
    gateways.write_documents(tmp_path / "each", 5, 8080, 9000)
    gateways.write_folder(tmp_path / "many", 5, 8080, 9000, in_one_file=2)
    for folder, files in (("some", 6), ("many", 4), ("each", 16)):
        changes = FileSource([tmp_path / folder]).scan()
        assert not changes.problems
        assert {each.ref: each for each in changes.put} == {each.ref: each for each in objects}
        assert len(list((tmp_path / folder).iterdir())) == files


def test_a_changed_route_differs_in_its_path_alone(tmp_path: Path) -> None:
    route = next(each for each in gateways.objects(tmp_path / "one", 1, 8080, 9000) if isinstance(each, HTTPRoute))
    moved = gateways.changed(route, "/moved")
    assert isinstance(moved, HTTPRoute)
    assert moved != route
    assert moved.spec.rules[0].matches[0].path.value == "/moved"
    assert gateways.changed(moved, "/") == route


def test_tables_are_markdown() -> None:
    table = Table("Title", ("what", "how much"), (("one", milliseconds(0.00123)), ("two", megabytes(2e9))), "Note.")
    assert table.text().splitlines() == [
        "### Title",
        "",
        "| what | how much |",
        "|------|----------|",
        "| one  | 1.23     |",
        "| two  | 2,000    |",
        "",
        "Note.",
    ]
    assert [milliseconds(value) for value in (0.01, 0.0099, 1.5)] == ["10", "9.90", "1,500"]


def test_an_unknown_table_is_refused() -> None:
    assert bench.main(["nonsense"]) == 2


def report(*values: float, name: str = "answered") -> Report:
    made = measure(name, "s", values, aims=[("median", 0.005)])
    table = Table("Change", ("answered",), ((spread(made),),), measures=(made,))
    return Report(machine(), (Section("change", Watch().conditions(), versions("wrk"), "", (table,)),))


def test_a_distribution_has_values_that_were_measured() -> None:
    many = measure("m", "s", [number / 1000 for number in range(100, 0, -1)])
    assert spread(many) == "50.5 / 90 / 99 / 100 ms (n=100)"
    assert spread(measure("m", "s", [0.002, 0.001, 0.0033])) == "1 / 2 / 3.30 ms (n=3)"
    assert spread(measure("m", "bytes", [5e8])) == "500 MB"
    assert spread(measure("m", "ratio", [0.5, 1.25])) == "0.50 / 0.88 / 1.25 (n=2)"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([1.0, 1.1, 1.2], [1.15, 1.3, 1.4], ""),
        ([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], ""),
        ([1.0, 1.1, 1.2], [1.6, 1.7, 1.8], "worse"),
        ([1.0, 1.1, 1.2], [0.3, 0.4, 0.5], "better"),
        ([1.0], [1.05], ""),
        ([1.0], [1.3], "worse"),
        ([1.0, 2.0] * 50, [1.0, 2.0] * 50, ""),
        ([1.0] * 60 + [2.0] * 40, [1.0] * 40 + [2.0] * 60, ""),
        ([1.0] * 90 + [2.0] * 10, [1.0] * 10 + [2.0] * 90, "worse"),
    ],
)
def test_only_what_is_beyond_the_noise_is_marked(before: list[float], after: list[float], verdict: str) -> None:
    (change,) = changes(report(*before), report(*after))
    assert change.verdict == verdict
    assert change.ratio == change.after.distribution.median / change.before.distribution.median


def test_a_comparison_names_what_only_one_has() -> None:
    text = told(report(1.0), report(1.0, name="other"))
    assert "In one of them only: answered, other." in text


def test_reports_survive_json_and_are_merged_by_section(tmp_path: Path) -> None:
    first, second = report(1.0), report(2.0)
    save(first, tmp_path / "a.json")
    assert read(tmp_path / "a.json") == first
    assert merged([first, second]).sections == second.sections
    assert pooled([first, second]).measures["answered"].values == (1.0, 2.0)


def test_pages_are_written_between_markers_only() -> None:
    page = "Prose.\n\n<!-- bench:change -->\nold\n<!-- /bench -->\nMore.\n<!-- bench:gone -->\nkept\n<!-- /bench -->\n"
    found = document.filled(page, document.parts(report(0.004)))
    assert "old" not in found
    assert "4 ms" in found
    assert found.startswith("Prose.")
    assert "\nMore.\n<!-- bench:gone -->\nkept\n" in found
    assert document.filled(found, document.parts(report(0.004))).count("### Change") == 1


@pytest.mark.parametrize(("value", "met"), [(0.005, "yes"), (0.0051, "**no**")])
def test_aims_are_told_as_met_or_not(value: float, met: str) -> None:
    assert document.aims(report(value)).splitlines()[-1].split("|")[-2].strip() == met


def test_a_report_becomes_a_line_of_the_history_and_two_are_compared() -> None:
    assert document.entry(report(0.5)).figures == {"answered": (0.5, 0.5)}
    assert bench.main(["compare"]) == 2


@pytest.mark.parametrize(
    ("sent_s", "outcome", "right"),
    [
        (9.0, "200 a", True),
        (9.0, "200 b", False),
        (10.2, "200 a", True),
        (10.2, "200 b", True),
        (10.2, "503", False),
        (10.5 + SETTLED_S + 0.1, "200 a", False),
        (10.5 + SETTLED_S + 0.1, "200 b", True),
        (10.5 + SETTLED_S + 0.1, "reset", False),
    ],
)
def test_an_answer_under_churn_must_have_been_right_at_some_moment(sent_s: float, outcome: str, right: bool) -> None:
    story = {"host": [Shown("200 a", 0.0, 0.0), Shown("200 b", 10.0, 10.5)]}
    assert (wrong([Record(sent_s, sent_s + 0.01, "host", outcome)], story) == []) is right


def test_growth_is_told_from_what_varies() -> None:
    assert grown([Use(100.0, 40.0)] * 3 + [Use(120.0, 40.0)] * 3 + [Use(125.0, 45.0)] * 3) == []
    assert grown([Use(100.0, 40.0)] * 6 + [Use(106.0, 60.0)] * 3) == [
        "resident_bytes grew from 100 to 106",
        "files grew from 40 to 60",
    ]


def test_the_page_is_the_one_that_its_report_makes() -> None:
    page = document.PAGE.read_text()
    assert document.filled(page, document.parts(read(document.REPORT))) == page


@pytest.mark.parametrize("place", [*bench.TABLES.values(), *bench.BY_LAYOUT.values()])
def test_every_measurement_is_there(place: str) -> None:
    module, _, function = place.partition(":")
    assert callable(getattr(import_module(f"tests.bench.{module}"), function))
