"""Listeners that have names in common are told of each other, found without comparing each with each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.laws.worlds import make, new_graph
from tests.live.certificates import Authority

from tripylon.api.meta import Resource
from tripylon.graph import Graph
from tripylon.model.conflicts import SHOWN
from tripylon.model.overlaps import KEPT
from tripylon.values import hostname_matches, intersect_hostnames, wider_hostnames
from tripylon.world import world as tables

HOSTNAMES = st.sampled_from(
    ("*.com", "*.example.com", "*.a.example.com", "example.com", "www.example.com", "a.example.com", "x.a.example.com")
)
AUTHORITY = Authority()


@cache
def issued(names: tuple[str, ...]) -> tuple[str, str]:
    return AUTHORITY.issue(*names)


def secret(name: str, names: tuple[str, ...]) -> Resource:
    chain, key = issued(names)
    return make("Secret", "a", name, type="kubernetes.io/tls", stringData={"tls.crt": chain, "tls.key": key})


def objects(listeners: dict[str, frozenset[str]], per_set: int) -> Iterator[Resource]:
    """A Gateway whose sets have these HTTPS listeners, by hostname, each with a certificate for some names."""
    spec = {"gatewayClassName": "ours", "allowedListeners": {"namespaces": {"from": "All"}}}
    yield make("Gateway", "a", "edge", spec=spec | {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]})
    entries = [
        {
            "name": f"l{number}",
            "port": 443,
            "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"name": f"c{number}"}]},
            **({"hostname": hostname} if hostname else {}),
        }
        for number, hostname in enumerate(listeners)
    ]
    for first in range(0, len(entries), per_set):
        parent = {"parentRef": {"name": "edge"}, "listeners": entries[first : first + per_set]}
        yield make("ListenerSet", "a", f"set{first:03}", spec=parent)
    for number, names in enumerate(listeners.values()):
        yield secret(f"c{number}", tuple(sorted(names)))


def told(graph: Graph) -> dict[tuple[str, str], str]:
    """What each listener is told, by name and reason."""
    reasons = ("OverlappingHostnames", "OverlappingCertificates")
    found = [each for each in graph.all_findings() if each.reason in reasons]
    assert len({(each.listener, each.reason) for each in found}) == len(found)
    return {(each.listener, each.reason): each.message for each in found}


def named(message: str) -> list[str]:
    return re.findall(r"`a/set\d+/(l\d+)`", message)


@given(
    st.dictionaries(HOSTNAMES | st.just(""), st.frozensets(HOSTNAMES, min_size=1, max_size=3), min_size=2, max_size=8),
    st.sampled_from((1, 2, 64)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_names_in_common_are_those_that_intersect(
    listeners: dict[str, frozenset[str]], per_set: int, random: Any
) -> None:
    made = list(objects(listeners, per_set))
    random.shuffle(made)
    graph = new_graph()
    for each in made:
        tables.put(graph, each)
        graph.flush()
    messages = told(graph)
    hostnames = list(listeners)
    expected: dict[tuple[str, str], list[str]] = {}
    for place, one in enumerate(hostnames):
        for other, hostname in enumerate(hostnames):
            if other == place:
                continue
            if intersect_hostnames(one, hostname) is not None:
                expected.setdefault((f"l{place}", "OverlappingHostnames"), []).append(f"l{other}")
            elif any(intersect_hostnames(a, b) is not None for a in listeners[one] for b in listeners[hostname]):
                expected.setdefault((f"l{place}", "OverlappingCertificates"), []).append(f"l{other}")
    assert {key: named(message) for key, message in messages.items()} == {
        key: others[:SHOWN] for key, others in expected.items()
    }
    for key, others in expected.items():
        rest = len(others) - SHOWN
        assert (f"and {rest} more" in messages[key]) == (rest > 0)


def test_of_very_many_that_share_a_certificate_only_the_first_are_named_and_one_more_changes_no_message() -> None:
    count = 40
    names = frozenset(("*.example.com",))
    graph = new_graph()
    for each in objects({f"h{number:02}.example.com": names for number in range(count)}, 4):
        tables.put(graph, each)
    graph.flush()
    before = told(graph)
    assert len(before) == count
    message = before["l7", "OverlappingCertificates"]
    assert named(message) == ["l0", "l1", "l2", "l3", "l4"]
    assert "`a/set004/l4` and others on port 443" in message
    spec = {
        "parentRef": {"name": "edge"},
        "listeners": [
            {
                "name": "z",
                "port": 443,
                "protocol": "HTTPS",
                "hostname": "z.example.com",
                "tls": {"certificateRefs": [{"name": "c0"}]},
            }
        ],
    }
    tables.put(graph, make("ListenerSet", "a", "zzz", spec=spec))
    changes = graph.flush()
    assert {subject.name for subject in changes.subjects} == {"zzz"}
    assert {key: message for key, message in told(graph).items() if key[0] != "z"} == before


def test_one_whose_hostname_covers_all_that_are_at_hand_still_finds_the_one_that_it_does_not() -> None:
    """More narrower listeners share its certificate's names than are kept, and then there is one beside it."""
    names = frozenset(("*.example.com", "example.org"))
    narrow = [f"h{number:02}.example.com" for number in range(KEPT + 4)]
    graph = new_graph()
    for each in objects(dict.fromkeys(("*.example.com", *narrow, "example.org"), names), 64):
        tables.put(graph, each)
    graph.flush()
    assert named(told(graph)["l0", "OverlappingCertificates"]) == [f"l{len(narrow) + 1}"]


@given(HOSTNAMES, HOSTNAMES | st.just(""))
def test_wider_hostnames_are_those_that_cover(hostname: str, wider: str) -> None:
    assert (wider in wider_hostnames(hostname)) == hostname_matches(wider, hostname)
