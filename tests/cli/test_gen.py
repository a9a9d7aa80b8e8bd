"""`gen` and `version`: what other tools read."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from tests.charts.kubernetes import faults
from tests.cli.conftest import Command
from tests.live.certificates import Authority

from tripylon.api.kinds import KINDS
from tripylon.envoy.verify import verify

ROOT = Path(__file__).parents[2]


def test_crds_are_those_of_our_own_kinds(command: Command) -> None:
    ran = command("gen", "crds")
    assert ran.code == 0
    made = list(yaml.safe_load_all(ran.out))
    assert {each["kind"] for each in made} == {"CustomResourceDefinition"}
    assert [each["metadata"]["name"] for each in made] == [
        f"{kind}.gateway.tripylon.dev" for kind in ("backends", "gatewayparameters")
    ]


def test_install_puts_namespace_and_definitions_before_what_needs_them(command: Command) -> None:
    ran = command("gen", "install", "--namespace", "gateways", "--image", "example.com/tripylon:1", "--replicas", "1")
    assert ran.code == 0
    made = list(yaml.safe_load_all(ran.out))
    assert [each["kind"] for each in made[:3]] == ["Namespace", "CustomResourceDefinition", "CustomResourceDefinition"]
    assert made[0]["metadata"]["name"] == "gateways"
    [deployment] = [each for each in made if each["kind"] == "Deployment"]
    assert deployment["metadata"]["namespace"] == "gateways"
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/tripylon:1"


def test_install_leaves_definitions_out(command: Command) -> None:
    made = list(yaml.safe_load_all(command("gen", "install", "--no-definitions").out))
    assert "CustomResourceDefinition" not in {each["kind"] for each in made}
    assert "GatewayClass" in {each["kind"] for each in made}


def test_a_schema_accepts_an_example(command: Command) -> None:
    objects = list(yaml.safe_load_all((ROOT / "examples/quickstart/gateway.yaml").read_text()))
    for each in objects:
        schema = json.loads(command("gen", "schema", each["kind"].lower()).out)
        assert schema["title"] == each["kind"]
        jsonschema_rs.validate(schema, each)
    whole = json.loads(command("gen", "schema").out)
    assert [each["title"] for each in whole["oneOf"]] == [kind.name for kind in KINDS]


def test_schemas_as_files(command: Command, tmp_path: Path) -> None:
    ran = command("gen", "schema", "--to", "made/schemas")
    assert (ran.code, ran.out, ran.err) == (0, "", f"{len(KINDS)} schemas in made/schemas\n")
    written = sorted(path.name for path in (tmp_path / "made" / "schemas").iterdir())
    assert written == sorted(f"{kind.name.lower()}.json" for kind in KINDS)


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = command("gen", "schema", "--to", "file")
    assert ran.code == 1
    assert ran.err == "tripylon: cannot write to file: File exists\n"


def test_a_bootstrap_that_envoy_takes(command: Command) -> None:
    words = ("gen", "bootstrap", "--ads", "127.0.0.1:9977", "--node", "edge-1", "--envoy-admin", "/run/envoy.sock")
    made = json.loads(command(*words).out)
    assert made["node"] == {"cluster": "tripylon", "id": "edge-1"}
    assert made["admin"]["address"]["pipe"]["path"] == "/run/envoy.sock"
    assert verify(json.dumps(made).encode()) == ()


def test_version_in_all_forms(command: Command) -> None:
    text = command("version").out
    as_json = json.loads(command("version", "-o", "json").out)
    assert as_json == yaml.safe_load(command("version", "-o", "yaml").out)
    assert list(as_json) == ["tripylon", "envoy", "gatewayAPI"]
    assert as_json["envoy"].startswith("1.40.")
    assert as_json["gatewayAPI"] == "v1.7.0"
    assert [line.split()[-1] for line in text.splitlines()] == list(as_json.values())
    assert command("--version").out == f"{as_json['tripylon']}\n"


def test_version_without_envoy_says_why(command: Command, tmp_path: Path) -> None:
    import os

    os.environ["TRIPYLON_ENVOY_BINARY"] = str(tmp_path / "none")
    assert f"none: there is no Envoy at {tmp_path / 'none'}" in command("version").out


def test_a_proxy_that_somebody_runs_is_no_controllers(command: Command, tmp_path: Path) -> None:
    chain, _ = Authority().issue("tripylon.test")
    (tmp_path / "ca.crt").write_text(chain)
    ran = command("gen", "proxy", "shop/edge", "--authority", "ca.crt", "--xds", "control.test:9977", "--image", "e:1")
    assert ran.code == 0, ran.err
    made = {each["kind"]: each for each in yaml.safe_load_all(ran.out)}
    assert sorted(made) == ["ConfigMap", "Deployment", "ServiceAccount"]
    assert {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in made.values()} == {
        ("shop", "edge-self-managed")
    }
    assert [fault for each in made.values() for fault in faults(each)] == []
    for foreign in ("ownerReferences", "controller-name", "managed-by", "gateway-name", "content-hash"):
        assert foreign not in ran.out
    pod = made["Deployment"]["spec"]["template"]
    assert made["Deployment"]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "tripylon-proxy", "the NetworkPolicy lets it in"
    assert pod["spec"]["serviceAccountName"] == "edge-self-managed"
    assert pod["spec"]["containers"][0]["image"] == "e:1"
    files = made["ConfigMap"]["data"]
    assert files["ca.crt"] == chain
    bootstrap = json.loads(files["bootstrap.json"])
    assert bootstrap["node"] == {"cluster": "shop/edge"}
    assert "control.test" in files["bootstrap.json"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("edge", "--authority", "ca.crt"), "write namespace/name"),
        (("shop/edge", "--authority", "none"), "--authority: cannot read none: No such file"),
        (("shop/edge", "--authority", "garbage"), "--authority: garbage holds no certificate in PEM"),
        (("shop/edge", "--authority", "ca.crt", "--xds", "10.0.0.1:9977"), "--xds: '10.0.0.1:9977' has no DNS name"),
        (("shop/edge", "--authority", "ca.crt", "--xds", "control.test"), "--xds: "),
    ],
)
def test_a_proxy_needs_a_gateway_an_authority_and_a_place(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    (tmp_path / "garbage").write_text("none")
    (tmp_path / "ca.crt").write_text(Authority().issue("tripylon.test")[0])
    ran = command("gen", "proxy", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
