"""Writing stops with the lead, before anybody is told."""

from __future__ import annotations

import asyncio

import pytest
from tests.kube.scripted import GATEWAY_API, ROUTES, Scripted, client_of, kinds, listing, route

from tripylon.controller import Replica
from tripylon.kube.failures import ApiError
from tripylon.kube.leader import LeaderClient
from tripylon.kube.lease import Election
from tripylon.settings import ControllerSettings

VERSION = GATEWAY_API.removeprefix("/apis/")


async def test_whoever_lost_the_lead_reads_and_writes_nothing(server: Scripted) -> None:
    server.answer("GET", GATEWAY_API, kinds(("HTTPRoute", "httproutes")))
    server.lists[ROUTES].append(listing(route("a", 1), version=5))
    leads = True
    async with client_of(server) as client:
        leader = LeaderClient(client, lambda: leads)
        with pytest.raises(ApiError) as before:
            await leader.patch_status(VERSION, "HTTPRoute", "a", [], namespace="shop")
        asked = len(server.requests)
        leads = False
        for write in (
            leader.patch_status(VERSION, "HTTPRoute", "a", [], namespace="shop"),
            leader.apply(route("a", 1), field_manager="tripylon"),
            leader.delete(VERSION, "HTTPRoute", "a", namespace="shop"),
        ):
            with pytest.raises(ApiError) as after:
                await write
            assert (after.value.status, after.value.reason) == (0, "NotLeading")
        assert len(server.requests) == asked
        assert len(await leader.list_objects(VERSION, "HTTPRoute")) == 1
    assert before.value.not_found, "asked, while it led"


async def test_the_writers_of_a_replica_ask_the_election(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    leads = True
    monkeypatch.setattr(Election, "is_leader", property(lambda _: leads))
    async with client_of(server) as client:
        replica = Replica(ControllerSettings(identity="one", advertise="127.0.0.1"), client)
        for writer in (replica._reporter._client, replica._deployer._cluster):
            leads = False
            with pytest.raises(ApiError, match="another replica may lead"):
                await asyncio.wait_for(writer.delete("v1", "Service", "a", namespace="shop"), 60)  # type: ignore[union-attr]
    assert server.requests == []
