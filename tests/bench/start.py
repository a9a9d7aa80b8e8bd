"""From `tripylon run` to the first 200, split into steps, with few routes and with many.

The steps are those that the program itself notes at `--log-level debug`; the first 200 is seen by a client that asks
the last route again and again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tests.bench import gateways, layouts
from tests.bench.measures import measure, spread
from tests.bench.table import Table, milliseconds

STEPS = ("imported", "read", "begun", "built", "live")
_LIMIT_S = 60.0
_LIVE_AIM_S = 5.0
_FILES = 10_000
"""With more routes than that, a file holds many of them."""
_MANY = 10


class Start(msgspec.Struct, frozen=True):
    """One start: when each step was over, in seconds since the command was typed."""

    steps: dict[str, float]
    first_200: float


class Running(msgspec.Struct):
    """One `tripylon run` and its state directory."""

    process: subprocess.Popen[bytes]
    state: Path
    log: Path
    began_s: float

    @property
    def envoy_pid(self) -> int:
        """Process id of its Envoy."""
        return int(json.loads((self.state / "envoy.pid").read_text())["process"]["pid"])

    def steps(self) -> dict[str, float]:
        """When each step was over, in seconds since the start."""
        found = {}
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if event.get("event") == "start":
                    found[event["done"]] = float(event["monotonic_s"]) - self.began_s
        return found


@contextlib.contextmanager
def tripylon(
    folder: Path, paths: list[Path], *, level: str = "debug", options: tuple[str, ...] = ("--access-log", "off")
) -> Iterator[Running]:
    """Runs a gateway on these paths; ends it and its Envoy whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    log, state = folder / "log.jsonl", folder / "state"
    command = [str(Path(sys.executable).with_name("tripylon")), "run", *map(str, paths), "--state", str(state)]
    common = (
        "--admin",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--log-format",
        "json",
        "--log-level",
        level,
        "--drain-limit",
        "0",
    )
    with log.open("wb") as out:
        began_s = time.monotonic()
        process = subprocess.Popen(
            [*command, *common, *options],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
    running = Running(process, state, log, began_s)
    try:
        yield running
    finally:
        _end(running)


def _end(running: Running) -> None:
    process = running.process
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(running.envoy_pid, signal.SIGKILL)


class Client:
    """A keep-alive connection that asks for one host, or many."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)

    def status(self, host: str, path: str = "/") -> int:
        """The answer's status; 0 when there is nobody to ask."""
        try:
            self._connection.request("GET", path, headers={"Host": host})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        return answer.status

    def wait(self, host: str, path: str = "/", status: int = 200, pause_s: float = 0.0005) -> float:
        """Asks until that answer comes; the time at which it did."""
        deadline = time.monotonic() + _LIMIT_S
        while (got := self.status(host, path)) != status:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{host}{path} answered {got}, not {status}, for {_LIMIT_S:g} s")
            time.sleep(pause_s)
        return time.monotonic()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def free_port() -> int:
    """A port that the system has to spare."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measured(folder: Path, count: int, backend_port: int, *, times: int, layout: str = "") -> list[Start]:
    """Starts a gateway with so many routes that often."""
    port = free_port()
    objects = folder / f"objects-{count}"
    gateways.write_folder(objects, count, port, backend_port, in_one_file=_MANY if count > _FILES else 1)
    options = ("--access-log", "off", *layouts.flags(layout))
    found = []
    for number in range(times):
        with tripylon(folder / f"run-{count}-{number}", [objects], options=options) as running:
            client = Client(port)
            first = client.wait(gateways.host(count - 1), pause_s=0.002) - running.began_s
            client.close()
            deadline = time.monotonic() + _LIMIT_S
            while "live" not in (steps := running.steps()) and time.monotonic() < deadline:
                time.sleep(0.02)
            found.append(Start(steps, first))
    return found


def table(folder: Path, backend_port: int, layout: str) -> Table:
    """The starts as a table."""
    rows, kept = [], []
    for count, times in ((10, 5), (5_000, 3), (20_000, 3)):
        starts = measured(folder, count, backend_port, times=times, layout=layout)
        median = {step: statistics.median(start.steps.get(step, 0.0) for start in starts) for step in STEPS}
        spans = [
            median[step] - (median[before] if before else 0.0)
            for before, step in zip(("", *STEPS), STEPS, strict=False)
        ]
        first = measure(f"start with {count:,} routes: first 200", "s", [start.first_200 for start in starts])
        live = measure(
            f"start with {count:,} routes: all acknowledged",
            "s",
            [start.steps["live"] for start in starts],
            aims=[("median", _LIVE_AIM_S)] if count == 20_000 else (),
        )
        rows.append((f"{count:,}", *map(milliseconds, spans), spread(live), spread(first)))
        kept += [first, live]
    return Table(
        "From `tripylon run` to the first 200 (steps: medians in ms; the last two: least / median / most)",
        (
            "routes",
            "import",
            "read and validate",
            "build",
            "build routes",
            "flight",
            "all acknowledged",
            "**first 200**",
        ),
        tuple(rows),
        f"One file for each route with its Service and EndpointSlice; above {_FILES:,} routes {_MANY} share one.",
        tuple(kept),
    )
