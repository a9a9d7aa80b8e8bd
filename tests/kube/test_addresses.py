"""Where a Gateway is reached, by what its Service got."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tripylon.api.core import Service
from tripylon.api.gateway import Gateway
from tripylon.kube.addresses import reached
from tripylon.world.world import Reached

INGRESS = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]}}


@pytest.mark.parametrize(
    ("asked", "spec", "status", "found"),
    [
        ([], {"type": "LoadBalancer"}, {}, Reached()),
        ([], {"type": "LoadBalancer"}, INGRESS, Reached(addresses=("192.0.2.1", "lb.example.com"))),
        (["192.0.2.1"], {"type": "LoadBalancer"}, INGRESS, Reached(addresses=("192.0.2.1",))),
        (
            ["192.0.2.9", "192.0.2.1"],
            {"type": "LoadBalancer", "externalIPs": ["192.0.2.9"]},
            INGRESS,
            Reached(addresses=("192.0.2.1",), unusable=("192.0.2.9",)),
        ),
        (["192.0.2.9"], {"type": "LoadBalancer"}, {}, Reached(unusable=("192.0.2.9",))),
        ([""], {"type": "LoadBalancer"}, INGRESS, Reached(addresses=("192.0.2.1", "lb.example.com"))),
        ([], {"type": "ClusterIP", "clusterIPs": ["10.0.0.1", "fd00::1"]}, {}, Reached(("10.0.0.1", "fd00::1"))),
        ([], {"type": "ClusterIP", "clusterIPs": ["None"]}, {}, Reached()),
        (
            ["192.0.2.9"],
            {"type": "NodePort", "clusterIPs": ["10.0.0.1"], "externalIPs": ["192.0.2.9"]},
            {},
            Reached(addresses=("192.0.2.9",)),
        ),
        (
            ["FD00:0::1"],
            {"type": "LoadBalancer"},
            {"loadBalancer": {"ingress": [{"ip": "fd00::1"}]}},
            Reached(addresses=("fd00::1",)),
        ),
    ],
)
def test_addresses(asked: list[str], spec: dict[str, Any], status: dict[str, Any], found: Reached) -> None:
    service = msgspec.convert({"spec": spec, "status": status}, Service)
    assert reached(gateway(asked), service) == found


def test_without_a_service_nothing_is_reached() -> None:
    assert reached(gateway([]), None) == Reached()
    assert reached(gateway(["192.0.2.1"]), None) == Reached(unusable=("192.0.2.1",))


def gateway(asked: list[str]) -> Gateway:
    addresses = [{"value": each} if each else {} for each in asked]
    listeners = [{"name": "a", "port": 80, "protocol": "HTTP"}]
    spec = {"gatewayClassName": "c", "listeners": listeners, "addresses": addresses}
    return msgspec.convert({"metadata": {"name": "edge", "namespace": "shop"}, "spec": spec}, Gateway)
