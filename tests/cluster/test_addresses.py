"""Addresses of a Gateway by their routability: within the cluster, beside the load balancer's or instead of it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.components import SERVICES
from tests.cluster.pods import manifest
from tests.cluster.serving import GATEWAY_API, OWN_API, PROXIES, answered, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def gate() -> Iterator[Cluster]:
    yield from serving("addresses")


def ask(cluster: Cluster, *addresses: dict[str, str]) -> None:
    """Has the Gateway `edge` ask for these addresses."""
    parameters = {"group": OWN_API.partition("/")[0], "kind": "GatewayParameters", "name": "edge"}
    spec: dict[str, Any] = {
        "gatewayClassName": "tripylon",
        "infrastructure": {"parametersRef": parameters},
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        "addresses": list(addresses),
    }
    cluster.apply(manifest(GATEWAY_API, "Gateway", "edge", spec=spec))


def conditions(cluster: Cluster) -> dict[str, str]:
    """Status and reason of the Gateway's conditions, as far as they are about what it asks for now."""
    gateway = cluster.get("gateway", "edge")
    return {
        each["type"]: f"{each['status']} {each['reason']}"
        for each in gateway["status"]["conditions"]
        if each["observedGeneration"] == gateway["metadata"]["generation"]
    }


def addresses(cluster: Cluster) -> list[tuple[str, str]]:
    """Routability, which must be there, and value of the addresses in status."""
    found = cluster.get("gateway", "edge")["status"].get("addresses", ())
    return [(each["routability"], each["value"]) for each in found]


def services(cluster: Cluster) -> dict[str, str]:
    """Name and type of the Services of the Gateway."""
    label = "gateway.networking.k8s.io/gateway-name=edge"
    found = json.loads(cluster.kubectl("get", "services", "-l", label, "-o", "json"))["items"]
    return {each["metadata"]["name"]: each["spec"]["type"] for each in found}


def wait_assigned(cluster: Cluster, says: str) -> None:
    wait_until(lambda: conditions(cluster).get("AddressesAssigned") == says, 30, f"AddressesAssigned is not {says}")


def test_addresses_within_the_cluster(gate: Cluster) -> None:
    wait_assigned(gate, "True AddressesAssigned")
    assert [routability for routability, _ in addresses(gate)] == [""]

    ask(gate, {"routability": "Cluster"}, {"type": "IPAddress"})
    wait_assigned(gate, "True AddressesAssigned")
    [(within, inside), (anywhere, outside)] = addresses(gate)
    assert (within, anywhere) == ("Cluster", "")
    assert ipaddress.ip_address(inside) in ipaddress.ip_network(SERVICES)
    assert services(gate) == {PROXIES: "LoadBalancer", f"{PROXIES}-cluster": "ClusterIP"}
    wait_until(lambda: answered(gate, "/", at=inside), 30, "the address within the cluster leads nowhere")
    assert answered(gate, "/", at=outside)

    ask(gate, {"routability": "Cluster"})
    wait_until(lambda: services(gate) == {f"{PROXIES}-cluster": "ClusterIP"}, 30, "the load balancer's Service stays")
    wait_until(lambda: addresses(gate) == [("Cluster", inside)], 30, "it is told that it is reached elsewhere")
    assert answered(gate, "/", at=inside)

    ask(gate, {"routability": "Cluster", "value": "203.0.113.1"})
    wait_assigned(gate, "False NotAssigned")
    wait_until(
        lambda: conditions(gate).get("Programmed") == "False AddressNotAssigned", 30, "it claims to be reached at all"
    )
    ask(gate, {"routability": "Cluster", "value": "203.0.113.1"}, {"type": "IPAddress"})
    wait_assigned(gate, "False PartiallyAssigned")
    wait_until(lambda: conditions(gate).get("Programmed") == "True Programmed", 30, "the other address does not serve")

    ask(gate, {"routability": "testing.x-k8s.io/sentinel"})
    wait_assigned(gate, "True AddressesAssigned")
    assert [routability for routability, _ in addresses(gate)] == ["testing.x-k8s.io/sentinel"]

    value = str(ipaddress.ip_network(SERVICES)[77])
    ask(gate, {"routability": "Cluster", "value": value})
    wait_until(lambda: addresses(gate) == [("Cluster", value)], 30, "the address asked for is not given")
    wait_until(lambda: answered(gate, "/", at=value), 30, "the address asked for leads nowhere")

    ask(gate)
    wait_until(lambda: services(gate) == {PROXIES: "LoadBalancer"}, 30, "Services within the cluster stay")
    wait_assigned(gate, "True AddressesAssigned")
