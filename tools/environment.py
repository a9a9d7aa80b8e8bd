"""Makes the project's own environment in `.venv`: `python tools/environment.py run|dev`, nothing to do when up to date.

`run` holds what the gateway needs, `dev` what tests and checks need as well. Every package is pinned and its content
checked by hash; everything is put into folders of the project (`.venv`, `.cache`), nothing anywhere else. Needs only
Python itself, so it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LEAST = (3, 11)
REQUIREMENTS = {"run": ("run.txt",), "dev": ("run.txt", "dev.txt")}


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def main() -> int:
    group = sys.argv[1] if len(sys.argv) == 2 else ""
    if group not in REQUIREMENTS:
        print("usage: environment.py run|dev", file=sys.stderr)
        return 2
    try:
        prepare(group)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(group: str) -> None:
    if sys.version_info < LEAST:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {found}: name another one, as in `make run PYTHON=python3.11`"
        )
    stamps = {name: VENV / f"tripylon-{name}.stamp" for name in REQUIREMENTS}
    key = wanted_key(group)
    if is_current(stamps[group], key) or (group == "run" and is_current(stamps["dev"], wanted_key("dev"))):
        return
    began = time.monotonic()
    make_venv()
    install_uv()
    install(group)
    stamps[group].write_text(key)
    say(f"ready after {time.monotonic() - began:.1f} s")


def wanted_key(group: str) -> str:
    """Changes with all that the environment is made of: the Python, the pins, how the project is installed."""
    content = hashlib.blake2b(f"{sys.version_info[:2]} {sysconfig.get_platform()}".encode(), digest_size=16)
    for path in (Path(__file__), ROOT / "pyproject.toml", *requirement_files(group), ROOT / "requirements" / "uv.txt"):
        content.update(path.read_bytes())
    return content.hexdigest()


def requirement_files(group: str) -> tuple[Path, ...]:
    return tuple(ROOT / "requirements" / name for name in REQUIREMENTS[group])


def is_current(stamp: Path, key: str) -> bool:
    return stamp.exists() and stamp.read_text() == key and python().exists()


def python() -> Path:
    return VENV / "bin" / "python"


def make_venv() -> None:
    if venv_version() == sys.version_info[:2]:
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    try:
        call([sys.executable, "-m", "venv", "--clear", str(VENV)])
    except SetupError as error:
        hint = "if it says that ensurepip is missing, install your system's package python3-venv"
        raise SetupError(f"{error}\n{hint}, or name another Python with PYTHON=") from error


def venv_version() -> tuple[int, int] | None:
    """The version of the Python in `.venv`, when there is one that works."""
    if not python().exists():
        return None
    asked = subprocess.run(
        [python(), "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    words = asked.stdout.split()
    return (int(words[0]), int(words[1])) if asked.returncode == 0 and len(words) == 2 else None


def install_uv() -> None:
    pins = ROOT / "requirements" / "uv.txt"
    wanted = next(
        line.split()[0].partition("==")[2] for line in pins.read_text().splitlines() if line.startswith("uv==")
    )
    uv = VENV / "bin" / "uv"
    if uv.exists() and subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout.split()[
        1:2
    ] == [wanted]:
        return
    say(f"installing uv {wanted}, which installs the rest")
    call([str(python()), "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(pins)])


def install(group: str) -> None:
    files = requirement_files(group)[-1:]
    count = sum(line[:1].isalnum() for path in files for line in path.read_text().splitlines())
    say(f"installing up to {count} pinned packages into .venv")
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(python())]
    call([*uv, "--require-hashes", *(word for path in files for word in ("-r", str(path)))])
    call([*uv, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def call(command: list[str]) -> None:
    """Runs a command in an environment that keeps its caches within the project; SetupError with its output."""
    cache = ROOT / ".cache"
    settings = {
        "PIP_CACHE_DIR": str(cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        **package_sources(),
    }
    ran = subprocess.run(command, env=settings | dict(os.environ), capture_output=True, text=True, check=False)
    if ran.returncode:
        said = (ran.stderr.strip() or ran.stdout.strip())[-2000:]
        raise SetupError(f"`{' '.join(command)}` failed:\n{said}")


def package_sources() -> dict[str, str]:
    """pip's settings of where packages come from, for uv, which reads none of them."""
    names = {
        "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
        "PIP_EXTRA_INDEX_URL": "UV_INDEX",
        "PIP_FIND_LINKS": "UV_FIND_LINKS",
        "PIP_CERT": "SSL_CERT_FILE",
    }
    configured = pip_configuration() | dict(os.environ)
    return {uv: configured[pip] for pip, uv in names.items() if configured.get(pip)}


def pip_configuration() -> dict[str, str]:
    """What `pip config list` says, under the names of the environment variables that would say the same."""
    if not python().exists():
        return {}
    asked = subprocess.run([python(), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found = {}
    for line in asked.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section in ("global", "install"):
            found["PIP_" + option.upper().replace("-", "_")] = value.strip("'")
    return found


def say(line: str) -> None:
    print(f"setup: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
