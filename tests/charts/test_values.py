"""values.yaml and its schema: they name the same values, and nonsense is refused with what is wrong about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helm_python import HelmError
from tests.charts.rendered import CHART, Values, objects


def test_the_schema_names_the_values_and_no_others() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(named(schema)) - {"global"} == set(written(values, schema))


def named(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, each in schema.get("properties", {}).items():
        yield at + key
        yield from named(each, f"{at}{key}.")


def written(values: dict[str, Any], schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield at + key
        below = schema["properties"][key]
        if "properties" in below:
            yield from written(value, below, f"{at}{key}.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"controller": {"replica": 3}}, "at '/controller': additional properties 'replica' not allowed"),
        ({"controller": {"replicas": -1}}, "at '/controller/replicas': minimum: got -1, want 0"),
        ({"controller": {"replicas": "two"}}, "at '/controller/replicas': got string, want integer"),
        ({"controller": {"logLevel": "loud"}}, "value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"controller": {"image": {"pullPolicy": "Sometimes"}}}, "'Always', 'IfNotPresent', 'Never'"),
        ({"controller": {"image": {"repository": ""}}}, "at '/controller/image/repository': minLength"),
        ({"controller": {"name": "tripylon"}}, "at '/controller/name': 'tripylon' does not match pattern"),
        ({"proxy": {"image": {"digest": "latest"}}}, "at '/proxy/image/digest'"),
        ({"watchNamespaces": "shop"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["shop", "shop"]}, "items at 0 and 1 are equal"),
        ({"secrets": {"namespaces": ["Shop"]}}, "at '/secrets/namespaces/0': 'Shop' does not match pattern"),
        ({"xds": {"tlsSecret": ""}}, "at '/xds/tlsSecret': minLength"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "at '/podDisruptionBudget/minAvailable'"),
        ({"monitoring": {"podMonitor": {"interval": "soon"}}}, "at '/monitoring/podMonitor/interval'"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed when serviceAccount.create is false"),
        (
            {"watchNamespaces": ["shop"], "gatewayClass": {"parameters": {"deployment": {"replicas": 2}}}},
            "gatewayClass.parameters are read in namespace tripylon-system: add it to watchNamespaces",
        ),
        (
            {"watchNamespaces": ["shop"], "secrets": {"namespaces": ["shop", "certs"]}},
            "ReferenceGrants of namespace certs are not read, so no Gateway could use its Secrets: add it to",
        ),
    ],
    ids=str,
)
def test_nonsense_is_refused(values: Values, message: str) -> None:
    with pytest.raises(HelmError) as refused:
        objects(values)
    assert message in str(refused.value)
