"""Configuration of filters by ECDS on the real Envoy: it changes under load, and nothing else notices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.live.series import counted, drained
from tests.live.xds_rig import (
    HOST,
    PATIENCE_S,
    Changes,
    Rig,
    cluster,
    endpoints,
    filter_config,
    free_port,
    host,
    listener,
    removal,
    rig,
    routes,
    together,
)

from tripylon.xds.snapshot import ECDS, LDS

pytestmark = pytest.mark.live

RC = "shop/edge/80"
LANE = "lane"


def site(it: Rig, value: str) -> Changes:
    """A listener with one filter by ECDS, before one backend."""
    return together(
        listener("edge", it.port, RC, filters=(LANE,)),
        filter_config(LANE, value),
        routes(RC),
        host(RC, "a.example", "c"),
        cluster("c"),
        endpoints("c", it.backend),
    )


async def live(it: Rig, *parts: Changes) -> None:
    assert await it.group.live(it.group.publish(together(*parts)), timeout_s=PATIENCE_S)


class Answer:
    """Status, what the filter added, and whether the connection may be kept."""

    def __init__(self, head: bytes) -> None:
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        self.lane = headers.get("x-lane", "")
        self.length = int(headers.get("content-length", "0"))
        self.kept = headers.get("connection") != "close"


@contextlib.asynccontextmanager
async def connection(it: Rig) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(HOST, it.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


class Connection:
    """One client that keeps its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self) -> Answer:
        self._writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = Answer(await self._reader.readuntil(b"\r\n\r\n"))
            await self._reader.readexactly(answer.length)
        return answer


async def test_a_filter_changes_under_load_and_no_connection_ends(tmp_path: Path) -> None:
    """Each value is there for the first request after its acknowledgement, by connections of before."""
    answers: list[Answer] = []

    async def ask(client: Connection) -> None:
        while True:
            answers.append(await client.get())

    async with rig(tmp_path, prepare=lambda it: void(it.group.publish(site(it, "0")))) as it:
        assert await it.group.live(1, timeout_s=PATIENCE_S)
        async with contextlib.AsyncExitStack() as stack:
            own, *clients = [await stack.enter_async_context(connection(it)) for _ in range(5)]
            assert (await own.get()).lane == "0"
            async with asyncio.TaskGroup() as tasks:
                asking = [tasks.create_task(ask(client)) for client in clients]
                for number in range(1, 41):
                    enough = len(answers) + 10
                    await live(it, filter_config(LANE, str(number)))
                    assert (await own.get()).lane == str(number)
                    while len(answers) < enough:
                        await asyncio.sleep(0.001)
                for task in asking:
                    task.cancel()
        assert {(answer.status, answer.kept) for answer in answers} == {(200, True)}
        assert {answer.lane for answer in answers} <= {str(number) for number in range(41)}
        assert drained(it.admin) == (0, 0, 0)
        assert counted(it.admin)["http.edge.downstream_cx_total"] == 5
        assert it.group.counters.nacks == 0


async def test_a_filter_moves_to_a_new_name_with_its_listener(tmp_path: Path) -> None:
    """What a listener that drains refers to stays until it ends; then Envoy drops it, and we forget it."""
    async with rig(tmp_path, prepare=lambda it: void(it.group.publish(site(it, "old"))), drain_s=2) as it:
        assert await it.group.live(1, timeout_s=PATIENCE_S)
        async with connection(it) as before:
            assert (await before.get()).lane == "old"
            changed = listener("edge", it.port, RC, filters=("other",))
            await live(it, changed, removal(ECDS, LANE), filter_config("other", "new"))
            last = await before.get()
            assert (last.status, last.lane) == (200, "old")
        async with connection(it) as after:
            assert (await after.get()).lane == "new"
        (session,) = it.group.sessions
        await said(it, LANE)
        assert session._stream._types[ECDS].sent.keys() == {"other"}


async def said(it: Rig, name: str) -> None:
    """Waits until Envoy no longer asks for a filter."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(name in request.unsubscribe for request in it.wire if request.url == ECDS):
            await asyncio.sleep(0.01)


async def test_a_refused_filter_leaves_what_was_there(tmp_path: Path) -> None:
    async with rig(tmp_path, prepare=lambda it: void(it.group.publish(site(it, "good")))) as it:
        assert await it.group.live(1, timeout_s=PATIENCE_S)
        await live(it, filter_config(LANE, "%BAD("))
        assert "%BAD(" in it.group.refusals[ECDS, LANE].message
        async with connection(it) as client:
            assert (await client.get()).lane == "good"
            # Envoy 1.40 remembers the last configuration that it was sent, and refuses new listeners because of it.
            await live(it, listener("twin", free_port(), RC, filters=(LANE,)))
            assert (LDS, "twin") in it.group.refusals
            await live(it, filter_config(LANE, "better"))
            assert (await client.get()).lane == "better"
        it.group.retry(LDS, "twin")
        await it.until(lambda: not it.group.refusals)


@pytest.mark.parametrize("value", ["", "%BAD("])
async def test_a_filter_that_is_missing_or_refused_at_the_start_closes_only_its_own_listener(
    tmp_path: Path, value: str
) -> None:
    """It answers 500, all others serve; Envoy waits a while for a filter that nobody has."""
    twin = free_port()

    def prepare(it: Rig) -> None:
        it.group.publish(together(site(it, value), listener("twin", twin, RC, filters=())))
        if not value:
            it.group.publish(removal(ECDS, LANE))

    async with rig(tmp_path, prepare=prepare) as it:
        await it.answers("a.example", 500)
        edge, it.port = it.port, twin
        await it.answers("a.example", 200)
        it.port = edge
        await live(it, filter_config(LANE, "there"))
        await it.answers("a.example", 200)


def void(_: object) -> None:
    """Nothing, of something."""
