"""The certificate by which proxies know the ADS server: replaced while it serves.

The invariant: whoever holds a `Certificate` always finds a whole, matching pair of chain and key in it.
"""

from __future__ import annotations

import ssl

from tripylon.errors import TripylonError
from tripylon.pem import load_pair


class CertificateError(TripylonError):
    """A chain and a key that cannot be served."""


class Certificate:
    """The pair in force. `chain` and `key` are PEM, the leaf first; CertificateError when they do not fit."""

    def __init__(self, chain: bytes, key: bytes) -> None:
        self._context = _context(chain, key)

    @property
    def context(self) -> ssl.SSLContext:
        """For connections made from now on."""
        return self._context

    def replace(self, chain: bytes, key: bytes) -> None:
        """Serves another pair to new connections; CertificateError, and no change, when it is unusable."""
        self._context = _context(chain, key)


def _context(chain: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        load_pair(context, chain, key)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(f"The certificate for proxies and its key cannot be used: {error}") from error
    return context
