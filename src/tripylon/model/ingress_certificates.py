"""Certificates of an Ingress that its gateway does not present, and why.

Those that it presents stand in HTTPS listeners, which `holders.py` adds to the gateway; what is wrong with a Secret is
told by `tls.py`. The invariant: each host of `spec.tls` is served by its own certificate, or it is told by which.
"""

from __future__ import annotations

from collections.abc import Iterator

from tripylon.api.ingress import Ingress
from tripylon.findings import Finding, Severity
from tripylon.graph import Read
from tripylon.model.ingress_places import INGRESS_PLACES, IngressCertificate, certificates_of
from tripylon.model.plan import Listener
from tripylon.model.served import named
from tripylon.values import Name, hostname_matches


def unpresented(read: Read, ingress: Ingress, gateway: Name, listeners: tuple[Listener, ...]) -> Iterator[Finding]:
    """What is to tell about each host of `spec.tls` at a gateway of which these listeners take the Ingress."""
    for each in certificates_of(ingress):
        yield from _judge(read, ingress, gateway, each)
    secure = [listener.hostname for listener in listeners if listener.protocol == "HTTPS"]
    for place, entry in enumerate(ingress.spec.tls):
        bare = [host for host in entry.hosts if not any(hostname_matches(each, host.lower()) for each in secure)]
        if not entry.secret_name and bare:
            what = f"names no Secret for `{bare[0]}`, for which Gateway `{gateway}` has no HTTPS listener"
            hint = "Name a Secret, or add a listener with a certificate to the Gateway"
            yield _finding(ingress, place, "InvalidCertificateRef", what, hint)


def _judge(read: Read, ingress: Ingress, gateway: Name, wanted: IngressCertificate) -> Iterator[Finding]:
    there = [each for each in named(read, gateway, wanted.hostname) if each.protocol == "HTTPS"]
    if any(listener.holder == ingress.ref for listener in there):
        return
    host = f"`{wanted.hostname or '*'}`"
    if not there:
        what = f"may not add the certificate for {host} to Gateway `{gateway}`"
        hint = f"Allow namespace `{ingress.metadata.namespace}` by `spec.allowedListeners` of the Gateway"
        yield _finding(ingress, wanted.place, "NotAllowed", what, hint, severity="error")
        return
    holder = there[0].holder
    other = read.get(INGRESS_PLACES, holder.key) if holder.kind == "Ingress" else None
    if other is None:
        what = f"has a certificate for {host}, for which the listener `{there[0].name}` of {holder} presents its own"
        yield _finding(ingress, wanted.place, "HostnameConflict", what, "Remove it from the Ingress", severity="info")
        return
    same = any((each.hostname, each.secret) == (wanted.hostname, wanted.secret) for each in other.certificates)
    if holder.namespace != ingress.metadata.namespace or not same:
        what = f"has a certificate for {host}, for which {holder}, which came first, has another one"
        yield _finding(ingress, wanted.place, "HostnameConflict", what, "Use one Secret for the host in one namespace")


def _finding(
    ingress: Ingress, place: int, reason: str, what: str, hint: str, *, severity: Severity = "warning"
) -> Finding:
    return Finding(
        object=ingress.ref,
        severity=severity,
        condition="ResolvedRefs" if reason == "InvalidCertificateRef" else "Accepted",
        reason=reason,
        message=f"{ingress.ref} {what}",
        hint=hint,
        field=f"spec.tls[{place}]",
    )
