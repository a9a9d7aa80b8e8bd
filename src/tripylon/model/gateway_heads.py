"""Which classes and gateways are ours, and what a gateway is apart from its listeners.

What depends on a gateway and not on its listeners reads this, so that it stays as it is when listeners come and go, and
when a Gateway's status is written. Read `gateways.py` next.
"""

from __future__ import annotations

from typing import Any

from tripylon.api.gateway import Gateway
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.addresses import addresses, not_granted
from tripylon.model.entries import chosen
from tripylon.model.options import Options
from tripylon.model.parameters import class_parameters, gateway_parameters
from tripylon.model.plan import GatewayHead, Namespaces
from tripylon.values import Built, Name
from tripylon.world.world import GATEWAY_CLASSES, GATEWAYS

CLASS_PLANS: Table[Name, bool] = Table("class plans")
"""The GatewayClasses of ours, each with whether it is accepted."""
GATEWAY_HEADS: Table[Name, GatewayHead] = Table("gateway heads")
"""The gateways of ours."""
DEFAULT_GATEWAYS: Index[str, Name, Gateway] = Index(
    "default gateways", GATEWAYS, lambda _, gateway: ("All",) if gateway.spec.default_scope == "All" else ()
)
"""The gateways, of whomever, that routes get which want default ones."""


def derives(options: Options) -> tuple[Derive[Name, Any], ...]:
    """The steps from GatewayClass and Gateway objects to those of ours."""
    return (
        Derive(CLASS_PLANS, (GATEWAY_CLASSES,), lambda read, name: _plan_class(read, name, options)),
        Derive(GATEWAY_HEADS, (GATEWAYS,), lambda read, name: _head(read, name, options)),
    )


def is_ours(read: Read, gateway: Gateway, options: Options) -> bool:
    """Whether the gateway's class is one of ours; standalone, a class that nobody wrote down is."""
    class_ = read.get(GATEWAY_CLASSES, Name("", gateway.spec.gateway_class_name))
    if class_ is None:
        return options.standalone
    return class_.spec.controller_name == options.controller_name


def _plan_class(read: Read, name: Name, options: Options) -> Built[bool, Finding] | None:
    """Whether a class of ours can be had as it is written; its gateways go on as they were if not."""
    class_ = read.get(GATEWAY_CLASSES, name)
    if class_ is None or class_.spec.controller_name != options.controller_name:
        return None
    findings = class_parameters(read, class_, options)
    return Built(value=not findings, findings=findings)


def _head(read: Read, name: Name, options: Options) -> Built[GatewayHead, Finding] | None:
    gateway = read.get(GATEWAYS, name)
    if gateway is None or not is_ours(read, gateway, options):
        return None
    findings: list[Finding] = []
    bound = addresses(gateway, options, findings)
    if not options.standalone:
        bound = (options.bind_address,)
        findings.extend(not_granted(read, gateway))
    parameters = gateway_parameters(read, gateway, options)
    # In a cluster they say how proxies are run, not what these serve: what runs goes on.
    accepted = _accepted([*findings, *parameters] if options.standalone else findings)
    allowed = gateway.spec.allowed_listeners
    admits = chosen(allowed.namespaces) if allowed is not None else Namespaces("None")
    head = GatewayHead(name, gateway.metadata.creation_timestamp, bound, accepted, admits)
    return Built(head, (*findings, *parameters))


def _accepted(findings: list[Finding]) -> bool:
    """Whether a gateway as a whole can be served, by what was found about it."""
    return not any(
        finding.severity == "error" and finding.condition == "Accepted" and not finding.listener for finding in findings
    )
