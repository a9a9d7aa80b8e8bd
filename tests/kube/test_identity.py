"""The Secret of the xDS certificate: made, shared, renewed, left alone when it is somebody else's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tripylon.kube.authority import Kept, advanced
from tripylon.kube.failures import ApiError
from tripylon.kube.identity import SECRET, Identity, IdentityError, Served

NAMESPACE = "tripylon-system"
NAMES = ("tripylon.tripylon-system.svc",)
START = datetime(2030, 1, 1, tzinfo=UTC)
Object = dict[str, Any]


class Store:
    """One Secret at an API server, with optimistic locking. `before_write` happens when a writer has decided."""

    def __init__(self) -> None:
        self.secret: Object | None = None
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None
        self.failure: ApiError | None = None

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        assert (api_version, kind, name, namespace) == ("v1", "Secret", SECRET, NAMESPACE)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return copy.deepcopy(self.secret)

    async def create(self, obj: Object) -> Object:
        await asyncio.sleep(0)
        self._interfere()
        if self.secret is not None:
            raise ApiError(409, "AlreadyExists", "it is there")
        return self.put(obj)

    async def replace(self, obj: Object) -> Object:
        await asyncio.sleep(0)
        self._interfere()
        if self.secret is None:
            raise ApiError(404, "NotFound", "it is not there")
        if obj["metadata"]["resourceVersion"] != self.secret["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "it was changed")
        return self.put(obj)

    def _interfere(self) -> None:
        before, self.before_write = self.before_write, lambda: None
        before()

    def put(self, obj: Object) -> Object:
        self.writes += 1
        self.secret = copy.deepcopy(obj)
        self.secret["metadata"]["resourceVersion"] = str(self.writes)
        return copy.deepcopy(self.secret)

    def delete(self) -> None:
        self.secret = None

    @property
    def data(self) -> dict[str, str]:
        assert self.secret is not None
        found: dict[str, str] = self.secret["data"]
        return found


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def identity(store: Store, clock: Clock | None = None, **more: Any) -> Identity:
    return Identity(store, NAMESPACE, NAMES, clock=clock or Clock(), **more)


def foreign(kept: Kept) -> Object:
    data = {"ca.crt": kept.bundle, "tls.crt": kept.chain, "tls.key": kept.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE, "annotations": {"cert-manager.io/certificate-name": "x"}},
        "data": {name: base64.b64encode(content).decode() for name, content in data.items() if content},
    }


async def test_it_is_made_once_and_kept() -> None:
    store = Store()
    seen: list[Served] = []
    first = identity(store, on_change=seen.append)
    served = await first.load()
    assert served.chain.startswith(b"-----BEGIN CERTIFICATE")
    assert first.ca_bundle == served.ca_bundle
    assert await first.load() == served
    assert await identity(store).load() == served
    assert (store.writes, seen) == (1, [served])
    assert store.secret is not None
    assert store.secret["type"] == "kubernetes.io/tls"


async def test_replicas_that_start_at_once_agree() -> None:
    store = Store()
    served = await asyncio.gather(*(identity(store).load() for _ in range(5)))
    assert len(set(map(repr, served))) == 1
    assert store.writes == 1


async def test_a_renewal_is_taken_from_whoever_was_first() -> None:
    store, clock = Store(), Clock()
    one, other = identity(store, clock), identity(store, clock)
    before = await one.load()
    await other.load()
    clock.now += timedelta(days=61)
    served = await asyncio.gather(one.load(), other.load())
    assert served[0] == served[1]
    assert served[0].chain != before.chain
    assert served[0].ca_bundle == before.ca_bundle
    assert store.writes == 2


async def test_one_that_goes_while_we_write_is_made_anew() -> None:
    store, clock = Store(), Clock()
    mine = identity(store, clock)
    await mine.load()
    clock.now += timedelta(days=61)

    def deleted() -> None:
        store.secret = None

    store.before_write = deleted
    served = await mine.load()
    assert served == await identity(store, clock).load()


async def test_what_others_wrote_beside_it_stays() -> None:
    store, clock = Store(), Clock()
    await identity(store, clock).load()
    assert store.secret is not None
    store.secret["metadata"]["annotations"] = {"backup.example/keep": "yes"}
    clock.now += timedelta(days=61)
    await identity(store, clock).load()
    assert store.secret["metadata"]["annotations"] == {"backup.example/keep": "yes"}
    assert store.writes == 2


async def test_a_given_one_is_used_and_never_written() -> None:
    store, clock = Store(), Clock()
    kept = advanced(Kept(), NAMES, START)
    store.secret = foreign(kept)
    seen: list[Served] = []
    mine = identity(store, clock, on_change=seen.append)
    assert await mine.load() == Served(kept.chain, kept.key, kept.bundle)
    clock.now += timedelta(days=4000)
    await mine.load()
    renewed = advanced(Kept(), NAMES, clock.now)
    store.secret = foreign(renewed)
    await mine.load()
    assert [each.chain for each in seen] == [kept.chain, renewed.chain]
    assert store.writes == 0


async def test_a_given_one_that_is_empty_is_told() -> None:
    store = Store()
    store.secret = foreign(Kept())
    with pytest.raises(IdentityError, match=r"not ours and lacks tls\.crt"):
        await identity(store).load()
    assert store.writes == 0


async def test_one_of_ours_that_somebody_deletes_is_put_back_as_it_was() -> None:
    store, clock = Store(), Clock()
    seen: list[Served] = []
    mine = identity(store, clock, on_change=seen.append)
    before = await mine.load()
    data = store.data
    store.delete()
    assert await mine.load() == before
    assert store.data == data, "the authority's key, too"
    assert seen == [before]
    clock.now += timedelta(days=61)
    store.delete()
    renewed = await mine.load()
    assert (renewed.chain != before.chain, renewed.ca_bundle) == (True, before.ca_bundle)


async def test_a_given_one_that_somebody_deletes_is_not_made_by_us() -> None:
    store = Store()
    kept = advanced(Kept(), NAMES, START)
    store.secret = foreign(kept)
    mine = identity(store)
    before = await mine.load()
    store.delete()
    with pytest.raises(IdentityError, match="is gone; whoever made it"):
        await mine.load()
    assert (store.writes, mine.served) == (0, before)
    store.secret = foreign(kept)
    assert await mine.load() == before


@pytest.mark.parametrize("spoilt", ["chain", "key", "bundle"])
async def test_a_given_one_that_turns_to_garbage_is_not_taken(spoilt: str) -> None:
    store = Store()
    kept = advanced(Kept(), NAMES, START)
    store.secret = foreign(kept)
    seen: list[Served] = []
    mine = identity(store, on_change=seen.append)
    before = await mine.load()
    store.secret = foreign(msgspec.structs.replace(kept, **{spoilt: b"garbage"}))
    for _ in range(2):
        with pytest.raises(IdentityError, match="holds no pair of"):
            await mine.load()
    assert (mine.served, mine.ca_bundle, seen) == (before, kept.bundle, [before])
    other = advanced(Kept(), NAMES, START)
    store.secret = foreign(msgspec.structs.replace(kept, key=other.key))
    with pytest.raises(IdentityError):
        await mine.load()


async def test_an_older_look_does_not_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Store(), Clock()
    mine = identity(store, clock)
    await mine.load()
    old, read, release = copy.deepcopy(store.secret), store.read, asyncio.Event()

    async def slow(*words: str, namespace: str) -> Object | None:
        monkeypatch.setattr(store, "read", read)
        await release.wait()
        return old

    monkeypatch.setattr(store, "read", slow)
    first = asyncio.create_task(mine.load())
    await asyncio.sleep(0)
    clock.now += timedelta(days=61)
    await identity(store, clock).load()
    clock.now -= timedelta(days=61)
    second = asyncio.create_task(mine.load())
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(first, second)
    assert mine.served == await identity(store, clock).load()


async def test_what_is_served_stays_when_the_server_is_away() -> None:
    store, clock = Store(), Clock()
    seen = asyncio.Event()
    mine = identity(store, clock, every_s=0.01, on_change=lambda _: seen.set())
    before = await mine.load()
    seen.clear()
    store.failure = ApiError(0, "NotConnected", "nobody is there")
    task = asyncio.create_task(mine.run())
    try:
        await asyncio.sleep(0.05)
        assert mine.served == before
        assert not task.done()
        store.failure = None
        clock.now += timedelta(days=61)
        await asyncio.wait_for(seen.wait(), 10)
        assert mine.served != before
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_refusal_at_the_start_is_told() -> None:
    store = Store()
    store.failure = ApiError(403, "Forbidden", "no")
    with pytest.raises(ApiError, match="no"):
        await identity(store).load()
