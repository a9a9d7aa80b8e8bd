"""Scripted streams: what is sent when, first connect to removal."""

from __future__ import annotations

import pytest
from tests.xds.scripted import URLS, Clock, Heard, Script, Sent, flight, resource

from tripylon.xds.cache import Group
from tripylon.xds.events import Acked, Connected, Disconnected

SITE = {
    "CDS": {"a": "eds:a", "b": "eds:b"},
    "EDS": {"a": "1", "b": "1"},
    "LDS": {"l": "rds:rc"},
    "RDS": {"rc": ""},
    "VHDS": {"rc/x": "cds:a", "rc/y": "cds:b"},
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group() -> Group:
    made = Group(grace_s=5.0)
    made.publish(flight(**SITE))
    return made


def connected(group: Group, clock: Clock, number: int = 1) -> Script:
    """A stream whose proxy has and has acknowledged everything."""
    script = Script(group, clock, number)
    script.say("CDS")
    script.say("EDS", "a", "b")
    script.ack("CDS")
    script.ack("EDS")
    script.say("LDS")
    script.ack("LDS")
    script.say("RDS", "rc")
    script.ack("RDS")
    script.say("VHDS")
    assert script.ack("VHDS") == []
    assert script.session.settled == group.flight
    return script


def versions(group: Group, kind: str) -> dict[str, str]:
    return {name: held.version for name, held in group.resources(URLS[kind]).items()}


def reconnected(group: Group, clock: Clock, had: Group) -> tuple[Script, list[object]]:
    """A stream of a proxy that has what `had` says, and all that it is sent at first."""
    script = Script(group, clock, 2)
    sent: list[object] = []
    sent += script.say("CDS", known=versions(had, "CDS"))
    sent += script.say("LDS", known=versions(had, "LDS"))
    sent += script.say("RDS", "rc", known=versions(had, "RDS"))
    sent += script.say("VHDS", known=versions(had, "VHDS"))
    sent += script.say("EDS", *versions(had, "EDS"), known=versions(had, "EDS"))
    return script, sent


def test_first_connect(group: Group, clock: Clock) -> None:
    script = Script(group, clock)
    assert script.say("CDS") == [("CDS", ("a", "b"), ())]
    assert script.say("EDS", "a", "b") == [("EDS", ("a", "b"), ())]
    assert script.ack("CDS") == []
    assert script.ack("EDS") == []
    assert script.say("LDS") == [("LDS", ("l",), ())]
    assert script.say("RDS", "rc") == [("RDS", ("rc",), ())]
    assert script.ack("LDS") == []
    assert script.say("VHDS") == [("VHDS", ("rc/x", "rc/y"), ())]
    assert script.session.settled == 0
    script.ack("RDS")
    script.ack("VHDS")
    assert script.session.settled == 1


def test_an_empty_group_is_said_to_be_empty(clock: Clock) -> None:
    script = Script(Group(), clock)
    assert script.say("CDS") == [("CDS", (), ())]
    assert script.say("LDS") == [("LDS", (), ())]
    assert script.ack("CDS") == script.ack("LDS") == []


def test_reconnect_with_the_same_versions_sends_nothing(group: Group, clock: Clock) -> None:
    restarted = Group()
    restarted.publish(flight(**SITE))
    script, sent = reconnected(restarted, clock, group)
    assert sent == []
    assert restarted.counters.pushes == 0
    assert script.session.settled == restarted.flight


def test_reconnect_sends_what_differs_and_takes_away_what_is_unknown(group: Group, clock: Clock) -> None:
    restarted = Group(grace_s=5.0)
    restarted.publish(flight(**{**SITE, "VHDS": {"rc/x": "cds:a changed"}, "CDS": {"a": "eds:a"}, "EDS": {"a": "2"}}))
    script, sent = reconnected(restarted, clock, group)
    assert sent == [("VHDS", ("rc/x",), ("rc/y",)), ("EDS", ("a",), ())]
    script.ack("EDS")
    assert script.pass_time(60) == []  # the old virtual host may still use cluster b
    assert script.ack("VHDS") == []
    assert script.session.deadline == clock.now + 5
    assert script.pass_time(4.9) == []
    assert script.pass_time(0.2) == [("CDS", (), ("b",)), ("EDS", (), ("b",))]
    assert script.session.deadline is None


def test_reconnect_with_a_changed_cluster_sends_its_endpoints_again(group: Group, clock: Clock) -> None:
    restarted = Group()
    restarted.publish(flight(**{**SITE, "CDS": {"a": "eds:a changed", "b": "eds:b"}}))
    _, sent = reconnected(restarted, clock, group)
    assert sent == [("CDS", ("a",), ()), ("EDS", ("a",), ())]


def test_one_flight_goes_out_in_order_at_once(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    wakes = script.wakes
    group.publish(flight(VHDS={"rc/z": "cds:c"}, RDS={"rc": "new"}, EDS={"c": "1"}, CDS={"c": "eds:c"}))
    assert script.wakes > wakes
    assert script.sent() == [("CDS", ("c",), ()), ("EDS", ("c",), ()), ("RDS", ("rc",), ()), ("VHDS", ("rc/z",), ())]
    assert script.say("EDS", "c") == []  # it was sent ahead
    script.ack("EDS")
    assert script.say("EDS", "c") == [("EDS", ("c",), ())]  # asked for again
    assert group.settled == 1
    script.ack("RDS")
    script.ack("VHDS")
    assert group.settled == 2


def test_equal_resources_make_no_flight(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    wakes = script.wakes
    assert group.publish(flight(**SITE)) == 1
    assert group.publish({}) == 1
    assert group.publish(flight(CDS={"nobody": None})) == 1
    assert (script.sent(), script.wakes) == ([], wakes)
    with pytest.raises(ValueError, match="no resource type"):
        group.publish({"type.googleapis.com/nothing": {}})


def test_endpoints_follow_each_version_of_their_cluster(clock: Clock) -> None:
    group = Group(endpoints_of=lambda cluster: None if cluster == "static" else f"e-{cluster}")
    group.publish(flight(CDS={"a": "1"}, EDS={"e-a": "1"}))
    script = Script(group, clock)
    script.say("CDS")
    script.say("EDS", "e-a")
    script.ack("EDS")
    group.publish(flight(CDS={"a": "2", "static": "1"}))
    assert script.sent() == [("CDS", ("a", "static"), ()), ("EDS", ("e-a",), ())]


def test_clusters_never_wait_for_an_acknowledgement(group: Group, clock: Clock) -> None:
    script = Script(group, clock)
    script.say("CDS")
    script.say("EDS", "a", "b")
    for name in ("c", "d"):
        group.publish(flight(CDS={name: f"eds:{name}"}, EDS={name: "1"}))
        assert script.sent() == [("CDS", (name,), ()), ("EDS", (name,), ())]
    group.publish(flight(EDS={"a": "2"}))
    assert script.sent() == []  # endpoints alone wait for the acknowledgement of the last endpoints
    assert len(script.session._stream._types[URLS["CDS"]].flying) == 3


def test_endpoints_of_the_first_cluster_go_ahead_of_the_first_subscription(clock: Clock) -> None:
    group = Group()
    script = Script(group, clock)
    script.say("CDS")
    group.publish(flight(CDS={"a": "eds:a"}, EDS={"a": "1"}))
    assert script.sent() == [("CDS", ("a",), ()), ("EDS", ("a",), ())]
    assert script.say("EDS", "a") == [("EDS", ("a",), ())]  # Envoy may have dropped what came before it asked


def test_endpoints_that_change_before_they_are_asked_for_are_sent_again(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(CDS={"c": "eds:c"}, EDS={"c": "none yet"}))
    assert script.sent() == [("CDS", ("c",), ()), ("EDS", ("c",), ())]
    group.publish(flight(EDS={"c": "1"}))
    assert script.sent() == []  # the first ones are in the air
    assert script.say("EDS", "c") == []
    assert script.ack("EDS") == [("EDS", ("c",), ())]
    assert script.last[URLS["EDS"]].batch.resources[0] == resource("EDS", "c", "1")


def test_changes_merge_while_a_response_is_unacknowledged(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(VHDS={"rc/x": "cds:a 2"}))
    assert script.sent() == [("VHDS", ("rc/x",), ())]
    for words in ("3", "4"):
        group.publish(flight(VHDS={"rc/x": f"cds:a {words}", "rc/z": "cds:a"}))
        assert script.sent() == []
    group.publish(flight(VHDS={"rc/z": None, "rc/w": "cds:a"}))
    assert script.ack("VHDS") == [("VHDS", ("rc/x", "rc/w"), ())]
    assert script.last[URLS["VHDS"]].batch.resources[0] == resource("VHDS", "rc/x", "cds:a 4")


def test_a_change_taken_back_in_time_is_not_sent(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(VHDS={"rc/x": "cds:a 2"}))
    group.publish(flight(VHDS={"rc/x": "cds:a"}))
    assert script.sent() == []
    assert group.settled == group.flight


def test_a_slow_proxy_is_sent_only_the_last_of_many(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    for round_ in range(100):  # nothing is read from the session, as while a write blocks
        group.publish(flight(CDS={"a": f"eds:a {round_}"}, VHDS={"rc/x": f"cds:a {round_}"}))
    assert script.sent() == [("CDS", ("a",), ()), ("EDS", ("a",), ()), ("VHDS", ("rc/x",), ())]


def test_clusters_go_after_the_routes_and_a_grace(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(CDS={"b": None}, EDS={"b": None}, VHDS={"rc/y": None}))
    assert script.sent() == [("VHDS", (), ("rc/y",))]
    assert script.session.deadline is None
    assert script.pass_time(100) == []
    assert script.ack("VHDS") == []
    assert script.pass_time(4.9) == []
    assert script.pass_time(0.1) == [("CDS", (), ("b",)), ("EDS", (), ("b",))]
    assert script.say("EDS", drop=("b",)) == []


def test_a_cluster_added_again_in_its_grace_stays(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(CDS={"b": None}, EDS={"b": None}, VHDS={"rc/y": None}))
    script.sent()
    script.ack("VHDS")
    group.publish(flight(CDS={"b": "eds:b"}, EDS={"b": "1"}, VHDS={"rc/y": "cds:b"}))
    assert script.sent() == [("VHDS", ("rc/y",), ())]
    assert script.session.deadline is None
    assert script.pass_time(100) == []


def test_a_proxy_without_routes_does_not_hold_up_the_others(group: Group, clock: Clock) -> None:
    healthy = connected(group, clock)
    sick = Script(group, clock, 2)
    sick.say("CDS")
    sick.say("EDS", "a", "b")
    group.publish(flight(CDS={"b": None}, EDS={"b": None}, VHDS={"rc/y": None}))
    healthy.sent()
    healthy.ack("VHDS")
    assert healthy.pass_time(5) == [("CDS", (), ("b",)), ("EDS", (), ("b",))]
    assert sick.sent() == []
    assert (healthy.session.settled, sick.session.settled, group.settled) == (2, 0, 0)
    assert sick.session.waits_for() == {
        URLS["LDS"]: ("l",),
        URLS["RDS"]: ("rc",),
        URLS["VHDS"]: ("rc/x",),
    }


def test_routes_and_listeners_go_at_once(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(LDS={"l": None}, RDS={"rc": None}, VHDS={"rc/x": None, "rc/y": None}))
    assert script.sent() == [("LDS", (), ("l",)), ("RDS", (), ("rc",))]
    for kind in ("LDS", "RDS"):
        script.ack(kind)
    assert group.settled == 2
    assert script.say("RDS", drop=("rc",)) == []


def test_virtual_hosts_stay_with_a_route_configuration_that_goes(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(LDS={"l": None}, RDS={"rc": None}, VHDS={"rc/x": None, "rc/y": None}))
    assert script.sent() == [("LDS", (), ("l",)), ("RDS", (), ("rc",))]
    script.ack("LDS")
    script.ack("RDS")
    group.publish(flight(LDS={"l": "rds:rc"}, RDS={"rc": "vhds"}, VHDS={"rc/x": "cds:b"}))
    assert ("VHDS", ("rc/x",), ("rc/y",)) in script.sent()


def test_names_that_do_not_exist_are_answered(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    assert script.say("EDS", "a", "ghost") == [("EDS", ("a",), ("ghost",))]
    assert script.say("SDS", "secret") == [("SDS", (), ("secret",))]
    assert script.say("RDS", "none") == [("RDS", (), ("none",))]
    script.ack("EDS")
    script.ack("SDS")
    group.publish(flight(EDS={"ghost": "1"}, SDS={"secret": "1"}))
    assert script.sent() == [("EDS", ("ghost",), ()), ("SDS", ("secret",), ())]


def test_a_route_configuration_without_virtual_hosts_is_answered(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    group.publish(flight(LDS={"m": "rds:bare"}, RDS={"bare": ""}))
    assert script.sent() == [("LDS", ("m",), ())]
    assert script.ack("LDS") == []
    assert group.settled == 1  # the proxy has yet to ask for the routes
    assert script.say("RDS", "bare") == [("RDS", ("bare",), ()), ("VHDS", (), ("bare/",))]
    script.ack("RDS")
    script.ack("VHDS")
    assert group.settled == 2


def test_virtual_hosts_come_again_with_a_route_configuration_that_was_dropped(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    assert script.say("RDS", drop=("rc",)) == []
    group.publish(flight(VHDS={"rc/x": "cds:a 2"}))
    assert script.sent() == []
    assert script.say("RDS", "rc") == [("RDS", ("rc",), ()), ("VHDS", ("rc/x", "rc/y"), ())]


def test_secrets_go_out_with_the_cluster_that_names_them(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    script.say("SDS", "old")
    script.ack("SDS")
    group.publish(flight(CDS={"c": "eds:c sds:s"}, EDS={"c": "1"}, SDS={"s": "1"}, VHDS={"rc/z": "cds:c"}))
    assert [kind for kind, _, _ in script.sent()] == ["CDS", "EDS", "SDS", "VHDS"]
    assert script.say("SDS", "s") == []
    script.ack("SDS")
    script.ack("VHDS")
    group.publish(flight(CDS={"c": None}, EDS={"c": None}, SDS={"s": None}, VHDS={"rc/z": None}))
    assert script.sent() == [("VHDS", (), ("rc/z",))]
    script.ack("EDS")
    script.ack("VHDS")
    assert script.pass_time(5) == [("CDS", (), ("c",)), ("EDS", (), ("c",)), ("SDS", (), ("s",))]


def test_scopes_are_sent_to_whoever_wants_all(clock: Clock) -> None:
    group = Group()
    script = Script(group, clock)
    assert script.say("SRDS") == [("SRDS", (), ())]
    script.ack("SRDS")
    group.publish(flight(LDS={"l": "1"}, SRDS={"t|*": "1", "t|a": "1", "t|b": "1"}))
    script.say("LDS")
    assert script.sent() == []
    script.ack("LDS")
    script.ack("SRDS")
    group.publish(flight(SRDS={"t|a": None, "t|b": "2"}))
    assert script.sent() == [("SRDS", ("t|b",), ("t|a",))]


def test_scopes_outlive_their_table(clock: Clock) -> None:
    group = Group(grace_s=5, linger_s=60)
    group.publish(flight(LDS={"l": "1"}, SRDS={"t|*": "1", "t|a": "1", "u|*": "1"}))
    script = Script(group, clock)
    script.say("SRDS")
    script.say("LDS")
    script.ack("SRDS")
    script.ack("LDS")
    group.publish(flight(LDS={"l": "2"}, SRDS={"t|*": None, "t|a": None}))
    assert script.sent() == [("LDS", ("l",), ())]
    assert script.pass_time(300) == []  # the proxy may still have the listener of before
    script.ack("LDS")
    assert script.pass_time(59) == []
    assert script.pass_time(2) == [("SRDS", (), ("t|*", "t|a"))]


def test_what_scopes_of_before_lead_to_stays_as_long_as_they(clock: Clock) -> None:
    group = Group(grace_s=5, linger_s=60)
    group.publish(flight(CDS={"a": "", "b": ""}, LDS={"l": "1"}, SRDS={"t|*": "1", "t|x": "cds:a", "u|*": "1"}))
    script = Script(group, clock)
    for kind in ("CDS", "SRDS", "LDS"):
        script.say(kind)
        script.ack(kind)
    group.publish(flight(LDS={"l": "2"}, SRDS={"t|*": None, "t|x": None}))
    script.sent()
    script.ack("LDS")
    group.publish(flight(CDS={"a": None}))
    assert script.pass_time(30) == []
    assert script.pass_time(31) == [("SRDS", (), ("t|*", "t|x"))]
    script.ack("SRDS")
    assert script.pass_time(60) == [("CDS", (), ("a",))]
    group.publish(flight(CDS={"b": None}))
    script.sent()
    assert script.pass_time(6) == [("CDS", (), ("b",))]


def test_a_refused_scope_goes_with_its_table(clock: Clock) -> None:
    group = Group(grace_s=5, linger_s=60)
    group.publish(flight(CDS={"a": "", "b": ""}, LDS={"l": "1"}, SRDS={"t|*": "1", "t|x": "1"}))
    script = Script(group, clock)
    for kind in ("CDS", "SRDS", "LDS"):
        script.say(kind)
        script.ack(kind)
    group.publish(flight(SRDS={"t|x": "2"}))
    script.sent()
    script.nack("SRDS", "bad")
    group.publish(flight(CDS={"a": None}, LDS={"l": "2"}, SRDS={"t|*": None, "t|x": None}))
    script.sent()
    script.ack("LDS")
    assert script.pass_time(66) == [("CDS", (), ("a",)), ("SRDS", (), ("t|*", "t|x"))]


def test_a_table_that_comes_back_has_no_scopes_of_before(clock: Clock) -> None:
    group = Group(linger_s=60)
    group.publish(flight(SRDS={"t|*": "1", "t|a": "1", "t|b": "1"}))
    script = Script(group, clock)
    script.say("SRDS")
    script.ack("SRDS")
    group.publish(flight(SRDS={"t|*": None, "t|a": None, "t|b": None}))
    assert script.pass_time(10) == []
    group.publish(flight(SRDS={"t|*": "1", "t|a": "1"}))
    assert script.sent() == [("SRDS", (), ("t|b",))]


def test_much_goes_out_in_portions_one_after_the_other(clock: Clock) -> None:
    group = Group(grace_s=5.0)
    names = [str(number) for number in range(2_500)]
    group.publish(flight(CDS={name: f"eds:{name}" for name in names}, EDS=dict.fromkeys(names, "1")))
    group.publish(flight(SRDS={"t|*": "", **{f"t|{name}": f"cds:{name}" for name in names}}))
    script = Script(group, clock)
    assert [(kind, len(sent)) for kind, sent, _ in script.say("CDS")] == [("CDS", 1000), ("CDS", 1000), ("CDS", 500)]
    assert [len(sent) for _, sent, _ in script.say("EDS", *names)] == [1000, 1000, 500]
    for kind in ("CDS", "EDS"):
        acknowledge_all(script, kind)
    sent = script.say("SRDS")
    assert [len(carried) for _, carried, _ in sent] == [1000, 1000, 501]
    assert {name for _, carried, _ in sent for name in carried} == group.resources(URLS["SRDS"]).keys()
    script.ack("SRDS")
    assert script.session.settled < group.flight  # the last alone is not enough
    group.publish(flight(SRDS={"t|7": "cds:7 new", "t|8": None}))
    assert script.sent() == []
    assert acknowledge_all(script, "SRDS") == [("SRDS", ("t|7",), ("t|8",))]
    script.ack("SRDS")
    assert script.session.settled == group.flight


def test_one_bad_scope_of_many_portions_is_found(clock: Clock) -> None:
    heard = Heard()
    group = Group(on_event=heard)
    group.publish(flight(SRDS={"t|*": "", **{f"t|{number}": "1" for number in range(2_000)}}))
    script = Script(group, clock)
    script.say("SRDS")
    subscription = script.session._stream._types[URLS["SRDS"]]
    while subscription.flying:
        nonce, batch = next(iter(subscription.flying.items()))
        bad = any(each.name == "t|5" for each in batch.resources)
        script.say("SRDS", nonce=nonce, error="one is bad" if bad else "")
    assert heard.rejected() == [("SRDS", "t|5", "one is bad")]
    assert subscription.sent.keys() == group.resources(URLS["SRDS"]).keys() - {"t|5"}


def acknowledge_all(script: Script, kind: str) -> list[Sent]:
    """Acknowledges every response that is in the air; what is sent then."""
    return [each for nonce in script.flying(kind) for each in script.say(kind, nonce=nonce)]


LANE = {**SITE, "LDS": {"l": "rds:rc ecds:f"}, "ECDS": {"f": "cds:a"}}


def with_a_filter(clock: Clock) -> tuple[Group, Script]:
    """A group whose listener has a filter by ECDS, and a stream that has everything of it."""
    group = Group(grace_s=5.0)
    group.publish(flight(**SITE))
    script = connected(group, clock)
    group.publish(flight(LDS=LANE["LDS"], ECDS=LANE["ECDS"]))
    assert script.sent() == [("LDS", ("l",), ())]
    script.ack("LDS")
    assert script.session.waits_for() == {URLS["ECDS"]: ("f",)}
    assert script.say("ECDS", "f") == [("ECDS", ("f",), ())]
    assert group.settled == 1
    script.ack("ECDS")
    assert group.settled == 2
    return group, script


def test_a_filter_changes_between_its_clusters_and_the_listeners(clock: Clock) -> None:
    group, script = with_a_filter(clock)
    changes: dict[str, dict[str, str | None]] = {
        "CDS": {"c": "eds:c", "b": None},
        "EDS": {"c": "1", "b": None},
        "ECDS": {"f": "cds:c"},
    }
    group.publish(flight(**changes, LDS={"m": "rds:rc"}, VHDS={"rc/y": None}))
    assert script.sent() == [
        ("CDS", ("c",), ()),
        ("EDS", ("c",), ()),
        ("ECDS", ("f",), ()),
        ("LDS", ("m",), ()),
        ("VHDS", (), ("rc/y",)),
    ]
    for kind in ("EDS", "LDS", "VHDS"):
        script.ack(kind)
    assert script.pass_time(100) == []  # the filter may still use what goes
    assert group.settled == 2
    script.ack("ECDS")
    assert group.settled == 3
    assert script.pass_time(5) == [("CDS", (), ("b",)), ("EDS", (), ("b",))]


def test_a_cluster_that_a_refused_filter_replaced_stays(clock: Clock) -> None:
    group, script = with_a_filter(clock)
    to_b = {"VHDS": {"rc/x": "cds:b"}, "ECDS": {"f": "bad cds:b"}}
    group.publish(flight(CDS={"a": None}, EDS={"a": None}, **to_b))
    assert script.sent() == [("ECDS", ("f",), ()), ("VHDS", ("rc/x",), ())]
    script.ack("VHDS")
    assert script.nack("ECDS") == []
    assert group.settled == group.flight  # it is refused, and told
    assert script.pass_time(100) == []
    group.publish(flight(ECDS={"f": "good cds:b"}))
    assert script.sent() == [("ECDS", ("f",), ())]
    script.ack("ECDS")
    assert script.pass_time(5) == [("CDS", (), ("a",)), ("EDS", (), ("a",))]


def test_a_filter_goes_with_its_listener(clock: Clock) -> None:
    group, script = with_a_filter(clock)
    group.publish(flight(LDS={"l": "rds:rc"}, ECDS={"f": None}))
    assert script.sent() == [("LDS", ("l",), ())]  # the old listener still drains, by its filter
    script.ack("LDS")
    assert group.settled == 3
    assert script.pass_time(600) == []
    group.publish(flight(LDS={"l": "rds:rc ecds:f"}, ECDS={"f": "cds:b"}))
    assert script.sent() == [("ECDS", ("f",), ()), ("LDS", ("l",), ())]
    script.ack("ECDS")
    group.publish(flight(LDS={"l": "rds:rc"}, ECDS={"f": None}))
    assert script.say("ECDS", drop=("f",)) == [] == script.sent()[1:]
    again = Group(grace_s=5.0)
    again.publish(flight(**SITE))
    back = Script(again, clock, 2)
    assert back.say("ECDS", "f", known={"f": "some"}) == []


def test_a_filter_that_is_not_there_is_answered_by_silence(clock: Clock) -> None:
    group, script = with_a_filter(clock)
    assert script.say("ECDS", "ghost") == []
    group.publish(flight(ECDS={"ghost": ""}))
    assert script.sent() == [("ECDS", ("ghost",), ())]


def test_streams_share_their_bytes(group: Group, clock: Clock) -> None:
    scripts = [connected(group, clock, number) for number in range(3)]
    group.publish(flight(VHDS={"rc/x": "cds:a 2"}))
    payloads = [script.session.responses(0.0)[0].payload for script in scripts]
    assert len({id(payload) for payload in payloads}) == 1


def test_reconnect_amid_a_flight(group: Group, clock: Clock) -> None:
    script = connected(group, clock)
    before = Group()
    before.publish(flight(**SITE))
    group.publish(flight(CDS={"b": None}, EDS={"b": None}, VHDS={"rc/y": None, "rc/x": "cds:a 2"}))
    script.sent()
    script.session.close()
    assert group.settled == -1
    again, sent = reconnected(group, clock, before)
    assert sent == [("VHDS", ("rc/x",), ("rc/y",))]
    again.ack("VHDS")
    assert group.settled == 2
    assert again.pass_time(5) == [("CDS", (), ("b",)), ("EDS", (), ("b",))]


def test_events_and_counters(clock: Clock) -> None:
    heard = Heard()
    group = Group(on_event=heard)
    group.publish(flight(CDS={"a": "1"}))
    script = Script(group, clock)
    script.say("CDS")
    script.ack("CDS")
    script.ack("CDS")  # a nonce that is not in the air
    script.say("CDS", nonce="unheard-of", error="late")
    script.session.close()
    script.session.close()
    url = URLS["CDS"]
    assert heard.events == [Connected(1, "node"), Acked(1, url, ("a",), ()), Disconnected(1, "node")]
    counted = group.counters
    assert (counted.pushes, counted.resources, counted.acks, counted.nacks, counted.streams) == (1, 1, 1, 1, 0)
    assert counted.sent_bytes == len(script.last[url].payload)


async def test_live_waits_for_every_proxy(group: Group, clock: Clock) -> None:
    assert not await group.live(1, timeout_s=0)  # nobody is connected
    scripts = [connected(group, clock, number) for number in (1, 2)]
    assert await group.live(1, timeout_s=0)
    number = group.publish(flight(VHDS={"rc/x": "cds:a 2"}))
    for script in scripts:
        script.sent()
    scripts[0].ack("VHDS")
    assert not await group.live(number, timeout_s=0)
    scripts[1].ack("VHDS")
    assert await group.live(number, timeout_s=0)
    number = group.publish(flight(VHDS={"rc/x": "cds:a 3"}))
    for script in scripts:
        script.sent()
    scripts[0].ack("VHDS")
    scripts[1].session.close()
    assert await group.live(number, timeout_s=0)


def test_what_goes_ahead_belongs_to_the_flight_of_what_refers_to_it(clock: Clock) -> None:
    group = Group()
    ahead = {kind: SITE[kind] for kind in ("CDS", "EDS")}
    assert group.publish(flight(**ahead), ahead=True) == 1
    assert group.flight == 0, "no flight is out yet"
    script = Script(group, clock)
    assert script.say("CDS") == [("CDS", ("a", "b"), ())]
    script.say("EDS", "a", "b")
    script.ack("CDS")
    script.ack("EDS")
    assert group.settled == 0
    assert group.publish(flight(**{kind: SITE[kind] for kind in ("LDS", "RDS", "VHDS")})) == 1
    assert group.settled == 0, "its routes are not there"
    assert script.say("LDS") == [("LDS", ("l",), ())]
    script.ack("LDS")
    script.say("RDS", "rc")
    script.ack("RDS")
    script.say("VHDS")
    script.ack("VHDS")
    assert group.settled == 1
