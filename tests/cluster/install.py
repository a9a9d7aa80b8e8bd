"""Puts Tripylon into a cluster the way a user does: what `tripylon gen install` prints, applied with kubectl."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.cluster import Cluster, ClusterError

from tripylon.kube.install import install_manifests

NAMESPACE = "tripylon-system"
GATEWAY_CLASS = "tripylon"
ROLLOUT_LIMIT_S = 60


def install(cluster: Cluster, *, replicas: int = 2) -> None:
    """Installs the controller, and returns when it runs and has accepted its GatewayClass. Raises ClusterError."""
    objects = install_manifests(NAMESPACE, replicas=replicas)
    definitions = [each for each in objects if each["kind"] == "CustomResourceDefinition"]
    rest = [each for each in objects if each["kind"] != "CustomResourceDefinition"]
    cluster.apply(_list(definitions))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    cluster.apply(_list(rest))
    wait_for_controller(cluster)


def _list(objects: list[Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


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
