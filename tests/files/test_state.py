"""The state directory: one user at a time, and paths that a socket can have."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tripylon.errors import StartError
from tripylon.files import state as states
from tripylon.files.state import open_state, write_pieces, write_whole

HOLD = "import sys, pathlib; from tripylon.files.state import open_state; s = open_state(pathlib.Path(sys.argv[1])); "


def test_two_on_one_directory(tmp_path: Path) -> None:
    script = HOLD + "print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StartError, match=rf"process {other.pid} already runs on .*--state DIR"):
            open_state(tmp_path)
        other.kill()
        other.wait()
    with open_state(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    open_state(tmp_path).close()


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with open_state(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        open_state(tmp_path).close()
    finally:
        child.kill()
        child.communicate()


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot write the state directory .*--state DIR"):
        open_state(tmp_path / "file" / "state")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tripylon.files.state.os.pwrite", full)
    with pytest.raises(StartError, match=r"cannot write the state directory .*No space left .*--state DIR"):
        open_state(tmp_path)


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        write_pieces(target, pieces())
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]


def test_only_the_owner_may_look_in(tmp_path: Path) -> None:
    with open_state(tmp_path / "new" / "state") as state:
        assert state.root.stat().st_mode & 0o777 == 0o700
        assert state.sockets == state.root


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    with open_state(long) as state:
        folder = state.sockets
        assert folder != long
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in (state.admin_socket, state.ads_socket):
            with closing(socket.socket(socket.AF_UNIX)) as bound:
                bound.bind(str(path))
            path.unlink()
        left = state.admin_socket
        left.touch()
    with open_state(long) as state:
        assert state.sockets == folder, "a running Envoy is found again only at the same place"
        left.unlink()
    assert not folder.exists()


def test_a_short_folder_that_is_not_ours_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_SHORT_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(states, "_MAX_SOCKET_PATH_BYTES", len(str(tmp_path)) + 60)
    long = tmp_path / ("x" * 120)
    with open_state(long) as state:
        folder = state.sockets
        folder.chmod(0o777)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    with pytest.raises(StartError, match="open to others"):
        open_state(long)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(StartError, match="belongs to somebody else"):
        open_state(long)


def test_write_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
