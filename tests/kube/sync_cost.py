"""Follows an API server until all is synced, and prints what that took: run in a process of its own for its memory."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from tripylon.api.meta import Resource
from tripylon.kube.client import Client
from tripylon.kube.config import ClusterConfig, Pem, User
from tripylon.kube.watch import Watcher
from tripylon.values import Ref


def peak_mb() -> float:
    """The most that this process held in memory so far; what `getrusage` says includes its parent before `exec`."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


async def follow(server: str, authority: str, name: str, token: str) -> dict[str, float]:
    config = ClusterConfig(server=server, authority=Pem(path=Path(authority)), server_name=name, user=User(token=token))
    before = resource.getrusage(resource.RUSAGE_SELF)
    before_mb = peak_mb()
    start = time.perf_counter()
    held: dict[Ref, Resource] = {}
    async with Client(config) as client:
        watcher = Watcher(client)
        task = asyncio.create_task(watcher.run())
        async for batch in watcher:
            held.update((each.ref, each) for each in batch.put)
            if batch.synced:
                break
        seconds = time.perf_counter() - start
        task.cancel()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "objects": len(held),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "mb_before": before_mb,
        "mb_peak": peak_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(follow(*sys.argv[1:5]))))
