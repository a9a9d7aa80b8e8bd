"""The backends of a test run: starts the echo process and writes the Services and EndpointSlices that name its pods."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
from tests.live.certificates import Authority
from tests.live.echo import Deployment, Logged, Placed, Ready, Settings

ROOT = Path(__file__).resolve().parents[2]

Manifest = dict[str, object]

H2C = "kubernetes.io/h2c"
WEBSOCKET = "kubernetes.io/ws"

DEPLOYMENTS = (
    Deployment("infra", "echo-v1", 2),
    Deployment("infra", "echo-v2", 2),
    Deployment("infra", "echo-v3", 1),
    Deployment("infra", "grpc-v1", 2, "grpc"),
    Deployment("infra", "grpc-v2", 2, "grpc"),
    Deployment("infra", "grpc-v3", 2, "grpc"),
    Deployment("apps", "app-v1", 2),
    Deployment("apps", "app-v2", 2),
    Deployment("web", "web", 2),
)


class Fleet:
    """A running echo process. `first_address` is the first of the loopback addresses that its pods take."""

    def __init__(self, folder: Path, deployments: tuple[Deployment, ...] = DEPLOYMENTS) -> None:
        self._folder = folder
        self._deployments = deployments
        self.authority = Authority("Authority of the backends")

    def __enter__(self) -> Fleet:
        certificate = self._folder / "backend.pem"
        certificate.write_text("".join(self.authority.issue("backend.example.com", "abc.example.com")))
        settings = Settings(self._deployments, loopback(1), str(certificate))
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.live.echo", msgspec.json.encode(settings).decode()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self._ready = msgspec.json.decode(self._process.stdout.readline(), type=Ready)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id of the echo process."""
        return self._process.pid

    def placed(self, name: str) -> Placed:
        """Where the deployment `namespace/name` listens."""
        return next(one for one in self._ready.deployments if f"{one.namespace}/{one.name}" == name)

    def manifests(self) -> list[Manifest]:
        """A Service for each deployment and one EndpointSlice with all of its pods."""
        return [manifest for placed in self._ready.deployments for manifest in service(placed)]

    def log_since(self, number: int) -> list[Logged]:
        """What the pods received, from entry `number` on."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ready.control}/?since={number}", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=list[Logged])

    def next_number(self) -> int:
        """The number that the next request's entry in the log will have."""
        log = self.log_since(0)
        return log[-1].number + 1 if log else 0


def service(placed: Placed) -> list[Manifest]:
    """The Service of a deployment: 8080 to its main port, 8081 to h2c and 8082 to WebSocket where it has them."""
    named = [("http", 8080, placed.ports.get("http", 0), "")]
    if "grpc" in placed.ports:
        named = [("grpc", 8080, placed.ports["grpc"], H2C)]
    if "h2c" in placed.ports:
        named += [("h2c", 8081, placed.ports["h2c"], H2C), ("ws", 8082, placed.ports["http"], WEBSOCKET)]
    if "https" in placed.ports:
        named += [("https", 443, placed.ports["https"], "")]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": placed.namespace, "name": placed.name},
            "spec": {
                "selector": {"app": placed.name},
                "ports": [
                    {"name": name, "port": port, "targetPort": target} | ({"appProtocol": protocol} if protocol else {})
                    for name, port, target, protocol in named
                ],
            },
        },
        endpoint_slice(placed, ports=tuple((name, target) for name, _, target, _ in named)),
    ]


def endpoint_slice(placed: Placed, *, ports: tuple[tuple[str, int], ...], service_name: str = "") -> Manifest:
    """The EndpointSlice that lists a deployment's pods, for the Service of the same name unless told otherwise."""
    owner = service_name or placed.name
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": placed.namespace,
            "name": f"{owner}-1",
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in placed.addresses],
    }


def loopback(block: int) -> str:
    """The first address of a block of 250 loopback addresses; blocks differ between processes and workers."""
    return f"127.{os.getpid() % 120 + 100}.{os.getpid() // 120 % 32 * 8 + block % 8}.1"
