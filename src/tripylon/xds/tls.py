"""The certificate by which proxies know the ADS server: replaced while it serves.

The invariant: whoever holds a `Certificate` always finds a whole, matching pair of chain and key in it.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from tripylon.errors import TripylonError


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
    # The ssl module reads files only; these are our own for as long as it reads, and nobody else's.
    with tempfile.TemporaryDirectory(prefix="tripylon-") as folder:
        place = Path(folder, "tls.pem")
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.rstrip() + b"\n" + chain)
        try:
            context.load_cert_chain(place)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(f"The certificate for proxies and its key cannot be used: {error}") from error
    return context
