"""Leader election by a Lease: of several controllers, one writes.

The invariants: a leader that cannot renew within the renew deadline has stopped before others may take over, which is
after the lease duration; times written by others are never compared with our clock, only how long, by our own, the
Lease has stood unchanged. The protocol is the one that Kubernetes' own controllers speak.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from tripylon.kube.client import Client, Object
from tripylon.kube.failures import ApiError

_API_VERSION = "coordination.k8s.io/v1"
_RELEASE_S = 3.0
"""How long an orderly stop may take."""


def steady() -> float:
    """Seconds of a clock that nobody sets; where the system has such a one, it goes on while the machine sleeps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Election:
    """Takes part in an election until cancelled. All durations are in seconds.

    `on_started` and `on_stopped` are called in turn, any number of times; they must not block. `is_leader` is what
    `leader.py` asks before each write. Cancelling `run` stops leading, then releases the Lease so that another can
    follow at once.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        on_started: Callable[[], None],
        on_stopped: Callable[[], None],
        *,
        lease_duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        clock: Callable[[], float] = steady,
    ) -> None:
        if not lease_duration > renew_deadline > retry_period > 0:
            raise ValueError("lease_duration must exceed renew_deadline, and that retry_period")
        self._client, self._namespace, self._name, self._identity = client, namespace, name, identity
        self._on_started, self._on_stopped = on_started, on_stopped
        self._lease_duration, self._renew_deadline, self._retry_period = lease_duration, renew_deadline, retry_period
        self._clock = clock
        self._log = structlog.get_logger().bind(lease=f"{namespace}/{name}", identity=identity)
        self._leading = False
        self._renewed = -math.inf
        self._lease: Object | None = None
        self._observed: tuple[dict[str, Any], float] | None = None

    @property
    def is_leader(self) -> bool:
        """Whether we lead now; False as soon as the deadline has passed, even before `on_stopped` could be called."""
        return self._leading and self._clock() < self._renewed + self._renew_deadline

    @property
    def leader(self) -> str:
        """Who led when we last looked; empty: nobody."""
        return str(self._observed[0].get("holderIdentity") or "") if self._observed else ""

    async def run(self) -> None:
        """Take part without end."""
        try:
            while True:
                await self._acquire()
                try:
                    self._start()
                    await self._keep()
                finally:
                    self._stop()
        finally:
            await self._release()

    def _start(self) -> None:
        self._leading = True
        self._log.info("leading")
        self._on_started()

    def _stop(self) -> None:
        self._leading = False
        self._log.info("leading no longer")
        self._on_stopped()

    async def _acquire(self) -> None:
        """Wait until we hold the Lease."""
        told = ""
        while True:
            try:
                async with asyncio.timeout(self._renew_deadline):
                    if await self._take():
                        return
                if told != (told := self.leader):
                    self._log.info("another leads", leader=told)
            except (ApiError, TimeoutError) as error:
                another_was_faster = isinstance(error, ApiError) and error.status == 409
                if not another_was_faster and told != (told := str(error) or "no answer in time"):
                    self._log.warning("cannot take part in the election", error=told)
            await asyncio.sleep(self._retry_period * random.uniform(1.0, 1.2))  # noqa: S311

    async def _keep(self) -> None:
        """Renew until that cannot be done in time, or another holds the Lease."""
        wait = self._retry_period
        while True:
            await asyncio.sleep(min(wait, self._left()))
            left = self._left()
            if left <= 0:
                self._log.warning("could not renew the lease in time")
                return
            try:
                # A request without answer leaves time for another one.
                async with asyncio.timeout(min(left, max(self._renew_deadline / 2, self._retry_period))):
                    if not await self._take():
                        self._log.warning("the lease was taken away", leader=self.leader)
                        return
                wait = self._retry_period
            except (ApiError, TimeoutError) as error:
                self._log.info("the lease could not be renewed", error=str(error) or "no answer in time")
                conflict = isinstance(error, ApiError) and error.conflict
                wait = self._retry_period / (10 if conflict else 2)

    def _left(self) -> float:
        """Seconds until the renew deadline."""
        return max(0.0, self._renewed + self._renew_deadline - self._clock())

    async def _take(self) -> bool:
        """Take the Lease, or renew it; False while another holds it. ApiError, 409 when another was faster."""
        started = self._clock()
        if self._lease is None:
            self._lease = await self._read()
            if self._lease is None:
                return await self._write(self._path(""), "POST", self._fresh(), started)
            self._observe(self._lease)
        if not self._is_ours() and not self._is_free():
            self._lease = None  # Look again the next time.
            return False
        return await self._write(self._path(self._name), "PUT", self._renewal(self._lease), started)

    async def _write(self, path: str, method: str, lease: Object, started: float) -> bool:
        try:
            body = await self._client.request(method, path, body=msgspec.json.encode(lease), attempts=1)
        except BaseException:
            self._lease = None  # Whether it was written, a look will tell.
            raise
        self._lease = _decoded(body)
        self._observe(self._lease)
        self._renewed = started
        return True

    async def _read(self) -> Object | None:
        try:
            return _decoded(await self._client.request("GET", self._path(self._name), attempts=1))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def _observe(self, lease: Object) -> None:
        """Remember since when, by our clock, the Lease says what it says."""
        spec = lease.get("spec") or {}
        if self._observed is None or self._observed[0] != spec:
            self._observed = (spec, self._clock())

    def _is_ours(self) -> bool:
        return self.leader == self._identity

    def _is_free(self) -> bool:
        assert self._observed is not None
        spec, since = self._observed
        duration = float(spec.get("leaseDurationSeconds") or self._lease_duration)
        return not self.leader or self._clock() >= since + duration

    def _fresh(self) -> Object:
        spec = {**self._claim(), "acquireTime": _now(), "leaseTransitions": 0}
        metadata = {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}

    def _renewal(self, lease: Object) -> Object:
        spec = lease.get("spec") or {}
        if not self._is_ours():
            spec = {**spec, "acquireTime": _now(), "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return {**lease, "spec": {**spec, **self._claim()}}

    def _claim(self) -> dict[str, Any]:
        seconds = max(1, math.ceil(self._lease_duration))
        return {"holderIdentity": self._identity, "leaseDurationSeconds": seconds, "renewTime": _now()}

    async def _release(self) -> None:
        """Let go of the Lease when it is ours; a failure costs others only the lease duration."""
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                lease = await self._read()
                spec = (lease or {}).get("spec") or {}
                if lease is None or spec.get("holderIdentity") != self._identity:
                    return
                free = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                body = msgspec.json.encode({**lease, "spec": free})
                await self._client.request("PUT", self._path(self._name), body=body, attempts=1)
                self._log.info("released the lease")

    def _path(self, name: str) -> str:
        path = f"/apis/{_API_VERSION}/namespaces/{self._namespace}/leases"
        return f"{path}/{name}" if name else path


def _decoded(body: bytes) -> Object:
    found = msgspec.json.decode(body)
    assert isinstance(found, dict)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
