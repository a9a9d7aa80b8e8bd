"""The law of the file source: whatever edits came before, a scan ends where a fresh source would begin."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tripylon.api.meta import Resource
from tripylon.files.source import FileSource
from tripylon.values import Ref

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.sampled_from(["a.yaml", "b.yml", "deep/a.yaml", "deep/er/c.json", "z.yaml"])


def document(name: str, version: int) -> str:
    return (
        f'{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}, "data": {{"v": "{version}"}}}}'
    )


OBJECTS = st.builds(document, NAMES, st.integers(0, 3))
SECRET = """\
apiVersion: v1
kind: Secret
metadata:
  name: secret
  annotations: {gateway.tripylon.dev/from-file: key=secret.txt}
"""


class Edits(RuleBasedStateMachine):
    """Any sequence of edits with valid documents, with scans in between."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name) / "objects"
        self.folder.mkdir()
        self.source = FileSource([self.folder])
        self.objects: dict[Ref, Resource] = {}

    def teardown(self) -> None:
        self.root.cleanup()

    @rule(path=PATHS, documents=st.lists(OBJECTS, max_size=3))
    def write(self, path: str, documents: list[str]) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(documents[:1]) if path.endswith(".json") else "\n---\n".join(documents))

    @rule(path=PATHS, documents=st.lists(OBJECTS, max_size=3))
    def replace(self, path: str, documents: list[str]) -> None:
        self.write("new.tmp", documents[:1] if path.endswith(".json") else documents)
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "new.tmp").replace(file)

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        (self.folder / path).unlink(missing_ok=True)

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        if (self.folder / old).exists() and Path(old).suffix == Path(new).suffix:
            (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / old).replace(self.folder / new)

    @rule()
    def rename_folder(self) -> None:
        if (self.folder / "deep").exists() and not (self.folder / "renamed").exists():
            (self.folder / "deep").rename(self.folder / "renamed")

    @rule(path=PATHS)
    def touch(self, path: str) -> None:
        if (self.folder / path).exists():
            os.utime(self.folder / path, ns=(10**18, 10**18))

    @rule(version=st.integers(0, 3))
    def secret(self, version: int) -> None:
        (self.folder / "secret.txt").write_text(str(version))
        (self.folder / "secret.yaml").write_text(SECRET)

    @rule()
    def scan(self) -> None:
        changes = self.source.scan()
        assert {problem.reason for problem in changes.problems} <= {"DuplicateObject"}
        for gone in changes.delete:
            del self.objects[gone]
        for resource in changes.put:
            assert self.objects.get(resource.ref) != resource
            self.objects[resource.ref] = resource

    @rule()
    def scan_and_compare(self) -> None:
        self.scan()
        fresh = FileSource([self.folder])
        changes = fresh.scan()
        assert {resource.ref: resource for resource in changes.put} == self.objects
        assert changes.problems == self.source.scan().problems
        assert self.source.scan().put == ()
        assert all(fresh.locate(ref, "data.v") == self.source.locate(ref, "data.v") for ref in self.objects)


Edits.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestEdits = Edits.TestCase
