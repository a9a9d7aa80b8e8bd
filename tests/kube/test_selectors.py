"""The Services of XBackends that select pods, against an API server in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import msgspec
import pytest
from tests.kube.test_watch import kind

from tripylon.api.kinds import decode_as
from tripylon.envoy.options import EmitOptions
from tripylon.kube.failures import ApiError
from tripylon.kube.manifests import Object
from tripylon.kube.selectors import SelectorServices
from tripylon.loop import new_graph
from tripylon.model.options import Options
from tripylon.values import Ref
from tripylon.world import world

GRACE_S = 0.02


class Server:
    """Services, with every write that was asked for."""

    def __init__(self) -> None:
        self.services: dict[str, Object] = {}
        self.writes: list[str] = []
        self.failures: list[ApiError] = []
        self._numbers = count(1)

    async def create(self, obj: Object, *, field_manager: str = "") -> Object:
        if self.failures:
            raise self.failures.pop()
        assert field_manager == "tripylon"
        number = next(self._numbers)
        name = f"{obj['metadata']['generateName']}{number}"
        self.writes.append(f"create {name}")
        made = {**obj, "metadata": {**obj["metadata"], "name": name, "uid": f"uid-{number}"}}
        self.services[name] = made
        return made

    async def list_objects(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> tuple[Object, ...]:
        wanted = dict(each.split("=") for each in labels.split(","))
        assert (api_version, kind, namespace) == ("v1", "Service", "shop")
        found = self.services.values()
        return tuple(each for each in found if wanted.items() <= each["metadata"]["labels"].items())

    async def delete(self, api_version: str, kind: str, name: str, *, namespace: str = "", uid: str = "") -> bool:
        assert self.services.pop(name)["metadata"]["uid"] == uid
        self.writes.append(f"delete {name}")
        return True


class Stage:
    def __init__(self) -> None:
        self.graph = new_graph(Options(standalone=False), EmitOptions())
        self.server = Server()
        self.selectors = SelectorServices(self.graph, self.server, controller_name="one/two", grace_s=GRACE_S)

    def put(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            world.put(self.graph, decode_as(kind(each["kind"]), msgspec.json.encode(each)))
        self.selectors.changed(self.graph.flush())

    def delete(self, kind_name: str, name: str) -> None:
        world.delete(self.graph, Ref(kind(kind_name).group, kind_name, "shop", name))
        self.selectors.changed(self.graph.flush())

    async def writes(self, least: int) -> list[str]:
        async with asyncio.timeout(60):
            while len(self.server.writes) < least:
                await asyncio.sleep(GRACE_S / 4)
        await asyncio.sleep(GRACE_S * 3)
        return self.server.writes


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    stage.put(
        _object("GatewayClass", "edge", {"controllerName": "gateway.tripylon.dev/controller"}, namespace=""),
        _object("Gateway", "edge", {"gatewayClassName": "edge", "listeners": [LISTENER]}),
    )
    running = asyncio.create_task(stage.selectors.run())
    yield stage
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


LISTENER = {"name": "http", "port": 80, "protocol": "HTTP"}


def _object(kind_name: str, name: str, spec: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": f"{kind_name}-{name}"}
    return {"apiVersion": kind(kind_name).api_version, "kind": kind_name, "metadata": metadata, "spec": spec}


def x_backend(port: int = 9000, **labels: str) -> dict[str, Any]:
    selector = {"matchLabels": labels or {"app": "web"}}
    return _object(
        "XBackend", "pods", {"type": "EndpointSelector", "port": {"number": port}, "endpointSelector": selector}
    )


def route() -> dict[str, Any]:
    ref = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": "pods"}
    return _object("HTTPRoute", "web", {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [ref]}]})


async def test_a_headless_service_is_made_once_somebody_reaches_the_pods(stage: Stage) -> None:
    stage.put(x_backend())
    assert await stage.writes(0) == []
    stage.put(route())
    assert await stage.writes(1) == ["create x-pods-1"]
    made = stage.server.services["x-pods-1"]
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["selector"] == {"app": "web"}
    assert made["spec"]["ports"] == [{"name": "backend", "port": 9000, "targetPort": 9000, "protocol": "TCP"}]
    assert made["metadata"]["labels"]["gateway.tripylon.dev/x-backend"] == "pods"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "XBackend-pods"
    stage.put(_object("HTTPRoute", "other", route()["spec"]))
    assert await stage.writes(1) == ["create x-pods-1"], "it is there already"


async def test_other_labels_are_another_service_and_the_one_before_goes_later(stage: Stage) -> None:
    stage.put(x_backend(), route())
    await stage.writes(1)
    stage.put(x_backend(app="other"))
    assert await stage.writes(3) == ["create x-pods-1", "create x-pods-2", "delete x-pods-1"]


async def test_it_goes_when_nobody_reaches_the_pods_and_comes_back_when_somebody_deletes_it(stage: Stage) -> None:
    stage.put(x_backend(), route())
    await stage.writes(1)
    del stage.server.services["x-pods-1"]
    stage.put(_object("Service", "any", {"ports": [{"port": 80}]}))
    assert await stage.writes(2) == ["create x-pods-1", "create x-pods-2"]
    stage.delete("HTTPRoute", "web")
    assert await stage.writes(3) == ["create x-pods-1", "create x-pods-2", "delete x-pods-2"]


async def test_what_another_xbackend_of_that_name_owned_is_left_to_the_garbage_collector(stage: Stage) -> None:
    stage.put(x_backend(), route())
    await stage.writes(1)
    again = x_backend()
    again["metadata"]["uid"] = "another"
    stage.put(again)
    assert await stage.writes(2) == ["create x-pods-1", "create x-pods-2"]


async def test_a_refusal_is_tried_again(stage: Stage) -> None:
    stage.server.failures.append(ApiError(503, "ServiceUnavailable", "not now"))
    stage.put(x_backend(), route())
    assert await stage.writes(1) == ["create x-pods-1"]
