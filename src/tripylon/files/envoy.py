"""The one Envoy of a standalone gateway: started, taken over, watched, restarted, drained.

Envoy runs in a session of its own and outlives us, so that a crash or an upgrade of the control plane costs no request;
the next control plane finds it by its administration socket and its pid file and takes it over. The invariants: no
process is signalled or taken over unless it is proven to be the Envoy of this state directory, and after
`drain_and_stop` neither process nor socket nor pid file is left. Read `process.py` for the proof, `launch.py` for what
is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import IO

import msgspec
import structlog

from tripylon.errors import StartError
from tripylon.files import log as envoy_log
from tripylon.files.admin import AdminError, EnvoyAdmin, ServerInfo
from tripylon.files.launch import Launch, Record, forget, read_record, write_record
from tripylon.files.process import Process, identify, is_running, send_signal, wait_exit
from tripylon.files.state import StateDir, write_whole

_START_LIMIT_S = 15.0
_ADOPT_LIMIT_S = 2.0
"""How long a recorded Envoy that lives may take to answer before it counts as hung."""
_DRAINING = "DRAINING"
_STALE_DRAIN_S = 3.0
_TERM_LIMIT_S = 5.0
_POLL_S = 0.02
_DRAIN_POLL_S = 0.1
_IDLE_GRACE_S = 1.0
"""How long a drain waits for idle keep-alive connections once no request runs."""

_log = structlog.get_logger("tripylon.envoy")


class Backoff(msgspec.Struct):
    """Delays between restarts: doubled each time, begun anew after an Envoy that lived long enough."""

    base_s: float = 0.1
    max_s: float = 5.0
    healthy_s: float = 10.0
    """An Envoy that lived this long was fine: its end is a new event."""
    failures: int = 0

    def next_delay_s(self, lived_s: float) -> float:
        """How long to wait before the next start, when the last Envoy lived `lived_s` seconds."""
        self.failures = 1 if lived_s >= self.healthy_s else self.failures + 1
        return min(self.max_s, self.base_s * 2.0 ** min(self.failures - 1, 30))


class EnvoyProcess:
    """The Envoy of one state directory.

    First `adopt_or_start`, then `watch` in a task of its own, at last `drain_and_stop`.
    """

    def __init__(self, launch: Launch, state: StateDir, *, stdout: IO[bytes] | int | None = None) -> None:
        """`stdout` is where Envoy's standard output goes (its access log, if that is configured so); None: to ours."""
        self.admin = EnvoyAdmin(state.admin_socket)
        self.restarts = 0
        """How often `watch` has begun to start Envoy again."""
        self._launch = launch
        self._state = state
        self._stdout = stdout
        self._process: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._log_start_bytes = 0
        self._stopping = asyncio.Event()
        self._busy = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the Envoy that we started or took over; None before and after."""
        return self._process.pid if self._process else None

    async def adopt_or_start(self) -> bool:
        """Take over the running Envoy if it is as ours would be, else start one; True when it was taken over."""
        adopted = await self.adopt()
        if not adopted:
            await self.start()
        return adopted

    async def adopt(self) -> bool:
        """Take over the Envoy that an earlier control plane left running; False when there is none any more.

        One that was started otherwise (other bootstrap, binary or options), drains, or hangs is stopped, and what a
        dead one left behind is removed.
        """
        async with self._busy:
            found, info = await self._find()
            if found and info and self._fits(info):
                self._take_over(found)
                return True
            if found and info:
                why = "drains" if info.state == _DRAINING else "was started otherwise"
                _log.warning(f"the running Envoy {why}; it is replaced", pid=found.pid)
                await self._end(found, drain_s=_STALE_DRAIN_S)
            elif found:
                _log.warning("the running Envoy does not answer; it is killed and replaced", pid=found.pid)
                await _end_by(found, SIGKILL)
            forget(self._state)
            return False

    async def start(self) -> None:
        """Start an Envoy and wait until its administration answers.

        Raises StartError with Envoy's last words when it ends instead.
        """
        async with self._busy:
            if self._process or self._stopping.is_set():
                return
            self._spawn()
            try:
                await asyncio.wait_for(self._answers(), _START_LIMIT_S)
            except TimeoutError:
                if self._process:
                    await self._end(self._process, drain_s=0)
                forget(self._state)
                raise StartError(self._failure(f"did not answer within {_START_LIMIT_S:g} s")) from None
            _log.info("Envoy started", pid=self.pid)

    async def watch(self) -> None:
        """Start Envoy again whenever it ends, until `drain_and_stop` is called; carries its log into ours meanwhile."""
        follower = asyncio.create_task(
            envoy_log.follow(self._state.log_file, start_bytes=self._log_start_bytes), name="envoy-log"
        )
        try:
            await self._keep_running(Backoff())
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    async def drain_and_stop(self, limit_s: float) -> None:
        """Stop listening, let running requests end for at most `limit_s` seconds, then end the process.

        Cancelled, it kills the process at once. Nothing is left in either case but the log.
        """
        self._stopping.set()
        try:
            async with self._busy:
                if self._process:
                    await self._end(self._process, drain_s=limit_s)
        finally:
            if self._process:
                send_signal(self._process, SIGKILL)
                self._reap()
            forget(self._state)

    # Taking over

    async def _find(self) -> tuple[Process | None, ServerInfo | None]:
        """The living Envoy of this state directory, and what it says about itself if it answers."""
        record = read_record(self._state)
        recorded = record.process if record and is_running(record.process) else None
        admin = EnvoyAdmin(self._state.admin_socket, timeout_s=_ADOPT_LIMIT_S)
        ends_s = time.monotonic() + _ADOPT_LIMIT_S
        while True:
            peer = admin.peer()
            with contextlib.suppress(AdminError):
                info = await admin.server_info()
                if peer is None or (recorded and peer == recorded.pid):
                    return recorded, info
                # Its pid file was never written or was lost; but what was started from a file in here is ours.
                return (identify(peer), info) if self._is_from_here(info) else (recorded, None)
            if recorded is None or time.monotonic() > ends_s:
                return recorded, None
            await asyncio.sleep(_POLL_S)

    def _fits(self, info: ServerInfo) -> bool:
        """Whether this Envoy was launched as ours would be; the bootstrap's path names the launch."""
        ours = str(self._state.bootstrap_file(self._launch.key()))
        same = info.node.id == self._launch.node_id and info.command_line_options.config_path == ours
        return same and info.state != _DRAINING

    def _is_from_here(self, info: ServerInfo) -> bool:
        return Path(info.command_line_options.config_path).parent == self._state.root

    def _take_over(self, process: Process) -> None:
        self._process, self._child, self._began_s = process, None, time.monotonic()
        self._log_start_bytes = self._log_size()
        write_record(self._state, Record(process, str(self._launch.binary), self._launch.key()))
        _log.info("took over the running Envoy", pid=process.pid)

    # Starting

    def _spawn(self) -> None:
        """Start the process and record it; no await in between, so that no cancellation can part the two."""
        forget(self._state)
        key = self._launch.key()
        bootstrap_file = self._state.bootstrap_file(key)
        try:
            if not _holds(bootstrap_file, self._launch.bootstrap):
                write_whole(bootstrap_file, self._launch.bootstrap)
            with self._state.log_file.open("ab") as log:
                self._log_start_bytes = log.tell()
                self._child = subprocess.Popen(
                    self._launch.command(bootstrap_file),
                    stdin=subprocess.DEVNULL,
                    stdout=self._stdout,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartError(f"Envoy cannot be started from {self._state.root}: {error}") from error
        self._began_s = time.monotonic()
        self._process = identify(self._child.pid)
        if self._process:
            try:
                write_record(self._state, Record(self._process, str(self._launch.binary), key))
            except OSError as error:
                _log.warning(
                    "which Envoy runs cannot be written down; the next run finds it by its socket", error=str(error)
                )

    async def _answers(self) -> None:
        while self._child and self._child.poll() is None and not self._stopping.is_set():
            with contextlib.suppress(AdminError):
                await self.admin.server_info()
                return
            await asyncio.sleep(_POLL_S)
        if self._stopping.is_set():
            return
        self._reap()
        forget(self._state)
        raise StartError(self._failure(f"ended at its start ({_status(self._child)})"))

    def _failure(self, what: str) -> str:
        words = envoy_log.last_words(self._state.log_file, start_bytes=self._log_start_bytes)
        return f"Envoy {what}: {words or 'it said nothing'}; its log is {self._state.log_file}"

    def _log_size(self) -> int:
        try:
            return self._state.log_file.stat().st_size
        except OSError:
            return 0

    # Watching

    async def _keep_running(self, backoff: Backoff) -> None:
        while not self._stopping.is_set():
            if self._process:
                await wait_exit(self._process)
                await self._note_end()
            delay_s = backoff.next_delay_s(time.monotonic() - self._began_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
                return
            self.restarts += 1
            try:
                await self.start()
            except StartError as error:
                _log.error("Envoy could not be started again", reason=str(error))

    async def _note_end(self) -> None:
        async with self._busy:
            if not self._stopping.is_set():
                self._reap()
                _log.error("Envoy ended by itself; it is started again", status=_status(self._child))

    def _reap(self) -> None:
        """Take note of the process's end, so that no zombie stays."""
        if self._child:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=1)
        self._process = None

    # Ending

    async def _end(self, process: Process, *, drain_s: float) -> None:
        if drain_s > 0:
            with contextlib.suppress(AdminError, TimeoutError):
                await asyncio.wait_for(self._drain(process), drain_s)
        if not await _end_by(process, SIGTERM) and not await _end_by(process, SIGKILL):
            _log.error("Envoy does not end even when killed", pid=process.pid)
        if self._process == process:
            self._reap()

    async def _drain(self, process: Process) -> None:
        """Return when nothing goes through this Envoy any more."""
        await self.admin.drain_listeners()
        idle_s = 0.0
        while is_running(process):
            activity = await self.admin.activity()
            if not activity.busy and (not activity.connections or idle_s >= _IDLE_GRACE_S):
                return
            idle_s = 0.0 if activity.busy else idle_s + _DRAIN_POLL_S
            await asyncio.sleep(_DRAIN_POLL_S)


async def _end_by(process: Process, number: Signals) -> bool:
    """Signal the process and wait a bounded time; True when it is gone."""
    send_signal(process, number)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wait_exit(process), _TERM_LIMIT_S)
    return not is_running(process)


def _holds(path: Path, content: bytes) -> bool:
    """Whether the file is there with this content: an Envoy that died is started again even on a full disk."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _status(child: subprocess.Popen[bytes] | None) -> str:
    """How the process ended, as far as that is known: of a process that is no child the status goes to its parent."""
    code = child.poll() if child else None
    if code is None:
        return "status unknown"
    return f"signal {Signals(-code).name}" if code < 0 else f"exit status {code}"
