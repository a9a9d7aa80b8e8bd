"""What the admin pages ask of the running gateway. Whoever runs one satisfies this; nothing here changes anything."""

from __future__ import annotations

from typing import Protocol

from tripylon.files.problems import Problem
from tripylon.graph import Graph
from tripylon.values import Ref
from tripylon.xds.cache import Group


class Engine(Protocol):
    """A running standalone gateway."""

    @property
    def graph(self) -> Graph:
        """World, plan and findings as of the last flush."""

    @property
    def group(self) -> Group:
        """The proxies, what they shall have, and how far they are."""

    @property
    def built(self) -> bool:
        """Whether all objects have been read and published once."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files themselves."""

    @property
    def restarts(self) -> int:
        """How often Envoy ended by itself and was started again."""

    def locate(self, ref: Ref, field: str = "") -> tuple[str, int, int] | None:
        """File, line and column of an object or one of its fields; None when it came from no file."""

    async def envoy_metrics(self) -> bytes:
        """Envoy's own series in Prometheus' text format; TripylonError when Envoy does not answer."""


def live_flight(engine: Engine) -> int:
    """The last flight that every connected proxy serves; -1: none is connected."""
    return engine.group.settled


def is_ready(engine: Engine) -> bool:
    """Whether a proxy is connected and has at least the first flight."""
    return engine.built and live_flight(engine) >= min(1, engine.group.flight)
