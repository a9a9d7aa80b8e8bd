"""Who a proxy is: the service account token that Kubernetes gives to its pod, verified by the API server.

The invariant: a proxy gets its own Gateway's configuration and no other's, because the service account that its token
proves is the one of that Gateway's proxies. While the API server cannot be asked, a token that it has approved before
is believed until it expires, so that proxies may reconnect.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from tripylon.kube.failures import ApiError
from tripylon.values import Name

_log = structlog.get_logger("tripylon.kube.tokens")

AUDIENCE = "tripylon-xds"
_FRESH_S, _REFUSED_S = 300.0, 10.0
_MAX_KNOWN, _MAX_REVIEWS = 20_000, 16
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Reviews(Protocol):
    """What we ask of the API server."""

    async def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Make an object and return it as it was made."""


class Node(Protocol):
    """What an Envoy says about itself."""

    @property
    def cluster(self) -> str:
        """The Gateway as `namespace/name`."""


class _Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the API server said about one token."""

    account: Name | None
    """The service account that it proves; None: none."""
    asked_again_at: float
    ends_at: float
    """When the token itself expires; seconds since 1970."""


class TokenReviewer:
    """Verifies tokens and remembers verdicts: good ones for 5 minutes at most, bad ones for 10 seconds.

    `service_account` names the service account of a Gateway's proxies: None when the Gateway is not ours, the empty
    text when any of the Gateway's namespace will do, as for proxies that somebody else runs. `clock` tells seconds
    since 1970.
    """

    def __init__(
        self,
        client: Reviews,
        service_account: Callable[[Name], str | None],
        *,
        audience: str = AUDIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._service_account = client, service_account
        self._audience, self._clock = audience, clock
        self._known: dict[bytes, _Verdict] = {}
        self._reviews = asyncio.Semaphore(_MAX_REVIEWS)

    async def authorise(self, node: Node, token: str) -> Name | None:
        """The Gateway whose configuration a proxy may have; None: it may have none.

        ApiError when the API server cannot be asked and has not been about this token.
        """
        namespace, slash, name = node.cluster.partition("/")
        if not (namespace and slash and name and token):
            return None
        gateway = Name(namespace, name)
        wanted = self._service_account(gateway)
        if wanted is None:
            return None
        account = await self.account(token)
        if account is None or account.namespace != namespace or (wanted and account.name != wanted):
            return None
        return gateway

    async def admission(self, metadata: Mapping[str, str]) -> str:
        """Why a stream is refused before it says anything; empty: it is not. ApiError as `authorise`."""
        token = _bearer(metadata)
        if not token:
            return "a proxy must show its service account token"
        if await self.account(token) is None:
            return "the token is not one of this cluster for the control plane"
        return ""

    async def refusal(self, node: Node, metadata: Mapping[str, str]) -> str:
        """Why a stream is refused, by the metadata that came with it; empty: it is not. ApiError as `authorise`."""
        if await self.authorise(node, _bearer(metadata)) is None:
            return f"the token does not belong to a proxy of Gateway {node.cluster!r}"
        return ""

    async def account(self, token: str) -> Name | None:
        """The service account that a token proves, for our audience; None: it proves none. ApiError as `authorise`."""
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        known = self._known.get(digest)
        if known is not None and now < known.asked_again_at:
            return known.account
        try:
            async with self._reviews:
                account = await self._review(token)
        except ApiError:
            if known is not None and known.account is not None and now < known.ends_at:
                return known.account
            raise
        ends_at = _expiry(token, default=now + _FRESH_S)
        fresh_s = _FRESH_S if account is not None else _REFUSED_S
        self._remember(digest, _Verdict(account, min(now + fresh_s, max(ends_at, now + 1.0)), ends_at))
        if account is None:
            _log.warning("a token for xDS is not valid")
        return account

    async def _review(self, token: str) -> Name | None:
        answer = await self._client.create(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": token, "audiences": [self._audience]},
            }
        )
        status = answer.get("status") or {}
        user: str = (status.get("user") or {}).get("username") or ""
        # An API server that knows no audiences would answer without them: then the token may be for anybody.
        if not status.get("authenticated") or self._audience not in (status.get("audiences") or ()):
            return None
        namespace, colon, name = user.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return Name(namespace, name) if user.startswith(_SERVICE_ACCOUNT) and colon else None

    def _remember(self, digest: bytes, verdict: _Verdict) -> None:
        self._known.pop(digest, None)
        while len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = verdict


def _bearer(metadata: Mapping[str, str]) -> str:
    """The token that came with a stream; empty: none."""
    scheme, _, token = metadata.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _expiry(token: str, *, default: float) -> float:
    """When a JSON web token that has been verified says that it ends; `default` when it does not say."""
    parts = token.split(".")
    try:
        payload = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(payload["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return default
