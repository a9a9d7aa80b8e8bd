"""Following lists: every fault of a server, and what the reader gets to see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.clock import without_stalls
from tests.kube.scripted import (
    GATEWAY_API,
    ROUTES,
    Scripted,
    bookmark,
    client_of,
    cut,
    kinds,
    line,
    listing,
    names,
    route,
    status,
    status_of,
    stream,
)

from tripylon.api.kinds import KINDS, Kind
from tripylon.api.routes import HTTPRoute
from tripylon.kube import reflector
from tripylon.kube.client import Client
from tripylon.kube.watch import Batch, Watcher, joined
from tripylon.values import Ref

SECRETS = "/api/v1/secrets"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def kind(name: str) -> Kind:
    return next(each for each in KINDS if each.name == name)


def ref(name: str, *, kind_name: str = "HTTPRoute", group: str = "gateway.networking.k8s.io") -> Ref:
    return Ref(group, kind_name, "shop", name)


def secret(name: str, version: int, type: str = "Opaque", namespace: str = "shop") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)}, "type": type}


def gone(obj: dict[str, Any], version: int) -> bytes:
    return line("DELETED", {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}})


class Reader:
    """Takes batches and remembers what they come to."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.batches: list[Batch] = []
        self.held: dict[Ref, Any] = {}

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(60):
            while not true():
                batch = await self.watcher.next()
                self.batches.append(batch)
                self.held.update((each.ref, each) for each in batch.put)
                for each in batch.delete:
                    self.held.pop(each, None)

    async def synced(self) -> None:
        await self.until(lambda: self.batches and self.batches[-1].synced)

    @property
    def names(self) -> list[str]:
        return sorted(each.name for each in self.held)

    def path_of(self, name: str) -> str:
        found = self.held.get(ref(name))
        assert isinstance(found, HTTPRoute)
        return found.spec.rules[0].matches[0].path.value


@asynccontextmanager
async def reading_by(client: Client, *names: str, **options: Any) -> AsyncIterator[Reader]:
    """A watcher of some kinds that runs, and has not ended by itself when the block does."""
    watcher = Watcher(client, [kind(name) for name in names], **options)
    task = asyncio.create_task(watcher.run())
    try:
        yield Reader(watcher)
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def reading(
    server: Scripted, *names: str, serve: bool = True, watch_idle: float = 150.0, **options: Any
) -> AsyncIterator[Reader]:
    if serve:
        server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
        server.answer("GET", "/api/v1", kinds(("Secret", "secrets"), ("Service", "services")))
        if not server.lists[CRDS]:
            server.lists[CRDS].append(listing(version=1))
    async with (
        client_of(server, attempts=1, watch_idle=watch_idle) as client,
        reading_by(client, *names or ("HTTPRoute",), **options) as reader,
    ):
        yield reader


def versions(server: Scripted, path: str = ROUTES) -> list[str]:
    return [each.query["resourceVersion"] for each in server.asked(path, watch=True)]


async def test_lists_then_follows(server: Scripted) -> None:
    server.lists[ROUTES].extend((listing(route("a", 1), version=5, token="t"), listing(route("b", 2), version=5)))
    changed, removed = line("MODIFIED", route("a", 7, path="/new")), gone(route("b", 2), 8)
    server.watches[ROUTES].append(stream(line("ADDED", route("c", 6)), changed, removed, then="stay"))
    async with reading(server) as reader:
        await reader.synced()
        await reader.until(lambda: reader.names == ["a", "c"] and reader.path_of("a") == "/new")
    assert versions(server) == ["5"]
    assert all(len({each.ref for each in batch.put}) == len(batch.put) for batch in reader.batches)


async def test_resumes_a_broken_stream_where_it_was(server: Scripted) -> None:
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    first = stream(line("ADDED", route("b", 6)), bookmark(40), then="cut")
    server.watches[ROUTES].extend((first, cut, status(503), stream(line("ADDED", route("c", 41)), then="stay")))
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a", "b", "c"])
    assert versions(server) == ["5", "40", "40", "40"]
    assert len(server.asked(ROUTES, watch=False)) == 1


async def test_goes_on_when_the_server_ends_the_watch(server: Scripted) -> None:
    server.lists[ROUTES].append(listing(version=5))
    server.watches[ROUTES].extend(
        (stream(line("ADDED", route("a", 6))), stream(line("ADDED", route("b", 7)), then="stay"))
    )
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a", "b"])
    assert versions(server) == ["5", "6"]


@pytest.mark.parametrize(
    "expired",
    [
        stream(line("ERROR", status_of(410, "Expired"))),
        status(410, "Expired"),
        status(400, "BadRequest"),
        stream(bookmark(3)),
        stream(b"no JSON\n"),
    ],
    ids=["in stream", "at once", "refused", "server went back", "garbage"],
)
async def test_lists_again_and_tells_deletions_that_nobody_saw(server: Scripted, expired: Any) -> None:
    again = listing(route("b", 2), route("c", 9, path="/new"), version=10)
    server.lists[ROUTES].extend((listing(route("a", 1), route("b", 2), route("c", 3), version=5), again))
    server.watches[ROUTES].append(expired)
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a", "b", "c"])
        await reader.until(lambda: reader.names == ["b", "c"] and reader.path_of("c") == "/new")
        await server.until(lambda: versions(server) == ["5", "10"])
    told = [each.metadata.name for batch in reader.batches for each in batch.put]
    assert sorted(told) == ["a", "b", "c", "c"], "what did not change is not told twice"


async def test_an_error_in_the_stream_that_is_no_expiry_resumes(server: Scripted) -> None:
    server.lists[ROUTES].append(listing(version=5))
    error = line("ERROR", status_of(500, "InternalError", "etcd is slow"))
    server.watches[ROUTES].extend((stream(error), stream(line("ADDED", route("a", 6)), then="stay")))
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a"])
    assert versions(server) == ["5", "5"]


async def test_a_list_that_grew_too_old_is_begun_anew_and_at_last_asked_for_whole(server: Scripted) -> None:
    first = listing(route("a", 1), version=5, token="t")
    old = status(410, "Expired", "continue token is too old")
    whole = listing(route("b", 2), version=9)
    server.lists[ROUTES].extend((first, old, first, old, whole))
    async with reading(server) as reader:
        await reader.synced()
        assert reader.names == ["b"]
    assert [each.query.get("limit") for each in server.asked(ROUTES, watch=False)] == ["500", "500", "500", "500", None]
    assert versions(server) == ["9"]


async def test_a_list_that_is_refused_for_load_is_asked_for_later(server: Scripted) -> None:
    server.lists[ROUTES].extend(
        (status(429, "TooManyRequests", **{"Retry-After": "1"}), listing(route("a", 1), version=5))
    )
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a"])


async def test_what_is_known_serves_on_while_the_server_is_away(server: Scripted) -> None:
    server.lists[ROUTES].extend(
        (listing(route("a", 1), version=5), status(500), cut, listing(route("a", 1), version=9))
    )
    server.watches[ROUTES].append(status(410, "Expired"))
    async with reading(server) as reader:
        await reader.synced()
        await server.until(lambda: versions(server) == ["5", "9"])
        await reader_states(reader, {"live"})
        await asyncio.sleep(0.05)
        assert reader.watcher.synced
        assert [(each.state, each.message) for each in reader.watcher.states()] == [("live", "")]
    assert reader.names == ["a"]
    assert len(reader.batches) == 1, "there was nothing to tell"


async def test_an_outage_costs_no_list_and_ends_as_soon_as_the_server_answers(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one list that first gets through wakes the other, and a silent watch is enough to say that all is well."""
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    server.lists["/api/v1/services"].append(listing(version=7))
    away = asyncio.Event()

    async def broken(request: Any) -> Any:
        await away.wait()
        return await cut(request)

    for path in (ROUTES, "/api/v1/services"):
        server.watches[path].extend((broken, *[cut] * 3))
    async with reading(server, "HTTPRoute", "Service") as reader:
        await reader.synced()
        await server.until(lambda: versions(server) and versions(server, "/api/v1/services"))
        away.set()
        await reader_states(reader, {"failing"})
        assert reader.watcher.synced
        await server.until(lambda: len(versions(server)) == len(versions(server, "/api/v1/services")) == 5)
        await reader_states(reader, {"live"})
    assert versions(server) == ["5"] * 5
    assert versions(server, "/api/v1/services") == ["7"] * 5
    assert len(server.asked(ROUTES, watch=False)) == 1
    assert reader.names == ["a"]
    said = capsys.readouterr().out
    assert said.count("the API server cannot be reached") == said.count("the API server answers again") == 1


async def reader_states(reader: Reader, states: set[str]) -> None:
    async with asyncio.timeout(60):
        while {each.state for each in reader.watcher.states()} != states:
            await asyncio.sleep(0.005)


async def test_a_watch_that_ends_at_once_each_time_is_asked_for_once_a_second(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "_QUICK_END_S", 0.05)
    server.lists[ROUTES].append(listing(version=5))
    server.watches[ROUTES].extend((*[stream()] * 20, stream(line("ADDED", route("a", 6)), then="stay")))
    start = asyncio.get_running_loop().time()
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a"])
    took = asyncio.get_running_loop().time() - start
    assert took >= 20 * 0.05, "the waits are kept; that they do not grow is seen by the time-out"
    assert versions(server)[:21] == ["5"] * 21
    assert len(server.asked(ROUTES, watch=False)) == 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, in seconds, between what routes are asked for; nobody waits there."""
    found: list[float] = []
    really = reflector.Reflector._pause

    async def pause(followed: reflector.Reflector, seconds: float) -> None:
        if followed.title != "httproutes":
            await really(followed, seconds)
            return
        found.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(reflector.Reflector, "_pause", pause)
    return found


@pytest.mark.parametrize("refusal", [status(403, "Forbidden"), status(410, "Expired")])
async def test_a_server_that_lists_but_lets_nobody_listen_is_asked_less_and_less(
    server: Scripted, waits: list[float], refusal: Any
) -> None:
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    server.watches[ROUTES].extend((*[refusal] * 5, stream(bookmark(6), then="stay")))
    async with reading(server) as reader:
        await reader.synced()
        await server.until(lambda: len(versions(server)) == 6)
        await reader_states(reader, {"live"})
    assert len(waits) == 5
    assert waits == sorted(waits), "each wait is longer than the last"


async def test_a_list_is_live_as_soon_as_its_watch_is_let_in(
    server: Scripted, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A new kind is refused for a moment (429), then listed, then its watch is refused, then it is let in, silent."""
    busy = status(429, "TooManyRequests", "storage is (re)initializing")
    server.lists[ROUTES].extend((busy, listing(route("a", 1), version=5)))
    server.watches[ROUTES].extend((busy, stream(then="stay")))
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a"])
        await reader_states(reader, {"live"})
    said = capsys.readouterr().out
    assert said.count("a kind cannot be followed just now") == said.count("following a kind now") == 1
    assert len(waits) == 2


async def test_a_server_that_is_there_again_is_asked_soon_even_if_it_still_refuses(
    server: Scripted, waits: list[float]
) -> None:
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    server.watches[ROUTES].extend((*[cut] * 6, status(503), status(503), stream(then="stay")))
    async with reading(server) as reader:
        await server.until(lambda: len(versions(server)) == 9)
        await reader_states(reader, {"live"})
    *away, first, second = waits
    assert away == sorted(away)
    assert first <= 0.3 < away[-1], "the first refusal of a server that was away begins anew"
    assert second > first, "the next ones do not"


async def test_a_list_of_nonsense_costs_only_its_kind(server: Scripted, waits: list[float]) -> None:
    server.lists[ROUTES].extend((listing({"metadata": {"name": 7}}, version=4), listing(route("a", 1), version=5)))
    async with reading(server) as reader:
        await reader.until(lambda: reader.names == ["a"])
    assert len(waits) == 1


async def test_a_peer_that_vanished_without_a_word_is_left(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    without_stalls(monkeypatch)
    server.lists[ROUTES].append(listing(version=5))
    silent = stream(bookmark(8), then="stay")
    server.watches[ROUTES].extend((silent, stream(line("ADDED", route("a", 9)), then="stay")))
    async with reading(server, watch_idle=0.2) as reader:
        await reader.until(lambda: reader.names == ["a"])
    assert versions(server)[:2] == ["5", "8"]
    assert len(server.asked(ROUTES, watch=False)) == 1


# --- what cannot be read ---------------------------------------------------------------------------------------


async def test_an_object_that_cannot_be_read_is_a_finding(server: Scripted) -> None:
    bad = route("bad", 6)
    bad["spec"]["rules"] = "none"
    server.lists[ROUTES].append(
        listing(route("bad", 1), {**bad, "metadata": {**bad["metadata"], "name": "worse"}}, version=5)
    )
    server.watches[ROUTES].append(stream(line("MODIFIED", bad), line("ADDED", route("good", 7)), then="stay"))
    async with reading(server) as reader:
        await reader.until(lambda: "good" in reader.names)
    assert reader.names == ["bad", "good"], "the last version serves on"
    found = [each for batch in reader.batches for each in batch.findings]
    assert sorted(each.object.name for each in found) == ["bad", "worse"]
    assert all(each.reason == "Unreadable" and "spec.rules" in each.message and each.hint for each in found)


async def test_a_thousand_objects_that_cannot_be_read_are_told_once_each(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [{**route(f"bad-{index:03}", index + 1), "spec": {"rules": "none"}} for index in range(1000)]
    pages = [listing(*bad[:500], version=2000, token="t"), listing(*bad[500:], route("good", 1999), version=2000)]
    server.lists[ROUTES].extend((*pages, *pages))
    server.watches[ROUTES].append(status(410, "Expired"))
    async with reading(server) as reader:
        await reader.until(lambda: "good" in reader.names)
        await server.until(lambda: len(versions(server)) == 2)
        assert len(server.asked(ROUTES, watch=False)) == 4
        assert len(reader.watcher._inbox) == 0
        assert reader.watcher.synced
    found = [each.object for batch in reader.batches for each in batch.findings]
    assert len(found) == len(set(found)) == 1000
    assert reader.names == ["good"]
    assert capsys.readouterr().out.count("an object cannot be read") == 1000


async def test_managed_fields_are_left_out(server: Scripted) -> None:
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    async with reading(server) as reader:
        await reader.synced()
    assert not hasattr(reader.held[ref("a")].metadata, "managed_fields")


# --- many kinds ------------------------------------------------------------------------------------------------


async def test_a_missing_kind_is_waited_for(server: Scripted) -> None:
    server.answer("GET", "/api/v1", kinds(("Service", "services")))
    server.answer("GET", GATEWAY_API, *[status(404)] * 4, kinds(("HTTPRoute", "httproutes")))
    server.lists["/api/v1/services"].append(listing({"metadata": {"name": "s", "namespace": "shop"}}, version=2))
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    async with reading(server, "HTTPRoute", "Service", serve=False) as reader:
        await reader.synced()
        assert reader.names == ["s"]
        states = {each.title: each.state for each in reader.watcher.states()}
        assert states == {"httproutes": "absent", "services": "live"}
        await reader.until(lambda: reader.names == ["a", "s"])
    service = reader.held[ref("s", kind_name="Service", group="")]
    assert (service.api_version, service.kind) == ("v1", "Service")


async def test_a_kind_that_nobody_can_install_is_not_missed_aloud(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("GET", GATEWAY_API, status(404))
    server.answer("GET", "/apis/certificates.k8s.io/v1", status(404))
    server.answer("GET", "/apis/certificates.k8s.io/v1beta1", status(404))
    async with reading(server, "HTTPRoute", "ClusterTrustBundle", serve=False) as reader:
        await reader.synced()
        assert {each.state for each in reader.watcher.states()} == {"absent"}
    waited = [line for line in capsys.readouterr().out.splitlines() if "waiting for a kind" in line]
    assert len(waited) == 1
    assert "httproutes" in waited[0]


async def test_an_older_version_will_do(server: Scripted) -> None:
    path = "/apis/gateway.networking.k8s.io/v1beta1"
    server.answer("GET", path, kinds(("HTTPRoute", "httproutes")))
    server.lists[f"{path}/httproutes"].append(listing(route("a", 1), version=5))
    async with reading(server, serve=False) as reader:
        await reader.until(lambda: reader.names == ["a"])


async def test_another_version_takes_over_when_one_is_served_no_longer(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "_ABSENT_LOOKS_S", (0.01, 0.02))
    older = "/apis/gateway.networking.k8s.io/v1beta1"
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")), status(404))
    server.answer("GET", older, status(404), kinds(("HTTPRoute", "httproutes")))
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    server.watches[ROUTES].append(status(404))
    server.lists[f"{older}/httproutes"].append(listing(route("a", 1), route("b", 6), version=7))
    async with reading(server, serve=False) as reader:
        await reader.until(lambda: reader.names == ["a", "b"])
    assert not any(batch.delete for batch in reader.batches)


async def test_a_kind_that_is_put_back_is_followed_anew(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_ABSENT_LOOKS_S", (0.01, 0.02))
    known = kinds(("HTTPRoute", "httproutes"))
    server.answer("GET", GATEWAY_API, known, *[status(404)] * 4, known)
    server.lists[ROUTES].extend((listing(route("a", 1), version=5), listing(route("a", 11), version=12)))
    server.watches[ROUTES].append(status(404))
    async with reading(server, serve=False) as reader:
        await reader.until(lambda: reader.names == ["a"])
        await reader.until(lambda: not reader.names)
        await reader.until(lambda: reader.names == ["a"])
    assert reader.held[ref("a")].metadata.resource_version == "11"


async def test_objects_of_a_kind_that_was_removed_are_gone(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_ABSENT_LOOKS_S", (0.01, 0.02))
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")), status(404))
    server.lists[ROUTES].extend((listing(route("a", 1), version=5), status(404)))
    server.watches[ROUTES].append(status(410, "Expired"))
    async with reading(server, serve=False) as reader:
        await reader.until(lambda: reader.names == ["a"])
        await reader.until(lambda: not reader.names)


async def test_one_404_removes_nothing(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "_ABSENT_LOOKS_S", (0.01, 0.02))
    known = kinds(("HTTPRoute", "httproutes"))
    server.answer("GET", GATEWAY_API, known, status(404), known)
    server.lists[ROUTES].extend((listing(route("a", 1), version=5), status(404), listing(route("a", 1), version=5)))
    server.watches[ROUTES].append(status(410, "Expired"))
    async with reading(server, serve=False) as reader:
        await reader.synced()
        await server.until(lambda: len(versions(server)) == 2)
        assert reader.names == ["a"]
    assert not any(batch.delete for batch in reader.batches)


async def test_a_forbidden_kind_is_told_and_the_others_work(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    allowed = listing({"metadata": {"name": "s", "namespace": "shop", "resourceVersion": "1"}}, version=2)
    server.lists["/api/v1/services"].extend((*[status(403, "Forbidden", "cannot list services")] * 4, allowed))
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    async with reading(server, "HTTPRoute", "Service") as reader:
        await reader.synced()
        assert reader.names == ["a"]
        state = next(each for each in reader.watcher.states() if each.title == "services")
        remedy = "grant list and watch of services in all namespaces"
        assert (state.state, state.message, state.settled) == ("forbidden", f"cannot list services; {remedy}", True)
        await reader.until(lambda: reader.names == ["a", "s"])
    assert capsys.readouterr().out.count("no permission to follow a kind") == 1


async def test_definitions_that_may_not_be_read_are_told_and_hold_up_nobody(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    server.lists[CRDS].append(status(403, "Forbidden", "cannot list definitions"))
    async with reading(server) as reader:
        await reader.synced()
        await server.until(lambda: len(server.asked(CRDS)) >= 2)
    assert reader.names == ["a"]
    said = capsys.readouterr().out
    assert said.count("no permission to follow a kind") == 1
    assert "grant list and watch of customresourcedefinitions.apiextensions.k8s.io cluster-wide" in said


async def test_follows_the_namespaces_named(server: Scripted) -> None:
    for namespace in ("one", "two"):
        path = f"{GATEWAY_API}/namespaces/{namespace}/httproutes"
        server.lists[path].append(listing(route(namespace, 1, namespace=namespace), version=5))
    async with reading(server, namespaces=("two", "one")) as reader:
        await reader.synced()
        assert reader.names == ["one", "two"]
    assert not server.asked(ROUTES)


async def test_asks_only_for_what_is_needed(server: Scripted) -> None:
    server.lists[SECRETS].append(listing(version=5))
    async with reading(server, "Secret") as reader:
        await reader.synced()
        await server.until(lambda: len({each.path for each in server.requests if "watch" in each.query} - {CRDS}) == 1)
    for asked in server.asked(SECRETS):
        assert asked.query["fieldSelector"] == "type=kubernetes.io/tls"


# --- Secrets by name -------------------------------------------------------------------------------------------


def wanted(*names_: str) -> Iterable[Ref]:
    return [ref(name, kind_name="Secret", group="") for name in names_]


async def test_secrets_by_name_only(server: Scripted) -> None:
    path = "/api/v1/namespaces/shop/secrets"
    server.lists[path].append(listing(secret("a", 1), version=5))
    async with reading(server, "Secret", secret_namespaces=()) as reader:
        await reader.synced()
        reader.watcher.want(wanted("a"))
        await reader.until(lambda: reader.names == ["a"])
        await reader.synced()
        reader.watcher.want(wanted())
        await reader.until(lambda: not reader.names)
    assert not server.asked(SECRETS)
    assert {each.query["fieldSelector"] for each in server.asked(path)} == {"metadata.name=a"}


async def test_secrets_are_listed_where_that_is_allowed_and_followed_by_name_elsewhere(
    server: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, named, closed = (f"/api/v1/namespaces/{name}/secrets" for name in ("listed", "named", "closed"))
    server.lists[listed].append(listing(secret("l", 1, "kubernetes.io/tls", namespace="listed"), version=5))
    server.lists[named].append(listing(secret("n", 1, namespace="named"), version=5))
    server.lists[closed].append(status(403, "Forbidden", 'cannot list resource "secrets"'))
    async with reading(server, "Secret", secret_namespaces=("listed",)) as reader:
        await reader.synced()
        assert reader.names == ["l"]
        places = {"l": "listed", "n": "named", "c": "closed"}
        reader.watcher.want([Ref("", "Secret", place, name) for name, place in places.items()])
        await reader.until(lambda: reader.names == ["l", "n"])
        await reader.synced()
        states = {each.title: each for each in reader.watcher.states()}
        await server.until(lambda: len(server.asked(closed)) >= 5)
    assert sorted(states) == ["secrets closed/c", "secrets listed", "secrets named/n"]
    assert states["secrets closed/c"].state == "forbidden"
    assert states["secrets closed/c"].message == (
        'cannot list resource "secrets"; grant list and watch of secrets in namespace closed, '
        "be it only of resourceNames [c]"
    )
    assert capsys.readouterr().out.count("no permission to follow a kind") == 1
    assert not server.asked(SECRETS)


async def test_wanted_secrets_that_may_not_be_read_are_named_until_they_may_or_nobody_wants_them(
    server: Scripted,
) -> None:
    closed = "/api/v1/namespaces/closed/secrets"
    refused = status(403, "Forbidden", 'cannot list resource "secrets"')
    server.lists[closed].extend((refused, refused, listing(secret("a", 1, namespace="closed"), version=5), refused))
    one, other = Ref("", "Secret", "closed", "a"), Ref("", "Secret", "closed", "b")

    def withheld() -> list[list[str]]:
        return [sorted(map(str, each.withheld)) for each in reader.batches if each.withheld is not None]

    async with reading(server, "Secret", secret_namespaces=()) as reader:
        await reader.synced()
        reader.watcher.want([one])
        await reader.until(lambda: reader.names == ["a"])
        await reader.until(lambda: withheld() == [["closed/a"], []])
        reader.watcher.want([other])
        await reader.until(lambda: withheld()[-1] == ["closed/b"])
        reader.watcher.want([])
        await reader.until(lambda: withheld()[-1] == [])
    assert joined(reader.batches).withheld == {}


async def test_secrets_that_the_whole_list_has_are_not_followed_twice(server: Scripted) -> None:
    path = "/api/v1/namespaces/shop/secrets"
    server.lists[SECRETS].append(listing(secret("tls", 1, "kubernetes.io/tls"), version=5))
    server.lists[path].append(listing(secret("opaque", 2), version=5))
    release = asyncio.Event()

    async def later(request: Any) -> Any:
        await release.wait()
        return await stream(gone(secret("tls", 1), 9), then="stay")(request)  # type: ignore[operator]

    server.watches[SECRETS].append(later)
    async with reading(server, "Secret") as reader:
        reader.watcher.want(wanted("tls", "opaque"))
        await reader.until(lambda: reader.names == ["opaque", "tls"])
        assert {each.query["fieldSelector"] for each in server.asked(path)} == {"metadata.name=opaque"}
        release.set()
        await reader.until(lambda: reader.names == ["opaque"])
        await server.until(lambda: len({each.query["fieldSelector"] for each in server.asked(path)}) == 2)


async def test_news_of_a_secret_cost_nothing_for_the_others_that_are_wanted(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [f"s{number}" for number in range(100)]
    server.lists[SECRETS].append(listing(*(secret(name, 1, "kubernetes.io/tls") for name in every), version=5))
    news = (line("MODIFIED", secret(name, 6, "kubernetes.io/tls")) for name in every)
    server.watches[SECRETS].append(stream(b"".join(news), then="stay"))
    looks = 0
    is_single = Watcher._is_single

    def counted(watcher: Watcher, ref: Ref) -> bool:
        nonlocal looks
        looks += 1
        return is_single(watcher, ref)

    monkeypatch.setattr(Watcher, "_is_single", counted)
    async with reading(server, "Secret") as reader:
        reader.watcher.want(wanted(*every))
        await reader.until(
            lambda: [each.metadata.resource_version for each in reader.held.values()] == ["6"] * len(every)
        )
    assert looks < 10 * len(every)


async def test_a_secret_made_anew_with_another_type_is_kept(server: Scripted) -> None:
    """The list by type tells that the old one is gone, after the watch by name told of the new one."""
    single = "/api/v1/namespaces/shop/secrets"
    server.lists[SECRETS].append(listing(secret("a", 1, "kubernetes.io/tls"), version=5))
    server.lists[single].append(listing(secret("a", 8), version=9))
    async with reading(server, "Secret") as reader:
        await reader.synced()
        watcher = reader.watcher
        whole = watcher._lists["Secret", ""]
        single_list = watcher._follow(kind("Secret"), "shop", "a")
        await reader.until(lambda: reader.held[ref("a", kind_name="Secret", group="")].type == "Opaque")
        await watcher._take(whole, ref("a", kind_name="Secret", group=""), None, "")
        await watcher._take(whole, ref("a", kind_name="Secret", group=""), b"{}", "2")
        assert len(watcher._inbox) == 0
        single_list.stop()


# --- a busy reader ---------------------------------------------------------------------------------------------


async def test_news_of_one_object_are_merged_while_the_reader_is_busy(server: Scripted) -> None:
    server.lists[ROUTES].append(listing(version=5))
    changes = [line("MODIFIED", route("a", version, path=f"/{version}")) for version in range(6, 106)]
    server.watches[ROUTES].append(stream(b"".join(changes), gone(route("b", 1), 200), bookmark(300), then="cut"))
    async with reading(server) as reader:
        await server.until(lambda: "300" in versions(server))
        await reader.until(lambda: reader.names == ["a"])
    puts = [each for batch in reader.batches for each in batch.put]
    assert names(puts) == ["a"]
    assert reader.path_of("a") == "/105"


async def test_the_server_is_read_no_faster_than_the_reader_takes(server: Scripted) -> None:
    many = [route(f"r{index:03}", index + 1, path="/" + "x" * 1000) for index in range(100)]
    server.lists[ROUTES].extend((listing(*many[:50], version=200, token="t"), listing(*many[50:], version=200)))
    async with reading(server, max_waiting_bytes=10_000, batch_objects=7) as reader:
        await server.until(lambda: server.asked(ROUTES))
        await asyncio.sleep(0.2)
        assert len(reader.watcher._inbox) < 10
        assert len(server.asked(ROUTES)) == 1, "the second page waits"
        await reader.synced()
    assert len(reader.held) == 100
    assert max(len(batch.put) for batch in reader.batches) == 7
    assert [batch.synced for batch in reader.batches].count(True) == 1
