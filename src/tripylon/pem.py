"""Certificates and keys that are in memory: read, and given to the `ssl` module, which takes them from files only.

The invariant: a key never lies where anybody else could read it, and nothing of it stays.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def read_certificates(text: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text, one at least; ValueError if there is none, or one that cannot be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def written(certificates: Iterable[x509.Certificate]) -> bytes:
    """Certificates in PEM and nothing else: others read less of what people have around it than we do."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Has a context present a chain (leaf first) with its key, both PEM; ssl.SSLError or ValueError if unusable."""
    with _file(key.rstrip() + b"\n" + chain) as path:
        context.load_cert_chain(path)


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file of our own: in memory where the system has such, since a container may have no place to write."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("tripylon-pem"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="tripylon-") as folder:
        path = Path(folder, "pair.pem")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        yield str(path)
