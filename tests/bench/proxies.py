"""Simulated proxies in a process of their own: `python -m tests.bench.proxies PORT GATEWAYS TRUST`.

It reads lines `connect COUNT [returning]`, `close`, `stall COUNT`, `resume` and `flap COUNT`, and answers each with a
line when it is done. Proxy n belongs to gateway n modulo GATEWAYS; TRUST is a file with an authority, or `-`: no TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.xds.raw_proxy import RawProxy, Site, connect

from tripylon.xds.client import envoy_references


def cluster(gateway: int) -> str:
    """What the proxies of a gateway say that they belong to."""
    return f"bench/edge-{gateway}"


class Proxies:
    """The other side: tells the process what to do."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, *words: object) -> None:
        """One command, until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"the proxies could not {words[0]}")


@contextlib.contextmanager
def proxies(port: int, *, gateways: int = 1, trust: Path | None = None) -> Iterator[Proxies]:
    """Proxies for a server on this machine, none at first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.proxies", str(port), str(gateways), str(trust or "-")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Proxies(process)
    finally:
        process.kill()
        process.wait()


class _Herd:
    """The proxies."""

    def __init__(self, port: int, gateways: int, trust: ssl.SSLContext | None) -> None:
        self._port, self._gateways, self._trust = port, gateways, trust
        self._sites = [Site(envoy_references) for _ in range(gateways)]
        self._all: list[RawProxy] = []

    async def connect(self, count: int, *, returning: bool) -> None:
        made = [self._proxy(len(self._all) + number, returning=returning) for number in range(count)]
        await asyncio.gather(*(connect(each, port=self._port, trust=self._trust) for each in made))
        self._all += made

    def close(self) -> None:
        for each in self._all:
            each.abort()
        self._all = []

    def stall(self, count: int) -> None:
        for each in self._all[:count]:
            each.stall()

    def resume(self) -> None:
        for each in self._all:
            each.resume()

    async def flap(self, count: int) -> None:
        """Comes and goes so many times, some of them at once."""
        for _ in range(0, count, 10):
            flock = [self._proxy(len(self._all) + number, returning=False) for number in range(10)]
            await asyncio.gather(*(connect(each, port=self._port, trust=self._trust) for each in flock))
            await asyncio.sleep(0.1)
            for each in flock:
                each.abort()

    def _proxy(self, number: int, *, returning: bool) -> RawProxy:
        gateway = number % self._gateways
        return RawProxy(f"node-{number}", self._sites[gateway], cluster=cluster(gateway), returning=returning)


async def main() -> None:
    """The process."""
    port, gateways, trust = sys.argv[1:]
    herd = _Herd(int(port), int(gateways), None if trust == "-" else ssl.create_default_context(cafile=trust))
    while line := await asyncio.to_thread(sys.stdin.readline):
        match line.split():
            case ["connect", count, *rest]:
                await herd.connect(int(count), returning=bool(rest))
            case ["flap", count]:
                await herd.flap(int(count))
            case ["stall", count]:
                herd.stall(int(count))
            case ["resume"]:
                herd.resume()
            case _:
                herd.close()
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
