"""A fault of ours at one row is told on the object that the row was built for, and never passes for success."""

from __future__ import annotations

import pytest

from tripylon.envoy.emit import HOST_RESOURCES
from tripylon.envoy.listeners import ListenerKey
from tripylon.loop import _bug
from tripylon.model.plan import ClusterKey, HostKey, RouteTable
from tripylon.model.stream_plans import StreamKey
from tripylon.values import Name, Ref

EDGE = Name("team", "edge")
GATEWAY = Ref("gateway.networking.k8s.io", "Gateway", *EDGE)


@pytest.mark.parametrize(
    ("key", "about"),
    [
        (GATEWAY, GATEWAY),
        (HostKey(RouteTable(EDGE, 80, secure=False), "a.example"), GATEWAY),
        (RouteTable(EDGE, 443, secure=True), GATEWAY),
        (ListenerKey(EDGE, 80, "::"), GATEWAY),
        (StreamKey(EDGE, 5432, "TCP", "tcp", ""), GATEWAY),
        (ClusterKey("Service", "team", "web", 80, "http1"), Ref("", "Service", "team", "web")),
        (ClusterKey("Backend", "team", "web", 0, "http1"), Ref("gateway.tripylon.dev", "Backend", "team", "web")),
    ],
)
def test_a_fault_is_an_error_on_an_object(key: object, about: Ref) -> None:
    (finding,) = _bug(HOST_RESOURCES, key, ValueError("too big"))
    assert (finding.object, finding.severity) == (about, "error")
    assert "ValueError: too big" in finding.message
