"""The small values that every layer speaks: names of objects, host names, durations, built results.

Everything here is immutable and hashable. Read `graph.py` next for how `Built` values travel.
"""

from __future__ import annotations

import hashlib
import re
import socket
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import msgspec

V = TypeVar("V")
F = TypeVar("F")


class Name(NamedTuple):
    """The key of one object among its kind: namespace (empty for cluster-scoped kinds) and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """`namespace/name`, or just the name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Ref(NamedTuple):
    """One object among all: API group (empty for core), kind, namespace and name."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`Kind namespace/name`, as messages show it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def key(self) -> Name:
        """The object's key among its own kind."""
        return Name(self.namespace, self.name)


class Built(msgspec.Struct, Generic[V, F], frozen=True, gc=False):
    """What a build function returns: a value (None = nothing to build) and what there is to tell the user about it."""

    value: V | None
    findings: tuple[F, ...] = ()


# Gateway API GEP-2257: up to four parts of at most five digits, each with a unit, no fractions.
_DURATION = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_DURATION_WHOLE = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a Gateway API duration such as `1m30s` (GEP-2257); ValueError when it is none."""
    if not _DURATION_WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: write one to four numbers with units, such as 1h30m or 500ms")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _DURATION.findall(text))


def hostname_matches(pattern: str, hostname: str) -> bool:
    """Whether the listener or route hostname `pattern` covers `hostname` wholly.

    An empty pattern covers everything. `*.example.com` covers `a.example.com`, `a.b.example.com` and the wildcard
    `*.a.example.com`, but not `example.com` (Gateway API, Hostname).
    """
    if not pattern or pattern == hostname:
        return True
    return pattern.startswith("*.") and hostname.endswith(pattern[1:]) and len(hostname) > len(pattern) - 1


def intersect_hostnames(one: str, other: str) -> str | None:
    """The narrower of two hostnames when one covers the other, else None; the empty string stands for every host."""
    if hostname_matches(one, other):
        return other or one
    if hostname_matches(other, one):
        return one
    return None


def wider_hostnames(hostname: str) -> tuple[str, ...]:
    """`hostname` itself, every wildcard that covers it from the narrowest on, and the empty string for every host."""
    return (hostname, *_wildcards(hostname.removeprefix("*.").partition(".")[2])) if hostname else ("",)


@lru_cache(maxsize=4096)
def _wildcards(domain: str) -> tuple[str, ...]:
    """Everything that covers all names below a domain, from the narrowest on; hosts mostly have few domains."""
    return (f"*.{domain}", *_wildcards(domain.partition(".")[2])) if domain else ("",)


def hostname_specificity(hostname: str) -> tuple[int, int]:
    """Sort key, greater is more specific: characters in the non-wildcard part, then characters in all.

    Exact names come before wildcards because the two parts are compared in the order of the HTTPRoute type's text:
    exact (2), wildcard (1), none (0) first, then length.
    """
    if not hostname:
        return (0, 0)
    if hostname.startswith("*."):
        return (1, len(hostname))
    return (2, len(hostname))


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, the latter perhaps with its interface (`fe80::1%eth0`), not a name."""
    family, address = socket.AF_INET, text
    if ":" in text:
        family, (address, percent, interface) = socket.AF_INET6, text.partition("%")
        if percent and not interface:
            return False
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


MAX_NAME = 63
"""Characters of a label's value, and of the names of Services (RFC 1035)."""


def label_value(text: str) -> str:
    """A text as the value of a label: cut with a hash at 63 characters, `/` written as `_`."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    return safe if len(safe) <= MAX_NAME else cut(safe, text)


def cut(name: str, whole: str) -> str:
    """A name cut at 63 characters, with a hash of the whole so that no two are the same by being cut."""
    mark = hashlib.sha256(whole.encode()).hexdigest()[:10]
    return f"{name[: MAX_NAME - len(mark) - 1].rstrip('-._')}-{mark}"
