"""Each Gateway's proxies get what that Gateway needs, and nothing of another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tripylon.api.kinds import decode, find
from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.envoy.refusals import REFUSALS
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.pb.messages import DeltaDiscoveryRequest
from tripylon.values import Name
from tripylon.xds.cache import Group
from tripylon.xds.snapshot import CDS, EDS, LDS, RDS, VHDS

GATEWAY_API = "gateway.networking.k8s.io/v1"


def make(kind: str, name: str, *, api: str = GATEWAY_API, **fields: Any) -> Resource:
    found = find(api, kind)
    assert found is not None
    metadata = {"name": name, "namespace": "default"} if kind != "GatewayClass" else {"name": name}
    return decode(found, {"apiVersion": api, "kind": kind, "metadata": metadata, **fields})


def gateway(name: str) -> Resource:
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    return make("Gateway", name, spec={"gatewayClassName": "tripylon", "listeners": [listener]})


def route(name: str, *parents: str, service: str) -> Resource:
    rules = [{"matches": [{"path": {"value": "/"}}], "backendRefs": [{"name": service, "port": 80}]}]
    spec = {"parentRefs": [{"name": parent} for parent in parents], "hostnames": [f"{name}.test"], "rules": rules}
    return make("HTTPRoute", name, spec=spec)


def service(name: str) -> Resource:
    return make("Service", name, api="v1", spec={"ports": [{"port": 80}]})


CLASS = make("GatewayClass", "tripylon", spec={"controllerName": "gateway.tripylon.dev/controller"})


@pytest.fixture
def engine() -> Engine:
    engine = Engine(Options(standalone=False), EmitOptions())
    engine.apply(
        [
            CLASS,
            gateway("one"),
            gateway("two"),
            service("a"),
            service("b"),
            route("left", "one", service="a"),
            route("both", "one", "two", service="b"),
        ]
    )
    return engine


def names(engine: Engine, gateway: str, url: str) -> list[str]:
    group = engine.gateways.of(Name("default", gateway))
    assert group is not None
    return sorted(group.resources(url))


def test_a_gateway_gets_its_own(engine: Engine) -> None:
    assert names(engine, "one", LDS) == ["default/one/80/0.0.0.0"]
    assert names(engine, "one", RDS) == ["default/one/80"]
    assert names(engine, "one", VHDS) == ["default/one/80/*", "default/one/80/both.test", "default/one/80/left.test"]
    assert names(engine, "one", CDS) == names(engine, "one", EDS) == ["service/default/a/80", "service/default/b/80"]
    assert names(engine, "two", VHDS) == ["default/two/80/*", "default/two/80/both.test"]
    assert names(engine, "two", CDS) == ["service/default/b/80"]


def test_shared_clusters_share_their_bytes(engine: Engine) -> None:
    one, two = (engine.gateways.of(Name("default", name)) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one.resources(CDS)["service/default/b/80"] is two.resources(CDS)["service/default/b/80"]


def test_a_change_reaches_only_the_gateways_concerned(engine: Engine) -> None:
    flights = {name: engine.gateways.of(Name("default", name)) for name in ("one", "two")}
    before = {name: group.flight for name, group in flights.items() if group is not None}
    engine.apply([route("left", "one", service="b")])
    after = {name: group.flight for name, group in flights.items() if group is not None}
    assert after["one"] == before["one"] + 1
    assert after["two"] == before["two"]
    assert names(engine, "one", CDS) == ["service/default/b/80"]


def test_a_gateway_that_goes_takes_its_group_with_it(engine: Engine) -> None:
    engine.apply([], [gateway("two").ref])
    assert engine.gateways.of(Name("default", "two")) is None
    assert names(engine, "one", CDS) == ["service/default/a/80", "service/default/b/80"]


def test_proxies_hold_on_to_a_gateway_that_goes_and_comes_back(engine: Engine) -> None:
    two = Name("default", "two")
    group = engine.gateways.of(two)
    assert group is not None
    session = group.connect(1, "pod", lambda: None)
    engine.apply([], [gateway("two").ref])
    assert engine.gateways.of(two) is None, "a proxy that comes now gets nothing"
    assert not any(group.resources(url) for url in (LDS, RDS, VHDS, CDS, EDS))
    engine.apply([gateway("two")])
    assert engine.gateways.of(two) is group
    assert names(engine, "two", VHDS) == ["default/two/80/*", "default/two/80/both.test"]
    engine.apply([], [gateway("two").ref])
    session.close()
    engine.apply([], [gateway("one").ref])
    assert not list(engine.gateways.groups())


def test_nothing_is_programmed_without_a_proxy(engine: Engine) -> None:
    assert not engine.gateways.programmed(Name("default", "one"))
    assert engine.listener(Name("default", "one"), "http") == "pending"


def test_a_gateway_of_a_foreign_class_has_no_group(engine: Engine) -> None:
    spec = {"gatewayClassName": "other", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    engine.apply(
        [
            make("GatewayClass", "other", spec={"controllerName": "example.com/other"}),
            make("Gateway", "foreign", spec=spec),
        ]
    )
    assert engine.gateways.of(Name("default", "foreign")) is None


def test_answers_of_proxies_look_at_other_groups_only_while_something_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    groups = engine.gateways.groups

    def counted() -> Iterator[Group]:
        looked.append("all")
        return groups()

    monkeypatch.setattr(engine.gateways, "groups", counted)
    group = engine.gateways.of(Name("default", "one"))
    assert group is not None
    session = group.connect(1, "node", lambda: None)

    def say(nonce: str, error: str = "") -> str:
        request = DeltaDiscoveryRequest(type_url=LDS, response_nonce=nonce)
        if error:
            request.error_detail.message = error
        session.receive(request)
        sent = session.responses(0.0)
        return sent[0].nonce if sent else ""

    refused = say("")
    assert looked == []
    say(refused, "no")
    assert looked
    assert engine.graph.rows(REFUSALS)
    engine.apply([], [gateway("one").ref])
    assert not engine.graph.rows(REFUSALS)
    looked.clear()
    session.close()
    assert looked == []
