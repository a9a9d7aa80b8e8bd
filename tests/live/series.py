"""What an Envoy has counted, read from its administration's socket."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_TIMEOUT_S = 10.0


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def counted(admin: Path) -> dict[str, int]:
    """Counters and gauges by Envoy's own names."""
    connection = _UnixConnection(admin)
    try:
        connection.request("GET", "/stats?format=json&type=All")
        stats = json.loads(connection.getresponse().read())["stats"]
    finally:
        connection.close()
    return {each["name"]: each["value"] for each in stats if isinstance(each.get("value"), int)}


def drained(admin: Path) -> tuple[int, int, int]:
    """Listeners that were changed, that were changed in place, and connections that were asked to go because of it."""
    found = counted(admin)
    asked = sum(value for name, value in found.items() if name.endswith(".downstream_cx_drain_close"))
    return found["listener_manager.listener_modified"], found["listener_manager.listener_in_place_updated"], asked


def configuration(admin: Path) -> list[dict[str, Any]]:
    """What the Envoy was configured with, as its administration dumps it."""
    connection = _UnixConnection(admin)
    try:
        connection.request("GET", "/config_dump")
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())["configs"]
    finally:
        connection.close()
    return found
