"""The lanes on the real Envoy: whatever changes but a Gateway's listeners, no listener does, and no connection ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.certificates import Authority
from tests.live.clients import Call, Session
from tests.live.collectors import GrpcCollector
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from tests.live.series import drained
from tests.live.tls_servers import TlsServer

pytestmark = pytest.mark.live

HOST = "shop.example.com"
X_API = "gateway.networking.x-k8s.io"


def service(name: str, port: int, address: str = "127.0.0.1") -> tuple[Manifest, Manifest]:
    """A Service with one endpoint on this machine."""
    return (
        {"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"name": "one", "port": 80}]}},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "one", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        },
    )


def route(name: str, to: str) -> Manifest:
    rule = {"matches": [{"path": {"value": f"/{name}"}}], "backendRefs": [{"name": to, "port": 80}]}
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "lanes"}], "rules": [rule]},
    }


def authorities(name: str, *trusted: Authority) -> Manifest:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": "".join(each.pem for each in trusted)}}


def gateway() -> Manifest:
    refs = [{"group": "", "kind": "ConfigMap", "name": "clients"}]
    clients = {"validation": {"mode": "AllowInsecureFallback", "caCertificateRefs": refs}}
    return {
        "kind": "Gateway",
        "metadata": {"name": "lanes"},
        "spec": {
            "tls": {"frontend": {"default": clients}},
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "lanes"}]}},
            ],
        },
    }


SECRET: Manifest = {"kind": "Secret", "metadata": {"name": "lanes"}, "names": [HOST]}
TRACES: Manifest = {
    "apiVersion": f"{X_API}/v1alpha1",
    "kind": "XTelemetryPolicy",
    "metadata": {"name": "traces"},
    "spec": {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "lanes"}],
        "tracing": {"mode": "Enabled", "provider": {"backendRef": {"name": "collector", "port": 80}}},
    },
}


def tls_policy() -> Manifest:
    refs = [{"group": "", "kind": "ConfigMap", "name": "backends"}]
    return {
        "kind": "BackendTLSPolicy",
        "apiVersion": "gateway.networking.k8s.io/v1",
        "metadata": {"name": "secured"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "secured"}],
            "validation": {"caCertificateRefs": refs, "hostname": "secured.example.com"},
        },
    }


class Stage:
    """A gateway that uses every lane, and two connections to it that are never closed."""

    def __init__(self, gateway: LiveGateway, sessions: tuple[Session, ...]) -> None:
        self.gateway = gateway
        self._sessions = sessions

    def change(self, *manifests: Manifest) -> None:
        self.gateway.apply(self.gateway.places.complete(list(manifests)))

    def ask(self, path: str) -> set[tuple[int, str]]:
        """Status and pod of an answer by each connection; none of them is asked to go."""
        answers = [session.send(Call(host=HOST, path=path)) for session in self._sessions]
        assert {answer.header("connection") for answer in answers} == {None}
        return {(answer.status, answer.pod.rpartition("-")[0]) for answer in answers}

    def untouched(self) -> None:
        """No listener was changed, in place or otherwise."""
        assert drained(self.gateway.state / "admin.sock") == (0, 0, 0)


TRUSTED, OTHER = Authority("of the backends"), Authority("another")


@pytest.fixture
def stage(layout: str, fleet: Fleet, tmp_path: Path) -> Iterator[Stage]:
    pods = {name: fleet.placed(f"infra/{name}") for name in ("echo-v1", "echo-v2")}
    secured, collector = TlsServer(tmp_path, TRUSTED, "secured.example.com"), GrpcCollector()
    places, options = Places(fleet), ("--concurrency", "1", "--route-layout", layout)
    manifests: list[Manifest] = [
        gateway(),
        SECRET,
        authorities("clients", TRUSTED),
        authorities("backends", OTHER),
        tls_policy(),
        TRACES,
        *service("shop", pods["echo-v1"].ports["http"], pods["echo-v1"].addresses[0]),
        *service("secured", secured.port),
        *service("collector", collector.port),
        *(route(name, name) for name in ("shop", "secured")),
    ]
    with (
        running(tmp_path / "gateway", places, places.complete(manifests), *options) as found,
        contextlib.ExitStack() as stack,
    ):
        found.wait_live()
        targets = (found.target("lanes", 80), found.target("lanes", 443, sni=HOST))
        yield Stage(found, tuple(stack.enter_context(Session(target)) for target in targets))
    places.close()
    secured.stop()
    collector.stop()


def test_no_listener_notices_what_changes_around_it(stage: Stage, fleet: Fleet) -> None:
    v1, v2 = (200, "infra/echo-v1"), (200, "infra/echo-v2")
    assert stage.ask("/shop") == {v1}
    moved = fleet.placed("infra/echo-v2")
    stage.change(*service("shop", moved.ports["http"], moved.addresses[0]))
    assert stage.ask("/shop") == {v2}
    stage.change(SECRET)
    with Session(stage.gateway.target("lanes", 443, sni=HOST)) as new:
        assert new.send(Call(host=HOST, path="/shop")).status == 200
    stage.change(authorities("clients", OTHER))
    assert stage.ask("/secured") == {(503, "")}
    stage.change(authorities("backends", TRUSTED))
    assert stage.ask("/secured") == {(200, "")}
    assert stage.ask("/new") == {(404, "")}
    stage.change(*service("new", moved.ports["http"], moved.addresses[0]), route("new", "new"))
    assert stage.ask("/new") == {v2}
    stage.untouched()


def test_no_listener_notices_what_becomes_of_a_collector(stage: Stage) -> None:
    collector = GrpcCollector()
    told, slices = service("collector", collector.port)
    try:
        stage.gateway.delete(["Service infra/collector"])
        assert stage.ask("/shop") == {(200, "infra/echo-v1")}
        stage.change(told, slices)
        stage.ask("/shop")
        assert collector.wait_for("/shop", 2)
        stage.untouched()
    finally:
        collector.stop()
