"""The real Envoy of a state directory: started, taken over, replaced, restarted, ended; and never another process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tripylon.errors import StartError
from tripylon.files import process as processes
from tripylon.files.admin import Activity, AdminError, EnvoyAdmin, count_activity
from tripylon.files.envoy import Backoff, EnvoyProcess
from tripylon.files.launch import Launch, Record, check_binary, read_record, write_record
from tripylon.files.process import Process, identify, is_running
from tripylon.files.state import StateDir, open_state
from tripylon.pb.descriptors import envoy_binary

NODE = "test-node"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    with open_state(tmp_path / "state") as opened:
        yield opened


def launch(state: StateDir, *, concurrency: int = 1, cluster: str = "test") -> Launch:
    bootstrap = {
        "node": {"id": NODE, "cluster": cluster},
        "admin": {"address": {"pipe": {"path": str(state.admin_socket), "mode": 0o600}}},
    }
    made = json.dumps(bootstrap).encode()
    return Launch(binary=envoy_binary(), bootstrap=made, node_id=NODE, concurrency=concurrency)


@asynccontextmanager
async def running(state: StateDir) -> AsyncIterator[EnvoyProcess]:
    envoy = EnvoyProcess(launch(state), state)
    await envoy.start()
    try:
        yield envoy
    finally:
        await envoy.drain_and_stop(0)


def assert_nothing_left(state: StateDir, process: Process | None) -> None:
    assert process is None or not is_running(process)
    assert {left.name for left in state.root.iterdir()} <= {"lock", "envoy.log"}


async def until_other_pid(envoy: EnvoyProcess, pid: int | None) -> int:
    async with asyncio.timeout(60):
        while envoy.pid in (None, pid):
            await asyncio.sleep(0.02)
        while True:
            try:
                await envoy.admin.server_info()
            except AdminError:
                await asyncio.sleep(0.02)
            else:
                break
    assert envoy.pid
    return envoy.pid


async def test_started_and_ended(state: StateDir) -> None:
    envoy = EnvoyProcess(launch(state), state)
    assert not await envoy.adopt_or_start()
    pid = envoy.pid
    record = read_record(state)
    assert record
    assert record.process.pid == pid == envoy.admin.peer()
    assert os.getsid(record.process.pid) == record.process.pid, "Ctrl-C in our terminal must not reach it"
    assert (await envoy.admin.server_info()).node.id == NODE
    await envoy.drain_and_stop(1)
    assert envoy.pid is None
    assert_nothing_left(state, record.process)


async def test_what_administration_tells(state: StateDir) -> None:
    async with running(state) as envoy:
        assert b"envoy_server_live" in await envoy.admin.prometheus()
        assert NODE.encode() in await envoy.admin.config_dump()
        assert await envoy.admin.activity() == Activity(0, 0, 0)
        async with asyncio.timeout(60):
            while not await envoy.admin.ready():
                await asyncio.sleep(0.02)


async def test_taken_over_as_it_is(state: StateDir) -> None:
    async with running(state) as first:
        second = EnvoyProcess(launch(state), state)
        assert await second.adopt_or_start()
        assert second.pid == first.pid


async def test_taken_over_without_its_pid_file(state: StateDir) -> None:
    async with running(state) as first:
        state.pid_file.unlink()
        second = EnvoyProcess(launch(state), state)
        assert await second.adopt()
        assert second.pid == first.pid
        record = read_record(state)
        assert record
        assert record.process.pid == first.pid


async def test_taken_over_while_it_still_starts(state: StateDir) -> None:
    first = EnvoyProcess(launch(state), state)
    starting = asyncio.create_task(first.start())
    while first.pid is None:
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    second = EnvoyProcess(launch(state), state)
    try:
        assert await second.adopt()
        assert second.pid == first.pid
    finally:
        await first.drain_and_stop(0)


@pytest.mark.parametrize("options", [{"concurrency": 2}, {"cluster": "another"}])
@pytest.mark.parametrize("with_pid_file", [True, False])
async def test_one_that_was_started_otherwise_is_replaced(
    state: StateDir, options: dict[str, int | str], with_pid_file: bool
) -> None:
    async with running(state) as first:
        process = identify(first.pid or 0)
        assert process
        if not with_pid_file:
            state.pid_file.unlink()
        second = EnvoyProcess(launch(state, **options), state)  # type: ignore[arg-type]
        assert not await second.adopt_or_start()
        try:
            assert not is_running(process)
            assert second.pid not in (None, process.pid)
        finally:
            await second.drain_and_stop(0)


async def test_one_that_drains_is_replaced(state: StateDir) -> None:
    async with running(state) as first:
        await first.admin.drain_listeners()
        assert not await EnvoyProcess(launch(state), state).adopt()


async def test_one_that_hangs_is_replaced(state: StateDir) -> None:
    async with running(state) as first:
        process = identify(first.pid or 0)
        assert process
        os.kill(process.pid, signal.SIGSTOP)
        assert not await EnvoyProcess(launch(state), state).adopt()
        assert not is_running(process)


async def test_what_a_dead_one_left_is_removed(state: StateDir) -> None:
    async with running(state) as first:
        assert first.pid
        process = identify(first.pid)
        os.kill(first.pid, signal.SIGKILL)
        assert process
        await processes.wait_exit(process)
        assert state.admin_socket.exists()
        assert not await EnvoyProcess(launch(state), state).adopt()
        assert_nothing_left(state, process)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_a_stranger_that_got_the_pid_is_left_alone(state: StateDir, stranger: subprocess.Popen[bytes]) -> None:
    write_record(state, Record(Process(stranger.pid, "another boot 17"), str(envoy_binary()), launch(state).key()))
    envoy = EnvoyProcess(launch(state), state)
    assert not await envoy.adopt()
    assert envoy.pid is None
    await envoy.drain_and_stop(1)
    assert stranger.poll() is None
    assert_nothing_left(state, None)


async def test_a_stranger_at_the_socket_is_left_alone(state: StateDir) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, state.admin_socket)
    async with server:
        with pytest.raises(AdminError, match="is no Envoy"):
            await EnvoyAdmin(state.admin_socket).server_info()
        assert not await EnvoyProcess(launch(state), state).adopt()


@pytest.mark.parametrize("content", [b"", b"{", b"12\n", b'{"process": {"pid": "x"}}', b"\xff"])
async def test_a_broken_pid_file_is_none(state: StateDir, content: bytes) -> None:
    state.pid_file.write_bytes(content)
    assert not await EnvoyProcess(launch(state), state).adopt()
    assert not state.pid_file.exists()


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("by_polling", [False, True])
async def test_started_again_when_killed(
    state: StateDir, adopted: bool, by_polling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_HAS_PIDFD", processes._HAS_PIDFD and not by_polling)
    async with running(state) as first:
        envoy = EnvoyProcess(launch(state), state) if adopted else first
        assert not adopted or await envoy.adopt()
        watching = asyncio.create_task(envoy.watch())
        try:
            pid = envoy.pid
            for _ in range(2):
                assert pid
                os.kill(pid, signal.SIGKILL)
                pid = await until_other_pid(envoy, pid)
            assert envoy.restarts == 2
        finally:
            last = identify(envoy.pid or 0)
            await envoy.drain_and_stop(0)
        await asyncio.wait_for(watching, 60)
        assert_nothing_left(state, last)


async def test_no_start_after_the_end(state: StateDir) -> None:
    async with running(state) as envoy:
        watching = asyncio.create_task(envoy.watch())
        assert envoy.pid
        os.kill(envoy.pid, signal.SIGKILL)
        await envoy.drain_and_stop(0)
        await asyncio.wait_for(watching, 60)
        assert_nothing_left(state, None)
    assert envoy.pid is None


async def test_cancelled_drain_kills(state: StateDir) -> None:
    async with running(state) as envoy:
        process = identify(envoy.pid or 0)
        assert process
        os.kill(process.pid, signal.SIGSTOP)
        stopping = asyncio.create_task(envoy.drain_and_stop(60))
        await asyncio.sleep(0.05)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert_nothing_left(state, process)


async def test_a_bad_bootstrap_is_told_in_envoys_words(state: StateDir) -> None:
    bad = Launch(binary=envoy_binary(), bootstrap=b'{"nod": {}}', node_id=NODE, concurrency=1)
    envoy = EnvoyProcess(bad, state)
    with pytest.raises(StartError, match=r"ended at its start \(exit status 1\).*nod.*envoy\.log"):
        await envoy.start()
    assert envoy.pid is None
    assert_nothing_left(state, None)


async def test_a_missing_binary(state: StateDir) -> None:
    missing = Launch(binary=state.root / "envoy", bootstrap=b"{}", node_id=NODE, concurrency=1)
    with pytest.raises(StartError, match="there is no Envoy at"):
        await EnvoyProcess(missing, state).adopt_or_start()


def test_check_binary(tmp_path: Path) -> None:
    assert check_binary(envoy_binary()).startswith("1.40.")
    fake = tmp_path / "envoy"
    with pytest.raises(StartError, match=r"there is no Envoy at .*reinstall"):
        check_binary(fake)
    fake.write_text("#!/bin/sh\necho 'envoy  version: abc/1.39.2/Clean/RELEASE/BoringSSL'\n")
    fake.chmod(0o755)
    with pytest.raises(StartError, match=r"has version 1\.39\.2, but 1\.40 is needed"):
        check_binary(fake)
    fake.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(StartError, match="is no Envoy: asked for its version it says 'hello'"):
        check_binary(fake)
    fake.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(StartError, match="does not run on this machine"):
        check_binary(fake)


def test_a_binary_without_the_right_to_run_it(tmp_path: Path) -> None:
    fake = tmp_path / "envoy"
    fake.write_text("")
    with pytest.raises(StartError, match="is not executable; run `chmod"):
        check_binary(fake)


def test_backoff() -> None:
    backoff = Backoff()
    assert [backoff.next_delay_s(0.5) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.next_delay_s(10) == 0.1
    assert backoff.next_delay_s(0) == 0.2


def test_activity_is_counted_once() -> None:
    gauges = {
        "http.admin.downstream_cx_active": 1,
        "http.admin.downstream_rq_active": 1,
        "listener.admin.downstream_cx_active": 1,
        "listener.admin.main_thread.downstream_cx_active": 1,
        "http.edge.downstream_cx_active": 3,
        "http.edge.downstream_rq_active": 2,
        "listener.127.0.0.1_80.downstream_cx_active": 5,
        "listener.127.0.0.1_80.worker_0.downstream_cx_active": 5,
        "listener.127.0.0.1_80.http.edge.downstream_rq_active": 2,
    }
    assert count_activity(gauges) == Activity(2, 5, 2)
    assert count_activity(gauges).busy
    assert not count_activity({"http.edge.downstream_cx_active": 3, "listener.x.downstream_cx_active": 3}).busy


async def test_a_zombie_has_ended(stranger: subprocess.Popen[bytes]) -> None:
    process = identify(stranger.pid)
    assert process
    assert processes.send_signal(process, signal.SIGKILL)
    await asyncio.wait_for(processes.wait_exit(process), 60)
    assert not is_running(process)
    assert not processes.send_signal(process, signal.SIGKILL)


def test_no_signal_for_another_process(stranger: subprocess.Popen[bytes]) -> None:
    assert not processes.send_signal(Process(stranger.pid, "long ago"), signal.SIGKILL)
    assert stranger.poll() is None


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps, which tells the start time where there is no /proc")
def test_identity_without_proc(stranger: subprocess.Popen[bytes]) -> None:
    started = processes._started_ps(stranger.pid)
    assert started
    assert processes._started_ps(stranger.pid) == started
    stranger.kill()
    stranger.wait()
    assert processes._started_ps(stranger.pid) == ""


async def test_nobody_answers(state: StateDir) -> None:
    admin = EnvoyAdmin(state.admin_socket, timeout_s=0.1)
    assert admin.peer() is None
    with pytest.raises(AdminError, match="does not answer"):
        await admin.server_info()
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(state.admin_socket))
        silent.listen(1)
        with pytest.raises(AdminError, match="does not answer"):
            await admin.ready()
