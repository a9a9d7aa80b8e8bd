"""What Envoy refuses of a listener's filters is told on the listener, be there a route or not."""

from __future__ import annotations

import pytest
from tests.cases.harness import HERE, load, run

from tripylon.envoy.options import EmitOptions
from tripylon.envoy.refusals import REFUSALS
from tripylon.loop import new_graph
from tripylon.values import Ref
from tripylon.world import world
from tripylon.xds.snapshot import CDS, EDS, VHDS

GATEWAY = Ref("gateway.networking.k8s.io", "Gateway", "default", "edge")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (CDS, "service/default/v2/8080"),
        (EDS, "service/default/v2/8080"),
        (VHDS, "default/edge/80/*"),
    ],
)
def test_a_refusal_is_told_on_the_listener_that_asks(url: str, name: str) -> None:
    outcome = run(load(HERE / "auth" / "listener.yaml"))
    graph = new_graph(outcome.options, EmitOptions())
    for resource in outcome.resources:
        world.put(graph, resource)
    graph.flush()
    before = set(graph.all_findings())
    graph.put(REFUSALS, (url, name), "no, thank you")
    graph.flush()
    told = [each for each in set(graph.all_findings()) - before if each.object == GATEWAY]
    assert [(each.listener, each.condition) for each in told] == [("asking", "Programmed")]
    assert "no, thank you" in told[0].message
    graph.delete(REFUSALS, (url, name))
    graph.flush()
    assert set(graph.all_findings()) == before
