"""Status, tokens and the xDS certificate against a real kube-apiserver with the Gateway API's own definitions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from tests.api.upstream import definitions
from tests.kube.apiserver import ApiServer
from tests.kube.test_report import THEIRS, gateway, gateway_class, route

from tripylon.api.crd import crd
from tripylon.api.kinds import KINDS
from tripylon.envoy.options import EmitOptions
from tripylon.kube.client import Client
from tripylon.kube.failures import ApiError
from tripylon.kube.identity import SECRET, Identity
from tripylon.kube.report import Reporter
from tripylon.kube.tokens import AUDIENCE, TokenReviewer
from tripylon.kube.watch import Watcher
from tripylon.loop import Applied, Engine
from tripylon.model.options import Options
from tripylon.values import Name
from tripylon.world.world import Reached, ReachedAddress

pytestmark = pytest.mark.cluster
GATEWAY_API = "gateway.networking.k8s.io/v1"
DEFINITIONS = ("GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant")
PATIENCE_S = 30.0
ROUTES = 300
Object = dict[str, Any]


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[Client]:
    async with Client(api.config()) as made:
        await made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, field_manager="test")
        upstream = definitions()
        own = [crd(kind) for kind in KINDS if kind.group == "gateway.tripylon.dev"]
        for each in [*(upstream[name] for name in DEFINITIONS), *own]:
            await made.apply(each, field_manager="test")
        for name in DEFINITIONS:
            await until_served(made, name)
        yield made


async def until_served(client: Client, name: str) -> None:
    kind = next(each for each in KINDS if each.name == name)
    async with asyncio.timeout(PATIENCE_S):
        while await client.discovery.find(kind.api_version, name) is None:
            await asyncio.sleep(0.05)
        while True:
            with contextlib.suppress(ApiError):
                await client.list_objects(kind.api_version, name)
                return
            await asyncio.sleep(0.05)


class Counting(Client):
    """Counts patches of statuses, each of which must have changed something."""

    patches = 0

    async def patch_status(self, *args: Any, **named: Any) -> Object:
        self.patches += 1
        before = named["resource_version"]
        after = await super().patch_status(*args, **named)
        assert after["metadata"]["resourceVersion"] != before, "a write that changed nothing"
        return after


class Controller:
    """As much of a controller as writes status; its proxies take everything at once."""

    def __init__(self, client: Counting) -> None:
        options = Options(standalone=False)
        self.client = client
        self.engine = Engine(options, EmitOptions(), on_applied=self._applied)
        self.reporter = Reporter(self, client, options)
        self.watcher = Watcher(client, [each for each in KINDS if each.name in (*DEFINITIONS, "Namespace", "Backend")])

    @property
    def graph(self) -> Any:
        return self.engine.graph

    def listener(self, gateway: Name, listener: str) -> Any:
        return "programmed"

    def _applied(self, applied: Applied) -> None:
        self.reporter.changed(applied)

    async def follow(self) -> None:
        async for batch in self.watcher:
            self.engine.apply(batch.put, batch.delete)


@contextlib.asynccontextmanager
async def controlling(api: ApiServer) -> AsyncIterator[Controller]:
    async with Counting(api.config()) as client:
        made = Controller(client)
        made.engine.reach({Name("shop", "edge"): Reached((ReachedAddress("192.0.2.1"),))})
        tasks = [asyncio.create_task(each) for each in (made.watcher.run(), made.follow(), made.reporter.run())]
        made.reporter.start()
        try:
            yield made
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def make(client: Client, obj: Object) -> Object:
    obj = msgspec.json.decode(msgspec.json.encode(obj))
    obj["metadata"].pop("generation", None)
    return await client.apply(obj, field_manager="test")


async def status_of(client: Client, kind: str, name: str) -> Object:
    found = await client.read(GATEWAY_API, kind, name, namespace="" if kind == "GatewayClass" else "shop")
    assert found is not None
    return found.get("status") or {}


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0.02)


def is_true(status: Object, type: str, generation: int) -> bool:
    return any(
        (each["type"], each["status"], each.get("observedGeneration")) == (type, "True", generation)
        for each in status.get("conditions", ())
    )


async def put_status(client: Client, kind: str, name: str, change: Callable[[Object], None]) -> None:
    """As another controller writes: the whole object by its version, with a few tries."""
    for _ in range(5):
        found = await client.read(GATEWAY_API, kind, name, namespace="shop")
        assert found is not None
        change(found["status"])
        with contextlib.suppress(ApiError):
            await client.replace(found, subresource="status")
            return
        await asyncio.sleep(0.01)
    raise AssertionError("somebody writes without end")


async def test_status_end_to_end(api: ApiServer, client: Client) -> None:
    for each in (gateway_class(), gateway(), route()):
        await make(client, each)
    async with controlling(api) as controller:

        async def programmed() -> bool:
            return is_true(await status_of(client, "Gateway", "edge"), "Programmed", 1)

        async def accepted() -> bool:
            parents = (await status_of(client, "HTTPRoute", "cart")).get("parents", [])
            return any(is_true(each, "Accepted", 1) for each in parents)

        await until(programmed)
        await until(accepted)
        assert is_true(await status_of(client, "GatewayClass", "tripylon"), "Accepted", 1)
        await asyncio.sleep(1.0)
        written = controller.client.patches
        assert written in (3, 4), "one write each, for the class perhaps one more once it is known what is served"
        await asyncio.sleep(1.0)
        assert controller.client.patches == written, "and then rest"

        await foreign_conditions_stay(client, controller)
        await foreign_parents_stay(client, controller)


async def foreign_conditions_stay(client: Client, controller: Controller) -> None:
    foreign = {
        "type": "conformance.example.com/StaleCondition",
        "status": "True",
        "reason": "Foreign",
        "message": "left alone",
        "observedGeneration": 1,
        "lastTransitionTime": "2001-01-01T00:00:00Z",
    }

    def add(status: Object) -> None:
        status["conditions"].append(foreign)
        status["listeners"][0]["conditions"].append(foreign)

    await put_status(client, "Gateway", "edge", add)
    await make(client, gateway(ports=(80, 8080)))

    async def fresh() -> bool:
        return is_true(await status_of(client, "Gateway", "edge"), "Programmed", 2)

    await until(fresh)
    status = await status_of(client, "Gateway", "edge")
    assert foreign in status["conditions"]
    assert foreign in next(each for each in status["listeners"] if each["name"] == "l80")["conditions"]
    assert len(status["listeners"]) == 2


async def foreign_parents_stay(client: Client, controller: Controller) -> None:
    theirs: Object = {}

    def add(status: Object) -> None:
        theirs.update({**status["parents"][0], "controllerName": THEIRS})
        status["parents"].insert(0, theirs)

    await put_status(client, "HTTPRoute", "cart", add)
    changed = route()
    changed["spec"]["hostnames"] = ["other.example"]
    await make(client, changed)

    async def fresh() -> bool:
        parents = (await status_of(client, "HTTPRoute", "cart"))["parents"]
        return any(is_true(each, "Accepted", 2) for each in parents)

    await until(fresh)
    assert (await status_of(client, "HTTPRoute", "cart"))["parents"][0] == theirs
    changed["spec"]["parentRefs"] = [{"name": "elsewhere"}]
    await make(client, changed)

    async def left() -> bool:
        return bool((await status_of(client, "HTTPRoute", "cart"))["parents"] == [theirs])

    await until(left)


async def test_many_routes_at_once(api: ApiServer, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for each in (gateway_class(), gateway()):
        await make(client, each)
    names = [f"many-{number}" for number in range(ROUTES)]
    for start in range(0, ROUTES, 20):
        await asyncio.gather(*(make(client, route(name)) for name in names[start : start + 20]))
    started = time.perf_counter()
    async with controlling(api) as controller:

        async def all_there() -> bool:
            listeners = (await status_of(client, "Gateway", "edge")).get("listeners", [])
            counted = any(each["attachedRoutes"] >= ROUTES for each in listeners)
            return counted and controller.watcher.synced and not controller.reporter.waiting

        await until(all_there)
        took = time.perf_counter() - started
        counters = controller.reporter.counters
        routes = await client.list_objects(GATEWAY_API, "HTTPRoute", namespace="shop")
        assert sum(bool(each.get("status", {}).get("parents")) for each in routes) >= ROUTES
        assert counters.errors == 0
        with capsys.disabled():
            print(f"\n{ROUTES} routes: {took:.2f} s, {counters}")


async def test_tokens(client: Client) -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "edge-tripylon", "namespace": "shop"},
    }
    await client.apply(account, field_manager="test")
    reviewer = TokenReviewer(client, lambda name: "edge-tripylon" if name == Name("shop", "edge") else None)

    class Node(msgspec.Struct):
        cluster: str

    good, other = [await token(client, audience) for audience in (AUDIENCE, "https://elsewhere")]
    assert await reviewer.authorise(Node("shop/edge"), good) == Name("shop", "edge")
    assert await reviewer.authorise(Node("shop/other"), good) is None
    assert await reviewer.authorise(Node("shop/edge"), other) is None
    assert await reviewer.authorise(Node("shop/edge"), good[:-3] + "xyz") is None


async def token(client: Client, audience: str) -> str:
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 600},
    }
    path = "/api/v1/namespaces/shop/serviceaccounts/edge-tripylon/token"
    answer = msgspec.json.decode(await client.request("POST", path, body=msgspec.json.encode(request)))
    made: str = answer["status"]["token"]
    return made


async def test_the_certificate_is_made_once(client: Client) -> None:
    identities = [Identity(client, "shop", ["tripylon.shop.svc"]) for _ in range(4)]
    served = await asyncio.gather(*(each.load() for each in identities))
    assert all(each == served[0] for each in served)
    stored = await client.read("v1", "Secret", SECRET, namespace="shop")
    assert stored is not None
    assert stored["type"] == "kubernetes.io/tls"
    assert await Identity(client, "shop", ["tripylon.shop.svc", "another.name"]).load() != served[0]
    assert await identities[0].load() != served[0], "the other replica wrote another one"
