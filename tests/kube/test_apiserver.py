"""The client, the watcher and the election against a real kube-apiserver."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api.upstream import definitions
from tests.kube.apiserver import ADMIN, GUEST, ApiServer
from tests.kube.gate import Gate
from tests.kube.scripted import route
from tests.kube.test_watch import Reader, kind, reading_by, ref

from tripylon.api.crd import crd
from tripylon.kube.client import Client
from tripylon.kube.config import ClusterConfig
from tripylon.kube.failures import ApiError
from tripylon.kube.lease import Election

pytestmark = pytest.mark.cluster
GATEWAY_API = "gateway.networking.k8s.io/v1"


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[Client]:
    async with Client(api.config()) as made:
        for name in ("shop", "other"):
            await made.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, field_manager="test"
            )
        yield made


@asynccontextmanager
async def reading_as(config: ClusterConfig, *names: str, **options: Any) -> AsyncIterator[Reader]:
    async with Client(config) as client, reading_by(client, *names, **options) as reader:
        yield reader


def config_map(name: str, text: str = "x") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "shop"},
        "data": {"text": text},
    }


async def test_makes_reads_changes_and_deletes(client: Client) -> None:
    made = await client.create(config_map("a"))
    with pytest.raises(ApiError) as caught:
        await client.create(config_map("a"))
    assert caught.value.already_exists
    assert not caught.value.conflict

    applied = await client.apply(config_map("a", "y"), field_manager="tripylon")
    assert applied["data"] == {"text": "y"}
    with pytest.raises(ApiError) as caught:
        await client.apply(config_map("a", "z"), field_manager="other", force=False)
    assert caught.value.conflict

    with pytest.raises(ApiError) as caught:
        await client.replace({**made, "data": {"text": "old"}})
    assert caught.value.conflict
    replaced = await client.replace({**applied, "data": {"text": "new"}})
    assert (await client.read("v1", "ConfigMap", "a", namespace="shop") or {})["data"] == replaced["data"]
    found = await client.list_objects("v1", "ConfigMap", namespace="shop")
    assert "a" in [each["metadata"]["name"] for each in found]

    with pytest.raises(ApiError) as caught:
        await client.delete("v1", "ConfigMap", "a", namespace="shop", uid="other")
    assert caught.value.conflict
    assert await client.delete("v1", "ConfigMap", "a", namespace="shop", uid=made["metadata"]["uid"])
    assert not await client.delete("v1", "ConfigMap", "a", namespace="shop")
    assert await client.read("v1", "ConfigMap", "a", namespace="shop") is None


@pytest.mark.parametrize("form", ["merge patch", "JSON patch"])
async def test_changes_a_status_only_when_nobody_was_faster(client: Client, form: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    first = await client.apply(service, field_manager="test")
    balancer = {"ingress": [{"ip": "192.0.2.1"}]}
    patch: Any = {"status": {"loadBalancer": balancer}}
    if form == "JSON patch":
        patch = [{"op": "add", "path": "/status/loadBalancer", "value": balancer}]
    words = {"namespace": "shop", "resource_version": first["metadata"]["resourceVersion"]}
    try:
        changed = await client.patch_status("v1", "Service", "s", patch, **words)
        assert changed["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
        with pytest.raises(ApiError) as caught:
            await client.patch_status("v1", "Service", "s", patch, **words)
        assert caught.value.conflict
    finally:
        await client.delete("v1", "Service", "s", namespace="shop")


async def test_lists_in_pages_and_follows(api: ApiServer, client: Client) -> None:
    for index in range(5):
        await client.apply(config_map(f"page-{index}"), field_manager="test")
    path = "/api/v1/namespaces/shop/configmaps"
    pages = [page async for page in client.list_pages(path, limit=2)]
    assert len(pages) >= 3
    assert all(len(page.items) <= 2 for page in pages)
    async with reading_as(api.config(), "ConfigMap", namespaces=("shop",)) as reader:
        await reader.synced()
        names = {f"page-{index}" for index in range(5)}
        assert names <= set(reader.names)
        await client.apply(config_map("page-0", "changed"), field_manager="test")
        await client.delete("v1", "ConfigMap", "page-1", namespace="shop")
        key = ref("page-0", kind_name="ConfigMap", group="")
        await reader.until(lambda: "page-1" not in reader.names and reader.held[key].data == {"text": "changed"})
        assert "kube-root-ca.crt" not in reader.names


async def test_survives_compaction_and_a_restart_with_unseen_changes(api: ApiServer, client: Client) -> None:
    await client.apply(config_map("before"), field_manager="test")
    config = api.config()
    async with Gate(int(config.server.rsplit(":", 1)[1])) as gate:
        behind = msgspec.structs.replace(config, server=f"https://127.0.0.1:{gate.port}")
        async with reading_as(behind, "ConfigMap", namespaces=("shop",)) as reader:
            await reader.synced()
            assert "before" in reader.names
            gate.shut()
            await client.delete("v1", "ConfigMap", "before", namespace="shop")
            await client.apply(config_map("after"), field_manager="test")
            api.kill("apiserver")
            await asyncio.to_thread(api.compact)
            await asyncio.to_thread(api.start_server)
            assert "before" in reader.names
            gate.open()
            await reader.until(lambda: "after" in reader.names and "before" not in reader.names)


async def test_a_broken_way_to_the_server_costs_no_list(api: ApiServer, client: Client) -> None:
    await client.apply(config_map("passing"), field_manager="test")
    config = api.config()
    async with Gate(int(config.server.rsplit(":", 1)[1])) as gate:
        behind = msgspec.structs.replace(config, server=f"https://127.0.0.1:{gate.port}")
        async with reading_as(behind, "ConfigMap", namespaces=("shop",)) as reader:
            calls: list[tuple[str, str, int]] = []
            reader.watcher._client.on_call = lambda *call: calls.append(call[:3])
            await reader.synced()
            await _until(lambda: ("watch", "configmaps", 200) in calls)
            calls.clear()
            gate.shut()
            await client.delete("v1", "ConfigMap", "passing", namespace="shop")
            await client.apply(config_map("meanwhile"), field_manager="test")
            await _until(lambda: calls.count(("watch", "configmaps", 0)) >= 2)
            assert "passing" in reader.names
            gate.open()
            await reader.until(lambda: "meanwhile" in reader.names and "passing" not in reader.names)
            assert {verb for verb, resource, _ in calls if resource == "configmaps"} == {"watch"}
            assert {each.state for each in reader.watcher.states()} == {"live"}


async def test_a_server_that_comes_back_with_another_certificate(api: ApiServer, client: Client) -> None:
    """The authority's file is the certificate itself here, so it is read anew too."""
    async with reading_as(api.config(), "ConfigMap", namespaces=("shop",)) as reader:
        await reader.synced()
        api.kill("apiserver")
        before = api.forget_certificate()
        await asyncio.to_thread(api.start_server)
        assert api.certificate.read_bytes() != before
        await client.apply(config_map("renewed"), field_manager="test")
        await reader.until(lambda: "renewed" in reader.names)


async def test_a_version_that_was_compacted_away_is_gone(api: ApiServer, client: Client) -> None:
    old = (await client.apply(config_map("old"), field_manager="test"))["metadata"]["resourceVersion"]
    await client.apply(config_map("old", "newer"), field_manager="test")
    api.kill("apiserver")
    await asyncio.to_thread(api.compact)
    await asyncio.to_thread(api.start_server)
    with pytest.raises(ApiError) as caught:
        await _until_expired(client, old)
    assert caught.value.gone


async def _until_expired(client: Client, version: str) -> None:
    """Whether the server says so at once or as the stream's first event is up to it."""
    async for lines in client.watch_lines("/api/v1/configmaps", resource_version=version):
        event = json.loads(lines[0])
        assert event["type"] == "ERROR"
        raise ApiError(event["object"]["code"], event["object"]["reason"], event["object"]["message"])


async def test_works_with_what_it_may_see(api: ApiServer, client: Client) -> None:
    await client.apply(config_map("seen"), field_manager="test")
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    await allow(client, "some", rules)
    async with reading_as(api.config(GUEST), "ConfigMap", "Service") as reader:
        await reader.synced()
        assert "seen" in reader.names
        states = {each.title: each for each in reader.watcher.states()}
        assert (states["configmaps"].state, states["services"].state) == ("live", "forbidden")
        assert 'cannot list resource "services"' in states["services"].message
        await allow(client, "more", [{**rules[0], "resources": ["services"]}])
        await reader.until(lambda: "kubernetes" in reader.names)
    await client.delete("rbac.authorization.k8s.io/v1", "ClusterRole", "more")


async def allow(client: Client, name: str, rules: list[dict[str, Any]]) -> None:
    version = "rbac.authorization.k8s.io/v1"
    role = {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": version,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "name": "guest", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    for each in (role, binding):
        await client.apply(each, field_manager="test")


async def test_secrets_by_name(api: ApiServer, client: Client) -> None:
    for name in ("wanted", "unwanted"):
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "shop"},
            "type": "Opaque",
        }
        await client.apply({**secret, "data": {"a": "Yg=="}}, field_manager="test")
    for listed in (None, (), ("shop",), ("other",)):
        async with reading_as(api.config(), "Secret", secret_namespaces=listed) as reader:
            reader.watcher.want([ref("wanted", kind_name="Secret", group="")])
            await reader.until(lambda: "wanted" in reader.names)
            await reader.synced()
            assert reader.names == ["wanted"]
            assert reader.held[ref("wanted", kind_name="Secret", group="")].contents == {"a": b"b"}


# --- definitions that come and go ------------------------------------------------------------------------------


def backend(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.tripylon.dev/v1alpha1",
        "kind": "Backend",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "Static", "static": {"hosts": [{"host": "192.0.2.1", "port": 80}]}},
    }


async def test_a_definition_that_comes_and_goes(api: ApiServer, client: Client) -> None:
    definition = crd(kind("Backend"))
    async with reading_as(api.config(), "Backend", "ConfigMap") as reader:
        await reader.synced()
        assert reader.watcher.states()[0].state == "absent"
        await client.apply(definition, field_manager="test")
        await _until(lambda: reader.watcher.states()[0].state == "live")
        await _apply_when_served(client, backend("a"))
        await reader.until(lambda: "a" in reader.names)
        name = definition["metadata"]["name"]
        assert name in [each.name for each in reader.watcher.crds.installed], "its watch told of it"
        await client.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
        await reader.until(lambda: "a" not in reader.names)
        await _until(lambda: reader.watcher.states()[0].state == "absent")
        await _until_gone(client, name)
        await client.apply(definition, field_manager="test")
        await _apply_when_served(client, backend("b"))
        await reader.until(lambda: "b" in reader.names)


async def _until_gone(client: Client, definition: str) -> None:
    async with asyncio.timeout(20):
        while await client.read("apiextensions.k8s.io/v1", "CustomResourceDefinition", definition):
            await asyncio.sleep(0.1)


async def _apply_when_served(client: Client, obj: dict[str, Any]) -> None:
    """A definition is listed a moment before objects of it are taken."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.apply(obj, field_manager="test")
            except ApiError as error:
                assert error.not_found, error
                await asyncio.sleep(0.1)
            else:
                return


# --- the election ----------------------------------------------------------------------------------------------


async def test_an_election(client: Client) -> None:
    turns: list[str] = []

    def candidate(identity: str) -> Election:
        return Election(
            client,
            "shop",
            "leader",
            identity,
            lambda: turns.append(f"{identity} leads"),
            lambda: turns.append(f"{identity} stops"),
            lease_duration=4,
            renew_deadline=3,
            retry_period=0.2,
        )

    a, b = (asyncio.create_task(candidate(identity).run()) for identity in "ab")
    await _until(lambda: bool(turns))
    first, other = (a, b) if turns == ["a leads"] else (b, a)
    await asyncio.sleep(0.6)
    first.cancel()
    await _until(lambda: len(turns) == 3)
    other.cancel()
    await asyncio.gather(a, b, return_exceptions=True)
    one, two = ("a", "b") if first is a else ("b", "a")
    assert turns == [f"{one} leads", f"{one} stops", f"{two} leads", f"{two} stops"]
    lease = await client.read("coordination.k8s.io/v1", "Lease", "leader", namespace="shop") or {}
    assert lease["spec"]["holderIdentity"] in ("", None)
    assert lease["spec"]["leaseTransitions"] == 1


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


# --- size ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_what_a_large_cluster_takes(api: ApiServer, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    await client.apply(definitions()["HTTPRoute"], field_manager="test")
    await _until_served(client, GATEWAY_API, "HTTPRoute")
    await _apply_when_served(client, big_route(0))
    routes = (big_route(index) for index in range(1, 5000))
    services = (made for index in range(1000) for made in service_with_slice(index))
    waiting = itertools.chain(routes, services)

    async def make() -> None:
        for each in waiting:
            await client.create(each)

    await asyncio.gather(*(make() for _ in range(16)))
    config = api.config()
    assert config.authority is not None
    args = [config.server, str(config.authority.path), config.server_name, ADMIN]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / "sync_cost.py"), *args, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    cost = json.loads(printed.splitlines()[-1])
    with capsys.disabled():
        print(f"\n{cost['objects']} objects synced in {cost['seconds']} s, {cost['cpu_seconds']} CPU seconds, ", end="")
        print(f"{cost['mb_peak']} MB at most, {cost['mb_before']} MB before")
    assert cost["objects"] >= 7000
    for path in (f"/apis/{GATEWAY_API}/namespaces/shop/httproutes", "/api/v1/namespaces/shop/services"):
        await client.request("DELETE", path)
    await client.request("DELETE", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices")


def big_route(index: int) -> dict[str, Any]:
    """About 4 kB as the API server gives it back."""
    header = {"set": [{"name": "a", "value": "b"}]}
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": f"/{index}/{rule}"}}],
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": header}],
            "backendRefs": [{"name": f"service-{index}", "port": 80}],
        }
        for rule in range(8)
    ]
    made = route(f"many-{index}", 0)
    metadata = {"name": made["metadata"]["name"], "namespace": "shop", "labels": {"app": "many"}}
    spec = {"hostnames": [f"h{index}.example.com"], "parentRefs": [{"name": "gateway"}], "rules": rules}
    return {**made, "metadata": metadata, "spec": spec}


def service_with_slice(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    name = f"service-{index}"
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": name}, "ports": ports},
    }
    endpoints = [
        {"addresses": [f"10.{index // 250}.{index % 250}.{each}"], "conditions": {"ready": True}}
        for each in range(1, 6)
    ]
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    return service, endpoint_slice


async def _until_served(client: Client, api_version: str, kind_name: str) -> None:
    async with asyncio.timeout(20):
        while await client.discovery.find(api_version, kind_name) is None:
            await asyncio.sleep(0.1)
