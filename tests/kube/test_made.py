"""What was made for proxies is followed by its metadata; what is deleted is told with what it was made for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from tests.kube.scripted import Scripted, client_of, kinds, line, listing, stream

from tripylon.kube.deploy import Key
from tripylon.kube.made import Made
from tripylon.values import Name

SELECTOR = "app.kubernetes.io/managed-by=tripylon"
DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"


def deployment(name: str, gateway: str, version: int) -> dict[str, Any]:
    owner = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": gateway, "controller": True}
    metadata = {"name": name, "namespace": "shop", "uid": f"uid of {name}", "resourceVersion": str(version)}
    return {"kind": "PartialObjectMetadata", "metadata": metadata | ({"ownerReferences": [owner]} if gateway else {})}


async def test_what_is_deleted_is_told(server: Scripted) -> None:
    """Seen or not: `a` goes while a watch is open, `b` while there is none; `c` was not made for a Gateway."""
    server.answer("GET", "/apis/apps/v1", kinds(("Deployment", "deployments")))
    a, b, c = deployment("a", "one", 1), deployment("b", "two", 2), deployment("c", "", 3)
    server.lists[DEPLOYMENTS].extend((listing(a, b, c, version=5), listing(version=9)))
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    server.watches[DEPLOYMENTS].append(stream(line("DELETED", a), line("ERROR", expired)))
    told: list[tuple[Name, Key, str]] = []
    async with client_of(server, attempts=1) as client:
        task = asyncio.create_task(Made(client, SELECTOR, ("shop",), lambda *each: told.append(each)).run())
        async with asyncio.timeout(20):
            while len(told) < 2:
                await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert told == [
        (Name("shop", gateway), Key("apps/v1", "Deployment", name), f"uid of {name}")
        for gateway, name in (("one", "a"), ("two", "b"))
    ]
    asked = server.asked(DEPLOYMENTS)
    assert {each.query["labelSelector"] for each in asked} == {SELECTOR}
    # A watch that asked for lists would be ended by the server at its first event.
    kinds_asked = {("watch" in each.query, each.headers["Accept"].split(";")[1]) for each in asked}
    assert kinds_asked == {(False, "as=PartialObjectMetadataList"), (True, "as=PartialObjectMetadata")}
