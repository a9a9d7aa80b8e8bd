"""What was made for Gateways, followed by its metadata, so that whoever deletes some of it is noticed at once.

Only the leader follows it, by one watch for each kind. The invariant: what we removed ourselves tells nothing new, as
the deployer no longer counts on it by then. Read `deploy.py` for what happens next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from tripylon.kube.client import METADATA_ONLY, Client
from tripylon.kube.deploy import Key, owner_of
from tripylon.kube.manifests import KINDS
from tripylon.kube.reflector import Reflector
from tripylon.kube.watch_log import WatchLog
from tripylon.values import Name

Gone = Callable[[Name, Key, str], None]
"""Takes the Gateway that an object was made for, the object, and its uid."""


class Made:
    """Follows what `selector` chooses in the `namespaces` named, or in all if there are none, while `run` runs."""

    def __init__(self, client: Client, selector: str, namespaces: Collection[str], gone: Gone) -> None:
        self._client, self._selector, self._gone = client, selector, gone
        self._namespaces = tuple(sorted(namespaces)) or ("",)

    async def run(self) -> None:
        """Follow without end."""
        log = WatchLog()
        async with asyncio.TaskGroup() as tasks:
            for api_version, kind in KINDS:
                for namespace in self._namespaces:
                    tasks.create_task(self._follow(api_version, kind, namespace, log).run())

    def _follow(self, api_version: str, kind: str, namespace: str, log: WatchLog) -> Reflector:
        async def locate(*, fresh: bool) -> str | None:
            if fresh:
                self._client.discovery.forget(api_version)
            served = await self._client.discovery.find(api_version, kind)
            return served.path(namespace) if served is not None else None

        def changed(reflector: Reflector) -> None:
            log.note(reflector)

        place = f"in namespace {namespace}" if namespace else "in all namespaces"
        return Reflector(
            self._client,
            f"{kind} objects of proxies {namespace}".rstrip(),
            locate,
            _Followed(api_version, kind, self._gone),
            params={"labelSelector": self._selector},
            form=METADATA_ONLY,
            remedy=f"grant list and watch of {kind} of {api_version} {place}, to have what is deleted put back at once",
            changed=changed,
        )


class _Followed:
    """The objects of one kind: what they were made for is only known while they are there."""

    def __init__(self, api_version: str, kind: str, gone: Gone) -> None:
        self._api_version, self._kind, self._gone = api_version, kind, gone
        self._known: dict[Name, tuple[Name, str]] = {}

    async def put(self, name: Name, raw: bytes, version: str) -> None:
        """An object is there."""
        obj: dict[str, Any] = msgspec.json.decode(raw)
        owner = owner_of(obj)
        if owner is not None:
            self._known[name] = Name(name.namespace, owner["name"]), obj["metadata"]["uid"]

    async def delete(self, name: Name) -> None:
        """An object is gone."""
        if (known := self._known.pop(name, None)) is not None:
            gateway, uid = known
            self._gone(gateway, Key(self._api_version, self._kind, name.name), uid)
