"""What is shipped, as it is documented: the commands of the pages on a real cluster, and an installation that is kept
to one namespace beside another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.charts.rendered import objects
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.fixtures import started

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
NOT_HERE = (
    "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/",  # every test cluster has them
    "docker ",  # there are no images here
    "helm ",  # the charts are rendered by tests/charts
)
"""How commands begin that cannot be run on the test cluster."""
IMAGE = "registry.example.com"
LIMIT = "--timeout=60s"
APP = """
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{port: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers: [{name: app, image: "python:3.11-slim", command: [python, -m, http.server, "9000"]}]
"""


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A cluster with the Gateway API's definitions and nothing of ours."""
    yield from started("shipping")


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its kind."""
    return (ROOT / page).read_text().partition(f"\n{heading}\n")[2].partition(f"\n{heading.split(maxsplit=1)[0]} ")[0]


def blocks(text: str, language: str) -> list[str]:
    """The code of a page, without the indentation that it has within a list."""
    found = re.findall(rf"(?ms)^( *)```{language}\n(.*?)^ *```$", text)
    return [re.sub(rf"(?m)^{indentation}", "", code) for indentation, code in found]


def commands(text: str) -> list[str]:
    """The commands of a page, each with its continued lines and its input."""
    found: list[str] = []
    end = ""
    for line in "\n".join(blocks(text, "sh")).replace("REGISTRY", IMAGE).splitlines():
        if end or (found and found[-1].endswith("\\\n")):
            found[-1] += f"{line}\n"
            end = "" if line == end else end
        elif line and not line.startswith("#"):
            found.append(f"{line}\n")
            end = "END" if line.endswith("<<'END'") else ""
    return found


@pytest.mark.parametrize(("page", "heading"), [("README.md", "## In Kubernetes"), ("docs/kubernetes.md", "## Install")])
def test_the_commands_of_a_page_install_it(bare: Cluster, page: str, heading: str) -> None:
    found = commands(section(page, heading))
    ours = [each for each in found if not each.startswith(NOT_HERE)]
    assert [each for each in ours if each.startswith("tripylon gen install")]
    assert len(found) - len(ours) >= 3
    for command in ours:
        bare.run(["bash", "-euo", "pipefail", "-c", command])
    bare.kubectl("rollout", "status", "deployment/tripylon", "-n", "tripylon-system", LIMIT)
    bare.kubectl("wait", "--for=condition=Accepted", "gatewayclass/tripylon", LIMIT)
    [container] = bare.get("deployment", "tripylon", "tripylon-system")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{IMAGE}/tripylon/controller:0.1.0"


def test_the_readmes_example_works_there_with_a_service(bare: Cluster) -> None:
    [example, *_] = blocks(section("README.md", "## An example"), "yaml")
    gateway_and_route = "---\n".join(each for each in example.split("---\n") if "kind: Backend\nmetadata" not in each)
    bare.apply(APP)
    bare.apply(
        gateway_and_route.replace("group: gateway.tripylon.dev, kind: Backend, name: app", "name: app, port: 9000")
    )
    bare.kubectl("rollout", "status", "deployment/app", LIMIT)
    bare.kubectl("wait", "--for=condition=Programmed", "gateway/edge", LIMIT)
    wait_until(lambda: ask(bare, "default", 8080, "www.example.com") == "200", 20, "the route is not served")
    assert ask(bare, "default", 8080, "other.example.com") == "404"


def test_a_proxy_of_ones_own_serves(bare: Cluster, tmp_path: Path) -> None:
    for command in commands(section("docs/kubernetes.md", "## Proxies that you run yourself")):
        bare.run(["bash", "-euo", "pipefail", "-c", f"cd {tmp_path}\n{command}"])
    bare.kubectl("wait", "--for=condition=Programmed", "gateway/own", LIMIT)
    label = "app.kubernetes.io/instance=own-self-managed"
    [pod] = json.loads(bare.kubectl("get", "pods", "-l", label, "-o", "json"))["items"]
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{pod['status']['podIP']}/"]
    assert bare.run(curl).stdout == "404", "it listens, and there is no route"


def test_an_installation_may_be_kept_to_one_namespace_beside_another(bare: Cluster) -> None:
    values = {
        "watchNamespaces": ["shop"],
        "controller": {"name": "example.com/second"},
        "gatewayClass": {"name": "second"},
        "rbac": {"userRoles": False},
    }
    for namespace in ("second", "shop", "elsewhere"):
        bare.kubectl("create", "namespace", namespace)
    made = objects(values, release="second", namespace="second")
    bare.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    for namespace in ("elsewhere", "shop"):
        bare.kubectl("apply", "-n", namespace, "-f", "-", text=gateway("second"))
    bare.kubectl("rollout", "status", "deployment/second-tripylon", "-n", "second", LIMIT)
    bare.kubectl("wait", "--for=condition=Programmed", "gateway/edge", "-n", "shop", LIMIT)
    assert ask(bare, "shop", 80, "any.example.com") == "404", "there is a proxy, and no route"
    unseen = bare.get("gateway", "edge", "elsewhere")
    assert {each["reason"] for each in unseen.get("status", {}).get("conditions", ())} <= {"Pending"}
    log = bare.kubectl("logs", "-n", "second", "-l", "app.kubernetes.io/instance=second", "--tail=-1")
    assert '"ready"' in log
    assert [line for line in log.splitlines() if '"info"' not in line] == [], "nothing that it asked for was refused"


def gateway(of_class: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: {of_class}
  listeners: [{{name: http, protocol: HTTP, port: 80}}]
"""


def ask(cluster: Cluster, namespace: str, port: int, host: str) -> str:
    """The status code that the Gateway `edge` answers, once it is reached."""
    address = cluster.get("gateway", "edge", namespace)["status"]["addresses"][0]["value"]
    curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--retry", "20", "--retry-delay", "1"]
    url = f"http://{address}:{port}/"
    return cluster.run([*curl, "--retry-connrefused", "--max-time", "30", "-H", f"Host: {host}", url]).stdout
