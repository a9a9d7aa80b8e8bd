"""Where the admin pages are to be found: taken before anything starts, so that a port in use is told at once.

Who asks before the pages are served waits for them; `server.py` serves them, which takes a while to be loaded.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import NamedTuple

from tripylon.errors import StartError
from tripylon.settings import Address


class Listening(NamedTuple):
    """Bound sockets, one for each address that the host's name has, and the first of these with its real port."""

    address: Address
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Listen no more; harmless when said twice."""
        for each in self.sockets:
            each.close()


def listen(address: Address) -> Listening:
    """Take an address, port 0 for a free one; StartError when it cannot be had."""
    with contextlib.ExitStack() as opened:
        try:
            sockets = [opened.enter_context(each) for each in _sockets(address)]
        except OSError as error:
            raise StartError(
                f"The admin pages cannot listen on {address}: {error.strerror or error}; "
                "choose another address with --admin, or turn them off with --admin off"
            ) from error
        opened.pop_all()
    return Listening(Address(address.host, sockets[0].getsockname()[1]), tuple(sockets))


def _sockets(address: Address) -> Iterator[socket.socket]:
    """One for each address of a name, `localhost` for instance, but for those of a family that this machine lacks."""
    found, lacking = 0, OSError("it has no address")
    for family, _, _, _, place in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        try:
            yield socket.create_server((str(place[0]), int(place[1])), family=family)
            found += 1
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            lacking = error
    if not found:
        raise lacking
