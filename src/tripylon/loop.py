"""What happens when something changes: World → flush → resources → publish.

`Engine.apply` is the whole way of a change, in one synchronous step: objects in, one flight out. Publishing never waits
for anybody; what proxies refuse comes back as findings on the user's objects, by the same graph. The invariant: after
`apply` returns, every proxy has been sent what differs and nothing else. Read `model/pipeline.py` and `envoy/emit.py`
for the steps in between.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec
import structlog

from tripylon.api.core import Secret
from tripylon.api.meta import GATEWAY_GROUP, Resource
from tripylon.api.own import OWN_GROUP
from tripylon.envoy import emit, placement, refusals
from tripylon.envoy.listeners import ListenerKey
from tripylon.envoy.options import EmitOptions
from tripylon.findings import Finding
from tripylon.fleet import Fleet, GroupPerGateway, OneGroup
from tripylon.fleet import refusals as fleet_refusals
from tripylon.graph import Changes, Graph, Table
from tripylon.model import pipeline, tls
from tripylon.model.hosts import HOSTS
from tripylon.model.options import Options
from tripylon.model.plan import ClusterKey, HolderKey, HostKey, RouteTable
from tripylon.model.stream_plans import StreamKey
from tripylon.status import attached
from tripylon.values import Name, Ref
from tripylon.world import world
from tripylon.xds.cache import Group
from tripylon.xds.events import Event, Rejected
from tripylon.xds.snapshot import LDS

_log = structlog.get_logger("tripylon.loop")
_AT_A_TIME = 200
"""Rows that are built in one go by who wants to yield; one takes some 20 us."""
_FREEZE_EVERY = 5_000
"""Changed rows after which the garbage collector is told again that what there is will stay."""


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector off while much is built that stays: it would look at all of it again and again."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What one change came to."""

    flight: int
    """Number of the flight that carries it; `Group.live` tells when it is live."""
    changed: int
    """How many resources it sends or removes."""
    subjects: frozenset[Ref]
    """Objects whose findings changed."""
    build_s: float
    """Seconds in the graph: model and emission."""
    publish_s: float
    """Seconds in handing over to the proxies' streams."""
    changes: Changes
    """What changed in the graph, for those who report or act on it."""


def new_graph(options: Options, emit_options: EmitOptions) -> Graph:
    """A graph with all inputs and all steps, and nothing in it."""
    placed = () if options.standalone else (*placement.derives(), *attached.derives())
    return Graph(
        inputs=(*world.INPUTS, refusals.REFUSALS),
        derives=(*pipeline.derives(options), *emit.derives(emit_options), *placed, *refusals.derives()),
        indexes=(*world.INDEXES, *pipeline.INDEXES, *emit.INDEXES, *(() if options.standalone else placement.INDEXES)),
        subject=lambda finding: finding.object,
        on_error=_bug,
    )


def _bug(table: Table[Any, Any], key: Any, error: Exception) -> tuple[Finding, ...]:
    """Our own fault at one key: loud in the log, told to the user, and nothing else stops."""
    _log.error("a build step failed; this is a bug", table=table.name, key=str(key), exc_info=error)
    about = _about(key)
    if about is None:
        return ()
    part = "" if key == about else f" (its {table.name})"
    return (
        Finding(
            object=about,
            condition="Accepted" if about == key else "Programmed",
            reason="Invalid",
            message=f"{about}{part} could not be built: {type(error).__name__}: {error}",
            hint="This is a bug of Tripylon; what was built of the object before stays in force",
        ),
    )


def _about(key: Any) -> Ref | None:
    """The object that a row of the graph was built for, as far as its key tells."""
    match key:
        case Ref():
            return key
        case HostKey(table=RouteTable(gateway=gateway)) | RouteTable(gateway=gateway) | ListenerKey(gateway=gateway):
            return Ref(GATEWAY_GROUP, "Gateway", *gateway)
        case StreamKey(gateway=gateway):
            return Ref(GATEWAY_GROUP, "Gateway", *gateway)
        case HolderKey(holder=holder):
            return holder
        case ClusterKey(kind="Collector"):
            return Ref(GATEWAY_GROUP, "Gateway", key.namespace, key.name)
        case ClusterKey(kind="Backend"):
            return Ref(OWN_GROUP, "Backend", key.namespace, key.name)
        case ClusterKey():
            return Ref("", key.kind, key.namespace, key.name)
        case _:
            return None


class Engine:
    """The graph and the groups of proxies that it feeds: one group standalone, one for each Gateway otherwise.

    `on_applied` is called after each change, also after those that proxies cause by refusing something. `on_proxies`
    is called whenever a proxy comes, goes or answers. Neither may block.
    """

    def __init__(
        self,
        options: Options,
        emit_options: EmitOptions,
        *,
        grace_s: float = 5.0,
        on_applied: Callable[[Applied], None] = lambda _: None,
        on_proxies: Callable[[], None] = lambda: None,
    ) -> None:
        self.graph = new_graph(options, emit_options)
        self._first = {step.table for step in pipeline.derives(options)} - {HOSTS} | emit.REFERRED
        self._one = OneGroup(grace_s=grace_s, on_event=self._on_event)
        self._many = GroupPerGateway(grace_s=grace_s, on_event=self._on_event)
        self._fleet: Fleet = self._one if options.standalone else self._many
        self._on_applied, self._on_proxies = on_applied, on_proxies
        self._changed_rows = 0
        self._ahead_subjects: set[Ref] = set()
        self._ahead_resources = 0
        """What first halves changed, to be told with the second."""

    @property
    def group(self) -> Group:
        """The group of a standalone engine."""
        return self._one.group

    @property
    def gateways(self) -> GroupPerGateway:
        """The groups of an engine with one for each Gateway."""
        return self._many

    @property
    def fleet(self) -> Fleet:
        """All groups, of either kind of engine."""
        return self._fleet

    def listener(self, gateway: Name, listener: str) -> Literal["programmed", "pending"]:
        """What proxies have acknowledged of a gateway's listeners, as `status` asks for it."""
        return "programmed" if self._fleet.programmed(gateway) else "pending"

    def apply(self, put: Iterable[Resource], delete: Iterable[Ref] = ()) -> Applied:
        """Takes in changed objects, lets go of deleted ones, and sends what differs."""
        with uncollected():
            started = time.perf_counter()
            for ref in delete:
                world.delete(self.graph, ref)
                if ref.kind == "Secret":
                    tls.forget_last_good(self.graph, ref.key)
            for resource in put:
                self._put(resource)
            return self._flush(started)

    def prepare(self, put: Iterable[Resource]) -> None:
        """The first half of taking in many objects: sends what routes lead to. The next `apply` does the rest.

        With many clusters Envoy is busy for longer than we are with their routes; so it begins earlier. Standalone; and
        at a start only while no proxy has anything of an earlier run, which would be taken from it.
        """
        with uncollected():
            for resource in put:
                self._put(resource)
            changes = self.graph.flush(only=self._first)
            self._ahead_subjects |= changes.subjects
            self._ahead_resources += self._one.prepare(self.graph, changes).resources

    def advance(self) -> bool:
        """Builds a part of what `apply` would, in some milliseconds; False when nothing is left."""
        return self.graph.advance(_AT_A_TIME)

    def tell(self, teller: str, ref: Ref, findings: tuple[Finding, ...]) -> Applied:
        """Takes in what somebody outside the build has to say about an object now; nothing: it is settled."""
        started = time.perf_counter()
        if findings:
            self.graph.put(world.TOLD, (teller, ref), findings)
        else:
            self.graph.delete(world.TOLD, (teller, ref))
        return self._flush(started)

    def heard(self, teller: str, ref: Ref) -> bool:
        """Whether somebody has something to say about an object now."""
        return self.graph.get(world.TOLD, (teller, ref)) is not None

    def reach(self, reached: Mapping[Name, world.Reached | None]) -> Applied:
        """Takes in where gateways can be reached; None: a gateway is gone."""
        started = time.perf_counter()
        for gateway, place in reached.items():
            if place is None:
                self.graph.delete(world.REACHED, gateway)
            else:
                self.graph.put(world.REACHED, gateway, place)
        return self._flush(started)

    def lack(self, kinds: Iterable[tuple[str, str]]) -> Applied | None:
        """Takes in which kinds, by group and name, the cluster does not serve; None: it is known."""
        started = time.perf_counter()
        wanted, known = set(kinds), set(self.graph.rows(world.ABSENT_KINDS))
        if wanted == known:
            return None
        for kind in known - wanted:
            self.graph.delete(world.ABSENT_KINDS, kind)
        for kind in wanted - known:
            self.graph.put(world.ABSENT_KINDS, kind, True)
        return self._flush(started)

    def withhold(self, secrets: Mapping[Name, str]) -> Applied:
        """Takes in which Secrets that are referred to may not be read now, all of them, by what to grant."""
        started = time.perf_counter()
        for name in self.graph.rows(world.WITHHELD_SECRETS).keys() - secrets.keys():
            self.graph.delete(world.WITHHELD_SECRETS, name)
        for name, remedy in secrets.items():
            self.graph.put(world.WITHHELD_SECRETS, name, remedy)
        return self._flush(started)

    def rest(self) -> None:
        """To be called when there is nothing to do: keeps later collections short, as what was built stays.

        Takes some 10 ms for each 1,000 objects that are new since the last time.
        """
        if self._changed_rows >= _FREEZE_EVERY:
            self._changed_rows = 0
            gc.collect()
            gc.freeze()

    def heed_refusals(self) -> None:
        """Brings findings in line with what proxies refuse, here and elsewhere; refusals change no resource."""
        if subjects := self._note_refusals():
            flight = self._one.group.flight
            self._on_applied(Applied(flight, 0, frozenset(subjects), 0.0, 0.0, Changes()))

    def retry_refused_listeners(self) -> None:
        """Sends refused listeners again: what was in their way, a busy port for instance, may have gone."""
        for group in self._fleet.groups():
            for url, name in list(group.refusals):
                if url == LDS:
                    group.retry(url, name)

    def _put(self, resource: Resource) -> None:
        if isinstance(resource, Secret):
            tls.keep_last_good(self.graph, resource)
        world.put(self.graph, resource)

    def _flush(self, started: float) -> Applied:
        changes = self.graph.flush()
        built = time.perf_counter()
        published = self._fleet.publish(self.graph, changes)
        done = time.perf_counter()
        subjects = changes.subjects | self._ahead_subjects | (self._note_refusals() if self._refused() else set())
        applied = Applied(
            flight=published.flight,
            changed=published.resources + self._ahead_resources,
            subjects=frozenset(subjects),
            build_s=built - started,
            publish_s=done - built,
            changes=changes,
        )
        self._ahead_subjects, self._ahead_resources = set(), 0
        self._changed_rows += sum(map(len, changes.tables.values()))
        self._on_applied(applied)
        return applied

    def _on_event(self, event: Event) -> None:
        """Proxies answered: what they refuse, or refuse no longer, becomes findings; else no group is looked at."""
        self._on_proxies()
        if isinstance(event, Rejected) or self.graph.rows(refusals.REFUSALS):
            self.heed_refusals()

    def _refused(self) -> bool:
        """Whether anything is refused, without a look at every group: what a proxy refuses is noted when it says so."""
        return bool(self.graph.rows(refusals.REFUSALS) or self._many.refused_elsewhere())

    def _note_refusals(self) -> set[Ref]:
        """Brings the graph's refusals in line with the groups'; the objects concerned."""
        known = self.graph.rows(refusals.REFUSALS)
        now = {**self._many.refused_elsewhere(), **fleet_refusals(self._fleet)}
        if not known and not now:
            return set()
        for key in [key for key in known if key not in now]:
            self.graph.delete(refusals.REFUSALS, key)
        for key, words in now.items():
            self.graph.put(refusals.REFUSALS, key, words)
        return self.graph.flush(only=(refusals.REFUSED,)).subjects  # a second half may be waiting for `apply`
