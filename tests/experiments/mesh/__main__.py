"""`python -m tests.experiments.mesh`: one east-west request through a proxy of the node, and what that costs.

Two network namespaces, a pod and its node; the node redirects the pod's connections to a real Envoy, which takes those
to the cluster IP and port of a Service with routes, and lets all others go on. Prints what the pod got, as a table or
with `--json` as JSON. docs/adr/0012 says what it is for.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from tests.experiments.mesh import backends, network
from tests.experiments.mesh.programming import CAPTURE_PORT, bootstrap

from tripylon.pb.descriptors import envoy_binary

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
_START_LIMIT_S = 30


def main(arguments: list[str]) -> int:
    """Runs it in namespaces of its own; the exit code."""
    if "--inside" in arguments:
        return asyncio.run(_inside())
    if missing := network.what_is_missing():
        print(missing, file=sys.stderr)
        return 1
    command = [*network.unshared(), sys.executable, "-m", "tests.experiments.mesh", "--inside"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env=network.environment())
    if ran.returncode:
        return ran.returncode
    print(ran.stdout.strip() if "--json" in arguments else _table(json.loads(ran.stdout)))
    return 0


async def _inside() -> int:
    """Everything on the node; the processes end with this one, which is the first of their namespace.

    The exit code of what runs in the pod, which prints the result.
    """
    pod = network.make_node()
    servers = await backends.start(network.BACKENDS)
    with tempfile.TemporaryDirectory(prefix="tripylon-mesh-") as folder:
        config = Path(folder, "bootstrap.pb")
        config.write_bytes(bootstrap(yaml.safe_load((HERE / "objects.yaml").read_text())))
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        envoy = subprocess.Popen([str(envoy_binary()), "--config-path", str(config), *options], stdout=sys.stderr)
        await asyncio.to_thread(_wait_for, envoy)
        command = [*pod, sys.executable, "-m", "tests.experiments.mesh.pod"]
        asking = await asyncio.create_subprocess_exec(*command, env=network.environment())
        code = await asking.wait()
        envoy.terminate()
        envoy.wait()
    for server in servers:
        server.close()
    return code


def _wait_for(envoy: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < ends_s and envoy.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", CAPTURE_PORT)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("Envoy does not listen: see what it says above")


def _table(result: Any) -> str:
    lines = [f"{'asked for':34} what came back"]
    lines += [f"{asked:34} {json.dumps(got)}" for asked, got in result["answers"].items()]
    lines += ["", f"{'microseconds':18} {'p50':>7} {'p99':>7}   new connection: {'p50':>7} {'p99':>7}"]
    for way, took in result["latencies"].items():
        lines.append(f"{way:18} {took['p50']:7} {took['p99']:7} {'':17}{took['new p50']:7} {took['new p99']:7}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
