"""Every command explains itself, with an example that parses; and help is quick, as it imports next to nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys

import cyclopts
import pytest

from tripylon.cli import COMMANDS, main, make_app

GEN = ("crds", "schema", "bootstrap")
ALL = [(command.name,) for command in COMMANDS] + [("gen", name) for name in GEN]
HEAVY = ("aiohttp", "google.protobuf", "grpclib", "structlog", "cryptography", "yaml_rs", "watchfiles")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Usage: tripylon {' '.join(words)}" in said
    assert f"  tripylon {' '.join(words)}" in said.partition("Example")[2]


@pytest.mark.parametrize("line", [line for command in COMMANDS for line in command.examples])
def test_examples_parse(line: str) -> None:
    words = shlex.split(line.partition(" | ")[0])[1:]
    _, bound, _ = make_app().parse_args(words, exit_on_error=False, print_error=False)
    assert bound is not None


def test_every_flag_of_run_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPYLON_BIND", "127.0.0.9")
    monkeypatch.setenv("TRIPYLON_LOG_LEVEL", "error")
    _, bound, _ = make_app().parse_args(["run"], exit_on_error=False, print_error=False)
    assert bound.arguments["bind"] == "127.0.0.9"
    assert bound.arguments["logging"].log_level == "error"


def test_a_flag_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPYLON_BIND", "127.0.0.9")
    _, bound, _ = make_app().parse_args(["run", "--bind", "::1"], exit_on_error=False, print_error=False)
    assert bound.arguments["bind"] == "::1"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["check", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        f"import sys; from tripylon.cli import main; main({words!r});"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stderr.strip() == "[]"


def test_the_parser_is_what_the_table_says() -> None:
    assert isinstance(make_app(), cyclopts.App)
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
