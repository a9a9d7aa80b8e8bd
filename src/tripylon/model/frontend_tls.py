"""`spec.tls.frontend` of a Gateway: which certificates clients of its HTTPS listeners must show (Gateway API, GEP-91).

Settings hold for a port, for the listeners that ListenerSets add as well. The invariant: a listener that should check
and has no authority to check by is not served; its neighbours on other ports are. Authorities are told to the proxies
apart, so that exchanging them ends no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tripylon.api.gateway import FrontendTLSValidation, Gateway
from tripylon.findings import Finding
from tripylon.graph import Derive, Index, Read, Table
from tripylon.model.authorities import AuthorityFault, authority, is_supported, read_authorities
from tripylon.model.entries import Entry, about_listener
from tripylon.model.gateways import GATEWAY_PLANS
from tripylon.model.plan import ClientAuthorities, ClientValidation, FrontendKey
from tripylon.values import Built, Name, Ref
from tripylon.world.grants import may_refer
from tripylon.world.world import GATEWAYS

FALLBACK = "AllowInsecureFallback"


def _validated(name: Name, gateway: Gateway) -> Iterator[FrontendKey]:
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return
    if frontend.default.validation is not None:
        yield FrontendKey(name, 0)
    for each in frontend.per_port:
        if each.tls.validation is not None:
            yield FrontendKey(name, each.port)


FRONTENDS: Index[FrontendKey, Name, Gateway] = Index("frontends that check clients", GATEWAYS, _validated)
CLIENT_AUTHORITIES: Table[FrontendKey, ClientAuthorities] = Table("client authorities")
"""By gateway and port; only where some authority can be read."""


class _Problem(NamedTuple):
    """What is wrong with one of the references of a validation."""

    reason: str
    what: str
    hint: str
    field: str


def derives() -> tuple[Derive[FrontendKey, ClientAuthorities], ...]:
    """The step from Gateways to the authorities of their clients."""
    return (Derive(CLIENT_AUTHORITIES, (FRONTENDS,), plan_authorities),)


def plan_authorities(read: Read, key: FrontendKey) -> Built[ClientAuthorities, Finding] | None:
    """All authorities of a port that can be read; those that cannot are told on the listeners, see `check_clients`."""
    gateway = read.get(GATEWAYS, key.gateway)
    found = validation_of(gateway, key) if gateway is not None else None
    if gateway is None or found is None or read.get(GATEWAY_PLANS, key.gateway) is None:
        return None
    bundle, _ = _resolve(read, gateway, found, "")
    return Built(ClientAuthorities(key, bundle, insecure=found.mode == FALLBACK)) if bundle else None


def validation_of(gateway: Gateway, key: FrontendKey) -> FrontendTLSValidation | None:
    """How clients are checked by the default settings (port 0), or by those of a port."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    if frontend is None:
        return None
    if key.port == 0:
        return frontend.default.validation
    return next((each.tls.validation for each in frontend.per_port if each.port == key.port), None)


def frontend_of(gateway: Gateway, port: int) -> FrontendKey:
    """The settings that hold for a port: its own, even if they check nobody, else the default ones."""
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    own = frontend is not None and any(each.port == port for each in frontend.per_port)
    return FrontendKey(gateway.key, port if own else 0)


def check_clients(
    read: Read, gateway: Gateway, entry: Entry, findings: list[Finding]
) -> tuple[ClientValidation | None, bool]:
    """How a listener checks its clients (None: not at all), and whether it can be served with that."""
    key = frontend_of(gateway, entry.spec.port)
    validation = validation_of(gateway, key)
    if entry.spec.protocol != "HTTPS" or validation is None:
        return None, True
    bundle, problems = _resolve(read, gateway, validation, _field(gateway, key))
    for problem in problems:
        what = f"checks clients by `{problem.field}` of Gateway `{gateway.key}`, which {problem.what}"
        findings.append(about_listener(entry, "ResolvedRefs", problem.reason, what, hint=problem.hint))
    if not bundle:
        what = "has no authority to check clients by; it is closed so that nobody enters unchecked"
        hint = f"Mend `{_field(gateway, key)}` of Gateway `{gateway.key}`"
        findings.append(about_listener(entry, "Accepted", "NoValidCACertificate", what, hint=hint))
        return None, False
    return ClientValidation(key, required=validation.mode != FALLBACK), True


def insecure(gateway: Gateway) -> Iterator[Finding]:
    """Tells of every port where clients without a valid certificate are let in, which somebody wanted."""
    for key in _validated(gateway.key, gateway):
        validation = validation_of(gateway, key)
        if validation is not None and validation.mode == FALLBACK:
            where = f"port {key.port}" if key.port else "every HTTPS port without settings of its own"
            yield Finding(
                object=gateway.ref,
                severity="warning",
                condition="InsecureFrontendValidationMode",
                reason="ConfigurationChanged",
                message=f"Gateway `{gateway.key}` lets in clients without a valid certificate on {where}",
                hint="Use mode AllowValidOnly as soon as all clients have one",
                field=_field(gateway, key).removesuffix(".caCertificateRefs") + ".mode",
            )


def _field(gateway: Gateway, key: FrontendKey) -> str:
    frontend = gateway.spec.tls.frontend if gateway.spec.tls is not None else None
    place = next((i for i, each in enumerate(frontend.per_port) if each.port == key.port), None) if frontend else None
    where = f"perPort[{place}].tls" if place is not None else "default"
    return f"spec.tls.frontend.{where}.validation.caCertificateRefs"


def _resolve(
    read: Read, gateway: Gateway, validation: FrontendTLSValidation, field: str
) -> tuple[bytes, list[_Problem]]:
    """The certificates of all authorities that can be read, and what is wrong with the others."""
    bundles: list[bytes] = []
    problems: list[_Problem] = []
    for index, ref in enumerate(validation.ca_certificate_refs):
        target = authority(ref.group, ref.kind, ref.namespace or gateway.key.namespace, ref.name)
        found = _follow(read, gateway, target, f"{field}[{index}]")
        if isinstance(found, _Problem):
            problems.append(found)
        else:
            bundles.append(found)
    return b"\n".join(bundles), problems


def _follow(read: Read, gateway: Gateway, target: Ref, field: str) -> bytes | _Problem:
    if not is_supported(read, target):
        what = f"is a {target.group or 'core'}/{target.kind}, which holds no authorities here"
        return _Problem("InvalidCACertificateKind", what, "Name a ConfigMap with the key `ca.crt`", field)
    if target.namespace and not may_refer(read, gateway.ref, target):
        hint = (
            f"Allow it with a ReferenceGrant in namespace `{target.namespace}` from Gateway of "
            f"`{gateway.key.namespace}` to {target.kind}"
        )
        return _Problem("RefNotPermitted", f"may not be {target} of another namespace", hint, field)
    found = read_authorities(read, target)
    if isinstance(found, AuthorityFault):
        return _Problem("InvalidCACertificateRef", found.what, found.hint, field)
    return found
