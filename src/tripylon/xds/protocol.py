"""One delta ADS stream, without I/O: requests in, events and responses out, time as an argument.

The owner feeds every request to `receive` and then sends what `responses` returns, in that order, whenever the last
batch has been written: a slow proxy is thereby asked for less often and gets the merged rest. Make before break is
kept here, for each proxy by its own acknowledgements:

- what is referred to goes out before what refers to it (the order of `TYPES`), without waiting for acknowledgements;
- the endpoints of a cluster follow each version of the cluster in the same batch, virtual hosts their configuration;
- clusters, endpoints and secrets are removed only when the proxy has the routes of that flight, and a grace later;
- virtual hosts that go with their route configuration, and the configuration of filters, are left to the connections
  that Envoy drains, and go with their listener; scopes that go with their table are removed when those connections
  must have ended.

Read `subscription.py` for one type, `cache.py` for what feeds this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from tripylon.xds.events import Acked, Event, Rejected
from tripylon.xds.snapshot import CDS, ECDS, EDS, LDS, RDS, SDS, SRDS, TYPES, VHDS, table_scope
from tripylon.xds.subscription import Batch, Subscription, View

if TYPE_CHECKING:
    from tripylon.pb.messages import DeltaDiscoveryRequest

_ASKED_FOR_AFTER = {LDS: (ECDS, RDS, VHDS), RDS: (VHDS,)}
"""Types that a proxy subscribes to because of what it finds in another."""


class GroupView(View, Protocol):
    """What a stream needs from its group."""

    @property
    def grace_s(self) -> float:
        """Seconds from the acknowledgement of the routes to the removal of what only they referred to."""

    @property
    def linger_s(self) -> float:
        """The same for scopes of a table that went, which open connections go on using."""

    def endpoints_of(self, cluster: str) -> str | None:
        """Name of the EDS resource of a cluster, None when it has none."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """One serialised response, and what it carries."""

    type_url: str
    nonce: str
    payload: bytes
    batch: Batch


class Stream:
    """The state of one stream; `number` is the owner's name for it."""

    def __init__(self, number: int, view: GroupView) -> None:
        self.number = number
        self._view = view
        self._types = {kind.url: Subscription(kind, view) for kind in TYPES}
        self._route_types = tuple(self._types[kind.url] for kind in TYPES if kind.routes)
        self._held_types = tuple(self._types[kind.url] for kind in TYPES if kind.held or kind.lingers)
        self._serving = False
        """Clusters were sent before: Envoy no longer puts off the endpoints of new ones as it does while it starts."""

    def receive(self, request: DeltaDiscoveryRequest) -> tuple[Event, ...]:
        """Takes one request; says what the proxy acknowledged or rejected by it. Unknown types are ignored."""
        subscription = self._types.get(request.type_url)
        if subscription is None:
            return ()
        events = self._answer(subscription, request) if request.response_nonce else ()
        if not subscription.opened:
            subscription.open(request.resource_names_subscribe, dict(request.initial_resource_versions))
            self._adopt(tuple(self._types[RDS].sent) if request.type_url in (RDS, VHDS) else ())
            return events
        if request.resource_names_unsubscribe:
            subscription.unsubscribe(request.resource_names_unsubscribe)
            if request.type_url == RDS:
                self._types[VHDS].unsubscribe(request.resource_names_unsubscribe)
        if request.resource_names_subscribe:
            subscription.subscribe(request.resource_names_subscribe)
        return events

    def _adopt(self, route_configurations: Iterable[str]) -> None:
        """Subscribes to the virtual hosts of route configurations, in the proxy's place.

        Envoy opens VHDS with an empty request, never says of which route configurations it wants the virtual hosts,
        drops those of which it does not have the route configuration, and keeps a listener from starting until it
        has heard of some virtual host under each.
        """
        hosts = self._types[VHDS]
        if hosts.opened:
            hosts.subscribe([name for name in route_configurations if name not in hosts.names], known=hosts.sent)

    def mark(self, changes: Mapping[str, Iterable[str]], flight: int) -> None:
        """Notes that the group changed these names, by type, in `flight`."""
        for url, names in changes.items():
            subscription = self._types[url]
            for name in names:
                subscription.mark(name, flight)
        if RDS in changes:
            self._types[VHDS].reclaim(flight)
        if SRDS in changes and any(name == table_scope(name) for name in changes[SRDS]):
            self._types[SRDS].reclaim(flight)
        if CDS in changes and SDS in changes:
            for name in changes[SDS]:
                self._types[SDS].push(name, flight)

    def retry(self, url: str, name: str) -> None:
        """Has a resource that this proxy refused sent again as it is."""
        self._types[url].retry(name, self._view.flight)

    def responses(self, now: float) -> list[Response]:
        """What may be sent now, in order; `now` in seconds of the clock that `deadline` is compared with."""
        self._release(now)
        ready: list[Response] = []
        for subscription in self._types.values():
            while (batch := subscription.take()) is not None:
                ready.append(self._launch(subscription, batch))
        self._serving = self._serving or any(response.type_url == CDS for response in ready)
        return ready

    @property
    def stirred(self) -> bool:
        """Whether `responses` is to be called: it may find something to send, or another `deadline`."""
        return any(subscription.stirred for subscription in self._types.values())

    @property
    def settled(self) -> int:
        """The last flight of which the proxy has acknowledged (or rejected for good) everything about routes."""
        return min(self._view.flight, min(subscription.low() for subscription in self._route_types) - 1)

    @property
    def deadline(self) -> float | None:
        """When `responses` has to be called again even if nothing happens; None for not at all."""
        return min((held.next_due for held in self._held_types if held.due), default=None)

    def waits_for(self) -> dict[str, tuple[str, ...]]:
        """Route resources, by type, that the proxy has yet to ask for; they keep a flight from settling."""
        return {held.kind.url: tuple(held.expected) for held in self._route_types if held.expected}

    def _answer(self, subscription: Subscription, request: DeltaDiscoveryRequest) -> tuple[Event, ...]:
        url, nonce = request.type_url, request.response_nonce
        if request.HasField("error_detail"):
            message = request.error_detail.message
            culprits = subscription.nacked(nonce, message)
            for follower in _ASKED_FOR_AFTER.get(url, ()) if culprits else ():
                self._types[follower].expected.clear()
            return tuple(Rejected(self.number, url, bad.name, bad.version, message) for bad in culprits)
        batch = subscription.acked(nonce)
        if batch is None:
            return ()
        return (Acked(self.number, url, tuple(resource.name for resource in batch.resources), batch.removed),)

    def _launch(self, subscription: Subscription, batch: Batch) -> Response:
        url = subscription.kind.url
        nonce, payload = self._view.encode(url, batch, subscription.flying)
        subscription.launched(nonce, batch)
        if url == CDS:
            for cluster in batch.resources:
                endpoints = self._view.endpoints_of(cluster.name)
                if endpoints is not None:
                    self._types[EDS].push(endpoints, batch.flight, early=self._serving)
        elif url == RDS:
            self._adopt(resource.name for resource in batch.resources)
        return Response(url, nonce, payload, batch)

    def _release(self, now: float) -> None:
        """Starts the grace of held removals whose routes the proxy has, and makes due those whose grace is over.

        The grace is longer while connections of before may use routes that went with their table: these lead to what
        is to be removed. Route resources that the proxy has not asked for do not count: it has no older version. A
        proxy that comes back says within the grace what it has, so its routes are known when the grace is over.
        """
        if not any(subscription.held or subscription.due for subscription in self._held_types):
            return
        reached = min(min(routes.owed(), routes.clinging()) for routes in self._route_types) - 1
        drains = any(subscription.lingers for subscription in self._types.values())
        for subscription in self._held_types:
            wait_s = self._view.linger_s if drains else self._view.grace_s
            subscription.fall_due(reached, now + wait_s)
            subscription.remove_due(now, reached)
