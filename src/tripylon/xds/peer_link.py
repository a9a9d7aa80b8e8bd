"""The side that tells: one stream to the replica that gathers what all proxies have.

The link looks at the standing of all groups when it is stirred, and tells what differs from what it told before, the
first time everything. The invariants: however often proxies answer, no more than some ten reports a second are sent,
and each is acknowledged before the next, so that a slow listener gets fewer and larger ones. Read `peers.py` first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Never

import msgspec
import structlog
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from h2.exceptions import ProtocolError as Http2Error

from tripylon.xds.codec import RawCodec
from tripylon.xds.peers import METHOD, SILENCE_S, Refused, Report, Standing, peer_token

if TYPE_CHECKING:
    from grpclib.client import Stream

_log = structlog.get_logger("tripylon.xds.peer_link")

_LOOK_S = 0.5
"""How often we look for another leader, and for what nobody stirred us for."""
_APART_S = 0.1
"""Least time between two reports."""
_SIGN_OF_LIFE_S = 1.5
"""After how long without news the link says that it is there."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where the leader listens."""

    host: str
    port: int


class Trust(msgspec.Struct, frozen=True, gc=False):
    """By what replicas know each other."""

    key: bytes
    """The private key that all of them share, in PEM."""
    authority: bytes
    """The certificates that we trust, in PEM."""
    server_name: str
    """The DNS name in the leader's certificate."""


class Standings(msgspec.Struct, frozen=True, gc=False):
    """What there is to tell now."""

    groups: Mapping[str, Standing]
    """Of every group with proxies, by name."""
    refused: tuple[Refused, ...]
    """In a stable order."""


class PeerLink:
    """Tells the leader about our proxies while `run` runs; `stir` when something may have changed.

    `leader` says where the leader listens; None: there is none, or it is us. `on_refused` is awaited when the leader
    does not know us: perhaps one of us has an old key.
    """

    def __init__(
        self,
        peer: str,
        leader: Callable[[], Place | None],
        standings: Callable[[], Standings],
        trust: Callable[[], Trust],
        *,
        on_refused: Callable[[], Awaitable[None]],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._peer, self._leader, self._standings, self._trust = peer, leader, standings, trust
        self._on_refused, self._silence_s = on_refused, silence_s
        self._stirred = asyncio.Event()
        self._trouble = ""
        self.reports = 0
        """How many were sent, signs of life included."""

    def stir(self) -> None:
        """Something may have changed: proxies came, went or answered, or there is another configuration."""
        self._stirred.set()

    async def run(self) -> Never:
        """Report without end, to whoever leads."""
        while True:
            if (place := self._leader()) is not None:
                try:
                    await self._report_to(place)
                except (OSError, GRPCError, ProtocolError, StreamTerminatedError, Http2Error) as error:
                    self._complain(place, str(error) or type(error).__name__)
                    if isinstance(error, GRPCError) and error.status is Status.PERMISSION_DENIED:
                        await self._on_refused()
            await asyncio.sleep(_LOOK_S)

    async def _report_to(self, place: Place) -> None:
        """Tells one leader, until there is another or the stream ends; raises what ended it."""
        trust = self._trust()
        config = Configuration(ssl_target_name_override=trust.server_name)
        channel = Channel(place.host, place.port, codec=RawCodec(), ssl=client_context(trust), config=config)
        proof = {"authorization": f"Bearer {peer_token(trust.key)}"}
        try:
            async with channel.request(METHOD, Cardinality.STREAM_STREAM, bytes, bytes, metadata=proof) as stream:
                await self._tell(stream, place)
                await stream.cancel()
        finally:
            channel.close()

    async def _tell(self, stream: Stream[bytes, bytes], place: Place) -> None:
        """Reports what changes while the leader is the same."""
        clock = asyncio.get_running_loop().time
        told: Standings | None = None
        said_at = clock()
        while self._leader() == place:
            self._stirred.clear()
            now = self._standings()
            report = _difference(told, now, self._peer)
            if report is not None or clock() >= said_at + _SIGN_OF_LIFE_S:
                said_at = clock()
                await self._say(stream, report or Report())
                if told is None:
                    self._trouble = ""
                    _log.info("reporting our proxies to the leader", leader=f"{place.host}:{place.port}")
                told = now
                await asyncio.sleep(_APART_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._stirred.wait()

    async def _say(self, stream: Stream[bytes, bytes], report: Report) -> None:
        """Sends one report and waits until it has come; TimeoutError when the leader does not answer."""
        async with asyncio.timeout(self._silence_s):
            await stream.send_message(msgspec.json.encode(report))
            if await stream.recv_message() is None:
                raise ConnectionResetError("the leader ended the stream")
        self.reports += 1

    def _complain(self, place: Place, trouble: str) -> None:
        """Once for each kind of trouble, until a report arrives."""
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning("cannot report to the leader", leader=f"{place.host}:{place.port}", error=trouble)


def _difference(told: Standings | None, now: Standings, peer: str) -> Report | None:
    """What to tell; None: nothing."""
    if told is None:
        return Report(peer, dict(now.groups), now.refused)
    groups = {name: standing for name, standing in now.groups.items() if told.groups.get(name) != standing}
    groups |= {name: Standing(0, "") for name in told.groups if name not in now.groups}
    refused = None if now.refused == told.refused else now.refused
    return Report("", groups, refused) if groups or refused is not None else None


def client_context(trust: Trust) -> ssl.SSLContext:
    """For connections to another replica: its certificate must be of our authority, for the name that we look for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cadata=trust.authority.decode())
    except ValueError as error:
        raise ssl.SSLError(f"there is no authority to trust: {error}") from error
    return context
