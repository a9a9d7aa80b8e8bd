"""How each routing table reaches Envoy: with virtual hosts (RDS, VHDS), or with scopes (SRDS) if it has many hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from tripylon.envoy import scopes
from tripylon.envoy.options import EmitOptions
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.hosts import HOSTS
from tripylon.model.plan import GatewayPlan, HolderKey, HolderTls, HostKey, HostPlan, RouteTable
from tripylon.model.tls import LISTENERS_TLS
from tripylon.values import Built, Name

Layout = Literal["plain", "scoped"]
LAYOUTS: Table[RouteTable, Layout] = Table("layouts of route tables")
"""Of those that some Listener refers to; a proxy never asks for one that no Listener names."""


def _tables(_: Name, plan: GatewayPlan) -> Iterable[RouteTable]:
    return plan.tables


def _served(_: HolderKey, tls: HolderTls) -> Iterable[RouteTable]:
    return tls.tables


def _exact(key: HostKey, _: HostPlan) -> tuple[RouteTable, ...]:
    return (key.table,) if scopes.has_scope(key) else ()


GATEWAYS_BY_TABLE: Index[RouteTable, Name, GatewayPlan] = Index("gateways by route table", GATEWAY_PLANS, _tables)
HOLDERS_BY_TABLE: Index[RouteTable, HolderKey, HolderTls] = Index("holders by route table", LISTENERS_TLS, _served)
EXACT_HOSTS: Index[RouteTable, HostKey, HostPlan] = Index("exact hosts by route table", HOSTS, _exact)

INDEXES: tuple[Index[Any, Any, Any], ...] = (GATEWAYS_BY_TABLE, HOLDERS_BY_TABLE, EXACT_HOSTS)


def derives(options: EmitOptions) -> tuple[Derive[RouteTable, Layout], ...]:
    """The step that chooses."""

    def layout(read: Read, table: RouteTable) -> Built[Layout, Finding] | None:
        gateway = read.get(GATEWAY_HEADS, table.gateway)
        if gateway is None or not gateway.addresses or not gateway.accepted:
            return None
        if not read.count(HOLDERS_BY_TABLE, table):
            return None
        return Built("scoped" if scopes.is_scoped(options.route_layout, read.count(EXACT_HOSTS, table)) else "plain")

    return (Derive(LAYOUTS, (GATEWAYS_BY_TABLE,), layout),)
