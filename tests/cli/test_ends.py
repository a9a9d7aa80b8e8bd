"""How commands end: exit codes, one clear message on stderr, and a traceback only for whoever asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Command

from tripylon.errors import StartError

TRIPYLON = (sys.executable, "-m", "tripylon")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], 'Unknown command "chek". Did you mean "check"?'),
        (["check", "--nope"], "Unknown option: --nope"),
        (["check", "-o", "xml"], 'Invalid value "xml" for -o. Choose from: "text", "json", "yaml".'),
        (["check", "missing.yaml"], "there is no file or folder missing.yaml"),
        (["run", "missing"], "there is no file or folder missing"),
        (["run", "--bind", "here"], "--bind: 'here' is not an IP address"),
        (["run", "--admin", "127.0.0.1:99999"], "--admin: '99999' is not a port: write a number from 0 to 65535"),
        (["run", "--concurrency", "-1"], "--concurrency"),
        (["proxy"], "--to requires an argument"),
        (["proxy", "--to", "ftp://a"], "--to: 'ftp://a' is no target: write http://host:port or https://host:port"),
        (["proxy", "--to", "http://a/b"], "only scheme, host and port count"),
        (["proxy", "--to", "http://a:99999"], "Port out of range"),
        (["proxy", "--to", "http://a", "--from", "x"], "--from: 'x' names no port"),
        (["proxy", "--to", "http://a", "--from", ":8080", "--host", "UPPER"], "spec.hostnames[0]"),
        (["gen", "schema", "Pod"], "there is no kind 'Pod'; known are GatewayClass,"),
        (["run", "--drain-limit", "nan"], "--drain-limit: nan is not at least 0"),
        (["gen", "bootstrap"], "--ads requires an argument"),
        (["gen", "install", "--namespace", "A_"], "'A_' cannot be a namespace: up to 63 of a-z, 0-9 and -"),
        (["gen", "install", "--image", "a b"], "'a b' cannot be an image: write it like registry.example.com/name:tag"),
        (["gen", "install", "--replicas", "-1"], "-1 replicas cannot be had; write 0 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2(command: Command, words: list[str], message: str) -> None:
    ran = command(*words)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_no_command_prints_the_help_and_ends_with_2(command: Command) -> None:
    ran = command()
    assert ran.code == 2
    assert "Usage: tripylon COMMAND" in ran.out


def test_usage_errors_say_where_the_help_is(command: Command) -> None:
    assert command("check", "--nope").err.endswith("See `tripylon check --help`.\n")


def test_what_the_world_denies_ends_with_1(command: Command, tmp_path: Path) -> None:
    missing = tmp_path / "no-envoy"
    ran = command("run", "--envoy-binary", missing, "--admin", "off")
    assert ran.code == 1
    assert ran.err == (
        f"tripylon: there is no Envoy at {missing}; correct --envoy-binary, or leave it out for the installed one\n"
    )
    assert "Traceback" not in ran.err


def test_a_state_folder_that_cannot_be_made(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = command("run", "--state", tmp_path / "file" / "state", "--admin", "off")
    assert ran.code == 1
    assert "cannot write the state directory" in ran.err
    assert "--state DIR" in ran.err


def test_an_access_log_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "missing" / "access.log"
    ran = command("run", tmp_path, "--admin", "off", "--state", tmp_path / "state", "--access-log", place)
    assert ran.code == 1
    assert f"cannot write the access log {place} (No such file or directory)" in ran.err
    assert not (tmp_path / "state").exists()


def _fault(*_: object, **__: object) -> None:
    raise RuntimeError("out of order")


def test_a_fault_of_ours_is_one_message(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tripylon.cli.offline.load", _fault)
    ran = command("check")
    assert ran.code == 1
    assert ran.err == (
        "tripylon: this is a fault of Tripylon, not yours: RuntimeError: out of order\n"
        "Run it again with `--log-level debug` to see where it happened.\n"
    )
    ran = command("check", "--log-level", "debug")
    assert "Traceback (most recent call last)" in ran.err
    assert "in _fault" in ran.err


def test_a_fault_within_the_task_group_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [RuntimeError("out of order")])

    monkeypatch.setattr("tripylon.cli.offline.load", fault)
    assert "RuntimeError: out of order" in command("check").err


def test_a_failure_of_the_world_within_the_task_group_stays_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [StartError("the disk is full; make room")])

    monkeypatch.setattr("tripylon.cli.offline.load", fault)
    ran = command("check")
    assert (ran.code, ran.err) == (1, "tripylon: the disk is full; make room\n")


def test_ctrl_c_ends_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tripylon.cli.offline.load", interrupt)
    ran = command("check")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_a_reader_that_goes_away_is_no_trouble() -> None:
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [*TRIPYLON, "gen", "crds"], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(write)
    assert ran.stderr == ""
    assert ran.returncode == 1


def test_a_check_can_be_interrupted(tmp_path: Path) -> None:
    """The whole process, with a real signal, while it is busy; whoever runs these tests may ignore that signal."""
    program = """if True:
        import signal, sys, time
        import tripylon.cli.offline as offline
        from tripylon.cli import main

        signal.signal(signal.SIGINT, signal.default_int_handler)

        def load(_):
            print("busy", flush=True)
            time.sleep(60)

        offline.load = load
        sys.exit(main(["check"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_told_as_one() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([*TRIPYLON, "gen", "crds"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert "the output cannot be written: No space left on device" in ran.stderr
