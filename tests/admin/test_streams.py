"""Streams in the picture: which listener passes what on to whom."""

from __future__ import annotations

from tests.cases.harness import HERE, load, run

from tripylon.admin.picture import HostView, RouteView, gateways


def test_each_listener_shows_who_is_served_and_where_it_goes() -> None:
    graph = run(load(HERE / "streams" / "udp-bad-share.yaml")).graph
    (view,) = gateways(graph)
    hosts = {listener.name: listener.hosts for listener in view.listeners}
    shares = ("Service default/a:9000 50%", "dropped 25%", "Service default/idle:9000 25%")
    assert hosts == {
        "tcp": (),
        "udp": (HostView("*", (RouteView("", shares, "UDPRoute default/dns"),)),),
        "pass": (),
        "end": (),
    }


def test_a_listener_for_tls_has_a_host_for_each_server_name() -> None:
    graph = run(load(HERE / "streams" / "tls-same-hostname.yaml")).graph
    (view,) = gateways(graph)
    (listener,) = (each for each in view.listeners if each.name == "pass")
    assert [(host.hostname, host.routes[0].route, host.routes[0].to) for host in listener.hosts] == [
        ("one.pass.example.com", "TLSRoute default/a", ("Service default/a:9000",)),
        ("two.pass.example.com", "TLSRoute default/c", ("Service default/b:9000",)),
    ]
    assert listener.serving
