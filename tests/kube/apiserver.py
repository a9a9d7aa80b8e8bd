"""A real kube-apiserver over a real etcd, of its own, on ports of the system: started, killed, started again.

Both come from one binary with the subcommands `etcd` and `apiserver`, named by `TRIPYLON_CLUSTER_BINARY` or found where
`make cluster-build` leaves it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tripylon.kube.config import ClusterConfig, Pem, User

ADMIN, GUEST = secrets.token_hex(16), secrets.token_hex(16)


def find_binary() -> Path | None:
    if named := os.environ.get("TRIPYLON_CLUSTER_BINARY"):
        return Path(named)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("TRIPYLON_CLUSTER_CACHE") or home)
    found = sorted((cache / "tripylon" / "cluster").glob("*/cluster"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ApiServer:
    """`start` and `stop` the two processes; data survive in the folder."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary, self._folder = binary, folder
        self._ports = [free_port() for _ in range(3)]
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def etcd(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def certificate(self) -> Path:
        """Made by the server at its start, unless it is there; signed by itself."""
        return self._folder / "certs" / "apiserver.crt"

    def forget_certificate(self) -> bytes:
        """Let the server make another one at its next start; the old one."""
        before = self.certificate.read_bytes()
        self.certificate.unlink()
        self.certificate.with_suffix(".key").unlink()
        return before

    def config(self, token: str = ADMIN) -> ClusterConfig:
        return ClusterConfig(
            server=f"https://127.0.0.1:{self._ports[2]}",
            authority=Pem(path=self.certificate),
            server_name="kubernetes.default.svc",
            user=User(token=token),
        )

    def start(self) -> None:
        peers = f"http://127.0.0.1:{self._ports[1]}"
        self._keys()
        self._run(
            "etcd",
            *("--data-dir", str(self._folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", self.etcd, "--advertise-client-urls", self.etcd),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
        )
        self.start_server()

    def start_server(self) -> None:
        key = self._folder / "accounts.key"
        self._run(
            "apiserver",
            *("--etcd-servers", self.etcd, "--bind-address", "127.0.0.1", "--secure-port", str(self._ports[2])),
            *("--cert-dir", str(self._folder / "certs"), "--token-auth-file", str(self._folder / "tokens.csv")),
            *("--authorization-mode", "RBAC", "--etcd-compaction-interval", "0", "--advertise-address", "10.0.0.1"),
            *("--service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            *("--service-account-key-file", str(key), "--service-account-signing-key-file", str(key)),
            *("--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none"),
        )
        self._ready()

    def compact(self) -> None:
        """Let etcd forget all states but the present one."""
        status = self._etcd("maintenance/status", {})
        self._etcd("kv/compaction", {"revision": status["header"]["revision"], "physical": True})

    def _etcd(self, what: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(f"{self.etcd}/v3/{what}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, dict[str, str]] = json.load(answer)
            return found

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def _ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            process = self._running["apiserver"]
            assert process.poll() is None, (self._folder / "apiserver.log").read_text()[-2000:]
            if self._answers():
                return
            assert time.monotonic() < deadline, "the API server is not ready"
            time.sleep(0.1)

    def _answers(self) -> bool:
        context = ssl._create_unverified_context()
        request = urllib.request.Request(f"{self.config().server}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _run(self, name: str, *args: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen([self._binary, name, *args], stdout=log, stderr=log)

    def _keys(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self._folder / "accounts.key").write_bytes(key.private_bytes(*form))
        users = f'{ADMIN},admin,1,"system:masters"\n{GUEST},guest,2\n'
        (self._folder / "tokens.csv").write_text(users)
