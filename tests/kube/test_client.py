"""Requests, lists and watches, and what the client does when a server errs."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.kube.certificates import make_authority
from tests.kube.scripted import (
    GATEWAY_API,
    ROUTES,
    Scripted,
    client_of,
    cut,
    kinds,
    line,
    listing,
    names,
    route,
    status,
    stream,
)

from tripylon.kube.client import METADATA_ONLY, Client
from tripylon.kube.config import ClusterConfig, Pem, User
from tripylon.kube.failures import ApiError, Backoff, of_answer

ONE = f"{GATEWAY_API}/namespaces/shop/httproutes/one"


def ok(value: object = None) -> web.Response:
    return web.json_response(value or {})


async def said(request: web.Request) -> web.StreamResponse:
    return ok({"said": True})


async def test_is_let_in_by_its_token(server: Scripted) -> None:
    server.answer("GET", "/version", said)
    async with client_of(server) as client:
        assert json.loads(await client.get("/version")) == {"said": True}
    assert server.requests[0].headers["Authorization"] == "Bearer secret"
    assert server.requests[0].headers["User-Agent"].startswith("tripylon/")


async def test_takes_up_a_token_that_was_replaced(server: Scripted, tmp_path: Path) -> None:
    server.answer("GET", "/version", said)
    token = tmp_path / "token"
    token.write_text("first\n")
    async with client_of(server, user=User(token_file=token)) as client:
        await client.get("/version")
        (tmp_path / "next").write_text("second\n")
        (tmp_path / "next").replace(token)
        await client.get("/version")
        token.unlink()
        await client.get("/version")
    sent = [each.headers["Authorization"] for each in server.requests]
    assert sent == ["Bearer first", "Bearer second", "Bearer second"]


async def test_401_reads_the_token_again_though_its_time_stands(server: Scripted, tmp_path: Path) -> None:
    server.answer("GET", "/version", status(401, "Unauthorized"), said)
    token = tmp_path / "token"
    token.write_text("old")
    async with client_of(server, user=User(token_file=token)) as client:
        assert await client.get("/version")
        assert len(server.requests) == 2
        server.answers.clear()
        server.answer("GET", "/version", status(401, "Unauthorized"))
        with pytest.raises(ApiError) as caught:
            await client.get("/version")
    assert caught.value.status == 401
    assert len(server.requests) == 4


@pytest.mark.parametrize("trouble", [status(500), status(503), status(504), status(429), cut])
async def test_asks_again_when_the_server_is_in_trouble(server: Scripted, trouble: object) -> None:
    server.answer("GET", "/version", trouble, said)  # type: ignore[arg-type]
    async with client_of(server) as client:
        assert json.loads(await client.get("/version")) == {"said": True}


async def test_gives_up_after_some_attempts(server: Scripted) -> None:
    server.answer("GET", "/version", status(503, "ServiceUnavailable", "starting"))
    async with client_of(server, attempts=2) as client:
        with pytest.raises(ApiError) as caught:
            await client.get("/version")
    assert (caught.value.status, caught.value.reason, str(caught.value)) == (503, "ServiceUnavailable", "starting")
    assert len(server.requests) == 2


async def test_a_refusal_is_final(server: Scripted) -> None:
    server.answer("GET", "/version", status(403, "Forbidden", "you may not"))
    async with client_of(server) as client:
        with pytest.raises(ApiError, match="you may not") as caught:
            await client.get("/version")
    assert caught.value.forbidden
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("trouble", "times"),
    [(status(500), 1), (cut, 1), (status(429), 3), (status(503, **{"Retry-After": "0"}), 3)],
)
async def test_makes_nothing_twice(server: Scripted, trouble: object, times: int) -> None:
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
    path = f"{GATEWAY_API}/namespaces/shop/httproutes"
    server.answer("POST", path, trouble)  # type: ignore[arg-type]
    async with client_of(server) as client:
        with pytest.raises(ApiError):
            await client.create(route("one", 0))
    assert len(server.asked(path, method="POST")) == times


async def test_nobody_listens() -> None:
    lonely = Client(ClusterConfig(server="http://127.0.0.1:1"), attempts=2)
    async with lonely as client:
        with pytest.raises(ApiError) as caught:
            await client.get("/version")
    assert caught.value.unreachable
    assert caught.value.reason == "NotConnected"


async def test_no_answer_in_time(server: Scripted) -> None:
    server.answer("GET", "/version", stream(then="stay"))
    async with client_of(server, attempts=1, request=0.2) as client:
        with pytest.raises(ApiError, match="no answer in time") as caught:
            await client.get("/version")
    assert caught.value.unreachable


def test_an_error_in_other_words_than_the_servers() -> None:
    error = of_answer(502, b"<html>bad gateway</html>", "7")
    assert (error.status, error.reason, error.retry_after) == (502, "", 7.0)
    assert "bad gateway" in str(error)
    asked = of_answer(429, b'{"kind": "Status", "code": 429, "details": {"retryAfterSeconds": 3}}')
    assert asked.retry_after == 3.0


def test_waits_grow_and_never_pass_the_most() -> None:
    backoff = Backoff(first=0.2, most=30)
    waits = [backoff.next() for _ in range(12)]
    assert 0.2 <= waits[0] <= 0.3
    assert all(wait <= 30 for wait in waits)
    assert waits[-1] == 30
    assert backoff.next(45) == 45
    backoff.reset()
    assert backoff.next() <= 0.3


# --- objects ---------------------------------------------------------------------------------------------------


async def test_applies_on_the_server(server: Scripted) -> None:
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
    server.answer("PATCH", ONE, said)
    async with client_of(server) as client:
        assert await client.apply(route("one", 0), field_manager="tripylon") == {"said": True}
    asked = server.asked(ONE, method="PATCH")[0]
    assert asked.query == {"fieldManager": "tripylon", "force": "true"}
    assert asked.headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(asked.body) == route("one", 0)


async def test_changes_a_status_of_a_version(server: Scripted) -> None:
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
    server.answer("PATCH", f"{ONE}/status", said)
    words = ("gateway.networking.k8s.io/v1", "HTTPRoute", "one")
    async with client_of(server) as client:
        await client.patch_status(*words, {"status": {"parents": []}}, namespace="shop", resource_version="7")
        await client.patch_status(*words, [{"op": "add", "path": "/status", "value": {}}], namespace="shop")
    merge, patch = server.asked(f"{ONE}/status", method="PATCH")
    assert json.loads(merge.body) == {"status": {"parents": []}, "metadata": {"resourceVersion": "7"}}
    assert merge.headers["Content-Type"] == "application/merge-patch+json"
    assert patch.headers["Content-Type"] == "application/json-patch+json"


async def test_deletes_what_was_meant(server: Scripted) -> None:
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
    server.answer("DELETE", ONE, said, status(404, "NotFound"))
    words = ("gateway.networking.k8s.io/v1", "HTTPRoute", "one")
    async with client_of(server) as client:
        assert await client.delete(*words, namespace="shop", uid="u1")
        assert not await client.delete(*words, namespace="shop")
        assert await client.read(*words, namespace="shop") is None
    assert json.loads(server.asked(ONE, method="DELETE")[0].body)["preconditions"] == {"uid": "u1"}


async def test_a_kind_that_came_later_is_found(server: Scripted) -> None:
    server.answer("GET", GATEWAY_API, kinds(("Gateway", "gateways")), kinds(("HTTPRoute", "httproutes")))
    server.answer("PATCH", ONE, said)
    async with client_of(server) as client:
        assert (await client.served("gateway.networking.k8s.io/v1", "Gateway")).plural == "gateways"
        assert await client.apply(route("one", 0), field_manager="tripylon")
        with pytest.raises(ApiError) as caught:
            await client.served("gateway.networking.k8s.io/v1", "Gateway")
    assert caught.value.not_found


# --- lists and watches -----------------------------------------------------------------------------------------


async def test_lists_in_pages(server: Scripted) -> None:
    server.lists[ROUTES].extend((listing(route("a", 1), version=9, token="t"), listing(route("b", 2), version=9)))
    async with client_of(server) as client:
        pages = [page async for page in client.list_pages(ROUTES, params={"labelSelector": "x"})]
    assert [len(page.items) for page in pages] == [1, 1]
    assert [each.query for each in server.requests] == [
        {"labelSelector": "x", "limit": "500"},
        {"labelSelector": "x", "limit": "500", "continue": "t"},
    ]


async def test_an_empty_list_of_metadata_may_hold_null(server: Scripted) -> None:
    async def null(_: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "9"}, "items": None})

    async def nonsense(_: web.Request) -> web.StreamResponse:
        return web.json_response({"items": 7})

    server.lists[ROUTES].extend((null, nonsense))
    async with client_of(server) as client:
        [page] = [page async for page in client.list_pages(ROUTES, accept=METADATA_ONLY.list)]
        with pytest.raises(ApiError, match="cannot be read") as caught:
            await anext(client.list_pages(ROUTES))
    assert (page.items, page.metadata.resource_version) == ([], "9")
    assert not caught.value.unreachable, "it answered"


async def test_cuts_a_watch_into_lines_wherever_it_was_cut(server: Scripted) -> None:
    whole = line("ADDED", route("ä", 1)) + line("ADDED", route("b", 2, path="/" + "x" * 100_000)) + b"\n"
    for size in (1000, 7001, len(whole)):
        parts = [whole[start : start + size] for start in range(0, len(whole), size)]
        server.watches[ROUTES].append(stream(*parts, b'{"type": "half'))
        async with client_of(server) as client:
            found = [each async for lines in client.watch_lines(ROUTES, resource_version="1") for each in lines]
        assert [json.loads(each)["object"]["metadata"]["name"] for each in found] == ["ä", "b"]
    asked = server.requests[0].query
    assert asked["allowWatchBookmarks"] == "true"
    assert 300 <= int(asked["timeoutSeconds"]) <= 600


async def test_a_watch_that_fell_silent_counts_as_broken(server: Scripted) -> None:
    async with client_of(server, watch_idle=0.2) as client:
        with pytest.raises(ApiError) as caught:
            async for _ in client.watch_lines(ROUTES, resource_version="1"):
                pass
    assert caught.value.unreachable


async def test_objects_of_a_list_say_what_they_are(server: Scripted) -> None:
    server.answer("GET", "/api/v1", kinds(("Service", "services")))
    server.lists["/api/v1/namespaces/shop/services"].append(listing({"metadata": {"name": "a"}}, version=1))
    async with client_of(server) as client:
        found = await client.list_objects("v1", "Service", namespace="shop", labels="app=x")
    assert found == ({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}},)
    assert server.requests[-1].query["labelSelector"] == "app=x"
    assert names([]) == []


# --- TLS -------------------------------------------------------------------------------------------------------


async def test_takes_up_an_authority_that_was_replaced(tmp_path: Path) -> None:
    old, new = make_authority(tmp_path / "old"), make_authority(tmp_path / "new")
    authority = tmp_path / "ca.crt"
    authority.write_bytes(old.certificate.read_bytes())
    app = web.Application()
    app.router.add_get("/version", said)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(new.chain)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server(ssl=context)
    config = ClusterConfig(server=str(running.make_url("")).rstrip("/"), authority=Pem(path=authority))
    try:
        async with Client(config, attempts=1) as client:
            with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get("/version")
            authority.write_bytes(b"half a certif")
            with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get("/version")
            authority.write_bytes(new.certificate.read_bytes())
            assert await client.get("/version")
    finally:
        await running.close()


async def test_shows_the_client_certificate_that_is_on_disk_now(tmp_path: Path) -> None:
    """A half-written pair is passed over: the last good one is shown until the new one is whole."""
    authority, shown = make_authority(tmp_path / "made"), tmp_path / "client.pem"
    seen: list[bytes] = []

    async def who(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        seen.append(request.transport.get_extra_info("ssl_object").getpeercert(binary_form=True))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/who", who)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(authority.chain)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server(ssl=context)
    old, new = authority.chain.read_bytes(), authority.issue().read_bytes()
    user = User(certificate=Pem(path=shown), key=Pem(data=b""))
    server = str(running.make_url("")).rstrip("/")
    config = ClusterConfig(server=server, authority=Pem(path=authority.certificate), user=user)
    try:
        async with Client(config, attempts=1) as client:
            for written in (old, new[: len(new) // 3], new):
                shown.write_bytes(written)
                await client.get("/who")
    finally:
        await running.close()
    first, half, last = seen
    assert first == half != last


async def test_shows_a_client_certificate(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "made")
    app = web.Application()

    async def who(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        return web.json_response(str(request.transport.get_extra_info("peercert")["subject"]))

    app.router.add_get("/who", who)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(authority.chain)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server(ssl=context)
    chain = Pem(data=authority.chain.read_bytes())
    config = ClusterConfig(
        server=str(running.make_url("")).rstrip("/"),
        authority=Pem(path=authority.certificate),
        user=User(certificate=chain, key=Pem(data=b"")),
    )
    try:
        async with Client(config, attempts=1) as client:
            assert b"leaf" in await client.get("/who")
    finally:
        await running.close()
