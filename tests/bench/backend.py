"""The backend of the benchmark: a bare Envoy that answers by itself, the fastest that needs no further package."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.start import Client, free_port

from tripylon.pb.descriptors import envoy_binary

_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


class Bare(NamedTuple):
    """A running Envoy: the port of its listener and its process id."""

    port: int
    pid: int


@contextlib.contextmanager
def bare_envoy(
    folder: Path, action: dict[str, Any], clusters: list[dict[str, Any]], workers: int = 1
) -> Iterator[Bare]:
    """An Envoy with one listener and one route, and nothing else; yields where it is."""
    folder.mkdir(parents=True)
    port = free_port()
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}
    manager = {
        "@type": _HCM,
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    listener = {
        "name": "bare",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}))
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [envoy_binary(), "--config-path", config, "--disable-hot-restart", "--concurrency", "1"],
            stdout=log,
            stderr=log,
        )
    try:
        client = Client(port)
        client.wait("any.example.com", pause_s=0.01)
        client.close()
        yield Bare(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def answering(folder: Path) -> Iterator[Bare]:
    """A backend that answers 200 with a short body; yields where it is."""
    body = {"direct_response": {"status": 200, "body": {"inline_string": "ok\n"}}}
    with bare_envoy(folder, body, []) as started:
        yield started


@contextlib.contextmanager
def forwarding(folder: Path, to: int) -> Iterator[Bare]:
    """A bare Envoy in front of a backend, configured with the least there is; yields where it is."""
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": to}}}}
    unbounded = {"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000}
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [unbounded]},
        "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    with bare_envoy(folder, {"route": {"cluster": "backend"}}, [cluster]) as started:
        yield started
