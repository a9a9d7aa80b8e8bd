"""Destinations that are no Services, in a cluster: pods that an XBackend selects, and a Service of other clusters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster import pods
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.pods import manifest
from tests.cluster.serving import GATEWAY_API, answered, serving
from tests.live.certificates import Authority

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

X_API = "gateway.networking.x-k8s.io/v1alpha1"
LABEL = "gateway.tripylon.dev/x-backend"


@pytest.fixture(scope="module")
def gate() -> Iterator[Cluster]:
    yield from serving("backends")


def to(path: str, **ref: Any) -> str:
    """A route from `/path` to a destination of any kind."""
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": f"/{path}"}}], "backendRefs": [ref]}
    return manifest(GATEWAY_API, "HTTPRoute", path, spec={"parentRefs": [{"name": "edge"}], "rules": [rule]})


def x_backend(**labels: str) -> str:
    spec = {"type": "EndpointSelector", "port": {"number": 3000}, "endpointSelector": {"matchLabels": labels}}
    return manifest(X_API, "XBackend", "pods", spec=spec)


def services(cluster: Cluster) -> list[Any]:
    found: list[Any] = json.loads(cluster.kubectl("get", "services", "-l", LABEL, "-o", "json"))["items"]
    return found


def accepted(cluster: Cluster) -> bool:
    ancestors = (cluster.get("xbackend", "pods").get("status") or {}).get("ancestors") or ()
    return [(each["ancestorRef"]["name"], each["conditions"][0]["status"]) for each in ancestors] == [("edge", "True")]


def test_pods_are_reached_by_their_labels(gate: Cluster) -> None:
    gate.apply(pods.deployment("chosen", 2, pods.echo_container()) + x_backend(app="chosen"))
    assert services(gate) == [], "nobody reaches it yet"
    gate.apply(to("chosen", group=X_API.partition("/")[0], kind="XBackend", name="pods"))
    wait_until(lambda: answered(gate, "/chosen"), 60, "the pods are not reached")
    wait_until(lambda: accepted(gate), 20, "the status does not say so")
    [made] = services(gate)
    assert made["spec"]["clusterIP"] == "None"

    gate.apply(x_backend(app="nobody"))
    wait_until(lambda: not answered(gate, "/chosen"), 30, "pods that are not selected are reached")
    wait_until(lambda: len(services(gate)) == 1, 30, "the Service before stays")
    gate.apply(x_backend(app="echo"))
    wait_until(lambda: answered(gate, "/chosen"), 30, "other labels are not heeded")

    gate.kubectl("delete", "httproute", "chosen")
    wait_until(lambda: services(gate) == [], 30, "the Service stays when nobody reaches the pods")
    gate.kubectl("delete", "xbackend", "pods")


def resolved(cluster: Cluster) -> str:
    """Reason of the policy's `ResolvedRefs` under the Gateway."""
    for each in (cluster.get("backendtlspolicy", "bundled").get("status") or {}).get("ancestors") or ():
        return next(str(one["reason"]) for one in each["conditions"] if one["type"] == "ResolvedRefs")
    return ""


def test_bundles_of_the_cluster_are_followed_and_claimed(gate: Cluster) -> None:
    features = [each["name"] for each in gate.get("gatewayclass", "tripylon")["status"]["supportedFeatures"]]
    assert "ClusterTrustBundle" in features
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": "echo"}],
        "validation": {
            "hostname": "www.example.com",
            "caCertificateRefs": [{"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "all"}],
        },
    }
    gate.apply(manifest(GATEWAY_API, "BackendTLSPolicy", "bundled", spec=spec))
    wait_until(lambda: resolved(gate) == "InvalidCACertificateRef", 30, "a missing bundle is not told")
    bundle = {"trustBundle": Authority().pem}
    gate.apply(manifest("certificates.k8s.io/v1beta1", "ClusterTrustBundle", "all", spec=bundle))
    wait_until(lambda: resolved(gate) == "ResolvedRefs", 30, "a bundle that comes is not heeded")
    assert not answered(gate, "/"), "the pods do not speak TLS, and nothing is sent in plain text"
    gate.kubectl("delete", "clustertrustbundle", "all")
    wait_until(lambda: resolved(gate) == "InvalidCACertificateRef", 30, "a bundle that goes is not told")
    gate.kubectl("delete", "backendtlspolicy", "bundled")
    wait_until(lambda: answered(gate, "/"), 30, "without a policy the pods are not reached")
