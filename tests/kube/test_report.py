"""What the leader writes, how often, and what it leaves alone: the real engine, an API server in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kube.statuses import Cluster

from tripylon.api.meta import GATEWAY_GROUP, Resource
from tripylon.envoy.options import EmitOptions
from tripylon.kube import report
from tripylon.kube.concerned import REPORTED, concerned
from tripylon.kube.failures import ApiError
from tripylon.kube.report import Reporter
from tripylon.loop import Applied, Engine
from tripylon.model.options import Options
from tripylon.values import Name, Ref
from tripylon.world.world import Reached, ReachedAddress

PATIENCE_S = 60.0
THEIRS = "example.com/other"
CLASS = Ref(GATEWAY_GROUP, "GatewayClass", "", "tripylon")
EDGE = Ref(GATEWAY_GROUP, "Gateway", "shop", "edge")
ROUTE = Ref(GATEWAY_GROUP, "HTTPRoute", "shop", "cart")
Object = dict[str, Any]


def gateway_class() -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "tripylon"},
        "spec": {"controllerName": "gateway.tripylon.dev/controller"},
    }


def gateway(name: str = "edge", *, generation: int = 1, ports: tuple[int, ...] = (80,)) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "shop", "generation": generation},
        "spec": {
            "gatewayClassName": "tripylon",
            "listeners": [{"name": f"l{port}", "port": port, "protocol": "HTTP"} for port in ports],
        },
    }


def route(name: str = "cart", *, generation: int = 1, parents: tuple[str, ...] = ("edge",)) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "generation": generation},
        "spec": {
            "parentRefs": [{"name": each} for each in parents],
            "hostnames": [f"{name}.example"],
            "rules": [{"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]}],
        },
    }


class Site:
    """Engine, API server and reporter, joined as a controller joins them; proxies are as the test says."""

    def __init__(self, **settings: Any) -> None:
        options = Options(standalone=False)
        self.engine = Engine(options, EmitOptions(), on_applied=self._applied)
        self.cluster = Cluster(self.take)
        settings = {"interval_s": 0.05, "patience_s": 0.3} | settings
        self.time = datetime(2030, 1, 1, tzinfo=UTC)
        self.programmed = True
        self.reporter = Reporter(self, self.cluster, options, now=lambda: self.time, **settings)
        self.told: list[set[Ref]] = []

    @property
    def graph(self) -> Any:
        return self.engine.graph

    def listener(self, gateway: Name, listener: str) -> Any:
        return "programmed" if self.programmed else "pending"

    def take(self, resource: Resource) -> None:
        self.engine.apply([resource])

    def delete(self, ref: Ref) -> None:
        del self.cluster.objects[ref]
        self.engine.apply([], [ref])

    def reach(self, name: str = "edge", *addresses: str) -> None:
        self.engine.reach(
            {Name("shop", name): Reached(tuple(ReachedAddress(each) for each in addresses or ("192.0.2.1",)))}
        )

    def _applied(self, applied: Applied) -> None:
        self.told.append(concerned(applied.changes, self.engine.graph))
        self.reporter.changed(applied)

    async def rest(self) -> None:
        """Until nothing is waiting for its turn; Gateways that are looked at again and again would not count."""
        async with asyncio.timeout(PATIENCE_S):
            while self.reporter.waiting:
                await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.005)

    def condition(self, ref: Ref, type: str) -> tuple[str, str, int]:
        found = self.cluster.status(ref)
        each = next((one for one in found.get("conditions", ()) if one["type"] == type), None)
        return ("", "", 0) if each is None else (each["status"], each["reason"], each["observedGeneration"])

    def written(self, ref: Ref) -> int:
        return sum(each == ref for each, _ in self.cluster.patches)


@contextlib.asynccontextmanager
async def leading(site: Site) -> AsyncIterator[Site]:
    task = asyncio.create_task(site.reporter.run())
    site.reporter.start()
    try:
        yield site
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_each_object_is_written_once_and_then_left_alone() -> None:
    site = Site()
    for each in (gateway_class(), gateway(), route()):
        site.cluster.put(each)
    site.reach()
    async with leading(site):
        await site.rest()
        assert {ref: site.written(ref) for ref in (CLASS, EDGE, ROUTE)} == {CLASS: 1, EDGE: 1, ROUTE: 1}
        assert site.condition(CLASS, "Accepted") == ("True", "Accepted", 1)
        assert site.condition(EDGE, "Programmed") == ("True", "Programmed", 1)
        (parent,) = site.cluster.status(ROUTE)["parents"]
        assert parent["parentRef"] == {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "edge"}
        (listener,) = site.cluster.status(EDGE)["listeners"]
        assert listener["attachedRoutes"] == 1
        site.reporter.start()
        await site.rest()
        assert len(site.cluster.patches) == 3
        assert site.reporter.counters.errors == site.reporter.counters.conflicts == site.cluster.reads == 0


async def test_who_does_not_lead_writes_nothing() -> None:
    site = Site()
    async with leading(site):
        site.reporter.stop()
        for each in (gateway_class(), gateway(), route()):
            site.cluster.put(each)
        site.reach()
        await asyncio.sleep(0.05)
        assert (site.cluster.patches, site.reporter.waiting) == ([], 0)
        site.reporter.start()
        await site.rest()
        assert len(site.cluster.patches) == 3


async def test_losing_the_lead_stops_writes_at_once() -> None:
    site = Site(concurrency=2)
    for each in (gateway_class(), gateway(), *(route(f"r{number}") for number in range(20))):
        site.cluster.put(each)
    site.cluster.gate.clear()
    async with leading(site):
        await site.until(lambda: site.cluster.at_a_time == 2)
        site.reporter.stop()
        site.cluster.gate.set()
        await asyncio.sleep(0.05)
        assert site.cluster.patches == []
        site.reporter.start()
        await site.rest()
        assert site.written(EDGE) == 1


async def test_a_route_that_leaves_takes_itself_out_of_the_count() -> None:
    site = Site()
    for each in (gateway_class(), gateway(), gateway("inner"), route(), route("more")):
        site.cluster.put(each)
    site.reach()
    site.reach("inner")
    inner = EDGE._replace(name="inner")
    async with leading(site):
        await site.rest()

        def counts() -> tuple[int, int]:
            return tuple(site.cluster.status(ref)["listeners"][0]["attachedRoutes"] for ref in (EDGE, inner))

        assert counts() == (2, 0)
        site.cluster.put(route(generation=2, parents=("inner",)))
        assert {EDGE, inner, ROUTE} <= site.told[-1]
        await site.rest()
        assert counts() == (1, 1)
        site.delete(ROUTE._replace(name="more"))
        await site.rest()
        assert counts() == (0, 1)
        before = len(site.cluster.patches)
        site.cluster.put(route(generation=3, parents=("inner",)))
        await site.rest()
        assert [ref for ref, _ in site.cluster.patches[before:]] == [ROUTE], "only what has a new generation"


async def test_entries_of_a_route_that_has_left_us_are_removed() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.cluster.put(route())
    async with leading(site):
        await site.rest()
        theirs = {**site.cluster.status(ROUTE)["parents"][0], "controllerName": THEIRS, "unknown": 1}
        changed = route(generation=2, parents=("elsewhere",))
        parents = [theirs, *site.cluster.status(ROUTE)["parents"]]
        site.cluster.put({**changed, "status": {"parents": parents}})
        await site.rest()
        assert site.cluster.status(ROUTE)["parents"] == [theirs]


async def test_others_conditions_and_parents_stay_as_they_are() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    first = site.cluster.put(gateway())
    foreign = {
        "type": "example.com/Audited",
        "status": "True",
        "reason": "Done",
        "message": "",
        "observedGeneration": 0,
        "lastTransitionTime": "2001-01-01T00:00:00Z",
        "unknown": [1],
    }
    site.reach()
    async with leading(site):
        await site.rest()
        stored = site.cluster.objects[first.ref]
        stored["status"]["conditions"].insert(0, foreign)
        stored["status"]["listeners"][0]["conditions"].append(foreign)
        site.cluster.put({**stored, "spec": gateway(ports=(80, 81))["spec"]} | {"metadata": _again(stored, 2)})
        await site.rest()
        status = site.cluster.status(EDGE)
        assert site.condition(EDGE, "Accepted") == ("True", "Accepted", 2)
        assert status["conditions"][0] == foreign
        assert foreign in next(each for each in status["listeners"] if each["name"] == "l80")["conditions"]


def _again(stored: Object, generation: int) -> Object:
    return {**stored["metadata"], "generation": generation}


async def test_a_conflict_is_settled_by_what_is_there() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.cluster.put(route())

    def interfere() -> None:
        """Another controller writes, and the watch has yet to tell us."""
        theirs = {"controllerName": THEIRS, "parentRef": {"name": "edge"}, "conditions": []}
        stored = site.cluster.objects[ROUTE]
        parents = [theirs, *stored.get("status", {}).get("parents", [])]
        site.cluster.put({**stored, "status": {"parents": parents}}, tell=False)

    async with leading(site):
        await site.until(lambda: site.written(ROUTE) == 1)
        await site.rest()
        site.cluster.before_write = [interfere, interfere]
        site.cluster.put({**route(generation=2, parents=("edge", "edge2")), "status": site.cluster.status(ROUTE)})
        await site.rest()
        found = [each["controllerName"] for each in site.cluster.status(ROUTE)["parents"]]
        assert sorted(found) == [THEIRS, THEIRS, "gateway.tripylon.dev/controller"]
        assert site.reporter.counters.conflicts == 2
        assert site.cluster.reads == 2


async def test_a_newer_spec_at_the_server_is_waited_for() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.cluster.put(route())
    async with leading(site):
        await site.rest()
        before = site.written(ROUTE)
        stored = site.cluster.objects[ROUTE]
        site.cluster.put({**stored, "metadata": {**stored["metadata"], "generation": 3}}, tell=False)
        site.take(_told(site, generation=2))
        await site.rest()
        assert site.written(ROUTE) == before, "what we know is not what is there"
        site.cluster.put(site.cluster.objects[ROUTE])
        await site.rest()
        assert site.cluster.status(ROUTE)["parents"][0]["conditions"][0]["observedGeneration"] == 3


def _told(site: Site, *, generation: int) -> Resource:
    from tripylon.api.kinds import decode, find

    stored = site.cluster.objects[ROUTE]
    metadata = {**stored["metadata"], "generation": generation, "resourceVersion": "old"}
    kind = find(stored["apiVersion"], "HTTPRoute")
    assert kind is not None
    return decode(kind, {**stored, "metadata": metadata})


async def test_an_object_that_has_gone_is_forgotten() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    async with leading(site):
        await site.rest()
        site.cluster.objects.pop(EDGE)
        site.reach("edge", "192.0.2.9")
        await site.rest()
        assert site.reporter.counters.errors == 0


@pytest.mark.parametrize("status", [0, 403, 422, 500])
async def test_a_write_that_fails_is_tried_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tripylon.kube.report._FAILED_S", (0.02, 0.05))
    site = Site()
    site.cluster.failures = [ApiError(status, "Sorry", "not now") for _ in range(3)]
    site.cluster.put(gateway_class())
    async with leading(site):
        await site.until(lambda: site.written(CLASS) == 1)
        assert site.reporter.counters.errors == 3


async def test_a_burst_of_changes_costs_few_writes() -> None:
    interval_s, clock = 0.2, asyncio.get_running_loop().time
    site = Site(interval_s=interval_s)
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.cluster.put(route())
    async with leading(site):
        await site.rest()
        began_s = clock()
        for number in range(50):
            parents = ("edge",) if number % 2 else ("nobody",)
            stored = {**route(generation=2 + number, parents=parents), "status": site.cluster.status(ROUTE)}
            site.cluster.put(stored)
            await asyncio.sleep(0.001)
        await site.rest()
        assert site.written(ROUTE) <= 2 + (clock() - began_s) / interval_s, "however long the burst takes"
        assert site.cluster.status(ROUTE)["parents"][0]["conditions"][0]["observedGeneration"] == 51


async def test_many_objects_are_written_some_at_a_time() -> None:
    site = Site(concurrency=8)
    put = [site.cluster.put(each, tell=False) for each in (gateway_class(), gateway())]
    put += [site.cluster.put(route(f"r{number}"), tell=False) for number in range(300)]
    site.engine.apply(put)
    site.reach()
    async with leading(site):
        await site.rest()
        assert site.cluster.most_at_a_time == 8
        assert len({ref for ref, _ in site.cluster.patches}) == len(site.cluster.patches) == 302


async def test_a_gateway_is_programmed_when_its_proxies_say_so() -> None:
    site = Site()
    site.programmed = False
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.reach()
    async with leading(site):
        await site.until(lambda: site.condition(EDGE, "Programmed")[:2] == ("False", "Pending"))
        site.programmed = True
        await site.until(lambda: site.condition(EDGE, "Programmed")[:2] == ("True", "Programmed"))
        assert site.written(EDGE) == 2


async def test_what_passes_by_is_not_written() -> None:
    """A new listener waits a moment for its acknowledgement; proxies that have gone are told in time."""
    site = Site(patience_s=PATIENCE_S)
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.reach()
    async with leading(site):
        await site.until(lambda: site.condition(EDGE, "Programmed") == ("True", "Programmed", 1))
        site.programmed = False
        changed = {**gateway(generation=2, ports=(80, 81)), "status": site.cluster.status(EDGE)}
        site.cluster.put(changed)
        await asyncio.sleep(0.1)
        assert site.written(EDGE) == 1
        site.programmed = True
        await site.until(lambda: site.condition(EDGE, "Programmed") == ("True", "Programmed", 2))
        assert site.written(EDGE) == 2


async def test_a_lasting_absence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tripylon.kube.report._SWEEP_S", 0.02)
    site = Site(patience_s=0.1)
    site.cluster.put(gateway_class())
    site.cluster.put(gateway())
    site.reach()
    async with leading(site):
        await site.until(lambda: site.condition(EDGE, "Programmed") == ("True", "Programmed", 1))
        await asyncio.sleep(0.05)
        site.programmed = False
        await site.until(lambda: site.condition(EDGE, "Programmed")[:2] == ("False", "Pending"))
        assert site.written(EDGE) == 2


async def test_a_time_of_change_stays_while_nothing_changes() -> None:
    site = Site()
    site.cluster.put(gateway_class())
    async with leading(site):
        await site.rest()
        site.time = datetime(2031, 1, 1, tzinfo=UTC)
        stored = site.cluster.objects[CLASS]
        site.cluster.put({**stored, "metadata": _again(stored, 2)})
        await site.rest()
        conditions = site.cluster.status(CLASS)["conditions"]
        assert {each["lastTransitionTime"] for each in conditions} == {"2030-01-01T00:00:00Z"}
        assert {each["observedGeneration"] for each in conditions} == {2}


async def test_a_bug_in_one_status_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from tripylon.status import desired as module

    def broken(*args: Any, **named: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "route_status", broken)
    site = Site()
    for each in (gateway_class(), route(), gateway()):
        site.cluster.put(each)
    async with leading(site):
        await site.until(lambda: site.written(EDGE) == 1 and site.written(CLASS) == 1)
        assert site.written(ROUTE) == 0


async def test_foreign_objects_are_not_touched() -> None:
    site = Site()
    foreign = gateway_class()
    foreign["spec"]["controllerName"] = THEIRS
    for each in (foreign, gateway(), route()):
        site.cluster.put(each)
    async with leading(site):
        await site.rest()
        assert site.cluster.patches == []
        assert site.reporter.counters.skipped >= 3


def test_kinds_that_are_reported() -> None:
    names = {name for _, name in REPORTED}
    assert {"GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "Backend"} <= names
    assert not names & {"Service", "Secret", "ReferenceGrant"}


# --- Losing the lead, and what is remembered ------------------------------------------------------------------------


async def test_a_write_that_had_no_time_to_begin_is_made_when_we_lead_again() -> None:
    site = Site()
    for each in (gateway_class(), gateway(), route()):
        site.cluster.put(each)
    site.reach()
    async with asyncio.TaskGroup() as tasks:
        site.reporter.start()
        site.reporter._judge_some(tasks)
        assert site.reporter.waiting
        site.reporter.stop()
    assert site.reporter.waiting == 0
    assert site.cluster.patches == []
    async with leading(site):
        await site.rest()
        assert {ref: site.written(ref) for ref in (CLASS, EDGE, ROUTE)} == {CLASS: 1, EDGE: 1, ROUTE: 1}


async def test_nothing_is_remembered_of_objects_that_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_SWEEP_S", 0.02)
    site = Site()
    for each in (gateway_class(), gateway()):
        site.cluster.put(each)
    site.reach()
    async with leading(site):
        for number in range(5):
            site.cluster.put(route(f"r{number}"))
            await site.rest()
            site.delete(Ref(GATEWAY_GROUP, "HTTPRoute", "shop", f"r{number}"))
        reporter = site.reporter
        await site.until(
            lambda: not [ref for ref in (*reporter._free_at, *reporter._written) if ref.kind == "HTTPRoute"]
        )
