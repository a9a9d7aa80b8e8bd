"""TLSRoute, TCPRoute and UDPRoute: where connections and datagrams go that are not understood as requests.

Which of several routes has a listener is worked out in `model/streams.py`; here are only the words and the rules that
a schema can state.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from tripylon.api.markers import Items, Part, Rule
from tripylon.api.meta import GATEWAY_GROUP, Hostname, Resource, SectionName
from tripylon.api.refs import BackendRef
from tripylon.api.routes import DefaultGateways, ParentRefs, RouteStatus


class StreamRouteRule(Part, frozen=True, gc=False, kw_only=True):
    """Where connections, or sessions of datagrams, go."""

    name: SectionName = ""
    """Name of the rule, by which policies refer to it; empty: none."""
    backend_refs: Annotated[tuple[BackendRef, ...], Items(min=1, max=16)]
    """Destinations, by weight, 1 to 16; each connection, or each client's datagrams, stays with one. The share of one
    that cannot be reached is closed or dropped, and so is everything when all weights are 0."""


StreamRules = Annotated[tuple[StreamRouteRule, ...], Items(min=1, max=1)]


class TLSRouteSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    parent_refs: ParentRefs = ()
    """Gateways, ListenerSets and listeners that the route wants to be attached to."""
    use_default_gateways: DefaultGateways = ""
    """`All`: attaches to Gateways with `defaultScope: All`, too (experimental channel). Empty, `None`: not."""
    hostnames: Annotated[
        tuple[Hostname, ...],
        Items(min=1, max=1024),
        Rule(cel="self.all(h, !isIP(h))", message="must not hold IP addresses; name hosts"),
    ]
    """Server names (SNI) served, exact or with `*.` in front, 1 to 1,024."""
    rules: StreamRules
    """The one rule."""


class TLSRoute(Resource, frozen=True, gc=False, kw_only=True):
    """Says where TLS connections go, by the server name that the client asks for.

    Through a listener of mode `Passthrough` they go on as they are; through one of mode `Terminate` TLS ends at the
    gateway, and what was inside goes on. Of several routes for one name that with the most specific hostname has all
    connections, then the oldest.
    """

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: TLSRouteSpec
    """What is asked for."""
    status: RouteStatus | None = None
    """What controllers say about it."""


class TCPRouteSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    parent_refs: ParentRefs = ()
    """Gateways, ListenerSets and listeners that the route wants to be attached to."""
    use_default_gateways: DefaultGateways = ""
    """`All`: attaches to Gateways with `defaultScope: All`, too (experimental channel). Empty, `None`: not."""
    rules: StreamRules
    """The one rule."""


class TCPRoute(Resource, frozen=True, gc=False, kw_only=True):
    """Says where TCP connections to a port go; of several routes for one listener the oldest has them all."""

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: TCPRouteSpec
    """What is asked for."""
    status: RouteStatus | None = None
    """What controllers say about it."""


class UDPRouteSpec(Part, frozen=True, gc=False, kw_only=True):
    """What is asked for."""

    parent_refs: ParentRefs = ()
    """Gateways, ListenerSets and listeners that the route wants to be attached to."""
    use_default_gateways: DefaultGateways = ""
    """`All`: attaches to Gateways with `defaultScope: All`, too (experimental channel). Empty, `None`: not."""
    rules: StreamRules
    """The one rule."""


class UDPRoute(Resource, frozen=True, gc=False, kw_only=True):
    """Says where datagrams to a port go; of several routes for one listener the oldest has them all.

    Datagrams of one source address and port are a session, whose answers come back, until nothing has come for 60
    seconds. Those longer than 9,000 bytes are dropped.
    """

    GROUP: ClassVar[str] = GATEWAY_GROUP

    spec: UDPRouteSpec
    """What is asked for."""
    status: RouteStatus | None = None
    """What controllers say about it."""
