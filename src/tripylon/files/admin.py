"""Envoy's administration interface over its Unix socket: what it tells and the few things that it does.

The invariant: every question ends within a stated time, with an answer or an `AdminError`; nothing is kept open between
questions, so that an Envoy which was replaced behind the same path is simply the next one to answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from tripylon.errors import TripylonError

_SOL_LOCAL, _LOCAL_PEERPID = 0, 2
"""macOS's way to ask for the process at the other end (sys/un.h); Python has no names for these."""

# Of each listener and connection manager, without those of the administration itself and of the single worker threads.
_ACTIVITY = r"^(http|listener)\..*\.downstream_(rq|cx)_active$"
_NOT_TRAFFIC = ("http.admin.", "listener.admin.")


class AdminError(TripylonError):
    """Envoy's administration did not answer, or answered with an error."""


class _Node(msgspec.Struct, frozen=True, gc=False):
    id: str = ""


class _Options(msgspec.Struct, frozen=True, gc=False):
    config_path: str = ""


class ServerInfo(msgspec.Struct, frozen=True, gc=False):
    """What an Envoy says about itself (envoy.admin.v3.ServerInfo), the parts that we read."""

    version: str
    """Revision, version, state of the source tree, kind of build, TLS library, with slashes between."""
    state: str
    """`LIVE`, `DRAINING`, `PRE_INITIALIZING` or `INITIALIZING`."""
    node: _Node = _Node()
    command_line_options: _Options = _Options()


class Activity(msgspec.Struct, frozen=True, gc=False):
    """What goes through an Envoy at one moment."""

    requests: int
    """Requests that have begun and not ended, upgraded connections among them."""
    connections: int
    """Downstream connections, idle ones too."""
    streams: int
    """Connections that carry no HTTP: TCP, or TLS passed through."""

    @property
    def busy(self) -> bool:
        """Whether somebody would notice the end of this Envoy."""
        return bool(self.requests or self.streams)


class EnvoyAdmin:
    """Asks the Envoy behind one socket; each question on a connection of its own."""

    def __init__(self, path: Path, *, timeout_s: float = 5) -> None:
        self.path = path
        self._timeout_s = timeout_s

    async def server_info(self) -> ServerInfo:
        """Who it is and how far it has come."""
        try:
            return msgspec.json.decode(await self._ask("GET", "/server_info"), type=ServerInfo)
        except msgspec.MsgspecError as error:
            raise AdminError(f"what listens at {self.path} is no Envoy: {error}") from error

    async def ready(self) -> bool:
        """Whether it has its first configuration and serves."""
        return await self._ask("GET", "/ready", okay=(200, 503)) == b"LIVE\n"

    async def prometheus(self) -> bytes:
        """Its series that were used at least once, in Prometheus' text format."""
        return await self._ask("GET", "/stats/prometheus", {"usedonly": ""})

    async def config_dump(self) -> bytes:
        """Everything that it was configured with, as JSON; Envoy itself leaves private keys out."""
        return await self._ask("GET", "/config_dump", {"include_eds": ""})

    async def activity(self) -> Activity:
        """What goes through it now, the administration's own connections not counted."""
        answer = await self._ask("GET", "/stats", {"filter": _ACTIVITY, "format": "json"})
        stats = msgspec.json.decode(answer, type=dict[str, list[dict[str, str | int]]]).get("stats", [])
        return count_activity({str(each["name"]): int(each["value"]) for each in stats if "name" in each})

    async def drain_listeners(self) -> None:
        """End listening at once, and let every answer from now on ask its client to go elsewhere."""
        await self._ask("POST", "/healthcheck/fail")
        await self._ask("POST", "/drain_listeners")

    def peer(self) -> int | None:
        """Id of the process that listens at the socket; None when nobody does or the system does not tell."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(str(self.path))
                return _peer_pid(connection)
            except OSError:
                return None

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, okay: tuple[int, ...] = (200,)
    ) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            # The time limit is on each step in the thread, so that it ends too, and on the whole here.
            answering = asyncio.to_thread(_exchange, self.path, method, target, timeout_s=self._timeout_s)
            status, body = await asyncio.wait_for(answering, self._timeout_s)
        except (HTTPException, TimeoutError, OSError) as error:
            reason = str(error) or f"no answer within {self._timeout_s:g} s"
            raise AdminError(f"Envoy's administration at {self.path} does not answer {path}: {reason}") from error
        if status not in okay:
            raise AdminError(f"Envoy's administration answered {path} with status {status}")
        return body


class _UnixConnection(HTTPConnection):
    """HTTP/1.1 over a Unix socket; the standard library's client starts in a tenth of the time of a full-grown one."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("envoy", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _exchange(path: Path, method: str, target: str, *, timeout_s: float) -> tuple[int, bytes]:
    with closing(_UnixConnection(path, timeout_s=timeout_s)) as connection:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read()


def count_activity(gauges: Mapping[str, int]) -> Activity:
    """Sum up Envoy's gauges `http.<prefix>.downstream_(rq|cx)_active`, `listener.<address>.downstream_cx_active`."""
    requests = http_connections = connections = 0
    for name, value in gauges.items():
        owner, _, series = name.rpartition(".")
        if name.startswith(_NOT_TRAFFIC) or owner.rpartition(".")[2].startswith(("worker_", "main_thread")):
            continue
        if name.startswith("listener."):
            connections += value if series == "downstream_cx_active" else 0
        elif series == "downstream_rq_active":
            requests += value
        else:
            http_connections += value
    return Activity(requests, connections, max(0, connections - http_connections))


def _peer_pid(connection: socket.socket) -> int | None:
    if sys.platform == "linux":
        size = struct.calcsize("3i")
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    else:
        (pid,) = struct.unpack("i", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))
    return int(pid) or None
