"""Where a Gateway is reached, by what its Services got."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tripylon.api.core import Service
from tripylon.api.gateway import Gateway
from tripylon.kube.addresses import in_front, reached, requested, self_managed, within_cluster
from tripylon.world.world import Reached, ReachedAddress

INGRESS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]}}
CLUSTER = "Cluster"
SENTINEL = "testing.x-k8s.io/sentinel"
ANY, ANY_WITHIN = "", f"{CLUSTER} "


@pytest.mark.parametrize(
    ("asked", "spec", "status", "found"),
    [
        ([], {"type": "LoadBalancer"}, {}, []),
        ([], {"type": "LoadBalancer"}, INGRESS, ["192.0.2.1", "lb.example.com"]),
        (["192.0.2.1"], {"type": "LoadBalancer"}, INGRESS, ["192.0.2.1"]),
        (
            ["192.0.2.9", "192.0.2.1"],
            {"type": "LoadBalancer", "externalIPs": ["192.0.2.9"]},
            INGRESS,
            ["192.0.2.1", "not 192.0.2.9"],
        ),
        (["192.0.2.9"], {"type": "LoadBalancer"}, {}, ["not 192.0.2.9"]),
        ([ANY], {"type": "LoadBalancer"}, INGRESS, ["192.0.2.1"]),
        ([ANY, ANY], {"type": "LoadBalancer"}, INGRESS, ["192.0.2.1"]),
        ([f"{SENTINEL} ", ANY], {"type": "LoadBalancer"}, INGRESS, [f"{SENTINEL} 192.0.2.1"]),
        ([f"{SENTINEL} "], {"type": "ClusterIP", "clusterIPs": ["10.0.0.1"]}, {}, [f"{SENTINEL} 10.0.0.1"]),
        (["example.com/CorpWan "], {"type": "LoadBalancer"}, INGRESS, []),
        ([], {"type": "ClusterIP", "clusterIPs": ["10.0.0.1", "fd00::1"]}, {}, ["Cluster 10.0.0.1", "Cluster fd00::1"]),
        ([], {"type": "ClusterIP", "clusterIPs": ["None"]}, {}, []),
        ([ANY], {"type": "ClusterIP", "clusterIPs": ["10.0.0.1"]}, {}, ["Cluster 10.0.0.1"]),
        (
            ["192.0.2.9"],
            {"type": "NodePort", "clusterIPs": ["10.0.0.1"], "externalIPs": ["192.0.2.9"]},
            {},
            ["192.0.2.9"],
        ),
        (["FD00:0::1"], {"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "fd00::1"}]}}, ["fd00::1"]),
    ],
)
def test_addresses(asked: list[str], spec: dict[str, Any], status: dict[str, Any], found: list[str]) -> None:
    assert shown(reached(gateway(asked), service(spec, **status))) == found


def test_without_a_service_nothing_is_reached() -> None:
    assert reached(gateway([]), None) == Reached()
    assert reached(gateway(["192.0.2.1"]), None) == Reached(unusable=("192.0.2.1",))


def test_each_entry_gets_one_address_of_its_kind_and_no_other() -> None:
    asked = gateway([ANY_WITHIN, "192.0.2.1", "Cluster 10.0.0.7", ANY_WITHIN])
    front = service({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]}, **INGRESS)
    first, second, named = within_cluster(asked)
    services = {first: cluster("10.0.0.5"), second: None, named: cluster("10.0.0.7")}
    assert shown(reached(asked, front, services)) == ["Cluster 10.0.0.5", "192.0.2.1", "Cluster 10.0.0.7"]
    assert shown(reached(asked, front)) == ["192.0.2.1"], "the address within the cluster of the one in front is none"
    services = {first: cluster("10.0.0.5"), second: cluster("10.0.0.6"), named: None}
    assert shown(reached(asked, None, services)) == ["Cluster 10.0.0.5", "Cluster 10.0.0.6", "not 192.0.2.1"]


def test_services_within_the_cluster_keep_their_names_whatever_stands_beside_them() -> None:
    found = within_cluster(gateway([ANY_WITHIN, "Cluster 10.0.0.7", ANY_WITHIN]))
    assert list(found.values()) == ["", "", "10.0.0.7"]
    assert list(found)[:2] == ["edge-c-cluster", "edge-c-cluster-2"]
    assert within_cluster(gateway(["Cluster 10.0.0.7", ANY])).items() <= found.items()
    long = within_cluster(gateway([ANY_WITHIN, ANY_WITHIN], name="a" * 253))
    assert len(long) == 2
    assert {len(each) for each in long} == {63}
    assert within_cluster(gateway([])) == {}


def test_what_is_asked_of_the_service_in_front() -> None:
    assert requested(gateway(["10.0.0.1", "Cluster 10.0.0.7", f"{SENTINEL} 10.0.0.2"])) == ("10.0.0.1", "10.0.0.2")
    assert in_front(gateway([]))
    assert in_front(gateway([ANY_WITHIN, ANY]))
    assert not in_front(gateway([ANY_WITHIN, "example.com/CorpWan "]))


def test_proxies_of_somebody_else_promise_nothing() -> None:
    assert self_managed(gateway(["10.0.0.1", ANY_WITHIN])) == Reached((ReachedAddress("10.0.0.1"),), awaited=False)
    assert self_managed(gateway(["Cluster 10.0.0.7"])).awaited, "nobody knows that it is of the Service range"


def shown(found: Reached) -> list[str]:
    assert not found.closed
    addresses = [f"{each.routability} {each.value}".strip() for each in found.addresses]
    return [*addresses, *(f"not {each}" for each in found.unusable)]


def service(spec: dict[str, Any], **status: Any) -> Service:
    return msgspec.convert({"spec": spec, "status": status}, Service)


def cluster(ip: str) -> Service:
    return service({"type": "ClusterIP", "clusterIPs": [ip]})


def gateway(asked: list[str], name: str = "edge") -> Gateway:
    """A Gateway that asks for addresses, each `[routability ][value]`."""
    addresses = []
    for each in asked:
        routability, _, value = each.rpartition(" ")
        entry = {"value": value, "routability": routability}
        addresses.append({field: text for field, text in entry.items() if text})
    listeners = [{"name": "a", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": "c", "listeners": listeners, "addresses": addresses}
    return msgspec.convert({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}, Gateway)
