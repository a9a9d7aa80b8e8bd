"""Which kinds the API server serves, and under which path.

One answer per group and version is remembered until `forget`; askers at the same time share one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from tripylon.kube.failures import ApiError


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A kind as an API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of one object, or of all without a name; of all namespaces without a namespace."""
        parts = [("/apis/" if "/" in self.api_version else "/api/") + self.api_version]
        parts += ["namespaces", namespace] if self.namespaced and namespace else []
        parts += [each for each in (self.plural, name, subresource) if each]
        return "/".join(parts)


class _Entry(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool = False


class _List(msgspec.Struct):
    resources: tuple[_Entry, ...] = ()


class Discovery:
    """Looks up kinds. `get` asks the API server for a path and raises ApiError."""

    def __init__(self, get: Callable[[str], Awaitable[bytes]]) -> None:
        self._get = get
        self._known: dict[str, asyncio.Task[tuple[Served, ...]]] = {}

    async def kinds(self, api_version: str) -> tuple[Served, ...]:
        """The kinds of a group and version, none when it is not served; ApiError when the server cannot tell."""
        task = self._known.get(api_version)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._known[api_version] = asyncio.create_task(self._ask(api_version))
        return await asyncio.shield(task)

    async def find(self, api_version: str, kind: str) -> Served | None:
        """A kind by its words; None when it is not served, which is never answered from memory."""
        remembered = api_version in self._known
        for served in await self.kinds(api_version):
            if served.kind == kind:
                return served
        self.forget(api_version)
        return await self.find(api_version, kind) if remembered else None

    async def best(self, group: str, versions: Sequence[str], plural: str) -> Served | None:
        """The kind in the first of these versions in which it is served; None when in none."""
        for version in versions:
            api_version = f"{group}/{version}" if group else version
            for served in await self.kinds(api_version):
                if served.plural == plural:
                    return served
        return None

    def forget(self, *api_versions: str) -> None:
        """Ask the server again, at the next time, for these; without any: for all."""
        for each in api_versions or tuple(self._known):
            if (task := self._known.get(each)) is not None and task.done():
                del self._known[each]

    async def _ask(self, api_version: str) -> tuple[Served, ...]:
        prefix = "/apis/" if "/" in api_version else "/api/"
        try:
            body = await self._get(prefix + api_version)
        except ApiError as error:
            if error.not_found:
                return ()
            raise
        try:
            found = msgspec.json.decode(body, type=_List).resources
        except msgspec.MsgspecError as error:
            raise ApiError(0, "", f"The list of kinds of {api_version} cannot be read: {error}") from error
        return tuple(
            Served(api_version=api_version, kind=each.kind, plural=each.name, namespaced=each.namespaced)
            for each in found
            if "/" not in each.name
        )
