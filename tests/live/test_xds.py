"""The wire against the real Envoy: what it asks for, what goes live, what it refuses, what it has after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.live.certificates import Authority
from tests.live.xds_rig import (
    PATIENCE_S,
    Changes,
    Rig,
    cluster,
    endpoints,
    free_port,
    host,
    listener,
    removal,
    rig,
    routes,
    tls_cluster,
    together,
    validation,
    virtual_host,
)

from tripylon.pb import pack
from tripylon.xds.events import Rejected
from tripylon.xds.snapshot import BY_URL, CDS, EDS, LDS, RDS, SDS, SRDS, VHDS, Resource, make_resource

pytestmark = pytest.mark.live

RC = "shop/edge/80"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Rig]:
    """One listener, one route configuration, one virtual host to one EDS cluster with the backend in it."""
    async with rig(tmp_path) as it:
        await it.until(lambda: it.group.counters.streams == 1)
        await live(
            it,
            listener("edge", it.port, RC),
            routes(RC),
            host(RC, "a.example", "c"),
            cluster("c"),
            endpoints("c", it.backend),
        )
        yield it


async def live(it: Rig, *parts: Changes) -> None:
    """Publishes one flight and waits until it is live."""
    number = it.group.publish(together(*parts))
    waiting = [session.waits_for() for session in it.group.sessions]
    assert await it.group.live(number, timeout_s=PATIENCE_S), f"not live, proxies have yet to ask for {waiting}"


async def replace_control_plane(it: Rig, content: Mapping[str, Mapping[str, Resource | None]]) -> None:
    """Stops the server and starts another one, of a new process so to say, with this content."""
    await it.stop()
    group = it.fresh_group()
    group.publish(content)
    await it.serve(group)
    assert await group.live(1, timeout_s=PATIENCE_S)


def content_of(it: Rig) -> dict[str, dict[str, Resource | None]]:
    return {url: dict(it.group.resources(url)) for url in BY_URL}


async def test_an_envoy_that_starts_is_sent_each_resource_once(tmp_path: Path) -> None:
    def prepare(it: Rig) -> None:
        hosts = (host(RC, f"h{number}.example", f"c{number}") for number in range(20))
        clusters = (together(cluster(f"c{number}"), endpoints(f"c{number}", it.backend)) for number in range(20))
        it.group.publish(together(listener("edge", it.port, RC), routes(RC), *hosts, *clusters))

    async with rig(tmp_path, prepare=prepare) as it:
        assert await it.group.live(1, timeout_s=PATIENCE_S)
        for number in range(20):
            await it.answers(f"h{number}.example", 200)
        assert it.group.counters.resources == 62
        assert it.group.counters.nacks == 0


async def test_what_is_live_answers_at_once(site: Rig) -> None:
    assert await site.get("a.example") == 200
    await live(site, host(RC, "a.example", answer=418))
    assert await site.get("a.example") == 418
    await live(site, cluster("d"), endpoints("d", site.backend), host(RC, "b.example", "d"))
    assert [await site.get("b.example") for _ in range(20)] == [200] * 20
    await live(site, endpoints("d", 0))
    await site.answers("b.example", 503)
    await live(site, removal(VHDS, f"{RC}/b.example"), removal(CDS, "d"), removal(EDS, "d"))
    await site.answers("b.example", 404)
    await site.until(lambda: site.removed(CDS) == ["d"])


async def test_envoy_asks_for_virtual_hosts_with_an_empty_request(site: Rig) -> None:
    (opening,) = [said for said in site.wire if said.url == VHDS and not said.nonce]
    assert (opening.subscribe, opening.known) == ((), {})
    other = free_port()
    more = host("other/rc", "o.example", answer=201)
    await live(site, listener("other", other, "other/rc"), routes("other/rc"), more)
    assert not [said for said in site.wire if said.url == VHDS and (said.subscribe or not said.nonce)][1:]
    site.port = other
    await site.answers("o.example", 201)
    assert await site.get("a.example") == 404  # virtual hosts of the other configuration stay with it


async def test_a_listener_without_virtual_hosts_does_not_wait(site: Rig) -> None:
    bare = free_port()
    await live(site, listener("bare", bare, "bare/rc"), routes("bare/rc"))
    site.port = bare
    assert await site.get("a.example") == 404  # listening at once, not after Envoy's 15 s
    await live(site, host("bare/rc", "a.example", answer=201))
    await site.answers("a.example", 201)


async def test_virtual_hosts_outlive_their_route_configuration(site: Rig) -> None:
    await live(site, routes(RC, headers_to_remove=("x-any",)))
    assert await site.get("a.example") == 200
    await live(site, routes(RC, hosts=(virtual_host("*", "", answer=202),)))
    assert (await site.get("a.example"), await site.get("any.example")) == (200, 202)  # inline ones beside
    await live(site, routes(RC, vhds=False, hosts=(virtual_host("*", "", answer=202),)))
    assert await site.get("a.example") == 202
    await live(site, routes(RC))
    assert await site.get("a.example") == 200  # Envoy kept it, nothing was sent again
    await live(site, removal(VHDS, f"{RC}/a.example"))
    assert await site.get("a.example") == 404


async def test_only_the_bad_virtual_host_is_rejected(site: Rig) -> None:
    await live(
        site,
        host(RC, "g1.example", answer=201),
        host(RC, "bad.example", "c", regex="/([a"),
        host(RC, "g2.example", answer=202),
    )
    rejected = [event for event in site.events if isinstance(event, Rejected)]
    assert [(event.type_url, event.name) for event in rejected] == [(VHDS, f"{RC}/bad.example")]
    assert rejected[0].message == "missing ]: [a"
    assert [await site.get(f"{name}.example") for name in ("g1", "bad", "g2", "a")] == [201, 404, 202, 200]
    await live(site, host(RC, "a.example", "c", regex="/([a"))
    assert await site.get("a.example") == 200  # the old one stays
    await live(site, host(RC, "bad.example", answer=203))
    assert await site.get("bad.example") == 203
    assert set(site.group.refusals) == {(VHDS, f"{RC}/a.example")}


async def test_a_route_may_come_before_its_cluster(site: Rig) -> None:
    await live(site, host(RC, "late.example", "late"))
    assert await site.get("late.example") == 503
    await live(site, cluster("late"), endpoints("late", site.backend))
    await site.answers("late.example", 200)


async def test_of_two_virtual_hosts_with_one_domain_the_later_is_rejected(site: Rig) -> None:
    twin = virtual_host("a.example", "", answer=201)
    twin.name = f"{RC}/twin"
    await live(site, {VHDS: {twin.name: make_resource(VHDS, twin.name, pack(twin).value)}}, host(RC, "b.example", "c"))
    assert set(site.group.refusals) == {(VHDS, twin.name)}
    assert "Duplicate entry of domain a.example" in site.group.refusals[VHDS, twin.name].message
    assert [await site.get(f"{name}.example") for name in "ab"] == [200, 200]


async def test_a_bad_cluster_takes_nothing_with_it(site: Rig) -> None:
    await live(
        site,
        cluster("d"),
        cluster("worse", bad=True),
        endpoints("d", site.backend),
        host(RC, "d.example", "d"),
    )
    await site.until(lambda: any(isinstance(event, Rejected) and event.name == "worse" for event in site.events))
    assert [await site.get("d.example") for _ in range(5)] == [200] * 5
    assert (CDS, "worse") in site.group.refusals


async def test_bad_endpoints_take_nothing_with_them(site: Rig) -> None:
    await live(
        site,
        *(cluster(name) for name in "def"),
        endpoints("d", site.backend),
        endpoints("e", site.backend, address="not-an-address"),
        endpoints("f", site.backend),
        host(RC, "d.example", "d"),
        host(RC, "f.example", "f"),
    )
    await site.until(lambda: (EDS, "e") in site.group.refusals)
    assert "malformed IP address: not-an-address" in site.group.refusals[EDS, "e"].message
    await site.answers("d.example", 200)
    await site.answers("f.example", 200)
    await live(site, endpoints("e", site.backend), host(RC, "e.example", "e"))
    await site.answers("e.example", 200)
    assert site.group.refusals == {}


@pytest.mark.parametrize("pause_s", [0.0, 0.01, 0.3])
async def test_secrets_in_quick_alternation_block_no_cluster(site: Rig, pause_s: float) -> None:
    """A cluster that waits for a withdrawn secret would keep every later one from serving."""
    authority = Authority().pem
    for number in range(12 if pause_s < 0.1 else 3):
        name, secret = f"t{number}", f"s{number % 3}"
        site.group.publish(
            together(
                tls_cluster(name, secret),
                validation(secret, authority),
                endpoints(name, site.backend),
                host(RC, "t.example", name),
            )
        )
        await asyncio.sleep(pause_s)
        site.group.publish(
            together(removal(CDS, name), removal(EDS, name), removal(SDS, secret), removal(VHDS, f"{RC}/t.example"))
        )
        await asyncio.sleep(pause_s)
    await live(site, cluster("d"), endpoints("d", site.backend), host(RC, "d.example", "d"))
    await site.answers("d.example", 200)
    (session,) = site.group.sessions
    await site.until(lambda: not session._stream._types[CDS].flying)  # Envoy has no warming cluster
    await site.until(lambda: session._stream._types[CDS].sent.keys() == {"c", "d"})


async def test_a_cluster_changed_in_place_serves_on(site: Rig) -> None:
    for seconds in (2, 3, 4):
        await live(site, cluster("c", connect_timeout_s=seconds), host(RC, "a.example", "c"))
        assert [await site.get("a.example") for _ in range(10)] == [200] * 10
    acked = site.group.counters.acks
    await live(site, cluster("c", connect_timeout_s=5))
    async with asyncio.timeout(12):  # the acknowledgement of the cluster itself: late when the endpoints are missing
        while site.group.counters.acks < acked + 2:
            await asyncio.sleep(0.01)


async def test_a_new_control_plane_sends_nothing_again(site: Rig) -> None:
    await live(site, host(RC, "b.example", answer=201))
    same = content_of(site)
    await replace_control_plane(site, same)
    reopened = {said.url: said.known for said in site.wire[-6:]}
    assert reopened.keys() == {CDS, EDS, LDS, RDS, SRDS, VHDS}
    had = {url: {name: r.version for name, r in same.get(url, {}).items() if r} for url in reopened}
    assert reopened == had
    assert (site.group.counters.resources, site.group.counters.removals) == (0, 0)
    assert await site.get("a.example") == 200


async def test_a_new_control_plane_sends_what_differs(site: Rig) -> None:
    to_d = (host(RC, "b.example", "d"), cluster("d"), endpoints("d", site.backend))
    await live(site, *to_d, host(RC, "g.example", answer=201))
    changed = content_of(site)
    del changed[VHDS][f"{RC}/b.example"], changed[CDS]["d"], changed[EDS]["d"]
    changed[VHDS].update(host(RC, "g.example", answer=202)[VHDS])
    await replace_control_plane(site, changed)
    assert [await site.get(f"{name}.example") for name in "abg"] == [200, 404, 202]
    await site.until(lambda: site.removed(CDS) == ["d"])
    assert site.removed(VHDS) == [f"{RC}/b.example"]
    assert site.group.counters.resources == 1


async def test_churn_fails_no_request(site: Rig) -> None:
    """Each round a new cluster takes over and the old one goes, under a stream of requests."""
    statuses: list[int] = []

    async def ask() -> None:
        while True:
            statuses.append(await site.get("a.example"))

    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask()) for _ in range(2)]
        old = "c"
        for number in range(40):
            new = f"c{number}"
            await live(
                site,
                cluster(new),
                endpoints(new, site.backend),
                host(RC, "a.example", new),
                removal(CDS, old),
                removal(EDS, old),
            )
            old = new
        await site.until(lambda: len(site.removed(CDS)) == 40)
        for task in asking:
            task.cancel()
    assert len(statuses) > 100
    assert set(statuses) == {200}


async def test_a_removed_listener_stops_listening(site: Rig) -> None:
    await live(site, removal(LDS, "edge"), removal(RDS, RC), removal(VHDS, f"{RC}/a.example"))
    await site.answers("a.example", 0)
    await live(site, listener("edge", site.port, RC), routes(RC), host(RC, "a.example", answer=201))
    await site.answers("a.example", 201)
