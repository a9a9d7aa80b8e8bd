"""Ingress → route plan: the same values as of HTTPRoutes, so that both share hosts, clusters and everything behind.

An Ingress is attached to the listeners of its gateways that take HTTPRoutes of its namespace. Other than a route it has
rules for single hostnames, and its wildcards stand for one label. The invariant: what an Ingress says is served as the
specification of Ingress says, and what it says to another controller, in annotations, changes nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tripylon.api.ingress import INGRESS_GROUP, Ingress, IngressBackend, IngressServiceBackend
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.api.refs import BackendObjectReference
from tripylon.findings import Finding, Severity
from tripylon.graph import Index, Read
from tripylon.model.backends import Fault, resolve
from tripylon.model.client_certificates import clusters_of, reached_by
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.ingress_certificates import unpresented
from tripylon.model.ingress_places import INGRESS_PLACES, IngressPlace
from tripylon.model.namespaces import allows
from tripylon.model.order import LAST, ingress_rank
from tripylon.model.plan import (
    Attachment,
    ClusterKey,
    Destination,
    HostKey,
    Listener,
    Match,
    ParentPlan,
    PathKind,
    RoutePlan,
    RulePlan,
    Value,
    attachment_order,
)
from tripylon.model.served import covering_listeners, owns
from tripylon.values import Built, Name, Ref, intersect_hostnames
from tripylon.world.world import INGRESSES, SERVICES

INGRESSES_OF_OURS: Index[Ref, Name, IngressPlace] = Index(
    "ingresses of ours", INGRESS_PLACES, lambda name, _: (Ref(INGRESS_GROUP, "Ingress", *name),)
)
_FOREIGN = re.compile(r"(^|\.)ingress\.|^(haproxy|konghq|nginx|traefik|projectcontour)\b|haproxy-ingress")
"""Domains of annotations by which other controllers are told what an Ingress has no field for."""
_NOT_IN_PATHS = re.compile(r"[\x00-\x20?#\x7f]")
"""What no path of a request holds; Envoy refuses some of it, with everything else of the host."""
_MANY = 5
"""So many annotations or hostnames are named in one sentence."""


def plan_ingress(read: Read, ref: Ref) -> Built[RoutePlan, Finding] | None:
    """One Ingress of ours, resolved: who takes it, the hostnames it serves there, and its rules."""
    ingress, place = read.get(INGRESSES, ref.key), read.get(INGRESS_PLACES, ref.key)
    if ingress is None or place is None:
        return None
    findings = [*_unread(ingress)]
    rules = tuple(_rules(read, ingress, findings))
    hostnames = tuple(dict.fromkeys(rule.hostname or "" for rule in rules))
    parents: list[ParentPlan] = []
    attachments: dict[Attachment, None] = {}
    for index, name in enumerate(place.gateways):
        if read.get(GATEWAY_HEADS, name) is not None:
            listeners = _listeners(read, ingress, name, hostnames, findings)
            findings.extend(unpresented(read, ingress, name, listeners))
            parents.append(ParentPlan(index, name, tuple(listener.id for listener in listeners)))
            for listener in listeners:
                attachments.update(dict.fromkeys(_attachments(read, name, listener, hostnames)))
    if not parents:
        findings.append(_leads_nowhere(ingress))
    gateways = dict.fromkeys(attachment.host.table.gateway for attachment in attachments)
    wanted = dict.fromkeys(cluster for rule in rules for cluster in clusters_of(rule))
    plan = RoutePlan(
        ref=ref,
        created=ingress.metadata.creation_timestamp,
        grpc=False,
        rules=rules,
        parents=tuple(parents),
        attachments=tuple(sorted(attachments, key=attachment_order)),
        clusters=reached_by(read, gateways, wanted) if gateways else (),
    )
    return Built(plan, tuple(findings))


# --- Who takes it ----------------------------------------------------------------------------------------------------


def _listeners(
    read: Read, ingress: Ingress, gateway: Name, hostnames: tuple[str, ...], findings: list[Finding]
) -> tuple[Listener, ...]:
    """The listeners of a gateway that take an Ingress: those that would take an HTTPRoute of its hostnames."""
    space = ingress.metadata.namespace
    fitting = tuple(listener for listener in _fitting(read, gateway, hostnames) if _allows(read, listener, space))
    if fitting or not hostnames:
        return fitting
    plan = read.get(GATEWAY_PLANS, gateway)
    allowed = [each for each in (plan.listeners if plan is not None else ()) if _allows(read, each, space)]
    if not allowed:
        reason, what = "NotAllowedByListeners", f"no listener that allows HTTPRoutes of namespace `{space}`"
        hint = "Allow the namespace by the listener's `allowedRoutes`, which counts for Ingresses, too"
    else:
        reason = "NoMatchingListenerHostname"
        there = _some(each.hostname for each in allowed)
        what = f"no listener whose hostname fits those of the Ingress; there are {there}"
        hint = "Name a host that a listener covers, or add a listener without a hostname"
    what = f"is not served by Gateway `{gateway}`: it has {what}"
    findings.append(_finding(ingress, "Accepted", reason, what, hint))
    return ()


def _fitting(read: Read, gateway: Name, hostnames: tuple[str, ...]) -> Iterable[Listener]:
    """The listeners whose hostnames have something in common with these: looked up, unless an Ingress asks for many."""
    if all(hostname and not hostname.startswith("*.") for hostname in hostnames):
        found = (each for hostname in hostnames for each in covering_listeners(read, gateway, hostname))
        return {each.id: each for each in found}.values()
    plan = read.get(GATEWAY_PLANS, gateway)
    there = plan.listeners if plan is not None else ()
    return (each for each in there if any(_common(each, hostname) for hostname in hostnames))


def _allows(read: Read, listener: Listener, space: str) -> bool:
    """Whether a listener takes HTTPRoutes of a namespace."""
    return (GATEWAY_GROUP, "HTTPRoute") in listener.kinds and allows(
        read, listener.namespaces, listener.holder.namespace, space
    )


def _some(hostnames: Iterable[str]) -> str:
    """The first of some hostnames."""
    ordered = sorted(hostnames)
    rest = f" and {len(ordered) - _MANY} more" if len(ordered) > _MANY else ""
    return ", ".join(f"`{hostname}`" for hostname in ordered[:_MANY]) + rest


def _common(listener: Listener, hostname: str) -> bool:
    return intersect_hostnames(listener.hostname, hostname) is not None


def _attachments(read: Read, gateway: Name, listener: Listener, hostnames: tuple[str, ...]) -> Iterator[Attachment]:
    """What an Ingress serves through one listener: its hostnames that belong to no more specific listener."""
    if not listener.usable:
        return
    table = listener.table(gateway)
    for own in hostnames:
        common = intersect_hostnames(listener.hostname, own)
        if common is not None and owns(read, listener, HostKey(table, common)):
            yield Attachment(HostKey(table, common), listener.id, own)


def _leads_nowhere(ingress: Ingress) -> Finding:
    class_ = f"its class `{ingress.class_name}`" if ingress.class_name else "its class"
    return _finding(
        ingress,
        "Accepted",
        "NoMatchingParent",
        f"is not served: {class_} leads to no Gateway that exists here",
        "Name a Gateway in the IngressClass's `spec.parameters`, or give one `spec.defaultScope: All`",
        "spec.ingressClassName",
    )


# --- What it does ----------------------------------------------------------------------------------------------------


class _Path(NamedTuple):
    """A path of a host as it is written."""

    hostname: str
    kind: PathKind
    path: str
    backend: IngressBackend
    field: str


def _rules(read: Read, ingress: Ingress, findings: list[Finding]) -> Iterator[RulePlan]:
    """A rule for each path; behind those of a hostname, and of all, the one that leads to the default backend."""
    index = -1
    findings.extend(_never_asked_for(ingress, each) for each in _paths(ingress) if _NOT_IN_PATHS.search(each.path))
    for index, each in enumerate(each for each in _paths(ingress) if not _NOT_IN_PATHS.search(each.path)):
        destination = _destination(read, ingress, each.backend, f"{each.field}.backend", findings)
        rank = ingress_rank(Match(each.kind, each.path))
        match = Match(each.kind, each.path, headers=_one_label(each.hostname), rank=rank)
        yield _rule(index, each.hostname, match, destination)
    default = ingress.spec.default_backend
    if default is None:
        findings.extend(_without_paths(ingress))
        return
    destination = _destination(read, ingress, default, "spec.defaultBackend", findings)
    for place, hostname in enumerate(dict.fromkeys((*_hostnames(ingress), "")), index + 1):
        match = Match("PathPrefix", "", headers=_one_label(hostname), rank=LAST)
        yield _rule(place, hostname, match, destination)


def _paths(ingress: Ingress) -> Iterator[_Path]:
    for place, rule in enumerate(ingress.spec.rules):
        for position, each in enumerate(rule.http.paths if rule.http is not None else ()):
            exact = each.path_type == "Exact"
            path = each.path if exact else each.path.rstrip("/")
            field = f"spec.rules[{place}].http.paths[{position}]"
            yield _Path(rule.host.lower(), "Exact" if exact else "PathPrefix", path, each.backend, field)


def _hostnames(ingress: Ingress) -> Iterable[str]:
    return (rule.host.lower() for rule in ingress.spec.rules)


def _rule(index: int, hostname: str, match: Match, destination: Destination) -> RulePlan:
    return RulePlan(index=index, name="", matches=(match,), destinations=(destination,), hostname=hostname)


def _one_label(hostname: str) -> tuple[Value, ...]:
    """What a wildcard of an Ingress demands beside the host that it is found in, which may have more labels."""
    if not hostname.startswith("*."):
        return ()
    return (Value(":authority", rf"(?i)[^.:]+{re.escape(hostname[1:])}(:[0-9]+)?", regex=True),)


def _destination(
    read: Read, ingress: Ingress, backend: IngressBackend, field: str, findings: list[Finding]
) -> Destination:
    """Where requests go; what cannot be reached is told, and answered with 500."""
    found = _resolve(read, ingress, backend)
    if isinstance(found, Fault):
        findings.append(
            _finding(
                ingress,
                "ResolvedRefs",
                found.reason,
                found.message,
                f"{found.hint}; until then its requests are answered with 500",
                field + found.field,
                severity=found.severity,
            )
        )
        return Destination(1, None)
    return Destination(1, found)


def _resolve(read: Read, ingress: Ingress, backend: IngressBackend) -> Fault | ClusterKey:
    if backend.service is None:
        kind = f"{backend.resource.api_group or 'core'}/{backend.resource.kind}" if backend.resource else "none"
        what = f"refers to a resource of kind {kind}, which is not supported"
        return Fault("InvalidKind", what, "Refer to a Service, or use an HTTPRoute", ".resource")
    service = backend.service
    port = _port(read, ingress, service)
    if port is None:
        what = f"refers to port `{service.port.name}` of Service {ingress.metadata.namespace}/{service.name}"
        return Fault(
            "BackendNotFound", f"{what}, which it does not have", "Name one of its ports", ".service.port.name"
        )
    found = resolve(read, ingress.ref, BackendObjectReference(name=service.name, port=port))
    return found._replace(field=f".service{found.field}") if isinstance(found, Fault) else found


def _port(read: Read, ingress: Ingress, service: IngressServiceBackend) -> int | None:
    """The number of a port; None when the Service has none of that name. A Service that is missing has any."""
    if service.port.number is not None:
        return service.port.number
    found = read.get(SERVICES, Name(ingress.metadata.namespace, service.name))
    if found is None:
        return 0
    ports = (each.port for each in found.spec.ports if each.name == service.port.name and each.protocol == "TCP")
    return next(ports, None)


# --- What has no effect ----------------------------------------------------------------------------------------------


def _never_asked_for(ingress: Ingress, path: _Path) -> Finding:
    what = f"has the path {path.path!r}, which no request has: a space, '?', '#' or a control character is in it"
    hint = "Correct it, and write a space as %20; until then nothing is served for it"
    return _finding(ingress, "Accepted", "UnsupportedValue", what, hint, f"{path.field}.path", severity="warning")


def _without_paths(ingress: Ingress) -> Iterator[Finding]:
    for place, rule in enumerate(ingress.spec.rules):
        if rule.http is None:
            what = f"has no paths for host `{rule.host or '*'}`, and no default backend either"
            hint = "Add paths or a `defaultBackend`; until then its requests are answered with 404"
            field = f"spec.rules[{place}]"
            yield _finding(ingress, "Accepted", "UnsupportedValue", what, hint, field, severity="warning")


def _unread(ingress: Ingress) -> Iterator[Finding]:
    foreign = sorted(each for each in ingress.metadata.annotations if _FOREIGN.search(each.partition("/")[0]))
    if foreign:
        shown = ", ".join(f"`{each}`" for each in foreign[:_MANY])
        rest = f" and {len(foreign) - _MANY} more" if len(foreign) > _MANY else ""
        yield _finding(
            ingress,
            "Accepted",
            "UnsupportedValue",
            f"has annotations for other controllers, which are not read: {shown}{rest}",
            "Where one matters, use an HTTPRoute, which has fields for most of them",
            "metadata.annotations",
            severity="info",
        )


def _finding(
    ingress: Ingress,
    condition: str,
    reason: str,
    what: str,
    hint: str,
    field: str = "",
    *,
    severity: Severity = "error",
) -> Finding:
    return Finding(
        object=ingress.ref,
        severity=severity,
        condition=condition,
        reason=reason,
        message=f"{ingress.ref} {what}",
        hint=hint,
        field=field,
    )
