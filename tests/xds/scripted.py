"""Scripted streams: a group, sessions that the test plays the proxy for, and a clock that the test moves.

Messages are plain words, `cds:a rds:b`, that name what they refer to.
"""

from __future__ import annotations

from collections.abc import Mapping

from tripylon.pb.messages import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from tripylon.xds.cache import Group, Session
from tripylon.xds.events import Event, Rejected
from tripylon.xds.protocol import Response
from tripylon.xds.snapshot import BY_URL, Resource, make_resource

URLS = {kind.short: url for url, kind in BY_URL.items()}
Sent = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Type, names, removed names."""


def resource(kind: str, name: str, words: str = "") -> Resource:
    return make_resource(URLS[kind], name, words.encode())


def flight(**kinds: Mapping[str, str | None]) -> dict[str, dict[str, Resource | None]]:
    """Changes for `publish`: type to name to words, None to remove."""
    return {
        URLS[kind]: {name: None if words is None else resource(kind, name, words) for name, words in named.items()}
        for kind, named in kinds.items()
    }


def refers(_url: str, message: bytes) -> list[tuple[str, str]]:
    """What a message of words refers to."""
    pairs = (word.split(":", 1) for word in message.decode().split() if ":" in word)
    return [(URLS[kind.upper()], name) for kind, name in pairs]


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0


class Script:
    """One stream; the test says the proxy's lines and looks at what the server answers."""

    def __init__(self, group: Group, clock: Clock, number: int = 1, node: str = "node") -> None:
        self.group = group
        self.clock = clock
        self.wakes = 0
        self.session: Session = group.connect(number, node, self._woken)
        self.last: dict[str, Response] = {}

    def _woken(self) -> None:
        self.wakes += 1

    def say(
        self,
        kind: str,
        *subscribe: str,
        drop: tuple[str, ...] = (),
        known: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str = "",
    ) -> list[Sent]:
        """One request; returns what the server sends then."""
        request = DeltaDiscoveryRequest(
            type_url=URLS[kind],
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=drop,
            initial_resource_versions=known or {},
            response_nonce=nonce,
        )
        if error:
            request.error_detail.message = error
        self.session.receive(request)
        return self.sent()

    def flying(self, kind: str) -> list[str]:
        """The nonces of what is not acknowledged yet, oldest first."""
        return list(self.session._stream._types[URLS[kind]].flying)

    def ack(self, kind: str) -> list[Sent]:
        """Acknowledges the last response of a type."""
        return self.say(kind, nonce=self.last[URLS[kind]].nonce)

    def nack(self, kind: str, error: str = "bad") -> list[Sent]:
        """Refuses the last response of a type."""
        return self.say(kind, nonce=self.last[URLS[kind]].nonce, error=error)

    def sent(self) -> list[Sent]:
        """What the server sends now; checked to be what protobuf reads."""
        sent: list[Sent] = []
        for response in self.session.responses(self.clock.now):
            message = DeltaDiscoveryResponse.FromString(response.payload)
            assert (message.type_url, message.nonce) == (response.type_url, response.nonce)
            names = tuple(resource.name for resource in message.resources)
            sent.append((BY_URL[message.type_url].short, names, tuple(message.removed_resources)))
            self.last[response.type_url] = response
        return sent

    def pass_time(self, seconds: float) -> list[Sent]:
        """Moves the clock; returns what the server sends then."""
        self.clock.now += seconds
        return self.sent()


class Heard:
    """Collects a group's events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def rejected(self) -> list[tuple[str, str, str]]:
        """Type, name and message of the rejections so far."""
        return [(BY_URL[e.type_url].short, e.name, e.message) for e in self.events if isinstance(e, Rejected)]
