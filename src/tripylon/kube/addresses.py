"""Where the proxies of a Gateway are reached: what their Service got, against what the Gateway asked for."""

from __future__ import annotations

from ipaddress import ip_address

from tripylon.api.core import Service
from tripylon.api.gateway import Gateway
from tripylon.values import is_address
from tripylon.world.world import Reached


def requested(gateway: Gateway) -> tuple[str, ...]:
    """The IP addresses that a Gateway asks for by name; entries without a value leave the choice to the cluster."""
    wanted = (each for each in gateway.spec.addresses if (each.type or "IPAddress") == "IPAddress")
    return tuple(dict.fromkeys(each.value for each in wanted if is_address(each.value)))


def reached(gateway: Gateway, service: Service | None) -> Reached:
    """Where a Gateway is reached by its Service; nowhere while there is none.

    Where addresses are asked for, only those count that were granted (Gateway API, GatewayStatus.addresses); those that
    were not, or not yet, are unusable. An address of nodes (`externalIPs`) beside a load balancer counts when the load
    balancer has it, too: nobody confirms it otherwise.
    """
    wanted = requested(gateway)
    found = () if service is None else _addresses(service)
    if not wanted:
        return Reached(addresses=found)
    have = {_canonical(each): each for each in found}
    granted = tuple(have[_canonical(each)] for each in wanted if _canonical(each) in have)
    unusable = tuple(each for each in wanted if _canonical(each) not in have)
    any_will_do = any(not each.value for each in gateway.spec.addresses)
    return Reached(addresses=found if any_will_do else granted, unusable=unusable)


def _addresses(service: Service) -> tuple[str, ...]:
    if service.spec.type == "LoadBalancer":
        return tuple(each.ip or each.hostname for each in service.status.load_balancer.ingress)
    return service.spec.external_ips or tuple(each for each in service.spec.cluster_ips if each != "None")


def _canonical(text: str) -> str:
    return str(ip_address(text)) if is_address(text) else text
