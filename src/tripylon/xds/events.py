"""What a group tells its owner about its proxies. Events are frozen and handed over at once; the owner must not block.

Read `cache.py` for when each one comes.
"""

from __future__ import annotations

import msgspec


class Connected(msgspec.Struct, frozen=True, gc=False):
    """A proxy has opened its stream and said who it is."""

    stream: int
    node: str
    """The node id of Envoy's bootstrap."""


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The stream has ended, whoever ended it; the proxy goes on serving what it has."""

    stream: int
    node: str


class Acked(msgspec.Struct, frozen=True, gc=False):
    """A proxy has applied one response."""

    stream: int
    type_url: str
    names: tuple[str, ...]
    removed: tuple[str, ...]


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A proxy refuses one resource in this version and keeps what it had; it was alone in its response."""

    stream: int
    type_url: str
    name: str
    version: str
    message: str
    """Envoy's own words."""


Event = Connected | Disconnected | Acked | Rejected
