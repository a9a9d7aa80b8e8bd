"""A small control plane for the tests of Envoy's life: one listener, one backend, everything else as in `run`.

Run as `python -m tests.live.plane STATE PORT BACKEND_PORT ANSWER LIMIT_S`; it prints one line of JSON (`Up`) once its
configuration is live, and drains Envoy when its standard input closes. Killed, it leaves Envoy running.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import structlog
from google.protobuf.message import Message

from tripylon.envoy.bootstrap import bootstrap
from tripylon.files.envoy import EnvoyProcess
from tripylon.files.launch import Launch
from tripylon.files.ports import check_ports
from tripylon.files.state import StateDir, open_state
from tripylon.pb import pack, type_url
from tripylon.pb.descriptors import envoy_binary
from tripylon.pb.messages import (
    AggregatedConfigSource,
    ApiVersion,
    Cluster,
    ClusterLoadAssignment,
    ConfigSource,
    DirectResponseAction,
    Duration,
    HttpConnectionManager,
    HttpFilter,
    LbEndpoint,
    Listener,
    LocalityLbEndpoints,
    Rds,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Router,
    SocketAddress,
    VirtualHost,
)
from tripylon.xds.cache import Group
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import Resource, make_resource

ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


class Up(msgspec.Struct):
    """What the control plane tells once it is live."""

    envoy_pid: int
    adopted: bool
    resources_sent: int


def resources(port: int, backend_port: int, answer: str) -> dict[str, dict[str, Resource]]:
    """`/answer` is answered with `answer` by Envoy itself, everything else by the backend."""
    endpoint = LbEndpoint()
    _set_address(endpoint.endpoint.address.socket_address, backend_port)
    cluster = Cluster(name="backend", type=Cluster.EDS)
    cluster.eds_cluster_config.eds_config.CopyFrom(ADS)
    direct = DirectResponseAction(status=200)
    direct.body.inline_string = answer
    routes = [
        Route(match=RouteMatch(path="/answer"), direct_response=direct),
        Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster="backend", timeout=Duration(seconds=60))),
    ]
    manager = HttpConnectionManager(stat_prefix="edge", rds=Rds(route_config_name="edge", config_source=ADS))
    manager.http_filters.append(HttpFilter(name="router", typed_config=pack(Router())))
    listener = Listener(name="edge")
    _set_address(listener.address.socket_address, port)
    listener.filter_chains.add().filters.add(name="http", typed_config=pack(manager))
    endpoints = ClusterLoadAssignment(cluster_name="backend", endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])
    virtual_host = VirtualHost(name="all", domains=["*"], routes=routes)
    made: list[tuple[str, Message]] = [
        ("backend", cluster),
        ("backend", endpoints),
        ("edge", listener),
        ("edge", RouteConfiguration(name="edge", virtual_hosts=[virtual_host])),
    ]
    return {type_url(message): {name: _resource(name, message)} for name, message in made}


def _set_address(address: SocketAddress, port: int) -> None:
    address.address, address.port_value = "127.0.0.1", port


def _resource(name: str, message: Message) -> Resource:
    return make_resource(type_url(message), name, message.SerializeToString(deterministic=True))


async def serve(state: StateDir, port: int, backend_port: int, answer: str, limit_s: float) -> None:
    """What `run` does with Envoy, in the same order."""
    binary = envoy_binary()
    config = bootstrap("plane", "test", ads=str(state.ads_socket), admin=str(state.admin_socket))
    launch = Launch(binary=binary, bootstrap=config, node_id="plane", concurrency=1)
    # Envoy outlives us: it must not hold the pipe to the test open.
    envoy = EnvoyProcess(launch, state, stdout=subprocess.DEVNULL)
    adopted = await envoy.adopt()
    check_ports([("127.0.0.1", port)], ours={envoy.pid} if envoy.pid else (), envoy_binary=binary)
    group = Group()
    flight = group.publish(resources(port, backend_port, answer))
    server = XdsServer(lambda _node: group)
    await server.start_unix(state.ads_socket)
    if not adopted:
        await envoy.start()
    watching = asyncio.create_task(envoy.watch())
    if not await group.live(flight, timeout_s=20):
        raise TimeoutError("Envoy did not take the configuration")
    up = Up(envoy.pid or 0, adopted, group.counters.resources)
    sys.stdout.write(msgspec.json.encode(up).decode() + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await envoy.drain_and_stop(limit_s)
    await watching
    await server.stop()


def main() -> None:
    folder, port, backend_port, answer, limit_s = sys.argv[1:]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with open_state(Path(folder)) as state:
        asyncio.run(serve(state, int(port), int(backend_port), answer, float(limit_s)))


if __name__ == "__main__":
    main()
