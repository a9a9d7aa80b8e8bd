"""TLS from the proxy to a Backend's hosts (our own kind, `spec.tls`).

The invariant: verification is never dropped by accident. Trust that cannot be read is a fault, and the backend is then
not reached at all, neither in plain text nor unverified.
"""

from __future__ import annotations

from tripylon.api.own import Backend, BackendCAReference
from tripylon.graph import Read
from tripylon.model.cluster_plans import BackendTls
from tripylon.model.tls import parse_certificate
from tripylon.pem import read_certificates, written
from tripylon.values import Name, Ref, is_address
from tripylon.world.withheld import absence_of
from tripylon.world.world import CONFIG_MAPS, SECRETS

CA_KEY = "ca.crt"


def backend_tls(read: Read, backend: Backend) -> BackendTls | str | None:
    """How the hosts of a Backend are reached by TLS; None: in plain text; a text: why it cannot be done."""
    tls = backend.spec.tls
    if tls is None:
        return None
    bundles: list[bytes] = []
    for ref in tls.ca_certificate_refs:
        bundle = _bundle(read, backend.metadata.namespace, ref)
        if isinstance(bundle, str):
            return bundle
        bundles.append(bundle)
    client: Name | None = None
    chain = key = b""
    if tls.secret_ref is not None:
        client = Name(backend.metadata.namespace, tls.secret_ref.name)
        secret = read.get(SECRETS, client)
        if secret is None:
            return _absent(read, "Secret", client, "the client certificate")
        certificate = parse_certificate(client, secret)
        if certificate.fault:
            return f"Secret `{client}` {certificate.fault}"
        chain, key = certificate.chain, certificate.key
    sni = tls.sni or _first_name(backend)
    return BackendTls(
        sni=sni,
        names=tls.verify_subject_alt_names or (() if sni else _addresses(backend)),
        ca=b"\n".join(bundles),
        client_chain=chain,
        client_key=key,
        insecure=tls.insecure_skip_verify,
    )


def _bundle(read: Read, namespace: str, ref: BackendCAReference) -> bytes | str:
    name = Name(namespace, ref.name)
    if ref.group:
        return f"CA certificates of kind {ref.group}/{ref.kind} are not supported"
    found = read.get(SECRETS, name) if ref.kind == "Secret" else read.get(CONFIG_MAPS, name)
    if found is None:
        return _absent(read, ref.kind, name, "the CA certificates")
    bundle = found.contents.get(CA_KEY, b"")
    try:
        return written(read_certificates(bundle))
    except ValueError:
        return f"{ref.kind} `{name}` has no PEM certificates in `{CA_KEY}`"


def _absent(read: Read, kind: str, name: Name, content: str) -> str:
    absence = absence_of(read, Ref("", kind, *name), "")
    remedy = f"; {absence.hint[0].lower()}{absence.hint[1:]}" if absence.hint else ""
    return f"{kind} `{name}` with {content} {absence.what}{remedy}"


def _addresses(backend: Backend) -> tuple[str, ...]:
    """The addresses of hosts without any name, which their certificates must then carry."""
    hosts = backend.spec.static.hosts if backend.spec.static is not None else ()
    return tuple(dict.fromkeys(each.host for each in hosts))


def _first_name(backend: Backend) -> str:
    """The host name to ask for when none is stated: that of the first host, if it has a name."""
    if backend.spec.dns is not None:
        return backend.spec.dns.hostname
    return next(iter(_names(backend)), "")


def other_names(backend: Backend) -> tuple[str, ...]:
    """Host names that are nevertheless asked by TLS for the first one's, since one server name is sent to all."""
    if backend.spec.tls is None or backend.spec.tls.sni:
        return ()
    return _names(backend)[1:]


def _names(backend: Backend) -> tuple[str, ...]:
    """The different names among listed hosts, without the dot that may end a whole name."""
    hosts = backend.spec.static.hosts if backend.spec.static is not None else ()
    return tuple(dict.fromkeys(each.host.rstrip(".") for each in hosts if not is_address(each.host)))
