"""Clusters that Envoy looks up by DNS, as far as no name server can show it in a test."""

from __future__ import annotations

from tripylon.envoy.clusters import cluster
from tripylon.envoy.options import EmitOptions
from tripylon.model.cluster_plans import ClusterPlan, Endpoint, EndpointsPlan
from tripylon.model.plan import ClusterKey


def test_a_silent_name_server_keeps_nothing_else_from_starting() -> None:
    key = ClusterKey("Backend", "infra", "far", 0, "http1")
    endpoints = EndpointsPlan(key, (Endpoint("far.example.com", 80),))
    built = cluster(ClusterPlan(key, "dns"), endpoints, EmitOptions(access_log="", system_ca=""))
    assert built.HasField("wait_for_warm_on_init")
    assert not built.wait_for_warm_on_init.value
