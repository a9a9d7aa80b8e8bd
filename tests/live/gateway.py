"""A real gateway for tests: `tripylon run` on a folder of manifests, with ports from the system, ended by process id.

`apply` and `delete` edit the folder as users do (atomically, one file per object) and return when the change is
reported live. Whatever happens, `stop` leaves neither the control plane nor its Envoy behind.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.live import clients
from tests.live.fleet import ROOT, Manifest
from tests.live.manifests import Places, full_name, identity

from tripylon.cli import main as tripylon

START_S = 60.0
LIVE_S = 60.0
STOP_S = 30.0
TRIPYLON = str(Path(sys.executable).with_name("tripylon"))


class LiveGateway:
    """One `tripylon run` and what it needs: a folder, a state directory, an admin port."""

    def __init__(self, folder: Path, places: Places, *options: str) -> None:
        self.places = places
        self.folder = folder / "objects"
        self.state = folder / "state"
        self.log = folder / "tripylon.log"
        self.admin = f"127.0.0.1:{_free_port()}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._marks = 0
        self.folder.mkdir(parents=True)

    @property
    def pid(self) -> int:
        """Process id of the control plane."""
        assert self._process is not None
        return self._process.pid

    @property
    def envoy_pid(self) -> int:
        """Process id of the Envoy that serves now."""
        return int(json.loads((self.state / "envoy.pid").read_text())["process"]["pid"])

    def start(self) -> None:
        """Starts the control plane and returns when it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                (
                    *(TRIPYLON, "run", str(self.folder), "--state", str(self.state), "--admin", self.admin),
                    *("--bind", "127.0.0.1", "--log-format", "json", *self._options),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until `/readyz` answers 200; AssertionError with the end of the log when it does not."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"tripylon ended with {self._process.returncode}: {self.tail()}"
            if self.get("/readyz")[0] == 200:
                return
            time.sleep(0.02)
        raise AssertionError(f"tripylon was not ready within {START_S} s: {self.tail()}")

    def kill(self) -> None:
        """Ends the control plane at once, as a crash would; Envoy serves on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)

    def terminate(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Asks the control plane to end and returns its exit code."""
        assert self._process is not None
        self._process.send_signal(sign)
        return self._process.wait(STOP_S)

    def stop(self) -> None:
        """Ends the control plane and, should it have been left alone, Envoy."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None and self._process.poll() is None:
                self.terminate()
        if self._process is not None and self._process.poll() is None:
            self.kill()
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(self.envoy_pid, signal.SIGKILL)

    def apply(self, manifests: Iterable[Manifest]) -> None:
        """Writes complete objects into the folder, each to a file of its own, and waits until they are live."""
        for manifest in manifests:
            self.write(manifest)
        self.wait_live()

    def delete(self, identities: Iterable[str]) -> None:
        """Removes objects, named `Kind namespace/name`, and waits until that is live."""
        for name in identities:
            self.path(name).unlink()
        self.wait_live()

    def wait_live(self) -> None:
        """Waits until everything written so far is served.

        Two marks are put into the folder, one after the other: a scan may have read some files before the first mark
        was written, but the scan that finds the second began later than that.
        """
        for _ in range(2):
            self._marks += 1
            mark = {"namespace": "live-tests", "name": "mark", "generation": self._marks}
            self.write({"apiVersion": "v1", "kind": "ConfigMap", "metadata": mark})
            self._wait_mark()

    def _wait_mark(self) -> None:
        deadline = time.monotonic() + LIVE_S
        while time.monotonic() < deadline:
            picture = self.picture()
            found = {entry["name"]: entry["generation"] for entry in picture["world"].get("ConfigMap", ())}
            if found.get("live-tests/mark") == self._marks and picture["live"] >= picture["flight"]:
                return
            time.sleep(0.005)
        raise AssertionError(f"the change was not live within {LIVE_S} s: {self.tail()}")

    def picture(self) -> dict[str, Any]:
        """What `/picture` tells."""
        status, body = self.get("/picture")
        assert status == 200, body
        picture: dict[str, Any] = json.loads(body)
        return picture

    def write(self, manifest: Manifest) -> None:
        """Writes one complete object and waits for nothing."""
        path = self.path(identity(manifest))
        scratch = path.with_name(f".{path.name[:40]}.tmp")
        scratch.write_text(json.dumps(manifest))
        scratch.replace(path)

    def path(self, name: str) -> Path:
        """The file of an object."""
        flat = name.replace(" ", "-").replace("/", "_").lower()
        return self.folder / f"{flat if len(flat) < 200 else flat[:200]}.yaml"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of the admin address's answer; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def objects(self) -> dict[str, Manifest]:
        """Every object of the folder with the status that `tripylon check` gives it, by `Kind namespace/name`.

        The command runs in this process, which spares a second for each table.
        """
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = tripylon(["check", "-o", "yaml", "--no-envoy", str(self.folder)])
        assert code in {0, 1}
        assert printed.getvalue(), "tripylon check printed nothing"
        found = yaml.load_all(printed.getvalue(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {identity(manifest): manifest for manifest in found if manifest}

    def target(self, gateway: str, port: int, *, sni: str = "") -> clients.Target:
        """Where a Gateway's listener is reached; with `sni` through TLS."""
        authority = self.places.authority.pem if sni else ""
        return clients.Target(self.places.address(full_name(gateway)), self.places.port(port), authority, sni)

    def tail(self) -> str:
        """The end of the control plane's log."""
        return self.log.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def running(folder: Path, places: Places, manifests: Iterable[Manifest], *options: str) -> Iterator[LiveGateway]:
    """A gateway that serves these complete manifests from its start."""
    gateway = LiveGateway(folder, places, *options)
    for manifest in manifests:
        gateway.write(manifest)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
