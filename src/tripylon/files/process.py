"""Processes that may not be our children: which one it is, whether it lives, when it ends.

A process id alone names nobody, since the kernel gives it to another process in time. The invariant: nothing here
waits for or signals a process other than the one that was identified. Read `envoy.py` for the one that this is for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

_POLL_S = 0.1
_HAS_PIDFD = sys.platform == "linux" and hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


class Process(msgspec.Struct, frozen=True, gc=False):
    """One process, told from all others that ever had its id."""

    pid: int
    started: str
    """When it started, in the words of the system: boot id and clock tick on Linux, a time of day elsewhere."""


def identify(pid: int) -> Process | None:
    """The process that now has this id; None when there is none, or only the remains of one."""
    started = _started_linux(pid) if Path("/proc/self/stat").exists() else _started_ps(pid)
    return Process(pid, started) if started else None


def is_running(process: Process) -> bool:
    """Whether this very process still lives."""
    return identify(process.pid) == process


def send_signal(process: Process, number: signal.Signals) -> bool:
    """Signal this very process; False when it is gone or not ours to signal."""
    pidfd = _open_pidfd(process.pid)
    try:
        # With a descriptor in hand the id cannot change its meaning between this check and the signal.
        if not is_running(process):
            return False
        if pidfd is not None:
            _send_by_descriptor(pidfd, number)
        else:
            os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return True


async def wait_exit(process: Process) -> None:
    """Return when the process has ended, child of ours or not; a child still has to be reaped by its maker."""
    pidfd = _open_pidfd(process.pid)
    if pidfd is None:
        while is_running(process):  # noqa: ASYNC110  # nothing tells us when a process that is no child ends
            await asyncio.sleep(_POLL_S)
        return
    try:
        if is_running(process):
            await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _open_pidfd(pid: int) -> int | None:
    """A descriptor of the process; None where the system has none or the process is gone."""
    if not _HAS_PIDFD:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _send_by_descriptor(pidfd: int, number: signal.Signals) -> None:
    signal.pidfd_send_signal(pidfd, number)


def _started_linux(pid: int) -> str:
    """Boot id and start tick; empty when there is no such process or it is a zombie (proc(5), `/proc/pid/stat`)."""
    try:
        # The name in parentheses may itself hold spaces and parentheses; nothing after it does.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else f"{boot} {fields[18]}"


def _started_ps(pid: int) -> str:
    command = ("ps", "-o", "state=,lstart=", "-p", str(pid))
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(said[1:]) if said and not said[0].startswith("Z") else ""
