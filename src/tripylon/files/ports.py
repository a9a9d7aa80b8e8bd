"""Whether the ports of the listeners can be had, asked before anything is started.

Envoy would refuse one listener in its log and serve the others; a user at a terminal is better told at once, with the
name of the process in the way. The invariant: a port that our own running Envoy holds is never a problem. Asking binds
each port for a moment and listens on none.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from tripylon.errors import StartError

Transport = Literal["tcp", "udp"]

_LISTEN: dict[Transport, str] = {"tcp": "0A", "udp": "07"}
"""State of a socket in `/proc/net/tcp` and `/proc/net/udp` that takes what comes (include/net/tcp_states.h)."""


def check_ports(
    ports: Iterable[tuple[str, int]],
    *,
    udp: Iterable[tuple[str, int]] = (),
    ours: Collection[int] = (),
    envoy_binary: Path | None = None,
) -> None:
    """Raise StartError with every (IP address, port) that Envoy could not bind, of TCP and UDP; see `port_problems`.

    An address that this machine does not have is a fault of the Gateway that names it: the others are served, and its
    status tells what Envoy says. Only if there is no other address, there is nothing to start for.
    """
    every = (*((place, "tcp") for place in ports), *((place, "udp") for place in udp))
    here = {address: try_bind(address, 0) != errno.EADDRNOTAVAIL for (address, _), _ in every}
    asked = [(place, protocol) for place, protocol in every if here[place[0]] or not any(here.values())]
    problems: list[str] = []
    for protocol in _LISTEN:
        places = [place for place, its in asked if its == protocol]
        problems.extend(port_problems(places, ours=ours, envoy_binary=envoy_binary, protocol=protocol))
    if problems:
        raise StartError("\n".join(problems))


def port_problems(
    ports: Iterable[tuple[str, int]],
    *,
    ours: Collection[int] = (),
    envoy_binary: Path | None = None,
    protocol: Transport = "tcp",
) -> tuple[str, ...]:
    """One message for each (IP address, port) that Envoy could not bind, sorted by port.

    `ours` are process ids whose ports count as free. `envoy_binary`, when it carries file capabilities, may bind ports
    that this process may not, so that missing rights are no problem then.
    """
    problems = []
    for address, port in sorted(set(ports), key=lambda each: (each[1], each[0])):
        number = try_bind(address, port, protocol)
        place = _Place(address, port, protocol)
        problem = _explain(number, place, ours=ours, envoy_binary=envoy_binary) if number else ""
        if problem:
            problems.append(problem)
    return tuple(problems)


def try_bind(address: str, port: int, protocol: Transport = "tcp") -> int:
    """The error number of binding this address and port, 0 when it can be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)) as trial:
        if protocol == "tcp":
            # Connections that are just ending hold no port for Envoy either.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def listening_processes(address: str, port: int, protocol: Transport = "tcp") -> tuple[tuple[int, str], ...]:
    """(process id, name) of who has bound it to take what comes; 0 stands for a process that we may not see."""
    if not Path("/proc/net/tcp").exists():
        return tuple(_listening_lsof(port, protocol))
    inodes = set(_listening_inodes(ip_address(address), port, protocol))
    return tuple(_owners(inodes)) or ((0, ""),) * bool(inodes)


class _Place(NamedTuple):
    address: str
    port: int
    protocol: Transport

    def __str__(self) -> str:
        return f"Port {self.port}{' (UDP)' if self.protocol == 'udp' else ''} on {self.address}"


def _explain(number: int, place: _Place, *, ours: Collection[int], envoy_binary: Path | None) -> str:
    address, port, protocol = place
    match number:
        case errno.EADDRINUSE:
            holders = listening_processes(address, port, protocol)
            if holders and all(pid in ours for pid, _ in holders):
                return ""
            return f"{place} is taken by {_names(holders)}; end that, or use another port."
        case errno.EACCES | errno.EPERM:
            return "" if _has_capabilities(envoy_binary) else _no_rights(place, envoy_binary)
        case errno.EADDRNOTAVAIL:
            return (
                f"Address {address} (port {port}) is none of this machine's; use one that it has, or 0.0.0.0 for all."
            )
        case _:
            return f"{place} cannot be had: {os.strerror(number)}."


def _names(holders: tuple[tuple[int, str], ...]) -> str:
    known = [f"process {pid} ({name})" for pid, name in holders if pid]
    return " and ".join(known) or "a process of another user"


def _no_rights(place: _Place, envoy_binary: Path | None) -> str:
    allow = ""
    if sys.platform == "linux":
        binary = envoy_binary or "the Envoy binary"
        allow = (
            f", or allow it with `sudo sysctl net.ipv4.ip_unprivileged_port_start={place.port}`"
            f" or `sudo setcap cap_net_bind_service=+ep {binary}`"
        )
    return f"{place} is privileged: this user may not listen on it; use a port from 1024 on{allow}."


def _has_capabilities(binary: Path | None) -> bool:
    if binary is None or sys.platform != "linux":
        return False
    try:
        return bool(os.getxattr(binary, "security.capability"))
    except OSError:
        return False


def _listening_inodes(address: IPv4Address | IPv6Address, port: int, protocol: Transport) -> Iterator[str]:
    """Sockets that listen on this port at an address that overlaps with ours (proc_net_tcp, kernel documentation).

    An IPv6 address is asked for without IPv4, so sockets of IPv4 are not in its way; one at `::` may be in IPv4's.
    """
    four, six = Path(f"/proc/net/{protocol}"), Path(f"/proc/net/{protocol}6")
    tables = (six,) if address.version == 6 else (four, six)
    for table in tables:
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            host, _, at_port = fields[1].partition(":")
            if fields[3] == _LISTEN[protocol] and int(at_port, 16) == port and _overlap(address, _parse_address(host)):
                yield fields[9]


def _overlap(address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> bool:
    if isinstance(other, IPv6Address) and other.ipv4_mapped is not None:
        other = other.ipv4_mapped
    if address.version != other.version:
        return other.is_unspecified
    return other == address or other.is_unspecified or address.is_unspecified


def _parse_address(text: str) -> IPv4Address | IPv6Address:
    """An address as the kernel prints it: words of 32 bits, each in the machine's byte order."""
    raw = bytes.fromhex(text)
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    return ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))


def _owners(inodes: set[str]) -> Iterator[tuple[int, str]]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and wanted and _holds(folder, wanted):
            yield int(folder.name), _name(folder)


def _holds(folder: Path, wanted: set[str]) -> bool:
    try:
        return any(_link(descriptor) in wanted for descriptor in (folder / "fd").iterdir())
    except OSError:
        return False


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(errors="replace").strip()
    except OSError:
        return "just ended"


def _listening_lsof(port: int, protocol: Transport) -> Iterator[tuple[int, str]]:
    only = ("-sTCP:LISTEN",) if protocol == "tcp" else ()
    command = ("lsof", "-nP", f"-i{protocol.upper()}:{port}", *only, "-Fpc")
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return
    pids = [int(line[1:]) for line in said if line.startswith("p")]
    names = [line[1:] for line in said if line.startswith("c")]
    yield from zip(pids, names, strict=False)
