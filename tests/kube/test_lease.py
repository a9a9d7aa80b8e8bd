"""Elections over an API server that keeps one Lease, refuses stale writes, and can be made to fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from tests.clock import without_stalls
from tests.kube.scripted import Scripted, client_of, status_of

from tripylon.kube.config import User
from tripylon.kube.lease import Election

LEASES = "/apis/coordination.k8s.io/v1/namespaces/tripylon/leases"


@pytest.fixture(autouse=True)
async def stalls_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of one second must not expire because the machine is busy."""
    without_stalls(monkeypatch)


class Lease:
    """The Lease as the server keeps it. `trouble`, if set, answers in its place."""

    def __init__(self, server: Scripted) -> None:
        self.now: dict[str, Any] | None = None
        self.history: list[str] = []
        self.trouble: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self.stuck: set[str] = set()
        server.handle = self.handle

    @property
    def spec(self) -> dict[str, Any]:
        assert self.now is not None
        found: dict[str, Any] = self.now["spec"]
        return found

    def put(self, spec: dict[str, Any], **metadata: Any) -> None:
        version = int(self.now["metadata"]["resourceVersion"]) + 1 if self.now else 1
        known = self.now["metadata"] if self.now else {}
        self.now = {"metadata": {**known, "name": "leader", **metadata, "resourceVersion": str(version)}, "spec": spec}

    async def handle(self, request: web.Request, body: bytes) -> web.StreamResponse | None:
        if (answer := self.trouble(request)) is not None:
            return answer
        if request.headers["Authorization"].removeprefix("Bearer ") in self.stuck:
            await asyncio.sleep(3600)
        if request.method == "GET":
            return web.json_response(self.now) if self.now else _refuse(404, "NotFound")
        sent = json.loads(body)
        if request.method == "POST" and self.now is not None:
            return _refuse(409, "AlreadyExists")
        if request.method == "PUT":
            if self.now is None:
                return _refuse(404, "NotFound")
            if sent["metadata"]["resourceVersion"] != self.now["metadata"]["resourceVersion"]:
                return _refuse(409, "Conflict")
        self.put(sent["spec"])
        self.history.append(sent["spec"]["holderIdentity"])
        return web.json_response(self.now)


def _is_of(request: web.Request, identity: str) -> bool:
    return request.headers["Authorization"] == f"Bearer {identity}"


def _refuse(code: int, reason: str) -> web.Response:
    return web.json_response(status_of(code, reason), status=code)


class Candidate:
    def __init__(self, server: Scripted, identity: str, clock: Callable[[], float] | None = None) -> None:
        self.turns: list[str] = []
        self.client = client_of(server, user=User(token=identity))
        self.election = Election(
            self.client,
            "tripylon",
            "leader",
            identity,
            lambda: self.turns.append("started"),
            lambda: self.turns.append("stopped"),
            lease_duration=1.0,
            renew_deadline=0.6,
            retry_period=0.05,
            clock=clock or asyncio.get_running_loop().time,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.election.run())

    async def until(self, *turns: str) -> None:
        async with asyncio.timeout(60):
            while self.turns != list(turns):
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def close(self) -> None:
        if self._task is not None:
            await self.stop()
        await self.client.close()


@asynccontextmanager
async def candidates(server: Scripted, *identities: str) -> AsyncIterator[list[Candidate]]:
    made = [Candidate(server, identity) for identity in identities]
    try:
        yield made
    finally:
        for each in made:
            await each.close()


async def test_one_leads_and_hands_over_when_it_stops(server: Scripted) -> None:
    lease = Lease(server)
    async with candidates(server, "a", "b") as (a, b):
        a.start()
        await a.until("started")
        b.start()
        await server.until(lambda: len(server.requests) > 12)
        assert (a.election.is_leader, b.election.is_leader) == (True, False)
        assert b.turns == []
        assert b.election.leader == "a"
        await a.stop()
        assert a.turns == ["started", "stopped"]
        assert not a.election.is_leader
        await b.until("started")
    assert lease.history[0] == "a"
    assert "" in lease.history, "the one who stopped let go"
    assert lease.spec["leaseTransitions"] == 1


async def test_renewing_keeps_the_rest_of_the_lease(server: Scripted) -> None:
    lease = Lease(server)
    lease.put({"holderIdentity": "", "leaseTransitions": 4, "strategy": "OldestEmulationVersion"}, labels={"a": "b"})
    async with candidates(server, "a") as (a,):
        a.start()
        await a.until("started")
        acquired = lease.spec["acquireTime"]
        await server.until(lambda: len(lease.history) > 3)
        assert lease.spec["leaseTransitions"] == 5
        assert lease.spec["strategy"] == "OldestEmulationVersion"
        assert lease.spec["acquireTime"] == acquired
        assert lease.spec["leaseDurationSeconds"] == 1
        assert lease.now is not None
        assert lease.now["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize("year", ["1999", "2999"])
async def test_times_of_others_do_not_count(server: Scripted, year: str) -> None:
    """A Lease is free after it stood unchanged for its duration by our own clock, whatever its renewTime says."""
    lease = Lease(server)
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 5, "renewTime": f"{year}-01-01T00:00:00.000000Z"}
    lease.put(spec)
    seconds = [100.0]
    a = Candidate(server, "a", lambda: seconds[0])
    a.start()
    try:
        await server.until(lambda: len(server.requests) > 3)
        assert a.turns == []
        seconds[0] += 4.9
        seen = len(server.requests)
        await server.until(lambda: len(server.requests) > seen + 2)
        assert a.turns == []
        lease.put({**spec, "renewTime": f"{year}-01-01T00:00:01.000000Z"})
        await server.until(lambda: len(server.requests) > seen + 4)
        seconds[0] += 4.9
        await server.until(lambda: len(server.requests) > seen + 6)
        assert a.turns == [], "it was renewed meanwhile"
        seconds[0] += 0.2
        await a.until("started")
    finally:
        await a.close()


@pytest.mark.parametrize("trouble", ["errors", "silence"])
async def test_stops_before_another_may_start(server: Scripted, trouble: str) -> None:
    lease = Lease(server)
    async with candidates(server, "a", "b") as (a, b):
        a.start()
        await a.until("started")
        b.start()
        await server.until(lambda: b.election.leader == "a")
        if trouble == "silence":
            lease.stuck.add("a")
        else:
            lease.trouble = lambda request: _refuse(500, "InternalError") if _is_of(request, "a") else None
        order: list[str] = []
        b.election._on_started = lambda: order.append("b started")
        a.election._on_stopped = lambda: order.append("a stopped")
        async with asyncio.timeout(60):
            while len(order) < 2:
                await asyncio.sleep(0.01)
        assert order == ["a stopped", "b started"]
        assert not a.election.is_leader
        lease.stuck.clear()
        lease.trouble = lambda _: None
        await b.stop()
        await a.until("started", "started")


async def test_a_short_trouble_costs_nothing(server: Scripted) -> None:
    lease = Lease(server)
    async with candidates(server, "a") as (a,):
        a.start()
        await a.until("started")
        failures = iter(range(3))
        lease.trouble = lambda _: None if next(failures, None) is None else _refuse(503, "ServiceUnavailable")
        seen = len(lease.history)
        await server.until(lambda: len(lease.history) > seen + 2)
        assert a.turns == ["started"]


async def test_a_lease_that_others_touch_or_delete_is_renewed(server: Scripted) -> None:
    lease = Lease(server)
    async with candidates(server, "a") as (a,):
        a.start()
        await a.until("started")
        lease.put(lease.spec, labels={"touched": "yes"})
        seen = len(lease.history)
        await server.until(lambda: len(lease.history) > seen + 1)
        lease.now = None
        await server.until(lambda: lease.now is not None)
        assert a.turns == ["started"]


async def test_stops_at_once_when_the_lease_is_taken_away(server: Scripted) -> None:
    lease = Lease(server)
    async with candidates(server, "a") as (a,):
        a.start()
        await a.until("started")
        lease.put({**lease.spec, "holderIdentity": "thief"})
        await a.until("started", "stopped")
        await a.stop()
    assert lease.spec["holderIdentity"] == "thief", "what is not ours is not released"


async def test_does_not_claim_to_lead_after_a_stall(server: Scripted) -> None:
    Lease(server)
    seconds = [100.0]
    a = Candidate(server, "a", lambda: seconds[0])
    a.start()
    try:
        await a.until("started")
        before = a.election.is_leader
        seconds[0] += 0.7
        assert (before, a.election.is_leader) == (True, False), "before anything could run"
        await a.until("started", "stopped", "started")
    finally:
        await a.close()


def test_durations_must_leave_room(server: Scripted) -> None:
    with pytest.raises(ValueError, match="must exceed"):
        Election(client_of(server), "n", "l", "i", print, print, lease_duration=10, renew_deadline=10)
