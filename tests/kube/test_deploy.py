"""The deployer against an API server in memory: what it writes, what it leaves alone, what it tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from tripylon.api.gateway import Gateway
from tripylon.api.parameters import GatewayParameters
from tripylon.findings import Finding
from tripylon.kube import deploy, names
from tripylon.kube.deploy import Deployer
from tripylon.kube.deploy import Key as ObjectKey
from tripylon.kube.failures import ApiError, Backoff
from tripylon.kube.manifests import ListenerPort, Object, manifests
from tripylon.kube.parameters import merged
from tripylon.kube.pod import ProxySettings
from tripylon.values import Name

SETTINGS = ProxySettings()
EDGE = Name("shop", "edge")
Key = tuple[str, str, str]


class Server:
    """Objects by kind, namespace and name, with every write that was asked for."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.writes: list[str] = []
        self.listed: set[str] = set()
        """Namespaces of which objects were listed; the empty one is all of them."""
        self.refuse: dict[str, ApiError] = {}
        """By kind: what is answered to an apply."""
        self.absent: set[str] = set()
        self._uids = count(1)

    def put(self, kind: str, name: str, **metadata: Any) -> None:
        obj = {"kind": kind, "metadata": {"name": name, "namespace": "shop", "uid": "foreign", **metadata}}
        self.objects[kind, "shop", name] = obj

    async def apply(self, obj: Object, *, field_manager: str, force: bool = True) -> Object:
        await asyncio.sleep(0)
        assert (field_manager, force) == ("tripylon", True)
        metadata = obj["metadata"]
        key = (obj["kind"], metadata["namespace"], metadata["name"])
        if obj["kind"] in self.refuse:
            raise self.refuse[obj["kind"]]
        self.writes.append(f"apply {obj['kind']} {metadata['name']}")
        uid = self.objects[key]["metadata"]["uid"] if key in self.objects else f"made-{next(self._uids)}"
        self.objects[key] = obj | {"metadata": metadata | {"uid": uid}}
        return self.objects[key]

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        await asyncio.sleep(0)
        return self.objects.get((kind, namespace, name))

    async def list_objects(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> tuple[Object, ...]:
        await asyncio.sleep(0)
        if kind in self.absent:
            raise ApiError(404, "NotFound", "no such kind")
        self.listed.add(namespace)
        wanted = dict(each.split("=") for each in labels.split(","))
        found = (each for (at, where, _), each in self.objects.items() if at == kind and namespace in ("", where))
        return tuple(each for each in found if wanted.items() <= each["metadata"].get("labels", {}).items())

    async def delete(self, api_version: str, kind: str, name: str, *, namespace: str = "", uid: str = "") -> bool:
        await asyncio.sleep(0)
        there = self.objects.get((kind, namespace, name))
        if there is None:
            return False
        if there["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "another uid")
        self.writes.append(f"delete {kind} {name}")
        del self.objects[kind, namespace, name]
        return True

    def kinds(self) -> list[str]:
        return sorted(kind for kind, _, _ in self.objects)


class Leader:
    """A running deployer, with what it told."""

    def __init__(self, server: Server) -> None:
        self.told: dict[Name, tuple[Finding, ...]] = {}
        self.deployer = Deployer(server, self.told.__setitem__, controller_name=SETTINGS.controller_name)

    @contextlib.asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.deployer.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def settle() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "Backoff", lambda **_: Backoff(first=0.001, most=0.002))


def gateway(name: str = "edge", uid: str = "u-1") -> Gateway:
    listeners = [{"name": "a", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": "tripylon", "listeners": listeners}
    return msgspec.convert({"metadata": {"name": name, "namespace": "shop", "uid": uid}, "spec": spec}, Gateway)


def objects(of: Gateway | None = None, *, port: int = 80, class_name: str = "tripylon", **kube: Any) -> Any:
    layer = msgspec.convert({"spec": {"kube": kube}}, GatewayParameters)
    ports = (ListenerPort(port),)
    return manifests(of or gateway(), class_name, merged(layer, None), ports=ports, bootstrap=b"{}", settings=SETTINGS)


def within(address: str) -> tuple[Object, ...]:
    """What is made for a Gateway that is reached at an address within the cluster only."""
    return manifests(
        gateway(),
        "tripylon",
        merged(None, None),
        ports=(ListenerPort(80),),
        in_front=False,
        within_cluster={"edge-tripylon-cluster": address},
        bootstrap=b"{}",
        settings=SETTINGS,
    )


FOUR = ["ConfigMap", "Deployment", "Service", "ServiceAccount"]
APPLIED = [f"apply {kind} edge-tripylon" for kind in ("ServiceAccount", "ConfigMap", "Deployment", "Service")]


# --- Differences only -----------------------------------------------------------------------------------------------


async def test_a_gateway_comes_changes_and_goes() -> None:
    server = Server()
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: leader.told == {EDGE: ()})
        assert server.writes == APPLIED
        server.writes.clear()
        leader.deployer.want(gateway(), objects())
        await settle()
        assert server.writes == []
        leader.deployer.want(gateway(), objects(port=8080))
        await until(lambda: bool(server.writes))
        await settle()
        assert server.writes == ["apply Service edge-tripylon"]
        leader.deployer.forget(EDGE)
        await until(lambda: not server.objects)


async def test_a_new_leader_writes_nothing_that_is_there_and_removes_what_nobody_wants() -> None:
    server = Server()
    server.absent = {"VerticalPodAutoscaler"}
    first = Leader(server)
    first.deployer.want(gateway(), objects(podDisruptionBudget={}))
    first.deployer.want(gateway("old", "u-2"), objects(gateway("old", "u-2")))
    async with first.leading():
        await until(lambda: len(first.told) == 2)
    server.writes.clear()
    second = Leader(server)
    second.deployer.want(gateway(), objects())
    async with second.leading():
        await until(lambda: server.kinds() == FOUR)
        await settle()
    removed = ["PodDisruptionBudget edge-tripylon", *(f"{kind} old-tripylon" for kind in FOUR)]
    assert sorted(server.writes) == sorted(f"delete {each}" for each in removed)
    assert {name for _, _, name in server.objects} == {"edge-tripylon"}


async def test_what_is_there_stays_while_nobody_can_say_what_is_wanted() -> None:
    server = Server()
    first = Leader(server)
    first.deployer.want(gateway(), objects())
    async with first.leading():
        await until(lambda: EDGE in first.told)
    server.writes.clear()
    second = Leader(server)
    second.deployer.keep(EDGE)
    async with second.leading():
        await settle()
        assert (server.writes, server.kinds()) == ([], FOUR)
        second.deployer.want(gateway(), objects(port=8080))
        await until(lambda: server.writes == ["apply Service edge-tripylon"])
        second.deployer.keep(EDGE)
        second.deployer.forget(EDGE)
        await until(lambda: not server.objects)


async def test_another_class_renames_everything() -> None:
    server = Server()
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: EDGE in leader.told)
        leader.deployer.want(gateway(), objects(class_name="other"))
        await until(lambda: {name for _, _, name in server.objects} == {"edge-other"})
        assert server.kinds() == FOUR
    first_delete = next(at for at, write in enumerate(server.writes) if write.startswith("delete"))
    assert server.writes.index("apply Service edge-other") < first_delete


async def test_what_others_changed_is_repaired() -> None:
    server = Server()
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: EDGE in leader.told)
        del server.objects["Service", "shop", "edge-tripylon"]
        server.writes.clear()
        leader.deployer.restore(EDGE)
        await until(lambda: server.kinds() == FOUR)
        await settle()
        assert server.writes == APPLIED


# --- What belongs to others -----------------------------------------------------------------------------------------


async def test_what_others_delete_is_put_back_and_nothing_else_is_touched() -> None:
    server = Server()
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: leader.told == {EDGE: ()})
        server.writes.clear()
        deployment = server.objects.pop(("Deployment", "shop", "edge-tripylon"))
        key, uid = ObjectKey("apps/v1", "Deployment", "edge-tripylon"), deployment["metadata"]["uid"]
        leader.deployer.gone(EDGE, key, "of an earlier one")
        leader.deployer.gone(Name("shop", "other"), key, uid)
        await settle()
        assert server.writes == []
        leader.deployer.gone(EDGE, key, uid)
        await until(lambda: server.kinds() == FOUR)
        assert server.writes == ["apply Deployment edge-tripylon"]


async def test_objects_of_others_are_left_alone_and_told() -> None:
    server = Server()
    server.put("Service", "edge-tripylon")
    server.put(
        "ConfigMap", "edge-tripylon", ownerReferences=[{"kind": "App", "apiVersion": "a/v1", "name": "x", "uid": "1"}]
    )
    owner = {"kind": "Job", "apiVersion": "batch/v1", "name": "nightly", "uid": "2", "controller": True}
    server.put("ServiceAccount", "edge-tripylon", ownerReferences=[owner])
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: EDGE in leader.told)
        assert {write.split()[1] for write in server.writes} == {"Deployment"}
        account, config_map, service = leader.told[EDGE]
        assert account.message == (
            "ServiceAccount `shop/edge-tripylon`, which Gateway `shop/edge` needs, belongs to Job `nightly`"
        )
        assert config_map.message.endswith("exists and was not made for it")
        assert (service.condition, service.reason) == ("Programmed", "NoResources")
        assert service.hint == "Rename the Gateway, or delete the Service if nobody needs it"
        for kind in ("Service", "ConfigMap", "ServiceAccount"):
            del server.objects[kind, "shop", "edge-tripylon"]
        await until(lambda: leader.told[EDGE] == ())
        assert server.kinds() == FOUR


async def test_another_installation_is_left_alone() -> None:
    server = Server()
    foreign = Leader(server)
    other = ProxySettings(controller_name="other.example.com/controller")
    made = manifests(
        gateway("b", "u-b"), "c", merged(None, None), ports=(ListenerPort(80),), bootstrap=b"", settings=other
    )
    foreign.deployer.want(gateway("b", "u-b"), made)
    async with foreign.leading():
        await until(lambda: len(server.objects) == 4)
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: len(server.objects) == 8)
        await settle()
    assert not [write for write in server.writes if write.startswith("delete")]


async def test_what_an_earlier_gateway_of_that_name_left_makes_way() -> None:
    server = Server()
    first = Leader(server)
    first.deployer.want(gateway(), objects())
    async with first.leading():
        await until(lambda: EDGE in first.told)
        first.deployer.want(gateway(uid="u-9"), objects(gateway(uid="u-9")))
        await until(
            lambda: {each["metadata"]["ownerReferences"][0]["uid"] for each in server.objects.values()} == {"u-9"}
        )
        assert server.kinds() == FOUR


async def test_only_the_namespaces_named_are_looked_at() -> None:
    server = Server()
    former = Leader(server)
    former.deployer.want(gateway(), objects())
    async with former.leading():
        await until(lambda: server.kinds() == FOUR)
    deployer = Deployer(
        server, former.told.__setitem__, controller_name=SETTINGS.controller_name, namespaces={"shop", "blog"}
    )
    server.listed.clear()
    work = asyncio.create_task(deployer.run())
    await until(lambda: not server.objects)
    work.cancel()
    assert server.listed == {"blog", "shop"}


# --- Faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (ApiError(422, "Invalid", "spec.replicas: must be"), "Invalid", "Correct the GatewayParameters"),
        (
            ApiError(500, "", "failed to create typed patch object (shop/edge): .spec.nonsense: field not declared"),
            "Invalid",
            "Correct the GatewayParameters",
        ),
        (
            ApiError(500, "", "failed to convert new object (shop/edge): quantities must match"),
            "Invalid",
            "Correct the GatewayParameters",
        ),
        (ApiError(403, "Forbidden", "exceeded quota"), "NoResources", "Let whoever runs the cluster grant it"),
        (ApiError(404, "NotFound", "no such kind"), "Invalid", "Install that kind"),
    ],
)
async def test_a_refusal_is_told_until_it_is_mended(error: ApiError, reason: str, hint: str) -> None:
    server = Server()
    server.refuse["Deployment"] = error
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: EDGE in leader.told)
        [finding] = leader.told[EDGE]
        assert finding.message == (
            f"Deployment `shop/edge-tripylon` of Gateway `shop/edge` is refused by the cluster: {error.message}"
        )
        assert (finding.condition, finding.reason) == ("Programmed", reason)
        assert finding.hint.startswith(hint)
        assert server.kinds() == ["ConfigMap", "Service", "ServiceAccount"], "the others are there"
        server.refuse.clear()
        await until(lambda: leader.told[EDGE] == ())


async def test_an_address_that_the_cluster_refuses_is_told_as_one_that_is_not_assigned() -> None:
    server = Server()
    server.refuse["Service"] = ApiError(422, "Invalid", "spec.clusterIPs: provided IP is not in the valid range")
    leader = Leader(server)
    leader.deployer.want(gateway(), within("203.0.113.1"))
    async with leader.leading():
        await until(lambda: EDGE in leader.told)
        [finding] = leader.told[EDGE]
        assert (finding.condition, finding.reason) == ("AddressesAssigned", "NotAssigned")
        assert "provided IP is not in the valid range" in finding.message
        assert finding.hint.startswith("Use a free address of the cluster's Service range")


async def test_what_fails_is_tried_again_once_at_a_time_however_often_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_s = [3600.0]

    class Waits:
        """Longer than this test at first, so that a slow machine is not taken for an impatient deployer."""

        def next(self) -> float:
            return wait_s[0]

    monkeypatch.setattr(deploy, "Backoff", lambda **_: Waits())
    server = Server()
    server.refuse["Deployment"] = ApiError(422, "Invalid", "spec.replicas: must be")
    tries: list[float] = []
    apply, clock = server.apply, asyncio.get_running_loop().time

    async def counted(obj: Object, *, field_manager: str, force: bool = True) -> Object:
        if obj["kind"] == "Deployment":
            tries.append(clock())
        return await apply(obj, field_manager=field_manager, force=force)

    monkeypatch.setattr(server, "apply", counted)
    leader = Leader(server)
    async with leader.leading():
        for number in range(10):
            leader.deployer.want(gateway(), objects(port=8080 + number))
            await until(lambda: len(tries) > number)  # noqa: B023 - awaited at once
            await settle()
        assert len(tries) == 10, "what is wanted anew is tried at once"
        wait_s[0] = 0.05
        leader.deployer.want(gateway(), objects(port=9090))
        await until(lambda: len(tries) >= 12)
    assert tries[11] - tries[10] >= 0.05, "then there is one try after each wait, not ten"


async def test_a_status_of_the_gateway_is_no_reason_to_try_again() -> None:
    """We tell in its status what fails; words that differ each time must not go round and round."""
    server = Server()
    leader = Leader(server)
    wanted = gateway()
    leader.deployer.want(wanted, objects())
    async with leader.leading():
        await until(lambda: leader.told == {EDGE: ()})
        metadata = msgspec.structs.replace(wanted.metadata, resource_version="2")
        leader.deployer.want(msgspec.structs.replace(wanted, metadata=metadata), objects())
        assert not leader.deployer._due
        leader.deployer.want(gateway(uid="u-2"), objects())
        assert leader.deployer._due, "another Gateway of that name"


async def test_a_server_that_is_away_is_nobodys_fault() -> None:
    server = Server()
    server.refuse = {kind: ApiError(0, "NotConnected", "nobody there") for kind in FOUR}
    leader = Leader(server)
    leader.deployer.want(gateway(), objects())
    async with leader.leading():
        await until(lambda: leader.told == {EDGE: ()})
        assert server.objects == {}
        server.refuse.clear()
        await until(lambda: server.kinds() == FOUR)


async def test_a_hundred_gateways_at_once() -> None:
    server = Server()
    leader = Leader(server)
    for number in range(100):
        each = gateway(f"g{number}", f"u-{number}")
        leader.deployer.want(each, objects(each))
    async with leader.leading():
        await until(lambda: len(leader.told) == 100)
    assert len(server.writes) == len(server.objects) == 400
    labels = {each["metadata"]["labels"][names.GATEWAY_NAME_LABEL] for each in server.objects.values()}
    assert len(labels) == 100
