"""Certificates of clients on the real Envoy: who is let in, by which port, and what happens when authorities change."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.certificates import Authority
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = pytest.mark.live

HOST = "shop.example.com"
REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"hostname": "done.example.com"}}


class Client:
    """A client's certificate in a file, and what a gateway answers to whoever shows it."""

    def __init__(self, folder: Path, authority: Authority, name: str) -> None:
        self.path = folder / f"{name}.pem"
        self.path.write_text("".join(authority.issue(name)))


def ask(gateway: LiveGateway, port: int, client: Client | None) -> int | None:
    """The status of one request over TLS; None when the handshake, or what follows it, is refused."""
    context = ssl.create_default_context(cadata=gateway.places.authority.pem)
    if client is not None:
        context.load_cert_chain(client.path)
    address = (gateway.places.address("infra/door"), gateway.places.port(port))
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        secured.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        head = secured.recv(4096)
        return int(head.split()[1]) if head else None
    return None


def authority_of(name: str, pem: str) -> Manifest:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": pem}}


def validation(name: str, mode: str = "AllowValidOnly") -> Manifest:
    refs = [{"group": "", "kind": "ConfigMap", "name": name}]
    return {"validation": {"mode": mode, "caCertificateRefs": refs}}


def door(*, mode: str = "AllowValidOnly") -> Manifest:
    """A Gateway that checks clients on 443 by one authority, on 8443 by another, and on 9443 not at all."""
    per_port = [
        {"port": "${port:8443}", "tls": validation("ca-8443")},
        {"port": "${port:9443}", "tls": {}},
    ]
    certificate = {"certificateRefs": [{"name": "door"}]}
    return {
        "kind": "Gateway",
        "metadata": {"name": "door"},
        "spec": {
            "tls": {"frontend": {"default": validation("ca", mode), "perPort": per_port}},
            "listeners": [
                {"name": f"https-{port}", "port": port, "protocol": "HTTPS", "tls": certificate}
                for port in (443, 8443, 9443)
            ],
        },
    }


@pytest.fixture(scope="module")
def authorities() -> dict[int, Authority]:
    return {port: Authority(f"Authority of clients on {port}") for port in (443, 8443)}


@pytest.fixture
def gateway(fleet: Fleet, authorities: dict[int, Authority], tmp_path: Path) -> Iterator[LiveGateway]:
    places = Places(fleet)
    manifests: list[Manifest] = [
        {"kind": "Secret", "metadata": {"name": "door"}, "names": [HOST]},
        authority_of("ca", authorities[443].pem),
        authority_of("ca-8443", authorities[8443].pem),
        door(),
        {
            "kind": "HTTPRoute",
            "metadata": {"name": "all"},
            "spec": {"parentRefs": [{"name": "door"}], "rules": [{"filters": [REDIRECT]}]},
        },
    ]
    with running(tmp_path / "gateway", places, places.complete(manifests), "--concurrency", "1") as found:
        found.wait_live()
        yield found
    places.close()


def test_each_port_lets_in_whom_its_own_authority_vouches_for(
    gateway: LiveGateway, authorities: dict[int, Authority], tmp_path: Path
) -> None:
    known, other = Client(tmp_path, authorities[443], "known"), Client(tmp_path, authorities[8443], "other")
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [302, None, None]
    assert [ask(gateway, 8443, each) for each in (known, other, None)] == [None, 302, None]
    assert [ask(gateway, 9443, each) for each in (known, None)] == [302, 302]


def test_the_fallback_lets_everybody_in_and_is_taken_back(
    gateway: LiveGateway, authorities: dict[int, Authority], tmp_path: Path
) -> None:
    known, other = Client(tmp_path, authorities[443], "known"), Client(tmp_path, authorities[8443], "other")
    gateway.apply(gateway.places.complete([door(mode="AllowInsecureFallback")]))
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [302, 302, 302]
    assert [ask(gateway, 8443, each) for each in (known, other, None)] == [None, 302, None]
    gateway.apply(gateway.places.complete([door()]))
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [302, None, None]


def test_an_authority_is_exchanged_spoilt_and_mended(
    gateway: LiveGateway, authorities: dict[int, Authority], tmp_path: Path
) -> None:
    known, other = Client(tmp_path, authorities[443], "known"), Client(tmp_path, authorities[8443], "other")
    gateway.apply(gateway.places.complete([authority_of("ca", authorities[8443].pem)]))
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [None, 302, None]
    gateway.apply(gateway.places.complete([authority_of("ca", "garbage")]))
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [None, None, None]
    assert ask(gateway, 8443, other) == 302, "another port is not concerned"
    gateway.apply(gateway.places.complete([authority_of("ca", authorities[443].pem)]))
    assert [ask(gateway, 443, each) for each in (known, other, None)] == [302, None, None]
