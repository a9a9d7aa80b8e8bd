"""What one replica is told by the others about their proxies: which groups they hold, and what they refuse.

A proxy is connected to one replica, whichever it asked; so only all replicas together know whether a group has what it
is to have. Each of the others keeps one stream open to whoever gathers this, and tells what changes. The invariants:
nobody is heard without the proof that only replicas can give, and what a peer told is forgotten when its stream ends,
or when it was silent for a few seconds. Read `peer_link.py` for the side that tells.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
import structlog
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

if TYPE_CHECKING:
    from grpclib.server import Stream as Call

_log = structlog.get_logger("tripylon.xds.peers")

METHOD = "/tripylon.v1.Peers/Report"
SILENCE_S = 6.0
"""How long the other side may say nothing; a link says something every second or two."""

RefusalKey = tuple[str, str]
"""Type URL and name of a resource."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How it stands with the proxies of one group at one replica."""

    proxies: int
    """How many are connected."""
    digest: str
    """Of the listeners that all of them have taken, as this replica builds them; empty: not all have taken them."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What some proxy refuses, in its own words."""

    type_url: str
    name: str
    message: str


class Report(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What changed since the last report of the same stream; without anything in it, a sign of life."""

    peer: str = ""
    """Who tells, for people; in the first report."""
    groups: dict[str, Standing] = {}
    """By the group's name; one that has no proxies any more is told with none."""
    refused: tuple[Refused, ...] | None = None
    """All that is refused now; None: the same as before."""


def peer_token(key: bytes) -> str:
    """What proves a replica: made of the private key that all replicas share, from which nothing of it is learnt."""
    return hmac.new(key, b"tripylon peers v1", hashlib.sha256).hexdigest()


class _Told(msgspec.Struct):
    """What one stream has told so far."""

    peer: str = ""
    groups: set[str] = set()
    refused: tuple[Refused, ...] = ()


class Peers:
    """The service that listens to other replicas, and what they have told.

    `key` gives the shared key in force; without one nobody is heard. `on_news` is called at once with the groups that
    something was told about and whether refusals changed; it must not block. `on_stranger` is called when somebody's
    proof is wrong: perhaps they know a newer key than we.
    """

    def __init__(
        self,
        key: Callable[[], bytes],
        on_news: Callable[[frozenset[str], bool], None],
        *,
        on_stranger: Callable[[], None] = lambda: None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._key, self._on_news, self._on_stranger, self._silence_s = key, on_news, on_stranger, silence_s
        self._numbers = itertools.count(1)
        self._told: dict[int, _Told] = {}
        self._holding: dict[str, dict[int, Standing]] = {}
        """Group → stream → what it told."""
        self._patience: dict[int, asyncio.Timeout] = {}
        self._closed = False

    def standings(self, group: str) -> Iterable[Standing]:
        """What each replica that has proxies of a group says of them."""
        return self._holding.get(group, {}).values()

    def refused(self) -> Mapping[RefusalKey, str]:
        """What proxies of other replicas refuse now."""
        return {(each.type_url, each.name): each.message for told in self._told.values() for each in told.refused}

    @property
    def names(self) -> tuple[str, ...]:
        """Who reports now."""
        return tuple(told.peer for told in self._told.values())

    def close(self) -> None:
        """Ends all streams; nobody is heard any more."""
        self._closed = True
        for number in self._patience:
            self._end(number)

    def __mapping__(self) -> dict[str, Handler]:
        """The method, as grpclib asks for it."""
        return {METHOD: Handler(self._listen, Cardinality.STREAM_STREAM, bytes, bytes)}

    async def _listen(self, call: Call[bytes, bytes]) -> None:
        """One peer, until it ends its stream, goes silent, or we stop."""
        self._check(call)
        number = next(self._numbers)
        try:
            while await self._exchange(call, number):
                pass
        except TimeoutError:
            if not self._closed:
                raise GRPCError(Status.DEADLINE_EXCEEDED, "nothing was reported for too long") from None
        except (StreamTerminatedError, StreamClosedError, ConnectionError):  # the peer has gone
            pass
        finally:
            self._forget(number)

    async def _exchange(self, call: Call[bytes, bytes], number: int) -> bool:
        """Takes one report and says that it came; False when there are no more. TimeoutError: the peer is silent."""
        if self._closed:
            return False
        try:
            async with asyncio.timeout(self._silence_s) as self._patience[number]:
                if (message := await call.recv_message()) is None:
                    return False
                self._take(number, _decode(message))
                await call.send_message(b"")
        finally:
            self._patience.pop(number, None)
        return True

    def _check(self, call: Call[bytes, bytes]) -> None:
        """Lets in who knows the shared key, and nobody else."""
        shown = call.metadata.get("authorization") if call.metadata else None
        key = self._key()
        expected = f"Bearer {peer_token(key)}"
        if not key or not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), expected.encode()):
            _log.warning("somebody who is no replica wants to report as one", peer=str(call.peer.addr()))
            self._on_stranger()
            raise GRPCError(Status.PERMISSION_DENIED, "only replicas of this controller may report here")

    def _take(self, number: int, report: Report) -> None:
        told = self._told.get(number) or self._welcome(number, report.peer)
        refusals_changed = report.refused is not None and report.refused != told.refused
        if report.refused is not None:
            told.refused = report.refused
        for group, standing in report.groups.items():
            if standing.proxies > 0:
                told.groups.add(group)
                self._holding.setdefault(group, {})[number] = standing
            elif group in told.groups:
                told.groups.discard(group)
                self._drop(group, number)
        if report.groups or refusals_changed:
            self._on_news(frozenset(report.groups), refusals_changed)

    def _welcome(self, number: int, peer: str) -> _Told:
        """A new stream; one that the same peer had before is a remnant, whose end we have not seen yet."""
        for before in [each for each, told in self._told.items() if told.peer == peer]:
            self._end(before)
            self._forget(before)
        _log.info("a replica reports its proxies", replica=peer)
        told = self._told[number] = _Told(peer=peer)
        return told

    def _end(self, number: int) -> None:
        """Has a stream end as if it had been silent for too long."""
        if not self._patience[number].expired():
            self._patience[number].reschedule(0)

    def _forget(self, number: int) -> None:
        told = self._told.pop(number, None)
        if told is None:
            return
        for group in told.groups:
            self._drop(group, number)
        _log.info("a replica reports no longer", replica=told.peer)
        if told.groups or told.refused:
            self._on_news(frozenset(told.groups), bool(told.refused))

    def _drop(self, group: str, number: int) -> None:
        holding = self._holding[group]
        del holding[number]
        if not holding:
            del self._holding[group]


def _decode(message: bytes) -> Report:
    try:
        return msgspec.json.decode(message, type=Report)
    except msgspec.DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"this is no report: {error}") from error
