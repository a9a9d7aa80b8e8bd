"""The server over real sockets, with simulated proxies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.connection import H2Connection
from tests.clock import without_stalls
from tests.xds.scripted import URLS, flight, refers

from tripylon.errors import StartError
from tripylon.pb.messages import DeltaDiscoveryRequest, Node
from tripylon.xds.cache import Group
from tripylon.xds.client import METHOD, Proxy, follow
from tripylon.xds.codec import RawCodec
from tripylon.xds.server import XdsServer

PATIENCE_S = 60.0
SITE = {
    "CDS": {"a": "eds:a"},
    "EDS": {"a": "1"},
    "LDS": {"l": "rds:rc"},
    "RDS": {"rc": ""},
    "VHDS": {"rc/x": "cds:a"},
}


@contextlib.asynccontextmanager
async def serving(path: Path, group: Group) -> AsyncIterator[XdsServer]:
    server = XdsServer(lambda node: group if node.id.startswith("node") else None)
    await server.start_unix(path)
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def running(proxy: Proxy, path: Path) -> AsyncIterator[asyncio.Task[None]]:
    channel = Channel(path=str(path), codec=RawCodec())
    task = asyncio.create_task(follow(proxy, channel))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        channel.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def test_proxies_get_flights_and_tell_when_they_are_live(tmp_path: Path) -> None:
    group = Group(grace_s=0.05)
    number = group.publish(flight(**SITE))
    path = tmp_path / "ads.sock"
    proxies = [Proxy(f"node{number}", refers) for number in range(3)]
    async with serving(path, group), contextlib.AsyncExitStack() as stack:
        for proxy in proxies:
            await stack.enter_async_context(running(proxy, path))
        await until(lambda: group.counters.streams == 3)
        assert await group.live(number, timeout_s=PATIENCE_S)
        number = group.publish(flight(CDS={"b": "eds:b", "a": None}, EDS={"b": "1", "a": None}, VHDS={"rc/x": "cds:b"}))
        assert await group.live(number, timeout_s=PATIENCE_S)
        await until(lambda: all(proxy.held[URLS["CDS"]].keys() == {"b"} for proxy in proxies))  # by the timer alone
        assert all(proxy.held[URLS["VHDS"]] == {"rc/x": b"cds:b"} for proxy in proxies)
    assert group.counters.streams == 0


async def test_a_restarted_server_sends_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"
    proxy = Proxy("node", refers)
    first, second = Group(), Group()
    first.publish(flight(**SITE))
    second.publish(flight(**SITE))
    async with serving(path, first), running(proxy, path) as task:
        await until(lambda: first.settled == 1)
        await until(lambda: not proxy.warming())
    assert task.done()
    async with serving(path, second), running(proxy, path):
        assert await second.live(1, timeout_s=PATIENCE_S)
        assert (second.counters.resources, second.counters.removals) == (0, 0)


async def test_stop_ends_streams_in_order(tmp_path: Path) -> None:
    group = Group()
    group.publish(flight(**SITE))
    path = tmp_path / "ads.sock"
    proxy = Proxy("node", refers)
    channel = Channel(path=str(path), codec=RawCodec())
    async with serving(path, group) as server:
        task = asyncio.create_task(follow(proxy, channel))
        await until(lambda: group.settled == 1)
        await server.stop()
        await asyncio.wait_for(task, PATIENCE_S)  # a clean end, no exception
        assert not path.exists()
        await server.stop()
    channel.close()


async def test_a_proxy_that_reads_nothing_holds_up_nobody(tmp_path: Path) -> None:
    group = Group()
    path = tmp_path / "ads.sock"
    big = "x" * 1_000_000
    group.publish(flight(CDS={f"c{number}": big for number in range(20)}))
    healthy = Proxy("node1", refers)
    async with serving(path, group):
        channel = Channel(path=str(path), codec=RawCodec())
        async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
            await stream.send_message(
                DeltaDiscoveryRequest(node=Node(id="node0"), type_url=URLS["CDS"]).SerializeToString()
            )
            await until(lambda: group.counters.streams == 1)
            async with running(healthy, path):
                await until(lambda: len(healthy.held[URLS["CDS"]]) == 20)
                for number in range(50):
                    group.publish(flight(CDS={"c0": str(number)}))
                    await asyncio.sleep(0)
                await until(lambda: healthy.held[URLS["CDS"]]["c0"] == b"49")
                owed = group.sessions[0]._stream._types[URLS["CDS"]]
                assert (len(owed.flying), len(owed.dirty)) == (1, 1)  # the fifty merged, nothing piled up
            with contextlib.suppress(StreamTerminatedError):
                await stream.cancel()
        channel.close()


async def test_unknown_nodes_and_full_state_streams_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"
    async with serving(path, Group()):
        channel = Channel(path=str(path), codec=RawCodec())
        with pytest.raises(GRPCError) as refused:
            await follow(Proxy("stranger", refers), channel)
        assert refused.value.status is Status.NOT_FOUND
        assert "'stranger'" in (refused.value.message or "")
        with pytest.raises(GRPCError) as refused:
            async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
                await stream.send_message(b"\xff")
                await stream.recv_message()
        assert refused.value.status is Status.INVALID_ARGUMENT
        method = METHOD.replace("Delta", "Stream")
        with pytest.raises(GRPCError) as refused:
            async with channel.request(method, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
                await stream.send_message(b"")
                await stream.recv_message()
        assert refused.value.status is Status.UNIMPLEMENTED
        assert "DELTA_GRPC" in (refused.value.message or "")
        channel.close()


async def test_who_is_not_admitted_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async def admit(metadata: Mapping[str, str]) -> str:
        return "" if metadata.get("authorization") == "Bearer good" else "no token"

    server = XdsServer(lambda _node: Group(), admit=admit)
    await server.start_unix(tmp_path / "ads.sock")
    channel = Channel(path=str(tmp_path / "ads.sock"), codec=RawCodec())
    assert (await refusal(channel, b"")).status is Status.PERMISSION_DENIED
    good = {"authorization": "Bearer good"}
    assert (await refusal(channel, b"\0\0\0\0\1\xff", good)).status is Status.INVALID_ARGUMENT
    channel.close()
    await server.stop()


async def refusal(channel: Channel, sent: bytes, metadata: dict[str, str] | None = None) -> GRPCError:
    """What the server says to these bytes."""
    with pytest.raises(GRPCError) as refused:
        async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes, metadata=metadata) as stream:
            await stream.send_request()
            await stream._stream.send_data(sent)
            await stream.recv_message()
    return refused.value


async def test_a_message_that_is_too_long_is_refused_by_its_length(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"
    async with serving(path, Group()):
        channel = Channel(path=str(path), codec=RawCodec())
        refused = await refusal(channel, b"\0" + (1 << 30).to_bytes(4))  # of a message that never comes
        assert refused.status is Status.RESOURCE_EXHAUSTED
        assert "1073741824 bytes is too long" in (refused.message or "")
        assert (await refusal(channel, b"\1\0\0\0\1x")).status is Status.UNIMPLEMENTED
        channel.close()


async def test_a_connection_without_streams_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    without_stalls(monkeypatch)
    server = XdsServer(lambda _node: Group(), silence_s=0.1)
    port = await server.start_tcp("127.0.0.1", 0)
    used = Channel("127.0.0.1", port, codec=RawCodec())
    task = asyncio.create_task(follow(Proxy("node", refers), used))
    client = H2Connection()
    client.initiate_connection()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            writer.write(client.data_to_send())
            if not (data := await reader.read(1 << 16)):
                break
            client.receive_data(data)  # which answers every request for a sign of life
    assert not task.done(), "one with a stream stays"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    used.close()
    await server.stop()


async def test_tcp_on_a_free_port() -> None:
    group = Group()
    server = XdsServer(lambda _node: group)
    port = await server.start_tcp("127.0.0.1", 0)
    channel = Channel("127.0.0.1", port, codec=RawCodec())
    task = asyncio.create_task(follow(Proxy("node", refers), channel))
    await until(lambda: group.counters.streams == 1)
    other = XdsServer(lambda _node: group)
    with pytest.raises(StartError, match="use another port"):
        await other.start_tcp("127.0.0.1", port)
    await server.stop()
    await asyncio.gather(task, return_exceptions=True)
    channel.close()


async def test_the_socket_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()
    async with serving(path, Group()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(StartError, match="another process serves there"):
            await XdsServer(lambda _node: None).start_unix(path)
        assert path.is_socket()
    path.write_text("precious")
    with pytest.raises(StartError, match="there is a file of that name"):
        await XdsServer(lambda _node: None).start_unix(path)
    assert path.read_text() == "precious"
    with pytest.raises(StartError, match="choose another path"):
        await XdsServer(lambda _node: None).start_unix(tmp_path / "none" / "ads.sock")


async def test_a_socket_that_another_process_has_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "ads.sock"
    async with serving(path, Group()):
        path.unlink()
        path.write_text("theirs")
    assert path.read_text() == "theirs"


async def test_stop_is_bounded_when_a_proxy_reads_nothing(tmp_path: Path) -> None:
    group = Group()
    group.publish(flight(CDS={f"c{number}": "x" * 1_000_000 for number in range(20)}))
    path = tmp_path / "ads.sock"
    server = XdsServer(lambda _node: group, stop_s=0.05)
    await server.start_unix(path)
    channel = Channel(path=str(path), codec=RawCodec())
    with contextlib.suppress(StreamTerminatedError):
        async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
            await stream.send_message(DeltaDiscoveryRequest(type_url=URLS["CDS"]).SerializeToString())
            await until(lambda: group.counters.pushes == 1)
            await server.stop()
            await stream.cancel()
    assert group.counters.streams == 0
    channel.close()
