"""Envoy outlives the control plane, comes back when it dies, and drains at the end: real processes, real requests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import msgspec
import pytest
from tests.live.plane import Up

from tripylon.files.process import Process, identify, is_running, send_signal

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.live


class Backend:
    """Answers `ok`; a request of `/slow` only once it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.slow_requests = threading.Semaphore(0)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            stream = connection.makefile("rb")
            while line := stream.readline():
                while stream.readline().strip():
                    pass
                if b" /slow " in line:
                    self.slow_requests.release()
                    self.release.wait(60)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Plane:
    """One run of `tests.live.plane` on a state directory."""

    def __init__(self, state: Path, port: int, backend_port: int, *, answer: str = "one", limit_s: float = 30) -> None:
        command = (sys.executable, "-m", "tests.live.plane", str(state), str(port), str(backend_port), answer)
        self.process = subprocess.Popen(
            (*command, str(limit_s)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )

    def up(self) -> Up:
        assert self.process.stdout
        return msgspec.json.decode(self.process.stdout.readline(), type=Up)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def begin_drain(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def ended(self) -> int:
        return self.process.wait(60)


class Setting:
    """A state directory, a port for Envoy, a backend, and the end of everything that was started."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.backend = Backend()
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        self._planes: list[Plane] = []
        self._envoys: list[Process] = []

    def plane(self, *, answer: str = "one", limit_s: float = 30) -> Plane:
        plane = Plane(self.state, self.port, self.backend.port, answer=answer, limit_s=limit_s)
        self._planes.append(plane)
        return plane

    def envoy(self, pid: int) -> Process:
        process = identify(pid)
        assert process
        self._envoys.append(process)
        return process

    def get(self, path: str = "/", *, timeout_s: float = 10) -> tuple[int, str]:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def left(self) -> set[str]:
        return {each.name for each in self.state.iterdir()}

    def close(self) -> None:
        self.backend.close()
        for plane in self._planes:
            if plane.process.poll() is None:
                plane.kill()
        for envoy in self._envoys:
            send_signal(envoy, signal.SIGKILL)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path / "state")
    yield made
    made.close()


@contextmanager
def steady_requests(setting: Setting) -> Iterator[list[tuple[int, str] | Exception]]:
    """Requests one after another all the while, each on a new connection; their answers."""
    answers: list[tuple[int, str] | Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.002):
            try:
                answers.append(setting.get("/answer"))
            except (OSError, HTTPException) as error:
                answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        stop.set()
        asking.join()


def until(holds: Callable[[], bool], *, limit_s: float = 60) -> None:
    ends_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends_s, "it never came to hold"
        time.sleep(0.02)


def answers_to(setting: Setting, path: str) -> str:
    with suppress(OSError, HTTPException):
        return setting.get(path)[1]
    return ""


def test_taken_over_from_a_killed_control_plane_without_a_failed_request(setting: Setting) -> None:
    first = setting.plane()
    envoy = setting.envoy(first.up().envoy_pid)
    with steady_requests(setting) as answers:
        for _ in range(2):
            first.kill()
            asked = len(answers)
            until(lambda asked=asked: len(answers) > asked + 20)  # type: ignore[misc]
            assert is_running(envoy)
            first = setting.plane()
            up = first.up()
            assert (up.envoy_pid, up.adopted, up.resources_sent) == (envoy.pid, True, 0)
        first.kill()
        changed = setting.plane(answer="two").up()
        assert (changed.envoy_pid, changed.adopted, changed.resources_sent) == (envoy.pid, True, 1)
        until(lambda: setting.get("/answer") == (200, "two"))
    assert set(answers) <= {(200, "one"), (200, "two")}


@pytest.mark.parametrize("adopted", [False, True])
def test_started_again_when_envoy_is_killed(setting: Setting, adopted: bool) -> None:
    plane = setting.plane()
    envoy = setting.envoy(plane.up().envoy_pid)
    if adopted:
        plane.kill()
        plane = setting.plane()
        assert plane.up().adopted
    os.kill(envoy.pid, signal.SIGKILL)
    until(lambda: not is_running(envoy))
    until(lambda: answers_to(setting, "/answer") == "one")
    assert answers_to(setting, "/") == "ok"
    plane.begin_drain()
    assert plane.ended() == 0
    assert setting.left() == {"lock", "envoy.log"}


def test_drain_lets_a_running_request_end_and_refuses_new_ones(setting: Setting) -> None:
    plane = setting.plane()
    envoy = setting.envoy(plane.up().envoy_pid)
    with closing(HTTPConnection("127.0.0.1", setting.port, timeout=60)) as slow:
        slow.request("GET", "/slow")
        setting.backend.slow_requests.acquire()
        plane.begin_drain()
        until(lambda: refused(setting))
        assert is_running(envoy)
        assert plane.process.poll() is None
        setting.backend.release.set()
        answer = slow.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok")
        assert answer.headers["connection"] == "close"
    assert plane.ended() == 0
    assert not is_running(envoy)
    assert setting.left() == {"lock", "envoy.log"}


def test_drain_is_limited(setting: Setting) -> None:
    plane = setting.plane(limit_s=0.3)
    envoy = setting.envoy(plane.up().envoy_pid)
    with closing(HTTPConnection("127.0.0.1", setting.port, timeout=60)) as slow:
        slow.request("GET", "/slow")
        setting.backend.slow_requests.acquire()
        plane.begin_drain()
        assert plane.ended() == 0
        with pytest.raises((OSError, HTTPException)):
            slow.getresponse()
    assert not is_running(envoy)
    assert setting.left() == {"lock", "envoy.log"}


def test_an_idle_connection_does_not_hold_up_a_drain(setting: Setting) -> None:
    plane = setting.plane(limit_s=600)
    setting.envoy(plane.up().envoy_pid)
    with closing(HTTPConnection("127.0.0.1", setting.port, timeout=60)) as idle:
        idle.request("GET", "/")
        assert idle.getresponse().read() == b"ok"
        plane.begin_drain()
        assert plane.ended() == 0


def test_killed_while_it_drains(setting: Setting) -> None:
    plane = setting.plane(limit_s=600)
    envoy = setting.envoy(plane.up().envoy_pid)
    with closing(HTTPConnection("127.0.0.1", setting.port, timeout=60)) as slow:
        slow.request("GET", "/slow")
        setting.backend.slow_requests.acquire()
        plane.begin_drain()
        until(lambda: refused(setting))
        plane.process.kill()
        plane.ended()
        setting.backend.release.set()
        assert slow.getresponse().status == 200
    up = setting.plane().up()
    setting.envoy(up.envoy_pid)
    assert (up.adopted, is_running(envoy)) == (False, False)
    assert setting.get("/answer") == (200, "one")


def test_two_on_one_state_directory(setting: Setting) -> None:
    plane = setting.plane()
    setting.envoy(plane.up().envoy_pid)
    second = subprocess.run(
        (sys.executable, "-m", "tests.live.plane", str(setting.state), "1", "1", "x", "1"),
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"process {plane.process.pid} already runs on the state directory" in second.stderr
    assert setting.get("/answer") == (200, "one")


def refused(setting: Setting) -> bool:
    try:
        setting.get(timeout_s=1)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
