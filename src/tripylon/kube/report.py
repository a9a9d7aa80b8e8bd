"""The status that users see, written to the API server by the leader.

A change marks objects (`concerned.py`); each is judged by what the graph says by then, so that a burst of changes costs
one write. The invariants: nothing is written that differs in nothing, nothing of another controller's is touched
(`status_patch.py`), each object is written at most twice a second, and nothing here holds up publishing.

What passes by is not written: a Gateway that is programmed and whose proxies have yet to take a change, or to come
back after the controller was away, is judged again for some seconds before its status says that it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import structlog

from tripylon.api.gateway import Gateway, GatewayStatus
from tripylon.api.kinds import DecodeError, Kind, decode, kind_of
from tripylon.api.listener_sets import ListenerSet, ListenerSetStatus
from tripylon.api.meta import Resource
from tripylon.graph import Changes, Graph
from tripylon.kube.concerned import concerned, gateway_ref, is_reported
from tripylon.kube.failures import ApiError
from tripylon.kube.marks import Marks
from tripylon.kube.status_patch import Operation, operations
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.options import Options
from tripylon.status.desired import Status, desired
from tripylon.status.merge import merge
from tripylon.values import Name, Ref
from tripylon.world import world

_log = structlog.get_logger("tripylon.kube.report")

_AT_ONCE = 32
"""Objects judged before others get their turn."""
_TRIES = 6
"""How often a write is tried that others get in the way of."""
_LOOK_AGAIN_S = (0.02, 2.0)
"""How soon a Gateway that waits for its proxies is judged again, at first and at last."""
_SWEEP_S = 2.0
"""How often all Gateways are asked whether their proxies still have everything."""
_FAILED_S = (1.0, 30.0)
"""How soon a write that failed is tried again, at first and at last."""


class Engine(Protocol):
    """What is known: see `loop.Engine`."""

    @property
    def graph(self) -> Graph:
        """Objects, plans and findings."""

    def listener(self, gateway: Name, listener: str) -> Literal["programmed", "pending"]:
        """What proxies have acknowledged."""


class News(Protocol):
    """One change: see `loop.Applied`."""

    @property
    def subjects(self) -> frozenset[Ref]:
        """Objects whose findings changed."""

    @property
    def changes(self) -> Changes:
        """What changed in the graph."""


class Statuses(Protocol):
    """What we ask of the API server: see `client.Client`."""

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> dict[str, Any] | None:
        """An object; None when it is not there."""

    async def patch_status(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: list[dict[str, Any]],
        *,
        namespace: str = "",
        resource_version: str = "",
    ) -> dict[str, Any]:
        """Change a status by a JSON patch, if it is that of `resource_version`; ApiError 409 when it is not."""


class Counters(msgspec.Struct, gc=False):
    """Totals since the start, for a metrics layer to read."""

    writes: int = 0
    skipped: int = 0
    """Judgements after which there was nothing to write."""
    conflicts: int = 0
    errors: int = 0


class _Written(NamedTuple):
    """What we wrote, for as long as the watch has not told us."""

    before: str
    """resourceVersion of the copy in the World at that time."""
    resource: Resource


class Reporter:
    """Writes status between `start` and `stop`, while `run` runs. Nothing blocks but `run`.

    `interval_s`: least time between two writes to one object. `patience_s`: how long a Gateway that was programmed may
    seem not to be before that is told. `concurrency`: writes at a time.
    """

    def __init__(
        self,
        engine: Engine,
        client: Statuses,
        options: Options,
        *,
        concurrency: int = 16,
        interval_s: float = 0.5,
        patience_s: float = 10.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counters = Counters()
        self._engine, self._client, self._options = engine, client, options
        self._concurrency, self._interval_s, self._patience_s, self._now = concurrency, interval_s, patience_s, now
        self._leading = False
        self._stirred = asyncio.Event()
        self._marks = Marks()
        self._busy: dict[Ref, asyncio.Task[None]] = {}
        self._again: set[Ref] = set()
        """Marked while it was being written."""
        self._free_at: dict[Ref, float] = {}
        self._written: dict[Ref, _Written] = {}
        self._held_until: dict[Ref, float] = {}
        self._looks: dict[Ref, float] = {}
        """Gateways that wait for their proxies → seconds until the next look."""
        self._failures: dict[Ref, int] = {}
        self._seen: dict[Name, bool] = {}
        """Whether each Gateway's proxies had its listeners when they were looked at last."""
        self._programmed: dict[Name, bool] = {}
        """The same as it was twice in a row."""

    @property
    def waiting(self) -> int:
        """How many objects are marked or being written."""
        return len(self._marks) + len(self._busy)

    def start(self) -> None:
        """Begin to lead: every object is judged."""
        self._leading = True
        for resource in world.resources(self._engine.graph):
            if is_reported(resource.ref):
                self._mark(resource.ref)

    def stop(self) -> None:
        """Stop at once: no write begins any more; one that is on its way may still arrive."""
        self._leading = False
        self._marks.clear()
        for task in self._busy.values():
            task.cancel()
        self._busy.clear()  # At once: a task that has not begun yet would never take itself out.
        for each in (self._again, self._free_at, self._written, self._held_until, self._looks, self._failures):
            each.clear()

    def changed(self, news: News) -> None:
        """Something changed; remembered only while we lead."""
        if self._leading:
            graph = self._engine.graph
            self.mark({*concerned(news.changes, graph), *filter(is_reported, news.subjects)})

    def mark(self, refs: Iterable[Ref]) -> None:
        """These objects are to be judged again."""
        if self._leading:
            for ref in refs:
                self._looks.pop(ref, None)
                self._failures.pop(ref, None)
                self._mark(ref)

    async def run(self) -> None:
        """Judge and write what is marked, without end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            while True:
                self._stirred.clear()
                if self._judge_some(tasks):
                    await asyncio.sleep(0)
                    continue
                due = self._marks.next_at if len(self._busy) < self._concurrency else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._stirred.wait()

    # --- What to write -----------------------------------------------------------------------------------------------

    def _judge_some(self, tasks: asyncio.TaskGroup) -> bool:
        """Judges objects that are due and starts their writes; whether there may be more of them."""
        now = asyncio.get_running_loop().time()
        for _ in range(_AT_ONCE):
            ref = self._marks.take(now) if len(self._busy) < self._concurrency else None
            if ref is None:
                return False
            if ref in self._busy or self._free_at.get(ref, now) > now:
                self._mark(ref)
                continue
            resource = world.find(self._engine.graph, ref)
            if resource is None:
                self._forget(ref)
                continue
            latest = self._latest(resource)
            if patch := self._patch(resource, latest):
                self._busy[ref] = tasks.create_task(self._write(ref, resource, latest, patch))
            else:
                self.counters.skipped += 1
        return True

    def _latest(self, resource: Resource) -> Resource:
        """An object with the status that we know last: the watch may have yet to tell what we wrote."""
        written = self._written.get(resource.ref)
        if written is None:
            return resource
        if written.before == resource.metadata.resource_version:
            return written.resource
        del self._written[resource.ref]
        return resource

    def _patch(self, resource: Resource, latest: Resource) -> list[Operation]:
        """What to change in the status of an object as it is at the server; empty: nothing, or not now.

        Its spec there must be the one that was built: when it is not, the watch is about to tell of another one.
        """
        if _identity(resource) != _identity(latest):
            return []
        try:
            return self._differences(resource, getattr(latest, "status", None))
        except Exception as error:  # noqa: BLE001 - a bug in one status must not stop the others
            _log.error("a status could not be worked out; this is a bug", object=str(resource.ref), exc_info=error)
            return []

    def _differences(self, resource: Resource, previous: Status | None) -> list[Operation]:
        current: Resource = msgspec.structs.replace(resource, status=previous)
        now = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = desired(self._engine.graph, current, options=self._options, programming=self._engine, now=now)
        if isinstance(resource, Gateway | ListenerSet) and self._is_passing(resource, previous, wanted):
            return []
        whole = merge(previous, wanted, self._options.controller_name)
        return [] if whole is None else operations(previous, whole)

    def _is_passing(self, resource: Gateway | ListenerSet, previous: Status | None, wanted: Status | None) -> bool:
        """Whether what is wanted may well be another thing in a moment; then it is looked at again."""
        ref, now = resource.ref, asyncio.get_running_loop().time()
        waits_for = _missing(wanted)
        if not waits_for:
            self._held_until.pop(ref, None)
            self._looks.pop(ref, None)
            return False
        if waits_for == "Pending":
            self._look_again(ref, now)
        if _status_of(previous, "Programmed") != "True":
            return False
        until = self._held_until.setdefault(ref, now + self._patience_s)
        if now >= until:
            return False
        self._marks.add(ref, until)
        return True

    def _look_again(self, ref: Ref, now: float) -> None:
        first, last = _LOOK_AGAIN_S
        wait_s = self._looks.get(ref, first)
        self._looks[ref] = min(wait_s * 2, last)
        self._marks.add(ref, now + wait_s)

    async def _sweep(self) -> None:
        """Finds Gateways whose proxies have gone, or come, without anything having changed."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            if not self._leading:
                continue
            self._tidy()
            plans = self._engine.graph.rows(GATEWAY_PLANS)
            before, self._seen = (
                self._seen,
                {
                    # One listener stands for all: proxies take a Gateway's listeners together.
                    name: all(self._engine.listener(name, each.id) == "programmed" for each in plan.listeners[:1])
                    for name, plan in plans.items()
                },
            )
            # While a change is being taken a Gateway with thousands of listeners is not judged again for it.
            lasting = {name: now for name, now in self._seen.items() if before.get(name) == now}
            told = self._programmed
            self._programmed = {name: now for name, now in {**told, **lasting}.items() if name in plans}
            for name in (name for name, now in lasting.items() if told.get(name) != now):
                self.mark((gateway_ref(name), *dict.fromkeys(each.holder for each in plans[name].listeners)))

    # --- Writing -------------------------------------------------------------------------------------------------

    async def _write(self, ref: Ref, resource: Resource, latest: Resource, patch: list[Operation]) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await self._try(ref, resource, latest, patch)
        except ApiError as error:
            self._failed(ref, error)
        finally:
            if self._busy.get(ref) is asyncio.current_task():  # Else we were stopped.
                del self._busy[ref]
                self._free_at[ref] = clock() + self._interval_s
                if ref in self._again:
                    self._again.discard(ref)
                    self._mark(ref)
            self._stirred.set()

    async def _try(self, ref: Ref, resource: Resource, latest: Resource, patch: list[Operation]) -> None:
        """Writes; when somebody else wrote meanwhile, by what is there now, and again for a bounded number of times."""
        kind = kind_of(resource)
        api_version = resource.api_version or kind.api_version
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await self._client.patch_status(
                    api_version,
                    kind.name,
                    ref.name,
                    patch,
                    namespace=ref.namespace,
                    resource_version=latest.metadata.resource_version,
                )
            except ApiError as error:
                if error.status != 409 or attempt == _TRIES:
                    raise
                self.counters.conflicts += 1
            else:
                self.counters.writes += 1
                self._failures.pop(ref, None)
                if (after := _decoded(kind, answer)) is not None:
                    self._written[ref] = _Written(resource.metadata.resource_version, after)
                return
            await asyncio.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311
            found = await self._client.read(api_version, kind.name, ref.name, namespace=ref.namespace)
            resource = world.find(self._engine.graph, ref) or resource
            again = _decoded(kind, found) if found is not None else None
            patch = self._patch(resource, again) if again is not None else []
            if again is None or not patch:
                self.counters.skipped += 1
                return
            latest = again

    def _failed(self, ref: Ref, error: ApiError) -> None:
        """404: the object, or its kind, has gone, and the watch will say so. Anything else is tried again later."""
        if error.status == 404:
            self._forget(ref)
            return
        self.counters.errors += 1
        count = self._failures[ref] = self._failures.get(ref, 0) + 1
        if count == 1:
            _log.warning("a status cannot be written", object=str(ref), status=error.status, error=str(error))
        first, last = _FAILED_S
        wait_s = min(first * 2 ** (count - 1), last) * random.uniform(1.0, 1.5)  # noqa: S311
        if self._leading:
            self._marks.add(ref, asyncio.get_running_loop().time() + wait_s)

    # --- Marks -------------------------------------------------------------------------------------------------------

    def _mark(self, ref: Ref) -> None:
        """Has an object judged as soon as it may be written again."""
        if ref in self._busy:
            self._again.add(ref)
            return
        now = asyncio.get_running_loop().time()
        free_at = self._free_at.get(ref, now)
        if free_at <= now:
            self._free_at.pop(ref, None)
        self._marks.add(ref, max(now, free_at))
        self._stirred.set()

    def _forget(self, ref: Ref) -> None:
        for each in (self._free_at, self._written, self._held_until, self._looks, self._failures):
            each.pop(ref, None)

    def _tidy(self) -> None:
        """Forgets what is remembered of objects that have gone, and what no longer holds anybody up."""
        now = asyncio.get_running_loop().time()
        self._free_at = {ref: at for ref, at in self._free_at.items() if at > now}
        for ref in {*self._written, *self._held_until, *self._looks, *self._failures}:
            if world.find(self._engine.graph, ref) is None:
                self._forget(ref)


def _identity(resource: Resource) -> tuple[str, int]:
    """What tells one version of what users wrote from others."""
    return resource.metadata.uid, resource.metadata.generation


def _decoded(kind: Kind, found: dict[str, Any]) -> Resource | None:
    try:
        return decode(kind, found)
    except DecodeError:
        return None


def _missing(status: Status | None) -> str:
    """Why a Gateway or ListenerSet is not programmed, if it may be in a moment: proxies or an address are awaited."""
    if not isinstance(status, GatewayStatus | ListenerSetStatus):
        return ""
    for condition in status.conditions:
        if condition.type == "Programmed" and condition.reason in ("Pending", "AddressNotAssigned"):
            return condition.reason
    pending = (condition.reason == "Pending" for listener in status.listeners for condition in listener.conditions)
    return "Pending" if any(pending) else ""


def _status_of(status: Status | None, type: str) -> str:
    conditions = status.conditions if isinstance(status, GatewayStatus | ListenerSetStatus) else ()
    return next((each.status for each in conditions if each.type == type), "")
