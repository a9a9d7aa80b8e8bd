"""One resource type on one stream: what the proxy asked for, what it has, what is owed to it and what is in the air.

Every name that is owed is in exactly one of four places: `expected` (the proxy will ask for it), `dirty` (to be sent),
`retries` (to be sent apart, after a rejection), or a response in `flying` (sent, not yet acknowledged). Sending moves
names right, an acknowledgement takes them out. Invariant: when all four are empty the proxy has the group's content,
without what it rejected. Read `protocol.py` next for how the types of a stream play together.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from tripylon.xds.snapshot import RDS, Resource, ResourceType, parent, table_scope

NEVER = 1 << 62
"""Greater than every flight number."""

_REMEMBERED = 256
"""How many unacknowledged responses of a pipelined type are remembered. A proxy that acknowledges none, as Envoy does
while a cluster is warming, is sent what changes all the same; what it may say of older ones is passed over."""

_UNKNOWN = ""
"""Version of a resource of which we only know that the proxy has one."""

_PERHAPS = "?"
"""Version of a resource that the proxy may or may not have taken from a response that it refused in part."""


class View(Protocol):
    """What a stream sees of its group."""

    @property
    def flight(self) -> int:
        """Number of the last flight."""

    def resources(self, url: str) -> Mapping[str, Resource]:
        """What proxies shall have of one type."""

    def under(self, url: str, above: str) -> Collection[str]:
        """Names that a `prefix` subscription to `above` covers."""

    @property
    def wary(self) -> bool:
        """Whether any proxy has rejected anything that is still there."""

    def suspect(self, url: str, resource: Resource) -> bool:
        """Whether another proxy has rejected this very version."""

    def encode(self, url: str, batch: Batch, taken: Container[str]) -> tuple[str, bytes]:
        """Nonce (none of `taken`) and bytes of a response; the same for all streams that are sent the same."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """What one response is about to carry."""

    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    flight: int
    """The oldest flight that any of it belongs to."""
    older: frozenset[str] = frozenset()
    """Names of which the proxy had another version before."""


class Subscription:
    """The state of one type on one stream."""

    __slots__ = (
        "ahead",
        "clings",
        "dirty",
        "due",
        "expected",
        "flying",
        "held",
        "kind",
        "names",
        "next_due",
        "opened",
        "orphans",
        "owes_answer",
        "parts",
        "rejected",
        "retries",
        "sent",
        "urgent",
        "view",
        "wildcard",
    )

    def __init__(self, kind: ResourceType, view: View) -> None:
        self.kind = kind
        self.view = view
        self.opened = False
        self.wildcard = False
        self.owes_answer = False
        """A wildcard subscriber waits for a first response even if it is empty."""
        self.names: dict[str, None] = {}
        """Names and parents subscribed to."""
        self.sent: dict[str, str] = {}
        """Name to version: what the proxy has or will have when it has read all that was sent."""
        self.expected: dict[str, int] = dict.fromkeys(view.resources(kind.url), view.flight) if kind.routes else {}
        self.dirty: dict[str, int] = {}
        """Name to flight."""
        self.urgent: set[str] = set()
        """To be sent even when the version is the same or a response is unacknowledged."""
        self.ahead: set[str] = set()
        """Sent without a subscription, not yet acknowledged: the subscription that is on its way needs no answer."""
        self.retries: deque[tuple[tuple[str, ...], int]] = deque()
        self.flying: dict[str, Batch] = {}
        """By nonce, oldest first."""
        self.rejected: dict[str, str] = {}
        """Name to the version that the proxy refused and is not sent again."""
        self.clings: dict[str, int] = {}
        """Name to the flight from which on the proxy keeps an older version, because it refused the newer ones."""
        self.held: dict[str, int] = {}
        """Names to remove once the proxy has the routes of this flight."""
        self.due: dict[str, tuple[float, int]] = {}
        """Names to remove at this time, if the proxy still has the routes of this flight then."""
        self.next_due = math.inf
        """No time in `due` is earlier."""
        self.parts: deque[Batch] = deque()
        """What is left of a response that was too large; it goes out in the same breath."""
        self.orphans: set[str] = set()
        """Filters' configuration, and virtual hosts that went together with their route configuration: left to
        connections that still end by it."""

    # What the group changes

    def mark(self, name: str, flight: int) -> None:
        """Notes that the group has a new version of `name`, or none any more."""
        if name in self.view.resources(self.kind.url):
            self.held.pop(name, None)
            self.due.pop(name, None)
            self.orphans.discard(name)
            if self.covers(name) or name in self.ahead:  # the subscription to what went ahead will not be answered
                self.dirty.setdefault(name, flight)
            elif self.kind.routes:
                self.expected.setdefault(name, flight)
            return
        self.expected.pop(name, None)
        self.rejected.pop(name, None)
        if name in self.sent and (self.kind.held or self._lost_its_table(name)):
            self.dirty.pop(name, None)
            self.clings.pop(name, None)  # which version it is does not matter to what goes
            self.held.setdefault(name, flight)
        elif name in self.sent and self._is_left(name):
            self.dirty.pop(name, None)
            self.orphans.add(name)
        elif name in self.sent or name in self.names:
            self.dirty.setdefault(name, flight)
        else:
            self.dirty.pop(name, None)

    def retry(self, name: str, flight: int) -> None:
        """Has a refused resource sent again as it is."""
        if self.rejected.pop(name, None) is not None:
            self.dirty.setdefault(name, flight)

    def reclaim(self, flight: int) -> None:
        """Removes orphans whose route configuration or table is there again, but without them."""
        for name in [name for name in self.orphans if not self._is_left(name)]:
            self.orphans.discard(name)
            self.dirty.setdefault(name, flight)
        for name in [name for name in (*self.held, *self.due) if self.kind.lingers and not self._lost_its_table(name)]:
            self.held.pop(name, None)
            self.due.pop(name, None)
            self.dirty.setdefault(name, flight)

    def push(self, name: str, flight: int, *, early: bool = False) -> None:
        """Has `name` sent at once after what refers to it, whether subscribed to or not, changed or not.

        `early` holds also before the first request of the type; that request is then answered all the same.
        """
        if name not in self.view.resources(self.kind.url):
            return
        self.urgent.add(name)
        if self.opened or early:
            self.dirty.setdefault(name, flight)
            if not self.covers(name):
                self.ahead.add(name)

    # What the proxy says

    def open(self, subscribe: Iterable[str], known: Mapping[str, str]) -> None:
        """The first request of the type on this stream; `known` is what the proxy still has from an earlier stream."""
        self.opened = True
        self.ahead.clear()
        names = tuple(subscribe)
        self.wildcard = self.kind.style == "wildcard" and (not names or "*" in names)
        mine = self.view.resources(self.kind.url)
        for name, version in known.items():  # the group's own strings, so that streams share them
            same = mine.get(name)
            self.sent[same.name if same else name] = same.version if same and same.version == version else version
        flight = self.view.flight
        if self.wildcard:
            self.owes_answer = not known
            self._owe(mine, fresh=known)
        self.subscribe(names, known=known)
        for name in known:
            if name not in mine and self._is_left(name):
                self.orphans.add(name)
            elif name not in mine:
                held = self.kind.held or self._lost_its_table(name)
                (self.held if held else self.dirty).setdefault(name, flight)

    def subscribe(self, names: Iterable[str], *, known: Mapping[str, str] | None = None) -> None:
        """Adds names; each is answered, by a removal if there is none, but for what `known` shows to be there.

        Of types that are never removed silence is the answer: Envoy takes a removal for no end of its wait, and an
        Envoy that starts then opens no listener at all.
        """
        mine = self.view.resources(self.kind.url)
        named, parents = [], []
        for name in names:
            there = mine.get(name)
            if there is not None:
                named.append(there.name)  # the group's own string, so that streams share it
            elif self._is_parent(name):
                parents.append(name)
            elif name != "*":
                named.append(name)
        self.names.update(dict.fromkeys((*named, *parents)))
        if self.ahead:
            named = [name for name in named if name not in self.ahead]
            self.ahead.difference_update(self.names)
        if self.kind.left:
            named = [name for name in named if name in mine]
        self._owe([name for name in named if not known or name not in known], fresh={}, answer=True)
        if known:
            self._owe([name for name in named if name in known and name in mine], fresh=known)
        for name in parents:
            self._owe(self.view.under(self.kind.url, name), fresh=known or {})
            self._answer_parent(name, known or {})

    def _owe(self, names: Iterable[str], *, fresh: Mapping[str, str], answer: bool = False) -> None:
        """Makes names dirty unless the proxy has them in the group's version; `answer`: even then."""
        mine = self.view.resources(self.kind.url)
        expected, dirty, urgent, now = self.expected, self.dirty, self.urgent, self.view.flight
        for name in names:
            flight = expected.pop(name, now) if expected else now
            if answer:
                urgent.add(name)
            elif fresh and name not in urgent and name in mine and fresh.get(name) == mine[name].version:
                continue
            dirty.setdefault(name, flight)
        if not expected:
            self.expected = {}  # an emptied one would keep its size, and so below

    def _answer_parent(self, name: str, known: Mapping[str, str]) -> None:
        """A parent without children is answered by the removal of a nameless child, so that nobody waits for it."""
        if not self.view.under(self.kind.url, name) and not any(parent(old) == name for old in known):
            self._owe((name + "/",), fresh={}, answer=True)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Forgets names: the proxy has dropped them itself."""
        for name in names:
            if name == "*":
                self.wildcard = False
            self.names.pop(name, None)
            for gone in self._forgotten(name):
                self.sent.pop(gone, None)
                self.dirty.pop(gone, None)
                self.rejected.pop(gone, None)
                self.clings.pop(gone, None)
                self.held.pop(gone, None)
                self.due.pop(gone, None)
                self.urgent.discard(gone)
                self.ahead.discard(gone)
                self.orphans.discard(gone)
        if not self.names and not self.wildcard:
            self.flying.clear()

    def _forgotten(self, name: str) -> Iterator[str]:
        if self.wildcard:
            return iter(())
        if self._is_parent(name):
            return iter([child for child in {**self.sent, **self.dirty} if parent(child) == name])
        return iter((name,))

    def acked(self, nonce: str) -> Batch | None:
        """The response that the proxy has applied; None for a nonce that is not in the air."""
        batch = self.flying.pop(nonce, None)
        if batch is None:
            return None
        if self.ahead:
            self.ahead.difference_update([resource.name for resource in batch.resources])
        if self.clings:
            for name in (*(resource.name for resource in batch.resources), *batch.removed):
                self.clings.pop(name, None)
        if self.kind.pipelined:  # a refusal of an earlier response may have cast doubt on what this one brought
            for resource in batch.resources:
                if self.sent.get(resource.name, _UNKNOWN) in (_UNKNOWN, _PERHAPS):
                    self.sent[resource.name] = resource.version
        return batch

    def nacked(self, nonce: str, message: str) -> tuple[Resource, ...]:
        """Takes a refusal: a lone resource is the culprit and returned; else the parts are queued to be sent apart."""
        batch = self.flying.pop(nonce, None)
        if batch is None:
            return ()
        names = tuple(resource.name for resource in batch.resources)
        self.ahead.difference_update(names)
        alone = len(names) == 1 and not batch.removed
        for name in names:
            if name in batch.older:
                self.sent[name] = _UNKNOWN
            elif self.kind.partial and not alone:
                self.sent[name] = _PERHAPS
            else:
                self.sent.pop(name, None)
        if alone:
            (culprit,) = batch.resources
            if self.view.resources(self.kind.url).get(culprit.name) == culprit:
                self.rejected[culprit.name] = culprit.version
            if culprit.name in batch.older:
                self.clings.setdefault(culprit.name, batch.flight)
            return (culprit,)
        if batch.removed:
            self.sent.update(dict.fromkeys(batch.removed, _UNKNOWN))
            self.retries.append((batch.removed, batch.flight))
        self.retries.extend((part, batch.flight) for part in split_suspects(names, message))
        return ()

    # What goes out

    @property
    def stirred(self) -> bool:
        """Whether there is anything to send or to hold back; a response may still have to be acknowledged before."""
        return bool(self.dirty or self.retries or self.owes_answer or self.held or self.due)

    def take(self) -> Batch | None:
        """The next response that may be sent now, or None; call until None."""
        if not self.parts:
            batch = self._next()
            if batch is None or not 0 < self.kind.portion < len(batch.resources):
                return batch
            self.parts.extend(_parts(batch, self.kind.portion))
        return self.parts.popleft()

    def _next(self) -> Batch | None:
        """What may be sent now as one response."""
        if not (self.dirty or self.retries or self.owes_answer):
            return None
        if not self.opened or (self.flying and not self.kind.pipelined):
            return self._batch(self._pressing())
        while True:
            if self.retries:
                names, flight = self.retries.popleft()
                chosen = dict.fromkeys(names, flight)
            elif self.dirty:
                chosen, self.dirty = self.dirty, {}
            else:
                break
            batch = self._batch(chosen)
            if batch:
                return batch
        return Batch((), (), self.view.flight) if self.owes_answer else None

    def _pressing(self) -> dict[str, int]:
        """What goes out beside an unacknowledged response: endpoints and secrets that something just sent waits for."""
        if not self.kind.held or not self.urgent:
            return {}
        return {name: self.dirty.pop(name) for name in [name for name in self.dirty if name in self.urgent]}

    def launched(self, nonce: str, batch: Batch) -> None:
        """Notes that a batch was sent under `nonce`."""
        self.owes_answer = False
        self.flying[nonce] = batch
        if len(self.flying) > _REMEMBERED:
            del self.flying[next(iter(self.flying))]

    def _batch(self, names: Mapping[str, int]) -> Batch | None:
        """Resources and removals among `names` that the proxy lacks; suspects are put aside, each for itself."""
        mine, sent, urgent, rejected = self.view.resources(self.kind.url), self.sent, self.urgent, self.rejected
        wary = len(names) > 1 and self.view.wary
        resources: list[Resource] = []
        removed: list[str] = []
        aside: list[str] = []
        for name, flight in names.items():
            resource = mine.get(name)
            if resource is None:
                if name not in self.held and name not in self.due and (name in sent or name in urgent):
                    removed.append(name)
            elif (sent.get(name) == resource.version and name not in urgent) or rejected.get(name) == resource.version:
                continue
            elif wary and self.view.suspect(self.kind.url, resource):
                aside.append(name)
                self.retries.append(((name,), flight))
            else:
                resources.append(resource)
        if urgent:
            urgent.difference_update(names.keys() - aside)
            if not urgent:
                self.urgent = set()
        if not resources and not removed:
            return None
        return self._taken(tuple(resources), tuple(removed), min(names.values()))

    def _taken(self, resources: tuple[Resource, ...], removed: tuple[str, ...], flight: int) -> Batch:
        """The batch, noted as sent."""
        sent = self.sent
        older = frozenset([name for name in removed if sent.pop(name, _PERHAPS) != _PERHAPS])
        if sent:
            older |= {resource.name for resource in resources if sent.get(resource.name, _PERHAPS) != _PERHAPS}
        sent.update([(resource.name, resource.version) for resource in resources])
        if self.rejected:
            for resource in resources:
                self.rejected.pop(resource.name, None)
        return Batch(resources, removed, flight, older)

    # What others ask

    def covers(self, name: str) -> bool:
        """Whether the proxy has subscribed to `name`, directly or by what it is found under."""
        if self.wildcard or name in self.names:
            return True
        return self.kind.style == "prefix" and parent(name) in self.names

    def _is_parent(self, name: str) -> bool:
        return self.kind.style == "prefix" and name not in self.view.resources(self.kind.url)

    def _is_left(self, name: str) -> bool:
        """Whether a resource that went stays with the proxy: no new connection can reach it, old ones may need it.

        So it is with a filter's configuration, and with a virtual host that has no route configuration any more.
        """
        return self.kind.left or (self.kind.style == "prefix" and parent(name) not in self.view.resources(RDS))

    def _lost_its_table(self, name: str) -> bool:
        """Whether a scope has no table any more, so that no new connection can reach it."""
        return self.kind.lingers and table_scope(name) not in self.view.resources(self.kind.url)

    def low(self) -> int:
        """The oldest flight of which something is still expected to be asked for, owed or unacknowledged."""
        return min(self.owed(), *self.expected.values()) if self.expected else self.owed()

    def owed(self) -> int:
        """The oldest flight of which something that the proxy has asked for is still owed or unacknowledged."""
        if not (self.dirty or self.flying or self.retries):
            return NEVER
        return min(
            min(self.dirty.values(), default=NEVER),
            min((batch.flight for batch in self.flying.values()), default=NEVER),
            min((flight for _, flight in self.retries), default=NEVER),
        )

    def fall_due(self, reached: int, when: float) -> None:
        """Has what is held for flights up to `reached` removed at a time."""
        ready = [name for name, flight in self.held.items() if flight <= reached]
        for name in ready:
            self.due[name] = (when, self.held.pop(name))
        if ready:
            self.next_due = min(self.next_due, when)

    def remove_due(self, now: float, reached: int) -> None:
        """Owes the removal of what is due, if the proxy still has the routes of its flight; else holds it again."""
        if now < self.next_due:
            return
        for name, flight in [(name, flight) for name, (when, flight) in self.due.items() if when <= now]:
            del self.due[name]
            if flight <= reached:
                self.dirty[name] = self.view.flight
            else:
                self.held[name] = flight
        self.next_due = min((when for when, _ in self.due.values()), default=math.inf)

    @property
    def lingers(self) -> bool:
        """Whether connections that drain may still use something of this type that went."""
        return bool(self.orphans or (self.kind.lingers and (self.held or self.due)))

    def clinging(self) -> int:
        """The oldest flight of which the proxy refused something and keeps the version before it."""
        return min(self.clings.values(), default=NEVER)


def _parts(batch: Batch, most: int) -> Iterator[Batch]:
    """The same in several responses; what is removed goes with the last."""
    for start in range(0, len(batch.resources), most):
        resources = batch.resources[start : start + most]
        removed = batch.removed if start + most >= len(batch.resources) else ()
        yield Batch(resources, removed, batch.flight, batch.older.intersection([*_names(resources), *removed]))


def _names(resources: Iterable[Resource]) -> Iterator[str]:
    return (resource.name for resource in resources)


def split_suspects(names: tuple[str, ...], message: str) -> list[tuple[str, ...]]:
    """Parts of a refused response to send apart: what the message names singly and then the rest, or else halves.

    Each part is strictly smaller, so a culprit among n is alone after about log2(n) refusals.
    """
    suspects = [name for name in names if name in message]
    if suspects and len(suspects) < len(names):
        rest = tuple(name for name in names if name not in suspects)
        return [(name,) for name in suspects] + [rest]
    half = max(1, len(names) // 2)
    return [part for part in (names[:half], names[half:]) if part]
