"""What a group of proxies shall have, and the flights that bring it there.

`Group.publish` is the one way in: it takes changed resources, numbers the flight and wakes every connected session,
which then sends what it may. `Group.live` is the one question: has every connected proxy acknowledged the routes of a
flight? All but that wait is synchronous, and nothing here does I/O. Read `protocol.py` for what is sent when.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from tripylon.xds.events import Acked, Connected, Disconnected, Event, Rejected
from tripylon.xds.protocol import Response, Stream
from tripylon.xds.snapshot import BY_URL, TYPES, Resource, make_response, parent
from tripylon.xds.subscription import Batch

if TYPE_CHECKING:
    from tripylon.pb.messages import DeltaDiscoveryRequest

_SHARED_RESPONSES = 64
"""How many of the last responses are kept for the other streams: as many as all of 20,000 hosts take."""

_FILED = frozenset(kind.url for kind in TYPES if kind.style == "prefix")
"""Types whose names are also filed under their parent."""


class Counters(msgspec.Struct, gc=False):
    """Totals since the start, for a metrics layer to read; `streams` is how many are open now."""

    pushes: int = 0
    resources: int = 0
    removals: int = 0
    sent_bytes: int = 0
    acks: int = 0
    nacks: int = 0
    connects: int = 0
    streams: int = 0


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The last rejection of one resource by any proxy of the group."""

    version: str
    message: str


class Group:
    """A set of proxies that get the same resources.

    `grace_s`: seconds between the acknowledgement of routes and the removal of clusters that only older routes used; it
    must exceed the longest time that a filter may hold a request.
    `linger_s`: the same where older listeners went too, of scopes and of what their routes lead to; it must exceed the
    time for which Envoy drains.
    `endpoints_of`: cluster name to the name of its EDS resource (None: it has none); by default the same name.
    `on_event` is called at once and must not block.
    """

    def __init__(
        self,
        *,
        grace_s: float = 5.0,
        linger_s: float = 65.0,
        endpoints_of: Callable[[str], str | None] = lambda cluster: cluster,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.counters = Counters()
        self.refusals: dict[tuple[str, str], Refusal] = {}
        """By type URL and name; an entry goes when the resource changes or a proxy takes it after all."""
        self._grace_s, self._linger_s = grace_s, linger_s
        self._endpoints_of = endpoints_of
        self._on_event = on_event
        self._flight = 0
        self._ahead = False
        """Whether something of the next flight has been published."""
        self._nonce = 0
        self._resources: dict[str, dict[str, Resource]] = {kind.url: {} for kind in TYPES}
        self._children: dict[str, dict[str, dict[str, None]]] = {url: defaultdict(dict) for url in _FILED}
        self._sessions: dict[int, Session] = {}
        self._shared: dict[tuple[object, ...], tuple[Batch, str, bytes]] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._laggard: Session | None = None
        """A proxy known to be behind the first flight that is waited for."""

    def publish(self, changes: Mapping[str, Mapping[str, Resource | None]], *, ahead: bool = False) -> int:
        """Takes new, changed and removed (None) resources by type URL and name; returns the number of their flight.

        Resources equal to what is there are passed over; when nothing is left there is no new flight. ValueError for a
        type that is not in `TYPES`. `ahead`: the rest of the flight, which refers to these, is published later.
        """
        changed = {url: names for url in changes if (names := self._store(url, changes[url]))}
        if not changed and (ahead or not self._ahead):
            return self._flight
        flight = self._flight + 1
        self._ahead = ahead
        if not ahead:
            self._flight = flight
        for key in [key for key in self._shared if key[0] in changed]:
            del self._shared[key]  # nobody who is up to date will be sent the same again
        for session in self._sessions.values():
            session.mark(changed, flight)
        return flight

    def retry(self, url: str, name: str) -> None:
        """Sends a resource once more, unchanged, to the proxies that refused it: say a port in use has become free."""
        for session in self._sessions.values():
            session.retry(url, name)

    async def live(self, flight: int, *, timeout_s: float) -> bool:
        """Waits until at least one proxy is connected and every connected one has the routes of `flight`.

        A resource that a proxy rejected counts as done, its event tells it. False when `timeout_s` is over first.
        """
        if self.settled >= flight:
            return True
        arrival = asyncio.get_running_loop().create_future()
        self._waiting[arrival] = flight
        try:
            async with asyncio.timeout(timeout_s):
                await arrival
        except TimeoutError:
            return False
        finally:
            del self._waiting[arrival]
        return True

    @property
    def settled(self) -> int:
        """The last flight that is live in every connected proxy; -1 when none is connected."""
        return min((session.settled for session in self._sessions.values()), default=-1)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The streams that are open now, oldest first."""
        return tuple(self._sessions.values())

    def connect(self, number: int, node: str, wake: Callable[[], None]) -> Session:
        """Adds a stream; `wake` is called when it has something to send. The caller closes the session."""
        session = self.new_session(number, node, wake)
        self._sessions[number] = session
        self.counters.connects += 1
        self.counters.streams += 1
        self._on_event(Connected(number, node))
        return session

    def new_session(self, number: int, node: str, wake: Callable[[], None]) -> Session:
        """What `connect` adds; a group that listens in on its streams makes its own kind."""
        return Session(self, number, node, wake)

    # What streams see: see `protocol.GroupView`

    @property
    def flight(self) -> int:
        """Number of the last flight."""
        return self._flight

    @property
    def grace_s(self) -> float:
        """Seconds from the acknowledgement of routes to the removal of what only they referred to."""
        return self._grace_s

    @property
    def linger_s(self) -> float:
        """Seconds from the acknowledgement of listeners to the removal of scopes that only older ones used."""
        return self._linger_s

    def resources(self, url: str) -> Mapping[str, Resource]:
        """What proxies shall have of one type; read only."""
        return self._resources[url]

    def under(self, url: str, above: str) -> Collection[str]:
        """Names that a subscription to the parent `above` covers."""
        return tuple(self._children[url].get(above, ())) if url in _FILED else ()

    def endpoints_of(self, cluster: str) -> str | None:
        """Name of the EDS resource of a cluster, None when it has none."""
        return self._endpoints_of(cluster)

    @property
    def wary(self) -> bool:
        """Whether any proxy has rejected anything that is still there."""
        return bool(self.refusals)

    def suspect(self, url: str, resource: Resource) -> bool:
        """Whether a proxy has rejected this very version."""
        refusal = self.refusals.get((url, resource.name))
        return refusal is not None and refusal.version == resource.version

    def encode(self, url: str, batch: Batch, taken: Container[str]) -> tuple[str, bytes]:
        """Nonce and bytes; streams that are sent the same share both, so the bytes are joined once."""
        key = (url, tuple(map(id, batch.resources)), batch.removed)
        shared = self._shared.get(key)
        if shared is not None and shared[1] not in taken:
            return shared[1:]
        self._nonce += 1
        nonce = f"{self._nonce:08x}"  # of one length, so that equal changes are as many bytes at any time
        payload = make_response(url, nonce, batch.resources, removed=batch.removed)
        while len(self._shared) >= _SHARED_RESPONSES:
            del self._shared[next(iter(self._shared))]
        if len(self._sessions) > 1:
            self._shared[key] = (batch, nonce, payload)  # the batch keeps its resources alive, so the ids stay theirs
        return nonce, payload

    def _store(self, url: str, named: Mapping[str, Resource | None]) -> list[str]:
        if url not in BY_URL:
            raise ValueError(f"{url!r} is no resource type that is served")
        mine = self._resources[url]
        changed: list[str] = []
        for name, resource in named.items():
            old = mine.get(name)
            if resource is None:
                if old is None:
                    continue
                del mine[name]
            elif old is not None and old.version == resource.version:
                continue
            else:
                mine[name] = resource
            changed.append(name)
            self.refusals.pop((url, name), None)
            if url in _FILED and (old is None) != (resource is None):
                self._file(url, name, present=resource is not None)
        return changed

    def _file(self, url: str, name: str, *, present: bool) -> None:
        above = parent(name)
        siblings = self._children[url][above]
        if present:
            siblings[name] = None
            return
        del siblings[name]
        if not siblings:
            del self._children[url][above]

    # What sessions report

    def report(self, url: str, event: Event) -> None:
        """Counts an event, remembers what was refused and hands it to the owner."""
        match event:
            case Acked():
                self.counters.acks += 1
                if self.refusals:
                    for name in event.names:
                        self.refusals.pop((url, name), None)
            case Rejected():
                self.refusals[url, event.name] = Refusal(event.version, event.message)
            case _:
                pass
        self._on_event(event)

    def leave(self, session: Session) -> None:
        """Takes a closed session out."""
        if self._sessions.get(session.number) is session:
            del self._sessions[session.number]
            self.counters.streams -= 1
            self._on_event(Disconnected(session.number, session.node))
            self.tell_waiting()

    def tell_waiting(self) -> None:
        """Ends the waits for flights that are live now."""
        if not self._waiting:
            return
        first = min(self._waiting.values())
        if self._laggard is not None and self._laggard.number in self._sessions and self._laggard.settled < first:
            return
        # From the youngest on: acknowledgements mostly come oldest first, so the laggard found lasts longest.
        self._laggard = next((late for late in reversed(self._sessions.values()) if late.settled < first), None)
        if self._laggard is not None:
            return
        settled = self.settled
        for arrival, flight in self._waiting.items():
            if flight <= settled and not arrival.done():
                arrival.set_result(None)


class Session:
    """One connected stream within its group: the state machine, its wake-up and its share of the counters."""

    __slots__ = ("_group", "_settled", "_stream", "_wake", "node", "number")

    def __init__(self, group: Group, number: int, node: str, wake: Callable[[], None]) -> None:
        self.number = number
        self.node = node
        self._group = group
        self._wake = wake
        self._stream = Stream(number, group)
        self._settled: int | None = None

    def receive(self, request: DeltaDiscoveryRequest) -> None:
        """Takes one request; events go to the owner, and the session asks to be woken for what it has to answer."""
        self._settled = None
        if request.HasField("error_detail"):
            self._group.counters.nacks += 1
        for event in self._stream.receive(request):
            self._group.report(request.type_url, event)
        self._group.tell_waiting()
        if self._stream.stirred:
            self._wake()

    def responses(self, now: float) -> list[Response]:
        """What may be sent now, in order; call when woken, and at `deadline`, once the last ones are written."""
        self._settled = None
        ready = self._stream.responses(now)
        counters = self._group.counters
        for response in ready:
            counters.pushes += 1
            counters.resources += len(response.batch.resources)
            counters.removals += len(response.batch.removed)
            counters.sent_bytes += len(response.payload)
        return ready

    def mark(self, changed: Mapping[str, Iterable[str]], flight: int) -> None:
        """Notes what a flight changed and wakes the sender."""
        self._settled = None
        self._stream.mark(changed, flight)
        self._wake()

    def retry(self, url: str, name: str) -> None:
        """Has a resource that this proxy refused sent again."""
        self._settled = None
        self._stream.retry(url, name)
        self._wake()

    def close(self) -> None:
        """Says that the stream has ended; harmless when said twice."""
        self._group.leave(self)

    @property
    def settled(self) -> int:
        """The last flight whose routes this proxy has."""
        if self._settled is None:
            self._settled = self._stream.settled
        return self._settled

    @property
    def deadline(self) -> float | None:
        """When `responses` is to be called even if not woken, on the clock that it is given; None: not at all."""
        return self._stream.deadline

    def waits_for(self) -> dict[str, tuple[str, ...]]:
        """Route resources that this proxy should have asked for and has not, by type URL."""
        return self._stream.waits_for()
