"""A static configuration with the same content as a set of published xDS resources.

What reaches Envoy piece by piece over ADS is put together again: routes into the connection managers that ask for them,
virtual hosts into their route configurations, endpoints into clusters, secrets beside the listeners. So Envoy's own
verdict is to be had without a control plane (`verify.py`). The invariant: nothing is changed but the way by which one
resource finds another; what is not among the resources yet counts as empty, as it does while Envoy waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tripylon.envoy.bootstrap import RUNTIME
from tripylon.pb import TYPE_URL_PREFIX, pool
from tripylon.pb.messages import (
    Any,
    Bootstrap,
    Cluster,
    ClusterLoadAssignment,
    DeltaDiscoveryResponse,
    HttpConnectionManager,
    HttpFilter,
    Listener,
    RouteConfiguration,
    ScopedRouteConfiguration,
    SdsSecretConfig,
    Secret,
    TypedExtensionConfig,
    VirtualHost,
)
from tripylon.xds.snapshot import Resource

Published = dict[str, dict[str, bytes]]
"""Full name of a message type -> name of a resource -> the serialised message."""


def decode(resources: Iterable[Resource]) -> Published:
    """Resources as they are sent, sorted out by type and name; the last of one name wins."""
    published: Published = {}
    for resource in DeltaDiscoveryResponse.FromString(b"".join(each.body for each in resources)).resources:
        kind = resource.resource.type_url.removeprefix(TYPE_URL_PREFIX)
        published.setdefault(kind, {})[resource.name] = resource.resource.value
    return published


def static_config(resources: Iterable[Resource]) -> bytes:
    """A serialised `Bootstrap` that holds all of `resources`.

    As over RDS, a cluster that a route names need not exist. A secret that a listener or cluster names must be there.
    """
    return assemble(decode(resources))


def assemble(published: Published) -> bytes:
    """What `static_config` does, for resources that are decoded already."""
    made = Bootstrap()
    layer = made.layered_runtime.layers.add(name="tripylon").static_layer
    for key, value in RUNTIME.items():
        layer.fields[key].number_value = value
    static = made.static_resources
    inliner = _Inliner(published)
    for body in _bodies(published, Secret):
        static.secrets.append(Secret.FromString(body))
    for body in _bodies(published, Cluster):
        static.clusters.append(inliner.cluster(Cluster.FromString(body)))
    for body in _bodies(published, Listener):
        listener = Listener.FromString(body)
        inliner.walk(listener)
        static.listeners.append(listener)
    return made.SerializeToString(deterministic=True)


def _bodies(published: Published, kind: type[Message]) -> Iterator[bytes]:
    of_kind = published.get(kind.DESCRIPTOR.full_name, {})
    return (of_kind[name] for name in sorted(of_kind))


class _Inliner:
    """Replaces every reference to another resource by that resource, packed messages included."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self._virtual_hosts = _by_route_configuration(published)
        self._hooks: dict[str, Callable[[Message], None]] = {
            HttpConnectionManager.DESCRIPTOR.full_name: self._routes,
            HttpFilter.DESCRIPTOR.full_name: self._filter,
            SdsSecretConfig.DESCRIPTOR.full_name: self._secret,
        }

    def cluster(self, cluster: Cluster) -> Cluster:
        """`cluster` with its endpoints in it."""
        if cluster.type == Cluster.EDS:
            name = cluster.eds_cluster_config.service_name or cluster.name
            endpoints = ClusterLoadAssignment(cluster_name=name)
            endpoints.MergeFromString(self._body(ClusterLoadAssignment, name))
            cluster.ClearField("eds_cluster_config")
            cluster.type = Cluster.STATIC
            cluster.load_assignment.CopyFrom(endpoints)
        self.walk(cluster)
        return cluster

    def walk(self, message: Message) -> None:
        """Inline everything below `message`, in place."""
        if isinstance(message, Any):
            self._packed(message)
            return
        hook = self._hooks.get(message.DESCRIPTOR.full_name)
        if hook:
            hook(message)
        for inner in _inner_messages(message):
            self.walk(inner)

    def _packed(self, packed: Any) -> None:
        try:
            kind = pool().FindMessageTypeByName(packed.type_url.rpartition("/")[2])
        except KeyError:
            return  # Envoy names the unknown type better than we can.
        message = GetMessageClass(kind).FromString(packed.value)
        self.walk(message)
        packed.value = message.SerializeToString(deterministic=True)

    def _routes(self, manager: Message) -> None:
        if not isinstance(manager, HttpConnectionManager):
            return
        if manager.HasField("scoped_routes"):
            scoped = manager.scoped_routes
            scoped.ClearField("scoped_rds")
            scoped.rds_config_source.SetInParent()
            scopes = scoped.scoped_route_configurations_list.scoped_route_configurations
            scopes.extend(map(ScopedRouteConfiguration.FromString, _bodies(self._published, ScopedRouteConfiguration)))
            return
        if not manager.HasField("rds"):
            return
        name = manager.rds.route_config_name
        routes = RouteConfiguration(name=name)
        routes.MergeFromString(self._body(RouteConfiguration, name))
        if routes.HasField("vhds"):
            routes.ClearField("vhds")
            routes.virtual_hosts.extend(VirtualHost.FromString(body) for body in self._virtual_hosts.get(name, ()))
        if not routes.HasField("validate_clusters"):
            routes.validate_clusters.value = False
        manager.route_config.CopyFrom(routes)

    def _filter(self, http_filter: Message) -> None:
        if not isinstance(http_filter, HttpFilter) or not http_filter.HasField("config_discovery"):
            return
        extension = TypedExtensionConfig.FromString(self._body(TypedExtensionConfig, http_filter.name))
        if extension.HasField("typed_config"):
            http_filter.typed_config.CopyFrom(extension.typed_config)

    def _secret(self, secret: Message) -> None:
        if isinstance(secret, SdsSecretConfig):
            secret.ClearField("sds_config")

    def _body(self, kind: type[Message], name: str) -> bytes:
        return self._published.get(kind.DESCRIPTOR.full_name, {}).get(name, b"")


def _by_route_configuration(published: Published) -> dict[str, list[bytes]]:
    """The virtual hosts that VHDS delivers: a resource is named after its route configuration, `/` and a host."""
    found: dict[str, list[bytes]] = {}
    names = published.get(RouteConfiguration.DESCRIPTOR.full_name, {})
    for name, body in sorted(published.get(VirtualHost.DESCRIPTOR.full_name, {}).items()):
        owner = name
        while owner not in names and "/" in owner:
            owner = owner.rpartition("/")[0]
        found.setdefault(owner, []).append(body)
    return found


def _inner_messages(message: Message) -> Iterator[Message]:
    """The messages in the set fields of `message`: single ones, repeated ones and values of maps."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                yield from value.values()
        elif field.is_repeated:
            yield from value
        else:
            yield value
