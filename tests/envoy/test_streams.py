"""Names of streams, there and back, and what Envoy refuses of them, told on the objects that it comes from."""

from __future__ import annotations

import pytest
from tests.cases.harness import HERE, load, run

from tripylon.envoy import names
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.refusals import REFUSALS
from tripylon.graph import Graph
from tripylon.loop import new_graph
from tripylon.model.stream_plans import StreamKey
from tripylon.values import Name, Ref
from tripylon.world import world
from tripylon.xds.snapshot import CDS, EDS, LDS

EDGE = Name("team", "edge")
GATEWAY, DNS = Ref("gateway.networking.k8s.io", "Gateway", "default", "edge"), "UDPRoute default/dns"


def graph_of(case: str) -> Graph:
    """What becomes of the objects of a case, with what proxies refuse as one more input."""
    outcome = run(load(HERE / "streams" / case))
    graph = new_graph(outcome.options, EmitOptions())
    for resource in outcome.resources:
        world.put(graph, resource)
    graph.flush()
    return graph


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "fe80::1%eth0"])
def test_a_listener_is_known_by_its_name(address: str, udp: bool) -> None:
    name = names.listener(EDGE, 53, address, udp)
    assert names.parse_listener(name) == (EDGE, 53, address, udp)


@pytest.mark.parametrize("listener", ["dns", "other/set/dns"])
def test_a_udp_listener_is_known_by_its_cluster(listener: str) -> None:
    key = StreamKey(EDGE, 53, "UDP", listener, "")
    assert names.parse_sessions(names.stream(key)) == key
    assert names.parse_cluster(names.stream(key)) is None


@pytest.mark.parametrize("name", ["service/default/a/53/udp", "udp/team/edge/x/dns", "udp/team/edge/53", "odd"])
def test_other_clusters_are_none_of_sessions(name: str) -> None:
    assert names.parse_sessions(name) is None


@pytest.mark.parametrize(
    ("url", "name", "about"),
    [
        (CDS, "udp/default/edge/53/udp", DNS),
        (EDS, "udp/default/edge/53/udp", DNS),
        (CDS, "service/default/a/9000/udp", DNS),
        (LDS, "default/edge/53/0.0.0.0/udp", "Gateway default/edge udp"),
    ],
)
def test_a_refusal_is_told_on_who_caused_it(url: str, name: str, about: str) -> None:
    graph = graph_of("udp.yaml")
    before = set(graph.all_findings())
    graph.put(REFUSALS, (url, name), "no, thank you")
    graph.flush()
    (finding,) = set(graph.all_findings()) - before
    assert f"{finding.object} {finding.listener}".strip() == about
    assert "no, thank you" in finding.message


def test_a_refused_listener_for_tcp_is_told_on_all_that_share_its_port_and_not_on_udp() -> None:
    graph = graph_of("udp-and-tcp-on-one-port.yaml")
    graph.put(REFUSALS, (LDS, "default/edge/53/0.0.0.0"), "cannot bind '0.0.0.0:53': Address already in use")
    graph.flush()
    assert [(each.listener, each.reason) for each in graph.findings(GATEWAY)] == [("dns-tcp", "PortUnavailable")]
