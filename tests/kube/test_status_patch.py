"""From one status to the next by a patch that holds nothing of anybody else's."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kube.statuses import patched

from tripylon.api.gateway import GatewayClassStatus, GatewayStatus
from tripylon.api.listener_sets import ListenerSetStatus
from tripylon.api.policies import PolicyStatus
from tripylon.api.routes import RouteStatus
from tripylon.api.x_backends import XBackendStatus
from tripylon.kube.status_patch import operations
from tripylon.status.desired import Status, status_values
from tripylon.status.merge import OWN_TYPES, merge

OURS, THEIRS = "gateway.tripylon.dev/controller", "example.com/other"
FOREIGN_TYPES = ("example.com/Audited", "example.com/Scanned")
Object = dict[str, Any]


def conditions(types: tuple[str, ...]) -> st.SearchStrategy[list[Object]]:
    def one(type: str) -> st.SearchStrategy[Object]:
        return st.fixed_dictionaries(
            {
                "type": st.just(type),
                "status": st.sampled_from(["True", "False"]),
                "reason": st.sampled_from(["Accepted", "Pending"]),
                "message": st.sampled_from(["", "well", "not well"]),
                "lastTransitionTime": st.sampled_from(["2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"]),
                "observedGeneration": st.integers(1, 2),
            }
        )

    return st.lists(st.sampled_from(types), unique=True).flatmap(
        lambda chosen: st.tuples(*map(one, chosen)).map(list),
    )


OWN = tuple(sorted(OWN_TYPES))[:4]


def foreign(entry: Object) -> Object:
    """As another controller may write it: a field that we do not know, a number that we would leave out."""
    return {**entry, "observedGeneration": 0, "unknown": {"kept": [1, 2.5, None]}}


def listeners(types: tuple[str, ...]) -> st.SearchStrategy[list[Object]]:
    kinds = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    one = st.fixed_dictionaries(
        {
            "name": st.sampled_from(["a", "b", "c"]),
            "attachedRoutes": st.integers(0, 2),
            "supportedKinds": st.sampled_from([[], kinds]),
            "conditions": conditions(types),
        }
    )
    return st.lists(one, max_size=3, unique_by=lambda each: each["name"])


def gateways(types: tuple[str, ...]) -> st.SearchStrategy[Object]:
    addresses = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), unique=True)
    return st.fixed_dictionaries(
        {
            "conditions": conditions(types),
            "listeners": listeners(types),
            "addresses": addresses.map(lambda found: [{"type": "IPAddress", "value": each} for each in found]),
        }
    )


def parents(controller: str) -> st.SearchStrategy[list[Object]]:
    ref = st.sampled_from(["a", "b"]).flatmap(
        lambda name: st.sampled_from([{"name": name}, {"name": name, "sectionName": "s"}])
    )
    one = st.tuples(ref, conditions(OWN)).map(
        lambda found: {
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", **found[0]},
            "controllerName": controller,
            "conditions": found[1],
        }
    )
    return st.lists(one, max_size=3, unique_by=lambda each: json.dumps(each["parentRef"]))


def step(raw: Object, kind: type[Status], wanted: Object) -> tuple[Object, Status, Status | None]:
    """The object after a write, the status that was there, and the one that was to be."""
    previous = msgspec.convert(raw["status"], kind)
    whole = merge(previous, msgspec.convert(wanted, kind), OURS)
    made = patched(raw, operations(previous, whole)) if whole is not None else raw
    return made, previous, whole


def by_type(found: list[Object]) -> dict[str, Object]:
    return {each["type"]: each for each in found}


@pytest.mark.parametrize("kind", [GatewayStatus, ListenerSetStatus])
@given(gateways(OWN), gateways(FOREIGN_TYPES), gateways(OWN))
def test_a_gateway_becomes_what_is_wanted_and_foreign_conditions_stay(
    kind: type[GatewayStatus | ListenerSetStatus], before: Object, others: Object, wanted: Object
) -> None:
    """Also a ListenerSet, to which the addresses are a field that nobody knows."""
    theirs = {each["name"]: [foreign(one) for one in each["conditions"]] for each in others["listeners"]}
    raw: Object = {
        "status": {
            **before,
            "conditions": [*map(foreign, others["conditions"]), *before["conditions"]],
            "listeners": [
                {**each, "conditions": [*each["conditions"], *theirs.get(each["name"], ())]}
                for each in before["listeners"]
            ],
        }
    }
    made, _, whole = step(raw, kind, wanted)
    status = made["status"]
    kept = [each for each in status["conditions"] if each["type"] in FOREIGN_TYPES]
    assert kept == [foreign(each) for each in others["conditions"]]
    for listener in status["listeners"]:
        kept = [each for each in listener["conditions"] if each["type"] in FOREIGN_TYPES]
        was_there = any(each["name"] == listener["name"] for each in before["listeners"])
        assert kept == (theirs.get(listener["name"], []) if was_there else [])
    if whole is not None:
        now = msgspec.convert(status, kind)
        assert _sorted(status_values(now)) == _sorted(status_values(whole))


@given(parents(OURS), parents(THEIRS), parents(OURS))
def test_a_route_becomes_what_is_wanted_and_foreign_parents_stay(
    before: list[Object], others: list[Object], wanted: list[Object]
) -> None:
    theirs = [{**each, "unknown": 7, "conditions": [*map(foreign, each["conditions"])]} for each in others]
    raw: Object = {"status": {"parents": [*theirs[:1], *before, *theirs[1:]], "more": "kept"}}
    made, _, _ = step(raw, RouteStatus, {"parents": wanted})
    found = made["status"]["parents"]
    assert [each for each in found if each["controllerName"] == THEIRS] == theirs
    assert made["status"]["more"] == "kept"
    ours = [each for each in found if each["controllerName"] == OURS]
    key = _entry_key
    assert sorted(map(_entry, ours), key=key) == sorted(map(_entry, wanted), key=key) or _newer(before, wanted)


@pytest.mark.parametrize("kind", [PolicyStatus, XBackendStatus])
@given(parents(OURS), parents(THEIRS), parents(OURS))
def test_foreign_ancestors_stay_on_policies_and_xbackends(
    kind: type[PolicyStatus | XBackendStatus], before: list[Object], others: list[Object], wanted: list[Object]
) -> None:
    theirs = [{**_ancestor(each), "unknown": 7, "conditions": [*map(foreign, each["conditions"])]} for each in others]
    raw: Object = {"status": {"ancestors": [*theirs[:1], *map(_ancestor, before), *theirs[1:]], "more": "kept"}}
    made, previous, whole = step(raw, kind, {"ancestors": [*map(_ancestor, wanted)]})
    if isinstance(previous, XBackendStatus) and not previous.ancestors:
        return  # nothing foreign is there
    found = made["status"]["ancestors"]
    assert [each for each in found if each["controllerName"] == THEIRS] == theirs
    assert made["status"]["more"] == "kept"
    ours = [each for each in found if each["controllerName"] == OURS]
    key = _entry_key
    expected = before if whole is None else wanted
    assert sorted(map(_entry, ours), key=key) == sorted((_entry(_ancestor(each)) for each in expected), key=key)


def _ancestor(parent: Object) -> Object:
    return {("ancestorRef" if name == "parentRef" else name): value for name, value in parent.items()}


def _newer(before: list[Object], wanted: list[Object]) -> bool:
    """Whether what is there was made from a later generation: then it stays."""
    latest, mine = (
        max((one["observedGeneration"] for each in entries for one in each["conditions"]), default=0)
        for entries in (before, wanted)
    )
    return latest > mine


def _entry(each: Object) -> Object:
    return {**each, "conditions": by_type(each.get("conditions", []))}


def _entry_key(each: Object) -> str:
    return json.dumps(each, sort_keys=True)


def _sorted(status: Object) -> Object:
    return {
        **status,
        "conditions": by_type(status.get("conditions", [])),
        "listeners": {
            each["name"]: {**each, "conditions": by_type(each.get("conditions", []))} for each in status["listeners"]
        },
    }


def test_what_the_schema_fills_in_is_replaced_whole() -> None:
    """It may not be stored at all, so no place in it can be named."""
    wanted = GatewayClassStatus(conditions=())
    assert operations(GatewayClassStatus(), wanted) == [{"op": "add", "path": "/status", "value": {"conditions": []}}]


def test_only_what_differs_is_named() -> None:
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }
    theirs = {**accepted, "type": "example.com/Audited"}
    listener = {"name": "a", "attachedRoutes": 0, "conditions": [theirs, accepted]}
    before = {"conditions": [theirs, accepted], "listeners": [{**listener, "name": "z"}, listener]}
    after = {"conditions": [accepted], "listeners": [{**listener, "attachedRoutes": 1, "conditions": [accepted]}]}
    previous = msgspec.convert(before, GatewayStatus)
    whole = merge(previous, msgspec.convert(after, GatewayStatus), OURS)
    assert whole is not None
    assert operations(previous, whole) == [
        {"op": "add", "path": "/status/listeners/1/attachedRoutes", "value": 1},
        {"op": "remove", "path": "/status/listeners/0"},
    ]


def test_a_status_whose_stored_form_is_absent_is_written_whole() -> None:
    ancestor = {
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "namespace": "shop"},
        "controllerName": OURS,
        "conditions": [],
    }
    wanted = msgspec.convert({"ancestors": [ancestor]}, XBackendStatus)
    assert operations(XBackendStatus(), wanted)[0]["path"] == "/status"
    made, _, _ = step({"status": {}}, XBackendStatus, {"ancestors": [ancestor]})
    assert made["status"]["ancestors"][0]["ancestorRef"]["name"] == "edge"
