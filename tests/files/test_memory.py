"""What served last survives a restart, and only where a document is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tripylon.files.source import FileSource
from tripylon.values import Ref

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec: {hostnames: [%s.example.com]}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {tls.key: c2VjcmV0}
data: {tls.crt: AAEC/w==}
"""


def hosts(source: FileSource) -> dict[str, tuple[str, ...]]:
    return {
        resource.ref.name: getattr(resource, "spec").hostnames  # noqa: B009 - only routes are there
        for resource in source.scan().put
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text(ROUTE % ("a", "a"))
    (folder / "b.yaml").write_text(ROUTE % ("b", "b"))
    return folder


def test_a_document_broken_between_two_runs_serves_as_it_last_did(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "served.json"
    first = FileSource([folder], kept=kept)
    first.scan()
    first.keep()
    (folder / "a.yaml").write_text((ROUTE % ("a", "other")).replace("com]", "com], rules: 7"))
    (folder / "b.yaml").write_text(ROUTE % ("b", "new"))

    second = FileSource([folder], kept=kept)
    found = second.scan()
    assert {put.ref.name: put.spec.hostnames for put in found.put} == {  # type: ignore[attr-defined]
        "a": ("a.example.com",),
        "b": ("new.example.com",),
    }
    assert [problem.object and problem.object.name for problem in found.problems] == ["a"]
    assert found.delete == ()


def test_a_file_that_cannot_be_parsed_keeps_its_objects(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "served.json"
    first = FileSource([folder], kept=kept)
    first.scan()
    first.keep()
    (folder / "a.yaml").write_text("kind: [")
    assert hosts(FileSource([folder], kept=kept)) == {"a": ("a.example.com",), "b": ("b.example.com",)}


def test_what_was_deleted_between_two_runs_is_gone(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "served.json"
    first = FileSource([folder], kept=kept)
    first.scan()
    first.keep()
    (folder / "a.yaml").unlink()
    assert hosts(FileSource([folder], kept=kept)) == {"b": ("b.example.com",)}


def test_secrets_are_kept_whole_and_for_the_owner_only(tmp_path: Path) -> None:
    file, kept = tmp_path / "secret.yaml", tmp_path / "served.json"
    file.write_text(SECRET)
    first = FileSource([file], kept=kept)
    before = first.scan().put
    first.keep()
    assert kept.stat().st_mode & 0o777 == 0o600
    file.write_text(SECRET + "nonsense: 1\n")
    found = FileSource([file], kept=kept).scan()
    assert found.put == before
    assert [problem.object for problem in found.problems] == [Ref("", "Secret", "default", "keys")]


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 0, "roots": [], "objects": []}', b"\xff\xfe"])
def test_a_memory_that_cannot_be_used_is_none(folder: Path, tmp_path: Path, content: bytes) -> None:
    kept = tmp_path / "served.json"
    kept.write_bytes(content)
    (folder / "a.yaml").write_text("kind: [")
    assert hosts(FileSource([folder], kept=kept)) == {"b": ("b.example.com",)}


def test_other_folders_have_their_own_memory(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "served.json"
    first = FileSource([folder], kept=kept)
    first.scan()
    first.keep()
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.yaml").write_text("kind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: a}\n")
    found = FileSource([other], kept=kept).scan()
    assert found.put == ()
