"""Carries what `manifests.py` makes to the API server: the leader's work, by server-side apply, differences only.

Every object bears a hash of what was asked for, so a new leader asks for nothing again. What is no longer wanted is
found by labels and removed; what belongs to somebody else is left alone, and told. What others delete is put back as
soon as it is noticed (`made.py`); from time to time everything is applied again, which repairs what they changed and
otherwise writes nothing. The invariant: nothing is changed or
deleted that is not owned by a Gateway of ours and labelled by this installation. Read `addresses.py` for the way back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from tripylon.api.gateway import Gateway
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.kube import names
from tripylon.kube.failures import ApiError, Backoff
from tripylon.kube.manifests import KINDS, Object
from tripylon.values import Name, Ref

FIELD_MANAGER = "tripylon"
"""Under this name the API server keeps which fields are ours."""
RESYNC_S = 600.0
_AT_ONCE = 8
"""Gateways that are worked on at the same time."""
_SLOWEST_RETRY_S = 60.0
_UNREADABLE = ("failed to create typed patch object", "failed to convert new object")
"""How a message begins when a field does not exist or has no such value: it comes with the code of a server's fault."""

_log = structlog.get_logger("tripylon.deploy")


class Cluster(Protocol):
    """What a deployer asks of the API server; all raise ApiError."""

    async def apply(self, obj: Object, *, field_manager: str, force: bool = True) -> Object:
        """Server-side apply."""

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        """An object; None when it is not there."""

    async def list_objects(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> tuple[Object, ...]:
        """The objects of a kind that a label selector chooses."""

    async def delete(self, api_version: str, kind: str, name: str, *, namespace: str = "", uid: str = "") -> bool:
        """Delete the object with this uid; False when it is not there."""


Report = Callable[[Name, tuple[Finding, ...]], None]
"""Takes what is to be told about a Gateway's proxies; an empty tuple: all is as it should be."""


class Key(NamedTuple):
    """One object among those of a Gateway, all of which live in its namespace."""

    api_version: str
    kind: str
    name: str


class Deployed(msgspec.Struct, frozen=True, gc=False):
    """An object as it is in the cluster."""

    uid: str
    hash: str
    owner_uid: str
    """uid of the Gateway that it was made for."""


class Deployer:
    """Keeps the objects of all Gateways as they are wanted. Tell it by `want`, `keep`, `forget`; `run` while leading.

    Every Gateway of ours is wanted or kept before `run` starts: objects of Gateways that are neither are removed, in
    the `namespaces` named, or in all if there are none.
    """

    def __init__(
        self,
        cluster: Cluster,
        report: Report,
        *,
        controller_name: str,
        namespaces: Collection[str] = (),
        resync_s: float = RESYNC_S,
    ) -> None:
        self._cluster = cluster
        self._namespaces = tuple(sorted(namespaces)) or ("",)
        self._report = report
        self.selector = names.managed_selector(controller_name)
        """Labels of everything that is made here."""
        self._labels = dict(part.split("=", 1) for part in self.selector.split(","))
        self._resync_s = resync_s
        self._wanted: dict[Name, tuple[Gateway, tuple[Object, ...]]] = {}
        self._kept: set[Name] = set()
        """Gateways of which nobody can say now what is wanted."""
        self._deployed: dict[Name, dict[Key, Deployed]] = {}
        self._again: set[Name] = set()
        """Gateways whose objects are applied even if they bear the right hash."""
        self._due: dict[Name, None] = {}
        self._backoffs: dict[Name, Backoff] = {}
        self._retries: dict[Name, asyncio.TimerHandle] = {}
        """When what failed is tried again: once, however often something else had it tried meanwhile."""
        self._told: dict[Name, tuple[Finding, ...]] = {}
        self._changed = asyncio.Event()

    def want(self, gateway: Gateway, objects: tuple[Object, ...]) -> None:
        """These objects shall be there for a Gateway, and no others; none where somebody else runs its proxies."""
        self._kept.discard(gateway.key)
        before = self._wanted.get(gateway.key)
        self._wanted[gateway.key] = (gateway, objects)
        # Status, too, is part of a Gateway, and what we tell ends there.
        if before is None or (before[0].metadata.uid, before[1]) != (gateway.metadata.uid, objects):
            self._mark(gateway.key)

    def keep(self, gateway: Name) -> None:
        """What is wanted for a Gateway cannot be told now: what was wanted before holds, else what is there stays."""
        self._kept.add(gateway)

    def forget(self, gateway: Name) -> None:
        """A Gateway is gone or no longer ours: nothing of it shall stay."""
        kept = gateway in self._kept
        self._kept.discard(gateway)
        if self._wanted.pop(gateway, None) is not None or kept:
            self._told.pop(gateway, None)
            self._mark(gateway)

    def restore(self, gateway: Name) -> None:
        """Somebody changed or deleted an object of a Gateway: everything of it is applied again."""
        self._again.add(gateway)
        self._mark(gateway)

    def gone(self, gateway: Name, key: Key, uid: str) -> None:
        """Somebody deleted an object of a Gateway; that is nothing new when it was us, or when another one is there."""
        deployed = self._deployed.get(gateway, {})
        known = deployed.get(key)
        if known is not None and known.uid == uid:
            del deployed[key]
            self._mark(gateway)

    async def run(self) -> None:
        """Work until cancelled. Begins with a look at what is there, left by an earlier leader."""
        await self._look()
        for gateway in (*self._wanted, *self._deployed):
            self._mark(gateway)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._resync())
            limit = asyncio.Semaphore(_AT_ONCE)
            busy: set[Name] = set()
            while True:
                await self._changed.wait()
                self._changed.clear()
                for gateway in [each for each in self._due if each not in busy]:
                    del self._due[gateway]
                    busy.add(gateway)
                    tasks.create_task(self._work(gateway, limit, busy))

    # --- When ---------------------------------------------------------------------------------------------------

    def _mark(self, gateway: Name) -> None:
        self._due[gateway] = None
        self._changed.set()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._resync_s)
            for gateway in self._wanted:
                self.restore(gateway)

    async def _work(self, gateway: Name, limit: asyncio.Semaphore, busy: set[Name]) -> None:
        """One Gateway once; what failed is tried again later and later."""
        try:
            async with limit:
                failed = await self._bring_about(gateway)
        except Exception:  # noqa: BLE001 - our fault with one Gateway must not stop the others
            _log.exception("a bug kept us from deploying", gateway=str(gateway))
            failed = True
        finally:
            busy.discard(gateway)
        if gateway in self._due:
            self._changed.set()
        if (waiting := self._retries.pop(gateway, None)) is not None:
            waiting.cancel()
        if not failed:
            self._backoffs.pop(gateway, None)
            return
        backoff = self._backoffs.setdefault(gateway, Backoff(first=1.0, most=_SLOWEST_RETRY_S))
        self._retries[gateway] = asyncio.get_running_loop().call_later(backoff.next(), self._mark, gateway)

    # --- What ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Learn what there is of ours; a kind that the cluster does not have is none of it."""
        backoff = Backoff()
        while True:
            try:
                found = [each for kind in KINDS for each in await self._list(*kind)]
                break
            except ApiError as error:
                _log.warning("cannot list what was deployed", error=error.message)
                await asyncio.sleep(backoff.next(error.retry_after))
        self._deployed = {}
        for obj in found:
            owner = owner_of(obj)
            if owner is not None:
                gateway = Name(obj["metadata"]["namespace"], owner["name"])
                self._deployed.setdefault(gateway, {})[_key(obj)] = _deployed(obj, owner["uid"])

    async def _list(self, api_version: str, kind: str) -> tuple[Object, ...]:
        try:
            found = [
                await self._cluster.list_objects(api_version, kind, namespace=namespace, labels=self.selector)
                for namespace in self._namespaces
            ]
        except ApiError as error:
            if error.not_found:
                return ()
            raise
        return tuple(obj for each in found for obj in each)

    async def _bring_about(self, name: Name) -> bool:
        """Apply what differs, remove what is too much; True when something has to be tried again."""
        gateway, objects = self._wanted.get(name, (None, ()))
        if gateway is None and name in self._kept:
            return False
        again = name in self._again
        self._again.discard(name)
        findings: list[Finding] = []
        failed = False
        for obj in objects:
            assert gateway is not None
            try:
                finding = await self._apply(gateway, obj, again=again)
            except ApiError as error:
                failed = True
                finding = _refused(gateway, obj, error)
                _log.warning("cannot apply", object=_ref(obj), gateway=str(name), error=error.message)
            if finding is not None:
                failed = True
                findings.append(finding)
        failed |= await self._remove(name, {_key(each) for each in objects})
        if failed and again:
            self._again.add(name)
        if gateway is not None and (now := self._wanted.get(name)) is not None and now[1] == objects:
            self._tell(name, tuple(findings))
        return failed

    def _tell(self, name: Name, findings: tuple[Finding, ...]) -> None:
        if self._told.get(name) != findings:
            self._told[name] = findings
            self._report(name, findings)

    async def _apply(self, gateway: Gateway, obj: Object, *, again: bool) -> Finding | None:
        """Apply one object unless it is there as it is wanted; a finding when it is somebody else's."""
        key = _key(obj)
        deployed = self._deployed.setdefault(gateway.key, {})
        known = deployed.get(key)
        if known is not None and known.owner_uid == gateway.metadata.uid:
            if known.hash == _hash(obj) and not again:
                return None
        elif (finding := await self._make_way(gateway, key)) is not None:
            return finding
        made = await self._cluster.apply(obj, field_manager=FIELD_MANAGER, force=True)
        deployed[key] = _deployed(made, gateway.metadata.uid)
        _log.info("applied", object=_ref(obj), gateway=str(gateway.key))
        return None

    async def _make_way(self, gateway: Gateway, key: Key) -> Finding | None:
        """See to it that no other object has the name; one that an earlier Gateway of that name left is removed."""
        there = await self._cluster.read(key.api_version, key.kind, key.name, namespace=gateway.metadata.namespace)
        if there is None or _owner_uid(there) == gateway.metadata.uid:
            return None
        owner = owner_of(there)
        ours = self._labels.items() <= there["metadata"].get("labels", {}).items()
        if not ours or owner is None or owner["name"] != gateway.metadata.name:
            return _taken(gateway, key, there)
        await self._delete(gateway.key, key, there["metadata"]["uid"])
        if await self._cluster.read(key.api_version, key.kind, key.name, namespace=gateway.metadata.namespace):
            raise ApiError(0, "Terminating", f"{key.kind} {key.name} of an earlier Gateway is still being removed")
        return None

    async def _remove(self, gateway: Name, wanted: Iterable[Key]) -> bool:
        """Delete what is not wanted; True when something could not be."""
        failed = False
        for key, known in sorted(self._deployed.get(gateway, {}).items(), reverse=True):
            if key not in wanted:
                try:
                    await self._delete(gateway, key, known.uid)
                except ApiError as error:
                    if error.conflict:  # It is another object by now, none that we made.
                        self._deployed[gateway].pop(key, None)
                    failed |= not error.conflict
                    _log.warning("cannot remove", kind=key.kind, name=key.name, error=error.message)
        if not self._deployed.get(gateway) and gateway not in self._wanted:
            self._deployed.pop(gateway, None)
        return failed

    async def _delete(self, gateway: Name, key: Key, uid: str) -> None:
        await self._cluster.delete(key.api_version, key.kind, key.name, namespace=gateway.namespace, uid=uid)
        self._deployed.get(gateway, {}).pop(key, None)
        _log.info("removed", kind=key.kind, name=key.name, gateway=str(gateway))


# --- Objects --------------------------------------------------------------------------------------------------------


def _key(obj: Object) -> Key:
    return Key(obj["apiVersion"], obj["kind"], obj["metadata"]["name"])


def _ref(obj: Object) -> str:
    return str(Ref("", obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))


def _hash(obj: Object) -> str:
    found: str = obj["metadata"].get("annotations", {}).get(names.HASH_ANNOTATION, "")
    return found


def _deployed(obj: Object, owner_uid: str) -> Deployed:
    return Deployed(obj["metadata"]["uid"], _hash(obj), owner_uid)


def owner_of(obj: Object) -> dict[str, Any] | None:
    """The Gateway that controls an object; None: no Gateway does."""
    for each in obj["metadata"].get("ownerReferences", ()):
        if each.get("controller") and each["kind"] == "Gateway" and each["apiVersion"].startswith(f"{GATEWAY_GROUP}/"):
            owner: dict[str, Any] = each
            return owner
    return None


def _owner_uid(obj: Object) -> str:
    owner = owner_of(obj)
    return "" if owner is None else owner["uid"]


# --- Findings -------------------------------------------------------------------------------------------------------


def _taken(gateway: Gateway, key: Key, there: Object) -> Finding:
    owners = there["metadata"].get("ownerReferences", ())
    owner = next((f"{each['kind']} `{each['name']}`" for each in owners if each.get("controller")), "")
    return Finding(
        object=gateway.ref,
        condition="Programmed",
        reason="NoResources",
        message=f"{key.kind} `{gateway.metadata.namespace}/{key.name}`, which Gateway `{gateway.key}` needs, "
        + (f"belongs to {owner}" if owner else "exists and was not made for it"),
        hint=f"Rename the Gateway, or delete the {key.kind} if nobody needs it",
    )


def _refused(gateway: Gateway, obj: Object, error: ApiError) -> Finding | None:
    """What to tell about a request that failed; a server that is away is nobody's fault who writes Gateways."""
    unwell = error.status >= 500 and not error.message.startswith(_UNREADABLE)
    if error.unreachable or unwell or error.status in (401, 429):
        return None
    one_address = names.ROUTABILITY_LABEL in obj["metadata"].get("labels", {})
    if error.forbidden:
        hint = "Let whoever runs the cluster grant it to the controller, or raise the quota"
    elif one_address:
        hint = "Use a free address of the cluster's Service range, or leave `value` out"
    elif error.not_found:
        hint = "Install that kind, or leave it out of the GatewayParameters"
    else:
        hint = "Correct the GatewayParameters of the Gateway or of its class"
    return Finding(
        object=gateway.ref,
        condition="AddressesAssigned" if one_address else "Programmed",
        reason="NotAssigned" if one_address else "NoResources" if error.forbidden else "Invalid",
        message=f"{obj['kind']} `{gateway.metadata.namespace}/{obj['metadata']['name']}` of Gateway `{gateway.key}` is "
        f"refused by the cluster: {error.message}",
        hint=hint,
    )
