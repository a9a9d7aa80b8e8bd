"""What tests of commands need: a place of their own, and a log that is as it was before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from tripylon.cli import main


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs a command line within this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("TRIPYLON_ENVOY_BINARY", "TRIPYLON_LOG_LEVEL", "TRIPYLON_STATE", "TRIPYLON_ADMIN"):
        monkeypatch.setenv(name, "")  # so that what a command sets is undone, too
        monkeypatch.delenv(name)

    def run(*words: str | Path) -> Ran:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    handlers, level = logging.root.handlers[:], logging.root.level
    yield run
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
