"""What the benchmark is made of holds together; its figures are nobody's business here."""

from __future__ import annotations

from pathlib import Path

from tests.bench import __main__ as bench
from tests.bench import gateways
from tests.bench.table import Table, megabytes, milliseconds

from tripylon.api.routes import HTTPRoute
from tripylon.files.source import FileSource


def test_its_objects_are_valid_and_the_same_in_every_form(tmp_path: Path) -> None:
    objects = gateways.objects(tmp_path / "one", 5, 8080, 9000)
    gateways.write_folder(tmp_path / "some", 5, 8080, 9000)
    gateways.write_documents(tmp_path / "each", 5, 8080, 9000)
    for folder, files in (("some", 6), ("each", 16)):
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
