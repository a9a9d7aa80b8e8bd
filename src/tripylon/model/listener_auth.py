"""Filters that every request of a listener passes before a route is chosen (Gateway API, GEP-5224).

The invariant: a listener whose filters cannot all be run answers every request with 500, be there a route or not. Which
types of filters there are is judged in `conflicts.py`; here they are services that are asked, see `external_auth.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tripylon.api.filters import ExternalAuth
from tripylon.findings import Finding
from tripylon.graph import Derive, Read
from tripylon.model.backends import Fault
from tripylon.model.client_certificates import CLIENT_CERTIFICATES, reached
from tripylon.model.entries import Entry, about_listener, entries
from tripylon.model.external_auth import plan_external_auth
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.plan import AuthService, ListenerAuth
from tripylon.model.route_plans import LISTENER_AUTH
from tripylon.values import Built, Name
from tripylon.world.world import GATEWAYS


def derives() -> tuple[Derive[Name, tuple[ListenerAuth, ...]], ...]:
    """The step from gateways to what their listeners ask."""
    return (Derive(LISTENER_AUTH, (GATEWAY_PLANS,), plan_listener_auth),)


def plan_listener_auth(read: Read, name: Name) -> Built[tuple[ListenerAuth, ...], Finding] | None:
    """The services that each listener of a gateway asks, in the order in which they stand."""
    plan, gateway = read.get(GATEWAY_PLANS, name), read.get(GATEWAYS, name)
    if plan is None or gateway is None or not any(listener.filtered for listener in plan.listeners):
        return None
    findings: list[Finding] = []
    filtered = {listener.id for listener in plan.listeners if listener.filtered and listener.usable}
    found = tuple(_plan(read, name, each, findings) for each in entries(read, gateway) if each.id in filtered)
    return Built(found, tuple(findings))


def _plan(read: Read, gateway: Name, entry: Entry, findings: list[Finding]) -> ListenerAuth:
    services: list[AuthService] = []
    wanted = entry.spec.filters.requests if entry.spec.filters is not None else ()
    for index, each in enumerate(wanted):
        if each.external_auth is not None:
            services.extend(_ask(read, gateway, entry, index, each.external_auth, findings))
    return ListenerAuth(entry.id, tuple(services), closed=len(services) < len(wanted))


def _ask(
    read: Read, gateway: Name, entry: Entry, index: int, asking: ExternalAuth, findings: list[Finding]
) -> Iterator[AuthService]:
    """The service, as the gateway reaches it; none: it cannot be asked, which is told."""
    service = plan_external_auth(read, entry.holder.ref, asking)
    if isinstance(service, Fault):
        findings.append(_broken(entry, service, index))
        return
    cluster = reached(service.cluster, read.get(CLIENT_CERTIFICATES, gateway))
    if cluster is not None:
        yield msgspec.structs.replace(service, cluster=cluster)


def _broken(entry: Entry, fault: Fault, index: int) -> Finding:
    return about_listener(
        entry,
        "ResolvedRefs",
        "RefNotPermitted" if fault.reason == "RefNotPermitted" else "InvalidListenerFilterRef",
        f"{fault.message}; until that is mended every request is answered with 500",
        hint=fault.hint,
        field=f"filters.requests[{index}].externalAuth.backendRef{fault.field}",
    )
