"""The test cluster does what the project's tests rely on: pods, Services, hooks, limits, and leaving nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import pods
from tests.cluster.cluster import Cluster
from tests.cluster.kubectl import search_path
from tests.cluster.pods import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def here(cluster: Cluster, namespace: str) -> Namespace:
    return Namespace(cluster, namespace)


def test_service_and_load_balancer_reach_every_ready_pod(here: Namespace) -> None:
    here.apply(pods.deployment("echo", 2, pods.echo_container()), pods.service("echo", 8080, 3000, type="LoadBalancer"))
    here.rolled_out("echo")
    here.until(lambda: bool(ingress(here, "echo")), "no load balancer address")
    for address in (here.get("service", "echo")["spec"]["clusterIP"], ingress(here, "echo")[0]["ip"]):
        every_pod_answers(here, f"http://{address}:8080/x")
    name = f"http://echo.{here.name}.svc.cluster.local:8080/by-name"
    here.apply(pods.pod("client", pods.shell_container(f"curl -sS --fail {name}")))
    assert json.loads(here.finished("client"))["path"] == "/by-name"


def test_one_load_balancer_port_serves_datagrams_and_streams(here: Namespace) -> None:
    names = pods.echo_container()["env"]
    containers = [
        {"name": kind.lower(), "image": pods.ECHO_IMAGE, "env": [{"name": f"{kind}_ECHO_SERVER", "value": "1"}, *names]}
        for kind in ("UDP", "TCP")
    ]
    ports = [
        {"name": "datagrams", "port": 5310, "targetPort": 8080, "protocol": "UDP"},
        {"name": "streams", "port": 5310, "targetPort": 3000, "protocol": "TCP"},
    ]
    here.apply(
        pods.deployment("echo", 2, containers[0], containers=containers),
        pods.service("echo", 5310, 3000, type="LoadBalancer", ports=ports),
    )
    here.rolled_out("echo")
    here.until(lambda: bool(ingress(here, "echo")), "no load balancer address")
    place = (ingress(here, "echo")[0]["ip"], 5310)
    every_pod = {pod["metadata"]["name"] for pod in here.list("pods")}
    with here.cluster.network():
        # Each socket has a port of its own, so each is another flow, which goes to any of the pods.
        here.until(lambda: {datagram_echo(place) for _ in range(20)} == every_pod, "not every pod gets datagrams")
        with socket.create_connection(place, timeout=5) as connection, connection.makefile("rw") as stream:
            assert stream.readline() == "Gateway API Test TCP Server\n"
            stream.write("PING\n")
            stream.flush()
            assert stream.readline() == "PONG\n"
    here.kubectl("delete", "deployment", "echo")
    here.until(lambda: not here.list("pods"), "the pods stay")
    with here.cluster.network():
        here.until(lambda: datagram_echo(place) is None, "datagrams vanish where nobody serves, without a word")


def test_static_load_balancer_addresses_are_given_only_within_the_range(here: Namespace) -> None:
    here.apply(
        pods.service("inside", 80, 80, type="LoadBalancer", loadBalancerIP="10.250.0.9"),
        pods.service("outside", 80, 80, type="LoadBalancer", loadBalancerIP="10.249.0.9"),
    )
    here.until(lambda: bool(ingress(here, "inside")), "no load balancer address")
    assert ingress(here, "inside")[0]["ip"] == "10.250.0.9"
    assert not ingress(here, "outside")


def test_logs_and_exec(here: Namespace) -> None:
    here.apply(pods.pod("worker", pods.shell_container("echo started; exec sleep 600")))
    here.until(lambda: "started" in here.kubectl("logs", "worker"), "no log")
    assert here.kubectl("exec", "worker", "--", "sh", "-c", "echo $HOSTNAME; hostname") == "worker\nworker\n"
    failed = here.cluster.run(["kubectl", "-n", here.name, "exec", "worker", "--", "sh", "-c", "exit 7"], check=False)
    assert failed.returncode == 7


def test_hooks_run_before_the_program_is_told_to_end(here: Namespace) -> None:
    script = "trap 'echo told to end; exit 0' TERM; echo started; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook of user $(id -u) > /proc/1/fd/1; sleep 0.3"]}}}
    user = {"runAsUser": 4321, "runAsGroup": 4321}
    here.apply(
        pods.pod("shell", pods.shell_container(script, lifecycle=hook, securityContext=user)),
        pods.pod("echo", pods.echo_container(lifecycle={"preStop": {"httpGet": {"path": "/goodbye", "port": 3000}}})),
    )
    here.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=20s")
    here.until(lambda: "started" in here.kubectl("logs", "shell"), "no log")
    here.kubectl("delete", "pod", "shell", "echo")
    assert here.log("shell").split("\n") == ["started", f"hook of user {user_inside(4321)}", "told to end", ""]
    assert "Echoing back request made to /goodbye" in here.log("echo")


def test_programs_that_do_not_end_are_killed_after_the_grace(here: Namespace) -> None:
    script = "trap 'echo told to end' TERM; echo started; while :; do sleep 0.05; done"
    here.apply(pods.pod("stubborn", pods.shell_container(script), terminationGracePeriodSeconds=1))
    here.until(lambda: "started" in here.kubectl("logs", "stubborn"), "no log")
    here.kubectl("delete", "pod", "stubborn")
    assert here.log("stubborn").split("\n") == ["started", "told to end", ""]
    assert not here.list("pods")


def test_security_context_restricts(here: Namespace) -> None:
    script = (
        "id -u; id -g; touch /new 2>/dev/null || echo read-only; touch /tmp/new && echo writable;"
        "grep -E 'CapBnd|NoNewPrivs' /proc/self/status; echo to-stdout > /dev/stdout;"
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    )
    security = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    here.apply(
        pods.pod(
            "restricted",
            pods.shell_container(script, securityContext=security, volumeMounts=mounts),
            volumes=[{"name": "tmp", "emptyDir": {}}],
            securityContext={"runAsNonRoot": True, "runAsUser": 1234, "runAsGroup": 2345, "sysctls": sysctls},
        )
    )
    assert here.finished("restricted").split("\n") == [
        *(user_inside(1234), user_inside(2345), "read-only", "writable"),
        *("CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "to-stdout", "0", ""),
    ]


def test_root_is_refused_where_it_is_not_wanted(here: Namespace) -> None:
    here.apply(pods.pod("root", pods.shell_container("id -u"), securityContext={"runAsNonRoot": True}))
    here.until(lambda: here.phase("root") == "Failed", "the pod runs")
    assert "runAsNonRoot" in here.log("root")


def test_volumes_appear_late_and_follow_changes(here: Namespace) -> None:
    volumes = [
        {"name": "secret", "secret": {"secretName": "late"}},
        {"name": "config", "configMap": {"name": "late", "items": [{"key": "a", "path": "sub/a"}]}},
        {"name": "pod", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/volumes/{volume['name']}"} for volume in volumes]
    script = (
        "cat /volumes/secret/key /volumes/config/sub/a /volumes/pod/labels; echo;"
        "while grep -q old /volumes/secret/key; do sleep 0.05; done; cat /volumes/secret/key"
    )
    here.apply(pods.pod("reader", pods.shell_container(script, volumeMounts=mounts), volumes=volumes))
    here.until(lambda: here.phase("reader") == "Pending", "the pod does not wait")
    config = pods.manifest("v1", "ConfigMap", "late", data={"a": "config ", "b": "unused"})
    here.apply(config, pods.manifest("v1", "Secret", "late", stringData={"key": "old "}))
    here.until(lambda: "config" in here.kubectl("logs", "reader"), "no log")
    here.apply(pods.manifest("v1", "Secret", "late", stringData={"key": "new"}))
    assert here.finished("reader") == 'old config app="reader"\nnew\n'


def test_projected_tokens_prove_which_pod_asks(here: Namespace) -> None:
    token = {"path": "token", "audience": "tripylon-xds", "expirationSeconds": 600}
    volume = {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}
    mounts = [{"name": "token", "mountPath": "/token"}]
    container = pods.shell_container("cat /token/token", volumeMounts=mounts)
    here.apply(pods.pod("asker", container, volumes=[volume]))
    spec = {"token": here.finished("asker"), "audiences": ["tripylon-xds"]}
    review = pods.manifest("authentication.k8s.io/v1", "TokenReview", "", spec=spec).replace('"name": ""', "")
    review = review.replace(', "labels": {}', "")
    answer = json.loads(here.cluster.kubectl("create", "-f", "-", "-o", "json", text=review))["status"]
    assert answer["authenticated"]
    assert answer["user"]["username"] == f"system:serviceaccount:{here.name}:default"
    assert answer["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["asker"]


def test_probes_decide_who_gets_requests_and_who_is_restarted(here: Namespace) -> None:
    probe = {"exec": {"command": ["test", "-e", "/state/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    alive = {"exec": {"command": ["test", "!", "-e", "/state/dead"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = pods.shell_container(
        "rm -f /state/dead; echo started; exec sleep 600",
        readinessProbe=probe,
        livenessProbe=alive,
        volumeMounts=[{"name": "state", "mountPath": "/state"}],
    )
    here.apply(pods.deployment("probed", 1, container, volumes=[{"name": "state", "emptyDir": {}}]))
    here.until(lambda: bool(here.list("pods")) and status(here)["state"].get("running") is not None, "it does not run")
    [name] = [pod["metadata"]["name"] for pod in here.list("pods")]
    assert not status(here)["ready"]
    here.kubectl("exec", name, "--", "touch", "/state/ready")
    here.until(lambda: bool(status(here)["ready"]), "it does not get ready")
    here.kubectl("exec", name, "--", "touch", "/state/dead")
    here.until(lambda: status(here)["restartCount"] == 1, "it is not restarted")


def test_the_projects_own_images_run_unprivileged(here: Namespace) -> None:
    security = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    restricted: dict[str, Any] = {"securityContext": {"runAsNonRoot": True}}
    controller = {"name": "c", "image": "tripylon/controller:0.1.0", "args": ["--help"], "securityContext": security}
    proxy = {"name": "p", "image": "tripylon/proxy:1.40.0", "args": ["--version"], "securityContext": security}
    here.apply(pods.pod("controller", controller, **restricted), pods.pod("proxy", proxy, **restricted))
    assert "Usage: tripylon" in here.finished("controller")
    assert re.search(r"version: \w+/1\.40\.0", here.finished("proxy"))


def test_deleting_a_namespace_ends_its_pods(here: Namespace) -> None:
    here.apply(pods.deployment("echo", 2, pods.echo_container()))
    here.rolled_out("echo")
    addresses = [pod["status"]["podIP"] for pod in here.list("pods")]
    here.kubectl("delete", "deployment", "echo", "--wait=false")
    here.until(lambda: not here.list("pods"), "the pods stay")
    routes = here.cluster.run(["ip", "route"]).stdout
    assert not [address for address in addresses if f"{address} " in routes]


def test_the_api_server_comes_back_with_all_it_knew(fresh_cluster: Cluster) -> None:
    here = Namespace(fresh_cluster, "default")
    here.apply(pods.deployment("echo", 1, pods.echo_container()), pods.service("echo", 8080, 3000))
    here.rolled_out("echo")
    address = here.get("service", "echo")["spec"]["clusterIP"]
    fresh_cluster.stop("apiserver")
    assert json.loads(here.curl(f"http://{address}:8080/"))["namespace"] == "default"
    fresh_cluster.start("apiserver")
    fresh_cluster.wait_ready()
    here.kubectl("scale", "deployment/echo", "--replicas=2")
    here.rolled_out("echo")


def test_clusters_live_side_by_side_and_leave_nothing(cluster: Cluster, fresh_cluster: Cluster) -> None:
    rules = host_rules()
    here, there = Namespace(cluster, "default"), Namespace(fresh_cluster, "default")
    for place, path in ((here, "here"), (there, "there")):
        place.apply(pods.manifest("v1", "ConfigMap", "which", data={"where": path}))
    assert here.get("configmap", "which")["data"] == {"where": "here"}
    there.apply(pods.deployment("echo", 1, pods.echo_container()), pods.service("echo", 80, 3000, type="LoadBalancer"))
    there.rolled_out("echo")
    assert host_rules() == rules
    folder = fresh_cluster.folder
    assert processes_of(folder)
    assert fresh_cluster.down()
    assert not processes_of(folder)
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert not fresh_cluster.down()
    assert here.get("configmap", "which")["data"] == {"where": "here"}


def every_pod_answers(here: Namespace, url: str) -> None:
    """Waits until 20 requests are spread over all pods; readiness takes a moment to get into the node's rules."""
    names = {pod["metadata"]["name"] for pod in here.list("pods")}
    here.until(
        lambda: {json.loads(here.curl(url))["pod"] for _ in range(20)} == names, f"not every ready pod answers at {url}"
    )


def datagram_echo(place: tuple[str, int]) -> str | None:
    """The pod that answers a datagram; None when the network says that nobody serves there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(5)
        connection.connect(place)
        try:
            connection.send(b"hello")
            answer = json.loads(connection.recv(4096))
        except TimeoutError:
            return ""
        except OSError:
            return None
        assert answer["request"] == "hello"
        return str(answer["pod"])


def user_inside(number: int) -> str:
    """Whom `id` tells: the cluster of an ordinary user has no other user than its root."""
    return "0" if Path("/proc/self/uid_map").read_text().split()[2] == "1" else str(number)


def ingress(here: Namespace, name: str) -> Any:
    return here.get("service", name)["status"]["loadBalancer"].get("ingress")


def status(here: Namespace) -> Any:
    return here.list("pods")[0]["status"]["containerStatuses"][0]


def processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/" in command:
            found.append(command)
    return found


def host_rules() -> str:
    nft = shutil.which("nft", path=search_path())
    assert nft is not None
    return subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True, check=False).stdout
