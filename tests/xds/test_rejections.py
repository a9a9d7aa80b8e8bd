"""What a proxy refuses: the culprit is found, its neighbours arrive, and it is not sent again until it changes."""

from __future__ import annotations

import pytest
from tests.xds.scripted import URLS, Clock, Heard, Script, Sent, flight

from tripylon.xds.cache import Group
from tripylon.xds.subscription import split_suspects

NAMES = tuple(f"rc/{number}" for number in range(8))


def subscribed(group: Group, kind: str, names: tuple[str, ...] = NAMES, number: int = 1) -> tuple[Script, list[Sent]]:
    """A stream that has asked for one type."""
    script = Script(group, Clock(), number)
    if kind == "VHDS":
        script.say("RDS", "rc")
        script.ack("RDS")
        return script, script.say("VHDS")
    return script, script.say(kind, *(names if kind in ("EDS", "SDS", "RDS", "ECDS") else ()))


def settle(script: Script, kind: str, sent: list[Sent], bad: dict[str, str], *, named: bool = False) -> list[Sent]:
    """Plays a proxy that refuses every response with a bad resource, until nothing more is sent; returns all sent."""
    whole = list(sent)
    while sent:
        script_response = script.last[URLS[kind]].batch
        complaints = [f"{bad[r.name]}{r.name if named else ''}" for r in script_response.resources if r.name in bad]
        sent = script.nack(kind, "; ".join(complaints)) if complaints else script.ack(kind)
        whole += sent
    return whole


def group_of(kind: str, heard: Heard) -> Group:
    group = Group(on_event=heard)
    group.publish(flight(RDS={"rc": "1"}))
    group.publish(flight(**{kind: dict.fromkeys(NAMES, "1")}))
    return group


@pytest.mark.parametrize("kind", ["EDS", "SDS", "RDS", "VHDS", "SRDS", "ECDS", "LDS"])
@pytest.mark.parametrize("bad", [("rc/5",), ("rc/0", "rc/7"), NAMES])
def test_only_the_culprits_are_rejected(kind: str, bad: tuple[str, ...]) -> None:
    heard = Heard()
    group = group_of(kind, heard)
    script, sent = subscribed(group, kind)
    whole = settle(script, kind, sent, dict.fromkeys(bad, "no good"))
    assert sorted(heard.rejected()) == [(kind, name, "no good") for name in sorted(bad)]
    assert {name for _, name, _ in heard.rejected()} == set(bad)
    assert {name for (url, name) in group.refusals if url == URLS[kind]} == set(bad)
    good_in_last = {name for _, names, _ in whole[1:] for name in names} - set(bad)
    assert good_in_last == set(NAMES) - set(bad)  # sent again, apart from the culprits
    held = script.session._stream._types[URLS[kind]].sent
    assert {name for name, version in held.items() if version and name in NAMES} == set(NAMES) - set(bad)


def test_one_culprit_among_many_costs_a_logarithm() -> None:
    heard = Heard()
    names = tuple(f"rc/{number}" for number in range(1000))
    group = Group(on_event=heard)
    group.publish(flight(RDS={"rc": "1"}, VHDS=dict.fromkeys(names, "1")))
    script, sent = subscribed(group, "VHDS")
    whole = settle(script, "VHDS", sent, {"rc/700": "no good"})
    assert heard.rejected() == [("VHDS", "rc/700", "no good")]
    assert len(whole) <= 2 * 10 + 1


def test_names_in_the_message_are_tried_first() -> None:
    assert split_suspects(("a1", "b2", "c3"), "cluster(s) b2: wrong") == [("b2",), ("a1", "c3")]
    assert split_suspects(("a1", "b2", "c3"), "something") == [("a1",), ("b2", "c3")]
    assert split_suspects(("a1", "b2"), "a1 and b2") == [("a1",), ("b2",)]
    heard = Heard()
    group = group_of("LDS", heard)
    script, sent = subscribed(group, "LDS")
    whole = settle(script, "LDS", sent, {"rc/5": "no good: "}, named=True)
    assert heard.rejected() == [("LDS", "rc/5", "no good: rc/5")]
    assert len(whole) == 3


def test_clusters_are_isolated_without_waiting() -> None:
    """Envoy withholds the answers for clusters, so all parts go out at once."""
    heard = Heard()
    group = group_of("CDS", heard)
    script, _ = subscribed(group, "CDS")
    assert script.nack("CDS", "rc/5: no good; rc/6: no good") == [
        ("CDS", ("rc/5",), ()),
        ("CDS", ("rc/6",), ()),
        ("CDS", tuple(name for name in NAMES if name not in ("rc/5", "rc/6")), ()),
    ]
    flying = list(script.session._stream._types[URLS["CDS"]].flying)
    assert script.say("CDS", nonce=flying[0], error="no good") == []
    assert script.say("CDS", nonce=flying[1], error="no good") == []
    assert script.say("CDS", nonce=flying[2]) == []
    assert heard.rejected() == [("CDS", "rc/5", "no good"), ("CDS", "rc/6", "no good")]


def test_a_rejected_version_is_not_sent_again_until_it_changes() -> None:
    heard = Heard()
    group = group_of("VHDS", heard)
    script, sent = subscribed(group, "VHDS")
    settle(script, "VHDS", sent, {"rc/3": "no good"})
    group.publish(flight(VHDS={"rc/4": "2"}))
    assert script.sent() == [("VHDS", ("rc/4",), ())]
    assert script.ack("VHDS") == []
    group.publish(flight(VHDS={"rc/3": "2"}))
    assert group.refusals == {}
    assert script.sent() == [("VHDS", ("rc/3",), ())]
    assert script.ack("VHDS") == []
    assert group.settled == group.flight or script.session.waits_for()


def test_a_proxy_keeps_the_old_version_and_gets_it_back_without_a_change() -> None:
    heard = Heard()
    group = group_of("VHDS", heard)
    script, _ = subscribed(group, "VHDS")
    script.ack("VHDS")
    group.publish(flight(VHDS={"rc/3": "bad"}))
    script.sent()
    assert script.nack("VHDS") == []
    group.publish(flight(VHDS={"rc/3": "1"}))
    assert script.sent() == [("VHDS", ("rc/3",), ())]
    script.ack("VHDS")
    group.publish(flight(VHDS={"rc/3": "bad"}))
    script.sent()
    script.nack("VHDS")
    group.publish(flight(VHDS={"rc/3": None}))
    assert script.sent() == [("VHDS", (), ("rc/3",))]


def test_clusters_stay_while_a_proxy_clings_to_older_routes() -> None:
    group = Group(grace_s=0.0)
    group.publish(flight(CDS={"a": "1", "b": "1"}, LDS={"l": "rds:rc"}, RDS={"rc": "cds:a"}))
    script = Script(group, Clock())
    script.say("CDS")
    script.say("LDS")
    script.ack("LDS")
    script.say("RDS", "rc")
    script.ack("RDS")
    group.publish(flight(CDS={"a": None}, RDS={"rc": "cds:b bad"}))
    assert script.sent() == [("RDS", ("rc",), ())]
    assert script.nack("RDS") == []
    assert group.settled == group.flight  # nothing more will come of this flight
    assert script.pass_time(100) == []
    group.publish(flight(RDS={"rc": "cds:b"}))
    assert script.sent() == [("RDS", ("rc",), ())]
    assert script.ack("RDS") == [("CDS", (), ("a",))]


def test_a_changed_resource_amid_isolation_is_sent_as_it_is_then() -> None:
    heard = Heard()
    group = group_of("VHDS", heard)
    script, _ = subscribed(group, "VHDS")
    script.nack("VHDS")
    group.publish(flight(VHDS={"rc/0": "2", "rc/7": None}))
    whole = settle(script, "VHDS", script.sent() or [("VHDS", (), ())], {})
    assert heard.rejected() == []
    held = script.session._stream._types[URLS["VHDS"]].sent
    assert held == {name: found.version for name, found in group.resources(URLS["VHDS"]).items()}
    assert all("rc/7" not in names for _, names, _ in whole)


def test_what_one_proxy_refused_goes_alone_to_the_next() -> None:
    heard = Heard()
    group = group_of("VHDS", heard)
    first, sent = subscribed(group, "VHDS")
    settle(first, "VHDS", sent, {"rc/3": "no good"})
    second, sent = subscribed(group, "VHDS", number=2)
    rest = tuple(name for name in NAMES if name != "rc/3")
    assert sent == [("VHDS", rest, ())]
    assert second.ack("VHDS") == [("VHDS", ("rc/3",), ())]
    second.ack("VHDS")
    assert group.refusals == {}  # this one takes it


def test_removals_beside_a_culprit_are_done() -> None:
    heard = Heard()
    group = group_of("VHDS", heard)
    script, _ = subscribed(group, "VHDS")
    script.ack("VHDS")
    group.publish(flight(VHDS={"rc/0": None, "rc/1": "bad"}))
    assert script.sent() == [("VHDS", ("rc/1",), ("rc/0",))]
    assert script.nack("VHDS") == [("VHDS", (), ("rc/0",))]
    assert script.ack("VHDS") == [("VHDS", ("rc/1",), ())]
    assert script.nack("VHDS") == []
    assert heard.rejected() == [("VHDS", "rc/1", "bad")]


def test_a_refused_listener_is_no_reason_to_wait_for_its_routes() -> None:
    group = Group()
    script = Script(group, Clock())
    script.say("CDS")
    script.say("LDS")
    script.ack("LDS")
    group.publish(flight(LDS={"l": "rds:rc"}, RDS={"rc": "1"}, VHDS={"rc/x": "1"}))
    script.sent()
    assert group.settled == 0
    script.nack("LDS")
    assert group.settled == 1


def test_a_removal_that_is_held_is_not_done_by_isolation() -> None:
    group = Group(grace_s=5.0)
    group.publish(flight(LDS={"l": "1"}, CDS={"a": "1", "b": "1"}, EDS={"a": "1", "b": "1"}))
    script = Script(group, Clock())
    script.say("LDS")
    script.ack("LDS")
    script.say("EDS", "a", "b")
    script.ack("EDS")
    group.publish(flight(EDS={"a": "2", "b": "2"}))
    script.sent()
    group.publish(flight(CDS={"a": None}, EDS={"a": None}, LDS={"l": "2"}))
    script.sent()
    assert script.nack("EDS") == [("EDS", ("b",), ())]
    script.ack("EDS")
    script.ack("LDS")
    assert script.pass_time(5) == [("EDS", (), ("a",))]


def test_a_refused_resource_is_sent_again_when_asked_to() -> None:
    group = Group()
    group.publish(flight(LDS={"l": "1"}))
    script = Script(group, Clock())
    script.say("LDS")
    script.nack("LDS", "cannot bind: address in use")
    group.retry(URLS["LDS"], "l")
    assert script.sent() == [("LDS", ("l",), ())]
    script.ack("LDS")
    assert group.refusals == {}
    group.retry(URLS["LDS"], "l")
    assert script.sent() == []
