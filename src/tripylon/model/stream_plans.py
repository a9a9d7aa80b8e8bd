"""What TLSRoute, TCPRoute and UDPRoute come to, and the tables of it.

Apart from `streams.py`, so that what the routes resolve to can be indexed without a cycle. The invariant is that of
`plan.py`: everything that emitting needs stands here, already checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from tripylon.graph import Index, Table
from tripylon.model.plan import ClusterKey, ParentPlan
from tripylon.values import Name, Ref

StreamProtocol = Literal["TLS", "TCP", "UDP"]


class StreamKey(NamedTuple):
    """What one route at a time may have: a listener, and in one of protocol TLS a hostname of it."""

    gateway: Name
    port: int
    protocol: StreamProtocol
    listener: str
    """Id of the listener."""
    hostname: str
    """Server name of the connections, exact or with `*.` in front; empty: every connection."""


class StreamAttachment(NamedTuple):
    """One place that a route wants to have."""

    key: StreamKey
    own_hostname: str
    """The route's own hostname of which the key's is the intersection with the listener; empty: the kind has none."""
    terminated: bool
    """Whether backends get what is in the clear, so that TLS towards them is up to us; False: TLS is passed through."""


class Share(NamedTuple):
    """One backend of a route and its share of the connections."""

    weight: int
    cluster: ClusterKey | None
    """None: a reference that cannot be followed; its share of connections is closed, of datagrams dropped."""


class StreamRoutePlan(msgspec.Struct, frozen=True, gc=False):
    """One TLSRoute, TCPRoute or UDPRoute, resolved."""

    ref: Ref
    created: str
    """RFC 3339 creation time, which decides between equals; empty in files that do not state one."""
    parents: tuple[ParentPlan, ...]
    attachments: tuple[StreamAttachment, ...]
    """Sorted, so that those to one place are found quickly: a TLSRoute may have 1,024 hostnames."""
    shares: tuple[Share, ...]
    """Backends with a weight above 0, in the order of the route; none: nothing is let through."""
    passed: tuple[Share, ...] = ()
    """The same for what is encrypted for the backends already."""


class StreamPlan(msgspec.Struct, frozen=True, gc=False):
    """Who has a place, and where its connections or sessions go."""

    key: StreamKey
    route: Ref
    shares: tuple[Share, ...]

    @property
    def clusters(self) -> Iterator[ClusterKey]:
        """The destinations that can be reached."""
        return (share.cluster for share in self.shares if share.cluster is not None)


STREAM_ROUTES: Table[Ref, StreamRoutePlan] = Table("stream route plans")
STREAMS: Table[StreamKey, StreamPlan] = Table("stream plans")

STREAMS_BY_LISTENER: Index[tuple[Name, str], Ref, StreamRoutePlan] = Index(
    "stream routes by listener",
    STREAM_ROUTES,
    lambda _, route: {(parent.gateway, listener) for parent in route.parents for listener in parent.listeners},
)
"""The routes of each (gateway, listener), those that are served and those that others go before."""
ROUTES_BY_STREAM: Index[StreamKey, Ref, StreamRoutePlan] = Index(
    "routes by stream", STREAM_ROUTES, lambda _, route: (attachment.key for attachment in route.attachments)
)
STREAMS_BY_SOCKET: Index[tuple[Name, int, bool], StreamKey, StreamPlan] = Index(
    "streams by socket", STREAMS, lambda key, _: ((key.gateway, key.port, key.protocol == "UDP"),)
)
"""By gateway, port, and whether it is one for UDP."""
SESSIONS: Index[StreamKey, StreamKey, StreamPlan] = Index(
    "streams of datagrams", STREAMS, lambda key, _: (key,) if key.protocol == "UDP" else ()
)
STREAMS_BY_CLUSTER: Index[ClusterKey, StreamKey, StreamPlan] = Index(
    "streams by cluster", STREAMS, lambda _, stream: stream.clusters
)

INDEXES: tuple[Index[Any, Any, Any], ...] = (
    STREAMS_BY_LISTENER,
    ROUTES_BY_STREAM,
    STREAMS_BY_SOCKET,
    SESSIONS,
    STREAMS_BY_CLUSTER,
)
