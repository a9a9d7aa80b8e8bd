"""`spec.tls.frontend` of a Gateway: which certificates clients of its HTTPS listeners must show (Gateway API, GEP-91).

Settings hold for a port, for the listeners that ListenerSets add as well. The invariant: a listener that should check
and has no authority to check by is not served; its neighbours on other ports are. Authorities are told to the proxies
apart, so that exchanging them ends no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tripylon.api.gateway import FrontendTLS, FrontendTLSValidation, Gateway
from tripylon.api.meta import GATEWAY_GROUP
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.authorities import AuthorityFault, authority, is_supported, read_authorities
from tripylon.model.entries import Entry, about_listener
from tripylon.model.gateway_heads import GATEWAY_HEADS
from tripylon.model.plan import ClientAuthorities, ClientValidation, FrontendKey
from tripylon.values import Built, Name, Ref
from tripylon.world.grants import may_refer
from tripylon.world.world import GATEWAYS

FALLBACK = "AllowInsecureFallback"


def _validated(name: Name, gateway: Gateway) -> Iterator[FrontendKey]:
    frontend = _frontend(gateway)
    if frontend is None:
        return
    if frontend.default.validation is not None:
        yield FrontendKey(name, 0)
    for each in frontend.per_port:
        if each.tls.validation is not None:
            yield FrontendKey(name, each.port)


FRONTEND_SETTINGS: Table[Name, FrontendTLS] = Table("frontend settings")
"""What Gateways of ours say of their clients, apart from what else they say."""
FRONTENDS: Index[FrontendKey, Name, Gateway] = Index("frontends that check clients", GATEWAYS, _validated)
CLIENT_AUTHORITIES: Table[FrontendKey, ClientAuthorities] = Table("client authorities")
"""By gateway and port; only where some authority can be read."""


class _Problem(NamedTuple):
    """What is wrong with one of the references of a validation."""

    reason: str
    what: str
    hint: str
    field: str


def derives() -> tuple[Derive[Any, Any], ...]:
    """The steps from Gateways to the authorities of their clients."""
    return (
        Derive(FRONTEND_SETTINGS, (GATEWAY_HEADS,), _settings),
        Derive(CLIENT_AUTHORITIES, (FRONTENDS,), plan_authorities),
    )


def _settings(read: Read, name: Name) -> Built[FrontendTLS, Finding] | None:
    gateway = read.get(GATEWAYS, name)
    frontend = _frontend(gateway) if gateway is not None else None
    return Built(frontend, tuple(_insecure(gateway))) if gateway is not None and frontend is not None else None


def _frontend(gateway: Gateway) -> FrontendTLS | None:
    return gateway.spec.tls.frontend if gateway.spec.tls is not None else None


def plan_authorities(read: Read, key: FrontendKey) -> Built[ClientAuthorities, Finding] | None:
    """All authorities of a port that can be read; those that cannot are told on the listeners, see `check_clients`."""
    found = validation_of(read.get(FRONTEND_SETTINGS, key.gateway), key)
    if found is None:
        return None
    bundle, _ = _resolve(read, key.gateway, found, "")
    return Built(ClientAuthorities(key, bundle, insecure=found.mode == FALLBACK)) if bundle else None


def validation_of(frontend: FrontendTLS | None, key: FrontendKey) -> FrontendTLSValidation | None:
    """How clients are checked by the default settings (port 0), or by those of a port."""
    if frontend is None:
        return None
    if key.port == 0:
        return frontend.default.validation
    return next((each.tls.validation for each in frontend.per_port if each.port == key.port), None)


def frontend_of(gateway: Name, frontend: FrontendTLS | None, port: int) -> FrontendKey:
    """The settings that hold for a port: its own, even if they check nobody, else the default ones."""
    own = frontend is not None and any(each.port == port for each in frontend.per_port)
    return FrontendKey(gateway, port if own else 0)


def check_clients(
    read: Read, gateway: Name, entry: Entry, findings: list[Finding]
) -> tuple[ClientValidation | None, bool]:
    """How a listener checks its clients (None: not at all), and whether it can be served with that."""
    frontend = read.get(FRONTEND_SETTINGS, gateway)
    key = frontend_of(gateway, frontend, entry.spec.port)
    validation = validation_of(frontend, key)
    if entry.spec.protocol != "HTTPS" or validation is None:
        return None, True
    bundle, problems = _resolve(read, gateway, validation, _field(frontend, key))
    for problem in problems:
        what = f"checks clients by `{problem.field}` of Gateway `{gateway}`, which {problem.what}"
        findings.append(about_listener(entry, "ResolvedRefs", problem.reason, what, hint=problem.hint))
    if not bundle:
        what = "has no authority to check clients by; it is closed so that nobody enters unchecked"
        hint = f"Mend `{_field(frontend, key)}` of Gateway `{gateway}`"
        findings.append(about_listener(entry, "Accepted", "NoValidCACertificate", what, hint=hint))
        return None, False
    return ClientValidation(key, required=validation.mode != FALLBACK), True


def _insecure(gateway: Gateway) -> Iterator[Finding]:
    """Tells of every port where clients without a valid certificate are let in, which somebody wanted."""
    for key in _validated(gateway.key, gateway):
        validation = validation_of(_frontend(gateway), key)
        if validation is not None and validation.mode == FALLBACK:
            where = f"port {key.port}" if key.port else "every HTTPS port without settings of its own"
            yield Finding(
                object=gateway.ref,
                severity="warning",
                condition="InsecureFrontendValidationMode",
                reason="ConfigurationChanged",
                message=f"Gateway `{gateway.key}` lets in clients without a valid certificate on {where}",
                hint="Use mode AllowValidOnly as soon as all clients have one",
                field=_field(_frontend(gateway), key).removesuffix(".caCertificateRefs") + ".mode",
            )


def _field(frontend: FrontendTLS | None, key: FrontendKey) -> str:
    place = next((i for i, each in enumerate(frontend.per_port) if each.port == key.port), None) if frontend else None
    where = f"perPort[{place}].tls" if place is not None else "default"
    return f"spec.tls.frontend.{where}.validation.caCertificateRefs"


def _resolve(read: Read, gateway: Name, validation: FrontendTLSValidation, field: str) -> tuple[bytes, list[_Problem]]:
    """The certificates of all authorities that can be read, and what is wrong with the others."""
    bundles: list[bytes] = []
    problems: list[_Problem] = []
    for index, ref in enumerate(validation.ca_certificate_refs):
        target = authority(ref.group, ref.kind, ref.namespace or gateway.namespace, ref.name)
        found = _follow(read, gateway, target, f"{field}[{index}]")
        if isinstance(found, _Problem):
            problems.append(found)
        else:
            bundles.append(found)
    return b"\n".join(bundles), problems


def _follow(read: Read, gateway: Name, target: Ref, field: str) -> bytes | _Problem:
    if not is_supported(read, target):
        what = f"is a {target.group or 'core'}/{target.kind}, which holds no authorities here"
        return _Problem("InvalidCACertificateKind", what, "Name a ConfigMap with the key `ca.crt`", field)
    if target.namespace and not may_refer(read, Ref(GATEWAY_GROUP, "Gateway", *gateway), target):
        hint = (
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` from Gateway of "
            f"`{gateway.namespace}` to {target.kind}"
        )
        return _Problem("RefNotPermitted", f"may not be {target} of another namespace", hint, field)
    found = read_authorities(read, target)
    if isinstance(found, AuthorityFault):
        return _Problem("InvalidCACertificateRef", found.what, found.hint, field)
    return found
