"""What requests are called where they are counted."""

from __future__ import annotations

import pytest
from tests.kube.scripted import ROUTES, Scripted, client_of, cut, line, listing, route, status, stream

from tripylon.kube.calls import describe
from tripylon.kube.client import Client
from tripylon.kube.failures import ApiError

GATEWAYS = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways"


@pytest.mark.parametrize(
    ("method", "path", "params", "named"),
    [
        ("GET", ROUTES, {"limit": "500"}, ("list", "httproutes")),
        ("GET", ROUTES, {"watch": "true"}, ("watch", "httproutes")),
        ("GET", f"{GATEWAYS}/edge", None, ("get", "gateways")),
        ("PATCH", f"{GATEWAYS}/edge/status", None, ("patch", "gateways/status")),
        ("POST", GATEWAYS, None, ("create", "gateways")),
        ("PUT", f"{GATEWAYS}/edge", None, ("update", "gateways")),
        ("DELETE", f"{GATEWAYS}/edge", None, ("delete", "gateways")),
        ("DELETE", GATEWAYS, None, ("deletecollection", "gateways")),
        ("GET", "/api/v1/namespaces", None, ("list", "namespaces")),
        ("GET", "/api/v1/namespaces/shop", None, ("get", "namespaces")),
        ("PUT", "/api/v1/namespaces/shop/finalize", None, ("update", "namespaces/finalize")),
        ("GET", "/api/v1/namespaces/shop/secrets/cert", None, ("get", "secrets")),
        ("GET", "/api/v1", None, ("get", "")),
        ("GET", "/apis/gateway.networking.k8s.io/v1", None, ("get", "")),
        ("GET", "/version", None, ("get", "")),
    ],
)
def test_verbs_and_resources_are_those_of_rbac(
    method: str, path: str, params: dict[str, str] | None, named: tuple[str, str]
) -> None:
    assert describe(method, path, params) == named


async def test_each_try_is_told(server: Scripted) -> None:
    # A connection that was used before and breaks is made anew once, as a part of the same try.
    server.lists[ROUTES].extend((status(503), cut, cut, listing(route("a", 1), version=5)))
    server.watches[ROUTES].append(stream(line("ADDED", route("b", 6))))
    calls: list[tuple[str, str, int]] = []

    def on_call(verb: str, resource: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        calls.append((verb, resource, code))

    async with client_of(server) as client:
        client.on_call = on_call
        await _read(client)
        with pytest.raises(ApiError):
            await client.get("/version")
    listed = [("list", "httproutes", code) for code in (503, 0, 200)]
    assert calls == [*listed, ("watch", "httproutes", 200), ("get", "", 404)]


async def _read(client: Client) -> None:
    assert [len(page.items) async for page in client.list_pages(ROUTES)] == [1]
    assert [lines async for lines in client.watch_lines(ROUTES, resource_version="5")]
