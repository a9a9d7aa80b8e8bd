"""Where the proxies of a Gateway are reached: what their Services got, against what the Gateway asked for.

The Service in front of the proxies gives the addresses of the cluster's choice; each address within the cluster that is
asked for (`routability: Cluster`) has a Service of its own. The invariant: an entry that gets no address of its kind
gets none, so that what is asked for within the cluster is never answered with an address for all the world.
"""

from __future__ import annotations

from collections.abc import Mapping

from tripylon.api.core import Service
from tripylon.api.gateway import Gateway, GatewaySpecAddress
from tripylon.kube import names
from tripylon.model.addresses import CLUSTER, SENTINEL, assigned, canonical
from tripylon.values import is_address
from tripylon.world.world import Reached, ReachedAddress


def in_front(gateway: Gateway) -> bool:
    """Whether a Gateway asks for what the Service in front of its proxies gives; not when all entries ask otherwise."""
    return not gateway.spec.addresses or any(_of_front(each) for each in gateway.spec.addresses)


def requested(gateway: Gateway) -> tuple[str, ...]:
    """The IP addresses that a Gateway asks of that Service by name; entries without a value leave the choice to it."""
    wanted = (each for each in gateway.spec.addresses if (each.type or "IPAddress") == "IPAddress" and _of_front(each))
    return tuple(dict.fromkeys(each.value for each in wanted if is_address(each.value)))


def within_cluster(gateway: Gateway) -> dict[str, str]:
    """Names of the Services that give addresses within the cluster, each with the address asked for; empty: any."""
    proxies = names.proxy_name(gateway.metadata.name, gateway.spec.gateway_class_name)
    wanted = [each.value for each in gateway.spec.addresses if _of_cluster(each)]
    found = {names.within_cluster(proxies, str(n) if n > 1 else ""): "" for n in range(1, wanted.count("") + 1)}
    for value in filter(None, wanted):
        found[names.within_cluster(proxies, names.digest(canonical(value).encode()))] = value
    return found


def self_managed(gateway: Gateway) -> Reached:
    """Where proxies are reached that somebody else runs: where the Gateway says, as far as it promises nothing."""
    awaited = bool(gateway.spec.addresses) and not in_front(gateway)
    return Reached(addresses=tuple(ReachedAddress(each) for each in requested(gateway)), awaited=awaited)


def reached(gateway: Gateway, front: Service | None, within: Mapping[str, Service | None] | None = None) -> Reached:
    """Where a Gateway is reached by its Services; nowhere while there is none.

    `within` are those of `within_cluster`, by name. Where addresses are asked for, only those count that were granted
    (Gateway API, GatewayStatus.addresses), one for each entry; those of the Service in front that were not, or not
    yet, are unusable. An address of nodes (`externalIPs`) beside a load balancer counts when the load balancer has it,
    too: nobody confirms it otherwise.
    """
    entries = gateway.spec.addresses
    found = () if front is None else _addresses(front)
    if not entries:
        outside = tuple(each for each in found if not each.routability)
        return Reached(addresses=outside or found)
    offers = tuple(each for service in (within or {}).values() if service is not None for each in _single(service))
    by_front = iter(assigned([each for each in entries if not _of_cluster(each)], found))
    by_cluster = iter(assigned([each for each in entries if _of_cluster(each)], offers))
    given = [next(by_cluster if _of_cluster(each) else by_front) for each in entries]
    have = {canonical(each.value) for each in given if each is not None}
    return Reached(
        addresses=tuple(each for each in given if each is not None),
        unusable=tuple(each for each in requested(gateway) if canonical(each) not in have),
    )


def _of_cluster(entry: GatewaySpecAddress) -> bool:
    return (entry.type or "IPAddress") == "IPAddress" and entry.routability == CLUSTER


def _of_front(entry: GatewaySpecAddress) -> bool:
    return entry.routability in ("", SENTINEL)


def _addresses(service: Service) -> tuple[ReachedAddress, ...]:
    if service.spec.type == "LoadBalancer":
        return tuple(ReachedAddress(each.ip or each.hostname) for each in service.status.load_balancer.ingress)
    inside = tuple(ReachedAddress(each, CLUSTER) for each in service.spec.cluster_ips if each != "None")
    return (*(ReachedAddress(each) for each in service.spec.external_ips), *inside)


def _single(service: Service) -> tuple[ReachedAddress, ...]:
    """The address within the cluster that a Service stands for: its first."""
    return tuple(ReachedAddress(each, CLUSTER) for each in service.spec.cluster_ips[:1] if each != "None")
