"""Certificates as people get them wrong: each is told, none makes Envoy refuse what serves the others."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from tests.cases.certificate_corpus import Sample, samples
from tests.cases.harness import NOW, Case, Outcome, run
from tests.cases.together import refused_by_envoy

from tripylon.api.gateway import Gateway, GatewayStatus
from tripylon.model.tls import GATEWAY_TLS
from tripylon.status.desired import desired
from tripylon.values import Name

NAMES = [each.name for each in samples()]
OUT_OF_TIME = ("expired", "not-yet-valid")
"""Told, and yet presented: the client decides."""
LEAST_BAD, LEAST_GOOD = 30, 20
EDGE = Name("default", "edge")


def _sample(name: str) -> Sample:
    return next(each for each in samples() if each.name == name)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _case(name: str, *objects: dict[str, Any], frontend: dict[str, Any] | None = None) -> Case:
    """A Gateway with a listener for the sample's Secret and one for a good one."""
    good = {"kind": "Secret", "name": "good", "certificate": {"host": "good.example.com"}}
    listeners = [
        {"name": secret, "port": 443, "protocol": "HTTPS", "hostname": f"{secret}.example.com"}
        | {"tls": {"certificateRefs": [{"name": secret}]}}
        for secret in ("good", "sample")
    ]
    spec: dict[str, Any] = {"gatewayClassName": "tripylon", "listeners": listeners}
    if frontend is not None:
        spec["tls"] = {"frontend": frontend}
    return Case(
        Path(f"corpus/{name}.yaml"), name, {}, (good, *objects, {"kind": "Gateway", "name": "edge", "spec": spec}), {}
    )


def _presented(sample: Sample) -> Case:
    data = {"tls.crt": _text(sample.chain), "tls.key": _text(sample.key)}
    return _case(sample.name, {"kind": "Secret", "name": "sample", "type": "kubernetes.io/tls", "data": data})


def _trusted(sample: Sample) -> Case:
    """The certificates of a sample as authorities: of clients, and of a backend."""
    bundle = {"kind": "ConfigMap", "name": "sample", "binaryData": {"ca.crt": _text(sample.chain)}}
    ref = {"group": "", "kind": "ConfigMap", "name": "sample"}
    target = {"group": "", "kind": "Service", "name": "web"}
    validation = {"hostname": "web.example.com", "caCertificateRefs": [ref]}
    policy = {"kind": "BackendTLSPolicy", "name": "web", "spec": {"targetRefs": [target], "validation": validation}}
    service = {"kind": "Service", "name": "web", "spec": {"ports": [{"port": 443}]}}
    parent = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 443}]}]}
    route = {"kind": "HTTPRoute", "name": "web", "spec": parent}
    secret = {"kind": "Secret", "name": "sample", "certificate": {"host": "sample.example.com"}}
    frontend = {"default": {"validation": {"caCertificateRefs": [ref]}}}
    return _case(sample.name, bundle, policy, service, route, secret, frontend=frontend)


def _listeners(outcome: Outcome) -> dict[str, dict[str, str]]:
    """Status and reason of each listener's conditions, by listener."""
    gateway = next(each for each in outcome.resources if isinstance(each, Gateway))
    status = desired(outcome.graph, gateway, options=outcome.options, programming=None, now=NOW)
    assert isinstance(status, GatewayStatus)
    return {
        each.name: {condition.type: f"{condition.status} {condition.reason}" for condition in each.conditions}
        for each in status.listeners
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_with_a_certificate_is_told(name: str) -> None:
    sample = _sample(name)
    outcome = run(_presented(sample))
    told = [each.message for each in outcome.findings if each.condition == "ResolvedRefs"]
    assert [sample.says in message for message in told] == ([True] if sample.says else [])
    presented = outcome.graph.get(GATEWAY_TLS, EDGE)
    assert presented is not None
    served = {each.listener for each in presented.listeners}
    listeners = _listeners(outcome)
    assert "good" in served
    assert listeners["good"]["Programmed"] == "True Programmed"
    if not sample.says or name in OUT_OF_TIME:
        assert "sample" in served
        assert listeners["sample"]["ResolvedRefs"] == "True ResolvedRefs"
    else:
        assert "sample" not in served
        assert listeners["sample"]["ResolvedRefs"] == "False InvalidCertificateRef"


def test_envoy_takes_every_certificate_that_is_served(tmp_path: Path) -> None:
    assert refused_by_envoy([_presented(each) for each in samples()], tmp_path) == []


def test_envoy_takes_every_authority_that_is_trusted(tmp_path: Path) -> None:
    cases = [_trusted(each) for each in samples()]
    assert refused_by_envoy(cases, tmp_path) == []
    told = {case.title: {each.reason for each in run(case).findings} for case in cases}
    assert told["good"] == set()
    assert "InvalidCACertificateRef" in told["no-pem"]
    assert len([title for title, reasons in told.items() if not reasons]) >= LEAST_GOOD


def test_the_corpus_is_large_and_of_different_faults() -> None:
    assert len(set(NAMES)) == len(NAMES)
    bad = [each for each in samples() if each.says]
    assert len(bad) >= LEAST_BAD
    assert len(samples()) - len(bad) >= LEAST_GOOD
