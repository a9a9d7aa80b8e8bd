"""Ingresses in a cluster: whose they are, what their status says, and certificates that are added to a Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cases.certificates import certificate
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.pods import manifest
from tests.cluster.serving import GATEWAY_API, HOST, PROXIES, address, answered, secret, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

API = "networking.k8s.io/v1"
CONTROLLER = "gateway.tripylon.dev/controller"


@pytest.fixture(scope="module")
def gate() -> Iterator[Cluster]:
    yield from serving("ingress")


def ingress_class(name: str, controller: str = CONTROLLER) -> str:
    gateway = {"apiGroup": GATEWAY_API.partition("/")[0], "kind": "Gateway", "scope": "Namespace"}
    parameters = {**gateway, "namespace": "default", "name": "edge"}
    return manifest(API, "IngressClass", name, spec={"controller": controller, "parameters": parameters})


def ingress(name: str, path: str, *, of: str, **more: Any) -> str:
    """An Ingress that leads a path of every host to the echo pods."""
    backend = {"service": {"name": "echo", "port": {"number": 8080}}}
    rules = [{"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}]
    return manifest(API, "Ingress", name, spec={"ingressClassName": of, "rules": rules, **more})


def places(cluster: Cluster, name: str) -> list[str]:
    """Where the status of an Ingress says that it is reached."""
    found = cluster.get("ingress", name)["status"]["loadBalancer"].get("ingress") or ()
    return [each.get("ip") or each["hostname"] for each in found]


def addresses(cluster: Cluster) -> list[str]:
    """Where the status of the Gateway says that it is reached."""
    return [each["value"] for each in cluster.get("gateway", "edge")["status"].get("addresses", ())]


def test_ingresses_of_our_class_are_served_and_get_the_addresses_of_the_gateway(gate: Cluster) -> None:
    gate.kubectl("delete", "httproute", "echo")
    wait_until(lambda: not answered(gate, "/"), 30, "the route serves on")
    gate.apply(ingress_class("ours") + ingress_class("others", "example.com/other"))
    gate.apply(ingress("mine", "/mine", of="ours") + ingress("foreign", "/foreign", of="others"))
    wait_until(lambda: answered(gate, "/mine"), 60, "the Ingress is not served")
    wait_until(lambda: places(gate, "mine") == addresses(gate) != [], 20, "the status does not say where")
    assert not answered(gate, "/foreign"), "an Ingress of another controller is served"
    assert places(gate, "foreign") == []
    listeners = gate.get("gateway", "edge")["status"]["listeners"]
    assert [each["attachedRoutes"] for each in listeners] == [0], "an Ingress is no route"
    gate.kubectl("delete", "ingress", "mine")
    wait_until(lambda: not answered(gate, "/mine"), 30, "an Ingress that is gone is served")


def test_a_certificate_of_an_ingress_gets_a_port_of_the_service(gate: Cluster) -> None:
    gate.apply(secret("shown", certificate(HOST)) + ingress_class("ours"))
    gate.apply(ingress("secure", "/secure", of="ours", tls=[{"hosts": [HOST], "secretName": "shown"}]))
    wait_until(lambda: answered(gate, "/secure"), 60, "the Ingress is not served")
    assert ports(gate) == [80], "the Gateway lets nobody add listeners"
    admitted = '{"spec": {"allowedListeners": {"namespaces": {"from": "Same"}}}}'
    gate.kubectl("patch", "gateway", "edge", "--type=merge", "-p", admitted)
    wait_until(lambda: ports(gate) == [80, 443], 60, "the Service does not get the port")
    wait_until(lambda: secured(gate, "/secure"), 60, "the Ingress is not served by HTTPS")
    gate.kubectl("delete", "ingress", "secure")
    wait_until(lambda: ports(gate) == [80], 60, "the port stays")


def ports(cluster: Cluster) -> list[int]:
    return sorted(each["port"] for each in cluster.get("service", PROXIES)["spec"]["ports"])


def secured(cluster: Cluster, path: str) -> bool:
    """Whether a request by HTTPS gets 200."""
    argv = ["curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"]
    to = f"{HOST}:443:{address(cluster)}:443"
    return cluster.run([*argv, "--connect-to", to, f"https://{HOST}{path}"], check=False).stdout == "200"
