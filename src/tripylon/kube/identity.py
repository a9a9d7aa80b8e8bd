"""Who the control plane is to its proxies: a certificate in a Secret that all replicas share.

We make the Secret, and renew what is in it, unless somebody else did: one that does not carry our label, from
cert-manager for instance, is used as it is and never written. Replicas may race; the API server's answer decides, and
whoever comes second takes what is there. The invariants: what cannot be served is not taken, and what was taken serves
on; one of ours that somebody deletes is put back as it was, so that proxies need not learn another authority. Read
`authority.py` for what is due when, `tokens.py` for who the proxies are.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Never, Protocol

import msgspec
import structlog

from tripylon.errors import TripylonError
from tripylon.kube.authority import Kept, advanced, utc_now
from tripylon.kube.failures import ApiError, Backoff
from tripylon.xds.tls import Certificate, CertificateError

_log = structlog.get_logger("tripylon.kube.identity")

SECRET = "tripylon-xds-tls"  # noqa: S105 - the name of an object
MANAGED = ("app.kubernetes.io/managed-by", "tripylon")
"""Label of the Secret by which we know that it is ours to write."""

_FIELDS = {
    "ca.crt": "bundle",
    "ca.key": "signer_key",
    "ca-next.key": "successor_key",
    "tls.crt": "chain",
    "tls.key": "key",
}
_ATTEMPTS = 10


class Secrets(Protocol):
    """What we ask of the API server."""

    async def read(self, api_version: str, kind: str, name: str, *, namespace: str = "") -> dict[str, Any] | None:
        """An object; None when it is not there."""

    async def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Make an object; ApiError 409 when it is there."""

    async def replace(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Put an object in place of the one of its resourceVersion; ApiError 409 when that was changed."""


class IdentityError(TripylonError):
    """The Secret holds nothing that can be served, and it is not ours to write."""


class Served(msgspec.Struct, frozen=True, gc=False):
    """What proxies are shown and what they are to trust, in PEM."""

    chain: bytes
    key: bytes
    ca_bundle: bytes


class Identity:
    """The certificate for xDS. `load` before anything else, then `run` for as long as it is served.

    `names` are the DNS names that proxies look for. `on_change` is called with each new state, the first one included.
    """

    def __init__(
        self,
        client: Secrets,
        namespace: str,
        names: Sequence[str],
        *,
        secret: str = SECRET,
        on_change: Callable[[Served], None] = lambda _: None,
        clock: Callable[[], datetime] = utc_now,
        every_s: float = 10.0,
    ) -> None:
        self._client, self._namespace, self._names, self._secret = client, namespace, tuple(names), secret
        self._on_change, self._clock, self._every_s = on_change, clock, every_s
        self._served: Served | None = None
        self._kept: Kept | None = None
        """What our Secret held last; None while it is somebody else's."""
        self._loading = asyncio.Lock()

    @property
    def served(self) -> Served:
        """What is in force; only after `load`."""
        assert self._served is not None, "load comes first"
        return self._served

    @property
    def ca_bundle(self) -> bytes:
        """What proxies are to trust, in PEM."""
        return self.served.ca_bundle

    async def load(self) -> Served:
        """Reads the Secret, and makes or renews what is in it where that is ours and due.

        ApiError when the API server refuses; IdentityError when the Secret is somebody else's and cannot be served.
        What was served before stays in force then.
        """
        async with self._loading:  # Of two looks, the older one must not have the last word.
            for _ in range(_ATTEMPTS):
                found = await self._client.read("v1", "Secret", self._secret, namespace=self._namespace)
                if found is not None and not _is_ours(found):
                    return self._use(_given(found), None)
                if found is None and self._served is not None and self._kept is None:
                    raise IdentityError(f"Secret {self._place} is gone; whoever made it should make it again")
                kept = _kept(found) if found is not None else self._kept or Kept()
                wanted = advanced(kept, self._names, self._clock())
                if (found is not None and wanted == kept) or await self._write(found, wanted):
                    return self._use(Served(wanted.chain, wanted.key, wanted.bundle), wanted)
        raise IdentityError(f"Secret {self._place} changes whenever we want to write it")

    async def run(self) -> Never:
        """Looks again from time to time; what fails is tried again, and what is served stays in force meanwhile."""
        backoff = Backoff(first=1.0)
        wait_s = self._every_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self.load()
            except TripylonError as error:
                wait_s = backoff.next()
                _log.warning("the certificate for proxies cannot be looked after", error=str(error))
            else:
                backoff.reset()
                wait_s = self._every_s

    async def _write(self, found: dict[str, Any] | None, wanted: Kept) -> bool:
        """Whether it was ours to write at that moment; else the Secret is to be read again."""
        data = {name: _encoded(getattr(wanted, field)) for name, field in _FIELDS.items() if getattr(wanted, field)}
        try:
            if found is None:
                await self._client.create(self._object(data))
            else:
                await self._client.replace({**found, "data": data})
        except ApiError as error:
            if error.status in (404, 409) and (found is not None or error.status == 409):
                return False
            raise
        _log.info("wrote the certificate for proxies", secret=self._place)
        return True

    def _object(self, data: dict[str, str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": self._secret, "namespace": self._namespace, "labels": dict((MANAGED,))},
            "data": data,
        }

    def _use(self, served: Served, kept: Kept | None) -> Served:
        if served != self._served:
            _check(served, self._place)
            self._served = served
            self._on_change(served)
        self._kept = kept
        return served

    @property
    def _place(self) -> str:
        return f"{self._namespace}/{self._secret}"


def _is_ours(secret: dict[str, Any]) -> bool:
    key, value = MANAGED
    return bool(((secret.get("metadata") or {}).get("labels") or {}).get(key) == value)


def _given(secret: dict[str, Any]) -> Served:
    kept = _kept(secret)
    if not (kept.chain and kept.key and kept.bundle):
        name = secret["metadata"].get("name", "")
        raise IdentityError(
            f"Secret {name!r} is not ours and lacks tls.crt, tls.key or ca.crt; complete it or delete it"
        )
    return Served(kept.chain, kept.key, kept.bundle)


def _check(served: Served, place: str) -> None:
    """IdentityError when a pair cannot be served, or a bundle not be trusted."""
    try:
        Certificate(served.chain, served.key)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=served.ca_bundle.decode("ascii"))
    except (CertificateError, ssl.SSLError, ValueError) as error:
        raise IdentityError(
            f"Secret {place} holds no pair of tls.crt and tls.key with authorities in ca.crt: {error}; mend it"
        ) from error


def _kept(secret: dict[str, Any] | None) -> Kept:
    data = (secret or {}).get("data") or {}
    return Kept(**{field: _decoded(data.get(name, "")) for name, field in _FIELDS.items()})


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
