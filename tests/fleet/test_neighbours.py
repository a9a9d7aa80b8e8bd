"""What a Gateway's status says does not depend on which replica its proxies asked: two replicas in one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable

import pytest
from grpclib.client import Channel
from tests.fleet.test_groups import CLASS, gateway, make, route, service
from tests.live.certificates import Authority

from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.kube.identity import Served
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.neighbours import Neighbours, address_of, identity_of
from tripylon.settings import Address, ControllerSettings
from tripylon.values import Name, Ref
from tripylon.xds.client import Proxy, Verdict, envoy_references, follow
from tripylon.xds.codec import RawCodec
from tripylon.xds.peer_link import Trust, client_context
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import LDS
from tripylon.xds.tls import Certificate

HOST, SERVICE = "127.0.0.1", "tripylon.test"
ONE = Name("default", "one")
GATEWAY_ONE = Ref("gateway.networking.k8s.io", "Gateway", "default", "one")
LIMIT_S = 60.0
WORLD = (CLASS, gateway("one"), service("a"), route("left", "one", service="a"))


class Shared:
    """The certificate of all replicas, as one of them knows it."""

    def __init__(self, served: Served) -> None:
        self.served = self.latest = served
        self.loads = 0

    async def load(self) -> Served:
        self.loads += 1
        self.served = self.latest
        return self.served


def issued() -> Served:
    authority = Authority()
    chain, key = authority.issue(SERVICE)
    return Served(chain.encode(), key.encode(), authority.pem.encode())


class Replica:
    """An engine, its server, and its part in what replicas tell each other."""

    def __init__(self, shared: Shared, lease: list[str]) -> None:
        self.marked: list[Ref] = []
        self.news = asyncio.Event()
        self.engine = Engine(Options(standalone=False), EmitOptions(), on_proxies=self._on_proxies)
        self.port = 0
        self.shared = shared
        self._lease = lease

    async def start(self) -> None:
        served = self.shared.served
        with socket.create_server((HOST, 0)) as probe:  # the identity holds the port, and is needed before the server
            self.port = probe.getsockname()[1]
        self.identity = f"replica_{HOST}:{self.port}"
        self.neighbours = Neighbours(
            self.identity, lambda: self._lease[0], self.engine, self._mark, self.shared, SERVICE
        )
        self.server = XdsServer(
            lambda node: self.engine.gateways.of(Name(*node.id.split("/"))),
            services=(self.neighbours.peers,),
            stop_s=0.5,
        )
        await self.server.start_tcp(HOST, self.port, Certificate(served.chain, served.key))

    def apply(self, *put: Resource) -> None:
        self.engine.apply(put)
        self.neighbours.stir()

    def programmed(self) -> bool:
        return self.engine.gateways.programmed(ONE)

    def findings(self) -> list[str]:
        return [each.message for each in self.engine.graph.findings(GATEWAY_ONE)]

    def _on_proxies(self) -> None:
        self.news.set()
        self.neighbours.stir()

    def _mark(self, refs: Iterable[Ref]) -> None:
        self.marked.extend(refs)
        self.news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def two() -> AsyncIterator[tuple[Replica, Replica]]:
    """A leader and a follower that know the same objects."""
    served, lease = issued(), [""]
    replicas = Replica(Shared(served), lease), Replica(Shared(served), lease)
    for each in replicas:
        await each.start()
        each.apply(*WORLD)
    lease[0] = replicas[0].identity
    tasks = [asyncio.create_task(each.neighbours.run()) for each in replicas]
    try:
        yield replicas
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in replicas:
            await each.server.stop()


@contextlib.asynccontextmanager
async def proxy(replica: Replica, *, verdict: Verdict = lambda *_: "") -> AsyncIterator[None]:
    """A proxy of the Gateway that asked this replica."""
    trust = Trust(b"", replica.shared.served.ca_bundle, SERVICE)
    context = client_context(trust)
    context.check_hostname = False
    channel = Channel(HOST, replica.port, codec=RawCodec(), ssl=context)
    task = asyncio.create_task(follow(Proxy("default/one", envoy_references, verdict=verdict), channel))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        channel.close()


def two_listeners() -> Resource:
    listeners = [{"name": name, "port": port, "protocol": "HTTP"} for name, port in (("http", 80), ("more", 81))]
    return make("Gateway", "one", spec={"gatewayClassName": "tripylon", "listeners": listeners})


async def test_proxies_at_the_follower_count() -> None:
    async with two() as (leader, follower):
        async with proxy(follower):
            await leader.until(leader.programmed)
            assert GATEWAY_ONE in leader.marked
            assert follower.programmed()
        leader.marked.clear()
        await leader.until(lambda: not leader.programmed())
        assert leader.marked == [GATEWAY_ONE], "its status is judged again without waiting"


async def test_all_proxies_must_have_what_the_leader_has_built() -> None:
    async with two() as (leader, follower), proxy(leader), proxy(follower):
        await leader.until(lambda: leader.programmed() and bool(leader.neighbours.peers.names))
        await leader.until(lambda: len(list(leader.neighbours.peers.standings("default/one"))) == 1)
        leader.apply(two_listeners())
        assert not leader.programmed()
        group = leader.engine.gateways.of(ONE)
        assert group is not None
        assert await group.live(group.flight, timeout_s=LIMIT_S)
        assert not leader.programmed(), "the follower has not even heard of it"
        follower.apply(two_listeners())
        await leader.until(leader.programmed)


async def test_refusals_at_the_follower_become_findings_of_the_leader() -> None:
    def verdict(url: str, name: str, _: bytes) -> str:
        return "Permission denied" if url == LDS and "/81/" in name else ""

    async with two() as (leader, follower), proxy(follower, verdict=verdict):
        await leader.until(leader.programmed)
        leader.marked.clear()
        for each in (follower, leader):
            each.apply(two_listeners())
        await leader.until(lambda: any("Permission denied" in message for message in leader.findings()))
        for each in (follower, leader):
            each.apply(gateway("one"))
        await leader.until(lambda: not leader.findings())
        await leader.until(leader.programmed)


@pytest.mark.parametrize("late", [0, 1])
async def test_after_a_renewal_whoever_is_late_looks_again(late: int) -> None:
    async with two() as replicas, proxy(replicas[1]):
        for each in replicas:
            each.shared.latest = Served(each.shared.served.chain, b"renewed", each.shared.served.ca_bundle)
        await replicas[1 - late].shared.load()
        await replicas[0].until(replicas[0].programmed)
        assert replicas[late].shared.loads == 1
        assert replicas[0].shared.served == replicas[1].shared.served


async def test_strangers_cannot_make_us_read_the_secret_again_and_again() -> None:
    async with two() as (leader, follower), proxy(follower):
        follower.shared.served = Served(b"", b"unknown", leader.shared.served.ca_bundle)
        follower.shared.latest = follower.shared.served
        while follower.shared.loads < 1 or leader.shared.loads < 1:
            await asyncio.sleep(0.01)
        for _ in range(20):
            leader.neighbours.peers._on_stranger()
            await asyncio.sleep(0.01)
        assert (leader.shared.loads, leader.programmed()) == (1, False)


async def test_what_a_replica_told_goes_with_it() -> None:
    async with two() as (leader, follower), proxy(follower):
        await leader.until(leader.programmed)
        await follower.server.stop()
        await leader.until(lambda: not leader.programmed())


def test_the_lease_says_where_the_leader_listens() -> None:
    settings = ControllerSettings(identity="tripylon-5c-x", advertise="10.244.0.7")
    identity = identity_of(settings, "https://10.0.0.1:443")
    assert identity == "tripylon-5c-x_10.244.0.7:9977"
    assert address_of(identity) == Address("10.244.0.7", 9977)
    assert identity_of(ControllerSettings(identity="a", advertise="fd00::7"), "") == "a_[fd00::7]:9977"
    assert address_of("my_host_[fd00::7]:9977") == Address("fd00::7", 9977)


@pytest.mark.parametrize("holder", ["", "tripylon-5c", "a_", "a_10.0.0.1", "a_10.0.0.1:x", "a_:9977", "10.0.0.1:9977"])
def test_a_holder_that_says_no_address_is_not_called(holder: str) -> None:
    assert address_of(holder) is None


def test_without_an_address_it_is_the_one_on_the_way_to_the_api_server() -> None:
    assert identity_of(ControllerSettings(identity="a"), "https://127.0.0.1:6443") == "a_127.0.0.1:9977"
    bound = ControllerSettings(identity="a", xds=Address("127.0.0.9", 1234))
    assert identity_of(bound, "https://192.0.2.1") == "a_127.0.0.9:1234"
