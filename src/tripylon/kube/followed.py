"""One followed list among many: a kind in all namespaces or one, or a single object of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tripylon.api.kinds import Kind
from tripylon.kube.client import Client
from tripylon.kube.reflector import Reflector
from tripylon.values import Name, Ref

Take = Callable[["Followed", Ref, bytes | None, str], Awaitable[None]]
"""Takes an object's bytes, None when it is gone, and its resourceVersion."""


class Followed:
    """Ties a Reflector to a kind: finds the list's path, and tells of objects by their reference."""

    def __init__(
        self,
        client: Client,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        params: Mapping[str, str],
        take: Take,
        changed: Callable[[Followed], None],
    ) -> None:
        self.kind, self.namespace, self.name = kind, namespace, name
        self._client, self._take = client, take
        self._task: asyncio.Task[None] | None = None
        title = f"{kind.plural} {namespace}/{name}" if name else f"{kind.plural} {namespace}".strip()
        self.remedy = _remedy(kind, namespace, name)
        """What to grant where we may not follow it."""
        self.reflector = Reflector(
            client,
            title,
            self._locate,
            self,
            params=params,
            remedy=self.remedy,
            changed=lambda _: changed(self),
        )

    def start(self, group: asyncio.TaskGroup) -> None:
        """Follow, in a task of the group."""
        self._task = group.create_task(self.reflector.run(), name=f"watch {self.reflector.title}")

    def stop(self) -> None:
        """Follow no longer."""
        if self._task is not None:
            self._task.cancel()

    async def put(self, name: Name, raw: bytes, version: str) -> None:
        """An object is new or changed."""
        await self._take(self, self._ref(name), raw, version)

    async def delete(self, name: Name) -> None:
        """An object is gone."""
        await self._take(self, self._ref(name), None, "")

    def _ref(self, name: Name) -> Ref:
        return Ref(self.kind.group, self.kind.name, name.namespace, name.name)

    async def _locate(self, *, fresh: bool) -> str | None:
        kind, discovery = self.kind, self._client.discovery
        if fresh:
            discovery.forget(*(f"{kind.group}/{version}" if kind.group else version for version in kind.versions))
        served = await discovery.best(kind.group, kind.versions, kind.plural)
        return served.path(self.namespace) if served is not None else None


def _remedy(kind: Kind, namespace: str, name: str) -> str:
    """What to grant, so that the list can be followed."""
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    place = f"in namespace {namespace}" if namespace else "in all namespaces" if kind.namespaced else "cluster-wide"
    which = f"{resource} {place}, be it only of resourceNames [{name}]" if name else f"{resource} {place}"
    return f"grant list and watch of {which}"
