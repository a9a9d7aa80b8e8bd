"""The preStop hook against the real Envoy: readiness fails at once, listeners close later, connections may end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tripylon.kube import shutdown
from tripylon.kube.shutdown import Shutdown
from tripylon.pb.descriptors import envoy_binary

pytestmark = pytest.mark.live


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def bootstrap(admin: int, port: int) -> dict[str, Any]:
    hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "here"}}}
    config = {
        "@type": hcm,
        "stat_prefix": "x",
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": config}]}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [{"name": "x", "address": address, "filter_chains": [chain]}]},
        "stats_flush_on_admin": True,
    }


class Proxy:
    """A running Envoy with one listener."""

    def __init__(self, admin: int, port: int) -> None:
        self.admin, self.port = admin, port

    async def ask(self, port: int, path: str = "/") -> str:
        """The head of the answer to a request on a connection of its own; empty when nobody listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = b""
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # it waited in the queue of a closing listener
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head.decode()

    async def ready(self) -> bool:
        return " 200 " in (await self.ask(self.admin, "/ready")).partition("\r\n")[0]

    async def hook(self, folder: Path, ending: Shutdown) -> asyncio.subprocess.Process:
        """The hook, told this Envoy's administration."""
        assert f"127.0.0.1/{shutdown.ADMIN_PORT}" in shutdown.SCRIPT
        script = shutdown.SCRIPT.replace(f"127.0.0.1/{shutdown.ADMIN_PORT}", f"127.0.0.1/{self.admin}")
        (folder / shutdown.SCRIPT_FILE).write_text(script)
        return await asyncio.create_subprocess_exec(*ending.command(str(folder)))


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    running = Proxy(free_port(), free_port())
    (tmp_path / "b.json").write_text(json.dumps(bootstrap(running.admin, running.port)))
    arguments = ("-c", str(tmp_path / "b.json"), "--disable-hot-restart", "--concurrency", "1", "-l", "off")
    process = await asyncio.create_subprocess_exec(envoy_binary(), *arguments, "--drain-time-s", "1")
    try:
        async with asyncio.timeout(30):
            while not await running.ready():
                await asyncio.sleep(0.05)
        yield running
    finally:
        process.kill()
        await process.wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_readiness_fails_first_and_connections_may_end(proxy: Proxy, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"connection: close" not in (await reader.readuntil(b"here"))
    hook = await proxy.hook(tmp_path, Shutdown(sleep_s=1, grace_s=60))

    async def unready() -> bool:
        return not await proxy.ready()

    await until(unready)
    assert " 200 " in await proxy.ask(proxy.port), "new connections are still taken"

    async def closed() -> bool:
        return not await proxy.ask(proxy.port)

    await until(closed)
    assert hook.returncode is None, "a connection is still there"
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"connection: close" in await reader.readuntil(b"here"), "answered, and asked to go"
    writer.close()
    async with asyncio.timeout(30):
        assert await hook.wait() == 0


async def test_without_connections_the_hook_ends_early(proxy: Proxy, tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        hook = await proxy.hook(tmp_path, Shutdown(sleep_s=0, grace_s=600))
        assert await hook.wait() == 0


async def test_a_connection_that_stays_is_given_up(proxy: Proxy, tmp_path: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with asyncio.timeout(30):
        hook = await proxy.hook(tmp_path, Shutdown(sleep_s=0, grace_s=6))
        assert await hook.wait() == 0
    writer.close()


async def test_where_envoy_is_gone_there_is_nothing_to_do(tmp_path: Path) -> None:
    hook = await Proxy(free_port(), free_port()).hook(tmp_path, Shutdown(sleep_s=60, grace_s=120))
    async with asyncio.timeout(30):
        assert await hook.wait() == 0


def test_the_hook_leaves_time_for_envoys_own_end() -> None:
    assert Shutdown(sleep_s=10, grace_s=60).limit_s == 55
    assert Shutdown(sleep_s=10, grace_s=5).limit_s == 10
