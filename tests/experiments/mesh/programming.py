"""Routes whose parent is a Service → the configuration of a proxy that has a node's connections redirected to it.

To the model such a Service is a Gateway: its cluster IP is the address, its ports are listeners without a hostname. So
attachment, precedence, rules, clusters and endpoints are those of the product, unchanged. Only the last step is new:
where a Gateway has a socket of its own for each address and port, all of these are filter chains of one listener here,
chosen by where the connection was going before it was redirected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tripylon.api.kinds import decode, find
from tripylon.envoy import emit, names
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.static import static_config
from tripylon.loop import new_graph
from tripylon.model.hosts import HOSTS
from tripylon.model.options import Options
from tripylon.pb import TYPE_URL_PREFIX, pack
from tripylon.pb import messages as pb
from tripylon.values import Name
from tripylon.world import world

Object = Mapping[str, Any]

CAPTURE_PORT = 15001
"""Where redirected connections arrive."""
_ORIGINAL_DESTINATION = "original-destination"
_GATEWAY_API = "gateway.networking.k8s.io"


def bootstrap(objects: Sequence[Object]) -> bytes:
    """What Envoy is started with, serialised. AssertionError when there is something to tell about the objects."""
    graph = new_graph(Options(), EmitOptions())
    for written in with_services_as_gateways(objects):
        kind = find(written["apiVersion"], written["kind"])
        assert kind is not None, written["kind"]
        world.put(graph, decode(kind, dict(written)))
    graph.flush()
    told = [finding.message for finding in graph.all_findings()]
    assert not told, told
    resources = [each for named in emit.everything(graph).values() for each in named.values()]
    made = pb.Bootstrap()
    made.ParseFromString(static_config(resources))
    routed = {(key.table.gateway, key.table.port) for key, host in graph.rows(HOSTS).items() if host.entries}
    captured = one_listener(each for each in made.static_resources.listeners if _place(each) in routed)
    made.static_resources.ClearField("listeners")
    made.static_resources.listeners.append(captured)
    made.static_resources.clusters.append(original_destination())
    return made.SerializeToString(deterministic=True)


def with_services_as_gateways(objects: Sequence[Object]) -> list[Object]:
    """The objects, with a Gateway of the same name for each Service that is a parent of a route of its namespace."""
    changed = [_with_gateway_parents(each) if each["kind"].endswith("Route") else each for each in objects]
    parents = {
        (route["metadata"]["namespace"], parent["name"])
        for route in objects
        if route["kind"].endswith("Route")
        for parent in route["spec"]["parentRefs"]
        if parent.get("kind") == "Service"
    }
    services = [each for each in objects if each["kind"] == "Service"]
    named = [each for each in services if (each["metadata"]["namespace"], each["metadata"]["name"]) in parents]
    return [*changed, *(_gateway(each) for each in named)]


def _with_gateway_parents(route: Object) -> Object:
    """The route attached to the Gateways that stand for Services; `port` chooses listeners there as it does here."""
    parents = [
        {**parent, "group": _GATEWAY_API, "kind": "Gateway"} if parent.get("kind") == "Service" else parent
        for parent in route["spec"]["parentRefs"]
    ]
    return {**route, "spec": {**route["spec"], "parentRefs": parents}}


def _gateway(service: Object) -> Object:
    spec = service["spec"]
    listeners = [{"name": f"p{each['port']}", "port": each["port"], "protocol": "HTTP"} for each in spec["ports"]]
    return {
        "apiVersion": f"{_GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]},
        "spec": {
            "gatewayClassName": "tripylon",
            "addresses": [{"type": "IPAddress", "value": spec["clusterIP"]}],
            "listeners": listeners,
        },
    }


def _place(listener: pb.Listener) -> tuple[Name, int]:
    """The Service and the port that a listener stands for."""
    parts = names.parse_listener(listener.name)
    assert parts is not None
    return parts[0], parts[1]


def one_listener(listeners: Iterable[pb.Listener]) -> pb.Listener:
    """The chains of all listeners in one, each for the address and port that its own was bound to.

    Everything else goes on to where it was going, ports of Services that no route has included. What asks for the port
    of the capture itself, and would come back to it for ever, is closed.
    """
    built = pb.Listener(name="outbound")
    built.address.socket_address.CopyFrom(pb.SocketAddress(address="0.0.0.0", port_value=CAPTURE_PORT))
    restored = built.listener_filters.add(name="envoy.filters.listener.original_dst")
    restored.typed_config.CopyFrom(
        pb.Any(type_url=f"{TYPE_URL_PREFIX}envoy.extensions.filters.listener.original_dst.v3.OriginalDst")
    )
    for listener in listeners:
        socket = listener.address.socket_address
        chain = built.filter_chains.add()
        chain.CopyFrom(listener.filter_chains[0])
        chain.name = listener.name
        chain.filter_chain_match.destination_port.value = socket.port_value
        addresses = chain.filter_chain_match.prefix_ranges.add(address_prefix=socket.address)
        addresses.prefix_len.value = 32
    itself = built.filter_chains.add(name="itself")
    itself.filter_chain_match.destination_port.value = CAPTURE_PORT
    _pass_on(itself, names.NO_CLUSTER)
    built.default_filter_chain.name = "pass-through"
    _pass_on(built.default_filter_chain, _ORIGINAL_DESTINATION)
    return built


def _pass_on(chain: pb.FilterChain, cluster: str) -> None:
    network = chain.filters.add(name="envoy.filters.network.tcp_proxy")
    network.typed_config.CopyFrom(pack(pb.TcpProxy(stat_prefix=chain.name.replace("-", "_"), cluster=cluster)))


def original_destination() -> pb.Cluster:
    """Wherever the connection was going: a Service without routes, a pod's own address, a port that has no route."""
    built = pb.Cluster(name=_ORIGINAL_DESTINATION, type=pb.Cluster.ORIGINAL_DST, lb_policy=pb.Cluster.CLUSTER_PROVIDED)
    built.connect_timeout.seconds = 5
    return built
