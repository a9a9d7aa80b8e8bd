"""The law of the graph: whatever happened before, its content equals that of a fresh graph fed with the final state."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tripylon.graph import Derive, Graph, Index, Read, Table
from tripylon.values import Built

NUMBERS: Table[str, int] = Table("numbers")
LINKS: Table[str, str] = Table("links")
SUMS: Table[str, int] = Table("sums")
BY_PARITY: Index[int, str, int] = Index("sums by parity", SUMS, lambda _, value: (value % 2,))
PARITIES: Table[int, tuple[int, int]] = Table("parities")


def _sum(read: Read, key: str) -> Built[int, str] | None:
    """A link's own number plus that of the number it points at; odd keys have a finding."""
    target = read.get(LINKS, key)
    number = read.get(NUMBERS, target) if target is not None else None
    if number is None:
        return Built(None, (f"{key}: nothing at {target}",))
    return Built(number + len(key), (f"{key}: odd",) if number % 2 else ())


def _parity(read: Read, parity: int) -> Built[tuple[int, int], str] | None:
    values = read.lookup(BY_PARITY, parity)
    return Built((read.count(BY_PARITY, parity), sum(values)))


def new_graph() -> Graph:
    return Graph(
        inputs=(NUMBERS, LINKS),
        derives=(Derive(SUMS, (LINKS,), _sum), Derive(PARITIES, (BY_PARITY,), _parity)),
        indexes=(BY_PARITY,),
        subject=lambda finding: finding.split(":")[0],
        on_error=lambda table, key, error: (f"{key}: {error}",),
    )


def content(graph: Graph) -> dict[str, Any]:
    return {
        "sums": dict(graph.rows(SUMS)),
        "parities": dict(graph.rows(PARITIES)),
        "findings": sorted(graph.all_findings()),
    }


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("number"), KEYS, st.one_of(st.none(), st.integers(0, 5))),
        st.tuples(st.just("link"), KEYS, st.one_of(st.none(), KEYS)),
        st.tuples(st.just("flush"), st.none(), st.none()),
        st.tuples(st.just("advance"), st.none(), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_incremental_equals_from_scratch(steps: list[tuple[str, Any, Any]]) -> None:
    graph, numbers, links = new_graph(), dict[str, int](), dict[str, str]()
    for what, key, value in steps:
        if what == "flush":
            graph.flush()
            continue
        if what == "advance":
            graph.advance(2)
            continue
        table: Table[str, Any] = NUMBERS if what == "number" else LINKS
        state: dict[str, Any] = numbers if what == "number" else links
        if value is None:
            graph.delete(table, key)
            state.pop(key, None)
        else:
            graph.put(table, key, value)
            state[key] = value
    graph.flush()
    fresh = new_graph()
    for key, number in numbers.items():
        fresh.put(NUMBERS, key, number)
    for key, link in links.items():
        fresh.put(LINKS, key, link)
    fresh.flush()
    assert content(graph) == content(fresh)


def test_flush_recomputes_only_what_asked() -> None:
    built: list[str] = []

    def build(read: Read, key: str) -> Built[int, str] | None:
        built.append(key)
        return _sum(read, key)

    graph = Graph(
        inputs=(NUMBERS, LINKS),
        derives=(Derive(SUMS, (LINKS,), build),),
        indexes=(),
        subject=str,
        on_error=lambda *_: (),
    )
    for name in "abcd":
        graph.put(NUMBERS, name, 2)
        graph.put(LINKS, name, name)
    graph.flush()
    built.clear()
    graph.put(NUMBERS, "c", 4)
    assert graph.flush().keys(SUMS) == {"c"}
    assert built == ["c"]
    graph.put(NUMBERS, "c", 4)
    assert not graph.flush()
    assert built == ["c"]


def test_a_build_that_raises_keeps_its_value_and_its_neighbours() -> None:
    def build(read: Read, key: str) -> Built[int, str] | None:
        number = read.get(NUMBERS, key)
        if number == 13:
            raise ValueError("unlucky")
        return Built(number)

    graph = Graph(
        inputs=(NUMBERS,),
        derives=(Derive(SUMS, (NUMBERS,), build),),
        indexes=(),
        subject=lambda finding: finding.split(":")[0],
        on_error=lambda table, key, error: (f"{key}: {error} in {table.name}",),
    )
    graph.put(NUMBERS, "a", 1)
    graph.put(NUMBERS, "b", 2)
    graph.flush()
    graph.put(NUMBERS, "a", 13)
    graph.put(NUMBERS, "b", 3)
    graph.flush()
    assert dict(graph.rows(SUMS)) == {"a": 1, "b": 3}
    assert graph.findings("a") == ("a: unlucky in sums",)
    graph.put(NUMBERS, "a", 5)
    assert graph.flush().subjects == {"a"}
    assert graph.findings("a") == ()


def test_parts_are_kept_for_as_long_as_the_row_has_them() -> None:
    made: list[tuple[str, ...]] = []
    words: Table[str, tuple[str, ...]] = Table("words")
    all_words: Index[str, str, tuple[str, ...]] = Index("all words", words, lambda *_: ("all",))
    joined: Table[str, str] = Table("joined")
    sign = ["-"]

    def part(of: tuple[str, ...], between: str) -> str:
        made.append(of)
        return between.join(of)

    def build(read: Read, group: str) -> Built[str, str] | None:
        return Built(" ".join(read.kept(part, each, sign[0]) for each in read.lookup(all_words, group)))

    def flushed() -> tuple[str | None, list[tuple[str, ...]]]:
        made.clear()
        graph.flush()
        return graph.get(joined, "all"), list(made)

    graph = Graph(
        inputs=(words,),
        derives=(Derive(joined, (all_words,), build),),
        indexes=(all_words,),
        subject=str,
        on_error=lambda *_: (),
    )
    graph.put(words, "a", ("a", "b"))
    graph.put(words, "c", ("c", "d"))
    assert flushed() == ("a-b c-d", [("a", "b"), ("c", "d")])
    graph.put(words, "c", ("c", "e"))
    assert flushed() == ("a-b c-e", [("c", "e")]), "only what is new"
    sign[0] = "+"
    graph.put(words, "c", ("c", "d"))
    assert flushed() == ("a+b c+d", [("a", "b"), ("c", "d")]), "what it is made with is other"
    first = graph.get(words, "a")
    assert first is not None
    graph.delete(words, "a")
    graph.delete(words, "c")
    assert flushed() == (None, [])
    graph.put(words, "a", first)
    assert flushed() == ("a+b", [("a", "b")]), "the row had gone, and all of it"


def test_what_advances_by_parts_is_told_as_a_whole() -> None:
    graph = new_graph()
    for number, name in enumerate("abcdef"):
        graph.put(NUMBERS, name, number)
        graph.put(LINKS, name, name)
    assert graph.advance(4)
    assert len(graph.rows(SUMS)) == 4
    while graph.advance(4):
        pass
    assert len(graph.rows(PARITIES)) == 2
    changes = graph.flush()
    assert changes.keys(SUMS) == set("abcdef")
    assert changes.keys(PARITIES) == {0, 1}
    assert not graph.flush()
