"""Files as a source of objects: what serves, what is said, and where."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tripylon.api.meta import Resource
from tripylon.files import source
from tripylon.files.listing import Limits
from tripylon.files.objects import Entry, read_document
from tripylon.files.problems import Problem
from tripylon.files.source import Changes, FileSource
from tripylon.files.yaml import Document
from tripylon.values import Ref

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: {name}
spec:
  rules:
  - matches:
    - path:
        value: {path}
    backendRefs:
    - name: web
      port: 8080
"""
GROUP = "gateway.networking.k8s.io"


def route(name: str, path: str = "/") -> str:
    return ROUTE.format(name=name, path=path)


def ref(name: str, kind: str = "HTTPRoute", namespace: str = "default") -> Ref:
    return Ref({"Secret": "", "Service": ""}.get(kind, GROUP), kind, namespace, name)


class World:
    """A folder, its source, and the objects that follow from the changes."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.source = FileSource([folder], limits=limits)
        self.objects: dict[Ref, Resource] = {}

    def write(self, name: str, *documents: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(documents))
        return path

    def scan(self) -> Changes:
        changes = self.source.scan()
        for gone in changes.delete:
            del self.objects[gone]
        for resource in changes.put:
            assert self.objects.get(resource.ref) != resource
            self.objects[resource.ref] = resource
        return changes

    def problem(self) -> Problem:
        (problem,) = self.scan().problems
        return problem

    def path_of(self, name: str) -> str:
        """The path that the route of this name matches."""
        rules = msgspec.to_builtins(self.objects[ref(name)])["spec"]["rules"]
        return str(rules[0]["matches"][0]["path"].get("value", "/"))

    def names(self) -> list[str]:
        return sorted(each.name for each in self.objects)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def place(problem: Problem) -> tuple[str, int, int]:
    return Path(problem.file).name, problem.line, problem.column


# --- What serves ---------------------------------------------------------------------------------------------------


def test_put_change_delete(world: World) -> None:
    file = world.write("a.yaml", route("one"), route("two"))
    first = world.scan()
    assert [each.ref for each in first.put] == [ref("one"), ref("two")]
    assert (first.delete, first.problems) == ((), ())

    assert world.scan() == Changes(put=(), delete=(), problems=())

    world.write("a.yaml", route("one"), route("two", "/new"), route("three"))
    assert [each.ref for each in world.scan().put] == [ref("two"), ref("three")]
    assert world.path_of("two") == "/new"

    world.write("a.yaml", route("three"))
    assert world.scan() == Changes(put=(), delete=(ref("one"), ref("two")), problems=())

    file.unlink()
    assert world.scan() == Changes(put=(), delete=(ref("three"),), problems=())


def test_namespaces(world: World) -> None:
    world.write(
        "a.yaml",
        route("here"),
        route("there").replace("name: there", "name: there\n  namespace: shop"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, namespace: x}\n",
    )
    assert world.scan().problems == ()
    assert set(world.objects) == {ref("here"), ref("there", namespace="shop"), Ref("", "Namespace", "", "shop")}


def test_json_and_lists_and_nested_folders(world: World) -> None:
    world.write("deep/er/a.json", '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}')
    items = "".join("- " + route(name).replace("\n", "\n  ").rstrip() + "\n" for name in ("one", "two"))
    world.write("list.yml", f"apiVersion: v1\nkind: List\nitems:\n{items}")
    bare = "- metadata: {name: three}\n  spec: {}\n"
    world.write("typed.yaml", f"apiVersion: {GROUP}/v1\nkind: HTTPRouteList\nitems:\n{bare}")
    assert world.scan().problems == ()
    assert world.names() == ["one", "three", "two", "web"]
    assert world.source.locate(ref("two"), "spec.rules[0].backendRefs[0].port") == (
        str(world.folder / "list.yml"),
        27,
        9,
    )


def test_a_file_named_itself_may_end_as_it_likes(tmp_path: Path) -> None:
    file = tmp_path / "routes.txt"
    file.write_text(route("one"))
    source = FileSource([file])
    assert [each.ref for each in source.scan().put] == [ref("one")]
    file.unlink()
    changes = source.scan()
    assert changes.delete == ()
    assert [(each.reason, each.message) for each in changes.problems] == [
        ("NotFound", "There is no such file or folder")
    ]


def test_other_files_and_what_editors_leave_are_not_read(world: World) -> None:
    names = [
        ".a.yaml.swp",
        "a.yaml~",
        "4913",
        "#a.yaml#",
        ".#a.yaml",
        "a.yaml.tmp",
        ".hidden.yaml",
        "b.txt",
        "a.yaml.bak",
    ]
    for name in [*names, ".git/a.yaml", "x.tmp/a.yaml"]:
        world.write(name, "{{{")
    world.write("a.yaml", route("one"))
    assert world.scan().problems == ()
    assert world.names() == ["one"]


def test_empty_files_and_comments_say_nothing(world: World) -> None:
    world.write("a.yaml", "")
    world.write("b.yaml", "# nothing\n", "\n", "# nothing either\n")
    world.write("c.json", "")
    world.write("d.yaml", "null\n", route("one"))
    assert world.scan().problems == ()
    assert world.names() == ["one"]


def test_yaml_1_1_words_are_understood_where_only_they_fit(world: World) -> None:
    slice_text = (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web}\naddressType: IPv4\n"
        "endpoints:\n- addresses: [10.0.0.1]\n  conditions: {ready: yes}\n"
    )
    world.write("a.yaml", slice_text)
    assert world.scan().problems == ()
    (resource,) = world.objects.values()
    assert msgspec.to_builtins(resource)["endpoints"][0]["conditions"]["ready"] is True


# --- Bad documents: the last good version serves -------------------------------------------------------------------


def test_broken_yaml(world: World) -> None:
    world.write("a.yaml", route("one"), route("two"), route("three"))
    world.scan()
    broken = route("two", "/new").replace("port: 8080", "port: [8080")
    world.write("a.yaml", route("one", "/new"), broken, route("three"))
    problem = world.problem()
    assert problem == Problem(
        file=str(world.folder / "a.yaml"),
        line=25,
        column=13,
        object=ref("two"),
        reason="InvalidSyntax",
        message="This is no YAML: unclosed bracket '['",
        hint="close it",
    )
    assert [world.path_of(name) for name in ("one", "two", "three")] == ["/new", "/", "/"]
    assert str(problem) == f"{world.folder}/a.yaml:25:13: This is no YAML: unclosed bracket '['; close it"

    assert world.scan().delete == ()  # Still broken, still serving.
    world.write("a.yaml", route("one", "/new"), route("two", "/new"), route("three"))
    assert world.scan().problems == ()
    assert world.path_of("two") == "/new"


def test_a_broken_document_that_says_not_what_it_is(world: World) -> None:
    world.write("a.yaml", route("one"), route("two"))
    world.write("b.yaml", route("three"))
    world.scan()
    world.write("a.yaml", route("one"), "kind: [\n")
    (world.folder / "b.yaml").unlink()
    assert [place(each) for each in world.scan().problems] == [("a.yaml", 14, 7)]
    assert world.names() == ["one", "two"]  # Another file's object was deleted, this file's was not.

    world.write("b.yaml", route("two", "/moved"))
    world.scan()
    assert world.path_of("two") == "/moved"
    world.write("a.yaml", route("one"))
    world.scan()
    assert world.names() == ["one", "two"]
    (world.folder / "b.yaml").unlink()
    world.scan()
    assert world.names() == ["one"]


def test_a_half_typed_name_in_a_broken_document_deletes_nothing(world: World) -> None:
    world.write("a.yaml", route("edge"))
    world.scan()
    world.write("a.yaml", route("ed").replace("port: 8080", "port: [8080"))
    assert world.problem().object == ref("ed")
    assert world.names() == ["edge"]


def test_a_broken_document_that_was_never_good_serves_nothing(world: World) -> None:
    world.write("a.yaml", route("one").replace("port: 8080", "port: eighty"), route("two"))
    problem = world.problem()
    assert (place(problem), problem.object) == (("a.yaml", 12, 7), ref("one"))
    assert world.names() == ["two"]


def test_an_invalid_object_is_known_by_its_name_so_others_may_go(world: World) -> None:
    world.write("a.yaml", route("one"), route("two"), route("three"))
    world.scan()
    world.write("a.yaml", route("two").replace("port: 8080", "port: 0"), route("three"))
    assert world.scan().delete == (ref("one"),)
    assert world.names() == ["three", "two"]


def test_a_broken_object_that_moved_to_another_file_serves_on(world: World) -> None:
    world.write("a.yaml", route("one"), route("two"))
    world.scan()
    world.write("a.yaml", route("two"))
    world.write("b.yaml", route("one").replace("port: 8080", "port: 0"))
    world.scan()
    assert world.names() == ["one", "two"]
    assert world.source.locate(ref("one")) == (str(world.folder / "b.yaml"), 1, 1)


def test_duplicate_keys(world: World) -> None:
    world.write("a.yaml", route("one"), route("two").replace("      port: 8080", "      port: 8080\n      name: other"))
    problem = world.problem()
    assert (place(problem), problem.reason, problem.message, problem.hint) == (
        ("a.yaml", 26, 7),
        "DuplicateKey",
        "Key `name` is given twice in the same map",
        "remove one",
    )
    assert world.names() == ["one"]


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "field", "message", "hint"),
    [
        (
            "port: 8080",
            "prt: 8080",
            25,
            7,
            "spec.rules[0].backendRefs[0].prt",
            "spec.rules[0].backendRefs[0] has no field `prt`",
            "did you mean `port`?",
        ),
        (
            "port: 8080",
            "port: '8080'",
            25,
            7,
            "spec.rules[0].backendRefs[0].port",
            "spec.rules[0].backendRefs[0].port must be a whole number, not the text '8080'",
            "remove the quotes",
        ),
        (
            "value: /",
            "value: x",
            22,
            9,
            "spec.rules[0].matches[0].path.value",
            "spec.rules[0].matches[0].path.value must begin with '/'",
            None,
        ),
        (
            "rules:",
            "rulez:",
            19,
            3,
            "spec.rulez",
            "spec has no field `rulez`",
            "did you mean `rules`?",
        ),
    ],
)
def test_invalid_objects(
    world: World, old: str, new: str, line: int, column: int, field: str, message: str, hint: str | None
) -> None:
    world.write("a.yaml", route("one"), route("two"))
    world.scan()
    world.write("a.yaml", route("one", "/new"), route("two", "/").replace(old, new))
    found = [each for each in world.scan().problems if each.field == field]
    assert [(*place(each), each.reason, each.object) for each in found] == [
        ("a.yaml", line, column, "InvalidObject", ref("two"))
    ]
    assert message in found[0].message
    assert hint is None or found[0].hint == hint
    assert (world.path_of("one"), world.path_of("two")) == ("/new", "/")


@pytest.mark.parametrize(
    ("api_version", "kind", "severity", "column", "message", "hint"),
    [
        ("apps/v1", "Deployment", "warning", 1, "Kind Deployment of apps/v1 is not one that", "it is left out"),
        (f"{GROUP}/v1", "HTTPRout", "error", 1, f"Kind HTTPRout of {GROUP}/v1 is", "did you mean HTTPRoute?"),
        (f"{GROUP}/v1", "httproute", "error", 1, f"Kind httproute of {GROUP}/v1 is", "did you mean HTTPRoute?"),
        ("gateway.networking.x-k8s.io/v1alpha1", "XMesh", "warning", 1, "Kind XMesh of gateway", "it is left out"),
        (f"{GROUP}/v2", "HTTPRoute", "error", 1, "HTTPRoute has no version v2", f"write `apiVersion: {GROUP}/v1`"),
        (
            "gateway.networking.k8s.oi/v1",
            "HTTPRoute",
            "error",
            1,
            "Kind HTTPRoute of gateway.networking.k8s.oi/v1 is",
            f"if you mean Tripylon's HTTPRoute, write `apiVersion: {GROUP}/v1`",
        ),
        (
            "serving.knative.dev/v1",
            "Service",
            "warning",
            1,
            "Kind Service of serving.knative.dev/v1 is",
            "if you mean Tripylon's Service, write `apiVersion: v1`",
        ),
        ("v1", "Pod", "warning", 1, "Kind Pod of v1 is not one that Tripylon reads", "it is left out"),
    ],
)
def test_unknown_kinds(
    world: World, api_version: str, kind: str, severity: str, column: int, message: str, hint: str
) -> None:
    world.write("a.yaml", f"apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: x\n", route("one"))
    problem = world.problem()
    line = 1 if "apiVersion" in hint and "knative" not in api_version else 2
    assert (place(problem), problem.severity) == (("a.yaml", line, column), severity)
    assert (problem.reason, problem.message.startswith(message), problem.hint.startswith(hint)) == (
        "UnknownKind",
        True,
        True,
    )
    assert world.names() == ["one"]


def test_a_misspelt_kind_does_not_delete_the_object(world: World) -> None:
    world.write("a.yaml", route("one"), route("two"))
    world.scan()
    world.write("a.yaml", route("one").replace("HTTPRoute", "HTTPRout"), route("two"))
    assert world.problem().object == ref("one")
    assert world.names() == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "severity", "message"),
    [
        ("name: values\nport: 1\n", "warning", "The document has neither apiVersion nor kind, so it is no API object"),
        ("apiVersion: v1\nmetadata: {name: x}\n", "error", "The document has no kind"),
        ("apiVersion: 1\nkind: Service\n", "error", "apiVersion must be a text, not 1"),
        ("- a\n- b\n", "error", "The document is a list and no API object"),
        ("just words\n", "error", "The document is the value 'just words' and no API object"),
    ],
)
def test_documents_that_are_no_objects(world: World, text: str, severity: str, message: str) -> None:
    world.write("a.yaml", f"# comment\n{text}")
    problem = world.problem()
    assert (place(problem), problem.severity, problem.reason, problem.message) == (
        ("a.yaml", 2, 1),
        severity,
        "NotAnObject",
        message,
    )


def test_an_object_without_a_name(world: World) -> None:
    world.write("a.yaml", route("one"))
    world.scan()
    world.write("a.yaml", route("one").replace("  name: one", "  labels: {}"))
    problem = world.problem()
    assert (place(problem), problem.field, problem.message) == (
        ("a.yaml", 3, 1),
        "metadata.name",
        "metadata.name is missing",
    )
    assert world.names() == ["one"]


def test_two_objects_of_one_name_in_two_files(world: World) -> None:
    world.write("b.yaml", route("zero"), route("one", "/b"))
    world.write("a.yaml", route("one", "/a"))
    problem = world.problem()
    assert problem == Problem(
        file=str(world.folder / "b.yaml"),
        line=14,
        column=1,
        object=ref("one"),
        reason="DuplicateObject",
        message=f"HTTPRoute default/one is also in {world.folder}/a.yaml, line 1, which is the one that serves",
        hint="remove or rename one of the two",
    )
    assert world.path_of("one") == "/a"

    (world.folder / "a.yaml").unlink()
    changes = world.scan()
    assert (changes.delete, changes.problems) == ((), ())
    assert world.path_of("one") == "/b"


def test_two_objects_of_one_name_in_one_file(world: World) -> None:
    world.write("a.yaml", route("one", "/first"), route("one", "/second"))
    assert place(world.problem()) == ("a.yaml", 14, 1)
    assert world.path_of("one") == "/first"


def test_ten_thousand_rules_in_one_file(world: World) -> None:
    rule = "  - backendRefs:\n    - name: web\n      port: 8080\n"
    head = route("one").partition("  - matches")[0]
    world.write("a.yaml", route("two"), head + rule * 10_000)
    problem = world.problem()
    assert (place(problem), problem.field) == (("a.yaml", 19, 3), "spec.rules")
    assert problem.message == "spec.rules must have at most 16 entries, not 10000"
    assert problem.hint == "leave some out, or divide them among several objects"
    assert world.names() == ["two"]


def test_much_that_is_wrong_with_one_object_is_counted(world: World) -> None:
    world.write("a.yaml", route("one") + "".join(f"    - nam{index}: x\n" for index in range(15)))
    problems = world.scan().problems
    assert len(problems) == 21
    assert [each.message for each in problems if "more problems" in each.message] == ["The object has 10 more problems"]


def test_non_utf8(world: World) -> None:
    file = world.write("a.yaml", route("one"), route("two"))
    world.scan()
    text = f"{route('one', '/new')}---\n{route('two')}# k"
    file.write_bytes(text.encode() + b"\xe4se\n")
    problem = world.problem()
    assert (place(problem), problem.reason, problem.message, problem.object) == (
        ("a.yaml", 26, 4),
        "NotUTF8",
        "Byte 0xe4 is not UTF-8 text",
        ref("two"),
    )
    assert world.names() == ["one", "two"]
    assert world.path_of("one") == "/new"

    file.write_bytes(route("one").encode("utf-16"))
    problem = world.problem()
    assert (place(problem), problem.message) == (("a.yaml", 0, 0), "The file is not UTF-8 text")
    assert world.names() == ["one", "two"]


def test_alias_bomb(world: World) -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
    )
    world.write("a.yaml", route("one"), bomb)
    problem = world.problem()
    assert (place(problem), problem.reason, problem.message) == (
        ("a.yaml", 13, 4),
        "AliasBomb",
        "Aliases (*name) repeat too much of the document",
    )
    assert world.names() == ["one"]


def test_a_file_of_fifty_megabytes(world: World) -> None:
    world.write("a.yaml", route("one"))
    world.scan()
    with (world.folder / "a.yaml").open("a") as file:
        file.truncate(52_400_000)
    world.write("b.yaml", route("two"))
    problem = world.problem()
    assert (place(problem), problem.reason, problem.hint) == (
        ("a.yaml", 0, 0),
        "TooLarge",
        "split it into several files",
    )
    assert problem.message == "The file is 52.4 MB large; files of more than 50.0 MB are not read"
    assert world.names() == ["one", "two"]


def test_a_smaller_limit(tmp_path: Path) -> None:
    world = World(tmp_path, Limits(max_file_bytes=100))
    world.write("a.yaml", route("one"))
    assert world.problem().reason == "TooLarge"


# --- Files and folders ---------------------------------------------------------------------------------------------


def test_a_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path / "gateway")
    problem = world.problem()
    assert problem == Problem(
        file=str(tmp_path / "gateway"),
        reason="NotFound",
        message="There is no such file or folder",
        hint="create it, or name another path; what it held before goes on serving",
    )
    world.write("a.yaml", route("one"), route("two"))
    world.scan()

    world.folder.rename(tmp_path / "elsewhere")
    assert world.problem().reason == "NotFound"
    assert world.names() == ["one", "two"]

    world.write("a.yaml", route("two", "/new"))
    assert world.scan() == Changes(put=(world.objects[ref("two")],), delete=(ref("one"),), problems=())
    assert world.path_of("two") == "/new"


def test_permission_denied_for_a_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.yaml", route("one"))
    world.write("b.yaml", route("two"))
    world.scan()
    world.write("a.yaml", route("three"))
    real_open = Path.open

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "a.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        problem = world.problem()
    assert problem == Problem(
        file=str(world.folder / "a.yaml"),
        reason="PermissionDenied",
        message="You may not read this",
        hint="change its permissions, or run as a user who may read it",
    )
    assert world.names() == ["one", "two"]
    assert world.scan().problems == ()
    assert world.names() == ["three", "two"]


def test_permission_denied_for_a_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("inner/a.yaml", route("one"))
    world.scan()
    real_scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        problem = world.problem()
    assert (Path(problem.file).name, problem.reason) == ("inner", "PermissionDenied")
    assert world.names() == ["one"]


NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """As a user whom permissions bind: the one who runs the tests, or for a while another one in place of root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_permissions_on_the_disk() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        world = World(folder)
        file = world.write("inner/a.yaml", route("one"))
        for path, allowed in ((file, 0o644), (file.parent, 0o755)):
            path.chmod(0)
            with nobody():
                problem = world.problem()
            path.chmod(allowed)
            assert (problem.file, problem.reason) == (str(path), "PermissionDenied")
            with nobody():
                assert world.scan().problems == ()
            assert world.names() == ["one"]


def test_atomic_rename(world: World) -> None:
    world.write("a.yaml", route("one"))
    world.scan()
    for path in ("/1", "/2", "/3"):  # Same size, quickly after one another.
        world.write("a.yaml.tmp", route("one", path)).replace(world.folder / "a.yaml")
        changes = world.scan()
        assert (len(changes.put), changes.delete, changes.problems) == (1, (), ())
        assert world.path_of("one") == path


def test_a_file_rewritten_within_the_grain_of_time_stamps_is_read_again(world: World) -> None:
    file = world.write("a.yaml", route("one", "/1"))
    state = file.stat()
    world.scan()
    file.write_text(route("one", "/2"))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    world.scan()
    assert world.path_of("one") == "/2"


def test_a_file_that_is_written_while_it_is_read_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.write("a.yaml", route("one", "/old"))
    real_fstat = os.fstat
    calls: list[int] = []

    def fstat(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            file.write_text(route("one", "/newer"))
        return real_fstat(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        world.scan()
    assert world.path_of("one") == "/newer"


def test_an_unchanged_file_is_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.write("a.yaml", route("one"))
    long_ago = time.time_ns() - 10**10
    os.utime(file, ns=(long_ago, long_ago))
    world.scan()

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(Path, "open", refuse)
    assert world.scan() == Changes(put=(), delete=(), problems=())


def test_an_unchanged_document_is_not_parsed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.yaml", *(route(f"r{index}") for index in range(10)))
    world.scan()
    read: list[bytes] = []

    def noted(document: Document, *, is_json: bool) -> tuple[Entry, ...]:
        read.append(document.data)
        return read_document(document, is_json=is_json)

    monkeypatch.setattr(source, "read_document", noted)
    world.write("a.yaml", *(route(f"r{index}", "/new" if index == 5 else "/") for index in range(9)))
    changes = world.scan()
    assert [b"name: r5" in each for each in read] == [True]
    assert ([each.ref for each in changes.put], changes.delete) == ([ref("r5")], (ref("r9"),))


def test_symlink_swap_as_in_a_configmap_mount(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    world = World(mount)
    for version, path in (("..2026_01", "/old"), ("..2026_02", "/new")):
        world.write(f"{version}/a.yaml", route("one", path))
    (mount / "..data").symlink_to("..2026_01")
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    assert world.scan().problems == ()
    assert world.path_of("one") == "/old"
    (mount / "..data_tmp").symlink_to("..2026_02")
    (mount / "..data_tmp").replace(mount / "..data")
    assert world.scan().problems == ()
    assert world.path_of("one") == "/new"
    assert mount / "a.yaml" in world.source.watched().files


def test_links_in_circles_and_folders_given_twice(tmp_path: Path) -> None:
    world = World(tmp_path / "a")
    world.write("inner/a.yaml", route("one"))
    (world.folder / "inner" / "up").symlink_to("..")
    (world.folder / "self").symlink_to("self")
    (world.folder / "b.yaml").symlink_to("inner/a.yaml")
    (world.folder / "dangling.yaml").symlink_to("nowhere.yaml")
    assert world.scan().problems == ()
    assert world.names() == ["one"]
    twice = FileSource([world.folder, world.folder / "inner", world.folder / "inner" / "a.yaml"]).scan()
    assert (len(twice.put), twice.problems) == (1, ())


def test_too_many_files(tmp_path: Path) -> None:
    world = World(tmp_path, Limits(max_files=2))
    for name in ("a", "b"):
        world.write(f"{name}.yaml", route(name))
    world.scan()
    world.write("0.yaml", route("zero"))
    problem = world.problem()
    assert (problem.file, problem.reason) == (str(tmp_path), "TooManyFiles")
    assert problem.message == "There are more than 2 files; the rest is not read"
    assert world.names() == ["a", "b", "zero"]  # What served before goes on.


def test_what_is_no_file_is_not_opened(world: World) -> None:
    os.mkfifo(world.folder / "pipe.yaml")
    world.write("a.yaml", route("one"))
    thread = threading.Thread(target=world.scan, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert world.names() == ["one"]
    (problem,) = FileSource([world.folder / "pipe.yaml"]).scan().problems
    assert problem.reason == "NotAFile"


# --- Places --------------------------------------------------------------------------------------------------------


def test_locate(world: World) -> None:
    file = world.write("a.yaml", route("one"), f"# comment\n{route('two')}")
    world.scan()
    assert world.source.locate(ref("two")) == (str(file), 15, 1)
    assert world.source.locate(ref("two"), "spec.rules[0].backendRefs[0].port") == (str(file), 26, 7)
    assert world.source.locate(ref("two"), "spec.rules[3]") == (str(file), 20, 3)
    assert world.source.locate(ref("gone")) is None
    world.write("a.yaml", "x")
    assert world.source.locate(ref("two"), "spec.rules") == (str(file), 15, 1)


def test_places_on_the_line_of_a_marker(world: World) -> None:
    file = world.folder / "a.yaml"
    file.write_text("--- {apiVersion: v1, kind: Service, metadata: {name: a}}\n--- {apiVersion: v1, kind: Pd}\n")
    assert place(world.problem()) == ("a.yaml", 2, 22)
    assert world.source.locate(ref("a", "Service"), "metadata.name") == (str(file), 1, 48)


# --- Secrets from files --------------------------------------------------------------------------------------------

SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: tls
  annotations:
    gateway.tripylon.dev/from-file: {value}
type: kubernetes.io/tls
"""


def contents(world: World) -> dict[str, bytes]:
    secret = world.objects[ref("tls", "Secret")]
    return dict(getattr(secret, "contents", {}))


@pytest.mark.parametrize(
    "text",
    [
        SECRET.format(value="tls.crt=certs/cert.pem, tls.key=certs/key.pem"),
        SECRET.replace(
            "from-file: {value}",
            "from-file.tls.crt: certs/cert.pem\n    gateway.tripylon.dev/from-file.tls.key: certs/key.pem",
        ),
    ],
)
def test_a_secret_from_files(world: World, text: str) -> None:
    world.write("a.yaml", text)
    world.write("certs/cert.pem", "CERT")
    world.write("certs/key.pem", "KEY")
    assert world.scan().problems == ()
    assert contents(world) == {"tls.crt": b"CERT", "tls.key": b"KEY"}
    assert world.source.watched().files == {world.folder / "certs" / "cert.pem", world.folder / "certs" / "key.pem"}

    assert world.scan().put == ()
    world.write("certs/cert.pem", "RENEWED")
    assert [each.ref for each in world.scan().put] == [ref("tls", "Secret")]
    assert contents(world) == {"tls.crt": b"RENEWED", "tls.key": b"KEY"}

    (world.folder / "certs" / "key.pem").unlink()
    problem = world.problem()
    assert (place(problem), problem.reason, problem.object) == (
        ("a.yaml", 6 + text.count("from-file.tls.key"), 5),
        "FileNotUsable",
        ref("tls", "Secret"),
    )
    assert problem.message == f"There is no file `{world.folder}/certs/key.pem` for key `tls.key`"
    assert contents(world) == {"tls.crt": b"RENEWED", "tls.key": b"KEY"}  # The last good version serves.


def test_a_config_map_from_files(world: World) -> None:
    text = SECRET.format(value="ca.crt=certs/ca.pem,more=certs/ca.pem").replace("kind: Secret", "kind: ConfigMap")
    world.write("a.yaml", text.replace("type: kubernetes.io/tls\n", "data: {more: WRITTEN}\n"))
    world.write("certs/ca.pem", "CA")
    assert world.scan().problems == ()
    held = world.objects[Ref("", "ConfigMap", "default", "tls")]
    assert getattr(held, "contents", {}) == {"ca.crt": b"CA", "more": b"WRITTEN"}

    world.write("certs/ca.pem", "RENEWED")
    assert [each.ref for each in world.scan().put] == [Ref("", "ConfigMap", "default", "tls")]
    (world.folder / "certs" / "ca.pem").unlink()
    assert (world.problem().reason, world.problem().object) == ("FileNotUsable", Ref("", "ConfigMap", "default", "tls"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tls.crt", "`tls.crt` does not name a key and a file"),
        ("tls.crt=certs", "`{folder}/certs` for key `tls.crt` is not a file"),
        ("tls.crt=big.pem", "`{folder}/big.pem` for key `tls.crt` is larger than 1048576 bytes"),
    ],
)
def test_files_that_a_secret_cannot_use(world: World, value: str, message: str) -> None:
    world.write("a.yaml", SECRET.format(value=value))
    world.write("certs/cert.pem", "CERT")
    world.write("big.pem", "x" * 1_048_577)
    problem = world.problem()
    assert (place(problem), problem.message) == (("a.yaml", 6, 5), message.format(folder=world.folder))
    assert problem.field == 'metadata.annotations["gateway.tripylon.dev/from-file"]'
    assert world.names() == []


def test_string_data_goes_before_files(world: World) -> None:
    world.write("a.yaml", SECRET.format(value="tls.crt=cert.pem") + "stringData: {tls.crt: WRITTEN, more: X}\n")
    world.write("cert.pem", "CERT")
    assert world.scan().problems == ()
    assert contents(world) == {"tls.crt": b"WRITTEN", "more": b"X"}
