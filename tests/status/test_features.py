"""What a GatewayClass claims: only features that the Gateway API knows, none of meshes, sorted."""

from __future__ import annotations

import re

import pytest
from tests.api import upstream

from tripylon.status.features import CLAIMS, CLUSTER_CLAIMS, supported_features

_FEATURE = re.compile(r'Support\w+(?:\s+FeatureName)? = "([A-Za-z0-9]+)"')


@pytest.fixture(scope="module")
def known() -> frozenset[str]:
    files = (upstream.module(upstream.GATEWAY_API) / "pkg/features").glob("*.go")
    return frozenset(name for file in files for name in _FEATURE.findall(file.read_text()))


def test_every_claim_is_a_feature_of_the_gateway_api(known: frozenset[str]) -> None:
    assert len(known) > 50
    assert {name for name, _ in (*CLAIMS, *CLUSTER_CLAIMS)} <= known


@pytest.mark.parametrize("standalone", [True, False])
def test_claims_are_sorted_unique_and_none_is_of_a_mesh(standalone: bool) -> None:
    names = [feature.name for feature in supported_features(standalone=standalone)]
    assert names == sorted(set(names))
    assert not [name for name in names if name.startswith("Mesh")]
    assert all(reason for _, reason in (*CLAIMS, *CLUSTER_CLAIMS))


def test_each_feature_is_claimed_once_in_the_order_of_names() -> None:
    """An API server refuses the whole status of a GatewayClass that lists a name twice, or more than 64."""
    for claims in (CLAIMS, CLUSTER_CLAIMS):
        assert [name for name, _ in claims] == sorted({name for name, _ in claims})
    everything = [name for name, _ in (*CLAIMS, *CLUSTER_CLAIMS)]
    assert len(everything) == len(set(everything)) <= 64


def test_generated_objects_are_claimed_in_kubernetes_only() -> None:
    alone, cluster = ({each.name for each in supported_features(standalone=which)} for which in (True, False))
    assert cluster - alone == {
        "GatewayAddressRoutability",
        "GatewayAddressRoutabilityCluster",
        "GatewayInfrastructure",
    }
    assert alone < cluster


def test_every_feature_of_http_and_grpc_routes_is_claimed(known: frozenset[str]) -> None:
    ours = {name for name, _ in CLAIMS}
    assert {name for name in known if name.startswith(("HTTPRoute", "GRPCRoute"))} <= ours
