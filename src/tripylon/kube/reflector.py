"""One list kept up to date: read in pages, then followed by a watch, and read again when the watch cannot go on.

The invariants: what the server has is told, deletions that nobody saw included; what is known stays known while the
server cannot be asked; one object is never the end of the stream. Objects are told as bytes, of which only the head is
read here. `watch.py` runs one for each kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal, Protocol

import msgspec

from tripylon.kube.client import WHOLE, Client, Form
from tripylon.kube.failures import ApiError, Backoff, Status
from tripylon.values import Name

State = Literal["starting", "live", "absent", "forbidden", "failing"]
"""`live`: listed, and we may listen; `absent`: the server does not know the kind; `failing`: it cannot be asked now."""

_ABSENT_LOOKS_S = (0.3, 5.0)
"""How long to wait for a second look at a kind that seems absent: with nothing known of it, and with something."""
_FORBIDDEN_COUNTS = 3
"""After so many refusals in a row, nobody waits any longer for the kind."""
_QUICK_END_S = 1.0
"""A watch that ends sooner, and says nothing, is resumed when this is over."""


class Sink(Protocol):
    """Where changes go. Both may wait until there is room."""

    async def put(self, name: Name, raw: bytes, version: str) -> None:
        """An object is new or changed."""

    async def delete(self, name: Name) -> None:
        """An object is gone."""


class Locate(Protocol):
    """Finds the URL path of a list; None: the server does not serve the kind."""

    async def __call__(self, *, fresh: bool) -> str | None:
        """With `fresh`, what is remembered of the server's kinds does not count. ApiError when it cannot be asked."""


class Event(msgspec.Struct):
    """A line of a watch. The object is left as bytes, so that it can be dropped unread."""

    type: str
    object: msgspec.Raw


class Meta(msgspec.Struct, rename="camel"):
    """The part of an object's metadata that is read in passing."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class Head(msgspec.Struct):
    """An object of which only the identity is read."""

    metadata: Meta = msgspec.field(default_factory=Meta)

    @property
    def key(self) -> Name:
        """The object's key among its kind."""
        return Name(self.metadata.namespace, self.metadata.name)


class Reflector:
    """Follows the list that `locate` finds. `changed` is called when `state` or `settled` did.

    `remedy` says what to do where we lack the permission.
    """

    def __init__(
        self,
        client: Client,
        title: str,
        locate: Locate,
        sink: Sink,
        *,
        params: Mapping[str, str] | None = None,
        form: Form = WHOLE,
        limit: int = 500,
        remedy: str = "",
        changed: Callable[[Reflector], None] = lambda _: None,
    ) -> None:
        self.title = title
        """What is followed, for people, such as `httproutes` or `secrets shop/cert`."""
        self.state: State = "starting"
        self.message = ""
        """What is wrong; empty when nothing is."""
        self.settled = False
        """Whether it was listed once, or is known not to be for the time being."""
        self.unreachable = False
        """Whether, while `failing`, there is no answer at all."""
        self.known: dict[Name, str] = {}
        """The resourceVersion of each object that was told."""
        self._client, self._locate, self._sink = client, locate, sink
        self._params, self._form, self._limit = dict(params or {}), form, limit
        self._remedy = remedy
        self._changed = changed
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._refusals = 0
        self._opened = False

    def wake(self) -> None:
        """Do not wait any longer to try again."""
        self._backoff.reset()
        self._wake.set()

    async def run(self) -> None:
        """Follow without end."""
        fresh = False
        while True:
            try:
                path = await self._locate(fresh=fresh)
                if path is None:
                    await self._wait_for_kind()
                    fresh = True
                    continue
                version = await self._list(path)
                self._turn(self.state, self.message)  # Settled; it is live as soon as we may listen, too.
                fresh = False
                await self._follow(path, version)
            except ApiError as error:
                if not error.not_found or fresh:  # Else the kind may be gone: look before saying anything.
                    self._fail(error)
                fresh = error.not_found
                await self._pause(self._backoff.next(error.retry_after))

    async def _wait_for_kind(self) -> None:
        """The kind is not served: believe it at the second look, let go of its objects, and wait."""
        await self._pause(_ABSENT_LOOKS_S[1 if self.known else 0])
        if await self._locate(fresh=True) is not None:
            return
        for name in tuple(self.known):
            await self._forget(name)
        self._turn("absent", "the API server does not serve this kind; is its CRD installed?")
        await self._pause(self._backoff.next())

    async def _list(self, path: str) -> str:
        """Tell all objects that differ from what is known; the state's resourceVersion."""
        for limit in (self._limit, self._limit, 0):
            try:
                return await self._list_once(path, limit)
            except ApiError as error:
                if not error.gone or not limit:
                    raise  # Else the list grew too old between two pages: once more, at last in one piece.
        raise AssertionError("the last list returns or raises")

    async def _list_once(self, path: str, limit: int) -> str:
        seen: set[Name] = set()
        version = ""
        async for page in self._client.list_pages(path, params=self._params, limit=limit, accept=self._form.list):
            for item in page.items:
                head = self._head(item)
                seen.add(head.key)
                await self._tell(head, item)
            version = page.metadata.resource_version
        for name in self.known.keys() - seen:
            await self._forget(name)
        return version

    async def _follow(self, path: str, version: str) -> None:
        """Tell what happens from a state on, over as many watches as that takes; ends when a new list is needed."""
        clock = asyncio.get_running_loop().time
        while True:
            start, before, self._opened = clock(), version, False
            try:
                async for lines in self._client.watch_lines(
                    path, resource_version=version, params=self._params, accept=self._form.watch, on_open=self._on_open
                ):
                    for line in lines:
                        version = await self._take(line, version)
                    self._backoff.reset()
                if version == before and (left := start + _QUICK_END_S - clock()) > 0:
                    await self._pause(left)
            except ApiError as error:
                if held := self._opened and clock() - start >= _QUICK_END_S:
                    self._backoff.reset()  # It held for a while, so the next one may as well.
                if error.gone:
                    if not held:
                        await self._pause(self._backoff.next())  # A list for each watch is dear to the server.
                    return
                if not _may_resume(error):
                    raise
                self._fail(error)
                await self._pause(self._backoff.next(error.retry_after))

    def _on_open(self) -> None:
        """The server lets us listen. The waits between tries keep growing until it says something, or for a while."""
        self._opened = True
        self._refusals = 0
        self._turn("live")

    async def _take(self, line: bytes, version: str) -> str:
        """Tell one event; the resourceVersion to resume from."""
        try:
            event = _EVENTS.decode(line)
            if event.type == "ERROR":
                raise msgspec.json.decode(event.object, type=Status).error(500)
        except msgspec.MsgspecError as error:
            raise _unreadable(self.title, error) from error
        head = self._head(event.object)
        now = head.metadata.resource_version
        if event.type in ("ADDED", "MODIFIED"):
            await self._tell(head, event.object)
        elif event.type == "DELETED":
            await self._forget(head.key)
        elif event.type == "BOOKMARK" and is_before(now, version):
            raise ApiError(410, "Expired", f"the server went back from state {version} to {now}")
        return now or version

    def _head(self, raw: msgspec.Raw) -> Head:
        try:
            return _HEADS.decode(raw)
        except msgspec.MsgspecError as error:
            raise _unreadable(self.title, error) from error

    async def _tell(self, head: Head, raw: msgspec.Raw) -> None:
        version = head.metadata.resource_version
        if version and self.known.get(head.key) == version:
            return
        self.known[head.key] = version
        await self._sink.put(head.key, bytes(raw), version)

    async def _forget(self, name: Name) -> None:
        self.known.pop(name, None)
        await self._sink.delete(name)

    def _fail(self, error: ApiError) -> None:
        if self.unreachable and not error.unreachable:
            self._backoff.reset()  # It is there again: a server that starts refuses much for a moment.
        self.unreachable = error.unreachable
        if error.forbidden:
            self._refusals += 1
            message = f"{error.message}; {self._remedy}" if self._remedy else error.message
            self._turn("forbidden", message, settled=self._refusals >= _FORBIDDEN_COUNTS)
        else:
            self._turn("failing", error.message, settled=False)

    def _turn(self, state: State, message: str = "", *, settled: bool = True) -> None:
        before = (self.state, self.settled)
        self.state, self.message, self.settled = state, message, self.settled or settled
        if before != (self.state, self.settled):
            self._changed(self)

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


_EVENTS = msgspec.json.Decoder(Event)
_HEADS = msgspec.json.Decoder(Head)


def _unreadable(title: str, error: msgspec.MsgspecError) -> ApiError:
    return ApiError(422, "Unreadable", f"what the server says of {title} cannot be read: {error}")


def _may_resume(error: ApiError) -> bool:
    """Whether a watch that broke or was refused can go on where it was, without a new list."""
    return error.status in (0, 401, 408, 429) or error.status >= 500


def is_before(version: str, other: str) -> bool:
    """Whether one resourceVersion is older than another, where both are numbers."""
    return version.isdigit() and other.isdigit() and int(version) < int(other)
