"""Random scenes against a plain reading of the specification, as far as status goes: who is attached where, who is not.

What becomes of requests is asked of the real Envoy, in `tests/live/test_agreement.py`.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from tests.laws.specified import Listener, Manifest, Reading
from tests.laws.worlds import OPTIONS, certificates, settled
from tests.live import agreement
from tests.live.agreement import Ports, Scene

from tripylon.api.gateway import GatewayStatus
from tripylon.api.kinds import decode, find
from tripylon.api.listener_sets import ListenerSetStatus
from tripylon.api.meta import Resource
from tripylon.api.routes import RouteStatus
from tripylon.status.desired import Status, desired
from tripylon.values import Ref

SEED = 20262
SCENES = 150
PORTS = Ports(8080, 8081, 8443)


def test_attached_routes_and_their_conditions_are_those_that_the_specification_names() -> None:
    random = Random(SEED)
    reasons: Counter[str] = Counter()
    for number in range(SCENES):
        scene = agreement.scene(random, number, "127.0.0.2", PORTS, certificates()[0])
        for route in scene.routes:  # now and then, what no listener has
            for parent in route["spec"]["parentRefs"]:
                if random.random() < 0.1:
                    parent.update(random.choice(({"sectionName": "nowhere"}, {"port": 9999})))
        reasons += _compare(scene)
    assert min(reasons.values()) > 10
    assert set(reasons) == {
        *("Accepted", "NoMatchingParent", "NotAllowedByListeners", "NoMatchingListenerHostname"),
    }


def _compare(scene: Scene) -> Counter[str]:
    reading = Reading(scene.gateway, scene.objects)
    written = [_decoded(each) for each in (scene.gateway, *scene.objects)]
    graph = settled(written)
    status = {
        each.ref: desired(graph, each, options=OPTIONS, programming=None, now="2030-01-01T00:00:00Z")
        for each in written
    }
    holders = {_ref(each): each for each in scene.holders}
    found: Counter[str] = Counter()
    accepted: Counter[tuple[Ref, str]] = Counter()
    for route in scene.routes:
        taken: set[tuple[Ref, str]] = set()
        for place, parent in enumerate(route["spec"]["parentRefs"]):
            holder = holders[Ref(parent["group"], parent["kind"], parent["namespace"], parent["name"])]
            reason, listeners = _judged(reading, route, parent, holder)
            assert _shown(status[_ref(route)], place) == reason, (route, parent, holder)
            found[reason] += 1
            taken |= {(_ref(holder), each.spec["name"]) for each in listeners}
        accepted.update(taken)
    for ref, holder in holders.items():
        shown = status[ref]
        assert isinstance(shown, GatewayStatus | ListenerSetStatus)
        counts = {each.name: each.attached_routes for each in shown.listeners}
        assert counts == {each["name"]: accepted[ref, each["name"]] for each in holder["spec"]["listeners"]}
    return found


def _judged(reading: Reading, route: Manifest, parent: Manifest, holder: Manifest) -> tuple[str, list[Listener]]:
    """The reason of Accepted under one parent, by the step that went furthest, and who takes the route."""
    named = [
        Listener(holder, each)
        for each in holder["spec"]["listeners"]
        if parent.get("sectionName", each["name"]) == each["name"] and parent.get("port", each["port"]) == each["port"]
    ]
    alone = {**route, "spec": {**route["spec"], "parentRefs": [parent]}}
    allowed = [each for each in named if reading.attached(alone, each)]
    fitting = [each for each in allowed if each.shares_names(route)]
    if fitting:
        return "Accepted", fitting
    return ("NoMatchingParent", "NotAllowedByListeners", "NoMatchingListenerHostname")[bool(named) + bool(allowed)], []


def _shown(status: Status | None, place: int) -> str:
    assert isinstance(status, RouteStatus)
    conditions = {each.type: each for each in status.parents[place].conditions}
    assert (conditions["Accepted"].status == "True") == (conditions["Accepted"].reason == "Accepted")
    return conditions["Accepted"].reason


def _decoded(manifest: Manifest) -> Resource:
    kind = find(manifest["apiVersion"], manifest["kind"])
    assert kind is not None
    return decode(kind, manifest)


def _ref(manifest: Manifest) -> Ref:
    found: Resource = _decoded(manifest)
    return found.ref
