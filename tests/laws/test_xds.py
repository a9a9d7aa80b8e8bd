"""Laws of the wire: every proxy ends with the group's content, and none ever has a route whose cluster it lacks.

Proxies are simulated (`tripylon.xds.client`), messages travel in order but as late as the example says, streams break
and the control plane restarts at any moment.
"""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.xds.scripted import flight, refers

from tripylon.pb.messages import DeltaDiscoveryRequest
from tripylon.xds.cache import Group, Session
from tripylon.xds.client import Proxy
from tripylon.xds.snapshot import CDS, ECDS, EDS, LDS, RDS, TYPES, VHDS, Resource, parent

GRACE_S = 5.0
CLUSTERS = ("c0", "c1", "c2")
CONFIGURATIONS = ("r0", "r1")

Content = dict[str, dict[str, Resource | None]]


def refuses(_url: str, _name: str, message: bytes) -> str:
    return "bad" if b"bad" in message else ""


class Wire:
    """One proxy and the two queues of its stream."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.proxy = Proxy(f"node{number}", refers, verdict=refuses)
        self.up: deque[DeltaDiscoveryRequest] = deque()
        self.down: deque[bytes] = deque()
        self.session: Session | None = None

    def connect(self, group: Group) -> None:
        self.break_off()
        self.session = group.connect(self.number, self.proxy.node, lambda: None)
        for request in self.proxy.connect():  # what a proxy has is said long before any grace is over
            self.session.receive(request)

    def break_off(self) -> None:
        if self.session is not None:
            self.session.close()
        self.session = None
        self.up.clear()
        self.down.clear()

    def step(self, now: float) -> bool:
        """One message upwards, all that is ready downwards into the queue, one message out of it; False: all quiet."""
        if self.session is None:
            return False
        busy = False
        if self.up:
            self.session.receive(self.up.popleft())
            busy = True
        if not self.down:  # a slow proxy: the server asks only when all is written
            self.down.extend(response.payload for response in self.session.responses(now))
        if self.down:
            self.up.extend(self.proxy.receive(self.down.popleft()))
            self.check()
            busy = True
        return busy

    def check(self) -> None:
        """Make before break."""
        held = self.proxy.held
        for url in (ECDS, RDS, VHDS):
            for name, message in held[url].items():
                for to, cluster in refers(url, message):
                    assert to != CDS or cluster in held[CDS], f"{name} refers to {cluster}, which the proxy lacks"


class Machine:
    """A control plane, two proxies and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.group = Group(grace_s=GRACE_S)
        self.wires = (Wire(1), Wire(2))
        self.content: Content = {kind.url: {} for kind in TYPES}

    def publish(self, new: Content) -> None:
        gone: Content = {
            url: {name: None for name in old if name not in new.get(url, {})} for url, old in self.content.items()
        }
        self.content = {url: new.get(url, {}) for url in self.content}
        self.group.publish({url: {**self.content[url], **gone[url]} for url in self.content})

    def restart(self) -> None:
        for wire in self.wires:
            wire.break_off()
        self.group = Group(grace_s=GRACE_S)
        self.group.publish(self.content)

    def finish(self) -> None:
        """Everybody connects and everything is delivered."""
        for wire in self.wires:
            if wire.session is None:
                wire.connect(self.group)
        for _ in range(4):
            busy = True
            while busy:
                busy = self.wires[0].step(self.now) | self.wires[1].step(self.now)
            self.now += GRACE_S + 1


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Content whose references are all there; some of it bad, but no bad cluster."""
    clusters = draw(st.sets(st.sampled_from(CLUSTERS)))
    version = st.sampled_from(["1", "2"])
    health = st.sampled_from(["", "", "", " bad"])
    filtered = draw(st.sets(st.sampled_from(CONFIGURATIONS)))
    listeners = {
        f"l{rc}": f"rds:{rc}{f' ecds:f{rc}' if rc in filtered else ''}{draw(health)}"
        for rc in draw(st.sets(st.sampled_from(CONFIGURATIONS)))
    }

    def route() -> str:
        words = f"{draw(version)}{draw(health)}"
        refers_to = draw(st.sampled_from(["", *sorted(clusters)]))
        return f"{words} cds:{refers_to}" if refers_to else words

    configurations = draw(st.sets(st.sampled_from(CONFIGURATIONS)))
    hosts = draw(st.sets(st.sampled_from([f"{rc}/{host}" for rc in CONFIGURATIONS for host in "xyz"])))
    return flight(
        CDS={name: f"{draw(version)} eds:{name}" for name in clusters},
        EDS={name: draw(version) + draw(health) for name in clusters},
        ECDS={f"f{rc}": route() for rc in filtered if f"l{rc}" in listeners},
        LDS=listeners,
        RDS={name: route() for name in configurations},
        VHDS={name: route() for name in hosts if parent(name) in configurations},
    )


ACTIONS = st.one_of(
    contents(),
    st.tuples(st.sampled_from(["step"]), st.integers(0, 1), st.integers(1, 8)),
    st.tuples(st.sampled_from(["connect", "break"]), st.integers(0, 1), st.just(0)),
    st.tuples(st.sampled_from(["wait"]), st.just(0), st.integers(1, 7)),
    st.just(("restart", 0, 0)),
)


def play(machine: Machine, actions: list[Content | tuple[str, int, int]]) -> None:
    for action in actions:
        if isinstance(action, dict):
            machine.publish(action)
            continue
        what, which, count = action
        wire = machine.wires[which]
        match what:
            case "step":
                for _ in range(count):
                    wire.step(machine.now)
            case "connect":
                wire.connect(machine.group)
            case "break":
                wire.break_off()
            case "wait":
                machine.now += count
            case "restart":
                machine.restart()


def check_end(machine: Machine) -> None:
    wanted = machine.group
    clings = any(b"bad" in held.body for kind in TYPES if kind.routes for held in wanted.resources(kind.url).values())
    for wire in machine.wires:
        held = wire.proxy.held
        asked = {
            CDS: set(wanted.resources(CDS)),
            EDS: {name for message in held[CDS].values() for url, name in refers(CDS, message) if url == EDS},
            LDS: set(wanted.resources(LDS)),
            ECDS: {name for message in held[LDS].values() for url, name in refers(LDS, message) if url == ECDS},
            RDS: {name for message in held[LDS].values() for url, name in refers(LDS, message) if url == RDS},
            VHDS: {name for name in wanted.resources(VHDS) if parent(name) in held[RDS]},
        }
        for url, names in asked.items():
            mine = wanted.resources(url)
            for name in names & mine.keys():
                if b"bad" not in mine[name].body:
                    assert held[url].get(name, b"?") in mine[name].body, f"{name} is not what it should be"
            if not (clings and url in (CDS, EDS)):
                assert held[url].keys() <= mine.keys(), f"{url} should be gone"
        assert clings or wire.session is not None
        if wire.session is not None:
            assert wire.session.settled == wanted.flight or wire.session.waits_for()


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_every_proxy_ends_with_the_groups_content(actions: list[Content | tuple[str, int, int]]) -> None:
    machine = Machine()
    play(machine, actions)
    machine.finish()
    check_end(machine)


@pytest.mark.parametrize("bad_share", [0.0, 0.1, 0.5])
def test_long_churn(bad_share: float) -> None:
    """Thousands of small changes to one site, some refused; make before break is checked after every message."""
    chance = random.Random(7)
    machine = Machine()
    for wire in machine.wires:
        wire.connect(machine.group)
    clusters = list(CLUSTERS)

    def route() -> str:
        return f"cds:{chance.choice(clusters)}{' bad' if chance.random() < bad_share else ''}"

    for round_ in range(2000):
        if chance.random() < 0.2:
            clusters = chance.sample(CLUSTERS, chance.randint(1, 3))
        machine.publish(
            flight(
                CDS={name: f"{chance.randint(0, 1)} eds:{name}" for name in clusters},
                EDS=dict.fromkeys(clusters, str(round_ % 3)),
                ECDS={"f": route()},
                LDS={"l": "rds:r0 ecds:f"},
                RDS={"r0": route()},
                VHDS={f"r0/{host}": route() for host in "xyz" if chance.random() < 0.9},
            )
        )
        for wire in machine.wires:
            for _ in range(chance.randint(0, 12)):
                wire.step(machine.now)
        machine.now += chance.random() * 2
        if chance.random() < 0.02:
            chance.choice(machine.wires).connect(machine.group)
    machine.finish()
    check_end(machine)
    assert all(wire.session is not None and wire.session.settled == machine.group.flight for wire in machine.wires)
