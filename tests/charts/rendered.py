"""The charts as they are rendered, by the values that the tests of this folder look at."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

Object = dict[str, Any]
Values = Mapping[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "tripylon"

_LABELS = {"team": "edge"}
_SOMEWHERE = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]

COMBINATIONS: dict[str, Values] = {
    "defaults": {},
    "names": {"nameOverride": "gate", "controller": {"name": "example.com/other"}},
    "full name": {"fullnameOverride": "edge-control", "gatewayClass": {"name": "edge", "description": ""}},
    "images": {
        "controller": {
            "image": {
                "registry": "registry.example.com",
                "repository": "mirror/tripylon",
                "tag": "1.2.3",
                "digest": "sha256:fedcba9876543210",
                "pullPolicy": "Always",
            }
        },
        "proxy": {
            "image": {
                "registry": "registry.example.com",
                "repository": "mirror/envoy",
                "tag": "v1.40.1",
                "digest": "sha256:0123456789abcdef",
                "pullPolicy": "Never",
            }
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "one replica": {"controller": {"replicas": 1}},
    "replicas scaled by somebody else": {"controller": {"replicas": 0}, "podDisruptionBudget": {"create": False}},
    "pods": {
        "controller": {
            "logLevel": "debug",
            "logFormat": "text",
            "extraEnv": [{"name": "TRIPYLON_ACCESS_LOG", "value": "off"}],
            "resources": {"limits": {"memory": "1Gi"}},
            "podLabels": _LABELS,
            "podAnnotations": {"example.com/owner": "edge"},
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]
                }
            },
            "topologySpreadConstraints": [
                {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"},
            ],
            "priorityClassName": "system-cluster-critical",
            "terminationGracePeriodSeconds": 60,
        }
    },
    "no security context": {"controller": {"securityContext": False}},
    "cert-manager": {
        "xds": {
            "tlsSecret": "from-cert-manager",
            "clusterDomain": "cluster.example",
            "service": {"labels": _LABELS, "annotations": {"example.com/mesh": "off"}},
        }
    },
    "namespaces": {"watchNamespaces": ["shop", "blog"]},
    "listed Secrets": {"secrets": {"namespaces": ["certs", "shop"]}},
    "namespaces and listed Secrets": {"watchNamespaces": ["shop", "blog"], "secrets": {"namespaces": ["shop"]}},
    "a foreign account": {"serviceAccount": {"create": False, "name": "gateways"}},
    "an account with annotations": {"serviceAccount": {"name": "gateways", "annotations": {"example.com/role": "arn"}}},
    "no roles": {"rbac": {"create": False, "userRoles": False}},
    "no class": {"gatewayClass": {"create": False}},
    "parameters": {
        "gatewayClass": {
            "parameters": {"deployment": {"replicas": 3}, "service": {"type": "NodePort"}},
        }
    },
    "a budget in percent": {"podDisruptionBudget": {"minAvailable": "50%"}},
    "no network policy": {"networkPolicy": {"create": False}},
    "a stricter network policy": {
        "networkPolicy": {"metricsFrom": _SOMEWHERE, "extraXdsFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    },
    "monitoring": {
        "monitoring": {
            "serviceMonitor": {"create": True, "interval": "15s", "labels": _LABELS},
            "podMonitor": {"create": True, "interval": "1m", "labels": _LABELS},
        }
    },
}
"""Values that between them set every value to something else than its default."""


@cache
def tool() -> ModuleType:
    """`tools/charts.py`, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("tripylon_tools_charts", ROOT / "tools" / "charts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def objects(values: Values | None = None, **where: str) -> list[Object]:
    """The objects of the chart for these values."""
    found: list[Object] = tool().render(values, **where)
    return found


def of_kind(found: list[Object], kind: str) -> list[Object]:
    return [each for each in found if each["kind"] == kind]


def one(found: list[Object], kind: str, name: str = "") -> Object:
    [obj] = [each for each in of_kind(found, kind) if not name or each["metadata"]["name"] == name]
    return obj


def container(found: list[Object]) -> Object:
    [only] = one(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(found: list[Object]) -> dict[str, str]:
    """Plain values of the controller's environment; of others the path of the pod's field."""
    return {
        each["name"]: each["value"] if "value" in each else each["valueFrom"]["fieldRef"]["fieldPath"]
        for each in container(found)["env"]
    }
