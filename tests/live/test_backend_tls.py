"""BackendTLSPolicy and the Gateway's client certificate, on the real Envoy: what the backends saw of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from tests.live import clients
from tests.live.certificates import Authority
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places
from tests.live.tls_servers import TlsServer

pytestmark = pytest.mark.live

Seen = dict[str, object]


class Stage:
    """A gateway with two listeners' worth of Gateways, `edge` and `open`, and backends of the test's own."""

    def __init__(self, gateway: LiveGateway, places: Places, authority: Authority, clients: Authority) -> None:
        self.gateway, self.places = gateway, places
        self.authority, self.clients = authority, clients

    def apply(self, *manifests: Manifest) -> None:
        self.gateway.apply(self.places.complete(list(manifests)))

    def get(self, path: str, *, gateway: str = "edge") -> tuple[int, Seen]:
        answer = clients.http1(self.gateway.target(gateway, 80), clients.Call(host="a.example.com", path=path))
        return answer.status, json.loads(answer.body) if answer.status == 200 else {}

    def found(self, path: str) -> Seen:
        """The answer once there is one: a host's name is looked up first."""
        deadline = time.monotonic() + 60
        while (answer := self.get(path))[0] != 200:
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)
        return answer[1]

    def status(self, policy: str) -> dict[str, dict[str, str]]:
        """By Gateway the conditions of a policy, as `True Accepted`."""
        found = self.gateway.objects()[f"BackendTLSPolicy infra/{policy}"].get("status", {})
        assert isinstance(found, dict)
        return {
            each["ancestorRef"]["name"]: {one["type"]: f"{one['status']} {one['reason']}" for one in each["conditions"]}
            for each in found.get("ancestors", ())
        }


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Authority of the TLS backends")


@pytest.fixture(scope="module")
def client_authority() -> Authority:
    return Authority("Authority of the gateways' client certificates")


@pytest.fixture(scope="module")
def stage(
    fleet: Fleet,
    authority: Authority,
    client_authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    places = Places(fleet)
    with running(tmp_path_factory.mktemp("gateway"), places, places.base(), "--concurrency", "1") as gateway:
        gateway.wait_live()
        yield Stage(gateway, places, authority, client_authority)
    places.close()


@pytest.fixture
def backend(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    server = TlsServer(
        tmp_path_factory.mktemp("backend"), authority, "abc.example.com", "other.example.com", "spiffe://mesh/ns/one"
    )
    yield server
    server.stop()


def service(name: str, server: TlsServer, *, port_name: str = "https") -> tuple[Manifest, Manifest]:
    """A Service with one endpoint, the server."""
    return (
        {
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"name": port_name, "port": 443, "targetPort": server.port}]},
        },
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": port_name, "port": server.port}],
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        },
    )


def route(name: str, *gateways: str, to: str = "", port: int = 443) -> Manifest:
    """Requests for `/name` to the Service of that name, or to another one."""
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": gateway} for gateway in gateways or ("edge",)],
            "rules": [
                {"matches": [{"path": {"value": f"/{name}"}}], "backendRefs": [{"name": to or name, "port": port}]}
            ],
        },
    }


def policy(
    name: str, *, service: str = "", ca: str = "ca", hostname: str = "abc.example.com", **more: object
) -> Manifest:
    """A BackendTLSPolicy for the Service of that name, or for another one."""
    authorities = [{"group": "", "kind": "ConfigMap", "name": ca}]
    validation: Manifest = {"caCertificateRefs": authorities, "hostname": hostname, **more}
    target = {"group": "", "kind": "Service", "name": service or name}
    return {
        "kind": "BackendTLSPolicy",
        "apiVersion": "gateway.networking.k8s.io/v1",
        "metadata": {"name": name},
        "spec": {"targetRefs": [target], "validation": validation},
    }


def config_map(name: str, *authorities: Authority) -> Manifest:
    return {
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"ca.crt": "".join(each.pem for each in authorities)},
    }


def test_a_service_is_reached_by_verified_tls(stage: Stage, backend: TlsServer) -> None:
    stage.apply(
        *service("plain-tls", backend), config_map("ca", stage.authority), policy("plain-tls"), route("plain-tls")
    )
    status, seen = stage.get("/plain-tls")
    assert (status, seen["sni"], seen["alpn"], seen["client"]) == (200, "abc.example.com", "http/1.1", "")
    assert stage.status("plain-tls") == {"edge": {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}}


URI = {"type": "URI", "uri": "spiffe://mesh/ns/one"}
OTHER = {"type": "Hostname", "hostname": "other.example.com"}
WRONG = {"type": "Hostname", "hostname": "x.example.com"}


@pytest.mark.parametrize(
    ("name", "expected", "more"),
    [
        ("host-mismatch", 503, {"hostname": "no.example.com"}),
        ("ca-mismatch", 503, {"ca": "ca-of-others"}),
        ("san-uri", 200, {"hostname": "no.example.com", "subjectAltNames": [URI]}),
        ("san-dns", 200, {"hostname": "no.example.com", "subjectAltNames": [OTHER]}),
        ("san-one-of", 200, {"subjectAltNames": [WRONG, URI]}),
        ("san-mismatch", 503, {"subjectAltNames": [WRONG]}),
        ("ca-missing", 500, {"ca": "nowhere"}),
    ],
)
def test_what_is_verified(stage: Stage, backend: TlsServer, name: str, expected: int, more: dict[str, object]) -> None:
    others = config_map("ca-of-others", Authority("Others"))
    ruled = policy(name, **more)  # type: ignore[arg-type]
    stage.apply(*service(name, backend), config_map("ca", stage.authority), others, ruled, route(name))
    status, seen = stage.get(f"/{name}")
    assert status == expected
    if expected == 200:
        validation = ruled["spec"]["validation"]  # type: ignore[index]
        assert seen["sni"] == validation["hostname"]


def test_a_policy_on_a_service_in_use_never_lets_a_request_pass_in_between(stage: Stage, fleet: Fleet) -> None:
    """A Service that speaks plain text is used; a policy comes that nothing can meet: requests fail from then on."""
    placed = fleet.placed("infra/echo-v1")
    stage.apply(
        route("in-use", to="echo-v1"),
        {"kind": "ConfigMap", "metadata": {"name": "ca-echo"}, "data": {"ca.crt": fleet.authority.pem}},
    )
    assert placed.ports["https"]
    number = fleet.next_number()
    stage.apply(policy("in-use", service="echo-v1", ca="ca-echo"))
    status, seen = stage.get("/in-use")
    assert status == 200
    assert isinstance(seen["tls"], dict)
    stage.apply(policy("in-use", service="echo-v1", ca="ca-echo", hostname="wrong.example.com"))
    assert stage.get("/in-use")[0] == 503
    stage.apply(policy("in-use", service="echo-v1", ca="nowhere"))
    assert stage.get("/in-use")[0] == 500
    assert len(fleet.log_since(number)) == 1
    stage.gateway.delete(["BackendTLSPolicy infra/in-use"])


def test_authorities_change_without_a_connection_lost(stage: Stage, backend: TlsServer) -> None:
    authorities = config_map("ca-rotate", stage.authority)
    stage.apply(*service("rotate", backend), authorities, policy("rotate", ca="ca-rotate"), route("rotate"))
    first = stage.get("/rotate")[1]["connection"]
    stage.apply(config_map("ca-rotate", stage.authority, Authority("The next one")))
    assert stage.get("/rotate")[1]["connection"] == first
    stage.apply({"kind": "ConfigMap", "metadata": {"name": "ca-rotate"}, "data": {}})
    assert stage.get("/rotate")[0] == 500
    assert stage.status("rotate") == {
        "edge": {"Accepted": "False NoValidCACertificate", "ResolvedRefs": "False InvalidCACertificateRef"}
    }
    stage.apply(config_map("ca-rotate", stage.authority))
    assert stage.get("/rotate")[0] == 200
    stage.gateway.delete(["ConfigMap infra/ca-rotate"])
    assert stage.get("/rotate")[0] == 500
    stage.apply(config_map("ca-rotate", stage.authority))
    assert stage.get("/rotate")[0] == 200


def test_each_gateway_shows_its_own_certificate(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = TlsServer(tmp_path_factory.mktemp("mutual"), stage.authority, "abc.example.com", clients=stage.clients)
    shown = {name: stage.clients.issue(f"{name}.clients.example.com") for name in ("one", "two")}
    stage.apply(
        *service("mutual", server),
        config_map("ca", stage.authority),
        policy("mutual"),
        route("mutual", "open", "edge"),
        *(secret(name, *pair) for name, pair in shown.items()),
    )
    try:
        assert stage.get("/mutual", gateway="edge")[0] == 503
        stage.apply(with_client("edge", "one"), with_client("open", "two"))
        assert stage.get("/mutual", gateway="edge")[1]["client"] == shown["one"][0]
        assert stage.get("/mutual", gateway="open")[1]["client"] == shown["two"][0]
        stage.apply(with_client("edge", "nowhere"))
        assert stage.get("/mutual", gateway="edge")[0] == 500
        assert stage.get("/mutual", gateway="open")[0] == 200
        assert set(stage.status("mutual")) == {"edge", "open"}
    finally:
        stage.gateway.apply([each for each in stage.places.base() if each["kind"] == "Gateway"])
        server.stop()


def secret(name: str, chain: str, key: str) -> Manifest:
    return {
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": chain, "tls.key": key},
    }


def with_client(gateway: str, secret: str) -> Manifest:
    """A Gateway that shows a certificate to backends."""
    return {
        "kind": "Gateway",
        "metadata": {"name": gateway},
        "spec": {
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            "tls": {"backend": {"clientCertificateRef": {"group": "", "kind": "Secret", "name": secret}}},
        },
    }


def test_policies_come_and_go_quickly_and_new_routes_still_go_live(stage: Stage, backend: TlsServer) -> None:
    stage.apply(*service("quick", backend), config_map("ca-quick", stage.authority), route("quick"))
    written = stage.places.complete([policy("quick", ca="ca-quick")])[0]
    for _ in range(20):
        stage.gateway.write(written)
        time.sleep(0.05)
        stage.gateway.path("BackendTLSPolicy infra/quick").unlink()
        time.sleep(0.02)
    stage.apply(policy("quick", ca="ca-quick"))
    assert stage.get("/quick")[0] == 200
    stage.apply(*service("after", backend), policy("after", ca="ca-quick"), route("after"))
    assert stage.get("/after")[0] == 200


def x_backend(name: str, server: TlsServer, **more: object) -> Manifest:
    """An XBackend with the server as its external host."""
    return {
        "kind": "XBackend",
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "metadata": {"name": name},
        "spec": {
            "type": "ExternalHostname",
            "port": {"number": server.port},
            "externalHostname": {"hostname": "localhost"},
            **more,
        },
    }


def x_route(name: str) -> Manifest:
    ref = {"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": name}
    rules = [{"matches": [{"path": {"value": f"/{name}"}}], "backendRefs": [ref]}]
    return {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": {"parentRefs": [{"name": "edge"}], "rules": rules}}


def test_an_external_host_is_verified_and_shown_a_certificate_as_its_xbackend_says(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = TlsServer(tmp_path_factory.mktemp("external"), stage.authority, "abc.example.com", clients=stage.clients)
    chain, key = stage.clients.issue("shown.clients.example.com")
    authorities = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    validation = {"hostname": "abc.example.com", **authorities}
    shown = {"mode": "ClientAndServer", "clientCertificateRef": {"name": "shown"}, "validation": validation}
    stage.apply(
        config_map("ca", stage.authority),
        secret("shown", chain, key),
        x_backend("mutual-x", server, tls=shown),
        x_backend("server-x", server, tls={"mode": "ServerOnly", "validation": validation}),
        x_backend("wrong-x", server, tls={**shown, "validation": {**validation, "hostname": "no.example.com"}}),
        *(x_route(name) for name in ("mutual-x", "server-x", "wrong-x")),
    )
    try:
        seen = stage.found("/mutual-x")
        assert (seen["sni"], seen["client"]) == ("abc.example.com", chain)
        assert stage.get("/server-x")[0] == 503, "it asks for a certificate"
        assert stage.get("/wrong-x")[0] == 503
    finally:
        server.stop()


def test_a_bundle_of_the_whole_cluster_verifies_too(stage: Stage, backend: TlsServer) -> None:
    bundle: Manifest = {
        "kind": "ClusterTrustBundle",
        "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"name": "everybody"},
        "spec": {"trustBundle": stage.authority.pem},
    }
    ruled = policy(
        "bundled",
        caCertificateRefs=[{"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "everybody"}],
    )
    stage.gateway.write(bundle)
    stage.apply(*service("bundled", backend), ruled, route("bundled"))
    assert stage.get("/bundled")[0] == 200
    stage.gateway.delete(["ClusterTrustBundle everybody"])
    assert stage.get("/bundled")[0] == 500


def test_nothing_is_ever_sent_in_plain_text_while_policies_change(stage: Stage, fleet: Fleet) -> None:
    """The backend would answer plain text; whatever becomes of the policy, requests are not for it."""
    first, second = policy("never-plain", service="echo-v2"), policy("never-plain-2", service="echo-v2")
    first["spec"]["targetRefs"][0]["sectionName"] = "http"  # type: ignore[index]
    others = config_map("ca", stage.authority)
    stage.apply(others, first, second)
    stage.apply(route("never-plain", to="echo-v2", port=8080))
    number = fleet.next_number()
    broken = policy("never-plain", service="echo-v2", ca="nowhere")
    renamed = policy("never-plain", service="echo-v2", hostname="other.example.com")
    stop, answers = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answers.append(stage.get("/never-plain")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for changed in (broken, renamed, first, broken, first, renamed, broken):
            stage.apply(changed)
        stage.gateway.delete(["BackendTLSPolicy infra/never-plain"])  # the other one rules now
        stage.apply(first)
    finally:
        stop.set()
        asking.join()
    assert answers
    assert set(answers) <= {500, 503}
    assert [entry.path for entry in fleet.log_since(number)] == []
    stage.gateway.delete([f"BackendTLSPolicy infra/{name}" for name in ("never-plain", "never-plain-2")])
