"""Runs in the pod, knows of no proxy: asks, measures, and prints what it got as JSON."""

from __future__ import annotations

import http.client
import json
import socket
import time
from statistics import quantiles
from typing import Any

from tests.experiments.mesh.backends import BANNER_PORT
from tests.experiments.mesh.network import BACKENDS, UNCAPTURED
from tests.experiments.mesh.programming import CAPTURE_PORT

_WAYS = {"not redirected": UNCAPTURED, "passed through": "10.96.0.12", "routed": "10.96.0.10"}
_ROUNDS, _REQUESTS, _CONNECTIONS = 8, 250, 25


def answers() -> dict[str, Any]:
    """What comes back, by what is asked for."""
    return {
        "the Service": _ask("10.96.0.10"),
        "the Service, header of v2": _ask("10.96.0.10", headers={"x-version": "v2"}),
        "the Service, Host of another one": _ask("10.96.0.10", headers={"host": "echo-v2.shop"}),
        "the Service, a path of no rule": _ask("10.96.0.10", path="/other"),
        "another port of the Service": _ask("10.96.0.10", 8080),
        "a Service without routes": _ask("10.96.0.12"),
        "a pod's own address": _ask(BACKENDS["echo-v2"], 8080),
        "a server that speaks first": _read(BACKENDS["echo-v2"], BANNER_PORT),
        "the port of the capture": _read("10.244.0.1", CAPTURE_PORT),
    }


def _ask(address: str, port: int = 80, *, path: str = "/shop/cart", headers: dict[str, str] | None = None) -> Any:
    connection = http.client.HTTPConnection(address, port, timeout=10)
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    told = json.loads(body) if answer.status == 200 else {}
    return {"status": answer.status, "route": answer.headers.get("x-route"), **told}


def _read(address: str, port: int) -> str:
    """What a server says by itself until it closes."""
    with socket.create_connection((address, port), timeout=10) as connection:
        try:
            return connection.recv(100).decode().strip()
        except ConnectionError:
            return ""


def latencies() -> dict[str, dict[str, float]]:
    """Microseconds by way: of requests on an open connection, and of a new connection with its first request."""
    requests: dict[str, list[float]] = {way: [] for way in _WAYS}
    connections: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(_ROUNDS):
        for way, address in _WAYS.items():
            connections[way] += [_timed(http.client.HTTPConnection(address, timeout=10)) for _ in range(_CONNECTIONS)]
            open_one = http.client.HTTPConnection(address, timeout=10)
            _timed(open_one)
            requests[way] += [_timed(open_one, keep=True) for _ in range(_REQUESTS)]
            open_one.close()
    return {way: {**_figures("", requests[way]), **_figures("new ", connections[way])} for way in _WAYS}


def _timed(connection: http.client.HTTPConnection, *, keep: bool = False) -> float:
    began_s = time.perf_counter()
    connection.request("GET", "/shop/cart")
    connection.getresponse().read()
    took_us = (time.perf_counter() - began_s) * 1e6
    if not keep:
        connection.close()
    return took_us


def _figures(prefix: str, values: list[float]) -> dict[str, float]:
    parts = quantiles(values, n=100)
    return {f"{prefix}p50": round(parts[49]), f"{prefix}p99": round(parts[98])}


if __name__ == "__main__":
    print(json.dumps({"answers": answers(), "latencies": latencies()}))
