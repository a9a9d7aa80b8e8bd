"""Runs in a cluster's network: waits for the API server, applies CRDs, waits until they and the node are ready.

    ready.py PKI api            until /readyz says ok
    ready.py PKI crds FOLDER    applies every file, then waits

A program of its own, without kubectl, because each start of kubectl costs more than all of this.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HOST, PORT = "10.244.0.1", 6443
LIMIT_S = 60.0
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def main(pki: str, step: str, *arguments: str) -> int:
    """The exit code: 1 with a line on stderr when the limit is over or something is refused."""
    api = Api(Path(pki))
    deadline = time.monotonic() + LIMIT_S
    waiting = "the API server"
    try:
        if step == "crds":
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(api.apply_crd, sorted(Path(arguments[0]).glob("*.yaml"))))
        while time.monotonic() < deadline:
            if not (waiting := api.not_ready() if step == "api" else api.not_established()):
                return 0
            time.sleep(0.05)
    except RuntimeError as error:
        waiting = str(error)
    print(f"not ready: {waiting}", file=sys.stderr)
    return 1


class Api:
    """As much of a client as is needed here."""

    def __init__(self, pki: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def not_ready(self) -> str:
        try:
            status, text = self._call("GET", "/readyz")
        except OSError as error:
            return f"the API server ({error})"
        return "" if status == 200 else f"the API server ({text.decode(errors='replace')[:200]})"

    def apply_crd(self, path: Path) -> None:
        text = path.read_bytes()
        name = next(line.split()[1] for line in text.decode().splitlines() if line.startswith("  name: "))
        target = f"{CRDS}/{name}?fieldManager=cluster&force=true"
        status, said = self._call("PATCH", target, text, "application/apply-patch+yaml")
        if status not in (200, 201):
            raise RuntimeError(f"{path.name}: {said.decode(errors='replace')[:500]}")

    def not_established(self) -> str:
        waiting = [name for name, conditions in self._conditions(CRDS) if conditions.get("Established") != "True"]
        nodes = self._conditions("/api/v1/nodes")
        waiting += [name for name, conditions in nodes if conditions.get("Ready") != "True"]
        return ", ".join(waiting) if nodes else "the node"

    def _conditions(self, path: str) -> list[tuple[str, dict[str, str]]]:
        status, text = self._call("GET", path)
        items: list[dict[str, Any]] = json.loads(text)["items"] if status == 200 else []
        return [
            (item["metadata"]["name"], {c["type"]: c["status"] for c in item.get("status", {}).get("conditions") or ()})
            for item in items
        ]

    def _call(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(HOST, PORT, context=self._tls, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
