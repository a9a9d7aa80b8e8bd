"""Times, generations, proxies' acknowledgements and the printed form: what no case of `tests/cases` shows."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from tests.cases.harness import new_graph

from tripylon.api.gateway import GatewayStatus
from tripylon.api.kinds import KINDS, decode
from tripylon.api.meta import Condition, Resource
from tripylon.api.routes import HTTPRoute, RouteStatus
from tripylon.findings import Finding
from tripylon.graph import Graph
from tripylon.model.options import Options
from tripylon.status.conditions import MAX_MESSAGE, joined
from tripylon.status.desired import desired, with_status
from tripylon.values import Name
from tripylon.world import world

NOW, LATER = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"
OPTIONS = Options()
EDGE: dict[str, Any] = {
    "metadata": {"name": "edge", "namespace": "default", "generation": 4},
    "spec": {
        "gatewayClassName": "tripylon",
        "listeners": [
            {"name": "a", "port": 80, "protocol": "HTTP"},
            {"name": "b", "port": 81, "protocol": "HTTP"},
            {"name": "odd", "port": 82, "protocol": "example.com/odd"},
        ],
    },
}
WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default", "generation": 2},
    "spec": {"parentRefs": [{"name": "edge", "sectionName": "a"}, {"name": "edge", "sectionName": "none"}]},
}


def made(kind: str, plain: dict[str, Any]) -> Resource:
    return decode(next(each for each in KINDS if each.name == kind), plain)


def graph_of(*resources: Resource) -> Graph:
    graph = new_graph(OPTIONS)
    for resource in resources:
        world.put(graph, resource)
    graph.flush()
    return graph


class Proxies:
    """Proxies that have taken the listeners that are named, and no others."""

    def __init__(self, *taken: str) -> None:
        self.taken = taken

    def listener(self, gateway: Name, listener: str) -> Literal["programmed", "pending"]:
        assert gateway == Name("default", "edge")
        return "programmed" if listener in self.taken else "pending"


def gateway_status(*taken: str, gateway: Resource | None = None, now: str = NOW) -> GatewayStatus:
    resource = gateway or made("Gateway", EDGE)
    status = desired(graph_of(resource), resource, options=OPTIONS, programming=Proxies(*taken), now=now)
    assert isinstance(status, GatewayStatus)
    return status


def words(conditions: tuple[Condition, ...], type: str) -> str:
    return next(f"{each.status} {each.reason}" for each in conditions if each.type == type)


def test_a_listener_is_programmed_when_the_proxies_have_taken_it() -> None:
    status = gateway_status("a")
    listeners = {each.name: each.conditions for each in status.listeners}
    assert words(listeners["a"], "Programmed") == "True Programmed"
    assert words(listeners["b"], "Programmed") == "False Pending"
    assert words(listeners["odd"], "Programmed") == "False Invalid"
    assert words(status.conditions, "Programmed") == "False Pending"
    assert words(status.conditions, "Accepted") == "True ListenersNotValid"


def test_a_gateway_is_programmed_when_all_that_can_be_served_is() -> None:
    assert words(gateway_status("a", "b").conditions, "Programmed") == "True Programmed"


def test_what_envoy_refuses_is_told_on_its_listener_and_the_rest_counts_on() -> None:
    gateway = made("Gateway", EDGE)
    graph = graph_of(gateway)
    words_of_envoy = "cannot bind '0.0.0.0:80': Address already in use"
    refusal = Finding(
        object=gateway.ref, condition="Programmed", reason="PortUnavailable", message=words_of_envoy, listener="a"
    )
    status = _with_findings(graph, gateway, refusal)
    listener = next(each for each in status.listeners if each.name == "a")
    programmed = next(each for each in listener.conditions if each.type == "Programmed")
    assert (programmed.status, programmed.reason) == ("False", "Invalid")
    assert words_of_envoy in programmed.message
    assert words(listener.conditions, "Accepted") == "True Accepted"
    assert words(status.conditions, "Programmed") == "True Programmed"
    both = _with_findings(graph, gateway, refusal, msgspec.structs.replace(refusal, listener="b"))
    assert words(both.conditions, "Programmed") == "False Invalid"


def _with_findings(graph: Graph, gateway: Resource, *findings: Finding) -> GatewayStatus:
    """The status when the graph tells further findings, as it does of refusals."""

    class More:
        def __getattr__(self, name: str) -> Any:
            return getattr(graph, name)

        def findings(self, subject: object) -> tuple[Finding, ...]:
            return (*graph.findings(gateway.ref), *findings)

    more: Any = More()
    status = desired(more, gateway, options=OPTIONS, programming=Proxies("a", "b"), now=NOW)
    assert isinstance(status, GatewayStatus)
    return status


def test_every_condition_carries_the_generation_that_was_judged() -> None:
    status = gateway_status("a", "b")
    conditions = (*status.conditions, *(each for listener in status.listeners for each in listener.conditions))
    assert {each.observed_generation for each in conditions} == {4}


def test_an_object_from_a_file_counts_as_just_made() -> None:
    plain = {**EDGE, "metadata": {"name": "edge", "namespace": "default"}}
    status = gateway_status("a", "b", gateway=made("Gateway", plain))
    assert {each.observed_generation for each in status.conditions} == {1}


def test_a_time_changes_only_with_the_status_of_its_condition() -> None:
    before = gateway_status("a")
    gateway = made("Gateway", EDGE | {"status": msgspec.to_builtins(before)})
    after = gateway_status("a", "b", gateway=gateway, now=LATER)
    times = {each.type: each.last_transition_time for each in after.conditions}
    assert times == {"Accepted": NOW, "Programmed": LATER, "ResolvedRefs": NOW}
    of_listeners = {
        listener.name: {each.type: each.last_transition_time for each in listener.conditions}
        for listener in after.listeners
    }
    assert of_listeners["a"] == {"Accepted": NOW, "Programmed": NOW, "ResolvedRefs": NOW, "Conflicted": NOW}
    assert of_listeners["b"]["Programmed"] == LATER


def test_times_of_a_route_are_kept_for_each_parent_and_only_from_our_entries() -> None:
    gateway, route = made("Gateway", EDGE), made("HTTPRoute", WEB)
    before = desired(graph_of(gateway, route), route, options=OPTIONS, programming=None, now=NOW)
    assert isinstance(before, RouteStatus)
    theirs = [
        msgspec.to_builtins(msgspec.structs.replace(each, controller_name="example.com/other"))
        for each in before.parents
    ]
    foreign = made("HTTPRoute", WEB | {"status": {"parents": theirs}})
    mine = made("HTTPRoute", WEB | {"status": msgspec.to_builtins(before)})
    for route, time in ((mine, NOW), (foreign, LATER)):
        after = desired(graph_of(gateway, route), route, options=OPTIONS, programming=None, now=LATER)
        assert isinstance(after, RouteStatus)
        assert {each.last_transition_time for entry in after.parents for each in entry.conditions} == {time}


def test_the_same_objects_give_the_same_status() -> None:
    assert gateway_status("a") == gateway_status("a")


def test_the_printed_object_states_what_a_reader_looks_for() -> None:
    gateway, route = made("Gateway", EDGE), made("HTTPRoute", WEB)
    graph = graph_of(gateway, route)
    printed = with_status(gateway, desired(graph, gateway, options=OPTIONS, programming=None, now=NOW))
    assert list(printed) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert printed["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert printed["status"]["addresses"] == [{"type": "IPAddress", "value": "0.0.0.0", "routability": ""}]
    assert [each["supportedKinds"] for each in printed["status"]["listeners"]][2] == []
    assert {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute"} in printed["status"]["listeners"][0][
        "supportedKinds"
    ]
    assert [each["attachedRoutes"] for each in printed["status"]["listeners"]] == [1, 0, 0]
    printed = with_status(route, desired(graph, route, options=OPTIONS, programming=None, now=NOW))
    assert printed["status"]["parents"][0]["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "edge",
        "sectionName": "a",
    }
    assert printed["status"]["parents"][0]["conditions"][0]["observedGeneration"] == 2


def test_fields_that_we_do_not_read_are_printed_from_the_author_s_own_words() -> None:
    written = {"kind": "Gateway", "apiVersion": "gateway.networking.k8s.io/v1beta1", **EDGE, "status": {"old": 1}}
    printed = with_status(made("Gateway", EDGE), None, written=written)
    assert printed["apiVersion"] == "gateway.networking.k8s.io/v1beta1"
    assert "status" not in printed
    assert written["status"] == {"old": 1}


def test_kinds_without_a_status_have_none() -> None:
    service = made("Service", {"metadata": {"name": "a", "namespace": "default"}})
    assert desired(graph_of(service), service, options=OPTIONS, programming=None, now=NOW) is None


def finding(message: str, reason: str = "BackendNotFound", *, hint: str = "") -> Finding:
    route = made("HTTPRoute", WEB)
    assert isinstance(route, HTTPRoute)
    return Finding(object=route.ref, condition="ResolvedRefs", reason=reason, message=message, hint=hint)


def test_messages_are_sentences_with_the_worst_first_and_each_once() -> None:
    text = joined((finding("B is missing", hint="Create B"), finding("A is closed.", "RefNotPermitted"), finding("C")))
    assert text == "A is closed. B is missing. Create B. C."
    assert joined((finding("Same"), finding("Same"))) == "Same."


def test_a_message_stays_within_the_api_s_limit_and_says_what_is_left_out() -> None:
    text = joined(tuple(finding(f"{number} {'x' * 300}") for number in range(200)))
    assert len(text) <= MAX_MESSAGE
    assert text.endswith(" more.")
    kept = text.count("x.")
    assert f"And {200 - kept} more." in text
    assert len(joined((finding("x" * (MAX_MESSAGE + 1)),))) == MAX_MESSAGE
