"""A resource as it goes over the wire, and the resource types in the order in which they are sent.

Invariant: equal content gives equal bytes and an equal version, in every process, so a proxy that reconnects after a
restart of the control plane is sent nothing. Read `cache.py` next.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Literal

import msgspec

Style = Literal["wildcard", "named", "prefix"]

_PREFIX = "type.googleapis.com/envoy."
CDS = _PREFIX + "config.cluster.v3.Cluster"
EDS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
SDS = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
LDS = _PREFIX + "config.listener.v3.Listener"
RDS = _PREFIX + "config.route.v3.RouteConfiguration"
VHDS = _PREFIX + "config.route.v3.VirtualHost"
"""Named `<route configuration>/<host>`; the message's own `name` must be the same, for Envoy removes it by that."""
SRDS = _PREFIX + "config.route.v3.ScopedRouteConfiguration"
"""Named `<table>|<host>`; a table that is in use has a scope `<table>|*`."""
ECDS = _PREFIX + "config.core.v3.TypedExtensionConfig"
"""Configuration of a filter, which a listener refers to; the message's own `name` must be the resource's."""


_PORTION = 1_000


class ResourceType(msgspec.Struct, frozen=True, gc=False):
    """One resource type and how the protocol treats it."""

    url: str
    """The type URL."""
    short: str
    """What everyone calls it, such as `CDS`."""
    style: Style
    """How Envoy subscribes: to all (`wildcard`), by name (`named`), or to all under a parent (`prefix`)."""
    routes: bool = False
    """Refers to clusters: acknowledgements of these types say that a change is live."""
    held: bool = False
    """Referred to by other types: removed only when nothing that the proxy has can refer to it any more."""
    left: bool = False
    """Never removed: connections that still end by an old listener need it; the proxy drops it together with that.
    Nor is it said of a name that there is nothing by it."""
    lingers: bool = False
    """Referred to by open connections: what went together with its table is removed only when those have ended."""
    partial: bool = False
    """Envoy applies the good resources of a response that it refuses; of other types it refuses all."""
    portion: int = 0
    """A response carries at most so many resources, and more go out in several, one after the other: what Envoy reads
    at once it holds at once, several times over. 0: any number, for types that it builds as a whole each time."""
    pipelined: bool = False
    """May have several unacknowledged responses: Envoy withholds the acknowledgement while any cluster warms."""


TYPES: tuple[ResourceType, ...] = (
    ResourceType(CDS, "CDS", "wildcard", held=True, partial=True, portion=_PORTION, pipelined=True),
    ResourceType(EDS, "EDS", "named", held=True, portion=_PORTION),
    ResourceType(SDS, "SDS", "named", held=True),
    ResourceType(ECDS, "ECDS", "named", routes=True, left=True),
    ResourceType(SRDS, "SRDS", "wildcard", routes=True, lingers=True, portion=_PORTION),
    ResourceType(LDS, "LDS", "wildcard", routes=True, partial=True),
    ResourceType(RDS, "RDS", "named", routes=True),
    ResourceType(VHDS, "VHDS", "prefix", routes=True),
)
"""In the order in which one flight sends them: what is referred to before what refers to it."""

BY_URL = MappingProxyType({kind.url: kind for kind in TYPES})


class Resource(msgspec.Struct, frozen=True, gc=False):
    """One named resource, serialised once and spliced into every response that carries it."""

    name: str
    version: str
    """16 hexadecimal digits: the hash of the packed message, so the same in every process."""
    body: bytes
    """The `resources` field of a DeltaDiscoveryResponse with this one entry: tag, length and the Resource message."""


def make_resource(type_url: str, name: str, message: bytes) -> Resource:
    """The resource `name` whose message serialises to `message` (deterministically, or the version is not stable)."""
    url = type_url.encode()
    head = b"".join((_head(1, len(url)), url, _head(2, len(message))))
    digest = blake2b(head, digest_size=8)
    digest.update(message)
    version = digest.hexdigest()
    # Messages can have a hundred megabytes, so all is joined in one go.
    first = _field(1, version.encode()) + _head(2, len(head) + len(message)) + head
    last = _field(3, name.encode())
    body = b"".join((_head(2, len(first) + len(message) + len(last)), first, message, last))
    return Resource(name, version, body)


def make_response(
    type_url: str, nonce: str, resources: tuple[Resource, ...], *, removed: tuple[str, ...] = ()
) -> bytes:
    """A serialised DeltaDiscoveryResponse made by joining the resources' ready bytes."""
    parts = [resource.body for resource in resources]
    parts.append(_field(4, type_url.encode()))
    parts.append(_field(5, nonce.encode()))
    parts.extend(_field(6, name.encode()) for name in removed)
    return b"".join(parts)


def parent(name: str) -> str:
    """What a resource of a `prefix` subscription is found under: all before the last slash.

    Envoy files a virtual host `<route configuration>/<host>` the same way, so the first part may hold slashes.
    """
    return name.rpartition("/")[0]


def table_scope(name: str) -> str:
    """The scope that a table has as long as it is in use, by the name of one of its scopes."""
    return name.partition("|")[0] + "|*"


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return _head(number, len(content)) + content


@lru_cache(maxsize=4096)
def _head(number: int, length: int) -> bytes:
    """Tag and length of a field."""
    head = bytearray((number << 3 | 2,))
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
