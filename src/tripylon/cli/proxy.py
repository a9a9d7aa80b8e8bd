"""`tripylon proxy`: a reverse proxy with no file at all.

The flags become the same objects that one would write into files (Gateway, HTTPRoute, Backend, Secret), and the same
engine serves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from tripylon.cli import UsageError
from tripylon.cli.options import EnvoyBinary, Logging, address, use_envoy
from tripylon.cli.run import (
    DEFAULT_ADMIN,
    DEFAULT_LOGGING,
    AccessLog,
    Admin,
    Concurrency,
    DrainLimit,
    Stats,
    access_log_place,
    admin_address,
    at_least,
    ip,
    start,
)
from tripylon.settings import DEFAULT_STATE, Settings

if TYPE_CHECKING:
    from tripylon.api.meta import Resource

_LOOPBACK = ("127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


class Target(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where requests go, as `--to` names it."""

    scheme: str
    host: str
    """The name by which the target is asked, and which its certificate must carry."""
    port: int
    address: str = ""
    """Where it is, when that is not to be looked up."""


def proxy(
    *,
    from_: Annotated[str, Parameter(name="--from", help="Where to listen: host:port, :port or port.")] = ":8080",
    to: Annotated[list[str], Parameter(help="Where requests go; several share them.", negative=())],
    host: Annotated[list[str] | None, Parameter(help="Host to answer for; default: every one.", negative=())] = None,
    tls: Annotated[bool, Parameter(help="Serve HTTPS with a self-made certificate.", negative=())] = False,
    insecure: Annotated[bool, Parameter(help="Do not verify the certificates of targets.", negative=())] = False,
    admin: Admin = DEFAULT_ADMIN,
    state: Annotated[Path | None, Parameter(help="Folder for sockets; default: .tripylon/proxy-PORT.")] = None,
    concurrency: Concurrency = 0,
    access_log: AccessLog = "stdout",
    envoy_stats: Stats = "usual",
    drain_limit: DrainLimit = 10.0,
    envoy_binary: EnvoyBinary = None,
    logging: Logging = DEFAULT_LOGGING,
) -> int:
    """Serve a reverse proxy with no file at all.

    The Host header is passed on as it is to http targets; https targets get their own name and must show a certificate
    that the system trusts.
    """
    logging.configure()
    use_envoy(envoy_binary)
    place = address(from_, flag="--from", default_host="0.0.0.0")  # noqa: S104 - what the user asked for
    if not place.port:
        raise UsageError("--from: name a port from 1 to 65535")
    settings = Settings(
        paths=(),
        bind=ip(place.host, flag="--from"),
        admin=admin_address(admin),
        state=state or DEFAULT_STATE / f"proxy-{place.port}",
        concurrency=at_least(0, concurrency, flag="--concurrency"),
        log_level=logging.log_level,
        log_format=logging.log_format,
        access_log=access_log_place(access_log),
        envoy_stats=envoy_stats,
        drain_limit_s=at_least(0, drain_limit, flag="--drain-limit"),
    )
    targets = [located(target(text)) for text in to]
    return start(settings, objects(place.port, targets, hosts=host or [], tls=tls, insecure=insecure))


def target(text: str) -> Target:
    """What one `--to` means; UsageError when it is no target."""
    url = urlsplit(text if "//" in text else f"http://{text}")
    try:
        port = url.port
    except ValueError as error:
        raise UsageError(f"--to: {text!r}: {error}") from error
    if url.scheme not in _PORTS or not url.hostname:
        raise UsageError(f"--to: {text!r} is no target: write http://host:port or https://host:port")
    if url.path not in ("", "/") or url.query or url.fragment or url.username:
        raise UsageError(f"--to: {text!r}: only scheme, host and port count; leave out the rest")
    return Target(scheme=url.scheme, host=url.hostname, port=port or _PORTS[url.scheme])


def located(to: Target) -> Target:
    """The same target, with `localhost` as the one of its addresses that answers now; IPv4 when none does.

    Servers under development often listen on one of the two only, and Envoy does not try the other.
    """
    if to.host != "localhost":
        return to
    address = next((each for each in _LOOPBACK if _listens(each, to.port)), _LOOPBACK[0])
    return msgspec.structs.replace(to, address=address)


def _listens(address: str, port: int) -> bool:
    import socket

    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def objects(
    port: int, targets: Sequence[Target], *, hosts: Sequence[str], tls: bool, insecure: bool
) -> tuple[Resource, ...]:
    """The objects that say what the flags say; UsageError when they are not valid."""
    documents = [_gateway(port, tls=tls), _route(targets, hosts)]
    documents += [_backend(number, each, insecure=insecure) for number, each in enumerate(targets)]
    if tls:
        documents.append(_certificate(tuple(hosts) or ("localhost",)))
    return tuple(_decoded(document) for document in documents)


def _decoded(document: dict[str, Any]) -> Resource:
    from tripylon.api.kinds import decode, find
    from tripylon.api.validate import validate

    kind = find(document["apiVersion"], document["kind"])
    assert kind is not None
    problems = validate(kind, document)
    if problems:
        raise UsageError("; ".join(problem.message for problem in problems))
    return decode(kind, document)


def _gateway(port: int, *, tls: bool) -> dict[str, Any]:
    listener: dict[str, Any] = {"name": "proxy", "port": port, "protocol": "HTTPS" if tls else "HTTP"}
    if tls:
        listener["tls"] = {"certificateRefs": [{"name": "proxy"}]}
    spec = {"gatewayClassName": "tripylon", "listeners": [listener]}
    return _object("gateway.networking.k8s.io/v1", "Gateway", "proxy", spec)


def _route(targets: Sequence[Target], hosts: Sequence[str]) -> dict[str, Any]:
    refs = [_backend_ref(number, each) for number, each in enumerate(targets)]
    spec: dict[str, Any] = {"parentRefs": [{"name": "proxy"}], "rules": [{"backendRefs": refs}]}
    if hosts:
        spec["hostnames"] = list(hosts)
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", "proxy", spec)


def _backend_ref(number: int, to: Target) -> dict[str, Any]:
    ref: dict[str, Any] = {"group": "gateway.tripylon.dev", "kind": "Backend", "name": _name(number)}
    if to.scheme == "https" and not _is_ip(to.host):
        # Servers on the web answer by the name that they are asked for.
        rewrite = {"type": "URLRewrite", "urlRewrite": {"hostname": to.host}}
        ref["filters"] = [rewrite]
    return ref


def _backend(number: int, to: Target, *, insecure: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {"static": {"hosts": [{"host": to.address or to.host, "port": to.port}]}}
    if to.scheme == "https":
        spec["tls"] = {"insecureSkipVerify": True} if insecure else {"wellKnownCACertificates": "System"}
        if not _is_ip(to.host):
            spec["tls"]["sni"] = to.host
    return _object("gateway.tripylon.dev/v1alpha1", "Backend", _name(number), spec)


def _certificate(hosts: tuple[str, ...]) -> dict[str, Any]:
    from tripylon.cli.certificate import self_signed

    chain, key = self_signed(hosts)
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    data = {"tls.crt": chain.decode(), "tls.key": key.decode()}
    return {**secret, "metadata": {"name": "proxy", "namespace": "default"}, "stringData": data}


def _object(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _name(number: int) -> str:
    return f"to-{number + 1}"


def _is_ip(host: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(host)
    except ValueError:
        return False
    return True
