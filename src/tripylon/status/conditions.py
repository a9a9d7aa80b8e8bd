"""Findings → conditions: the parts that every kind's status is made of.

The invariant: only findings of severity `error` turn a condition bad; of several on one condition the worst reason is
shown, and all their messages. Read `gateways.py` and `routes.py` for the conditions of each kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from tripylon.api.meta import Condition
from tripylon.findings import Finding
from tripylon.values import Name

Verdict = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 32768
"""Characters that the API lets a condition's message have."""

WORST_FIRST = (
    # GatewayClass and Gateway
    "UnsupportedVersion",
    "InvalidParameters",
    "UnsupportedAddress",
    "AddressNotUsable",
    "AddressNotAssigned",
    # listeners: what a user must settle first comes first
    "ProtocolConflict",
    "HostnameConflict",
    "PortUnavailable",
    # policies: one that is not in force is not told what else is wrong with it first
    "Conflicted",
    "NoValidCACertificate",
    "TargetNotFound",
    # references: a refusal tells least, so it goes before what was found out about the target
    "RefNotPermitted",
    "InvalidKind",
    "InvalidCertificateRef",
    "InvalidClientCertificateRef",
    "InvalidCACertificateRef",
    "BackendNotFound",
    "UnsupportedProtocol",
    "InvalidRouteKinds",
    # routes
    "NotAllowedByListeners",
    "NoMatchingListenerHostname",
    "NoMatchingParent",
    "IncompatibleFilters",
    "UnsupportedValue",
    "Invalid",
)
"""Which reason a condition shows when several findings bear on it; reasons that are not here come last."""

_RANK = {reason: len(WORST_FIRST) - place for place, reason in enumerate(reversed(WORST_FIRST), start=1)}


class Programming(Protocol):
    """What the proxies have acknowledged: the part of a status that no finding tells.

    What they refuse is told by findings, whose condition on a listener is `Programmed`.
    """

    def listener(self, gateway: Name, listener: str) -> Literal["programmed", "pending"]:
        """Whether every proxy of the gateway has taken the listener as it is planned now."""


class Scribe(NamedTuple):
    """Writes the conditions of one list: all of one generation, each with the time of its last change."""

    generation: int
    now: str
    """RFC 3339 time for conditions whose status differs from before."""
    previous: tuple[Condition, ...]
    """The list as it was written last."""

    def write(self, type: str, status: Verdict, reason: str, message: str) -> Condition:
        """One condition; its time is kept when its status is what it was."""
        old = next((each for each in self.previous if each.type == type), None)
        return Condition(
            type=type,
            status=status,
            observed_generation=self.generation,
            last_transition_time=old.last_transition_time if old is not None and old.status == status else self.now,
            reason=reason,
            message=message,
        )

    def positive(self, type: str, faults: Sequence[Finding], *, good: str, message: str) -> Condition:
        """A condition where True is good: False with the worst reason when there are faults, else True."""
        if faults:
            return self.write(type, "False", worst(faults), joined(faults))
        return self.write(type, "True", good, message)

    def negative(self, type: str, faults: Sequence[Finding]) -> tuple[Condition, ...]:
        """A condition where True is bad and which is only written then."""
        return (self.write(type, "True", worst(faults), joined(faults)),) if faults else ()

    def over(self, previous: tuple[Condition, ...]) -> Scribe:
        """The same for another list of the same object."""
        return self._replace(previous=previous)


def about(
    findings: Iterable[Finding], condition: str, *, listener: str = "", parent: int | None = None
) -> tuple[Finding, ...]:
    """The errors that bear on one condition: of one listener, or of one parent beside those of the route itself."""
    return tuple(
        finding
        for finding in findings
        if finding.severity == "error"
        and finding.condition == condition
        and finding.listener == listener
        and finding.parent in (None, parent)
    )


def worst(faults: Sequence[Finding]) -> str:
    """The reason that a condition shows; the first of equals."""
    return min((fault.reason for fault in faults), key=lambda reason: _RANK.get(reason, len(WORST_FIRST)))


def joined(faults: Sequence[Finding]) -> str:
    """All messages with their hints as sentences, the worst first, cut at the API's limit at the end of one."""
    ordered = sorted(faults, key=lambda fault: _RANK.get(fault.reason, len(WORST_FIRST)))
    sentences = tuple(dict.fromkeys(_sentences(fault) for fault in ordered))
    text = " ".join(sentences)
    if len(text) <= MAX_MESSAGE:
        return text
    kept: list[str] = []
    room = MAX_MESSAGE - len(f" And {len(sentences)} more.")
    for sentence in sentences:
        room -= len(sentence) + 1
        if room < 0:
            break
        kept.append(sentence)
    if not kept:
        return text[: MAX_MESSAGE - 1] + "…"
    return " ".join((*kept, f"And {len(sentences) - len(kept)} more."))


def _sentences(fault: Finding) -> str:
    return " ".join(text if text.endswith((".", "…")) else f"{text}." for text in (fault.message, fault.hint) if text)
