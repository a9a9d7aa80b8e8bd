"""The wire in a cluster: a real Envoy over TLS, by a token, while certificates, tokens and authorities change."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from tests.live.certificates import Authority
from tests.live.pod import EnvoyPod, certificate
from tests.live.xds_rig import HOST, PATIENCE_S, cluster, endpoints, listener, routes, together

from tripylon.errors import TripylonError
from tripylon.pb.messages import Node
from tripylon.xds.cache import Group
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import CDS
from tripylon.xds.tls import Certificate

pytestmark = pytest.mark.live


class Plane:
    """A control plane that lets in whoever has one of its tokens."""

    def __init__(self, authority: Authority, *, silence_s: float = 15.0) -> None:
        self.group = Group(grace_s=0.1)
        self.tokens = {"first"}
        self.asked: list[tuple[str, str, str]] = []
        """Node, cluster and token of each stream."""
        self.confused = False
        self.certificate = Certificate(*certificate(authority))
        self._silence_s = silence_s
        self._server = self._fresh()
        self.port = 0

    def _fresh(self) -> XdsServer:
        return XdsServer(lambda _: self.group, authorise=self._authorise, silence_s=self._silence_s, stop_s=0.5)

    async def _authorise(self, node: Node, metadata: Mapping[str, str]) -> str:
        await asyncio.sleep(0)
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        self.asked.append((node.id, node.cluster, token))
        if self.confused:
            raise TripylonError("nobody knows")
        return "" if token in self.tokens else "the token is not one of ours"

    async def start(self) -> None:
        self.port = await self._server.start_tcp(HOST, self.port, self.certificate)

    async def stop(self) -> None:
        await self._server.stop()

    async def restart(self) -> None:
        """As a new process of the control plane would: all streams end."""
        await self._server.stop()
        self._server = self._fresh()
        await self.start()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@contextlib.asynccontextmanager
async def serving(authority: Authority, *, silence_s: float = 15.0) -> AsyncIterator[Plane]:
    plane = Plane(authority, silence_s=silence_s)
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def change(plane: Plane, name: str) -> None:
    """Publishes a new cluster and waits until Envoy has it."""
    flight = plane.group.publish(together(cluster(name), endpoints(name, 1)))
    assert await plane.group.live(flight, timeout_s=PATIENCE_S)


async def test_an_envoy_shows_its_token_and_takes_the_next_one(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first")
        async with pod.running():
            await until(lambda: plane.group.counters.streams == 1)
            assert plane.asked == [("shop/edge-1", "shop/edge", "first")]
            await change(plane, "a")
            plane.tokens = {"second"}
            pod.use("second")
            await change(plane, "b")
            await plane.restart()
            await until(lambda: plane.group.counters.streams == 1)
            assert plane.asked[-1] == ("shop/edge-1", "shop/edge", "second")
            await change(plane, "c")


async def test_a_wrong_token_gets_nothing_until_it_is_right(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        plane.group.publish(together(cluster("a"), endpoints("a", 1)))
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="forged")
        async with pod.running():
            await until(lambda: len(plane.asked) >= 3)
            assert plane.group.counters.connects == 0
            pod.use("first")
            await until(lambda: plane.group.counters.streams == 1)
            assert {token for *_, token in plane.asked} == {"forged", "first"}
    assert "the token is not one of ours" in pod.log.read_text()


async def test_when_nobody_can_tell_envoy_asks_again(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        plane.confused = True
        async with EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first").running():
            await until(lambda: len(plane.asked) >= 2)
            assert plane.group.counters.connects == 0
            plane.confused = False
            await until(lambda: plane.group.counters.streams == 1)


async def test_a_certificate_is_replaced_while_streams_live(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first")
        async with pod.running():
            await until(lambda: plane.group.counters.streams == 1)
            later = Authority("The next one")
            pod.trust(authority.pem, later.pem)  # both, for as long as either may be shown
            plane.certificate.replace(*certificate(later))
            await change(plane, "a")
            assert plane.group.counters.connects == 1, "the stream went on"
            await plane.restart()
            await until(lambda: plane.group.counters.streams == 1)
            await change(plane, "b")


@pytest.mark.parametrize("fault", ["another authority", "another name"])
async def test_an_envoy_does_not_trust_just_anybody(tmp_path: Path, authority: Authority, fault: str) -> None:
    async with serving(authority) as plane:
        if fault == "another name":
            plane.certificate.replace(*certificate(authority, "someone.else.svc"))
        trusts = Authority().pem if fault == "another authority" else authority.pem
        pod = EnvoyPod(tmp_path, plane.port, trusts=trusts, token="first")
        async with pod.running():
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in pod.log.read_text())
            assert plane.asked == []
            pod.trust(authority.pem)
            plane.certificate.replace(*certificate(authority))
            await until(lambda: plane.group.counters.streams == 1)


async def test_a_name_leads_to_the_control_plane(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first", ads_host="localhost")
        async with pod.running():
            await until(lambda: plane.group.counters.streams == 1)


async def test_a_peer_that_gives_no_sign_of_life_is_dropped(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority, silence_s=2.0) as plane:
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first")
        async with pod.running() as process:
            await until(lambda: plane.group.counters.streams == 1)
            await asyncio.sleep(5.0)
            assert plane.group.counters.connects == 1, "an idle proxy answers"
            process.send_signal(signal.SIGSTOP)
            try:
                await until(lambda: plane.group.counters.streams == 0)
            finally:
                process.send_signal(signal.SIGCONT)
            await until(lambda: plane.group.counters.streams == 1)


async def test_only_readiness_and_metrics_are_to_be_had(tmp_path: Path, authority: Authority) -> None:
    async with serving(authority) as plane:
        pod = EnvoyPod(tmp_path, plane.port, trusts=authority.pem, token="first")
        ready, metrics = pod.pod.readiness_port, pod.pod.metrics_port
        plane.tokens = set()
        async with pod.running():
            await until(lambda: len(plane.asked) > 0)
            status, _ = await pod.page(ready, "/ready")
            assert status in (0, 503), "there is no configuration yet"
            port = 1 + max(ready, metrics)
            site = together(listener("edge", port, "rc"), routes("rc", vhds=False), cluster("a"), endpoints("a", 1))
            plane.group.publish(site)
            plane.tokens = {"first"}
            async with asyncio.timeout(PATIENCE_S):
                while await pod.page(ready, "/ready") != (200, b"LIVE\n"):
                    await asyncio.sleep(0.02)
            for path in ("/metrics", "/stats/prometheus?usedonly"):
                status, body = await pod.page(metrics, path)
                assert status == 200
                assert b"envoy_control_plane_connected_state" in body
            assert plane.group.resources(CDS)
            for where, path in [(ready, "/"), (ready, "/stats/prometheus"), (ready, "/ready/%2e%2e/quitquitquit")]:
                assert (await pod.page(where, path))[0] == 404
            for path in ("/ready", "/config_dump", "/stats/prometheus/%2e%2e/%2e%2e/certs", "/stats/prometheus/"):
                assert (await pod.page(metrics, path))[0] == 404
            assert (await pod.page(ready, "/ready", method="POST"))[0] == 404
