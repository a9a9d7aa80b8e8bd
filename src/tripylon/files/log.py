"""Envoy's own log, carried into ours.

Envoy writes into a file, since a pipe to us would break when we die and Envoy must outlive us. The invariant: a line is
carried over once, and the file never grows far beyond its bound while somebody follows it.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import structlog

FORMAT = "%Y-%m-%dT%H:%M:%S.%e%z [%l] [%n] %v"
"""Envoy's `--log-format`, which `parse_line` reads; with `--log-format-escaped` every entry is one line."""

_LINE = re.compile(r"(\S+) \[(\w+)\] \[([\w./-]+)\] (.*)")
_LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warning": "warning", "error": "error"}
_REFUSAL = re.compile(
    r"(?:gRPC|delta) config for \S+ rejected: |lds: listener .* config rejected: |listener .* failed to bind"
)
"""What Envoy logs, up to four times, when it refuses a resource; it tells us too, and that becomes a finding."""
_UNAVOIDABLE = re.compile(r"field '[\w.]+UdpProxyConfig\.matcher' is marked as work-in-progress")
"""What Envoy logs about every UDP listener: of the two fields that choose its cluster the other one is deprecated."""
_POLL_S = 0.25
_MAX_FILE_BYTES = 32 << 20


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of Envoy's log."""

    level: str
    """`debug`, `info`, `warning`, `error` or `critical`."""
    logger: str
    """Envoy's component; empty for a line that is no entry, such as a part of a crash report."""
    time: str
    message: str


def parse_line(line: str) -> Entry:
    """One line of the log; what has not the form of an entry is a warning with the line as it is."""
    found = _LINE.fullmatch(line)
    if not found:
        return Entry("warning", "", "", line)
    time, level, logger, escaped = found.groups()
    message = escaped.replace("\\'", "'").replace('\\"', '"').replace("\\n", " ").rstrip()
    told = _REFUSAL.match(message) or _UNAVOIDABLE.match(message)
    shown = "debug" if told else _LEVELS.get(level, "critical")
    return Entry(shown, logger, time, message)


async def follow(path: Path, *, start_bytes: int = 0) -> None:
    """Carry everything that is written to the file from `start_bytes` on into our log, until cancelled."""
    log = structlog.get_logger("tripylon.envoy")
    at, rest = start_bytes, b""
    while True:
        new = _read(path, at)
        if new is None:
            at, rest = 0, b""
        else:
            at += len(new)
            *lines, rest = (rest + new).split(b"\n")
            for line in lines:
                entry = parse_line(line.decode(errors="replace"))
                getattr(log, entry.level)(entry.message, component=entry.logger, envoy_time=entry.time)
            if at > _MAX_FILE_BYTES:
                at = _empty(path)
        await asyncio.sleep(_POLL_S)


def last_words(path: Path, *, start_bytes: int = 0, lines: int = 3) -> str:
    """The last entries after `start_bytes`, messages only, for an error message."""
    new = _read(path, start_bytes) or b""
    entries = [parse_line(line).message.strip() for line in new.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(entries[-lines:])


def _read(path: Path, at: int) -> bytes | None:
    """What follows after `at` bytes; None when the file is shorter than that or is missing."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < at:
                return None
            file.seek(at)
            return file.read()
    except FileNotFoundError:
        return None


def _empty(path: Path) -> int:
    """Cut the file to nothing; Envoy appends, so that its next line is the first one again."""
    with path.open("rb+") as file:
        file.truncate(0)
    return 0
