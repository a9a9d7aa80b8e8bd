"""What the test cluster needs of a machine is said in one line, and Go is got where it is missing or too old."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.build import GO_BIN, find_go

ROOT = Path(__file__).resolve().parents[2]
COMMAND = shlex.join([sys.executable, "-m", "tests.cluster"])


def without_namespaces(command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of `tests.cluster` under a kernel that makes no more network namespaces."""
    script = f"echo 0 > /proc/sys/user/max_net_namespaces; exec {COMMAND} {command}"
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-euc", script],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture
def namespaces() -> None:
    tried = subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("the kernel lets this user make no namespace in which to forbid them")


@pytest.mark.usefixtures("namespaces")
def test_what_is_left_out_without_namespaces_is_said_in_one_line() -> None:
    ran = without_namespaces("left-out")
    assert ran.returncode == 0
    [line] = ran.stdout.splitlines()
    assert line.startswith("left out: what needs a Kubernetes cluster; `make test-cluster` and `make conformance`")
    assert "run it as root, or use KUBECONFIG=…" in line


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("command", ["check", "up", "pytest tests/cluster"])
def test_nothing_is_built_for_a_cluster_that_cannot_be(command: str) -> None:
    ran = without_namespaces(command)
    assert (ran.returncode, ran.stdout) == (1, "")
    [line] = ran.stderr.splitlines()
    assert line.startswith("cluster: the test cluster needs root, or a kernel that lets users make namespaces")


@pytest.mark.parametrize("version", [None, "go1.13.8", "go1.20"])
def test_a_go_that_is_missing_or_too_old_is_replaced_by_a_package(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = program(tmp_path / GO_BIN.replace("==", "-") / "go" / "bin" / "go", "go1.26.6")
    found = program(tmp_path / "bin" / "go", version) if version else tmp_path / "bin" / "go"
    monkeypatch.setenv("TRIPYLON_CLUSTER_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(found.parent))
    assert find_go() == str(packaged)


def test_a_go_that_fetches_toolchains_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(tmp_path / "go", "go1.21.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_go() == str(found)


def program(path: Path, version: str) -> Path:
    """A Go that can only tell its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
    path.chmod(0o755)
    return path
