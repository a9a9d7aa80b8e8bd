"""A fleet of simulated proxies at one replica: what they cost, and how long it takes until the last of them has it.

Each case runs in a process of its own, so that memory can be told apart; the proxies are in another (`proxies.py`). The
groups are filled with real messages, without the graph before them, as this is about what comes after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from tests.bench.measures import measure
from tests.bench.memory import resident_bytes
from tests.bench.proxies import Proxies, cluster, proxies
from tests.bench.table import Table, milliseconds
from tests.live import xds_rig
from tests.live.certificates import Authority

from tripylon.xds.cache import Group
from tripylon.xds.server import XdsServer
from tripylon.xds.tls import Certificate

_LIMIT_S = 60.0
_CHANGES, _BURST = 20, 50
_PAUSE_S = 0.02


class Case(msgspec.Struct, frozen=True):
    """How many proxies, spread over how many Gateways, each with so many hosts; with TLS or without."""

    proxies: int
    gateways: int
    hosts: int
    tls: bool

    @property
    def name(self) -> str:
        """For people."""
        gateways = "1 Gateway" if self.gateways == 1 else f"{self.gateways} Gateways"
        return f"{self.proxies:,} proxies, {gateways} of {self.hosts:,} hosts{', TLS' * self.tls}"


CASES = (
    Case(100, 1, 5_000, tls=False),
    Case(100, 1, 5_000, tls=True),
    Case(1_000, 1, 25, tls=False),
    Case(1_000, 1, 25, tls=True),
    Case(1_000, 200, 25, tls=True),
)


class Cost(msgspec.Struct, frozen=True):
    """Times in seconds; of a fresh and of a returning fleet until all have everything, processor time each."""

    fresh_s: float
    fresh_cpu_s: float
    back_s: float
    back_cpu_s: float
    bytes_each: float
    """Resident memory for each proxy."""
    last_ack_s: list[float]
    cpu_s: list[float]
    """Of each change, for each proxy that it concerns."""
    burst_cpu_s: float
    """Of a change in a burst, for each proxy that it concerns."""
    stalled_ack_s: list[float]
    """Until all others have a change while one proxy reads nothing."""


async def measured(case: Case, folder: Path) -> Cost:
    """One case, from nothing."""
    async with _serving(case, folder) as (groups, herd):

        async def do(*words: object) -> None:
            await asyncio.to_thread(herd.do, *words)

        async def joined(*how: str) -> tuple[float, float]:
            began_s, cpu_s = time.monotonic(), time.process_time()
            await do("connect", case.proxies, *how)
            await _until(lambda: sum(group.counters.streams for group in groups) == case.proxies)
            await _live(groups)
            return time.monotonic() - began_s, (time.process_time() - cpu_s) / case.proxies

        before = resident_bytes(os.getpid())
        fresh = await joined()
        await asyncio.sleep(0.5)
        memory = resident_bytes(os.getpid()) - before
        acks, cpu = await _changes(groups, case, lambda group: group.live(group.flight, timeout_s=_LIMIT_S))
        burst = await _burst(groups[0], case)
        await do("stall", 1)
        stalled, _ = await _changes(groups[:1], case, _all_but_the_first)
        await do("close")
        await _until(lambda: not any(group.sessions for group in groups))
        back = await joined("returning")
        return Cost(*fresh, *back, memory / case.proxies, acks, cpu, burst, stalled)


@contextlib.asynccontextmanager
async def _serving(case: Case, folder: Path) -> AsyncIterator[tuple[list[Group], Proxies]]:
    """The server with its groups filled, and a process for the proxies."""
    certificate, trust = None, None
    if case.tls:
        authority = Authority()
        chain, key = authority.issue("localhost")
        certificate = Certificate(chain.encode(), key.encode())
        trust = folder / "ca.pem"
        trust.write_text(authority.pem)
    groups = {cluster(number): _group(case.hosts) for number in range(case.gateways)}
    server = XdsServer(lambda node: groups[node.cluster])
    port = await server.start_tcp("127.0.0.1", 0, certificate)
    try:
        with proxies(port, gateways=case.gateways, trust=trust) as herd:
            yield list(groups.values()), herd
    finally:
        await server.stop()


def _group(hosts: int) -> Group:
    group = Group()
    parts = [xds_rig.listener("edge", 10_000, "rc"), xds_rig.routes("rc")]
    for number in range(hosts):
        name = f"service-{number}"
        parts += [xds_rig.cluster(name), xds_rig.endpoints(name, 9000), _host(number, name)]
    group.publish(xds_rig.together(*parts))
    return group


def _host(number: int, to: str, *, answer: int = 0) -> xds_rig.Changes:
    return xds_rig.host("rc", f"host-{number}.example.com", to, answer=answer)


async def _changes(
    groups: list[Group], case: Case, done: Callable[[Group], Awaitable[bool]]
) -> tuple[list[float], list[float]]:
    """One change after the other, each of one host of one Gateway: until done, and processor time for each proxy."""
    waited, cpu = [], []
    for number in range(_CHANGES):
        await asyncio.sleep(_PAUSE_S)
        group = groups[number % len(groups)]
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        group.publish(_host(number % case.hosts, "", answer=200 + number))
        assert await done(group)
        waited.append(time.monotonic() - began_s)
        cpu.append((time.process_time() - began_cpu_s) / (case.proxies / case.gateways))
    return waited, cpu


async def _burst(group: Group, case: Case) -> float:
    began_cpu_s = time.process_time()
    for number in range(_BURST):
        group.publish(_host(number % case.hosts, "", answer=300 + number))
        await asyncio.sleep(0)
    assert await group.live(group.flight, timeout_s=_LIMIT_S)
    return (time.process_time() - began_cpu_s) / _BURST / (case.proxies / case.gateways)


async def _all_but_the_first(group: Group) -> bool:
    others = [session for session in group.sessions if session.node != "node-0"]
    await _until(lambda: all(session.settled == group.flight for session in others))
    return True


async def _live(groups: list[Group]) -> None:
    for group in groups:
        assert await group.live(group.flight, timeout_s=_LIMIT_S)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while not holds():
            await asyncio.sleep(0.001)


def table(folder: Path, _backend_port: int) -> Table:
    """All cases."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, kept = [], []
    for case in CASES:
        words = [sys.executable, "-m", "tests.bench.fleet", str(folder), msgspec.json.encode(case).decode()]
        cost = msgspec.json.decode(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout, type=Cost)
        figures = (
            *(f"{cost.fresh_s:.2f} s ({milliseconds(cost.fresh_cpu_s)})",),
            *(f"{cost.back_s:.2f} s ({milliseconds(cost.back_cpu_s)})",),
            f"{cost.bytes_each / 1e3:,.0f} kB",
            *(milliseconds(statistics.median(each)) for each in (cost.last_ack_s, cost.stalled_ack_s)),
            f"{statistics.median(cost.cpu_s) * 1e6:.0f} / {cost.burst_cpu_s * 1e6:.0f} us",
        )
        rows.append((case.name, *figures))
        kept += [
            measure(f"fleet, {case.name}: all connected", "s", [cost.fresh_s]),
            measure(f"fleet, {case.name}: all back", "s", [cost.back_s]),
            measure(f"fleet, {case.name}: memory for each", "bytes", [cost.bytes_each]),
            measure(f"fleet, {case.name}: last acknowledgement", "s", cost.last_ack_s),
            measure(f"fleet, {case.name}: processor time for each proxy and change", "s", cost.cpu_s),
        ]
    return Table(
        "A fleet at one replica",
        (
            "fleet",
            "all connect, until all have everything (ms of processor each)",
            "all come back, with what they have",
            "memory for each",
            "last acknowledgement of a change (ms)",
            "the same while one reads nothing",
            "processor for each proxy and change, alone / in a burst",
        ),
        tuple(rows),
        "The proxies are simulated, in one process: with many of them it is busy as well, and what they say and read "
        "is in the time until the last acknowledgement. A change is one host of one Gateway and goes to its proxies.",
        tuple(kept),
    )


if __name__ == "__main__":
    _cost = asyncio.run(measured(msgspec.json.decode(sys.argv[2], type=Case), Path(sys.argv[1])))
    sys.stdout.buffer.write(msgspec.json.encode(_cost))
