"""What `tripylon gen install` prints is what the chart would install, and what follows from sources is up to date."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.charts.kubernetes import faults
from tests.charts.rendered import ROOT, Values, objects, tool

from tripylon.api.crd import crd, own_kinds
from tripylon.kube.install import install_manifests


def test_files_made_from_the_charts_and_the_kinds_are_up_to_date() -> None:
    stale = [
        str(path.relative_to(ROOT)) for path, text in tool().all_files().items() if path.read_text("utf-8") != text
    ]
    assert stale == [], "run `python tools/charts.py`"
    assert {path.stem for path in tool().DEFINITIONS.glob("*.yaml")} == {kind.plural for kind in own_kinds()}


@pytest.mark.parametrize(
    ("chosen", "values", "namespace"),
    [
        ({}, {}, "tripylon-system"),
        ({"namespace": "gateways"}, {}, "gateways"),
        ({"replicas": 1}, {"controller": {"replicas": 1}}, "tripylon-system"),
        ({"replicas": 0}, {"controller": {"replicas": 0}}, "tripylon-system"),
        (
            {"namespace": "gateways", "image": "example.com/own/tripylon:1", "proxy_image": "example.com/envoy:v1"},
            {
                "controller": {"image": {"registry": "example.com", "repository": "own/tripylon", "tag": "1"}},
                "proxy": {"image": {"registry": "example.com", "repository": "envoy", "tag": "v1"}},
            },
            "gateways",
        ),
    ],
    ids=str,
)
def test_it_is_what_the_chart_makes_of_the_same_choices(chosen: dict[str, Any], values: Values, namespace: str) -> None:
    made = install_manifests(**chosen, definitions=False)
    assert made[0] == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    of_chart = [tool().without_helm(each) for each in objects(values, namespace=namespace)]
    assert list(made[1:]) == sorted(of_chart, key=lambda each: each["kind"] == "Deployment")


def test_the_controller_comes_after_all_that_its_pods_need() -> None:
    assert [each["kind"] for each in install_manifests()][-1] == "Deployment"


def test_every_object_is_valid() -> None:
    made = install_manifests("gateways")
    assert [fault for each in made for fault in faults(each)] == []


def test_nothing_of_it_claims_to_be_helms() -> None:
    assert "helm" not in yaml.safe_dump_all(install_manifests()).lower()


def test_definitions_are_those_of_our_kinds() -> None:
    made = [each for each in install_manifests() if each["kind"] == "CustomResourceDefinition"]
    assert made == [crd(kind) for kind in own_kinds()]


def test_the_chart_of_definitions_is_the_same_and_keeps_them() -> None:
    made = tool().render(chart=ROOT / "charts" / "tripylon-crds")
    for each in made:
        assert each["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert made == [crd(kind) for kind in own_kinds()]
    assert [fault for each in made for fault in faults(each)] == []


def test_both_charts_have_the_version_of_the_package() -> None:
    from importlib.metadata import version

    for name in ("tripylon", "tripylon-crds"):
        chart = yaml.safe_load((ROOT / "charts" / name / "Chart.yaml").read_text())
        assert chart["appVersion"] == version("tripylon")
