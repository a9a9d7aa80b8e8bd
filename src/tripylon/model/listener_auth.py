"""Filters that every request of a listener passes before a route is chosen (Gateway API, GEP-5224).

The invariant: a listener whose filters cannot all be run answers every request with 500, be there a route or not. Which
types of filters there are is judged in `conflicts.py`; here they are services that are asked, see `external_auth.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tripylon.api.filters import ExternalAuth
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read
from tripylon.model.backends import Fault
from tripylon.model.client_certificates import CLIENT_CERTIFICATES, reached
from tripylon.model.entries import Entry, about_listener
from tripylon.model.external_auth import plan_external_auth
from tripylon.model.gateways import LISTENERS
from tripylon.model.holders import ENTRIES
from tripylon.model.plan import AuthService, HolderKey, HolderListeners, ListenerAuth, merge_order
from tripylon.model.route_plans import LISTENER_AUTH
from tripylon.values import Built, Name


def _filtered(key: HolderKey, holder: HolderListeners) -> tuple[Name, ...]:
    return (key.gateway,) if any(listener.filtered for listener in holder.listeners) else ()


FILTERED: Index[Name, HolderKey, HolderListeners] = Index("listeners with filters", LISTENERS, _filtered)


def derives() -> tuple[Derive[Name, tuple[ListenerAuth, ...]], ...]:
    """The step from gateways to what their listeners ask."""
    return (Derive(LISTENER_AUTH, (FILTERED,), plan_listener_auth),)


def plan_listener_auth(read: Read, name: Name) -> Built[tuple[ListenerAuth, ...], Finding] | None:
    """The services that each listener of a gateway asks, in the order in which they stand."""
    findings: list[Finding] = []
    found: list[ListenerAuth] = []
    for holder in sorted(read.lookup(FILTERED, name), key=merge_order):
        written = read.get(ENTRIES, holder.key)
        for listener, entry in zip(holder.listeners, written.entries if written is not None else (), strict=True):
            if listener.filtered and listener.usable:
                found.append(_plan(read, name, entry, findings))
    return Built(tuple(found), tuple(findings))


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
    service = plan_external_auth(read, entry.holder, asking)
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
