"""Puts Tripylon into a cluster the way a user does: what `tripylon gen install` prints, applied with kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.cluster import Cluster, ClusterError

NAMESPACE = "tripylon-system"
GATEWAY_CLASS = "tripylon"
ROLLOUT_LIMIT_S = 60


def install(cluster: Cluster, *flags: str) -> None:
    """Installs the controller, and returns when it runs and has accepted its GatewayClass. Raises ClusterError."""
    tripylon = str(Path(sys.prefix, "bin", "tripylon"))
    ours = subprocess.run([tripylon, "gen", "crds"], capture_output=True, text=True, check=False)
    rest = subprocess.run([tripylon, "gen", "install", *flags], capture_output=True, text=True, check=False)
    for ran in (ours, rest):
        if ran.returncode:
            raise ClusterError(f"`{' '.join(ran.args)}` failed:\n{ran.stderr.strip()}")
    cluster.apply(ours.stdout)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    cluster.apply(rest.stdout)
    wait_for_controller(cluster)


def wait_for_controller(cluster: Cluster) -> None:
    limit = f"--timeout={ROLLOUT_LIMIT_S}s"
    try:
        for name in cluster.kubectl("get", "deployments", "-n", NAMESPACE, "-o", "name").split():
            cluster.kubectl("rollout", "status", name, "-n", NAMESPACE, limit)
        cluster.kubectl("wait", "--for=condition=Accepted", f"gatewayclass/{GATEWAY_CLASS}", limit)
    except ClusterError as error:
        raise ClusterError(f"{error}\n{state(cluster)}") from error


def state(cluster: Cluster) -> str:
    """What the controller's pods say, for messages."""
    pods = json.loads(cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    lines = [
        f"{pod['metadata']['name']}: {json.dumps(status['state'])}"
        for pod in pods
        for status in pod["status"].get("containerStatuses", ())
    ]
    for log in sorted(cluster.logs.glob(f"{NAMESPACE}_*.log")):
        lines += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-20:]]
    return "\n".join(lines)
