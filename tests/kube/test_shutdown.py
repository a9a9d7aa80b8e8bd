"""The preStop hook against the real Envoy: readiness fails at once, listeners close later, connections may end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tripylon.envoy.bootstrap_kubernetes import ADMIN_CLUSTER, Pod, bootstrap_kubernetes
from tripylon.kube import shutdown
from tripylon.kube.shutdown import Shutdown
from tripylon.pb.descriptors import envoy_binary

pytestmark = pytest.mark.live


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


KEY = "0123456789abcdef"
LONG_S = 3600
SLEEP = f"""#!/usr/bin/env bash
PATH=${{PATH#*:}}
[ "$1" = {LONG_S} ] || exec sleep "$1"
until [ -e "$AWAKE" ]; do sleep 0.05; done
"""
"""What the hook takes for `sleep`: a long one ends when the test says so."""


def bootstrap(folder: Path, proxy: Proxy) -> dict[str, Any]:
    """A pod's, without the control plane, and with one listener."""
    pod = Pod(
        folder=str(folder),
        admin=str(folder / "admin.sock"),
        bind="127.0.0.1",
        admin_port=proxy.admin,
        readiness_port=proxy.readiness,
        metrics_port=proxy.metrics,
    )
    made: dict[str, Any] = json.loads(
        bootstrap_kubernetes("shop/edge", ads=("127.0.0.1", 1), server_name="x.test", key=KEY, pod=pod)
    )
    del made["dynamic_resources"]
    static = made["static_resources"]
    static["clusters"] = [each for each in static["clusters"] if each["name"] == ADMIN_CLUSTER]
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    config = {
        "@type": manager,
        "stat_prefix": "x",
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": proxy.port}}
    chain = {"filters": [{"name": "http", "typed_config": config}]}
    static["listeners"] = [
        each for each in static["listeners"] if each["name"] != "tripylon-scopes"
    ]  # they wait for xDS
    static["listeners"].append({"name": "x", "address": address, "filter_chains": [chain]})
    return made


class Proxy:
    """A running Envoy with one listener."""

    def __init__(self) -> None:
        self.admin, self.readiness, self.metrics, self.port = (free_port() for _ in range(4))

    async def ask(self, port: int, path: str = "/", *, method: str = "GET", key: str = "") -> str:
        """The head of the answer to a request on a connection of its own; empty when nobody listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return ""
        shown = f"x-tripylon-key: {key}\r\n" if key else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{shown}Connection: close\r\n\r\n".encode())
        head = b""
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # it waited in the queue of a closing listener
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head.decode()

    async def ready(self) -> bool:
        return " 200 " in (await self.ask(self.readiness, "/ready")).partition("\r\n")[0]

    async def hook(self, folder: Path, ending: Shutdown) -> asyncio.subprocess.Process:
        """The hook, told this Envoy's ports."""
        script = shutdown.SCRIPT
        for usual, ours in (
            (shutdown.ADMIN_PORT, self.admin),
            (shutdown.READINESS_PORT, self.readiness),
            (shutdown.METRICS_PORT, self.metrics),
        ):
            assert str(usual) in script
            script = script.replace(str(usual), str(ours))
        (folder / shutdown.SCRIPT_FILE).write_text(script)
        (folder / shutdown.KEY_FILE).write_text(f"{KEY}\n")
        (folder / "bin").mkdir()
        stand_in = folder / "bin" / "sleep"
        stand_in.write_text(SLEEP)
        stand_in.chmod(0o755)
        environ = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "AWAKE": str(folder / "awake")}
        return await asyncio.create_subprocess_exec(*ending.command(str(folder)), env=environ)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    running = Proxy()
    (tmp_path / "b.json").write_text(json.dumps(bootstrap(tmp_path, running)))
    arguments = (
        "-c",
        str(tmp_path / "b.json"),
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "-l",
        "off",
        "--service-node",
        "edge-1",
    )
    process = await asyncio.create_subprocess_exec(envoy_binary(), *arguments, "--drain-time-s", "1")
    try:
        async with asyncio.timeout(60):
            while not await running.ready():
                await asyncio.sleep(0.05)
        yield running
    finally:
        process.kill()
        await process.wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_readiness_fails_first_and_connections_may_end(proxy: Proxy, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"connection: close" not in (await reader.readuntil(b"here"))
    hook = await proxy.hook(tmp_path, Shutdown(sleep_s=LONG_S, grace_s=60))

    async def unready() -> bool:
        return not await proxy.ready()

    await until(unready)
    assert " 200 " in await proxy.ask(proxy.port), "new connections are still taken"
    (tmp_path / "awake").touch()

    async def closed() -> bool:
        return not await proxy.ask(proxy.port)

    await until(closed)
    assert hook.returncode is None, "a connection is still there"
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"connection: close" in await reader.readuntil(b"here"), "answered, and asked to go"
    writer.close()
    async with asyncio.timeout(60):
        assert await hook.wait() == 0


async def test_the_administration_opens_to_whom_knows_the_key_and_only_for_reading_and_ending(proxy: Proxy) -> None:
    for key in ("", "guessed"):
        for method, path in (("GET", "/config_dump"), ("POST", "/healthcheck/fail"), ("POST", "/quitquitquit")):
            assert " 404 " in await proxy.ask(proxy.admin, path, method=method, key=key)
    assert " 200 " in await proxy.ask(proxy.admin, "/config_dump", key=KEY)
    for path in ("/quitquitquit", "/logging?level=debug", "/reset_counters"):
        assert " 404 " in await proxy.ask(proxy.admin, path, method="POST", key=KEY)
        assert " 405 " in await proxy.ask(proxy.admin, path, key=KEY), "Envoy itself wants a POST"
    assert await proxy.ready()


async def test_without_connections_the_hook_ends_early(proxy: Proxy, tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        hook = await proxy.hook(tmp_path, Shutdown(sleep_s=0, grace_s=600))
        assert await hook.wait() == 0


async def test_a_connection_that_stays_is_given_up(proxy: Proxy, tmp_path: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with asyncio.timeout(60):
        hook = await proxy.hook(tmp_path, Shutdown(sleep_s=0, grace_s=6))
        assert await hook.wait() == 0
    writer.close()


async def test_where_envoy_is_gone_there_is_nothing_to_do(tmp_path: Path) -> None:
    hook = await Proxy().hook(tmp_path, Shutdown(sleep_s=60, grace_s=120))
    async with asyncio.timeout(60):
        assert await hook.wait() == 0


def test_the_hook_leaves_time_for_envoys_own_end() -> None:
    assert Shutdown(sleep_s=10, grace_s=60).limit_s == 55
    assert Shutdown(sleep_s=10, grace_s=5).limit_s == 10
