"""What `make bench-cluster` does within the cluster's network: `python -m tests.bench.scale.inside SIZE OUT`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tripylon.kube import config
from tripylon.kube.client import Client

NAMESPACE = "bench"
SYSTEM = "tripylon-system"
GATEWAY_API = "gateway.networking.k8s.io/v1"
_AT_ONCE = 24
_LIMIT_S = 600.0
_SAMPLES = 40
Object = dict[str, Any]


class Size(msgspec.Struct, frozen=True):
    """How much there is."""

    routes: int = 5_000
    services: int = 1_000
    endpoints: int = 5
    gateways: int = 50
    burst: int = 100
    """Gateways that are created at once, before anything else."""


class Figures(msgspec.Struct):
    """What came out, in seconds and bytes."""

    burst_s: float = 0.0
    created_s: float = 0.0
    settled_s: float = 0.0
    ready_s: float = 0.0
    leader_cpu_s: float = 0.0
    follower_cpu_s: float = 0.0
    leader_bytes: float = 0.0
    follower_bytes: float = 0.0
    writes_per_new: float = 0.0
    writes_per_change: float = 0.0
    stored_s: list[float] = []
    served_s: list[float] = []
    lives_s: list[float] = []


async def measure(size: Size) -> Figures:
    """All figures, in the order in which the cluster grows."""
    figures = Figures()
    async with Client(config.load()) as client, aiohttp.ClientSession() as session:
        bench = Bench(size, client, session)
        await bench.backends()
        figures.burst_s = await bench.burst()
        async with bench.watched_controllers() as controllers:
            writes = await bench.status_writes()
            figures.created_s = await bench.fill()
            figures.settled_s = await bench.settle()
            figures.writes_per_new = (await bench.status_writes() - writes) / size.routes
        leader, *others = controllers.values()
        figures.leader_cpu_s, figures.leader_bytes = leader.cpu_s, leader.most_bytes
        for other in others:
            figures.follower_cpu_s, figures.follower_bytes = other.cpu_s, other.most_bytes
        figures.writes_per_change = await bench.changes(100)
        await bench.lives(figures)
        figures.ready_s = await bench.new_replica()
    return figures


class Controller(msgspec.Struct):
    """One replica over time."""

    leads: bool = False
    first_cpu_s: float = 0.0
    last_cpu_s: float = 0.0
    most_bytes: float = 0.0

    @property
    def cpu_s(self) -> float:
        return self.last_cpu_s - self.first_cpu_s


class Bench:
    """The steps."""

    def __init__(self, size: Size, client: Client, session: aiohttp.ClientSession) -> None:
        self._size, self._client, self._session = size, client, session
        self._pods: list[str] = []
        self._addresses: dict[str, str] = {}

    # --- What there is -----------------------------------------------------------------------------------------------

    async def backends(self) -> None:
        """The namespace and the pods behind all Services."""
        await self._client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        container = {"name": "echo", "image": "gateway-api/conformance/echo-basic:v0.1.0", "env": _downward()}
        labels = {"app": "echo"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": self._size.endpoints, "selector": {"matchLabels": labels}, "template": template}
        await self._client.create(_object("apps/v1", "Deployment", "echo", spec=spec))

        async def running() -> bool:
            pods = await self._client.list_objects("v1", "Pod", namespace=NAMESPACE, labels="app=echo")
            self._pods = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]
            return len(self._pods) == self._size.endpoints

        await _until(running, "the backends do not run")

    async def burst(self) -> float:
        """Gateways created at once, and how long until all are programmed; what is too many is deleted."""
        began = time.monotonic()
        await _each(_gateway(number) for number in range(self._size.burst))(self._client.create)
        await _until(self._programmed(self._size.burst), "the Gateways are not programmed")
        took_s = time.monotonic() - began
        for number in range(self._size.gateways, self._size.burst):
            await self._client.delete(GATEWAY_API, "Gateway", f"gateway-{number}", namespace=NAMESPACE)

        async def gone() -> bool:
            found = await self._client.list_objects("v1", "Pod", namespace=NAMESPACE)
            return len(found) <= self._size.endpoints + self._size.gateways

        await _until(gone, "deleted Gateways keep their proxies")
        return took_s

    def _programmed(self, number: int) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            gateways = await self._client.list_objects(GATEWAY_API, "Gateway", namespace=NAMESPACE)
            self._addresses = {
                gateway["metadata"]["name"]: gateway["status"]["addresses"][0]["value"]
                for gateway in gateways
                if _is_true(gateway.get("status", {}).get("conditions", ()), "Programmed")
            }
            return len(self._addresses) >= number

        return look

    async def fill(self) -> float:
        """Services and routes; the seconds until the API server has all of them."""
        began = time.monotonic()
        services = range(self._size.services)
        await _each(_service(number) for number in services)(self._client.create)
        await _each(_slice(number, self._pods) for number in services)(self._client.create)
        await _each(self._route(number) for number in range(self._size.routes))(self._client.create)
        return time.monotonic() - began

    def _route(self, number: int, path: str = "/") -> Object:
        return _route(f"route-{number}", number % self._size.gateways, number % self._size.services, path)

    async def settle(self) -> float:
        """The seconds until all routes have a good status and the last one of each Gateway is served."""
        began = time.monotonic()

        async def settled() -> bool:
            routes = await self._client.list_objects(GATEWAY_API, "HTTPRoute", namespace=NAMESPACE)
            return len(routes) == self._size.routes and all(map(_is_resolved, routes))

        await _until(settled, "the routes have no status", every_s=1.0)
        for number in range(max(0, self._size.routes - self._size.gateways), self._size.routes):
            await self._first_answer(f"gateway-{number % self._size.gateways}", f"route-{number}.test")
        return time.monotonic() - began

    # --- What changes cost -------------------------------------------------------------------------------------------

    async def changes(self, number: int) -> float:
        """Status writes for each changed route."""
        before = await self.status_writes()
        for each in range(number):
            await self._client.apply(self._route(each, "/moved"), field_manager="bench")
            await asyncio.sleep(0.05)
        await asyncio.sleep(3.0)
        return (await self.status_writes() - before) / number

    async def lives(self, figures: Figures) -> None:
        """Creates routes one by one and asks for each until it answers."""
        for number in range(_SAMPLES):
            gateway = number % self._size.gateways
            name = f"new-{number}"
            asking = asyncio.create_task(self._first_answer(f"gateway-{gateway}", f"{name}.test"))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await self._client.create(_route(name, gateway, number % self._size.services))
            stored = time.monotonic()
            served = await asking
            figures.stored_s.append(stored - began)
            figures.served_s.append(served - stored)
            figures.lives_s.append(served - began)

    async def _first_answer(self, gateway: str, host: str) -> float:
        """Asks until a host is served; when that was."""
        url = f"http://{self._addresses[gateway]}/"
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            async with self._session.get(url, headers={"Host": host}) as answer:
                await answer.read()
                if answer.status == 200:
                    return time.monotonic()
            await asyncio.sleep(0.001)
        raise TimeoutError(f"{host} is not served")

    async def new_replica(self) -> float:
        """Deletes one that does not lead; the seconds until its successor is ready, its start included."""
        [follower, *_] = [name for name, page in (await self._pages()).items() if not page["tripylon_leader"]]
        await self._client.delete("v1", "Pod", follower, namespace=SYSTEM)
        began = time.monotonic()

        async def ready() -> bool:
            pods = await self._controllers()
            states = [_is_true(pod["status"].get("conditions", ()), "Ready") for pod in pods]
            return len(pods) == 2 and all(states) and all(pod["metadata"]["name"] != follower for pod in pods)

        await _until(ready, "no new replica is ready", every_s=0.1)
        return time.monotonic() - began

    # --- What controllers say ----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def watched_controllers(self) -> AsyncIterator[dict[str, Controller]]:
        """Samples the replicas while the block runs; the leader comes first."""
        seen: dict[str, Controller] = {}

        async def sample() -> None:
            for name, page in (await self._pages()).items():
                cpu_s = page["process_cpu_seconds_total"]
                each = seen.setdefault(name, Controller(first_cpu_s=cpu_s))
                each.leads, each.last_cpu_s = bool(page["tripylon_leader"]), cpu_s
                each.most_bytes = max(each.most_bytes, page["process_resident_memory_bytes"])

        async def keep_sampling() -> None:
            while True:
                await sample()
                await asyncio.sleep(0.5)

        sampling = asyncio.create_task(keep_sampling())
        found: dict[str, Controller] = {}
        try:
            yield found
        finally:
            sampling.cancel()
        await sample()
        found.update(sorted(seen.items(), key=lambda item: not item[1].leads))

    async def status_writes(self) -> float:
        """How many statuses were written so far, by all."""
        return sum(page["tripylon_status_writes_total"] for page in (await self._pages()).values())

    async def _pages(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for pod in await self._controllers():
            url = f"http://{pod['status']['podIP']}:9092/metrics"
            async with self._session.get(url) as answer:
                families = text_string_to_metric_families(await answer.text())
                found[pod["metadata"]["name"]] = {
                    sample.name: sample.value for family in families for sample in family.samples if not sample.labels
                }
        return found

    async def _controllers(self) -> list[Object]:
        pods = await self._client.list_objects(
            "v1", "Pod", namespace=SYSTEM, labels="app.kubernetes.io/component=controller"
        )
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


# --- Objects ---------------------------------------------------------------------------------------------------------


def _object(api_version: str, kind: str, name: str, **fields: Any) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE} | fields.pop("metadata", {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata} | fields


def _gateway(number: int) -> Object:
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": "tripylon", "listeners": [listener]}
    return _object(GATEWAY_API, "Gateway", f"gateway-{number}", spec=spec)


def _route(name: str, gateway: int, service: int, path: str = "/") -> Object:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": f"service-{service}", "port": 80}],
    }
    spec = {"parentRefs": [{"name": f"gateway-{gateway}"}], "hostnames": [f"{name}.test"], "rules": [rule]}
    return _object(GATEWAY_API, "HTTPRoute", name, spec=spec)


def _service(number: int) -> Object:
    spec = {"ports": [{"name": "http", "port": 80, "targetPort": 3000}], "clusterIP": "None"}
    return _object("v1", "Service", f"service-{number}", spec=spec)


def _slice(number: int, addresses: list[str]) -> Object:
    return _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"service-{number}-slice",
        metadata={"labels": {"kubernetes.io/service-name": f"service-{number}"}},
        addressType="IPv4",
        ports=[{"name": "http", "port": 3000, "protocol": "TCP"}],
        endpoints=[{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    )


def _downward() -> list[Object]:
    names = {"POD_NAME": "metadata.name", "NAMESPACE": "metadata.namespace"}
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in names.items()]


# --- Waiting ---------------------------------------------------------------------------------------------------------


def _each(objects: Iterable[Object]) -> Callable[[Callable[[Object], Awaitable[Any]]], Awaitable[None]]:
    """Does something with many objects, some of them at the same time."""

    async def run(do: Callable[[Object], Awaitable[Any]]) -> None:
        waiting = iter(objects)

        async def work() -> None:
            for obj in waiting:
                await do(obj)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(work())

    return run


async def _until(done: Callable[[], Awaitable[bool]], failure: str, *, every_s: float = 0.25) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not await done():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        await asyncio.sleep(every_s)


def _is_true(conditions: Iterable[Object], name: str) -> bool:
    return any(each["type"] == name and each["status"] == "True" for each in conditions)


def _is_resolved(route: Object) -> bool:
    parents = route.get("status", {}).get("parents", ())
    return bool(parents) and all(
        _is_true(parent["conditions"], name) for parent in parents for name in ("Accepted", "ResolvedRefs")
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(
        msgspec.json.encode(asyncio.run(measure(msgspec.json.decode(sys.argv[1], type=Size))))
    )
