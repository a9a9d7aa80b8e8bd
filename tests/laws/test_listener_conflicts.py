"""Two hundred listeners of a Gateway and its ListenerSets: those that clash are the ones that a plain reading names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws.listener_rules import KNOWN, Written, refused
from tests.laws.worlds import HOSTNAMES, OPTIONS, make, one, settled

from tripylon.api.gateway import Gateway, GatewayStatus
from tripylon.api.listener_sets import ListenerSet, ListenerSetStatus
from tripylon.api.meta import Condition, Resource
from tripylon.graph import Graph
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.status.desired import desired
from tripylon.values import Name

MOST = 64
"""Listeners that one object may have."""
SETS = 6
PROTOCOLS = (*KNOWN, *KNOWN, "HTTP", "HTTPS", "TLS", "example.com/own")
FIRST_PORT = 8000


def _written(holder: int, port: int, protocol: str, hostname: str, mode: str) -> tuple[int, int, str, str, str]:
    # What the schema takes: no hostname for TCP and UDP; HTTPS passes nothing through, so that is a fault of its own.
    return holder, FIRST_PORT + port, protocol, "" if protocol in ("TCP", "UDP") else hostname, mode


@st.composite
def crowds(draw: st.DrawFn) -> list[Written]:
    """Listeners in the order of merging: the Gateway's own have holder 0, the others those of its sets."""
    ports = draw(one(3, 30, 150))
    listener = st.builds(
        _written,
        st.integers(0, SETS),
        st.integers(1, ports),
        one(*PROTOCOLS),
        one(*HOSTNAMES),
        one("Terminate", "Terminate", "Terminate", "Passthrough"),
    )
    count = draw(one(6, 40, 200, 200))
    drawn = [(0, FIRST_PORT, "HTTP", "", "Terminate"), *draw(st.lists(listener, min_size=count, max_size=count))]
    found: list[Written] = []
    held: Counter[int] = Counter()
    for holder, port, protocol, hostname, mode in sorted(drawn, key=lambda each: each[0]):
        if held[holder] < MOST:
            held[holder] += 1
            faulty = protocol not in KNOWN or (protocol == "HTTPS" and mode == "Passthrough")
            name = f"{mode[0].lower()}{held[holder]}"
            found.append(Written(holder, name, port, protocol, hostname, faulty))
    return found


def manifests(listeners: list[Written]) -> list[Resource]:
    """The Gateway, and the sets: the older, the earlier; of the same age by name."""
    spec: dict[str, Any] = {"gatewayClassName": "ours", "allowedListeners": {"namespaces": {"from": "All"}}}
    objects = [make("Gateway", "a", "edge", spec=spec | {"listeners": specs(listeners, 0)})]
    for holder in range(1, SETS + 1):
        if mine := specs(listeners, holder):
            parent = {"name": "edge", "namespace": "a"}
            created = f"2026-01-0{(holder + 1) // 2}T00:00:00Z"
            objects.append(
                make("ListenerSet", "b", f"set{holder}", created=created, spec={"parentRef": parent, "listeners": mine})
            )
    return objects


def specs(listeners: list[Written], holder: int) -> list[dict[str, Any]]:
    """The listeners of one object."""
    made: list[dict[str, Any]] = []
    for each in listeners:
        if each.holder == holder:
            spec: dict[str, Any] = {"name": each.name, "port": each.port, "protocol": each.protocol}
            if each.hostname:
                spec["hostname"] = each.hostname
            if each.protocol in ("HTTPS", "TLS"):
                mode = "Passthrough" if each.name.startswith("p") else "Terminate"
                spec["tls"] = {"mode": mode, "certificateRefs": [{"name": "cert"}]}
            made.append(spec)
    return made


@given(crowds(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_listeners_that_clash_are_those_that_the_specification_names(listeners: list[Written], random: Any) -> None:
    objects = manifests(listeners)
    shuffled = list(objects)
    random.shuffle(shuffled)
    graph = settled(shuffled)
    expected = refused(listeners)
    faulty = {(each.holder, each.name) for each in listeners if each.faulty}
    conditions = dict(_conditions(graph, objects))
    assert len(conditions) == len(listeners)
    conflicted = {key: each["Conflicted"].reason for key, each in conditions.items() if "Conflicted" in each}
    assert {key: reason for key, reason in conflicted.items() if reason != "NoConflicts"} == expected
    for key, each in conditions.items():
        good = key not in expected and key not in faulty
        assert (each["Accepted"].status == "True") == good, (key, each["Accepted"])
        if key in expected:
            assert each["Accepted"].reason == expected[key]
            assert each["Programmed"].status == "False"
    plan = graph.get(GATEWAY_PLANS, Name("a", "edge"))
    assert plan is not None
    assert [each.usable for each in plan.listeners] == [
        (each.holder, each.name) not in expected and not each.faulty for each in listeners
    ]


def _conditions(graph: Graph, objects: list[Resource]) -> Iterator[tuple[tuple[int, str], dict[str, Condition]]]:
    """The conditions of every listener as a cluster would show them, by object and name."""
    for resource in objects:
        assert isinstance(resource, Gateway | ListenerSet)
        status = desired(graph, resource, options=OPTIONS, programming=None, now="2030-01-01T00:00:00Z")
        assert isinstance(status, GatewayStatus | ListenerSetStatus)
        holder = int(resource.metadata.name.removeprefix("set")) if isinstance(resource, ListenerSet) else 0
        for listener in status.listeners:
            yield (holder, listener.name), {each.type: each for each in listener.conditions}


def test_the_reading_is_not_blind() -> None:
    """Each rule by hand, so that both cannot agree on nothing at all."""
    say: Callable[..., Written] = Written
    listeners = [
        say(0, "one", 80, "HTTP", "a.com"),
        say(0, "two", 80, "HTTP", "b.com"),
        say(0, "https", 81, "HTTPS", "a.com"),
        say(0, "tls", 81, "TLS", "a.com"),
        say(0, "odd", 82, "example.com/own", faulty=True),
        say(0, "tcp", 83, "TCP"),
        say(0, "udp", 83, "UDP"),
        say(1, "taken", 80, "HTTP", "a.com"),
        say(1, "free", 80, "HTTP", "c.com"),
        say(1, "other", 80, "TLS", "d.com"),
        say(1, "clash", 81, "TLS", "a.com"),
        say(1, "after-odd", 82, "TCP"),
        say(2, "after-lost", 80, "HTTP", "d.com"),
        say(2, "same-tcp", 83, "TCP"),
    ]
    assert refused(listeners) == {
        (0, "https"): "HostnameConflict",
        (0, "tls"): "HostnameConflict",
        (1, "taken"): "HostnameConflict",
        (1, "other"): "ProtocolConflict",
        (1, "clash"): "HostnameConflict",
        (2, "same-tcp"): "HostnameConflict",
    }
