"""Which listeners of a gateway are refused for a clash, pair by pair, straight from the specification's words.

Gateway API, GatewaySpec.listeners and ListenerSet: HTTP, HTTPS and TLS listeners are told apart by port and hostname,
TCP and UDP ones by port. Inside one object nobody wins; between objects the earlier in the order of merging does.
Nothing here is taken from the product, which is held against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_BY_SERVER_NAME = ("HTTPS", "TLS")
"""Both begin with TLS, whose server name tells them apart on one port."""
KNOWN = ("HTTP", "HTTPS", "TLS", "TCP", "UDP")


class Written(NamedTuple):
    """One listener as its author wrote it; `holder` is the place of its object in the order of merging."""

    holder: int
    name: str
    port: int
    protocol: str
    hostname: str = ""
    faulty: bool = False
    """Whether it is refused for a reason of its own, so that it takes nothing from anybody."""


def refused(listeners: Iterable[Written]) -> dict[tuple[int, str], str]:
    """The listeners that clash, by object and name, each with its reason.

    Objects are judged in the order of merging: a listener falls to any that an earlier object holds, be that one
    refused for a clash inside its own object; what is left of an object clashes among itself.
    """
    found: dict[tuple[int, str], str] = {}
    earlier: list[Written] = []
    sound = [each for each in listeners if not each.faulty]
    for holder in sorted({each.holder for each in sound}):
        left = []
        for each in (each for each in sound if each.holder == holder):
            if reason := clash(each, earlier):
                found[holder, each.name] = reason
            else:
                left.append(each)
        for each in left:
            if reason := clash(each, [other for other in left if other is not each]):
                found[holder, each.name] = reason
        earlier += left
    return found


def clash(one: Written, others: Iterable[Written]) -> str:
    """Why a listener cannot stand beside the others: their protocols before their hostnames; empty: it can."""
    reasons = {reason for other in others if (reason := _pair(one, other))}
    return "ProtocolConflict" if "ProtocolConflict" in reasons else "".join(reasons)


def _pair(one: Written, other: Written) -> str:
    if one.port != other.port or (one.protocol == "UDP") != (other.protocol == "UDP"):
        return ""
    if one.protocol != other.protocol and not {one.protocol, other.protocol} <= set(_BY_SERVER_NAME):
        return "ProtocolConflict"
    if one.protocol in ("TCP", "UDP"):
        return "HostnameConflict"  # the same port, and no hostname that could tell them apart
    return "HostnameConflict" if one.hostname.lower() == other.hostname.lower() else ""
