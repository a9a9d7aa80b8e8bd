"""The client of an API server: requests on raw bytes, tried again where that is safe, errors in the server's words.

The invariant: bytes that came are handed on as they are; whoever wants an object decodes it. A request is sent twice
only when the first cannot have taken effect or a second does no harm. Read `reflector.py` for what listens to changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
from yarl import URL

from tripylon.kube.calls import OnCall, describe, ignore
from tripylon.kube.config import ClusterConfig
from tripylon.kube.credentials import CredentialError, Credentials
from tripylon.kube.discovery import Discovery, Served
from tripylon.kube.failures import ApiError, Backoff, of_answer

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

Object = dict[str, Any]
Parameters = Mapping[str, str]


class Form(NamedTuple):
    """How objects are asked for: the media types of lists and of watches.

    They differ where the server makes another kind of them: it ends a watch, without a word, at the first event that
    would have to be a list.
    """

    list: str
    watch: str


WHOLE = Form(JSON, JSON)
METADATA_ONLY = Form(
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
)
"""What is common to objects of all kinds."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for an API server, in seconds."""

    connect: float = 10.0
    request: float = 30.0
    """For one whole answer, but those to lists."""
    idle: float = 60.0
    """Between two pieces of the answer to a list."""
    watch_idle: float = 150.0
    """Between two pieces of a watch, which has a bookmark each minute; after that the peer counts as dead."""
    watch_least: float = 300.0
    """The server is asked to end a watch after this long, stretched at random by up to as much again."""


class Page(msgspec.Struct, rename="camel"):
    """A part of a list: objects as bytes that lack, for built-in kinds, `apiVersion` and `kind`."""

    class Meta(msgspec.Struct, rename="camel"):
        """State of the list."""

        resource_version: str = ""
        next: str = msgspec.field(default="", name="continue")
        remaining_item_count: int | None = None

    found: list[msgspec.Raw] | None = msgspec.field(default=None, name="items")
    metadata: Meta = msgspec.field(default_factory=Meta)

    @property
    def items(self) -> list[msgspec.Raw]:
        """The objects; a server says `null` where a list of metadata is empty."""
        return self.found or []


class Client:
    """Talks to one API server. `async with` it; it holds no connection before the first request.

    Methods that take an object find its path by its `apiVersion` and `kind`. All raise ApiError, with status 0 when
    there was no answer after all tries. `on_call` hears of each request, to count it.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        timeouts: Timeouts | None = None,
        attempts: int = 5,
        on_call: OnCall = ignore,
    ) -> None:
        self.config = config
        self.on_call = on_call
        self.discovery = Discovery(self.get)
        self._timeouts = timeouts or Timeouts()
        self._attempts = attempts
        self._credentials = Credentials(config)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; running requests fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- objects -----------------------------------------------------------------------------------------------

    async def served(self, api_version: str, kind: str) -> Served:
        """How a kind is served; ApiError 404 when it is not."""
        found = await self.discovery.find(api_version, kind)
        if found is None:
            raise ApiError(404, "NotFound", f"The API server does not serve kind {kind} of {api_version}")
        return found

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> Object | None:
        """An object; None when it is not there."""
        served = await self.served(api_version, kind)
        try:
            return _object(await self.get(served.path(namespace, name)))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list_objects(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> tuple[Object, ...]:
        """All objects of a kind, of one namespace or of all, that a label selector chooses."""
        served = await self.served(api_version, kind)
        head = {"apiVersion": api_version, "kind": kind}
        params = {"labelSelector": labels} if labels else {}
        pages = [page async for page in self.list_pages(served.path(namespace), params=params)]
        return tuple(head | _object(bytes(item)) for page in pages for item in page.items)

    async def apply(self, obj: Object, *, field_manager: str, force: bool = True) -> Object:
        """Server-side apply of the fields in `obj`; 409 (`Conflict`) when others own one and `force` is False."""
        path = await self._path(obj)
        params = {"fieldManager": field_manager, "force": "true" if force else "false"}
        return _object(await self.request("PATCH", path, body=msgspec.json.encode(obj), content=APPLY, params=params))

    async def create(self, obj: Object, *, field_manager: str = "") -> Object:
        """Make an object; 409 (`AlreadyExists`) when it is there."""
        path = await self._path(obj, with_name=False)
        params = {"fieldManager": field_manager} if field_manager else {}
        return _object(await self.request("POST", path, body=msgspec.json.encode(obj), params=params))

    async def replace(self, obj: Object, *, subresource: str = "") -> Object:
        """Put an object in place of the one of its `resourceVersion`; 409 (`Conflict`) when that was changed."""
        path = await self._path(obj, subresource=subresource)
        return _object(await self.request("PUT", path, body=msgspec.json.encode(obj)))

    async def patch_status(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Object | list[Object],
        *,
        namespace: str = "",
        resource_version: str = "",
    ) -> Object:
        """Change an object's status: by a merge patch (a mapping such as `{"status": …}`) or a JSON patch (a list).

        With `resource_version`, 409 (`Conflict`) when the object was changed since.
        """
        served = await self.served(api_version, kind)
        if isinstance(patch, dict):
            content = MERGE_PATCH
            if resource_version:
                patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": resource_version}}
        else:
            content = JSON_PATCH
            if resource_version:
                lock: Object = {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version}
                patch = [lock, *patch]
        path = served.path(namespace, name, "status")
        return _object(await self.request("PATCH", path, body=msgspec.json.encode(patch), content=content))

    async def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        propagation: str = "Background",
    ) -> bool:
        """Delete an object; False when it is not there. 409 (`Conflict`) when it is not the one that was meant."""
        served = await self.served(api_version, kind)
        meant = {"uid": uid, "resourceVersion": resource_version}
        options: Object = {"propagationPolicy": propagation, "preconditions": {k: v for k, v in meant.items() if v}}
        try:
            await self.request("DELETE", served.path(namespace, name), body=msgspec.json.encode(options))
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return True

    # --- lists and watches ---------------------------------------------------------------------------------------

    async def list_pages(
        self, path: str, *, params: Parameters | None = None, limit: int = 500, accept: str = JSON
    ) -> AsyncIterator[Page]:
        """The objects under a path, a page at a time, all of the same state. 410 when the rest is no longer to be had.

        `limit` 0: all in one page.
        """
        token = ""
        while True:
            query = {
                **(params or {}),
                **({"limit": str(limit)} if limit else {}),
                **({"continue": token} if token else {}),
            }
            body = await self.request("GET", path, params=query, accept=accept, is_list=True)
            try:
                page = _PAGES.decode(body)
            except msgspec.MsgspecError as error:
                raise ApiError(422, "Unreadable", f"The answer to a list of {path} cannot be read: {error}") from error
            yield page
            token = page.metadata.next
            if not token:
                return

    async def watch_lines(
        self,
        path: str,
        *,
        resource_version: str,
        params: Parameters | None = None,
        accept: str = JSON,
        on_open: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[list[bytes]]:
        """The lines of a watch from a state on, as many at a time as have come; each is an event in JSON.

        `on_open` is called when the server lets us listen, which may be long before there is anything to hear. Ends
        when the server ends it, which is no error. Not tried again: ApiError when it is refused or breaks.
        """
        seconds = random.uniform(1, 2) * self._timeouts.watch_least  # noqa: S311
        query = {
            **(params or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        idle = min(self._timeouts.watch_idle, seconds + 30)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect, sock_read=idle)
        try:
            async with self._send("GET", path, params=query, accept=accept, timeout=timeout) as response:
                if response.status != 200:
                    raise await _refusal(response)
                on_open()
                async for lines in _lines(response.content):
                    yield lines
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _broken(error, f"watch of {path}") from error

    # --- requests ------------------------------------------------------------------------------------------------

    async def get(self, path: str, params: Parameters | None = None) -> bytes:
        """The body under a path."""
        return await self.request("GET", path, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Parameters | None = None,
        body: bytes | None = None,
        content: str = JSON,
        accept: str = JSON,
        is_list: bool = False,
        attempts: int = 0,
    ) -> bytes:
        """The body of the answer to a request, tried up to `attempts` times (0: as the client was told).

        429 and 5xx with Retry-After are tried again whatever the method, since the server did nothing; other 5xx and
        broken connections unless the method is POST; 401 once, with fresh credentials.
        """
        total = None if is_list else self._timeouts.request
        idle = self._timeouts.idle if is_list else None
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=self._timeouts.connect, sock_read=idle)
        backoff = Backoff(most=5.0)
        unauthorized = False
        for attempt in range(1, (attempts or self._attempts) + 1):
            try:
                try:
                    async with self._send(
                        method, path, params=params, body=body, content=content, accept=accept, timeout=timeout
                    ) as response:
                        if response.status < 300:
                            return await response.read()
                        raise await _refusal(response)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    raise _broken(error, f"{method} {path}") from error
            except ApiError as error:
                if error.not_found and not error.reason:
                    self.discovery.forget()  # Not an object is missing but the whole path.
                if error.status == 401 and not unauthorized:
                    unauthorized = True
                    continue
                if attempt >= (attempts or self._attempts) or not _is_worth_another_try(method, error):
                    raise
                await asyncio.sleep(backoff.next(error.retry_after))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
        params: Parameters | None = None,
        body: bytes | None = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            headers = [("Accept", accept), *await self._credentials.headers()]
            tls = self._credentials.tls()
        except CredentialError as error:
            raise ApiError(0, "NoCredentials", str(error)) from error
        if body is not None:
            headers.append(("Content-Type", content))
        url = URL(self.config.server + path, encoded=True)
        verb, resource = describe(method, path, params)
        start = time.perf_counter()
        try:
            response = await self._connections().request(
                method,
                url.with_query(dict(params)) if params else url,
                data=body,
                headers=headers,
                ssl=tls,
                server_hostname=self.config.server_name or None,
                proxy=self.config.proxy or None,
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.on_call(verb, resource, 0, time.perf_counter() - start)
            raise
        self.on_call(verb, resource, response.status, time.perf_counter() - start)
        async with response:
            if response.status == 401:
                self._credentials.refused()
            yield response

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A watch holds its connection, so their number has no limit; idle ones are let go before a server does so.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": f"tripylon/{version('tripylon')}", "Accept-Encoding": "identity"},
                read_bufsize=1 << 20,
                skip_auto_headers=("Accept", "Content-Type"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _path(self, obj: Object, *, with_name: bool = True, subresource: str = "") -> str:
        served = await self.served(obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "") or (self.config.namespace if served.namespaced else "")
        return served.path(namespace, metadata["name"] if with_name else "", subresource)


_PAGES = msgspec.json.Decoder(Page)


def _object(body: bytes) -> Object:
    found = msgspec.json.decode(body)
    assert isinstance(found, dict)
    return found


def _is_worth_another_try(method: str, error: ApiError) -> bool:
    if error.status == 429 or (error.retry_after is not None and error.status >= 500):
        return True
    if error.reason == "NotConnected":
        return True
    return (
        method != "POST"
        and (error.unreachable or error.status in (500, 502, 503, 504))
        and error.reason != "NoCredentials"
    )


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    return of_answer(response.status, await response.read(), response.headers.get("Retry-After", ""))


def _broken(error: Exception, what: str) -> ApiError:
    """A connection that could not be made is known not to have carried the request."""
    reason = "NotConnected" if isinstance(error, aiohttp.ClientConnectorError) else "Broken"
    if isinstance(error, TimeoutError):
        return ApiError(0, "Timeout", f"{what}: no answer in time")
    return ApiError(0, reason, f"{what}: {str(error) or type(error).__name__}")


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """Whole lines, however long; a last one without an end is half an event and dropped."""
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        first, *more = chunk.split(b"\n")
        parts.append(first)
        if more:
            whole = [b"".join(parts), *more[:-1]]
            parts = [more[-1]]
            yield [line for line in whole if line.strip()]


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket on which a peer that vanished is noticed within 30 s, even when nothing is said."""
    made = socket.socket(address[0], address[1], address[2])
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
