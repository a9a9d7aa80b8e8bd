"""The API server as only the leader may use it: what changes the cluster is refused as soon as the lead is lost.

The election tells its listeners when it ends; a process that was stopped for a while, or was busy for too long, may run
a writer before that. The invariant: no write begins after the renew deadline, whoever is told what in which order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tripylon.kube.client import Client, Object
from tripylon.kube.failures import ApiError


class LeaderClient:
    """Reads as `client` does; writes while `is_leader` says so, else ApiError with status 0 and reason `NotLeading`."""

    def __init__(self, client: Client, is_leader: Callable[[], bool]) -> None:
        self._is_leader = is_leader
        self._client = client
        self.read = client.read
        self.list_objects = client.list_objects

    async def apply(self, obj: Object, *, field_manager: str, force: bool = True) -> Object:
        """See `Client.apply`."""
        self._check()
        return await self._client.apply(obj, field_manager=field_manager, force=force)

    async def create(self, obj: Object, *, field_manager: str = "") -> Object:
        """See `Client.create`."""
        self._check()
        return await self._client.create(obj, field_manager=field_manager)

    async def delete(self, api_version: str, kind: str, name: str, *, namespace: str = "", uid: str = "") -> bool:
        """See `Client.delete`."""
        self._check()
        return await self._client.delete(api_version, kind, name, namespace=namespace, uid=uid)

    async def patch_status(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: list[dict[str, Any]],
        *,
        namespace: str = "",
        resource_version: str = "",
    ) -> Object:
        """See `Client.patch_status`."""
        self._check()
        return await self._client.patch_status(
            api_version, kind, name, patch, namespace=namespace, resource_version=resource_version
        )

    def _check(self) -> None:
        if not self._is_leader():
            raise ApiError(0, "NotLeading", "another replica may lead by now; it writes")
