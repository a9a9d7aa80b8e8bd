"""Envoy's own verdict: what it takes passes, what it refuses is named, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.message import Message

from tripylon.envoy.static import static_config
from tripylon.envoy.verify import EnvoyFailedError, Refusal, clean_message, verify, verify_resources
from tripylon.pb import pack, type_url
from tripylon.pb.messages import (
    AggregatedConfigSource,
    Bootstrap,
    Cluster,
    ClusterLoadAssignment,
    CommonTlsContext,
    ConfigSource,
    DownstreamTlsContext,
    ExtensionConfigSource,
    FilterChain,
    HttpConnectionManager,
    HttpFilter,
    LbEndpoint,
    Listener,
    LocalityLbEndpoints,
    Rds,
    RegexMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Router,
    SdsSecretConfig,
    Secret,
    TypedExtensionConfig,
    Vhds,
    VirtualHost,
)
from tripylon.xds.snapshot import Resource, make_resource

ADS = ConfigSource(ads=AggregatedConfigSource())
VIRTUAL_HOST = "envoy.config.route.v3.VirtualHost"


def resource(name: str, message: Message) -> Resource:
    return make_resource(type_url(message), name, message.SerializeToString(deterministic=True))


def listener(name: str = "edge", port: int = 8080, *, secret: str = "", extension: str = "") -> Resource:
    manager = HttpConnectionManager(stat_prefix=name, rds=Rds(route_config_name=name, config_source=ADS))
    if extension:
        source = ExtensionConfigSource(config_source=ADS, type_urls=["envoy.extensions.filters.http.cors.v3.Cors"])
        manager.http_filters.append(HttpFilter(name=extension, config_discovery=source))
    manager.http_filters.append(HttpFilter(name="router", typed_config=pack(Router())))
    chain = FilterChain()
    chain.filters.add(name="http", typed_config=pack(manager))
    if secret:
        named = SdsSecretConfig(name=secret, sds_config=ADS)
        context = DownstreamTlsContext(common_tls_context=CommonTlsContext(tls_certificate_sds_secret_configs=[named]))
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.CopyFrom(pack(context))
    made = Listener(name=name, filter_chains=[chain])
    made.address.socket_address.address = "127.0.0.1"
    made.address.socket_address.port_value = port
    return resource(name, made)


def cluster(name: str, address: str = "127.0.0.1") -> tuple[Resource, Resource]:
    made = Cluster(name=name, type=Cluster.EDS)
    made.eds_cluster_config.eds_config.CopyFrom(ADS)
    endpoint = LbEndpoint()
    endpoint.endpoint.address.socket_address.address = address
    endpoint.endpoint.address.socket_address.port_value = 80
    endpoints = ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])
    return resource(name, made), resource(name, endpoints)


def routes(name: str = "edge") -> Resource:
    return resource(name, RouteConfiguration(name=name, vhds=Vhds(config_source=ADS)))


def virtual_host(domain: str, *, regex: str = "/.*", owner: str = "edge", to: str = "shop") -> Resource:
    match = RouteMatch(safe_regex=RegexMatcher(regex=regex))
    made = VirtualHost(name=domain, domains=[domain], routes=[Route(match=match, route=RouteAction(cluster=to))])
    return resource(f"{owner}/{domain}", made)


def test_a_whole_gateway_passes() -> None:
    everything = [listener(), routes(), virtual_host("a.example"), virtual_host("b.example"), *cluster("shop")]
    assert verify_resources(everything) == ()


def test_everything_is_put_where_it_belongs() -> None:
    config = Bootstrap.FromString(static_config([listener(), routes(), virtual_host("a.example"), *cluster("shop")]))
    (made,) = config.static_resources.listeners
    manager = HttpConnectionManager.FromString(made.filter_chains[0].filters[0].typed_config.value)
    assert [host.domains[0] for host in manager.route_config.virtual_hosts] == ["a.example"]
    (shop,) = config.static_resources.clusters
    assert shop.type == Cluster.STATIC
    assert shop.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address == "127.0.0.1"


def test_input_order_does_not_matter() -> None:
    everything = [listener(), routes(), virtual_host("a.example"), virtual_host("b.example"), *cluster("shop")]
    assert static_config(everything) == static_config(reversed(everything))


def test_a_route_may_name_a_cluster_that_is_not_there() -> None:
    assert verify_resources([listener(), routes(), virtual_host("a.example", to="nowhere")]) == ()


def test_a_virtual_host_belongs_to_the_longest_route_configuration_name() -> None:
    everything = [listener(), routes(), routes("edge/a"), virtual_host("x.example", regex="[", owner="edge/a")]
    assert verify_resources(everything) == (), "the route configuration edge/a belongs to no listener"


def test_each_culprit_is_named_and_nothing_else() -> None:
    good = [virtual_host(f"good{number}.example") for number in range(10)]
    bad = [virtual_host("bad.example", regex="["), virtual_host("worse.example", regex="(")]
    everything = [listener(), routes(), *bad, *good, *cluster("shop"), *cluster("numbers", "not-an-ip")]
    refusals = verify_resources(everything)
    assert [(refusal.type, refusal.name) for refusal in refusals] == [
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", "numbers"),
        (VIRTUAL_HOST, "edge/bad.example"),
        (VIRTUAL_HOST, "edge/worse.example"),
    ]
    assert "not-an-ip" in refusals[0].message
    assert refusals[1:] == (
        Refusal(VIRTUAL_HOST, "edge/bad.example", "missing ]: ["),
        Refusal(VIRTUAL_HOST, "edge/worse.example", "missing ): ("),
    )


def test_two_listeners_at_one_address() -> None:
    (refusal,) = verify_resources([listener("one", 8080), listener("two", 8080)])
    assert refusal.name == "two"
    assert "127.0.0.1:8080" in refusal.message


def test_a_secret_is_found_and_its_absence_is_told() -> None:
    (refusal,) = verify_resources([listener(secret="shop/tls")])
    assert "shop/tls" in refusal.message
    broken = Secret(name="shop/tls")
    broken.tls_certificate.certificate_chain.inline_string = "no certificate"
    broken.tls_certificate.private_key.inline_string = "no key"
    (refusal,) = verify_resources([listener(secret="shop/tls"), resource("shop/tls", broken)])
    assert "certificate" in refusal.message.lower()


def test_a_discovered_filter_is_inlined() -> None:
    config = pack(Router())
    config.type_url = "type.googleapis.com/no.such.Filter"
    extension = TypedExtensionConfig(name="cors", typed_config=config)
    (refusal,) = verify_resources([listener(extension="cors"), resource("cors", extension)])
    assert refusal.name == "edge"
    assert "no.such.Filter" in refusal.message


def test_constraints_are_told_in_one_line() -> None:
    empty = resource("edge/x", VirtualHost(name="x"))
    (refusal,) = verify_resources([listener(), routes(), empty])
    assert refusal.message == "VirtualHostValidationError.Domains: value must contain at least 1 item(s)"


def test_json_with_an_unknown_field() -> None:
    (message,) = verify(b'{"static_resourcez": {}}')
    assert "static_resourcez" in message
    assert "\n" not in message


def test_a_dump_is_left_out() -> None:
    assert clean_message('goo.gle/debugstr   \nname: "x"\n: no such thing') == "no such thing"
    assert clean_message("missing ]: [") == "missing ]: ["


def test_no_verdict_is_no_pass(tmp_path: Path) -> None:
    sleeper = tmp_path / "envoy"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    with pytest.raises(EnvoyFailedError, match="no verdict"):
        verify(b"{}", timeout_s=0.1, binary=sleeper)
    with pytest.raises(EnvoyFailedError, match="could not be asked"):
        verify(b"{}", binary=tmp_path / "missing")
    sleeper.write_text("#!/bin/sh\nkill -SEGV $$\n")
    with pytest.raises(EnvoyFailedError, match="signal 11"):
        verify(b"{}", binary=sleeper)
