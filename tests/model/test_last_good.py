"""A Secret that was good serves on what it held when it is spoilt, until it is mended or deleted."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.fleet.test_groups import CLASS, make
from tests.live.certificates import Authority

from tripylon.api.core import Secret
from tripylon.api.meta import Resource
from tripylon.envoy.options import EmitOptions
from tripylon.findings import Finding
from tripylon.loop import Engine
from tripylon.model.options import Options
from tripylon.model.tls import CERTIFICATES, GATEWAY_TLS
from tripylon.values import Name, Ref

GATEWAY = Name("default", "edge")
SECRET = Name("default", "cert")


def secret(chain: str, key: str) -> Resource:
    data = {"tls.crt": base64.b64encode(chain.encode()).decode(), "tls.key": base64.b64encode(key.encode()).decode()}
    return make("Secret", "cert", api="v1", type="kubernetes.io/tls", data=data)


AUTHORITY = Authority()
FIRST, SECOND = secret(*AUTHORITY.issue("a.test")), secret(*AUTHORITY.issue("a.test"))
GARBAGE, OTHER_GARBAGE = secret("none", "none"), secret("nothing", "at all")


@pytest.fixture
def engine() -> Engine:
    tls: dict[str, Any] = {"certificateRefs": [{"name": "cert"}]}
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}
    gateway = make("Gateway", "edge", spec={"gatewayClassName": "tripylon", "listeners": [listener]})
    engine = Engine(Options(standalone=False), EmitOptions())
    engine.apply([CLASS, gateway])
    return engine


def presented(engine: Engine) -> bytes:
    """The chain that the listener presents; nothing when it is not served."""
    tls, certificate = engine.graph.get(GATEWAY_TLS, GATEWAY), engine.graph.get(CERTIFICATES, SECRET)
    return certificate.chain if tls is not None and tls.listeners and certificate is not None else b""


def told(engine: Engine) -> list[Finding]:
    return [each for each in engine.graph.all_findings() if each.condition == "ResolvedRefs"]


def chain(resource: Resource) -> bytes:
    assert isinstance(resource, Secret)
    return resource.contents["tls.crt"]


def test_garbage_leaves_the_last_good_certificate_in_force(engine: Engine) -> None:
    engine.apply([FIRST])
    for spoilt in (GARBAGE, OTHER_GARBAGE):
        engine.apply([spoilt])
        assert presented(engine) == chain(FIRST)
        (finding,) = told(engine)
        assert finding.reason == "InvalidCertificateRef"
        assert "goes on with the certificate that Secret `default/cert` held before" in finding.message


def test_two_bad_versions_in_one_change(engine: Engine) -> None:
    engine.apply([FIRST])
    engine.apply([GARBAGE, OTHER_GARBAGE])
    assert presented(engine) == chain(FIRST)


def test_a_mended_secret_serves_and_is_what_is_kept_next(engine: Engine) -> None:
    engine.apply([FIRST])
    engine.apply([GARBAGE])
    engine.apply([SECOND])
    assert presented(engine) == chain(SECOND)
    assert not told(engine)
    engine.apply([GARBAGE])
    assert presented(engine) == chain(SECOND)


def test_deletion_withdraws_it_and_garbage_after_it_is_not_served(engine: Engine) -> None:
    engine.apply([FIRST])
    engine.apply([GARBAGE])
    engine.apply([], [Ref("", "Secret", *SECRET)])
    assert presented(engine) == b""
    engine.apply([GARBAGE])
    assert presented(engine) == b""


def test_garbage_from_the_start_serves_nothing(engine: Engine) -> None:
    engine.apply([GARBAGE])
    assert presented(engine) == b""
