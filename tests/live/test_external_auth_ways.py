"""ExternalAuth by every way into a rule on the real Envoy: upgrades, preflights, HTTP/2, shares, secured listeners."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.auth_servers import HttpAuth
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from tests.live.test_external_auth import KNOWN, asking, service

pytestmark = pytest.mark.live

HOST, OTHER = "shop.example.com", "open.example.com"
REFUSED = (401, 403)
"""By the service, or since it knows no such method."""
UPGRADE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
CORS: Manifest = {"type": "CORS", "cors": {"allowOrigins": ["https://a.example.com"], "allowMethods": ["POST"]}}


def gateway_of(*, closed: bool = False) -> Manifest:
    """An open HTTP listener, an HTTPS listener that asks, and one of the same port that does not."""
    filters = {"requests": [asking("HTTP", "no-such-service" if closed else "http-auth")]}
    certificate = {"certificateRefs": [{"name": "door"}]}
    secured = {"port": 443, "protocol": "HTTPS", "tls": certificate}
    return {
        "kind": "Gateway",
        "metadata": {"name": "door"},
        "spec": {
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "asking", "hostname": HOST, "filters": filters, **secured},
                {"name": "open", "hostname": OTHER, **secured},
            ]
        },
    }


def route() -> Manifest:
    backend: Manifest = {"name": "echo-v1", "port": 8080}
    guarded: Manifest = {"name": "echo-v2", "port": 8080, "filters": [asking("HTTP", "http-auth")]}
    rules = [
        {
            "matches": [{"path": {"value": "/rule"}}],
            "filters": [asking("HTTP", "http-auth"), CORS],
            "backendRefs": [backend],
        },
        {"matches": [{"path": {"value": "/share"}}], "filters": [CORS], "backendRefs": [backend, guarded]},
        {"matches": [{"path": {"value": "/tls"}}], "backendRefs": [backend]},
    ]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {"parentRefs": [{"name": "door"}], "hostnames": [HOST, OTHER], "rules": rules},
    }


@pytest.fixture(scope="module")
def gateway(layout: str, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places, by_http = Places(fleet), HttpAuth()
    own = [*service("http-auth", by_http.port), gateway_of(), route()]
    own.append({"kind": "Secret", "metadata": {"name": "door"}, "names": [HOST, OTHER]})
    folder = tmp_path_factory.mktemp("gateway")
    with running(
        folder, places, [*places.base(), *places.complete(own)], "--concurrency", "1", "--route-layout", layout
    ) as found:
        found.wait_live()
        yield found
    by_http.stop()
    places.close()


def call(path: str, *headers: tuple[str, str], method: str = "GET", host: str = HOST) -> clients.Call:
    return clients.Call(host=host, path=path, headers=headers, method=method)


def test_an_upgrade_is_asked_for_like_every_request(gateway: LiveGateway) -> None:
    target = gateway.target("door", 80)
    with clients.dial(target) as connection:
        lines = [f"GET /rule/ws HTTP/1.1\r\nHost: {HOST}", *(f"{name}: {value}" for name, value in UPGRADE)]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert connection.recv(4096).split()[1] == b"401"


def test_options_and_preflights_reach_no_backend_unasked(gateway: LiveGateway) -> None:
    target = gateway.target("door", 80)
    asked = ("Access-Control-Request-Method", "POST")
    own, foreign = ("Origin", "https://a.example.com"), ("Origin", "https://b.example.org")
    assert clients.http1(target, call("/rule", method="OPTIONS")).status in REFUSED
    assert clients.http1(target, call("/rule", asked, method="OPTIONS")).status in REFUSED
    assert clients.http1(target, call("/rule", own, method="POST")).status == 401
    assert clients.http1(target, call("/rule", own, method="OPTIONS")).status in REFUSED
    assert clients.http1(target, call("/rule", own, asked, method="OPTIONS")).status == 200
    assert clients.http1(target, call("/rule", foreign, asked, method="OPTIONS")).status in REFUSED


def test_a_guarded_share_lets_nobody_in_by_any_method(gateway: LiveGateway) -> None:
    target, asked = gateway.target("door", 80), ("Access-Control-Request-Method", "POST")
    found = [clients.http1(target, call("/share")) for _ in range(40)]
    found += [clients.http1(target, call("/share", asked, method="OPTIONS")) for _ in range(10)]
    assert {each.status for each in found[:40]} == {200, 401}
    assert not any(each.status == 200 and "echo-v2" in each.pod for each in found)


def test_a_secured_listener_asks_whatever_host_and_version(gateway: LiveGateway) -> None:
    asking_, open_ = gateway.target("door", 443, sni=HOST), gateway.target("door", 443, sni=OTHER)
    for send in (clients.http1, clients.http2):
        assert send(asking_, call("/tls")).status == 401
        assert send(asking_, call("/tls", KNOWN)).status == 200
        assert send(asking_, call("/tls", host=OTHER)).status == 421
        assert send(open_, call("/tls", host=OTHER)).status == 200
        assert send(open_, call("/tls", host=HOST)).status == 421
        assert send(open_, call("/tls", host=f"{HOST}.")).status in (404, 421)
        assert send(open_, call("/tls", host=HOST.upper())).status == 421
        assert send(open_, call("/tls", host=f"{HOST}:443")).status == 421
    gateway.apply(gateway.places.complete([gateway_of(closed=True)]))
    assert clients.http2(asking_, call("/tls", KNOWN)).status == 500
    assert clients.http2(open_, call("/tls", host=OTHER)).status == 200
