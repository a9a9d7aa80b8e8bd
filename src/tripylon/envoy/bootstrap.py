"""The configuration that an Envoy starts with: who it is, where its configuration comes from, what it counts.

Everything else reaches Envoy over delta ADS, so the bootstrap stays the same for the life of a gateway. The invariant:
the same arguments give the same bytes, because a running Envoy is taken over only when its bootstrap is the one that we
would write now. It is JSON: Envoy reads YAML by YAML 1.1, where the node id `n` is `false`. Read `verify.py` next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from tripylon.envoy import scopes, series
from tripylon.envoy.series import Json

Endpoint = str | tuple[str, int]
"""Path of a Unix socket, or an IP address with a TCP port."""

ADS_CLUSTER = "tripylon-ads"
"""Name of the one static cluster: the control plane."""

# Above these parts of the heap limit Envoy first returns free memory, then ends keep-alive, then refuses requests.
_HEAP_ACTIONS = (
    ("envoy.overload_actions.shrink_heap", 0.90),
    ("envoy.overload_actions.disable_http_keepalive", 0.93),
    ("envoy.overload_actions.stop_accepting_requests", 0.97),
)

# What the first configuration leaves free is given back to the system.
_RELEASE: Json = {"bytes_to_release": 32 * 1024 * 1024, "memory_release_interval": "1s"}


class Limits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """When one Envoy refuses work in order to live."""

    max_connections: int = 50_000
    """Downstream connections of all listeners together; further ones are closed at once."""
    max_heap_bytes: int = 0
    """Heap at which requests are refused with 503 (in steps from 90 % on); 0 sets no limit."""


RUNTIME: Mapping[str, int] = MappingProxyType({"re2.max_program_size.error_level": 2**32 - 1})
"""Settings of Envoy's runtime. Envoy would refuse regular expressions of more than a few words (a program of 100
instructions) although its engine takes them; how big they may be is decided where users are told, in the model."""

DEFAULT_LIMITS = Limits()
"""What holds when the caller names no limits."""


def bootstrap(
    node_id: str,
    cluster: str,
    *,
    ads: Endpoint,
    admin: Endpoint,
    limits: Limits = DEFAULT_LIMITS,
    stats: Json = None,
) -> bytes:
    """The bootstrap as JSON, one line, keys sorted.

    `cluster` names the group of proxies that this one belongs to. `ads` is where the control plane listens, `admin`
    where Envoy's administration shall listen (a socket file gets mode 0600). `stats` is one of `series.py`, by default
    the usual one.
    """
    node: Json = {"id": node_id, "cluster": cluster}
    ads_cluster: Json = {**ads_source(ads), "type": "STATIC"}
    whole = assemble(node, admin=admin, clusters=(ads_cluster,), limits=limits, stats=stats)
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def assemble(node: Json, *, admin: Endpoint, clusters: Sequence[Json], limits: Limits, stats: Json) -> dict[str, Json]:
    """What all bootstraps have; one of `clusters` is the control plane."""
    return {
        "node": node,
        "admin": {"address": address(admin, mode=0o600)},
        "dynamic_resources": _dynamic_resources(),
        "static_resources": {"clusters": list(clusters), "listeners": [scopes.anchor()]},
        "overload_manager": _overload_manager(limits),
        # Envoy's own flush walks all series every five seconds on the thread that applies configuration.
        "stats_flush_on_admin": True,
        "stats_config": series.usual() if stats is None else stats,
        "layered_runtime": {"layers": [{"name": "tripylon", "static_layer": dict(RUNTIME)}]},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        # A worker makes its own part of a cluster when it first uses it: 2 kB for each cluster and worker.
        "cluster_manager": {"enable_deferred_cluster_creation": True},
        "memory_allocator_manager": _RELEASE,
    }


def _dynamic_resources() -> Json:
    # Without a time limit on the first answer Envoy reports itself ready only once it has a configuration to serve.
    source: Json = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    # Envoy's default waits up to half a minute before it tries again after the control plane was away.
    back_off: Json = {"base_interval": "0.05s", "max_interval": "0.5s"}
    grpc: Json = {"cluster_name": ADS_CLUSTER, "retry_policy": {"retry_back_off": back_off}}
    return {
        "cds_config": source,
        "lds_config": source,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": grpc}],
        },
    }


def ads_source(ads: Endpoint, *, filters: Sequence[Json] = ()) -> dict[str, Json]:
    """The cluster of the control plane, without how its address is found; `filters` are for requests to it."""
    http2: dict[str, Json] = {}
    if not isinstance(ads, str):
        # A control plane whose machine vanished sends no FIN; without pings Envoy would wait for it for ever.
        http2["connection_keepalive"] = {"interval": "30s", "timeout": "10s"}
    options: dict[str, Json] = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": http2},
    }
    if filters:
        options["http_filters"] = list(filters)
    return {
        "name": ADS_CLUSTER,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(ads)}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _overload_manager(limits: Limits) -> Json:
    monitors: list[Json] = [
        _monitor(
            "envoy.resource_monitors.global_downstream_max_connections",
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            {"max_active_downstream_connections": limits.max_connections},
        )
    ]
    if not limits.max_heap_bytes:
        return {"resource_monitors": monitors}
    heap = "envoy.resource_monitors.fixed_heap"
    monitors.append(
        _monitor(
            heap,
            "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            {"max_heap_size_bytes": limits.max_heap_bytes},
        )
    )
    actions: list[Json] = [
        {"name": action, "triggers": [{"name": heap, "threshold": {"value": part}}]} for action, part in _HEAP_ACTIONS
    ]
    return {"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions}


def _monitor(name: str, message: str, config: Mapping[str, Json]) -> Json:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{message}", **config}}


def address(endpoint: Endpoint, *, mode: int | None = None) -> Json:
    """An address as Envoy writes it; `mode` is that of a socket file."""
    if not isinstance(endpoint, str):
        host, port = endpoint
        return {"socket_address": {"address": host, "port_value": port}}
    pipe: dict[str, Json] = {"path": endpoint}
    if mode is not None:
        pipe["mode"] = mode
    return {"pipe": pipe}
