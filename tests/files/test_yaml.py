"""Documents, values and mistakes of YAML and JSON texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripylon.files.positions import field_path, first_duplicate, positions
from tripylon.files.yaml import DocumentError, documents, parse, parse_json, parse_yaml_1_1, text_of

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


def cut(data: bytes) -> list[tuple[bytes, int, int]]:
    return [(document.data, document.line, document.column) for document in documents(data)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n \n", []),
        (b"---\n---\n--- \n", []),
        (b"a: 1", [(b"a: 1", 1, 1)]),
        (b"\xef\xbb\xbfa: 1", [(b"a: 1", 1, 1)]),
        (b"a: 1\n---\nb: 2\n", [(b"a: 1\n", 1, 1), (b"\nb: 2\n", 2, 4)]),
        (b"---\na: 1\n---", [(b"\na: 1\n", 1, 4)]),
        (b"--- {a: 1}\n--- # x\r\nb: 1\r\n", [(b" {a: 1}\n", 1, 4), (b" # x\r\nb: 1\r\n", 2, 4)]),
        (b"a: 1\n...\nb: 1\n", [(b"a: 1\n", 1, 1), (b"\nb: 1\n", 2, 4)]),
        (b"---x: 1\n----\n", [(b"---x: 1\n----\n", 1, 1)]),
        (b"a: |\n x\n ---\n ...\n y\n---\nb: 1", [(b"a: |\n x\n ---\n ...\n y\n", 1, 1), (b"\nb: 1", 6, 4)]),
        (b"%YAML 1.2\n# c\n---\na: 1\n", [(b"\na: 1\n", 3, 4)]),
    ],
)
def test_documents_are_cut_at_their_markers(data: bytes, expected: list[tuple[bytes, int, int]]) -> None:
    assert cut(data) == expected


def test_equal_documents_have_equal_digests() -> None:
    first, second, third = documents(b"\na: 1\n---\na: 1\n---\na: 2")
    assert first.data == second.data
    assert first.digest == second.digest != third.digest


def test_a_block_of_text_keeps_its_end_before_a_marker() -> None:
    data = b"a: |\n x\n---\na: |\n x\n...\n---\na: |\n x\n"
    assert [parse(text_of(document)) for document in documents(data)] == [{"a": "x\n"}] * 3


@given(st.lists(st.sampled_from(["a: 1", "---", "--- # c", "...", "", "# c", " - x", "---x", "\r"]), max_size=12))
def test_every_document_stands_where_it_is_said_to(lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    for document in documents(data):
        assert data[document.start :].startswith(document.data)
        offset = sum(len(line) + 1 for line in data.split(b"\n")[: document.line - 1]) + document.column - 1
        assert offset == document.start


@pytest.mark.parametrize("data", ["a: 1".encode("utf-16"), "a: 1".encode("utf-16-be"), b"\0\0\0\0"])
def test_other_encodings_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="not UTF-8") as caught:
        documents(data)
    assert caught.value.reason == "NotUTF8"


def test_the_first_byte_that_is_not_utf8_is_named() -> None:
    (document,) = documents("a: 1\nb: käse, ".encode() + b"k\xe4se\n")
    with pytest.raises(DocumentError) as caught:
        text_of(document)
    assert (caught.value.line, caught.value.column) == (2, 11)
    assert caught.value.message == "Byte 0xe4 is not UTF-8 text"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment\n", None),
        ("a: yes\nb: 2020-01-01\nc: ~\nd: 0x1F\n", {"a": "yes", "b": "2020-01-01", "c": None, "d": 31}),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n", {"a": {"b": 1}, "c": {"b": 1, "d": 1}}),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}\n", {"a": {"b": 1}, "c": {"b": 2}}),
        ('a: "<<: no merge"\n', {"a": "<<: no merge"}),
        ("a:\tb\n", {"a": "b"}),
        ("a: &a [&a 1, *a, '*a']\nb: *a\n", {"a": [1, 1, "*a"], "b": 1}),
        ("a: '.inf'\nb: 1e3\nc: x.nan\n", {"a": ".inf", "b": 1000, "c": "x.nan"}),
        ("1: a\n2.5: b\nfalse: c\nnull: d\n", {"1": "a", "2.5": "b", "false": "c", "null": "d"}),
        ("- {1: [{2: x}]}", [{"1": [{"2": "x"}]}]),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse(text) == value


def test_the_second_reading_follows_yaml_1_1_but_leaves_dates() -> None:
    text = "a: yes\nb: 0644\nc: 2020-01-01\nd: off\n"
    assert parse_yaml_1_1(text) == {"a": True, "b": 420, "c": "2020-01-01", "d": False}


@pytest.mark.parametrize(
    ("text", "reason", "line", "column", "message"),
    [
        ("a: 1\nb: [1,\n", "InvalidSyntax", 2, 4, "This is no YAML: unclosed bracket '['"),
        ("a: b: c", "InvalidSyntax", 1, 5, "This is no YAML: mapping values are not allowed in this context"),
        ("a: *b", "InvalidSyntax", 1, 4, "This is no YAML: while parsing node, found unknown anchor"),
        ("a:\n  b: 1\n  c: {x: 1}\n  b: 2\n", "DuplicateKey", 4, 3, "Key `b` is given twice in the same map"),
        ("- {a: 1, b: {a: 1}, a: 2}\n", "DuplicateKey", 1, 21, "Key `a` is given twice in the same map"),
        ("<<: {a: 1}\nb: 1\nb: 2\n", "DuplicateKey", 3, 1, "Key `b` is given twice in the same map"),
        ("1: a\n'1': b\n", "DuplicateKey", 1, 1, "Key `1` is given twice in the same map"),
        (BOMB, "AliasBomb", 1, 1, "Aliases (*name) repeat too much of the document"),
        (f"<<: {{x: 1}}\n{BOMB}", "AliasBomb", 1, 1, "Aliases (*name) repeat too much of the document"),
        ("a: &a\n  <<: *a", "AliasBomb", 1, 1, "Aliases (*name) repeat too much of the document"),
        ("a: &a\n  b: *a", "AliasCycle", 2, 6, "Alias `*a` stands within what it names, which would have no end"),
        ("- &a [&b {c: *a}]", "AliasCycle", 1, 14, "Alias `*a` stands within what it names, which would have no end"),
        ("a: 1\nb: [.NaN]", "InvalidSyntax", 2, 5, "JSON has no number like .NaN"),
        ("a: .inf # no", "InvalidSyntax", 1, 4, "JSON has no number like .inf"),
        ("a: -1e999", "InvalidSyntax", 1, 4, "JSON has no number like -1e999"),
        ("- " * 3000 + "x", "TooDeep", 1, 1, "Maps and lists nest more than 100 deep"),
        ("- " * 3000 + ".nan", "TooDeep", 1, 1, "Maps and lists nest more than 100 deep"),
        ("a: !!set {x}", "InvalidSyntax", 1, 1, "JSON has no value like {'x'}"),
        ("[a]: b", "InvalidSyntax", 1, 1, "A map or a list cannot be a key"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, reason: str, line: int, column: int, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    error = caught.value
    assert (error.reason, error.line, error.column, error.message) == (reason, line, column, message)
    assert error.hint


@pytest.mark.parametrize("brackets", ["[" * 100_000, "{a: " * 100_000, "[" * 300 + "]" * 300])
def test_brackets_without_end_are_refused(brackets: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(brackets)
    assert caught.value.reason == "InvalidSyntax"


@pytest.mark.parametrize(
    ("text", "reason", "line", "column"),
    [
        ('{"a": 1,\n "b": }', "InvalidSyntax", 2, 7),
        ('{"a": {"b": 1,\n  "b": 2}}', "DuplicateKey", 2, 3),
        ('{"a": NaN}', "InvalidSyntax", 1, 1),
        ("[" * 100_000, "TooDeep", 1, 1),
        ("{}x", "InvalidSyntax", 1, 3),
    ],
)
def test_mistakes_in_json(text: str, reason: str, line: int, column: int) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_json(text)
    assert (caught.value.reason, caught.value.line, caught.value.column) == (reason, line, column)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, alphabet="abc.é-"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
@settings(deadline=None)
def test_json_is_yaml_too(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert parse_json(text) == value
    assert parse(text) == value


@given(st.text(alphabet="ab:-&*<>{}[],#'\"|!\n 1~\t", max_size=60) | st.text(max_size=30))
@settings(max_examples=1000, deadline=None)
def test_any_text_gives_a_value_or_a_document_error(text: str) -> None:
    try:
        json.dumps(parse(text))
    except DocumentError as error:
        assert error.line >= 1
        assert error.column >= 1
    first_duplicate(text)
    assert positions(text, (("a", 0, "b"),)).keys() == {("a", 0, "b")}


TEXT = """\
# comment
spec:
  rules:
  - name: a
    x: [1, {b: 2}]
  - name: c
    "quoted key": 1
  e: &q {f: 1}
  g: *q
  10: ten
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), (2, 1)),
        (("spec",), (2, 1)),
        (("spec", "rules"), (3, 3)),
        (("spec", "rules", 0), (4, 5)),
        (("spec", "rules", 1, "name"), (6, 5)),
        (("spec", "rules", 0, "x", 1, "b"), (5, 13)),
        (("spec", "rules", 1, "quoted key"), (7, 5)),
        (("spec", "e", "f"), (8, 10)),
        (("spec", "10"), (10, 3)),
        # What is not there: the innermost part that is.
        (("status",), (2, 1)),
        (("spec", "missing", "more"), (2, 1)),
        (("spec", "rules", 7, "name"), (3, 3)),
        (("spec", "g", "f"), (9, 3)),
    ],
)
def test_positions(path: tuple[str | int, ...], place: tuple[int, int]) -> None:
    assert positions(TEXT, (path,)) == {path: place}


def test_positions_of_many_paths_at_once() -> None:
    items = tuple(("items", index, "name") for index in range(3000))
    text = "items:\n" + "- name: x\n" * 3000
    assert positions(text, items) == {path: (index + 2, 3) for index, path in enumerate(items)}


def test_positions_before_a_syntax_error() -> None:
    assert positions("a:\n  b: 1\n  c: [", (("a", "b"), ("a", "c", 0))) == {("a", "b"): (2, 3), ("a", "c", 0): (3, 3)}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("spec.rules[0].name", ("spec", "rules", 0, "name")),
        ('metadata.labels["a.b/c"]', ("metadata", "labels", "a.b/c")),
        ("metadata.labels['a.b/c'].x", ("metadata", "labels", "a.b/c", "x")),
        ("data[tls.crt]", ("data", "tls.crt")),
        ("spec.rules[0] and more", ("spec", "rules", 0)),
    ],
)
def test_field_paths(text: str, path: tuple[str | int, ...]) -> None:
    assert field_path(text) == path
