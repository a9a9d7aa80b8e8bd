"""Joining our status with what others wrote into the same object.

A status is shared: other controllers have their own condition types on Gateways and listeners, and their own entries
in a route's parents. The invariant: what is not ours comes out as it went in, and what is ours is replaced whole, so
that nothing stale stays (Gateway API: GatewayPreserveForeignConditions, HTTPRoutePreserveForeignStatus).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tripylon.api.gateway import GatewayClassStatus, GatewayStatus, ListenerStatus
from tripylon.api.listener_sets import ListenerSetStatus
from tripylon.api.meta import Condition
from tripylon.api.own import BackendStatus
from tripylon.api.policies import PolicyStatus
from tripylon.api.routes import RouteStatus
from tripylon.api.x_backends import XBackendStatus
from tripylon.status.desired import Status

OWN_TYPES = frozenset(
    {
        "Accepted",
        "AddressesAssigned",
        "Conflicted",
        "InsecureFrontendValidationMode",
        "OverlappingTLSConfig",
        "PartiallyInvalid",
        "Programmed",
        "ResolvedRefs",
        "SupportedVersion",
    }
)
"""The condition types that we write; of these, what is not written any more goes."""

MAX_CONDITIONS = 8
MAX_PARENTS = 32
MAX_ANCESTORS = 16


def merge(previous: Status | None, wanted: Status | None, controller_name: str) -> Status | None:
    """The whole status to write, or None when the one that is there says the same or was made from a newer object.

    `wanted=None` means that the object is not ours, or no longer: our entries in a route's parents are removed, every
    other kind of status is left to whoever owns it now.
    """
    if _newer(previous, wanted, controller_name):
        return None
    merged = _merged(previous, wanted, controller_name)
    return None if merged == previous else merged


def _merged(previous: Status | None, wanted: Status | None, controller_name: str) -> Status | None:
    match previous, wanted:
        case (RouteStatus() | None, RouteStatus() | None):
            return _route(previous, wanted, controller_name)
        case (PolicyStatus() | None, PolicyStatus() | None):
            return _policy(previous, wanted, controller_name)
        case (XBackendStatus() | None, XBackendStatus() | None):
            return _x_backend(previous, wanted, controller_name)
        case (GatewayStatus(), GatewayStatus()):
            return msgspec.structs.replace(
                wanted,
                conditions=_conditions(previous.conditions, wanted.conditions),
                listeners=_listeners(previous.listeners, wanted.listeners),
            )
        case (ListenerSetStatus(), ListenerSetStatus()):
            return msgspec.structs.replace(
                wanted,
                conditions=_conditions(previous.conditions, wanted.conditions),
                listeners=_listeners(previous.listeners, wanted.listeners),
            )
        case (GatewayClassStatus(), GatewayClassStatus()):
            return msgspec.structs.replace(wanted, conditions=_conditions(previous.conditions, wanted.conditions))
        case (BackendStatus(), BackendStatus()):
            return msgspec.structs.replace(wanted, conditions=_conditions(previous.conditions, wanted.conditions))
        case (_, None):
            return previous
    return wanted


def _route(previous: RouteStatus | None, wanted: RouteStatus | None, controller_name: str) -> RouteStatus | None:
    """Others' entries where they are, ours behind them."""
    if previous is None:
        return wanted
    foreign = tuple(each for each in previous.parents if each.controller_name != controller_name)
    before = tuple(each for each in previous.parents if each.controller_name == controller_name)
    ours = wanted.parents if wanted is not None else ()
    if before == ours:
        return previous
    return RouteStatus(parents=(*foreign, *ours[: MAX_PARENTS - len(foreign)]))


def _policy(previous: PolicyStatus | None, wanted: PolicyStatus | None, controller_name: str) -> PolicyStatus | None:
    """As for a route: others' entries where they are, ours behind them, as many as there is room for."""
    if previous is None:
        return wanted
    foreign = tuple(each for each in previous.ancestors if each.controller_name != controller_name)
    before = tuple(each for each in previous.ancestors if each.controller_name == controller_name)
    ours = (wanted.ancestors if wanted is not None else ())[: max(0, MAX_ANCESTORS - len(foreign))]
    return previous if before == ours else PolicyStatus(ancestors=(*foreign, *ours))


def _x_backend(
    previous: XBackendStatus | None, wanted: XBackendStatus | None, controller_name: str
) -> XBackendStatus | None:
    """As for a policy."""
    if previous is None:
        return wanted
    foreign = tuple(each for each in previous.ancestors if each.controller_name != controller_name)
    before = tuple(each for each in previous.ancestors if each.controller_name == controller_name)
    ours = (wanted.ancestors if wanted is not None else ())[: max(0, MAX_PARENTS - len(foreign))]
    return previous if before == ours else XBackendStatus(ancestors=(*foreign, *ours))


def _listeners(previous: tuple[ListenerStatus, ...], wanted: tuple[ListenerStatus, ...]) -> tuple[ListenerStatus, ...]:
    known = {each.name: each.conditions for each in previous}
    return tuple(
        msgspec.structs.replace(each, conditions=_conditions(known.get(each.name, ()), each.conditions))
        for each in wanted
    )


def _conditions(previous: tuple[Condition, ...], wanted: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """Ours, then others'; where the list has no room for all, the last of ours give way."""
    foreign = tuple(each for each in previous if each.type not in OWN_TYPES)
    joined = (*wanted[: MAX_CONDITIONS - len(foreign)], *foreign)
    return previous if sorted(joined, key=_type) == sorted(previous, key=_type) else joined


def _type(condition: Condition) -> str:
    return condition.type


def _newer(previous: Status | None, wanted: Status | None, controller_name: str) -> bool:
    """Whether what is there was made from a later generation than what is wanted: our copy of the object is old."""
    if previous is None or wanted is None:
        return False
    latest = max((each.observed_generation for each in _ours(previous, controller_name)), default=0)
    return latest > max((each.observed_generation for each in _ours(wanted, controller_name)), default=latest)


def _ours(status: Status, controller_name: str) -> Iterable[Condition]:
    match status:
        case RouteStatus():
            for entry in status.parents:
                if entry.controller_name == controller_name:
                    yield from entry.conditions
        case PolicyStatus() | XBackendStatus():
            for ancestor in status.ancestors:
                if ancestor.controller_name == controller_name:
                    yield from ancestor.conditions
        case GatewayStatus() | ListenerSetStatus():
            yield from (each for each in status.conditions if each.type in OWN_TYPES)
            for listener in status.listeners:
                yield from (each for each in listener.conditions if each.type in OWN_TYPES)
        case GatewayClassStatus() | BackendStatus():
            yield from (each for each in status.conditions if each.type in OWN_TYPES)
