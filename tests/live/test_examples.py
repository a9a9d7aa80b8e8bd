"""Every example and the README are run as written, on ports of the system's choice: they keep what they promise."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from tests.live.console import Command, commands, differs, fences, unlike
from tests.live.fleet import ROOT, Fleet
from tests.live.gateway import TRIPYLON, LiveGateway
from tests.live.manifests import Places

pytestmark = pytest.mark.live

EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name[0] not in "._")
_PORT = re.compile(r"(?<![\w.-])(?:80|84|90|94)\d\d(?![\w.])")
_TEXTS = (".yaml", ".md", ".py")
_BACKEND_LIMIT_S = 20.0
_COPY_LIMIT_S = 10.0


class Copy:
    """A copy of the examples and the README in which every port is one of the system's choice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = Places(Fleet(folder))
        ignored = shutil.ignore_patterns("__pycache__", "*.key", "*.crt", ".*")
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignored)
        shutil.copy(ROOT / "README.md", folder)
        for path in folder.rglob("*"):
            if path.suffix in _TEXTS:
                path.write_text(_PORT.sub(lambda found: str(self.places.port(int(found[0]))), path.read_text()))

    def page(self, path: str) -> str:
        """A document of the copy."""
        return (self.folder / path).read_text()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    folder = tmp_path / "copy"
    folder.mkdir()
    made = Copy(folder)
    with closing(made.places):
        yield made


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_keeps_its_promises(copy: Copy, name: str) -> None:
    asked = keep(copy, tuple(commands(copy.page(f"examples/{name}/README.md"))))
    assert asked, "a README promises at least one answer"


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_explained_in_few_lines(name: str) -> None:
    lines = (ROOT / "examples" / name / "README.md").read_text().splitlines()
    assert len(lines) <= 25
    assert f"$ tripylon run examples/{name}" in lines


def test_readme_keeps_its_promises(copy: Copy) -> None:
    page = copy.page("README.md")
    [example] = fences(page, "yaml")
    (copy.folder / "gateway.yaml").write_text(example)
    assert keep(copy, tuple(commands(page)))


def keep(copy: Copy, promised: tuple[Command, ...]) -> int:
    """Carries out all commands of a document in order; how many answers were compared."""
    asked = 0
    with ExitStack() as running:
        for command in promised:
            words = shlex.split(command.line)
            if command.line.startswith("tripylon run "):
                running.enter_context(gateway(copy, words[2:]))
            elif words[0] == "python" and words[-1] == "&":
                running.enter_context(backend(copy, words[1:-1]))
            elif command.expected:
                assert not (problem := ask(copy, command, words)), problem
                asked += 1
            else:
                assert words[0] == "python", f"{command.line} is no command that is tested"
                subprocess.run((sys.executable, *words[1:]), cwd=copy.folder, timeout=60, check=True)
    return asked


def ask(copy: Copy, command: Command, words: list[str]) -> str:
    """What is wrong with the answer. A backend that is asked past the gateway is given time for what is on its way."""
    if words[0] == "python":
        done = subprocess.run(
            (sys.executable, *words[1:]), cwd=copy.folder, timeout=60, check=True, capture_output=True, text=True
        )
        return unlike(command, done.stdout)
    deadline = time.monotonic() + (_COPY_LIMIT_S if words[-1].endswith("/last") else 0)
    while (problem := differs(command, copy.folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return problem


@contextmanager
def gateway(copy: Copy, paths: list[str]) -> Iterator[None]:
    """`tripylon run` on what the document names, once `tripylon check` has found nothing wrong with it."""
    [path] = paths
    done = subprocess.run((TRIPYLON, "check", path), cwd=copy.folder, timeout=60, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    live = LiveGateway(copy.folder / "run", copy.places)
    live.folder = copy.folder / path
    try:
        live.start()
        yield
    finally:
        live.stop()


@contextmanager
def backend(copy: Copy, words: list[str]) -> Iterator[None]:
    """A backend of the examples, once all its ports answer."""
    process = subprocess.Popen((sys.executable, *words), cwd=copy.folder)
    try:
        for word in words:
            if word.isdigit():
                _wait_open(int(word), process)
        yield
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def _wait_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _BACKEND_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"no backend on port {port}")
