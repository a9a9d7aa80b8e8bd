"""Who gets what: the groups of proxies that an engine feeds.

Standalone there is one, with everything. In Kubernetes each Gateway has a group of its own, with what that Gateway
needs. The invariant: a group is published to as soon as its gateway is planned, whether or not a proxy is connected, so
a proxy that connects has everything at once. A Gateway's proxies may be connected to several replicas, each to one;
what the others say of theirs counts as much as what is seen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Protocol

import msgspec

from tripylon.envoy import emit, placement
from tripylon.graph import Changes, Graph
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.settings import DRAIN_TIME_S
from tripylon.values import Name
from tripylon.xds.cache import Counters, Group
from tripylon.xds.events import Event
from tripylon.xds.peers import RefusalKey, Standing
from tripylon.xds.snapshot import LDS

_LINGER_S = DRAIN_TIME_S + 5.0
"""When connections of listeners that went have ended for certain."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """What one flush sent."""

    flight: int
    """Number of the flight of the only group; with several, how many flights there were in all."""
    resources: int


class Fleet(Protocol):
    """The groups of an engine."""

    def publish(self, graph: Graph, changes: Changes) -> Published:
        """Sends what a flush changed to the groups that it concerns."""

    def groups(self) -> Iterator[Group]:
        """All groups there are."""

    def programmed(self, gateway: Name) -> bool:
        """Whether at least one proxy is connected and all have the gateway's listeners as they are planned now."""


def refusals(fleet: Fleet) -> Mapping[RefusalKey, str]:
    """What proxies refuse now, in all groups, with their words."""
    found: dict[RefusalKey, str] = {}
    for group in fleet.groups():
        for key, refusal in group.refusals.items():
            found[key] = refusal.message
    return found


class Elsewhere(Protocol):
    """What other replicas tell about their proxies: see `xds.peers.Peers`."""

    def standings(self, group: str) -> Iterable[Standing]:
        """What each replica that has proxies of a Gateway says of them."""

    def refused(self) -> Mapping[RefusalKey, str]:
        """What their proxies refuse, with their words."""


class OneGroup:
    """All proxies get everything: standalone."""

    def __init__(self, *, grace_s: float, on_event: Callable[[Event], None]) -> None:
        self.group = Group(grace_s=grace_s, linger_s=_LINGER_S, on_event=on_event)
        self._listeners_at = 0
        self._gone: set[tuple[str, str]] = set()
        """What went in the first half of a flight, by type URL and name; routes may refer to it until the second."""

    def prepare(self, graph: Graph, changes: Changes) -> Published:
        """Sends what the rest of a flight will refer to; what goes is left to that."""
        resources = emit.changed(graph, changes)
        for url, named in resources.items():
            for name, resource in named.items():
                (self._gone.add if resource is None else self._gone.discard)((url, name))
        there = {url: {name: each for name, each in named.items() if each} for url, named in resources.items()}
        return Published(self.group.publish(there, ahead=True), sum(map(len, there.values())))

    def publish(self, graph: Graph, changes: Changes) -> Published:
        """Sends what changed."""
        resources = emit.changed(graph, changes)
        for url, name in self._gone:
            resources.setdefault(url, {}).setdefault(name, None)
        self._gone.clear()
        before = self.group.flight
        flight = self.group.publish(resources)
        if LDS in resources and flight != before:
            self._listeners_at = flight
        return Published(flight, sum(map(len, resources.values())))

    def groups(self) -> Iterator[Group]:
        """The one group."""
        yield self.group

    def programmed(self, gateway: Name) -> bool:
        """Whether the proxy is connected and has the listeners as they are planned now."""
        return self.group.settled >= self._listeners_at


class GroupPerGateway:
    """Each Gateway's proxies get what that Gateway needs: Kubernetes.

    The group of a gateway that went is kept, empty, for as long as proxies hold on to it: they are told that there is
    nothing to serve, and have everything again when the gateway comes back.
    """

    def __init__(self, *, grace_s: float, on_event: Callable[[Event], None]) -> None:
        self._grace_s = grace_s
        self._on_event = on_event
        self._groups: dict[Name, Group] = {}
        self._gone: set[Name] = set()
        self._listeners_at: dict[Name, int] = {}
        self._digests: dict[Name, str] = {}
        self._elsewhere: Elsewhere | None = None
        self._flights = 0
        self._past = Counters()
        """What the groups that are gone had counted."""

    def publish(self, graph: Graph, changes: Changes) -> Published:
        """Sends what changed to the gateways that it concerns; a gateway that went takes its group with it."""
        for gateway in changes.keys(GATEWAY_PLANS):
            if graph.get(GATEWAY_PLANS, gateway) is not None:
                self._gone.discard(gateway)
                self._group(gateway)
        resources = 0
        for gateway, named in placement.changed(graph, changes).items():
            group = self._group(gateway)
            before = group.flight
            flight = group.publish(named)
            self._flights += flight - before
            resources += sum(map(len, named.values()))
            if LDS in named and flight != before:
                self._listeners_at[gateway] = flight
                self._digests.pop(gateway, None)
        for gateway in changes.keys(GATEWAY_PLANS):
            if graph.get(GATEWAY_PLANS, gateway) is None and gateway in self._groups:
                self._gone.add(gateway)
        for gateway in [gateway for gateway in self._gone if not self._groups[gateway].sessions]:
            self._gone.discard(gateway)
            self._past = _sum((self._past, self._groups.pop(gateway).counters))
            self._listeners_at.pop(gateway, None)
            self._digests.pop(gateway, None)
        return Published(self._flights, resources)

    def groups(self) -> Iterator[Group]:
        """One for each Gateway."""
        yield from self._groups.values()

    def totals(self) -> Counters:
        """What all groups counted, those that are gone included."""
        return _sum((self._past, *(group.counters for group in self._groups.values())))

    def of(self, gateway: Name) -> Group | None:
        """The group of a Gateway; None when it is not one of ours."""
        return None if gateway in self._gone else self._groups.get(gateway)

    def programmed(self, gateway: Name) -> bool:
        """Whether at least one proxy is connected, here or elsewhere, and all have the listeners as planned now."""
        group = self.of(gateway)
        if group is None:
            return False
        standings = list(self._elsewhere.standings(str(gateway))) if self._elsewhere is not None else []
        if group.sessions:
            standings.append(self._standing(gateway, group))
        digest = self._digest(gateway, group)
        return bool(standings) and all(standing.digest == digest for standing in standings)

    def standings(self) -> dict[str, Standing]:
        """How it stands with the proxies that are connected here, by the Gateway as `namespace/name`."""
        return {
            str(gateway): self._standing(gateway, group)
            for gateway, group in self._groups.items()
            if group.sessions and gateway not in self._gone
        }

    def refused_elsewhere(self) -> Mapping[RefusalKey, str]:
        """What proxies of other replicas refuse, with their words."""
        return self._elsewhere.refused() if self._elsewhere is not None else {}

    def listen_to(self, elsewhere: Elsewhere) -> None:
        """Has the proxies of other replicas counted too."""
        self._elsewhere = elsewhere

    def _standing(self, gateway: Name, group: Group) -> Standing:
        taken = group.settled >= self._listeners_at.get(gateway, 0)
        return Standing(len(group.sessions), self._digest(gateway, group) if taken else "")

    def _digest(self, gateway: Name, group: Group) -> str:
        """Of the listeners that a gateway's proxies are to have: the same in all replicas that know the same."""
        found = self._digests.get(gateway)
        if found is None:
            listeners = group.resources(LDS)
            text = "\n".join(f"{name} {listeners[name].version}" for name in sorted(listeners))
            found = self._digests[gateway] = blake2b(text.encode(), digest_size=8).hexdigest()
        return found

    def _group(self, gateway: Name) -> Group:
        group = self._groups.get(gateway)
        if group is None:
            group = self._groups[gateway] = Group(grace_s=self._grace_s, linger_s=_LINGER_S, on_event=self._on_event)
        return group


def _sum(counted: Iterable[Counters]) -> Counters:
    total = Counters()
    for each in counted:
        for field in Counters.__struct_fields__:
            setattr(total, field, getattr(total, field) + getattr(each, field))
    return total
