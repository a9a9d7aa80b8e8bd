"""Which proxy may have which configuration."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

from tripylon.kube.failures import ApiError
from tripylon.kube.tokens import AUDIENCE, TokenReviewer
from tripylon.values import Name

EDGE = Name("shop", "edge")
Object = dict[str, Any]


class Node(msgspec.Struct, frozen=True):
    cluster: str
    id: str = "pod.shop"


class Server:
    """Approves of the tokens that it knows."""

    def __init__(self) -> None:
        self.users = {"good": "system:serviceaccount:shop:edge-tripylon"}
        self.audiences = [AUDIENCE]
        self.reviews: list[str] = []
        self.away = False

    async def create(self, obj: Object) -> Object:
        await asyncio.sleep(0)
        if self.away:
            raise ApiError(0, "NotConnected", "nobody is there")
        assert obj["spec"]["audiences"] == [AUDIENCE]
        token = obj["spec"]["token"]
        self.reviews.append(token)
        user = self.users.get(token)
        if user is None:
            return {**obj, "status": {"user": {}, "error": "unknown"}}
        return {**obj, "status": {"authenticated": True, "user": {"username": user}, "audiences": self.audiences}}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reviewer(server: Server, clock: Clock | None = None, account: str | None = "edge-tripylon") -> TokenReviewer:
    return TokenReviewer(server, lambda name: account if name == EDGE else None, clock=clock or Clock())


def jwt(expires_at: float) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires_at}).encode()).decode().rstrip("=")
    return f"head.{payload}.signature"


async def test_a_proxy_gets_its_own_gateway() -> None:
    asked = reviewer(Server())
    assert await asked.authorise(Node("shop/edge"), "good") == EDGE
    assert await asked.refusal(Node("shop/edge"), {"authorization": "Bearer good"}) == ""


@pytest.mark.parametrize("cluster", ["shop/other", "other/edge", "shop", "", "/edge", "shop/", "shop/edge/more"])
async def test_it_gets_no_other(cluster: str) -> None:
    asked = reviewer(Server())
    assert await asked.authorise(Node(cluster), "good") is None
    assert "does not belong" in await asked.refusal(Node(cluster), {"authorization": "Bearer good"})


@pytest.mark.parametrize(
    "user",
    [
        "system:serviceaccount:shop:default",
        "system:serviceaccount:other:edge-tripylon",
        "system:serviceaccount:edge-tripylon",
        "system:node:shop",
        "shop:edge-tripylon",
    ],
)
async def test_another_account_gets_nothing(user: str) -> None:
    server = Server()
    server.users = {"good": user}
    assert await reviewer(server).authorise(Node("shop/edge"), "good") is None


async def test_a_token_for_somebody_else_is_none() -> None:
    server = Server()
    for audiences in ([], ["https://kubernetes.default.svc"]):
        server.audiences = audiences
        assert await reviewer(server).authorise(Node("shop/edge"), "good") is None


async def test_where_others_run_the_proxies_any_account_of_the_namespace_will_do() -> None:
    server = Server()
    server.users |= {"far": "system:serviceaccount:other:edge-tripylon"}
    asked = reviewer(server, account="")
    assert await asked.authorise(Node("shop/edge"), "good") == EDGE
    assert await asked.authorise(Node("shop/edge"), "far") is None


@pytest.mark.parametrize("header", [{}, {"authorization": ""}, {"authorization": "Bearer "}, {"authorization": "good"}])
async def test_who_shows_no_token_is_not_looked_up(header: dict[str, str]) -> None:
    server = Server()
    assert "must show" in await reviewer(server).admission(header)
    assert await reviewer(server).refusal(Node("shop/edge"), header)
    assert server.reviews == []


async def test_whose_token_is_none_of_the_cluster_may_not_even_say_who_it_is() -> None:
    asked = reviewer(Server())
    assert await asked.admission({"authorization": "Bearer good"}) == ""
    assert "is not one of this cluster" in await asked.admission({"authorization": "Bearer bad"})


async def test_verdicts_are_remembered_for_a_while() -> None:
    server, clock = Server(), Clock()
    asked = reviewer(server, clock)
    for _ in range(3):
        assert await asked.authorise(Node("shop/edge"), "good") == EDGE
        assert await asked.authorise(Node("shop/edge"), "bad") is None
    assert server.reviews == ["good", "bad"]
    clock.now += 11
    assert await asked.authorise(Node("shop/edge"), "bad") is None
    assert await asked.authorise(Node("shop/edge"), "good") == EDGE
    assert server.reviews == ["good", "bad", "bad"]
    clock.now += 300
    server.users.clear()
    assert await asked.authorise(Node("shop/edge"), "good") is None


async def test_a_token_that_expires_is_not_believed_longer() -> None:
    server, clock = Server(), Clock()
    token = jwt(clock.now + 60)
    server.users = {token: server.users["good"]}
    asked = reviewer(server, clock)
    assert await asked.authorise(Node("shop/edge"), token) == EDGE
    clock.now += 61
    server.users.clear()
    assert await asked.authorise(Node("shop/edge"), token) is None


async def test_while_nobody_can_be_asked_known_tokens_are_believed_until_they_expire() -> None:
    server, clock = Server(), Clock()
    token = jwt(clock.now + 3600)
    server.users = {token: server.users["good"]}
    asked = reviewer(server, clock)
    assert await asked.authorise(Node("shop/edge"), token) == EDGE
    server.away = True
    clock.now += 3000
    assert await asked.authorise(Node("shop/edge"), token) == EDGE
    with pytest.raises(ApiError):
        await asked.authorise(Node("shop/edge"), "never seen")
    clock.now += 601
    with pytest.raises(ApiError):
        await asked.authorise(Node("shop/edge"), token)
