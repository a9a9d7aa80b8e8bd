"""Proxies that misbehave, and many at once: the others are served, and nothing is kept of those that have gone."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.live.certificates import Authority
from tests.live.pod import certificate
from tests.xds.raw_proxy import RawProxy, Site, connect
from tests.xds.scripted import URLS, Clock, Script, flight, refers

from tripylon.xds.cache import Group
from tripylon.xds.connections import TrackingServer
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import CDS
from tripylon.xds.tls import Certificate

PATIENCE_S = 20.0
SITE = {
    "CDS": {"a": "eds:a"},
    "EDS": {"a": "1"},
    "LDS": {"l": "rds:rc"},
    "RDS": {"rc": ""},
    "VHDS": {"rc/x": "cds:a", "rc/y": "cds:a"},
}


class Plane:
    """A server on a port of this machine, one group, and proxies."""

    def __init__(self, *, silence_s: float = 15.0) -> None:
        self.group = Group(grace_s=0.0)
        self.site = Site(refers)
        self.server = XdsServer(lambda _: self.group, silence_s=silence_s, stop_s=0.2)
        self.port = 0

    @property
    def connections(self) -> TrackingServer:
        assert self.server._server is not None
        return self.server._server

    async def join(self, node: str, *, refuses: str = "", returning: bool = False) -> RawProxy:
        return await connect(RawProxy(node, self.site, refuses=refuses, returning=returning), port=self.port)

    async def taken(self, flight: int, *, by: str) -> None:
        """Until a proxy has what a flight brought."""
        (session,) = [each for each in self.group.sessions if each.node == by]
        await until(lambda: session.settled >= flight)

    async def live(self, **changes: dict[str, str | None]) -> None:
        """Publishes, until every proxy has it."""
        assert await self.group.live(self.group.publish(flight(**changes)), timeout_s=PATIENCE_S)


@contextlib.asynccontextmanager
async def serving(*, silence_s: float = 15.0, certificate: Certificate | None = None) -> AsyncIterator[Plane]:
    plane = Plane(silence_s=silence_s)
    plane.port = await plane.server.start_tcp("127.0.0.1", 0, certificate)
    try:
        yield plane
    finally:
        await plane.server.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_proxy_that_stops_reading_delays_nobody_and_holds_little() -> None:
    async with serving() as plane:
        plane.group.publish(flight(**SITE))
        slow, quick = await plane.join("slow"), await plane.join("quick")
        await until(lambda: plane.group.settled == 1 and plane.group.counters.streams == 2)
        slow.stall()
        wanted = 0
        for number in range(40):
            wanted = plane.group.publish(flight(VHDS={"rc/x": f"{number} {'x' * 1_000_000}"}))
            await plane.taken(wanted, by="quick")
        owed = plane.group.sessions[0]._stream._types[URLS["VHDS"]]
        assert len(owed.flying) + len(owed.dirty) <= 2, "what it misses merges"
        transports = [each._transport for each in plane.connections._connections]
        assert max(each.get_write_buffer_size() for each in transports if each is not None) < 256 << 10
        slow.resume()
        await until(lambda: plane.group.settled == wanted)
        assert slow.responses[URLS["VHDS"]] < quick.responses[URLS["VHDS"]]


async def test_a_peer_that_answers_nothing_is_dropped_in_the_middle_of_a_message() -> None:
    async with serving(silence_s=0.2) as plane:
        plane.group.publish(flight(**SITE))
        slow, _ = await plane.join("slow"), await plane.join("quick")
        await until(lambda: plane.group.settled == 1 and plane.group.counters.streams == 2)
        slow.stall()
        wanted = plane.group.publish(flight(VHDS={"rc/x": "x" * 20_000_000}))
        await until(lambda: plane.group.counters.streams == 1)
        await until(lambda: plane.group.settled == wanted)
        assert [session.node for session in plane.group.sessions] == ["quick"]


async def test_of_a_proxy_that_never_acknowledges_a_bounded_number_of_responses_is_remembered() -> None:
    """Envoy withholds what it has to say of clusters while one is warming, and needs the next ones all the same."""
    group = Group()
    script = Script(group, Clock())
    script.say("CDS")
    nonces = []
    for number in range(400):
        group.publish(flight(CDS={f"c{number}": "1"}))
        (sent,) = script.sent()
        assert list(sent[1]) == [f"c{number}"]
        nonces.append(script.last[CDS].nonce)
    clusters = script.session._stream._types[CDS]
    assert list(clusters.flying) == nonces[-256:]
    for nonce in nonces:
        assert script.say("CDS", nonce=nonce) == []
    assert (len(clusters.flying), len(clusters.sent)) == (0, 400)


async def test_what_proxies_share_is_let_go_when_it_is_old() -> None:
    group = Group()
    group.publish(flight(CDS={f"c{number}": "1" for number in range(100)}))
    scripts = [Script(group, Clock(), number) for number in range(3)]
    assert {len(sent[0][1]) for script in scripts if (sent := script.say("CDS"))} == {100}
    assert len({script.last[CDS].nonce for script in scripts}) == len(group._shared) == 1
    for number in range(20):
        group.publish(flight(CDS={"c0": f"{number} changed"}))
        for script in scripts:
            script.sent()
        assert len({id(script.last[CDS].payload) for script in scripts}) == len(group._shared) == 1


async def test_a_proxy_that_refuses_everything_is_told_once() -> None:
    async with serving() as plane:
        plane.group.publish(flight(**SITE))
        await plane.join("good")
        await until(lambda: plane.group.settled == 1)
        sick = await plane.join("sick", refuses="not me")
        await until(lambda: plane.group.counters.nacks == 2)
        await until(lambda: not plane.group.sessions[1]._stream.stirred)
        told = sick.responses.total()
        assert plane.group.counters.nacks == told == 2, "one cluster, one listener"
        for number in range(50):
            wanted = plane.group.publish(flight(VHDS={"rc/x": f"{number} cds:a"}))
            await plane.taken(wanted, by="good")
        assert sick.responses.total() == told
        plane.group.publish(flight(CDS={"a": "2 eds:a"}))
        await until(lambda: plane.group.counters.nacks == told + 2)
        await until(lambda: not plane.group.sessions[1]._stream.stirred)
        assert sick.responses.total() == told + 2, "the new cluster, and its endpoints with it"


async def test_flapping_proxies_leave_nothing_behind() -> None:
    async with serving() as plane:
        plane.group.publish(flight(**SITE))
        await plane.join("steady")
        await until(lambda: plane.group.settled == 1)
        tasks, files = len(asyncio.all_tasks()), open_files()
        for round_ in range(30):
            flock = [await plane.join(f"flapping-{number}") for number in range(10)]
            if round_ % 3:
                await until(lambda: plane.group.counters.streams > 1)
            wanted = plane.group.publish(flight(VHDS={"rc/x": f"{round_} cds:a"}))
            for each in flock:
                each.abort()
            await plane.taken(wanted, by="steady")
        await until(lambda: plane.group.counters.streams == 1 and len(plane.connections._connections) == 1)
        await until(lambda: len(asyncio.all_tasks()) <= tasks and open_files() <= files)
        assert len(plane.connections._handlers) <= 20
        assert len(plane.server._writers) == 1
        assert plane.group.sessions[0].node == "steady"


async def test_what_a_stream_needed_at_its_start_is_let_go() -> None:
    group = Group()
    names = [f"c{number}" for number in range(1_000)]
    site = {"CDS": dict.fromkeys(names, "1"), "EDS": dict.fromkeys(names, "1"), "LDS": {"l": ""}, "RDS": {"rc": ""}}
    group.publish(flight(**site, VHDS={f"rc/{name}": "1" for name in names}))
    script = Script(group, Clock())
    for kind, subscribed in (("CDS", ()), ("EDS", names), ("LDS", ()), ("RDS", ("rc",)), ("VHDS", ())):
        script.say(kind, *subscribed)
        script.ack(kind)
    assert script.session.settled == group.flight
    for held in script.session._stream._types.values():
        for emptied in (held.urgent, held.expected, held.dirty, held.flying):
            assert not emptied
            assert sys.getsizeof(emptied) < 1_000, "an emptied collection keeps its size"


async def test_all_come_back_at_once() -> None:
    async with serving() as plane:
        plane.group.publish(flight(**SITE))
        first = await asyncio.gather(*(plane.join(f"node-{number}") for number in range(200)))
        await until(lambda: plane.group.counters.streams == 200 and plane.group.settled == 1)
        assert plane.group._nonce < 100, "200 proxies share what is made for them"
        for each in first:
            each.abort()
        await until(lambda: plane.group.counters.streams == 0)
        sent = plane.group.counters.resources
        await asyncio.gather(*(plane.join(f"node-{number}", returning=True) for number in range(200)))
        await until(lambda: plane.group.counters.streams == 200 and plane.group.settled == 1)
        assert plane.group.counters.resources == sent, "they have everything"
        await plane.live(VHDS={"rc/y": "2 cds:a"})
        assert plane.group.counters.resources == sent + 200


async def test_nothing_is_kept_of_those_who_do_not_agree_on_tls(tmp_path: Path) -> None:
    authority = Authority()
    async with serving(certificate=Certificate(*certificate(authority, "localhost"))) as plane:
        for _ in range(30):
            _, writer = await asyncio.open_connection("127.0.0.1", plane.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            writer.close()
        plane.group.publish(flight(**SITE))
        trusted = tmp_path / "ca.pem"
        trusted.write_text(authority.pem)
        trust = ssl.create_default_context(cafile=str(trusted))
        await connect(RawProxy("node", plane.site), port=plane.port, trust=trust)
        await until(lambda: plane.group.settled == 1)
        assert len(plane.connections._connections) == len(plane.connections._handlers) == 1
