"""Replicas tell one of them about their proxies: two servers in one process, with proxies that follow a script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from tests.clock import without_stalls
from tests.live.certificates import Authority

from tripylon.xds.cache import Group
from tripylon.xds.codec import RawCodec
from tripylon.xds.peer_link import _APART_S, PeerLink, Place, Standings, Trust, client_context
from tripylon.xds.peers import METHOD, Peers, Refused, Report, Standing, peer_token
from tripylon.xds.server import XdsServer
from tripylon.xds.tls import Certificate

HOST, NAME = "127.0.0.1", "tripylon.test"
LIMIT_S = 60.0
NOTHING = Standings({}, ())


class Leader:
    """A server that listens to peers, and what it was told of."""

    def __init__(self, *, silence_s: float = 6.0) -> None:
        self.authority = Authority()
        chain, key = self.authority.issue(NAME)
        self.certificate, self.key = Certificate(chain.encode(), key.encode()), key.encode()
        self.news: list[tuple[frozenset[str], bool]] = []
        self.strangers = 0
        self.peers = Peers(lambda: self.key, self._on_news, on_stranger=self._on_stranger, silence_s=silence_s)
        self.server = XdsServer(lambda _: Group(), services=(self.peers,), stop_s=0.5)
        self.place = Place(HOST, 0)
        self._heard = asyncio.Event()

    async def start(self) -> None:
        self.place = Place(HOST, await self.server.start_tcp(HOST, 0, self.certificate))

    def trust(self) -> Trust:
        return Trust(self.key, self.authority.pem.encode(), NAME)

    def told(self, group: str) -> list[tuple[int, str]]:
        return sorted((each.proxies, each.digest) for each in self.peers.standings(group))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                self._heard.clear()
                await self._heard.wait()

    def _on_news(self, groups: frozenset[str], refusals_changed: bool) -> None:
        self.news.append((groups, refusals_changed))
        self._heard.set()

    def _on_stranger(self) -> None:
        self.strangers += 1
        self._heard.set()


class Follower:
    """A link with what the test lets it tell."""

    def __init__(self, name: str, leader: Leader) -> None:
        self.now = NOTHING
        self.place: Place | None = leader.place
        self.trust = leader.trust
        self.refusals = 0
        self.link = PeerLink(name, lambda: self.place, lambda: self.now, self._trust, on_refused=self._on_refused)

    def _trust(self) -> Trust:
        return self.trust()

    def tell(self, refused: tuple[Refused, ...] = (), **groups: tuple[int, str]) -> None:
        self.now = Standings({name: Standing(*standing) for name, standing in groups.items()}, refused)
        self.link.stir()

    async def _on_refused(self) -> None:
        self.refusals += 1


@contextlib.asynccontextmanager
async def leading(*, silence_s: float = 6.0) -> AsyncIterator[Leader]:
    leader = Leader(silence_s=silence_s)
    await leader.start()
    try:
        yield leader
    finally:
        await leader.server.stop()


@contextlib.asynccontextmanager
async def running(*followers: Follower) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.link.run()) for each in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_all_is_told_at_first_and_then_what_changes() -> None:
    async with leading() as leader:
        one, two = Follower("one", leader), Follower("two", leader)
        one.tell(a=(1, "x"), b=(2, ""))
        two.tell(a=(3, "y"))
        async with running(one, two):
            await leader.until(lambda: len(leader.told("a")) == 2 and bool(leader.told("b")))
            assert (leader.told("a"), leader.told("b")) == ([(1, "x"), (3, "y")], [(2, "")])
            assert sorted(leader.peers.names) == ["one", "two"]
            leader.news.clear()
            one.tell(a=(1, "x"), b=(2, "z"))
            await leader.until(lambda: leader.told("b") == [(2, "z")])
            assert leader.news == [(frozenset({"b"}), False)]
            one.tell(b=(2, "z"))
            await leader.until(lambda: leader.told("a") == [(3, "y")])
        await leader.until(lambda: not leader.told("a") and not leader.told("b"))
        assert not leader.peers.names


async def test_refusals_are_told_and_taken_back() -> None:
    async with leading() as leader:
        one = Follower("one", leader)
        one.tell((Refused("url", "name", "no"),), a=(1, ""))
        async with running(one):
            await leader.until(lambda: leader.peers.refused() == {("url", "name"): "no"})
            one.tell(a=(1, ""))
            await leader.until(lambda: not leader.peers.refused())
            assert leader.news[-1] == (frozenset(), True)


async def test_a_busy_group_does_not_flood() -> None:
    async with leading() as leader:
        one = Follower("one", leader)
        clock = asyncio.get_running_loop().time
        async with running(one):
            began_s = clock()
            for number in range(1, 301):
                one.tell(a=(number, "x"))
                await asyncio.sleep(0.001)
            await leader.until(lambda: leader.told("a") == [(300, "x")])
            assert len(leader.news) <= 2 + (clock() - began_s) / _APART_S, "many changes make few reports"


async def test_another_leader_is_told_everything() -> None:
    async with leading() as first, leading() as second:
        one = Follower("one", first)
        one.tell(a=(1, "x"))
        async with running(one):
            await first.until(lambda: first.told("a") == [(1, "x")])
            one.trust, one.place = second.trust, second.place
            await second.until(lambda: second.told("a") == [(1, "x")])
            await first.until(lambda: not first.told("a"))
            one.place = None
            await second.until(lambda: not second.told("a"))


async def test_a_leader_that_stops_ends_its_streams_at_once() -> None:
    async with leading() as leader:
        one = Follower("one", leader)
        one.tell(a=(1, "x"))
        async with running(one):
            await leader.until(lambda: bool(leader.told("a")))
            leader.peers.close()
            await leader.until(lambda: not leader.told("a"))
            assert not leader.peers.names


async def test_a_silent_peer_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    without_stalls(monkeypatch)
    async with leading(silence_s=0.2) as leader:
        with pytest.raises(GRPCError) as refused:
            await speak(leader, peer_token(leader.key), Report("mute", {"a": Standing(1, "x")}), wait=True)
        assert refused.value.status is Status.DEADLINE_EXCEEDED
        assert leader.news == [(frozenset({"a"}), False)] * 2
        assert not leader.told("a")


async def test_a_peer_that_comes_back_does_not_count_twice() -> None:
    async with leading() as leader:
        before = asyncio.create_task(
            speak(leader, peer_token(leader.key), Report("one", {"a": Standing(1, "old")}), wait=True)
        )
        await leader.until(lambda: leader.told("a") == [(1, "old")])
        one = Follower("one", leader)
        one.tell(a=(2, "new"))
        async with running(one):
            await leader.until(lambda: leader.told("a") == [(2, "new")])
            assert leader.peers.names == ("one",)
            await asyncio.wait_for(asyncio.gather(before, return_exceptions=True), LIMIT_S)


@pytest.mark.parametrize(
    "proof", ["-", "Bearer", "Bearer a.proxies.token", "bearer {token}", "{token}", "Basic {token}"]
)
async def test_who_lacks_the_proof_is_not_heard(proof: str) -> None:
    async with leading() as leader:
        with pytest.raises(GRPCError) as refused:
            await speak(
                leader, "", Report("x", {"a": Standing(1, "x")}), proof=proof.format(token=peer_token(leader.key))
            )
        assert refused.value.status is Status.PERMISSION_DENIED
        assert (leader.news, leader.strangers) == ([], 1)


async def test_without_a_key_nobody_is_heard() -> None:
    async with leading() as leader:
        leader.key = b""
        with pytest.raises(GRPCError) as refused:
            await speak(leader, peer_token(b""), Report("x"))
        assert refused.value.status is Status.PERMISSION_DENIED


async def test_what_is_no_report_ends_the_stream() -> None:
    async with leading() as leader:
        with pytest.raises(GRPCError) as refused:
            await speak(leader, peer_token(leader.key), b'{"groups": 1}')
        assert refused.value.status is Status.INVALID_ARGUMENT


async def test_after_a_renewal_both_sides_look_again_and_agree() -> None:
    async with leading() as leader:
        one, old = Follower("one", leader), leader.trust()
        one.trust = lambda: old
        one.tell(a=(1, "x"))
        leader.key = b"a newer one"
        async with running(one):
            await leader.until(lambda: leader.strangers > 0)
            one.trust = leader.trust
            await leader.until(lambda: leader.told("a") == [(1, "x")])
        assert one.refusals >= 1


async def test_a_leader_of_another_authority_learns_nothing() -> None:
    async with leading() as leader:
        one = Follower("one", leader)
        foreign = Trust(leader.key, Authority().pem.encode(), NAME)
        wrong_name = Trust(leader.key, leader.authority.pem.encode(), "other.test")
        for trust in (foreign, wrong_name):
            with pytest.raises(OSError, match="certificate verify failed"):
                await speak(leader, peer_token(leader.key), Report("x"), trust=trust)
        one.trust = lambda: foreign
        async with running(one):
            await asyncio.sleep(0.3)
        assert (leader.news, leader.strangers, one.link.reports) == ([], 0, 0)


async def speak(
    leader: Leader,
    token: str,
    report: Report | bytes,
    *,
    proof: str | None = None,
    trust: Trust | None = None,
    wait: bool = False,
) -> None:
    """One report by hand; with `wait`, until the leader ends the stream."""
    trust = trust or leader.trust()
    config = Configuration(ssl_target_name_override=trust.server_name)
    channel = Channel(leader.place.host, leader.place.port, codec=RawCodec(), ssl=client_context(trust), config=config)
    metadata = {"authorization": f"Bearer {token}" if proof is None else proof}
    payload = report if isinstance(report, bytes) else msgspec.json.encode(report)
    try:
        async with asyncio.timeout(LIMIT_S):
            async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes, metadata=metadata) as stream:
                await stream.send_message(payload)
                await stream.recv_message()
                if wait:
                    await stream.recv_message()
                    await stream.recv_trailing_metadata()
                await stream.cancel()
    finally:
        channel.close()
