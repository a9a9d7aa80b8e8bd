"""Law of delivery: whatever happens while a proxy is connected, it ends with exactly what the graph holds.

The proxy is simulated (`xds/client.py`) and as slow as the example says: between two edits it takes some of what waits
for it, or nothing, or loses its connection.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws import worlds
from tests.laws.worlds import OBJECTS, Step, World, victim

from tripylon.envoy import emit
from tripylon.loop import Engine
from tripylon.pb.messages import DeltaDiscoveryResponse, DownstreamTlsContext, Listener
from tripylon.xds.cache import Session
from tripylon.xds.client import Proxy, envoy_references
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, VHDS, Resource, parent

_GRACE_S = 5.0
_ROUNDS = 200
DELIVERIES = st.lists(
    st.one_of(
        *[st.tuples(st.just("put"), OBJECTS)] * 3,
        st.tuples(st.just("delete"), st.integers(0, 30)),
        *[st.tuples(st.just("deliver"), st.integers(1, 3))] * 2,
        st.tuples(st.just("wait"), st.just(None)),
        st.tuples(st.just("reconnect"), st.just(None)),
    ),
    min_size=4,
    max_size=20,
)


def references(url: str, message: bytes) -> list[tuple[str, str]]:
    """What clusters and listeners refer to, certificates included."""
    found = list(envoy_references(url, message))
    if url == LDS:
        for chain in Listener.FromString(message).filter_chains:
            context = DownstreamTlsContext()
            if chain.transport_socket.typed_config.Unpack(context):
                configs = context.common_tls_context.tls_certificate_sds_secret_configs
                found.extend((SDS, config.name) for config in configs)
    return found


class Line:
    """An engine and one proxy, with what is on its way between them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.proxy = Proxy("proxy", references)
        self.clock = 0.0
        self._numbers = itertools.count(1)
        self._waiting: deque[bytes] = deque()
        self._session: Session | None = None
        self.reconnect()

    def reconnect(self) -> None:
        """A new stream; what was on its way is lost."""
        if self._session is not None:
            self._session.close()
        self._waiting.clear()
        self._session = self.engine.group.connect(next(self._numbers), "proxy", lambda: None)
        for request in self.proxy.connect():
            self._session.receive(request)

    def deliver(self, count: int) -> bool:
        """Brings up to `count` responses to the proxy and its answers back; False when there was nothing to do."""
        assert self._session is not None
        if not self._waiting:
            self._waiting.extend(response.payload for response in self._session.responses(self.clock))
        for _ in range(min(count, len(self._waiting))):
            for request in self.proxy.receive(self._waiting.popleft()):
                self._session.receive(request)
            count -= 1
            if not count:
                return True
        return bool(self._waiting) or count == 0

    def settle(self) -> None:
        """Delivers until nothing is left to say, beyond the grace of removals."""
        for _ in range(3):
            self.clock += _GRACE_S + 1
            for _ in range(_ROUNDS):
                assert self._session is not None
                self._waiting.extend(response.payload for response in self._session.responses(self.clock))
                if not self._waiting:
                    break
                self.deliver(len(self._waiting))
            else:
                raise AssertionError("the stream never comes to rest")


@given(worlds.worlds(), DELIVERIES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_proxy_ends_with_what_the_graph_holds(world: World, steps: list[Step]) -> None:
    engine = Engine(worlds.OPTIONS, worlds.EMIT_OPTIONS, grace_s=_GRACE_S)
    state = dict(world)
    engine.apply(state.values())
    line = Line(engine)
    for what, argument in steps:
        if what == "put":
            state[argument.ref] = argument
            engine.apply([argument])
        elif what == "delete" and (ref := victim(state, argument)) is not None:
            del state[ref]
            engine.apply((), [ref])
        elif what == "deliver":
            line.deliver(argument)
        elif what == "wait":
            line.clock += _GRACE_S + 1
        elif what == "reconnect":
            line.reconnect()
    line.settle()
    held = {url: named for url, named in line.proxy.held.items() if named}
    assert held == wanted(emit.everything(engine.graph))
    assert engine.group.settled == engine.group.flight


def wanted(everything: dict[str, dict[str, Resource]]) -> dict[str, dict[str, bytes]]:
    """What a proxy asks for of all that there is: clusters and listeners, and what follows from them."""
    whole = {url: {name: message(each) for name, each in named.items()} for url, named in everything.items()}
    named = set(_referred(whole))
    asked = {
        CDS: whole[CDS],
        LDS: whole[LDS],
        **{url: {name: each for name, each in whole[url].items() if (url, name) in named} for url in (EDS, SDS, RDS)},
        VHDS: {name: each for name, each in whole[VHDS].items() if (RDS, parent(name)) in named},
    }
    return {url: held for url, held in asked.items() if held}


def _referred(whole: dict[str, dict[str, bytes]]) -> Iterator[tuple[str, str]]:
    for url in (CDS, LDS):
        for each in whole[url].values():
            yield from references(url, each)


def message(resource: Resource) -> bytes:
    """The message inside a resource as it goes over the wire."""
    return DeltaDiscoveryResponse.FromString(resource.body).resources[0].resource.value
