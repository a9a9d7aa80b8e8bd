"""The programs behind the Services: each says in its answer who it is and what it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

BANNER_PORT = 9000
"""Here the server speaks first, as those of mail and databases do."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def start(addresses: dict[str, str]) -> list[asyncio.Server]:
    """Opens the ports of every backend, by name and address."""
    servers = []
    for name, address in addresses.items():
        servers.append(await asyncio.start_server(_http(name), address, 8080))
        servers.append(await asyncio.start_server(_banner(name), address, BANNER_PORT))
    return servers


def _http(name: str) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            headers = dict(line.lower().split(": ", 1) for line in head[1:])
            told = {"backend": name, "host": headers.get("host"), "forwarded": headers.get("x-forwarded-for")}
            body = json.dumps(told | {"peer": writer.get_extra_info("peername")[0]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    return serve


async def _head(reader: asyncio.StreamReader) -> list[str]:
    """The lines of a request without a body; none at the end of the connection, or of ours."""
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        return []


def _banner(name: str) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"220 {name}\r\n".encode())
        writer.close()

    return serve
