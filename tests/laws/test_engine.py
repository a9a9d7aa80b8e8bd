"""Laws of the whole way from objects to bytes: it depends on the state only, and what is apart stays apart."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws import worlds
from tests.laws.worlds import HISTORIES, OBJECTS, Manifest, Step, World, make, settled, victim

from tripylon.api.gateway import Gateway
from tripylon.api.kinds import decode_json
from tripylon.api.meta import Resource
from tripylon.api.policies import BackendTLSPolicy
from tripylon.api.x_policies import XTelemetryPolicy
from tripylon.envoy import emit, names
from tripylon.graph import Graph
from tripylon.model.hosts import HOSTS
from tripylon.values import Ref
from tripylon.world import world as tables
from tripylon.xds.snapshot import LDS, VHDS

law = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
Bytes = dict[tuple[str, str], bytes]


def resources(graph: Graph) -> Bytes:
    """Every resource's bytes, by type URL and name."""
    return {(url, name): each.body for url, named in emit.everything(graph).items() for name, each in named.items()}


def findings(graph: Graph) -> dict[Ref, tuple[Any, ...]]:
    """All findings, by object, in the order in which they are told."""
    subjects = {finding.object for finding in graph.all_findings()}
    return {subject: graph.findings(subject) for subject in subjects}


def content(graph: Graph) -> dict[str, dict[Any, Any]]:
    """All rows of all tables."""
    return {table.name: dict(graph.rows(table)) for table in graph._nodes}


@given(worlds.worlds(), HISTORIES)
@law
def test_any_history_ends_as_if_its_last_state_had_come_at_once(world: World, history: list[Step]) -> None:
    graph, state = settled(world.values()), dict(world)
    for what, argument in history:
        if what == "put":
            tables.put(graph, argument)
            state[argument.ref] = argument
        elif what == "flush":
            graph.flush()
        elif (ref := victim(state, argument)) is not None:
            tables.delete(graph, ref)
            del state[ref]
    graph.flush()
    fresh = settled(state.values())
    assert content(graph) == content(fresh)
    assert resources(graph) == resources(fresh)
    assert findings(graph) == findings(fresh)


@given(worlds.worlds(), st.randoms(use_true_random=False))
@law
def test_the_order_in_which_objects_come_does_not_matter(world: World, chance: random.Random) -> None:
    straight, shuffled = list(world.values()), list(world.values())
    chance.shuffle(shuffled)
    one, other = settled(straight), settled(shuffled)
    assert resources(one) == resources(other)
    assert findings(one) == findings(other)


STRANGERS = (
    make(
        "HTTPRoute",
        "a",
        "stranger",
        spec={
            "parentRefs": [{"name": "edge"}],
            "hostnames": ["stranger.test"],
            "rules": [{"backendRefs": [{"name": "stranger", "port": 80}]}],
        },
    ),
    make("Service", "a", "stranger", spec={"ports": [{"port": 80}]}),
)
"""A route on a hostname that no other route has, and a Service that nobody else uses."""


@given(worlds.worlds(), st.sampled_from([STRANGERS[:1], STRANGERS[1:], STRANGERS]))
@law
def test_an_unrelated_object_changes_nothing_else(world: World, strangers: tuple[Resource, ...]) -> None:
    graph = settled(world.values())
    before = resources(graph)
    for stranger in strangers:
        tables.put(graph, stranger)
    changes = graph.flush()
    after = resources(graph)
    new = {name for _, name in after.keys() - before.keys()}
    assert {key: after.get(key) for key in before} == before
    assert all("stranger" in name for name in new)
    assert {subject for subject in changes.subjects if subject.name != "stranger"} == set()


# --- Isolation ----------------------------------------------------------------------------------------------

_ROTTEN: dict[str, Manifest] = {
    "HTTPRoute": {"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}]},
    "GRPCRoute": {"rules": [{"matches": [{"method": {"type": "RegularExpression", "service": "("}}]}]},
    "Service": {"ports": []},
    "Backend": {"static": {"hosts": []}},
    "Secret": {"tls.crt": "nonsense", "tls.key": "nonsense"},
    "ConfigMap": {"ca.crt": "nonsense"},
}
_PARTS = {"Secret": "stringData", "ConfigMap": "data"}


def rotten(resource: Resource) -> Resource:
    """The object of the same name with everything that matters in it broken."""
    kind, name = type(resource).__name__, resource.key
    if isinstance(resource, Gateway):
        listeners = [msgspec.structs.replace(each, protocol="example.com/odd") for each in resource.spec.listeners]
        spec = msgspec.structs.replace(resource.spec, listeners=tuple(listeners))
        return msgspec.structs.replace(resource, spec=spec)
    part, broken = _PARTS.get(kind, "spec"), _ROTTEN[kind]
    if kind.endswith("Route"):
        spec = msgspec.to_builtins(resource)["spec"]
        broken = {**spec, **broken}
    rest: Manifest = {part: broken}
    return make(kind, *name, created=resource.metadata.creation_timestamp, **rest)


def refers(resource: Any, name: str) -> bool:
    """Whether an object mentions a name in any way; more than really refer is less to hold, never more."""
    return f'"{name}"' in msgspec.json.encode(resource.spec).decode()


def concerned(world: World, bad: Resource) -> set[Ref]:
    """The routes, and of gateways that share a socket or a class the gateways, that may change with `bad`."""
    kind = type(bad).__name__
    if kind.endswith("Route"):
        return {bad.ref}
    named = {bad.metadata.name}
    if kind in ("Secret", "ConfigMap"):
        named |= {ref.name for ref, each in world.items() if ref.kind == "Backend" and refers(each, bad.metadata.name)}
        policies = [each for each in world.values() if isinstance(each, BackendTLSPolicy)]
        ruling = [each for each in policies if refers(each, bad.metadata.name)]
        named |= {target.name for policy in ruling for target in policy.spec.target_refs}
    return {ref for ref, each in world.items() if ref.kind.endswith("Route") and any(refers(each, x) for x in named)}


def hosts_apart(graph: Graph, routes: set[Ref]) -> set[str]:
    """Names of the virtual hosts that none of these routes has a part in."""
    return {
        names.virtual_host(key)
        for key, plan in graph.rows(HOSTS).items()
        if not any(entry.route in routes for entry in plan.entries)
    }


def behind_tls(name: str) -> bool:
    """Whether a virtual host is one of HTTPS listeners, which go with its certificate."""
    key = names.parse_virtual_host(name)
    return key is not None and key.table.secure


@given(worlds.worlds(), st.integers(0, 30))
@law
def test_what_is_broken_concerns_only_who_refers_to_it(world: World, number: int) -> None:
    breakable = [each for ref, each in world.items() if ref.kind in _ROTTEN]
    if not breakable:
        return
    bad = breakable[number % len(breakable)]
    graph = settled(world.values())
    before, apart = resources(graph), hosts_apart(graph, concerned(world, bad))
    tables.put(graph, rotten(bad))
    graph.flush()
    after = resources(graph)
    for name in apart & hosts_apart(graph, concerned(world, bad)):
        if bad.ref.kind != "Secret" or not behind_tls(name):
            assert after.get((VHDS, name)) == before.get((VHDS, name))
    if bad.ref.kind != "Secret":
        kept = {key for key in before if key[0].endswith(("Listener", "Secret", "RouteConfiguration"))}
        if any(isinstance(each, XTelemetryPolicy) and refers(each, bad.metadata.name) for each in world.values()):
            kept = {key for key in kept if key[0] != LDS}  # a listener whose traces nobody collects makes none
        if bad.ref.kind == "ConfigMap":
            kept = {key for key in kept if names.parse_authorities(key[1]) is None}
        assert {key: after.get(key) for key in kept} == {key: before[key] for key in kept}


@given(worlds.worlds())
@law
def test_a_broken_gateway_leaves_the_others_alone(world: World) -> None:
    alone = make(
        "Gateway",
        "c",
        "alone",
        spec={
            "gatewayClassName": "elsewhere",
            "listeners": [
                {"name": "one", "port": 9999, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
            ],
        },
    )
    graph = settled([*world.values(), alone])
    before = resources(graph)
    tables.put(graph, rotten(alone))
    graph.flush()
    after = resources(graph)
    mine = {key for key in before if key[1].startswith("c/alone/")}
    assert mine
    assert {key: after.get(key) for key in before.keys() - mine} == {key: before[key] for key in before.keys() - mine}
    assert not any(key in after for key in mine)


# --- Objects ------------------------------------------------------------------------------------------------


@given(OBJECTS)
@settings(max_examples=150, deadline=None)
def test_objects_survive_being_written_and_read(resource: Resource) -> None:
    assert decode_json(msgspec.json.encode(resource)) == resource


def test_every_process_makes_the_same_bytes() -> None:
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-m", "tests.laws.digest"],
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
            cwd=root,
            capture_output=True,
            check=True,
            timeout=100,
        ).stdout
        for number in ("1", "2", "3")
    ]
    assert len(runs[0].strip()) == 128
    assert len(set(runs)) == 1
