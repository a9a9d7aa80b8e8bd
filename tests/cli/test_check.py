"""`tripylon check`: the verdict in all forms, and `envoy`, which shows what it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import Command

from tripylon.pb import pool

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tripylon
  listeners: [{name: http, protocol: HTTP, port: 8080}]
"""
LOST_ROUTE = """apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost}
spec:
  parentRefs: [{name: edge}]
  rules:
    - backendRefs:
        - name: nowhere
          port: 80
"""
INVALID_ROUTE = LOST_ROUTE.replace("name: lost", "name: invalid").replace("port: 80", "port: 80\n          wieght: 3")
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: tls}
type: Opaque
stringData: {password: qpzmsecret}
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_an_example_is_fine_by_envoy_too(command: Command) -> None:
    ran = command("check", QUICKSTART)
    assert (ran.code, ran.out, ran.err) == (0, "0 errors, 0 warnings; 3 valid objects.\n", "")


def test_text_has_place_severity_message_hint_and_a_summary(command: Command, tmp_path: Path) -> None:
    write(tmp_path, a=GATEWAY, b=LOST_ROUTE, c=INVALID_ROUTE)
    ran = command("check", "--no-envoy", ".")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "b.yaml:8:11: error: HTTPRoute default/lost refers to Service default/nowhere, which does not exist "
        "[BackendNotFound]",
        "    Create Service default/nowhere",
        "c.yaml:10:11: error: HTTPRoute default/invalid: spec.rules[0].backendRefs[0] has no field `wieght` "
        "[InvalidObject]",
        "    did you mean `weight`?",
        "2 errors, 0 warnings; 2 valid objects; Envoy was not asked.",
    ]


def test_json_is_a_list_of_findings(command: Command, tmp_path: Path) -> None:
    write(tmp_path, a=GATEWAY, b=LOST_ROUTE)
    ran = command("check", "--no-envoy", "-o", "json")
    assert ran.code == 1
    (finding,) = json.loads(ran.out)
    assert finding == {
        "object": {
            "group": "gateway.networking.k8s.io",
            "kind": "HTTPRoute",
            "namespace": "default",
            "name": "lost",
        },
        "field": "spec.rules[0].backendRefs[0].name",
        "file": "b.yaml",
        "line": 8,
        "column": 11,
        "severity": "error",
        "condition": "ResolvedRefs",
        "reason": "BackendNotFound",
        "message": "HTTPRoute default/lost refers to Service default/nowhere, which does not exist",
        "hint": "Create Service default/nowhere",
    }


def test_what_turns_two_conditions_bad_is_told_once(command: Command, tmp_path: Path) -> None:
    listeners = "[{name: a, protocol: HTTP, port: 8080}, {name: b, protocol: TCP, port: 8080}]"
    write(tmp_path, a=GATEWAY.replace("[{name: http, protocol: HTTP, port: 8080}]", listeners))
    ran = command("check", "--no-envoy", ".")
    errors = [line for line in ran.out.splitlines() if ": error: " in line]
    assert [line.rsplit(" ", 1)[1] for line in errors] == ["[ProtocolConflict]"] * 2
    assert ran.out.endswith("2 errors, 0 warnings; 1 valid object; Envoy was not asked.\n")


def test_yaml_is_every_object_with_its_status(command: Command, tmp_path: Path) -> None:
    write(tmp_path, a=GATEWAY, b=LOST_ROUTE, c=SECRET)
    ran = command("check", "--no-envoy", "-o", "yaml")
    assert ran.code == 1
    objects = {each["kind"]: each for each in yaml.safe_load_all(ran.out)}
    assert set(objects) == {"Gateway", "HTTPRoute", "Secret"}
    (listener,) = objects["Gateway"]["status"]["listeners"]
    assert listener["attachedRoutes"] == 1
    (parent,) = objects["HTTPRoute"]["status"]["parents"]
    assert parent["controllerName"] == "gateway.tripylon.dev/controller"
    assert _conditions(parent)["ResolvedRefs"] == ("False", "BackendNotFound")
    assert _conditions(parent)["Accepted"] == ("True", "Accepted")
    assert objects["Secret"]["stringData"] == {"password": "(not shown)"}
    assert "qpzmsecret" not in ran.out


def test_warnings_are_no_failure(command: Command, tmp_path: Path) -> None:
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    write(tmp_path, a=GATEWAY, b=deployment)
    ran = command("check", "--no-envoy")
    assert ran.code == 0
    assert ran.out.endswith("0 errors, 1 warning; 1 valid object; Envoy was not asked.\n")


def test_without_an_envoy_the_way_out_is_named(command: Command, tmp_path: Path) -> None:
    pool()  # the messages come from the real one, as with another version beside it
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho no such thing\n")
    program.chmod(0o700)
    write(tmp_path, a=GATEWAY)
    ran = command("check", "--envoy-binary", program)
    assert ran.code == 1
    assert "is no Envoy: asked for its version it says 'no such thing'" in ran.err
    assert ran.err.endswith("or leave Envoy's verdict out with --no-envoy\n")


def test_what_envoy_refuses_is_a_finding_on_the_object(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tripylon.envoy import verify

    refusal = verify.Refusal("envoy.config.listener.v3.Listener", "default/edge/8080/0.0.0.0", "no such luck")
    monkeypatch.setattr(verify, "verify_resources", lambda _: (refusal,))
    write(tmp_path, a=GATEWAY)
    ran = command("check")
    assert ran.code == 1
    assert (
        "error: Listener `http` of Gateway `default/edge` is refused by Envoy at 0.0.0.0: no such luck [Invalid]"
        in ran.out
    )


def test_envoy_prints_each_gateways_configuration(command: Command, tmp_path: Path) -> None:
    write(tmp_path, a=GATEWAY, b=GATEWAY.replace("edge", "other").replace("8080", "8081"), c=LOST_ROUTE)
    ran = command("envoy")
    assert ran.code == 0
    assert ran.err == "1 error, 0 warnings; see `tripylon check`.\n"
    made = json.loads(ran.out)
    assert list(made) == ["default/edge", "default/other"]
    assert [each["name"] for each in made["default/edge"]["listeners"]] == ["default/edge/8080/0.0.0.0"]
    assert [each["name"] for each in made["default/edge"]["routeConfigurations"]] == ["default/edge/8080"]
    assert [each["name"] for each in made["default/edge"]["virtualHosts"]] == ["default/edge/8080/*"]
    assert [each["name"] for each in made["default/other"]["listeners"]] == ["default/other/8081/0.0.0.0"]
    one = command("envoy", "--gateway", "other")
    assert json.loads(one.out) == made["default/other"]
    wrong = command("envoy", "--gateway", "nope")
    assert wrong.code == 2
    assert "no Gateway is named 'nope'; there are: default/edge, default/other" in wrong.err


def test_envoy_shows_no_private_key(command: Command, tmp_path: Path) -> None:
    from tests.live.certificates import Authority

    certificate, key = Authority().issue("a.example.com")
    secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}}
    secret |= {"type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": key}}
    gateway = yaml.safe_load(GATEWAY)
    gateway["spec"]["listeners"][0] |= {"protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}]}}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([gateway, secret]))
    ran = command("envoy")
    (shown,) = json.loads(ran.out)["default/edge"]["secrets"]
    assert shown["tls_certificate"]["private_key"] == {"inline_string": "[redacted]"}
    assert "PRIVATE KEY" not in ran.out


def _conditions(entry: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in entry["conditions"]}
