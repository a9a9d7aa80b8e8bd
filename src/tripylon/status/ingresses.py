"""The status of Ingress: where it is reached. It has no conditions; what is wrong is told as findings only."""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.api.ingress import Ingress, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus
from tripylon.graph import Graph
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.options import Options
from tripylon.model.plan import RoutePlan
from tripylon.model.route_plans import ROUTE_PLANS
from tripylon.values import is_address
from tripylon.world.world import REACHED, Reached


def ingress_status(graph: Graph, ingress: Ingress, options: Options) -> IngressStatus | None:
    """The addresses of the gateways that take an Ingress; None when it is another controller's."""
    plan = graph.get(ROUTE_PLANS, ingress.ref)
    if plan is None:
        return None
    found = dict.fromkeys(_addresses(graph, plan, options))
    return IngressStatus(load_balancer=IngressLoadBalancerStatus(ingress=tuple(_place(each) for each in found)))


def _addresses(graph: Graph, route: RoutePlan, options: Options) -> Iterator[str]:
    for parent in route.parents:
        gateway = graph.get(GATEWAY_HEADS, parent.gateway)
        if gateway is None or not gateway.accepted or not parent.listeners:
            continue
        reached = graph.get(REACHED, gateway.name) or Reached()
        yield from gateway.addresses if options.standalone else (each.value for each in reached.addresses)


def _place(address: str) -> IngressLoadBalancerIngress:
    if is_address(address):
        return IngressLoadBalancerIngress(ip=address)
    return IngressLoadBalancerIngress(hostname=address)
