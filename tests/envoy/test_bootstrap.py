"""The bootstrap: deterministic, taken by the real Envoy, with what the wire needs in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tripylon.envoy.bootstrap import ADS_CLUSTER, Endpoint, Limits, bootstrap
from tripylon.envoy.series import usual
from tripylon.envoy.verify import verify

SOCKET = "/run/tripylon/ads.sock"
ADMIN = "/run/tripylon/admin.sock"


@pytest.mark.parametrize("ads", [SOCKET, ("192.0.2.1", 9977), ("2001:db8::1", 9977)])
@pytest.mark.parametrize("admin", [ADMIN, ("127.0.0.1", 19000)])
@pytest.mark.parametrize("limits", [Limits(), Limits(max_connections=10, max_heap_bytes=1 << 30)])
def test_envoy_takes_it(ads: Endpoint, admin: Endpoint, limits: Limits) -> None:
    assert verify(bootstrap("no", "yes", ads=ads, admin=admin, limits=limits)) == ()


def test_same_arguments_give_same_bytes() -> None:
    def make(more: tuple[str, ...]) -> bytes:
        return bootstrap("node", "group", ads=SOCKET, admin=ADMIN, stats=usual(*more))

    assert make((".b", ".a")) == make((".a", ".b"))
    assert make(()) != make((".a",))


def test_what_the_wire_needs() -> None:
    made: dict[str, Any] = json.loads(bootstrap("node", "group", ads=SOCKET, admin=ADMIN))
    ads = made["dynamic_resources"]["ads_config"]
    grpc = ads["grpc_services"][0]["envoy_grpc"]
    assert ads["api_type"] == "DELTA_GRPC"
    assert ads["set_node_on_first_message_only"]
    assert grpc["cluster_name"] == ADS_CLUSTER
    assert grpc["retry_policy"]["retry_back_off"] == {"base_interval": "0.05s", "max_interval": "0.5s"}
    assert made["admin"] == {"address": {"pipe": {"path": ADMIN, "mode": 0o600}}}
    assert made["stats_flush_on_admin"]
    assert made["deferred_stat_options"]["enable_deferred_creation_stats"]
    assert made["cluster_manager"]["enable_deferred_cluster_creation"]
    assert made["memory_allocator_manager"]["memory_release_interval"] == "1s"
    layers = [layer["static_layer"] for layer in made["layered_runtime"]["layers"]]
    assert layers == [{"re2.max_program_size.error_level": 2**32 - 1}]
    assert made["node"] == {"id": "node", "cluster": "group"}
