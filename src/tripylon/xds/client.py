"""A simulated proxy: subscribes, applies, acknowledges and refuses as Envoy does, without I/O, for tests and fleets.

`Proxy` holds what an Envoy would hold; `follow` runs one over a gRPC channel. It keeps to what Envoy was seen to do:
named resources that it did not ask for are dropped, a refused response is dropped whole (of clusters and listeners
only the bad ones are), and the acknowledgement of clusters is withheld while one of them waits for its endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from grpclib.client import Channel
from grpclib.const import Cardinality

from tripylon.xds.snapshot import BY_URL, CDS, ECDS, EDS, LDS, RDS, SDS, SRDS, VHDS, parent

if TYPE_CHECKING:
    from tripylon.pb.messages import DeltaDiscoveryRequest, DeltaDiscoveryResponse

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

References = Callable[[str, bytes], Iterable[tuple[str, str]]]
"""Type URL and message to the type URLs and names that it refers to."""

Verdict = Callable[[str, str, bytes], str]
"""Type URL, name and message to the reason for refusing it; empty: none."""


class Proxy:
    """One simulated Envoy; `connect` and then `receive` return the requests to send, in order."""

    def __init__(self, node: str, references: References, *, verdict: Verdict = lambda *_: "") -> None:
        self.node = node
        self.held: dict[str, dict[str, bytes]] = {url: {} for url in BY_URL}
        """What it has, by type URL and name."""
        self._versions: dict[str, dict[str, str]] = {url: {} for url in BY_URL}
        self._references = references
        self._refers: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {CDS: {}, LDS: {}}
        self._verdict = verdict
        self._asked: dict[str, set[str]] = {}
        self._withheld: list[tuple[str, str]] = []
        self._said_who = False

    def connect(self) -> list[DeltaDiscoveryRequest]:
        """A new stream, after a start or with all that is held from the last one."""
        self._asked = {}
        self._withheld = []
        self._said_who = False
        return [self._open(CDS, ()), self._open(SRDS, ()), self._open(LDS, ()), *self._ask()]

    def receive(self, payload: bytes) -> list[DeltaDiscoveryRequest]:
        """Applies one response."""
        from tripylon.pb.messages import DeltaDiscoveryResponse

        response = DeltaDiscoveryResponse.FromString(payload)
        url = response.type_url
        if url not in self._asked:
            return []
        complaint = self._apply(response)
        asking = self._ask() if url in (CDS, LDS, RDS) else []
        answers = []
        if url == CDS:
            self._withheld.append((response.nonce, complaint))
        else:
            answers.append(self._acknowledgement(url, response.nonce, complaint))
        if self._withheld and not self.warming():
            answers += [self._acknowledgement(CDS, nonce, why) for nonce, why in self._withheld]
            self._withheld = []
        return [*asking, *answers]

    def warming(self) -> tuple[str, ...]:
        """Clusters that still wait for their endpoints."""
        waiting = (name for name, refers in self._refers[CDS].items() if not self._has(EDS, refers))
        return tuple(waiting)

    def _has(self, url: str, references: Iterable[tuple[str, str]]) -> bool:
        return all(name in self.held[url] for to, name in references if to == url)

    def _apply(self, response: DeltaDiscoveryResponse) -> str:
        url = response.type_url
        bad = {r.name: why for r in response.resources if (why := self._verdict(url, r.name, r.resource.value))}
        complaint = "; ".join(f"{name}: {why}" for name, why in bad.items())
        if bad and not BY_URL[url].partial:
            return complaint
        for resource in response.resources:
            if resource.name not in bad and self._wants(url, resource.name):
                self.held[url][resource.name] = resource.resource.value
                self._versions[url][resource.name] = resource.version
                if url in self._refers:
                    self._refers[url][resource.name] = tuple(self._references(url, resource.resource.value))
        for name in response.removed_resources:
            self.held[url].pop(name, None)
            self._versions[url].pop(name, None)
            self._refers.get(url, {}).pop(name, None)
        return complaint

    def _wants(self, url: str, name: str) -> bool:
        if url == VHDS:
            return parent(name) in self.held[RDS]
        return BY_URL[url].style == "wildcard" or name in self._asked[url]

    def _ask(self) -> list[DeltaDiscoveryRequest]:
        """Subscribes to what is newly referred to, and drops what no longer is."""
        wanted: dict[str, set[str]] = {url: set() for url in (EDS, SDS, ECDS, RDS)}
        for refers in (*self._refers[CDS].values(), *self._refers[LDS].values()):
            for to, name in refers:
                if to in wanted:
                    wanted[to].add(name)
        requests = [request for url, names in wanted.items() if (request := self._adjust(url, names)) is not None]
        for name in [name for name in self.held[VHDS] if parent(name) not in self.held[RDS]]:
            del self.held[VHDS][name], self._versions[VHDS][name]
        if self.held[RDS] and VHDS not in self._asked:
            requests.append(self._open(VHDS, ()))
        return requests

    def _adjust(self, url: str, names: set[str]) -> DeltaDiscoveryRequest | None:
        if url not in self._asked:
            return self._open(url, sorted(names)) if names else None
        more, less = sorted(names - self._asked[url]), sorted(self._asked[url] - names)
        if not more and not less:
            return None
        self._asked[url] = names
        for name in less:
            self.held[url].pop(name, None)
            self._versions[url].pop(name, None)
        return self._request(url, subscribe=more, unsubscribe=less)

    def _open(self, url: str, names: Iterable[str]) -> DeltaDiscoveryRequest:
        self._asked[url] = set(names)
        return self._request(url, subscribe=names, known=self._versions[url])

    def _acknowledgement(self, url: str, nonce: str, complaint: str) -> DeltaDiscoveryRequest:
        request = self._request(url)
        request.response_nonce = nonce
        if complaint:
            request.error_detail.code = 13
            request.error_detail.message = complaint
        return request

    def _request(
        self,
        url: str,
        *,
        subscribe: Iterable[str] = (),
        unsubscribe: Iterable[str] = (),
        known: dict[str, str] | None = None,
    ) -> DeltaDiscoveryRequest:
        from tripylon.pb.messages import DeltaDiscoveryRequest

        request = DeltaDiscoveryRequest(
            type_url=url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=known or {},
        )
        if not self._said_who:
            request.node.id = self.node
            self._said_who = True
        return request


async def follow(proxy: Proxy, channel: Channel) -> None:
    """Runs `proxy` on one stream until the server ends it; `channel` uses `RawCodec`."""
    async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
        for request in proxy.connect():
            await stream.send_message(request.SerializeToString())
        async for payload in stream:
            for request in proxy.receive(payload):
                await stream.send_message(request.SerializeToString())
        await stream.end()


def envoy_references(url: str, message: bytes) -> list[tuple[str, str]]:
    """What real clusters and listeners refer to: endpoints of EDS clusters, routes and filters of HTTP chains."""
    from tripylon.pb.messages import Cluster, HttpConnectionManager, Listener

    if url == CDS:
        cluster = Cluster.FromString(message)
        return (
            [(EDS, cluster.eds_cluster_config.service_name or cluster.name)]
            if cluster.HasField("eds_cluster_config")
            else []
        )
    if url != LDS:
        return []
    found = []
    for chain in Listener.FromString(message).filter_chains:
        for used in chain.filters:
            manager = HttpConnectionManager()
            if not used.typed_config.Unpack(manager):
                continue
            if manager.rds.route_config_name:
                found.append((RDS, manager.rds.route_config_name))
            found.extend((ECDS, each.name) for each in manager.http_filters if each.HasField("config_discovery"))
    return found
