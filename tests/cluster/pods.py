"""Manifests and questions about pods, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.cluster.cluster import Cluster, wait_until

ECHO_IMAGE = "gateway-api/conformance/echo-basic:v0.1.0"
SHELL_IMAGE = "docker.io/library/busybox:1"
LIMIT_S = 20.0


def echo_container(**fields: Any) -> dict[str, Any]:
    """The suite's backend on port 3000, which says which pod answered."""
    names = {"POD_NAME": "metadata.name", "NAMESPACE": "metadata.namespace"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in names.items()]
    ready = {"httpGet": {"path": "/health", "port": 3000}, "periodSeconds": 1}
    return {"name": "echo", "image": ECHO_IMAGE, "env": env, "readinessProbe": ready} | fields


def shell_container(script: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"name": "main", "image": SHELL_IMAGE, "command": ["/bin/sh", "-euc", script]} | fields


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    """A pod's manifest; it is never restarted unless the spec says so."""
    body = {"restartPolicy": "Never", "containers": list(containers)} | spec
    return manifest("v1", "Pod", name, spec=body, labels={"app": name})


def deployment(name: str, replicas: int, container: dict[str, Any], **spec: Any) -> str:
    """A Deployment's manifest; its pods carry the label app."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]} | spec}
    body = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return manifest("apps/v1", "Deployment", name, spec=body)


def service(name: str, port: int, target: int, **spec: Any) -> str:
    """A Service's manifest for the pods with the label app."""
    body = {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]} | spec
    return manifest("v1", "Service", name, spec=body)


def manifest(version: str, kind: str, name: str, *, labels: dict[str, str] | None = None, **fields: Any) -> str:
    """One document; JSON is YAML."""
    metadata = {"name": name, "labels": labels or {}}
    return "---\n" + json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata} | fields) + "\n"


class Namespace:
    """One namespace of a cluster, with the questions that tests ask."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl prints for this namespace."""
        return self.cluster.kubectl("-n", self.name, *arguments, text=text)

    def apply(self, *manifests: str) -> None:
        """Server-side apply into this namespace."""
        self.kubectl("apply", "--server-side", "-f", "-", text="".join(manifests))

    def rolled_out(self, name: str) -> None:
        """Waits until a Deployment's pods are ready."""
        self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={LIMIT_S:.0f}s")

    def finished(self, name: str) -> str:
        """Waits for a pod's end; what it printed. Fails when it did not end well."""
        self.until(lambda: self.phase(name) in {"Succeeded", "Failed"}, f"pod {name} does not end")
        printed = self.kubectl("logs", name)
        assert self.phase(name) == "Succeeded", printed
        return printed

    def phase(self, name: str) -> str:
        """A pod's phase."""
        return str(self.get("pod", name)["status"].get("phase"))

    def get(self, kind: str, name: str) -> Any:
        """One object."""
        return self.cluster.get(kind, name, self.name)

    def list(self, kind: str) -> Any:
        """All objects of a kind."""
        return json.loads(self.kubectl("get", kind, "-o", "json"))["items"]

    def log(self, name: str) -> str:
        """The whole log of a container of a pod, also when the pod is gone."""
        [found] = self.cluster.logs.glob(f"{self.name}_{name}_*.log")
        return "".join(line.partition(" ")[2] for line in found.read_text().splitlines(keepends=True))

    def curl(self, url: str) -> str:
        """The body of a GET from the node."""
        return self.cluster.run(["curl", "-sS", "--fail", "--max-time", "5", url]).stdout

    def until(self, condition: Callable[[], bool], failure: str) -> None:
        """Waits for a condition."""
        wait_until(condition, LIMIT_S, failure)
