"""Spliced bytes are what protobuf itself reads and writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripylon.pb import pack, type_url
from tripylon.pb.messages import (
    Cluster,
    ClusterLoadAssignment,
    DeltaDiscoveryResponse,
    Listener,
    RouteConfiguration,
    ScopedRouteConfiguration,
    Secret,
    TypedExtensionConfig,
    VirtualHost,
)
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, SDS, SRDS, TYPES, VHDS, make_resource, make_response, parent


def test_type_urls_are_those_of_the_messages() -> None:
    messages = (
        Cluster,
        ClusterLoadAssignment,
        Secret,
        TypedExtensionConfig,
        ScopedRouteConfiguration,
        Listener,
        RouteConfiguration,
        VirtualHost,
    )
    assert [kind.url for kind in TYPES] == [type_url(message) for message in messages]


@given(st.lists(st.tuples(st.text(max_size=300), st.binary(max_size=40_000)), max_size=4), st.lists(st.text()))
def test_responses_decode_to_what_went_in(named: list[tuple[str, bytes]], removed: list[str]) -> None:
    resources = tuple(make_resource(CDS, name, message) for name, message in named)
    response = DeltaDiscoveryResponse.FromString(make_response(CDS, "7", resources, removed=tuple(removed)))
    assert (response.type_url, response.nonce, list(response.removed_resources)) == (CDS, "7", removed)
    assert [(r.name, r.resource.type_url, r.resource.value) for r in response.resources] == [
        (name, CDS, message) for name, message in named
    ]
    assert [r.version for r in response.resources] == [resource.version for resource in resources]


def test_version_is_the_content_alone() -> None:
    cluster = pack(Cluster(name="a")).value
    assert make_resource(CDS, "a", cluster) == make_resource(CDS, "a", bytes(bytearray(cluster)))
    assert make_resource(CDS, "a", cluster).version != make_resource(CDS, "a", pack(Cluster(name="b")).value).version
    assert len(make_resource(CDS, "a", cluster).version) == 16


@pytest.mark.parametrize(
    ("name", "above"), [("rc/host", "rc"), ("shop/edge/80/*.example.com", "shop/edge/80"), ("rc", "")]
)
def test_parent(name: str, above: str) -> None:
    assert parent(name) == above


def test_order_sends_what_is_referred_to_first() -> None:
    order = [kind.url for kind in TYPES]
    for earlier, later in ((CDS, EDS), (EDS, SDS), (SDS, SRDS), (SRDS, LDS), (LDS, RDS), (RDS, VHDS)):
        assert order.index(earlier) < order.index(later)
