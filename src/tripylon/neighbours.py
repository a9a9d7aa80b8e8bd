"""Who the other replicas are, and what each tells the one that leads.

The holder of the Lease writes its name and address there, `name_10.0.0.7:9977`, so that the others find it; they tell
it what their proxies have taken and what these refuse (`xds/peers.py`). The invariant: status depends on all proxies,
whichever replica each of them asked, and what a replica told is forgotten within seconds after it is gone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from tripylon.errors import TripylonError
from tripylon.fleet import refusals
from tripylon.kube.concerned import gateway_ref
from tripylon.kube.identity import Served
from tripylon.loop import Engine
from tripylon.settings import Address, ControllerSettings, parse_address
from tripylon.values import Name, Ref
from tripylon.xds.peer_link import PeerLink, Place, Standings, Trust
from tripylon.xds.peers import Peers, Refused

_log = structlog.get_logger("tripylon.neighbours")

_RELOAD_APART_S = 5.0
"""Least time between two looks at the shared key because somebody seems to have another one."""
_ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - what is bound, not where we are reached


class Certificate(Protocol):
    """What all replicas share: see `kube.identity.Identity`."""

    @property
    def served(self) -> Served:
        """What is in force."""

    async def load(self) -> Served:
        """Looks whether that has changed; TripylonError when it cannot be told."""


class Neighbours:
    """Both sides: `peers` listens, to be served besides xDS; `run` tells whoever leads, when that is another.

    `leader` says what the Lease says now; `mark` has the status of objects judged again. `stir` is to be called
    whenever the configuration changes or a proxy answers.
    """

    def __init__(
        self,
        identity: str,
        leader: Callable[[], str],
        engine: Engine,
        mark: Callable[[Iterable[Ref]], None],
        certificate: Certificate,
        server_name: str,
    ) -> None:
        self._identity, self._leader_identity, self._engine, self._mark = identity, leader, engine, mark
        self._certificate = certificate
        self._reload_at = 0.0
        self._reload = asyncio.Event()
        self.peers = Peers(lambda: certificate.served.key, self._on_news, on_stranger=self._reload.set)
        self._link = PeerLink(
            identity,
            self._leader,
            self._standings,
            lambda: Trust(certificate.served.key, certificate.served.ca_bundle, server_name),
            on_refused=self._load,
        )
        self.stir = self._link.stir
        engine.gateways.listen_to(self.peers)

    async def run(self) -> None:
        """Tell the leader what our proxies have, and keep the shared key at hand, without end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            while True:
                await self._reload.wait()
                self._reload.clear()
                await self._load()

    def _leader(self) -> Place | None:
        """Where the leader listens, when it is another."""
        holder = self._leader_identity()
        if holder == self._identity or (address := address_of(holder)) is None:
            return None
        return Place(address.host, address.port)

    def _standings(self) -> Standings:
        refused = sorted(refusals(self._engine.fleet).items())
        return Standings(self._engine.gateways.standings(), tuple(Refused(*key, words) for key, words in refused))

    def _on_news(self, groups: frozenset[str], refusals_changed: bool) -> None:
        """Another replica told something: what is written about these Gateways may have to change."""
        if refusals_changed:
            self._engine.heed_refusals()
        self._mark(gateway_ref(Name(*group.split("/", 1))) for group in groups if "/" in group)

    async def _load(self) -> None:
        """Looks whether the shared key was changed; seldom, however often we are asked to."""
        clock = asyncio.get_running_loop().time
        if clock() < self._reload_at:
            return
        self._reload_at = clock() + _RELOAD_APART_S
        try:
            await self._certificate.load()
        except TripylonError as error:
            _log.warning("cannot look whether the key of the replicas has changed", error=str(error))


def identity_of(settings: ControllerSettings, api_server: str) -> str:
    """What a replica writes into the Lease: its name, and where others reach its xDS."""
    return f"{settings.identity or socket.gethostname()}_{_reached_at(settings, api_server)}"


def address_of(identity: str) -> Address | None:
    """Where the replica of an identity is reached; None when it does not say, as nobody does not."""
    _, separator, text = identity.rpartition("_")
    try:
        address = parse_address(text, default_host="")
    except ValueError:
        return None
    return address if separator and address.host else None


def _reached_at(settings: ControllerSettings, api_server: str) -> Address:
    host = settings.advertise or (settings.xds.host if settings.xds.host not in _ANYWHERE else _own_address(api_server))
    return Address(host, settings.xds.port)


def _own_address(api_server: str) -> str:
    """Our address on the way to the API server; nothing is sent for that. Without a way: the loopback address."""
    parts = urlsplit(api_server)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except (OSError, IndexError):
        return "127.0.0.1"
