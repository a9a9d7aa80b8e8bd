"""Bad input while a gateway serves: it is told what, where and what to do; the rest serves on; no process dies.

What is wrong with one document, object or certificate has its own tests in `tests/files`, `tests/model` and
`tests/cases`. Here each kind of mistake is made once in the folder of a running gateway, in the way a user would.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.cases.certificates import certificate
from tests.live import clients
from tests.live.clients import Call
from tests.live.fleet import Fleet, Manifest
from tests.live.gateway import LiveGateway, running
from tests.live.manifests import Places

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

GROUP = "gateway.networking.k8s.io"
GOOD, EDITED, SECURE = "good.example.com", "edited.example.com", "secure.example.com"


def route(name: str, *rules: Manifest) -> Manifest:
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [f"{name}.example.com"], "rules": list(rules)}
    return {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}


OBJECTS: list[Manifest] = [
    {
        "kind": "Gateway",
        "metadata": {"name": "edge"},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    },
    route("good", {"backendRefs": [{"name": "echo-v1", "port": 8080}]}),
    {"kind": "Secret", "metadata": {"name": "renewed"}, "names": ["secure.example.com"]},
    {
        "kind": "Gateway",
        "metadata": {"name": "secure"},
        "spec": {
            "listeners": [
                {"name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "renewed"}]}}
            ]
        },
    },
]

EDITED_ROUTE = f"""apiVersion: {GROUP}/v1
kind: HTTPRoute
metadata: {{name: edited, namespace: infra}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{EDITED}]
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /
    backendRefs:
    - name: echo-v1
      port: 8080
"""


def edited(old: str, new: str) -> bytes:
    assert old in EDITED_ROUTE
    return EDITED_ROUTE.replace(old, new).encode()


class Mistake(NamedTuple):
    """A file's new content, and what comes of it."""

    content: bytes
    reason: str
    """Of the finding."""
    line: int
    """Where the finding points to; 0: the file as a whole."""
    hint: str
    """What the finding proposes, in part."""
    answer: int = 200
    """What requests for the edited route get; 200: by its last good version."""


def big(size: int) -> bytes:
    return EDITED_ROUTE.encode() + b"# " + b"x" * size


BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n".encode() for level in range(1, 10)
)
MANY = "  rules:\n" + "  - backendRefs: [{name: echo-v1, port: 8080}]\n" * 10_000
MISTAKES = {
    "broken YAML": Mistake(edited("port: 8080", "port: [8080"), "InvalidSyntax", 14, "close it"),
    "a duplicate key": Mistake(edited("port: 8080", "port: 8080\n      port: 8081"), "DuplicateKey", 15, "remove one"),
    "an unknown kind": Mistake(edited("HTTPRoute", "HTTPRout"), "UnknownKind", 2, "did you mean HTTPRoute?"),
    "an unknown field": Mistake(
        edited("backendRefs", "backendRef"), "InvalidObject", 12, "did you mean `backendRefs`?"
    ),
    "a wrong type": Mistake(edited("8080", "'8080'"), "InvalidObject", 14, "remove the quotes"),
    "a rule of the schema violated": Mistake(edited("value: /", "value: x"), "InvalidObject", 11, ""),
    "ten thousand rules": Mistake(
        EDITED_ROUTE.partition("  rules:")[0].encode() + MANY.encode(), "InvalidObject", 7, "divide them"
    ),
    "a file of fifty megabytes": Mistake(big(50_000_000), "TooLarge", 0, "split it"),
    "bytes that are not UTF-8": Mistake(edited("edge", "edg\xe9").decode().encode("latin-1"), "NotUTF8", 5, ""),
    "an alias bomb": Mistake(BOMB, "AliasBomb", 1, "write the values out"),
    "an alias within itself": Mistake(b"kind: &a [*a]\n", "AliasCycle", 1, "write the value out"),
    "a Service that does not exist": Mistake(
        edited("echo-v1", "nowhere"), "BackendNotFound", 13, "Create Service", 500
    ),
    "a Service of another namespace": Mistake(
        edited("name: echo-v1", "name: app-v1\n      namespace: apps"), "RefNotPermitted", 13, "ReferenceGrant", 500
    ),
    "a port that the Service lacks": Mistake(edited("8080", "8999"), "BackendNotFound", 14, "8080", 500),
    "an invalid regular expression": Mistake(
        edited("PathPrefix\n        value: /", "RegularExpression\n        value: '/('"),
        "UnsupportedValue",
        11,
        "Correct",
        404,
    ),
    "a regular expression that Envoy refuses": Mistake(
        edited("PathPrefix\n        value: /", "RegularExpression\n        value: '/(?=a)'"),
        "UnsupportedValue",
        11,
        "Correct",
        404,
    ),
}


@pytest.fixture(scope="module")
def gateway(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    places = Places(fleet)
    manifests = [*fleet.manifests(), *places.complete(OBJECTS)]
    options = ("--concurrency", "1", "--access-log", "off")
    with running(tmp_path_factory.mktemp("gateway"), places, manifests, *options) as gateway:
        yield gateway
    places.close()


@pytest.fixture
def file(gateway: LiveGateway) -> Iterator[Path]:
    """The file that the user edits; it holds a good route at the beginning. In the end all is well again."""
    processes = gateway.pid, gateway.envoy_pid
    path = gateway.folder / "edited.yaml"
    path.write_text(EDITED_ROUTE)
    gateway.wait_live()
    assert (findings(gateway), status(gateway, EDITED)) == ([], 200)
    yield path
    assert status(gateway, GOOD) == 200
    path.unlink(missing_ok=True)
    gateway.wait_live()
    assert findings(gateway) == []
    assert (gateway.pid, gateway.envoy_pid) == processes
    assert gateway.get("/readyz")[0] == 200


def secret(name: str, contents: dict[str, str]) -> Manifest:
    metadata = {"name": name, "namespace": "infra"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": metadata,
        "stringData": contents,
    }


def findings(gateway: LiveGateway) -> list[dict[str, Any]]:
    return [each for each in gateway.picture()["findings"] if each["severity"] != "info"]


def status(gateway: LiveGateway, host: str, path: str = "/") -> int:
    return clients.http1(gateway.target("edge", 80), Call(host=host, path=path)).status


def secure_status(gateway: LiveGateway) -> int:
    return clients.http1(gateway.target("secure", 443, sni=SECURE), Call(host=SECURE)).status


def waited_for(gateway: LiveGateway, reason: str) -> list[dict[str, Any]]:
    """The findings once there is one of this reason; for changes after which no mark can be written."""
    deadline = time.monotonic() + 20
    while not any(each["reason"] == reason for each in findings(gateway)):
        assert time.monotonic() < deadline, f"{reason} was not told: {findings(gateway)}"
        time.sleep(0.02)
    return findings(gateway)


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file(gateway: LiveGateway, file: Path, mistake: Mistake) -> None:
    file.write_bytes(mistake.content)
    gateway.wait_live()
    (found,) = findings(gateway)
    assert (found["file"], found["line"], found["reason"]) == (str(file), mistake.line, mistake.reason)
    assert mistake.hint in found["hint"]
    assert found["message"]
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, mistake.answer)


def test_ten_thousand_rules_of_many_routes_in_one_file(gateway: LiveGateway, file: Path) -> None:
    head, _, _ = EDITED_ROUTE.partition("  - matches")
    routes = []
    for number in range(625):
        first = head.replace("name: edited,", f"name: n{number},").replace(EDITED, f"n{number}.example.com")
        rules = (
            f"  - matches: [{{path: {{value: /{rule}}}}}]\n    backendRefs: [{{name: echo-v1, port: 8080}}]\n"
            for rule in range(16)
        )
        routes.append(first + "".join(rules))
    file.write_text("---\n".join([EDITED_ROUTE, *routes]))
    gateway.wait_live()
    assert findings(gateway) == []
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, 200)
    assert (status(gateway, "n624.example.com", "/15"), status(gateway, "n624.example.com", "/16")) == (200, 404)


def test_one_name_in_two_files(gateway: LiveGateway, file: Path) -> None:
    second = file.with_name("second.yaml")
    second.write_bytes(edited("8080", "8999"))
    gateway.wait_live()
    (found,) = findings(gateway)
    assert (found["file"], found["line"], found["reason"]) == (str(second), 1, "DuplicateObject")
    assert found["hint"] == "remove or rename one of the two"
    assert status(gateway, EDITED) == 200
    second.unlink()


def test_a_folder_in_the_place_of_a_file(gateway: LiveGateway, file: Path) -> None:
    file.unlink()
    file.mkdir()
    gateway.wait_live()
    assert (status(gateway, GOOD), findings(gateway)) == (200, [])
    file.rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; tests/files reads as another user")
def test_a_file_that_may_not_be_read(gateway: LiveGateway, file: Path) -> None:
    file.write_bytes(edited("8080", "8999"))
    file.chmod(0)
    gateway.wait_live()
    (found,) = findings(gateway)
    assert (found["file"], found["line"], found["reason"]) == (str(file), 0, "PermissionDenied")
    assert "change its permissions" in found["hint"]
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, 200)
    file.chmod(0o600)


def test_a_folder_that_vanishes_and_comes_back(gateway: LiveGateway, file: Path) -> None:
    away = gateway.folder.with_name("away")
    gateway.folder.rename(away)
    (found,) = waited_for(gateway, "NotFound")
    assert (found["file"], found["line"]) == (str(gateway.folder), 0)
    assert "what it held before goes on serving" in found["hint"]
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, 200)
    away.rename(gateway.folder)
    gateway.wait_live()
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, 200)


@pytest.mark.parametrize(
    ("fault", "says"),
    [("mismatched", "does not belong to the first certificate"), ("garbage", "no PEM certificate")],
)
def test_a_certificate_that_cannot_be_used(gateway: LiveGateway, file: Path, fault: str, says: str) -> None:
    path = gateway.path("Secret infra/renewed")
    good = path.read_text()
    gateway.write(secret("renewed", certificate(SECURE, fault)))
    gateway.wait_live()
    (found,) = findings(gateway)
    assert (found["object"]["name"], found["reason"]) == ("secure", "InvalidCertificateRef")
    assert (found["file"], found["field"]) == (
        str(gateway.path("Gateway infra/secure")),
        "spec.listeners[0].tls.certificateRefs[0]",
    )
    assert says in found["message"]
    assert secure_status(gateway) == 404  # by the certificate that the Secret held before; there is no route
    path.write_text(good)


def test_a_certificate_that_has_expired(gateway: LiveGateway, file: Path) -> None:
    path = gateway.path("Secret infra/renewed")
    good = path.read_text()
    gateway.write(secret("renewed", certificate(SECURE, "expired")))
    gateway.wait_live()
    (found,) = findings(gateway)
    assert (found["severity"], found["reason"], found["hint"]) == ("warning", "Expired", "Renew it")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure_status(gateway)
    path.write_text(good)
    gateway.wait_live()
    assert secure_status(gateway) == 404


def test_conflicts_of_listeners(gateway: LiveGateway, file: Path) -> None:
    twice = [{"name": name, "port": 80, "protocol": "HTTP", "hostname": GOOD} for name in ("one", "two")]
    later = {"addresses": [{"value": "${address:infra/edge}"}], "listeners": twice[:1]}
    wrong: list[Manifest] = [
        {"kind": "Gateway", "metadata": {"name": "twins"}, "spec": {"listeners": twice}},
        {"kind": "Gateway", "metadata": {"name": "later"}, "spec": later},
    ]
    gateway.apply(gateway.places.complete(wrong))
    found = {(each["object"]["name"], each["field"], each["reason"]) for each in findings(gateway)}
    assert found == {
        ("twins", "spec.listeners", "InvalidObject"),
        ("later", "spec.listeners[0].port", "PortUnavailable"),
    }
    assert all(each["hint"] and each["line"] for each in findings(gateway))
    assert (status(gateway, GOOD), status(gateway, EDITED)) == (200, 200)
    gateway.delete(("Gateway infra/twins", "Gateway infra/later"))


def test_an_address_of_another_machine_from_the_start(fleet: Fleet, tmp_path: Path) -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    places = Places(fleet)
    listeners = [{"name": "web", "port": 8080, "protocol": "HTTP"}]
    elsewhere = {"addresses": [{"value": "192.0.2.1"}], "listeners": listeners}
    own: list[Manifest] = [*OBJECTS, {"kind": "Gateway", "metadata": {"name": "elsewhere"}, "spec": elsewhere}]
    with running(tmp_path, places, [*fleet.manifests(), *places.complete(own)], "--concurrency", "1") as gateway:
        gateway.wait_live()
        (found,) = waited_for(gateway, "AddressNotUsable")
        assert (found["object"]["name"], found["field"]) == ("elsewhere", "spec.addresses")
        assert status(gateway, GOOD) == 200
    places.close()
