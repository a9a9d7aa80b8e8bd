"""Joining with what others wrote: theirs stays as it is, ours is replaced whole, nothing is written for nothing."""

from __future__ import annotations

import msgspec
import pytest

from tripylon.api.gateway import GatewayStatus, ListenerStatus
from tripylon.api.listener_sets import ListenerSetStatus
from tripylon.api.meta import Condition
from tripylon.api.own import BackendStatus
from tripylon.api.policies import PolicyAncestorStatus, PolicyStatus
from tripylon.api.refs import ParentReference
from tripylon.api.routes import RouteParentStatus, RouteStatus
from tripylon.api.x_backends import XBackendAncestorStatus, XBackendStatus
from tripylon.status.merge import MAX_ANCESTORS, MAX_CONDITIONS, MAX_PARENTS, merge

OURS = "gateway.tripylon.dev/controller"
THEIRS = "example.com/other"


def condition(type: str, status: str = "True", *, generation: int = 1, reason: str = "Reason") -> Condition:
    return Condition(
        type=type,
        status=status,
        observed_generation=generation,
        last_transition_time="2020-01-01T00:00:00Z",
        reason=reason,
        message="",
    )


STALE = condition("example.com/Stale", generation=0, reason="Seeded")


def parent(name: str, controller: str = OURS, *conditions: Condition) -> RouteParentStatus:
    return RouteParentStatus(
        parent_ref=ParentReference(name=name),
        controller_name=controller,
        conditions=conditions or (condition("Accepted"),),
    )


def ancestor(name: str, controller: str = OURS, *conditions: Condition) -> PolicyAncestorStatus:
    return PolicyAncestorStatus(
        ancestor_ref=ParentReference(name=name),
        controller_name=controller,
        conditions=conditions or (condition("Accepted"),),
    )


def gateway(conditions: tuple[Condition, ...], *listeners: tuple[str, tuple[Condition, ...]]) -> GatewayStatus:
    return GatewayStatus(
        conditions=conditions,
        listeners=tuple(ListenerStatus(name=name, attached_routes=0, conditions=each) for name, each in listeners),
    )


def test_foreign_conditions_stay_on_the_gateway_and_on_each_listener() -> None:
    before = gateway(
        (condition("Accepted", "Unknown"), STALE),
        ("http", (STALE, condition("Accepted"))),
        ("gone", (STALE,)),
    )
    wanted = gateway(
        (condition("Accepted", generation=2), condition("Programmed", generation=2)),
        ("http", (condition("Accepted", generation=2),)),
        ("new", (condition("Accepted", generation=2),)),
    )
    merged = merge(before, wanted, OURS)
    assert merged == gateway(
        (condition("Accepted", generation=2), condition("Programmed", generation=2), STALE),
        ("http", (condition("Accepted", generation=2), STALE)),
        ("new", (condition("Accepted", generation=2),)),
    )


def test_foreign_conditions_stay_on_a_listener_set_and_on_each_of_its_listeners() -> None:
    def of(whole: GatewayStatus) -> ListenerSetStatus:
        return ListenerSetStatus(conditions=whole.conditions, listeners=whole.listeners)

    before = of(gateway((STALE, condition("Accepted")), ("http", (condition("Accepted"), STALE)), ("gone", (STALE,))))
    wanted = of(gateway((condition("Accepted", "False"),), ("http", (condition("Accepted", "False"),))))
    merged = merge(before, wanted, OURS)
    assert merged == of(
        gateway((condition("Accepted", "False"), STALE), ("http", (condition("Accepted", "False"), STALE)))
    )
    assert merge(merged, wanted, OURS) is None
    assert merge(merged, None, OURS) is None, "a set that left us is not touched"


def test_our_own_condition_that_ended_goes() -> None:
    before = gateway((condition("Accepted"),), ("https", (condition("Accepted"), condition("OverlappingTLSConfig"))))
    wanted = gateway((condition("Accepted"),), ("https", (condition("Accepted"),)))
    assert merge(before, wanted, OURS) == wanted


@pytest.mark.parametrize(
    "status",
    [
        gateway((condition("Accepted"), STALE), ("http", (condition("Accepted"), STALE))),
        RouteStatus(parents=(parent("theirs", THEIRS), parent("edge"))),
        BackendStatus(conditions=(STALE, condition("Accepted"))),
    ],
)
def test_nothing_is_written_when_nothing_differs(status: GatewayStatus | RouteStatus | BackendStatus) -> None:
    """Also not when others' parts stand somewhere else than we would put them."""
    ours: GatewayStatus | RouteStatus | BackendStatus
    match status:
        case GatewayStatus():
            ours = gateway((condition("Accepted"),), ("http", (condition("Accepted"),)))
        case RouteStatus():
            ours = RouteStatus(parents=(parent("edge"),))
        case BackendStatus():
            ours = BackendStatus(conditions=(condition("Accepted"),))
    assert merge(status, ours, OURS) is None


def test_other_controllers_parents_stay_and_stale_ones_of_ours_go() -> None:
    foreign = parent("edge", THEIRS, condition("Accepted", "False", generation=7))
    before = RouteStatus(parents=(parent("old"), foreign, parent("edge", OURS, condition("Accepted", "False"))))
    wanted = RouteStatus(parents=(parent("edge"), parent("new")))
    merged = merge(before, wanted, OURS)
    assert merged == RouteStatus(parents=(foreign, parent("edge"), parent("new")))


def test_a_route_that_left_us_keeps_only_others_entries() -> None:
    foreign = parent("edge", THEIRS)
    assert merge(RouteStatus(parents=(foreign, parent("edge"))), None, OURS) == RouteStatus(parents=(foreign,))
    assert merge(RouteStatus(parents=(foreign,)), None, OURS) is None
    assert merge(None, None, OURS) is None


def test_other_controllers_ancestors_stay_and_there_are_at_most_sixteen() -> None:
    foreign = ancestor("edge", THEIRS, condition("Accepted", "False", generation=7))
    before = PolicyStatus(ancestors=(ancestor("old"), foreign, ancestor("edge", OURS, condition("Accepted", "False"))))
    wanted = PolicyStatus(ancestors=(ancestor("edge"), ancestor("new")))
    assert merge(before, wanted, OURS) == PolicyStatus(ancestors=(foreign, ancestor("edge"), ancestor("new")))
    assert merge(before, None, OURS) == PolicyStatus(ancestors=(foreign,))
    assert (
        merge(PolicyStatus(ancestors=(ancestor("a"), foreign)), PolicyStatus(ancestors=(ancestor("a"),)), OURS) is None
    )
    assert merge(None, wanted, OURS) == wanted

    others = tuple(ancestor(f"g{i}", THEIRS) for i in range(MAX_ANCESTORS - 1))
    merged = merge(PolicyStatus(ancestors=others), wanted, OURS)
    assert merged == PolicyStatus(ancestors=(*others, ancestor("edge")))
    assert merge(merged, wanted, OURS) is None, "what there is no room for is not tried again and again"


def test_other_controllers_ancestors_of_an_xbackend_stay() -> None:
    def ancestor(name: str, controller: str) -> XBackendAncestorStatus:
        conditions = (condition("Accepted"),)
        ref = ParentReference(name=name)
        return XBackendAncestorStatus(ancestor_ref=ref, controller_name=controller, conditions=conditions)

    foreign = ancestor("edge", THEIRS)
    before = XBackendStatus(ancestors=(ancestor("old", OURS), foreign))
    wanted = XBackendStatus(ancestors=(ancestor("edge", OURS),))
    assert merge(before, wanted, OURS) == XBackendStatus(ancestors=(foreign, ancestor("edge", OURS)))
    assert merge(before, None, OURS) == XBackendStatus(ancestors=(foreign,))


def test_a_policy_is_not_written_over_a_later_generation() -> None:
    before = PolicyStatus(ancestors=(ancestor("edge", OURS, condition("Accepted", generation=3)),))
    assert (
        merge(before, PolicyStatus(ancestors=(ancestor("edge", OURS, condition("Accepted", "False")),)), OURS) is None
    )


def test_a_gateway_that_left_us_is_not_touched() -> None:
    assert merge(gateway((condition("Accepted"),)), None, OURS) is None


def test_a_first_status_is_written_whole() -> None:
    wanted = RouteStatus(parents=(parent("edge"),))
    assert merge(None, wanted, OURS) == wanted


def test_nothing_is_written_over_a_later_generation() -> None:
    """What is there was made from a newer object than our copy; a new copy is on its way."""
    before = gateway((condition("Accepted", generation=3),))
    wanted = gateway((condition("Accepted", "False", generation=2),))
    assert merge(before, wanted, OURS) is None
    foreign = RouteStatus(parents=(parent("edge", THEIRS, condition("Accepted", generation=9)),))
    assert merge(foreign, RouteStatus(parents=(parent("edge"),)), OURS) is not None


def test_lists_stay_within_the_api_s_limits_and_nothing_foreign_is_cut() -> None:
    foreign = tuple(condition(f"example.com/T{i}") for i in range(MAX_CONDITIONS - 1))
    merged = merge(BackendStatus(conditions=foreign), BackendStatus(conditions=(condition("Accepted"),)), OURS)
    assert isinstance(merged, BackendStatus)
    assert merged.conditions == (condition("Accepted"), *foreign)

    others = tuple(parent(f"p{i}", THEIRS) for i in range(MAX_PARENTS - 1))
    routes = merge(RouteStatus(parents=others), RouteStatus(parents=(parent("a"), parent("b"))), OURS)
    assert routes == RouteStatus(parents=(*others, parent("a")))


def test_merging_again_changes_nothing() -> None:
    before = gateway((STALE, condition("Accepted", "Unknown")), ("http", (STALE,)))
    wanted = gateway((condition("Accepted"),), ("http", (condition("Accepted"), condition("Programmed"))))
    merged = merge(before, wanted, OURS)
    assert merged is not None
    assert merge(merged, wanted, OURS) is None
    assert merge(msgspec.convert(msgspec.to_builtins(merged), GatewayStatus), wanted, OURS) is None
