"""The state directory of one standalone gateway: who uses it, and where its sockets and files lie.

One `tripylon run` holds the lock for its whole life; the kernel drops it with the process, however that ends. What it
takes to find a running Envoy again (pid file, sockets) lies here under names that depend on nothing but the directory.
The invariant: whoever has a `StateDir` is the only one that starts, stops or takes over the Envoy in it. Read
`envoy.py` next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from tripylon.errors import StartError

# The kernel's bound on the path of a Unix socket is 107 bytes on Linux and 103 on macOS; all systems get the lower one.
_MAX_SOCKET_PATH_BYTES = 103
_SOCKETS = ("admin.sock", "ads.sock")
_SHORT_FOLDERS = ("/tmp", tempfile.gettempdir)  # noqa: S108  # the folder made there is checked to be ours alone
_CHOOSE_ANOTHER = "choose another directory with --state DIR"


class StateDir:
    """A locked state directory; release it with `close` or by leaving the `with` block."""

    def __init__(self, root: Path, sockets: Path, lock: int) -> None:
        self.root = root
        self.sockets = sockets
        self._lock = lock

    @property
    def admin_socket(self) -> Path:
        """Where Envoy's administration listens."""
        return self.sockets / "admin.sock"

    @property
    def ads_socket(self) -> Path:
        """Where the control plane listens for Envoy."""
        return self.sockets / "ads.sock"

    @property
    def pid_file(self) -> Path:
        """Which process is this directory's Envoy."""
        return self.root / "envoy.pid"

    @property
    def log_file(self) -> Path:
        """What Envoy logs, also while no control plane runs."""
        return self.root / "envoy.log"

    def bootstrap_file(self, key: str) -> Path:
        """The bootstrap of the launch named `key`; Envoy tells this path, so that its launch is known by it."""
        return self.root / f"bootstrap-{key}.json"

    def bootstrap_files(self) -> tuple[Path, ...]:
        """All bootstraps that lie here, in no order."""
        return tuple(self.root.glob("bootstrap-*.json"))

    def close(self) -> None:
        """Let the next one in. The lock file stays: to delete it would let two in at once."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            if self.sockets != self.root:
                with contextlib.suppress(OSError):  # Envoy runs on, or the folder is gone already.
                    self.sockets.rmdir()

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_state(path: Path) -> StateDir:
    """Make the state directory if needed and lock it.

    Raises StartError when it cannot be written or another process uses it (which one is told).
    """
    root = path.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock, root)
            return StateDir(root, _socket_folder(root), lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise StartError(f"cannot write the state directory {root} ({error.strerror}); {_CHOOSE_ANOTHER}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, mode 0600, so that nobody ever reads a part of it."""
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """As `write_whole`, for a content that need not be in memory as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # On a full disk, half a file would be in the way of all others.
        raise


def _take(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise StartError(f"{who} already runs on the state directory {root}; stop it, or {_CHOOSE_ANOTHER}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _socket_folder(root: Path) -> Path:
    """`root` itself, or a folder of our own with a short path when the sockets' paths would be too long there."""
    if _fits(root):
        return root
    name = f"tripylon-{os.getuid()}-{blake2b(os.fsencode(root), digest_size=6).hexdigest()}"
    problem = f"{root} is too long for the path of a socket"
    for base in _SHORT_FOLDERS:
        folder = Path(base() if callable(base) else base, name)
        if not _fits(folder):
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            owner = folder.lstat()
        except OSError as error:
            problem = f"{folder} cannot be made ({error.strerror})"
            continue
        if owner.st_uid == os.getuid() and owner.st_mode & 0o170077 == 0o040000:
            return folder
        problem = f"{folder} belongs to somebody else or is open to others"
    raise StartError(f"there is no place for the sockets of the state directory {root}: {problem}; {_CHOOSE_ANOTHER}")


def _fits(folder: Path) -> bool:
    return all(len(os.fsencode(folder / socket)) <= _MAX_SOCKET_PATH_BYTES for socket in _SOCKETS)
