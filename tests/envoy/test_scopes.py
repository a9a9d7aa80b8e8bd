"""Scopes: which filters the requests of an exact hostname pass."""

from __future__ import annotations

import pytest
from tests.envoy.test_lanes import ASKING, gateway, objects, route

from tripylon.api.meta import Resource
from tripylon.envoy.listeners import filters
from tripylon.envoy.options import EmitOptions
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.pb.messages import (
    DeltaDiscoveryResponse,
    HttpConnectionManager,
    HttpFilterChainConfig,
    Listener,
    ScopedRouteConfiguration,
)
from tripylon.xds.snapshot import LDS, SRDS
from tripylon.xds.snapshot import Resource as XdsResource

CORS = {"type": "CORS", "cors": {"allowOrigins": ["https://example.org"]}}


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = Engine(Options(), EmitOptions(route_layout="scoped"))
    made.apply([*objects(), gateway(), route("plain", "web"), route("asking", "web", filters=[ASKING]), cors()])
    return made


def cors() -> Resource:
    return route("cors", "web", filters=[CORS])


def body(resource: XdsResource) -> bytes:
    (inner,) = DeltaDiscoveryResponse.FromString(resource.body).resources
    return inner.resource.value


@pytest.mark.parametrize(("host", "without"), [("plain", True), ("asking", False), ("cors", False)])
@pytest.mark.parametrize("table", ["a/edge/8080", "a/edge/8443/https"])
def test_only_a_host_that_needs_no_filter_leaves_them_out(engine: Engine, table: str, host: str, without: bool) -> None:
    resource = engine.group.resources(SRDS)[f"{table}|{host}.example.com"]
    scope = ScopedRouteConfiguration.FromString(body(resource))
    assert ("tripylon.filters" in scope.route_configuration.typed_per_filter_config) is without


def test_a_fallback_scope_leaves_none_out(engine: Engine) -> None:
    scope = ScopedRouteConfiguration.FromString(body(engine.group.resources(SRDS)["a/edge/8080|*"]))
    assert not scope.route_configuration.typed_per_filter_config


def test_a_scoped_connection_manager_has_every_filter_on(engine: Engine) -> None:
    (resource, *_) = engine.group.resources(LDS).values()
    manager, chain = HttpConnectionManager(), HttpFilterChainConfig()
    for network in Listener.FromString(body(resource)).filter_chains[0].filters:
        network.typed_config.Unpack(manager)
    assert [each.name for each in manager.http_filters] == ["tripylon.filters", "envoy.filters.http.router"]
    assert not any(each.disabled for each in manager.http_filters)
    assert manager.http_filters[0].typed_config.Unpack(chain)
    names = [each.name for each in chain.default_filter_chain.filters]
    assert names == ["tripylon.scopes", *(each.name for each in filters())]
