"""Objects at an API server whose status is patched: versions, conflicts, other writers, as raw JSON."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from tripylon.api.kinds import decode, find
from tripylon.api.meta import Resource
from tripylon.kube.failures import ApiError
from tripylon.values import Ref

Object = dict[str, Any]


def patched(document: Object, patch: list[Object]) -> Object:
    """A JSON patch applied as RFC 6902 says; ApiError 422 where it does not fit."""
    made = copy.deepcopy(document)
    for each in patch:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in each["path"].split("/")[1:]]
        at: Any = made
        try:
            for part in path:
                at = at[int(part)] if isinstance(at, list) else at[part]
            if isinstance(at, list):
                _in_list(at, last, each)
            else:
                _in_map(at, last, each)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ApiError(422, "Invalid", f"{each} does not fit: {error}") from error
    return made


def _in_list(at: list[Any], last: str, each: Object) -> None:
    match each["op"]:
        case "add" if last == "-":
            at.append(each["value"])
        case "add":
            at.insert(int(last), each["value"])
        case "replace":
            at[int(last)] = each["value"]
        case "remove":
            del at[int(last)]


def _in_map(at: Object, last: str, each: Object) -> None:
    match each["op"]:
        case "add":
            at[last] = each["value"]
        case "replace":
            assert last in at
            at[last] = each["value"]
        case "remove":
            del at[last]


class Cluster:
    """The objects. `deliver` is the watch: it tells of a change when the test says so, or at once."""

    def __init__(self, deliver: Callable[[Resource], None] = lambda _: None) -> None:
        self.objects: dict[Ref, Object] = {}
        self.deliver = deliver
        self.patches: list[tuple[Ref, list[Object]]] = []
        self.reads = 0
        self.before_write: list[Callable[[], None]] = []
        self.failures: list[ApiError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_a_time = 0
        self.most_at_a_time = 0
        self._version = 0

    def put(self, obj: Object, *, tell: bool = True) -> Resource:
        """Somebody makes or changes an object, as a whole."""
        kind = find(obj["apiVersion"], obj["kind"])
        assert kind is not None
        self._version += 1
        stored = copy.deepcopy(obj)
        metadata = stored["metadata"]
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", f"uid-{metadata['name']}")
        metadata.setdefault("generation", 1)
        resource = decode(kind, stored)
        self.objects[resource.ref] = stored
        if tell:
            self.deliver(resource)
        return resource

    def status(self, ref: Ref) -> Object:
        found: Object = self.objects[ref].get("status", {})
        return found

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        await asyncio.sleep(0)
        self.reads += 1
        return copy.deepcopy(self.objects.get(_ref(api_version, kind, namespace, name)))

    async def patch_status(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: list[Object],
        *,
        namespace: str = "",
        resource_version: str = "",
    ) -> Object:
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.at_a_time -= 1
        if self.before_write:
            self.before_write.pop(0)()
        if self.failures:
            raise self.failures.pop(0)
        ref = _ref(api_version, kind, namespace, name)
        stored = self.objects.get(ref)
        if stored is None:
            raise ApiError(404, "NotFound", f"{ref} is not there")
        if stored["metadata"]["resourceVersion"] != resource_version:
            raise ApiError(409, "Conflict", f"{ref} was changed")
        assert patch, "a patch that changes nothing"
        assert all(each["path"].startswith("/status") for each in patch)
        made = patched(stored, patch)
        assert made != stored, "a write that changes nothing"
        self.patches.append((ref, patch))
        self.put(made)
        return copy.deepcopy(self.objects[ref])


def _ref(api_version: str, kind: str, namespace: str, name: str) -> Ref:
    return Ref(api_version.rpartition("/")[0], kind, namespace, name)
