"""Flags of `proxy` → the objects that one would write into files."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TypeVar

import pytest
from cryptography import x509

from tripylon import app
from tripylon.api.core import Secret
from tripylon.api.gateway import Gateway
from tripylon.api.meta import Resource
from tripylon.api.own import Backend
from tripylon.api.routes import HTTPRoute
from tripylon.cli.certificate import self_signed
from tripylon.cli.proxy import Target, located, objects, target
from tripylon.loop import new_graph
from tripylon.settings import Settings
from tripylon.world import world

R = TypeVar("R", bound=Resource)


def of(kind: type[R], made: tuple[Resource, ...]) -> list[R]:
    return [each for each in made if isinstance(each, kind)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("http://127.0.0.1:9000", ("http", "127.0.0.1", 9000)),
        ("127.0.0.1:9000", ("http", "127.0.0.1", 9000)),
        ("localhost", ("http", "localhost", 80)),
        ("https://example.com/", ("https", "example.com", 443)),
        ("http://[::1]:9000", ("http", "::1", 9000)),
    ],
)
def test_targets(text: str, meant: tuple[str, str, int]) -> None:
    assert target(text) == Target(scheme=meant[0], host=meant[1], port=meant[2])


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_localhost_is_where_something_listens(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        to = located(target(f"https://localhost:{server.getsockname()[1]}"))
    assert (to.host, to.address) == ("localhost", address)
    (backend,) = of(Backend, objects(8080, [to], hosts=[], tls=False, insecure=False))
    assert backend.spec.static is not None
    assert backend.spec.tls is not None
    assert (backend.spec.static.hosts[0].host, backend.spec.tls.sni) == (address, "localhost")


def test_other_targets_stay_names() -> None:
    assert located(target("example.com")).address == ""
    assert located(target("localhost:1")).address == "127.0.0.1"


def test_https_targets_are_verified_and_asked_by_their_name() -> None:
    made = objects(8080, [target("https://example.com")], hosts=[], tls=False, insecure=False)
    (backend,), (route,) = of(Backend, made), of(HTTPRoute, made)
    assert backend.spec.tls is not None
    assert (backend.spec.tls.sni, backend.spec.tls.well_known_ca_certificates) == ("example.com", "System")
    (rewrite,) = route.spec.rules[0].backend_refs[0].filters
    assert rewrite.url_rewrite is not None
    assert rewrite.url_rewrite.hostname == "example.com"


def test_insecure_targets_are_not_verified() -> None:
    (backend,) = of(Backend, objects(8080, [target("https://10.0.0.1")], hosts=[], tls=False, insecure=True))
    assert backend.spec.tls is not None
    assert (backend.spec.tls.insecure_skip_verify, backend.spec.tls.sni) == (True, "")


def test_plain_targets_get_no_tls_and_hosts_become_hostnames() -> None:
    made = objects(8080, [target("a:1"), target("b:2")], hosts=["x.example"], tls=False, insecure=False)
    assert [backend.spec.tls for backend in of(Backend, made)] == [None, None]
    assert of(HTTPRoute, made)[0].spec.hostnames == ("x.example",)
    assert of(Gateway, made)[0].spec.listeners[0].protocol == "HTTP"
    assert of(Secret, made) == []


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("to", ["http://127.0.0.1:9000", "https://example.com", "https://10.0.0.1"])
def test_the_model_has_nothing_to_complain_about(to: str, *, tls: bool) -> None:
    settings = Settings()
    graph = new_graph(app.model_options(settings), app.emit_options(settings))
    for each in objects(8080, [target(to)], hosts=["a.localhost"], tls=tls, insecure=False):
        world.put(graph, each)
    graph.flush()
    assert [str(finding) for finding in graph.all_findings()] == []


def test_the_certificate_names_its_hosts_and_this_machine() -> None:
    chain, key = self_signed(["shop.localhost", "localhost"])
    (certificate,) = x509.load_pem_x509_certificates(chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.localhost", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 90
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")
