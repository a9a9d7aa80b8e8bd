"""Every condition and reason that the Gateway API names, by what shows it, and those that cannot occur here.

Taken from the types of Gateway API 1.7 and from its conformance suite, which wants the reasons of a conflict on
listeners in `Accepted` too. `test_reasons.py` wants a case for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Shown(NamedTuple):
    """One reason of one status of a condition."""

    holder: str
    condition: str
    status: str
    reason: str

    def __str__(self) -> str:
        return f"{self.holder}: {self.condition} {self.status} {self.reason}"


LISTENER = "Listener"
ADDED = "Listener of a ListenerSet"
"""What such listeners may show beyond those of a Gateway."""
ROUTE = "Route"
POLICY = "BackendTLSPolicy"

TABLE: dict[str, dict[str, str]] = {
    "GatewayClass": {
        "Accepted True": "Accepted",
        "Accepted False": "InvalidParameters Unsupported UnsupportedVersion",
        "Accepted Unknown": "Pending",
        "SupportedVersion True": "SupportedVersion",
        "SupportedVersion False": "UnsupportedVersion",
    },
    "Gateway": {
        "Accepted True": "Accepted ListenersNotValid",
        "Accepted False": "Invalid InvalidParameters UnsupportedAddress ListenersNotValid NotReconciled",
        "Accepted Unknown": "Pending",
        "Programmed True": "Programmed",
        "Programmed False": "Invalid Pending NoResources AddressNotAssigned AddressNotUsable",
        "ResolvedRefs True": "ResolvedRefs",
        "ResolvedRefs False": "RefNotPermitted InvalidClientCertificateRef ListenersNotResolved",
        "AddressesAssigned True": "AddressesAssigned",
        "AddressesAssigned False": "PartiallyAssigned NotAssigned",
        "InsecureFrontendValidationMode True": "ConfigurationChanged",
    },
    LISTENER: {
        "Accepted True": "Accepted",
        "Accepted False": (
            "PortUnavailable UnsupportedProtocol UnsupportedValue NoValidCACertificate Pending "
            "InvalidListenerFilter InvalidListenerFilterOrder HostnameConflict ProtocolConflict"
        ),
        "Programmed True": "Programmed",
        "Programmed False": "Invalid Pending",
        "ResolvedRefs True": "ResolvedRefs",
        "ResolvedRefs False": (
            "InvalidCertificateRef InvalidRouteKinds RefNotPermitted InvalidCACertificateRef InvalidCACertificateKind "
            "InvalidListenerFilterRef"
        ),
        "Conflicted True": "HostnameConflict ProtocolConflict",
        "Conflicted False": "NoConflicts",
        "OverlappingTLSConfig True": "OverlappingHostnames OverlappingCertificates",
    },
    ADDED: {
        "Accepted False": "TooManyListeners HostnameConflict ProtocolConflict",
        "Programmed False": "PortUnavailable HostnameConflict ProtocolConflict",
        "Conflicted True": "HostnameConflict ProtocolConflict ListenerConflict",
    },
    "ListenerSet": {
        "Accepted True": "Accepted ListenersNotValid",
        "Accepted False": "Invalid NotAllowed ParentNotAccepted ListenersNotValid",
        "Accepted Unknown": "Pending",
        "Programmed True": "Programmed",
        "Programmed False": "Invalid NotAllowed ParentNotProgrammed ListenersNotValid PortUnavailable",
        "Programmed Unknown": "Pending",
    },
    ROUTE: {
        "Accepted True": "Accepted",
        "Accepted False": (
            "NotAllowedByListeners NoMatchingListenerHostname NoMatchingParent UnsupportedValue IncompatibleFilters"
        ),
        "Accepted Unknown": "Pending",
        "ResolvedRefs True": "ResolvedRefs",
        "ResolvedRefs False": "RefNotPermitted InvalidKind BackendNotFound UnsupportedProtocol",
        "PartiallyInvalid True": "UnsupportedValue",
    },
    POLICY: {
        "Accepted True": "Accepted",
        "Accepted False": "Conflicted Invalid TargetNotFound NoValidCACertificate",
        "ResolvedRefs True": "ResolvedRefs",
        "ResolvedRefs False": "InvalidCACertificateRef InvalidKind",
    },
}


def every() -> Iterator[Shown]:
    """All of the table, in its order."""
    for holder, conditions in TABLE.items():
        for shown, reasons in conditions.items():
            condition, _, status = shown.partition(" ")
            for reason in reasons.split():
                yield Shown(holder, condition, status, reason)


_AT_ONCE = "every status is written whole, so none is left at what the cluster's definitions begin with"
_NO_LISTENER_FILTERS = "types that are not known are UnsupportedValue, and the order is always that of the list"

IMPOSSIBLE: dict[Shown, str] = {
    Shown("GatewayClass", "Accepted", "False", "Unsupported"): "there is nothing that a class of ours may not ask for",
    Shown("GatewayClass", "Accepted", "False", "UnsupportedVersion"): "such a class serves; SupportedVersion tells it",
    Shown("GatewayClass", "Accepted", "Unknown", "Pending"): _AT_ONCE,
    Shown("Gateway", "Accepted", "False", "Invalid"): "each fault has a reason of its own",
    Shown("Gateway", "Accepted", "False", "NotReconciled"): "deprecated",
    Shown("Gateway", "Accepted", "Unknown", "Pending"): _AT_ONCE,
    Shown(LISTENER, "Accepted", "False", "Pending"): _AT_ONCE,
    Shown(LISTENER, "Accepted", "False", "InvalidListenerFilter"): _NO_LISTENER_FILTERS,
    Shown(LISTENER, "Accepted", "False", "InvalidListenerFilterOrder"): _NO_LISTENER_FILTERS,
    Shown(ADDED, "Accepted", "False", "TooManyListeners"): "there is no limit to the listeners of a Gateway",
    Shown(ADDED, "Programmed", "False", "PortUnavailable"): "Accepted tells it; Programmed is then False Invalid",
    Shown(ADDED, "Conflicted", "True", "ListenerConflict"): "the first clash is told: ProtocolConflict",
    Shown("ListenerSet", "Accepted", "False", "Invalid"): "each fault has a reason of its own",
    Shown("ListenerSet", "Accepted", "Unknown", "Pending"): _AT_ONCE,
    Shown("ListenerSet", "Programmed", "False", "PortUnavailable"): "its listeners tell it; the set: ListenersNotValid",
    Shown("ListenerSet", "Programmed", "Unknown", "Pending"): "the condition is then False, with the same reason",
    Shown(ROUTE, "Accepted", "False", "IncompatibleFilters"): (
        "the schema refuses what cannot go together; what is not reached behind a redirect is a warning"
    ),
    Shown(ROUTE, "Accepted", "Unknown", "Pending"): _AT_ONCE,
}
"""Reasons that no case can show, each with why."""
