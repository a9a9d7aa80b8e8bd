"""A cluster in which a Gateway of two proxies serves: what the tests of failures and rollouts begin with."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cases.certificates import certificate
from tests.cluster import pods
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.fixtures import started
from tests.cluster.install import NAMESPACE, install
from tests.cluster.pods import manifest

GATEWAY_API = "gateway.networking.k8s.io/v1"
OWN_API = "gateway.tripylon.dev/v1alpha1"
HOST = "www.example.com"
PROXIES = "edge-tripylon"
"""Name of the Deployment and the Service of the Gateway."""
LONG = os.environ.get("TRIPYLON_TEST_LONG") == "1"
"""Whether outages last as long as documented, instead of as long as CI has time for."""


def serving(purpose: str) -> Iterator[Cluster]:
    """A cluster with two controllers, and the Gateway `edge` that leads requests to two pods."""
    for cluster in started(purpose):
        _set_up(cluster)
        yield cluster


def _set_up(cluster: Cluster) -> None:
    install(cluster, replicas=2)
    echo = pods.deployment("echo", 2, pods.echo_container()) + pods.service("echo", 8080, 3000)
    cluster.apply(echo + parameters(2) + gateway("edge", parameters="edge") + route("echo"))
    cluster.kubectl("rollout", "status", "deployment/echo", "--timeout=30s")
    wait_programmed(cluster)
    wait_until(lambda: len(ready_proxies(cluster)) == 2, 30, "the proxies do not get ready")
    wait_until(lambda: answered(cluster, "/"), 30, "the gateway does not answer")


# --- Manifests ------------------------------------------------------------------------------------------------------


def parameters(replicas: int, **template: Any) -> str:
    """How the proxies are run; they end soon after they are told, as nothing here is slow to notice that."""
    template = {"gracefulShutdown": {"sleepTimeSeconds": 2}} | template
    kube = {"deployment": {"replicas": replicas}, "podTemplate": template}
    return manifest(OWN_API, "GatewayParameters", "edge", spec={"kube": kube})


def gateway(name: str, *more: dict[str, Any], parameters: str = "", of: str = "tripylon") -> str:
    """A Gateway with a listener on port 80 and what else is given."""
    spec: dict[str, Any] = {"gatewayClassName": of}
    spec["listeners"] = [{"name": "http", "port": 80, "protocol": "HTTP"}, *more]
    if parameters:
        ref = {"group": OWN_API.partition("/")[0], "kind": "GatewayParameters", "name": parameters}
        spec["infrastructure"] = {"parametersRef": ref}
    return manifest(GATEWAY_API, "Gateway", name, spec=spec)


def https(name: str, port: int, secret: str, namespace: str = "default") -> dict[str, Any]:
    """A listener that shows the certificate of a Secret."""
    tls = {"certificateRefs": [{"name": secret, "namespace": namespace}]}
    return {"name": name, "port": port, "protocol": "HTTPS", "hostname": HOST, "tls": tls}


def route(name: str, path: str = "/", *, backend: str = "echo", of: str = "edge") -> str:
    """A route from a path's prefix to a Service."""
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": backend, "port": 8080}],
    }
    return manifest(GATEWAY_API, "HTTPRoute", name, spec={"parentRefs": [{"name": of}], "rules": [rule]})


def secret(name: str, data: dict[str, str]) -> str:
    """A Secret with a certificate."""
    return manifest("v1", "Secret", name, type="kubernetes.io/tls", stringData=data)


def new_certificate(folder: Path, authorities: str = "authorities.pem") -> dict[str, str]:
    """A certificate for HOST that clients will trust who have read the file of authorities after this call."""
    made: dict[str, str] = certificate.__wrapped__(HOST)
    with (folder / authorities).open("a") as file:
        file.write(made["tls.crt"])
    return made


# --- Questions ------------------------------------------------------------------------------------------------------


def wait_programmed(cluster: Cluster, name: str = "edge", limit_s: float = 30) -> None:
    """Waits until the proxies have taken the current generation."""
    wait_until(lambda: programmed(cluster, name), limit_s, f"Gateway {name} is not programmed")


def programmed(cluster: Cluster, name: str = "edge") -> bool:
    found = cluster.get("gateway", name)
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(
        each["type"] == "Programmed"
        and each["status"] == "True"
        and each["observedGeneration"] == found["metadata"]["generation"]
        for each in conditions
    )


def wait_served(cluster: Cluster, listener: str, port: int, limit_s: float = 40) -> None:
    """Waits until a listener of `edge` is served with all that it refers to, and the load balancer leads there.

    The latter is the cluster's doing, whose own controllers are slow for a while after a bad day.
    """
    says = {"ResolvedRefs": "True", "Programmed": "True"}
    wait_until(
        lambda: says.items() <= listener_conditions(cluster, listener).items(),
        limit_s,
        f"listener {listener} is not served",
    )
    to = f"{HOST}:{port}:{address(cluster)}:{port}"
    argv = ["curl", "-sk", "--max-time", "5", "-o", "/dev/null", "--connect-to", to, f"https://{HOST}:{port}/"]
    wait_until(lambda: not is_refused(cluster, argv), limit_s, f"nothing leads to port {port} of the proxies")


def is_refused(cluster: Cluster, argv: list[str]) -> bool:
    return cluster.run(argv, check=False).returncode == 7  # CURLE_COULDNT_CONNECT


def listener_conditions(cluster: Cluster, listener: str) -> dict[str, str]:
    """Status by type of the conditions of a listener of `edge`."""
    for each in cluster.get("gateway", "edge")["status"].get("listeners", ()):
        if each["name"] == listener:
            return {condition["type"]: condition["status"] for condition in each["conditions"]}
    return {}


def address(cluster: Cluster, name: str = "edge") -> str:
    """Where a Gateway is reached."""
    return str(cluster.get("gateway", name)["status"]["addresses"][0]["value"])


def answered(cluster: Cluster, path: str, at: str = "") -> bool:
    """Whether a request for a path gets 200 by a route, from the gateway or from one proxy."""
    url = f"http://{at or address(cluster)}{path}"
    argv = ["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"host: {HOST}", url]
    return cluster.run(argv, check=False).stdout == "200"


def list_pods(cluster: Cluster, label: str, namespace: str = "default") -> list[Any]:
    """The pods with a label that are not about to end."""
    found = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-l", label, "-o", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: Any) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def ready_proxies(cluster: Cluster) -> dict[str, str]:
    """Addresses of the proxies of `edge` that are ready, by the pods' names."""
    found = list_pods(cluster, "gateway.networking.k8s.io/gateway-name=edge")
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in found if is_ready(pod)}


def controllers(cluster: Cluster) -> dict[str, str]:
    """Addresses of the controllers that are ready, by the pods' names."""
    found = list_pods(cluster, "app.kubernetes.io/name=tripylon", NAMESPACE)
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in found if is_ready(pod)}


def leader(cluster: Cluster) -> str:
    """Name of the pod that leads."""
    holder = cluster.get("lease", "tripylon", NAMESPACE)["spec"].get("holderIdentity") or ""
    return str(holder).partition("_")[0]


def metric(cluster: Cluster, name: str) -> dict[str, float]:
    """A metric of each controller, by its pod's name; controllers that do not answer are left out."""
    found = {}
    for pod, at in controllers(cluster).items():
        ran = cluster.run(["curl", "-sS", "--fail", "--max-time", "5", f"http://{at}:9092/metrics"], check=False)
        values = [line.split()[-1] for line in ran.stdout.splitlines() if line.partition("{")[0].split()[:1] == [name]]
        if values:
            found[pod] = sum(map(float, values))
    return found


def wait_connected(cluster: Cluster, proxies: int = 2, limit_s: float = 40) -> None:
    """Waits until so many proxies are connected to controllers."""
    connected = "tripylon_xds_connected_proxies"
    wait_until(lambda: sum(metric(cluster, connected).values()) == proxies, limit_s, "proxies do not come back")


def xds_secret(cluster: Cluster) -> dict[str, bytes]:
    """The certificate by which proxies know the controllers, and its keys."""
    data = cluster.get("secret", "tripylon-xds-tls", NAMESPACE)["data"]
    return {name: base64.b64decode(value) for name, value in data.items()}


def kill(pod: str) -> None:
    """SIGKILL to the processes of a controller's pod, which its node starts again."""
    mark = f"POD_NAME={pod}".encode()
    killed = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue
    assert killed, f"no process of {pod}"


# --- Steps ----------------------------------------------------------------------------------------------------------


def rolled(cluster: Cluster, name: str, namespace: str = "default") -> None:
    """Replaces all pods of a Deployment."""
    cluster.kubectl("-n", namespace, "rollout", "restart", "deployment", name)
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment", name, "--timeout=90s")


def assert_changes_arrive(cluster: Cluster, name: str) -> None:
    """A new route reaches every proxy: one by one, as chance would hide that one has stopped to follow."""
    cluster.apply(route(name, f"/{name}", backend="nobody"))
    for proxy in ready_proxies(cluster).values():
        wait_until(lambda at=proxy: not answered(cluster, f"/{name}", at), 40, f"{proxy} does not get a new route")
    cluster.kubectl("delete", "httproute", name)
    for proxy in ready_proxies(cluster).values():
        wait_until(lambda at=proxy: answered(cluster, f"/{name}", at), 40, f"{proxy} keeps a deleted route")
