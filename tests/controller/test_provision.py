"""What runs for Gateways, told to a deployer that writes down what it is told; the engine is the real one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.fleet.test_groups import make

from tripylon.api.gateway import Gateway
from tripylon.api.meta import ObjectMeta, Resource
from tripylon.envoy.emit import LISTENER_RESOURCES
from tripylon.envoy.options import EmitOptions
from tripylon.kube.deploy import Deployer
from tripylon.kube.manifests import Object
from tripylon.kube.pod import ProxySettings
from tripylon.loop import Applied, Engine
from tripylon.model.options import Options
from tripylon.provision import ControlPlane, Provisioner
from tripylon.settings import Address
from tripylon.status.desired import desired, status_values
from tripylon.values import Name, Ref
from tripylon.world.world import GATEWAYS

OPTIONS = Options(standalone=False)
EDGE = Name("default", "edge")
EDGE_REF = Ref("gateway.networking.k8s.io", "Gateway", "default", "edge")
PARAMETERS = "gateway.tripylon.dev/v1alpha1"


class Recorder(Deployer):
    """Writes down what is wanted, and runs nothing."""

    def __init__(self) -> None:
        self.wanted: dict[Name, tuple[Object, ...]] = {}
        self.told: list[str] = []

    def want(self, gateway: Gateway, objects: tuple[Object, ...]) -> None:
        self.told.append(f"want {gateway.key}")
        self.wanted[gateway.key] = objects

    def keep(self, gateway: Name) -> None:
        self.told.append(f"keep {gateway}")

    def forget(self, gateway: Name) -> None:
        self.told.append(f"forget {gateway}")
        self.wanted.pop(gateway, None)

    def restore(self, gateway: Name) -> None:
        self.told.append(f"restore {gateway}")


class Programmed:
    """Proxies that have taken everything."""

    def listener(self, gateway: Name, listener: str) -> Any:
        return "programmed"


class Rig:
    """An engine whose changes the provisioner is told of."""

    def __init__(self) -> None:
        self.deployer = Recorder()
        self.authority = b"first authority"
        self.engine = Engine(OPTIONS, EmitOptions(), on_applied=self._on_applied)
        place = ControlPlane(Address("tripylon.test", 9977), lambda: self.authority)
        self.provisioner = Provisioner(self.engine, self.deployer, place, ProxySettings())

    def apply(self, *put: Resource) -> None:
        self.deployer.told.clear()
        self.engine.apply(put)

    def delete(self, *refs: Ref) -> None:
        self.deployer.told.clear()
        self.engine.apply((), refs)

    def objects(self, name: Name = EDGE) -> dict[str, Any]:
        return {each["kind"]: each for each in self.deployer.wanted[name]}

    def container(self) -> Any:
        return self.objects()["Deployment"]["spec"]["template"]["spec"]["containers"][0]

    def findings(self) -> list[tuple[str, str]]:
        return [(each.condition, each.reason) for each in self.engine.graph.findings(EDGE_REF)]

    def status(self) -> tuple[list[str], dict[str, tuple[str, str]]]:
        """Addresses and conditions of the Gateway, all its proxies being content."""
        found = self.engine.graph.get(GATEWAYS, EDGE)
        assert found is not None
        made = desired(self.engine.graph, found, options=OPTIONS, programming=Programmed(), now="2026-01-01T00:00:00Z")
        assert made is not None
        plain = status_values(made)
        conditions = {each["type"]: (each["status"], each["reason"]) for each in plain["conditions"]}
        return [each["value"] for each in plain.get("addresses", ())], conditions

    def _on_applied(self, applied: Applied) -> None:
        self.provisioner.changed(applied.changes)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def class_(name: str = "tripylon", parameters: str = "") -> Resource:
    spec: dict[str, Any] = {"controllerName": "gateway.tripylon.dev/controller"}
    if parameters:
        spec["parametersRef"] = reference(parameters) | {"namespace": "default"}
    return make("GatewayClass", name, spec=spec)


def gateway(
    name: str = "edge", *, of: str = "tripylon", parameters: str = "", addresses: tuple[str, ...] = (), port: int = 80
) -> Resource:
    spec: dict[str, Any] = {
        "gatewayClassName": of,
        "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
        "addresses": [{"type": "IPAddress", "value": each} for each in addresses],
    }
    if parameters:
        spec["infrastructure"] = {"parametersRef": reference(parameters)}
    return make("Gateway", name, spec=spec)


def reference(name: str) -> dict[str, str]:
    return {"group": "gateway.tripylon.dev", "kind": "GatewayParameters", "name": name}


def parameters(name: str, **kube: Any) -> Resource:
    return make("GatewayParameters", name, api=PARAMETERS, spec={"kube": kube})


def service(name: str, *ips: str, ports: tuple[int, ...] = (80,)) -> Resource:
    status = {"loadBalancer": {"ingress": [{"ip": each} for each in ips]}}
    spec = {"type": "LoadBalancer", "ports": [{"name": f"p{port}", "port": port} for port in ports]}
    return make("Service", name, api="v1", spec=spec, status=status)


def image(tag: str) -> dict[str, Any]:
    return {"image": {"repository": "example/envoy", "tag": tag}}


BAD = {"deploymentOverlay": {"spec": {"$patch": "mend"}}}


def test_every_gateway_of_ours_gets_its_objects_and_no_other(rig: Rig) -> None:
    rig.apply(class_(), gateway(), make("GatewayClass", "other", spec={"controllerName": "example.com/other"}))
    rig.apply(gateway("foreign", of="other"))
    assert set(rig.deployer.wanted) == {EDGE}
    objects = rig.objects()
    assert sorted(objects) == ["ConfigMap", "Deployment", "Service", "ServiceAccount"]
    assert [each["port"] for each in objects["Service"]["spec"]["ports"]] == [80]
    assert "first authority" in objects["ConfigMap"]["data"].values()
    rig.delete(EDGE_REF)
    assert rig.deployer.told == [f"forget {EDGE}"]


def test_the_key_to_the_administration_is_the_same_for_a_gateway_and_another_for_the_next(rig: Rig) -> None:
    def key(name: Name) -> str:
        data = rig.objects(name)["ConfigMap"]["data"]
        assert f'"exact":"{data["admin.key"].strip()}"' in data["bootstrap.json"]
        return str(data["admin.key"])

    first, second = gateway(), gateway("second")
    for number, each in enumerate((first, second)):
        rig.apply(class_(), msgspec.structs.replace(each, metadata=uid(each, f"{number}")))
    before = key(EDGE)
    assert before != key(Name("default", "second"))
    rig.apply(msgspec.structs.replace(gateway(port=8080), metadata=uid(first, "0")))
    assert key(EDGE) == before
    rig.apply(msgspec.structs.replace(first, metadata=uid(first, "2")))
    assert key(EDGE) != before, "another Gateway of that name"


def uid(resource: Resource, uid: str) -> ObjectMeta:
    return msgspec.structs.replace(resource.metadata, uid=uid)


def test_what_does_not_concern_proxies_tells_the_deployer_nothing(rig: Rig) -> None:
    rig.apply(class_(), gateway())
    rig.apply(make("HTTPRoute", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": []}))
    assert rig.deployer.told == []


def test_the_gateways_parameters_go_before_those_of_its_class(rig: Rig) -> None:
    rig.apply(
        class_(parameters="wide"),
        gateway(),
        parameters("wide", deployment={"replicas": 3}, envoyContainer=image("wide")),
        parameters("narrow", envoyContainer={"image": {"tag": "narrow"}}),
    )
    assert (rig.objects()["Deployment"]["spec"]["replicas"], rig.container()["image"]) == (3, "example/envoy:wide")
    rig.apply(gateway(parameters="narrow"))
    assert (rig.objects()["Deployment"]["spec"]["replicas"], rig.container()["image"]) == (3, "example/envoy:narrow")
    rig.apply(parameters("wide", deployment={"replicas": 5}, envoyContainer=image("wide")))
    assert rig.objects()["Deployment"]["spec"]["replicas"] == 5
    rig.apply(class_())
    assert "replicas" not in rig.objects()["Deployment"]["spec"] or rig.objects()["Deployment"]["spec"]["replicas"] == 1


def test_parameters_choose_which_series_there_are(rig: Rig) -> None:
    def kept() -> str:
        bootstrap = json.loads(rig.objects()["ConfigMap"]["data"]["bootstrap.json"])
        return json.dumps(bootstrap["stats_config"])

    rig.apply(class_(), gateway(parameters="stats"), parameters("stats"))
    assert "upstream_rq_retry" in kept()
    rig.apply(parameters("stats", stats={"matcher": {"inclusionList": [{"prefix": "http."}]}}))
    assert '{"prefix": "http."}' in kept()
    assert "upstream_rq_retry" not in kept()


def test_an_overlay_that_cannot_be_followed_is_told_and_changes_nothing(rig: Rig) -> None:
    rig.apply(class_(), gateway(parameters="mine"), parameters("mine", deployment={"replicas": 2}))
    before = rig.deployer.wanted[EDGE]
    rig.apply(parameters("mine", deployment={"replicas": 4}, **BAD))
    assert rig.deployer.told == [f"keep {EDGE}"]
    assert rig.deployer.wanted[EDGE] is before
    assert rig.findings() == [("Accepted", "InvalidParameters")]
    [finding] = rig.engine.graph.findings(EDGE_REF)
    assert "`$patch: mend` is no directive" in finding.message
    rig.apply(parameters("mine", deployment={"replicas": 4}))
    assert rig.findings() == []
    assert rig.objects()["Deployment"]["spec"]["replicas"] == 4


@pytest.mark.parametrize("of", ["class", "Gateway"])
def test_without_the_parameters_that_are_named_nothing_is_made(rig: Rig, of: str) -> None:
    rig.apply(class_(parameters="mine" if of == "class" else ""), gateway(parameters="mine" if of == "Gateway" else ""))
    assert EDGE not in rig.deployer.wanted, "our defaults would give it an address for all the world"
    assert ("Accepted", "InvalidParameters") in rig.findings()
    rig.apply(parameters("mine", service={"type": "ClusterIP"}))
    assert rig.objects()["Service"]["spec"]["type"] == "ClusterIP"
    assert rig.findings() == []


@pytest.mark.parametrize("of", ["class", "Gateway"])
def test_parameters_that_go_leave_all_as_it_was(rig: Rig, of: str) -> None:
    mine = parameters("mine", service={"type": "ClusterIP"})
    rig.apply(class_(parameters="mine" if of == "class" else ""), mine)
    rig.apply(gateway(parameters="mine" if of == "Gateway" else ""))
    before = rig.deployer.wanted[EDGE]
    rig.delete(mine.ref)
    assert rig.deployer.wanted[EDGE] is before
    assert set(rig.deployer.told) == {f"keep {EDGE}"}
    assert rig.status()[1]["Accepted"] == ("False", "InvalidParameters")
    assert rig.findings() == [("Accepted", "InvalidParameters")]
    assert rig.engine.graph.rows(LISTENER_RESOURCES), "the proxies serve on"
    rig.apply(mine)
    assert rig.findings() == []


def test_parameters_of_a_kind_that_is_not_ours_make_nothing(rig: Rig) -> None:
    odd = {"group": "example.com", "kind": "GatewayParameters", "name": "mine"}
    spec = {"gatewayClassName": "tripylon", "infrastructure": {"parametersRef": odd}}
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    rig.apply(class_(), parameters("mine"), make("Gateway", "edge", spec={**spec, "listeners": [listener]}))
    assert EDGE not in rig.deployer.wanted


def test_after_a_restart_too_what_runs_is_kept_while_nobody_can_say_what_should(rig: Rig) -> None:
    rig.apply(class_(), gateway(parameters="mine"), parameters("mine", **BAD))
    assert EDGE not in rig.deployer.wanted
    assert rig.deployer.told == [f"keep {EDGE}"]
    rig.delete(EDGE_REF)
    assert rig.deployer.told == [f"forget {EDGE}"]


def test_another_class_of_ours_renames_and_one_of_others_forgets(rig: Rig) -> None:
    rig.apply(class_(), class_("second"), gateway(), service("edge-tripylon", "10.0.0.1"))
    assert rig.status()[0] == ["10.0.0.1"]
    rig.apply(gateway(of="second"))
    assert {each["metadata"]["name"] for each in rig.deployer.wanted[EDGE]} == {"edge-second"}
    assert rig.status()[0] == [], "the old Service is not its own any more"
    rig.delete(service("edge-tripylon").ref)
    assert rig.deployer.told == [], "nobody misses the old Service"
    rig.apply(service("edge-second", "10.0.0.2"))
    assert rig.status()[0] == ["10.0.0.2"]
    rig.apply(gateway(of="unknown"))
    assert rig.deployer.told == [f"forget {EDGE}"]


def test_a_service_that_somebody_deletes_is_restored(rig: Rig) -> None:
    rig.apply(class_(), gateway(), service("edge-tripylon", "10.0.0.1"))
    rig.delete(service("edge-tripylon").ref)
    assert rig.deployer.told == [f"restore {EDGE}"]
    assert rig.status() == ([], {**rig.status()[1], "Programmed": ("False", "AddressNotAssigned")})


def test_proxies_of_somebody_else_need_neither_objects_nor_an_address(rig: Rig) -> None:
    own = make("GatewayParameters", "own", api=PARAMETERS, spec={"selfManaged": {}})
    rig.apply(class_(), gateway(parameters="own"), own)
    assert rig.deployer.wanted == {EDGE: ()}
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")
    assert rig.provisioner.service_account(EDGE) == "", "any service account of the namespace"
    rig.apply(gateway(parameters="own", addresses=("10.1.1.1",)))
    assert rig.status()[0] == ["10.1.1.1"]
    rig.apply(gateway())
    assert rig.provisioner.service_account(EDGE) == "edge-tripylon"
    assert rig.provisioner.service_account(Name("default", "nobody")) is None
    assert rig.status()[1]["Programmed"] == ("False", "AddressNotAssigned")


def test_only_addresses_that_were_granted_count(rig: Rig) -> None:
    rig.apply(class_(), gateway(addresses=("10.0.0.1", "10.9.9.9")))
    assert rig.status()[1]["Programmed"] == ("False", "AddressNotUsable")
    rig.apply(service("edge-tripylon", "10.0.0.1"))
    assert rig.status()[0] == ["10.0.0.1"]
    assert rig.status()[1]["Programmed"] == ("False", "AddressNotUsable")
    assert "10.9.9.9" in " ".join(each.message for each in rig.engine.graph.findings(EDGE_REF))
    rig.apply(service("edge-tripylon", "10.0.0.1", "10.9.9.9"))
    assert rig.status() == (["10.0.0.1", "10.9.9.9"], {**rig.status()[1], "Programmed": ("True", "Programmed")})


def routable(*routabilities: str) -> Resource:
    """The Gateway `edge`, which asks for an address of each routability."""
    spec = {
        "gatewayClassName": "tripylon",
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        "addresses": [{"routability": each} if each else {"type": "IPAddress"} for each in routabilities],
    }
    return make("Gateway", "edge", spec=spec)


def within(ip: str, *ports: int) -> Resource:
    spec = {"type": "ClusterIP", "clusterIPs": [ip], "ports": [{"name": f"p{port}", "port": port} for port in ports]}
    return make("Service", "edge-tripylon-cluster", api="v1", spec=spec)


def test_an_address_within_the_cluster_comes_and_goes_with_its_entry(rig: Rig) -> None:
    def services() -> list[tuple[str, str]]:
        found = [each for each in rig.deployer.wanted[EDGE] if each["kind"] == "Service"]
        return [(each["metadata"]["name"], each["spec"]["type"]) for each in found]

    rig.apply(class_(), routable("", "Cluster"), service("edge-tripylon", "10.0.0.1"))
    assert services() == [("edge-tripylon", "LoadBalancer"), ("edge-tripylon-cluster", "ClusterIP")]
    addresses, conditions = rig.status()
    assert addresses == ["10.0.0.1"]
    assert conditions["AddressesAssigned"] == ("False", "PartiallyAssigned")
    assert conditions["Programmed"] == ("True", "Programmed"), "the other address serves"
    rig.apply(within("10.96.0.7"))
    assert rig.status()[1]["Programmed"] == ("False", "Pending"), "nothing leads there from within the cluster yet"
    rig.apply(within("10.96.0.7", 80))
    addresses, conditions = rig.status()
    assert addresses == ["10.0.0.1", "10.96.0.7"]
    assert conditions["AddressesAssigned"] == ("True", "AddressesAssigned")
    assert conditions["Programmed"] == ("True", "Programmed")
    rig.delete(within("10.96.0.7").ref)
    assert rig.deployer.told == [f"restore {EDGE}"]
    rig.apply(routable(""), within("10.96.0.7", 80))
    assert services() == [("edge-tripylon", "LoadBalancer")]
    assert rig.status()[0] == ["10.0.0.1"]


def test_who_asks_for_the_cluster_only_is_not_shown_to_the_world(rig: Rig) -> None:
    rig.apply(class_(), routable("Cluster"), service("edge-tripylon", "10.0.0.1"))
    assert rig.objects()["Service"]["metadata"]["name"] == "edge-tripylon-cluster"
    addresses, conditions = rig.status()
    assert addresses == [], "what a Service of the time before has does not count"
    assert conditions["AddressesAssigned"] == ("False", "NotAssigned")
    assert conditions["Programmed"] == ("False", "AddressNotAssigned")
    rig.apply(within("10.96.0.7", 80))
    assert rig.status()[0] == ["10.96.0.7"]
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")
    rig.apply(routable("example.com/CorpWan"))
    assert "Service" not in rig.objects()
    assert rig.status()[1]["AddressesAssigned"] == ("False", "NotAssigned")


def test_a_listener_is_programmed_only_when_the_service_has_its_port(rig: Rig) -> None:
    rig.apply(class_(), gateway(), service("edge-tripylon", "10.0.0.1"))
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")
    rig.apply(gateway(port=8080))
    assert rig.status()[1]["Programmed"] == ("False", "Pending"), "the proxies have it, but nobody reaches it"
    rig.apply(service("edge-tripylon", "10.0.0.1", ports=(80, 8080)))
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")


def test_a_listener_for_udp_has_a_port_for_udp_in_the_service_and_waits_for_it(rig: Rig) -> None:
    listeners = [{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    rig.apply(class_(), make("Gateway", "edge", spec={"gatewayClassName": "tripylon", "listeners": listeners}))
    wanted = rig.objects()["Service"]["spec"]["ports"]
    assert [(each["name"], each["port"], each["protocol"]) for each in wanted] == [
        ("tcp-53", 53, "TCP"),
        ("udp-53", 53, "UDP"),
    ]
    rig.apply(service("edge-tripylon", "10.0.0.1", ports=(53,)))
    assert rig.status()[1]["Programmed"] == ("False", "Pending")
    status = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
    rig.apply(make("Service", "edge-tripylon", api="v1", spec={"type": "LoadBalancer", "ports": wanted}, status=status))
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")


def test_a_port_that_an_overlay_takes_out_of_the_service_is_not_waited_for(rig: Rig) -> None:
    ports = {"serviceOverlay": {"spec": {"ports": [{"$patch": "replace"}, {"name": "http", "port": 8443}]}}}
    rig.apply(class_(), parameters("own", **ports), gateway(parameters="own"))
    rig.apply(service("edge-tripylon", "10.0.0.1", ports=(8443,)))
    assert [each["port"] for each in rig.objects()["Service"]["spec"]["ports"]] == [8443]
    assert rig.status()[1]["Programmed"] == ("True", "Programmed")


def test_a_new_authority_reaches_all_proxies(rig: Rig) -> None:
    rig.apply(class_(), gateway(), gateway("second"))
    rig.deployer.told.clear()
    rig.authority = b"second authority"
    rig.provisioner.renew()
    assert sorted(rig.deployer.told) == ["want default/edge", "want default/second"]
    assert "second authority" in rig.objects()["ConfigMap"]["data"].values()
