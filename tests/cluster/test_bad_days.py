"""Bad days: what a cluster does to a controller. Requests go on, and once the day is over changes arrive again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.install import NAMESPACE
from tests.cluster.load import load
from tests.cluster.pods import manifest
from tests.cluster.serving import (
    GATEWAY_API,
    HOST,
    LONG,
    OWN_API,
    address,
    answered,
    assert_changes_arrive,
    controllers,
    gateway,
    https,
    list_pods,
    listener_conditions,
    metric,
    new_certificate,
    rolled,
    route,
    secret,
    serving,
    wait_connected,
    wait_programmed,
    wait_served,
)

from tripylon.kube.install import install_manifests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OUTAGE_S = 300 if LONG else 30
TROUBLE_S = 60 if LONG else 10
INVALID = 1000
GATEWAYS = 100
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"
SECRETS = "/api/v1/namespaces/default/secrets"
FOREIGN = "example.com/another-controller"
OURS = "gateway.tripylon.dev/controller"


@pytest.fixture(scope="module")
def gate() -> Iterator[Cluster]:
    yield from serving("bad")


# --- The API server -------------------------------------------------------------------------------------------------


def test_the_api_server_is_gone(gate: Cluster) -> None:
    with load(gate, address(gate)) as result:
        gate.stop("apiserver")
        time.sleep(OUTAGE_S)
        gate.start("apiserver")
        gate.wait_ready()
        assert_changes_arrive(gate, "returned")
    result.assert_none_failed()
    assert len(controllers(gate)) == 2


def test_etcd_is_slow(gate: Cluster) -> None:
    deadline = time.monotonic() + TROUBLE_S
    with load(gate, address(gate)) as result:
        try:
            while time.monotonic() < deadline:
                gate.signal("etcd", signal.SIGSTOP)
                time.sleep(0.8)
                gate.signal("etcd", signal.SIGCONT)
                time.sleep(0.2)
        finally:
            gate.signal("etcd", signal.SIGCONT)
        assert_changes_arrive(gate, "slow")
    result.assert_none_failed()


def test_connections_to_the_api_server_break_each_second(gate: Cluster) -> None:
    before = restarts(gate)
    deadline = time.monotonic() + TROUBLE_S
    broken = 0
    with load(gate, address(gate)) as result:
        while time.monotonic() < deadline:
            for at in controllers(gate).values():
                cut = gate.run(["ss", "-HtnK", "state", "established", "dst", at, "sport", "=", ":6443"], check=False)
                broken += len(cut.stdout.splitlines())
            time.sleep(1)
        assert_changes_arrive(gate, "broken")
    result.assert_none_failed()
    if not broken:
        pytest.skip("left out: this kernel does not let one break connections (INET_DIAG_DESTROY)")
    print(f"\n{broken} connections were broken in {TROUBLE_S} s")
    assert restarts(gate) == before


# --- Objects --------------------------------------------------------------------------------------------------------


def test_a_thousand_invalid_objects_do_not_hold_up_good_ones(gate: Cluster) -> None:
    gate.kubectl("create", "-f", "-", text="".join(invalid(number) for number in range(INVALID)))
    began_s = time.monotonic()
    gate.apply(route("good", "/good"))
    wait_until(lambda: accepted(gate, "good"), 30, "the good route has no status")
    assert answered(gate, "/good")
    print(f"\na good route beside {INVALID} invalid ones: accepted after {time.monotonic() - began_s:.1f} s")
    try:
        wait_until(lambda: len(told(gate)) == INVALID, 60, "some invalid routes have no status")
        assert set(told(gate).values()) == {"False"}
        assert_changes_arrive(gate, "beside")
    finally:
        gate.kubectl("delete", "httproutes", "-l", "invalid=yes", "--wait=false")
        gate.kubectl("delete", "httproute", "good")


def test_a_secret_flips_between_valid_and_broken(gate: Cluster, tmp_path: Path) -> None:
    good = new_certificate(tmp_path)
    gate.apply(secret("flipping", good) + gateway("edge", https("https", 443, "flipping"), parameters="edge"))
    wait_programmed(gate)
    wait_served(gate, "https", 443)
    trust = (tmp_path / "authorities.pem", HOST)
    deadline, flips = time.monotonic() + 10, 0
    with api(gate) as ask, load(gate, address(gate), port=443, tls=trust) as result:
        while time.monotonic() < deadline:
            content = good if flips % 2 else {"tls.crt": "garbage", "tls.key": "garbage"}
            ask("PATCH", f"{SECRETS}/flipping", {"stringData": content})
            flips += 1
            time.sleep(0.1)
        ask("PATCH", f"{SECRETS}/flipping", {"stringData": good})
        says = {"ResolvedRefs": "True", "Programmed": "True"}
        wait_until(lambda: says.items() <= listener_conditions(gate, "https").items(), 20, "status does not say so")
    result.assert_none_failed()
    assert flips > 4
    gate.apply(gateway("edge", parameters="edge"))
    wait_programmed(gate)
    assert_changes_arrive(gate, "flipped")


def test_a_foreign_controller_writes_the_same_status_list(gate: Cluster) -> None:
    gate.apply(route("shared", "/shared"))
    wait_until(lambda: accepted(gate, "shared"), 30, "the route has no status")
    before = sum(metric(gate, "tripylon_status_writes_total").values())
    deadline, writes, dropped = time.monotonic() + 10, 0, 0
    with api(gate) as ask:
        while time.monotonic() < deadline:
            writes += 1
            careless = writes % 20 == 0  # now and then it forgets that the list is not its own
            dropped += write_foreign_entry(ask, writes, keep=not careless) and careless
            time.sleep(0.05)
        last = writes + 1
        wait_until(lambda: write_foreign_entry(ask, last, keep=True), 5, "conflicts without end")
    wait_until(lambda: accepted(gate, "shared"), 30, "our entry does not come back")
    parents = gate.get("httproute", "shared")["status"]["parents"]
    assert sorted(each["controllerName"] for each in parents) == [FOREIGN, OURS]
    [theirs] = [each for each in parents if each["controllerName"] == FOREIGN]
    assert theirs["conditions"][0]["message"] == f"write {last}"
    ours = sum(metric(gate, "tripylon_status_writes_total").values()) - before
    assert dropped <= ours <= dropped * 3 + 3, f"{ours} writes of ours, {dropped} were called for"
    gate.kubectl("delete", "httproute", "shared")


def test_many_gateways_at_once(gate: Cluster) -> None:
    names = [f"many-{number}" for number in range(GATEWAYS)]
    none = manifest(OWN_API, "GatewayParameters", "none", spec={"kube": {"deployment": {"replicas": 0}}})
    began_s = time.monotonic()
    gate.apply(none + "".join(gateway(name, parameters="none") for name in names))
    wait_until(lambda: set(names) <= placed(gate), 120, "some Gateways are not accepted or have no address")
    print(
        f"\n{GATEWAYS} Gateways at once: accepted, with Service and address, after {time.monotonic() - began_s:.1f} s"
    )
    gate.kubectl("delete", "gateways", *names, "--wait=false")
    label = "gateway.networking.k8s.io/gateway-class-name=tripylon"
    wait_until(lambda: count(gate, "deployments", label) == 1, 60, "Deployments stay")
    assert_changes_arrive(gate, "many")


# --- The installation -----------------------------------------------------------------------------------------------


def settled_version(gate: Cluster) -> str:
    """The version of the Gateway `edge` once nobody has changed it for as long as we look."""
    seen = ""
    while seen != (now := str(gate.get("gateway", "edge")["metadata"]["resourceVersion"])):
        seen = now
        time.sleep(3)
    return seen


def test_two_installations_leave_each_other_alone(gate: Cluster) -> None:
    before = settled_version(gate)
    gate.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": other_installation()}))
    gate.kubectl("-n", "other-system", "rollout", "status", "deployment/tripylon", "--timeout=60s")
    gate.apply(gateway("theirs", of="other") + route("theirs", of="theirs"))
    wait_programmed(gate, "theirs")
    wait_until(lambda: answered(gate, "/", address(gate, "theirs")), 20, "the other gateway does not answer")
    [entry] = gate.get("httproute", "theirs")["status"]["parents"]
    assert entry["controllerName"] == "example.com/other"
    time.sleep(3)  # longer than either takes to write what it thinks is wrong
    assert gate.get("gateway", "edge")["metadata"]["resourceVersion"] == before
    assert [each["controllerName"] for each in gate.get("httproute", "echo")["status"]["parents"]] == [OURS]
    gate.kubectl("delete", "gateway/theirs", "httproute/theirs")
    gate.kubectl("delete", "namespace", "other-system", "--wait=false")
    gate.kubectl("delete", "gatewayclass", "other")
    assert_changes_arrive(gate, "two")


def test_a_kind_that_may_not_be_read(gate: Cluster) -> None:
    name = f"tripylon-{NAMESPACE}"
    role = json.loads(gate.kubectl("get", "clusterrole", name, "-o", "json"))
    less = [
        rule | {"resources": [each for each in rule["resources"] if each != "grpcroutes"]} for rule in role["rules"]
    ]
    set_rules(gate, name, [rule for rule in less if rule["resources"]])
    with load(gate, address(gate)) as result:
        rolled(gate, "tripylon", NAMESPACE)
        wait_connected(gate)
        for pod in controllers(gate):
            said = gate.kubectl("-n", NAMESPACE, "logs", pod)
            assert "no permission to follow a kind" in said
            assert "grpcroutes" in said
        assert_changes_arrive(gate, "forbidden")
        set_rules(gate, name, role["rules"])
        gate.apply(grpc_route())
        wait_until(lambda: accepted(gate, "grpc", "grpcroute"), 90, "the kind is not picked up")
    result.assert_none_failed()
    gate.kubectl("delete", "grpcroute", "grpc")


def is_established(gate: Cluster, definition: str) -> bool:
    """Whether the kind can be used; `kubectl wait` fails while there is no condition at all."""
    conditions = (gate.get("crd", definition).get("status") or {}).get("conditions") or ()
    return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)


def test_a_definition_is_removed_and_comes_back(gate: Cluster) -> None:
    before = restarts(gate)
    name = "httproutes.gateway.networking.k8s.io"
    definition = json.loads(gate.kubectl("get", "crd", name, "-o", "json"))
    gate.kubectl("delete", "crd", name)
    wait_until(lambda: not answered(gate, "/"), 30, "deleted routes are served")
    kept = {key: definition["metadata"].get(key) for key in ("name", "annotations", "labels")}
    gate.apply(json.dumps({**{key: definition[key] for key in ("apiVersion", "kind", "spec")}, "metadata": kept}))
    wait_until(lambda: is_established(gate, name), 30, "the definition is not taken")
    gate.apply(route("echo"))
    wait_until(lambda: answered(gate, "/"), 60, "the new definition is not noticed")
    wait_until(lambda: accepted(gate, "echo"), 30, "the route has no status")
    assert restarts(gate) == before


# --- Asking ---------------------------------------------------------------------------------------------------------


class api:  # noqa: N801 - used like a function
    """Requests to the API server without a program for each: `with api(cluster) as ask: ask("GET", path)`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def __enter__(self) -> api:
        argv = self._cluster.inside(["kubectl", "proxy", "--port=0"])
        self._proxy = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=self._cluster.environment())
        assert self._proxy.stdout is not None
        self._server = self._proxy.stdout.readline().split()[-1]
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.kill()
        self._proxy.wait()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer. Raises urllib.error.HTTPError."""
        kind = "application/json" if method != "PATCH" else "application/merge-patch+json"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            f"http://{self._server}{path}", data=data, method=method, headers={"content-type": kind}
        )
        with self._cluster.network(), urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def write_foreign_entry(ask: api, number: int, *, keep: bool) -> bool:
    """Another controller's entry in the list, with our entries or without; False: somebody wrote in between."""
    found = ask("GET", f"{ROUTES}/shared")
    parents = found["status"]["parents"]
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": f"write {number}",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    theirs = {"parentRef": {"name": "edge"}, "controllerName": FOREIGN, "conditions": [condition]}
    found["status"]["parents"] = [each for each in parents if keep and each["controllerName"] != FOREIGN] + [theirs]
    try:
        ask("PUT", f"{ROUTES}/shared/status", found)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        return False
    return True


def accepted(cluster: Cluster, name: str, kind: str = "httproute") -> bool:
    """Whether we say that a route is accepted."""
    entries = (cluster.get(kind, name).get("status") or {}).get("parents") or ()
    return any(
        condition["type"] == "Accepted" and condition["status"] == "True"
        for entry in entries
        if entry["controllerName"] == OURS
        for condition in entry["conditions"]
    )


def told(cluster: Cluster) -> dict[str, str]:
    """What is wrong with the invalid routes that have a status: `False` in a condition."""
    found = {}
    for each in json.loads(cluster.kubectl("get", "httproutes", "-l", "invalid=yes", "-o", "json"))["items"]:
        for entry in (each.get("status") or {}).get("parents") or ():
            found[each["metadata"]["name"]] = min(condition["status"] for condition in entry["conditions"])
    return found


def placed(cluster: Cluster) -> set[str]:
    """The Gateways that are accepted and have an address."""
    found = json.loads(cluster.kubectl("get", "gateways", "-o", "json"))["items"]
    return {
        each["metadata"]["name"]
        for each in found
        if (each.get("status") or {}).get("addresses")
        and any(one["type"] == "Accepted" and one["status"] == "True" for one in each["status"]["conditions"])
    }


def count(cluster: Cluster, kind: str, label: str) -> int:
    return len(cluster.kubectl("get", kind, "-l", label, "-o", "name").split())


def restarts(cluster: Cluster) -> dict[str, int]:
    """How often each controller was started again."""
    found = list_pods(cluster, "app.kubernetes.io/name=tripylon", NAMESPACE)
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}


def set_rules(cluster: Cluster, role: str, rules: list[Any]) -> None:
    cluster.kubectl("patch", "clusterrole", role, "--type=merge", "-p", json.dumps({"rules": rules}))


# --- Manifests ------------------------------------------------------------------------------------------------------


def invalid(number: int) -> str:
    """A route with one of several faults."""
    match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": f"/invalid/{number}"}}
    backend = {"name": "echo", "port": 8080}
    match number % 4:
        case 0:
            match["headers"] = [{"type": "RegularExpression", "name": "x", "value": "("}]
        case 1:
            backend["name"] = "nobody"
        case 2:
            backend["port"] = 1
        case _:
            backend["namespace"] = "kube-system"
    spec = {"parentRefs": [{"name": "edge"}], "rules": [{"matches": [match], "backendRefs": [backend]}]}
    return manifest(GATEWAY_API, "HTTPRoute", f"invalid-{number}", spec=spec, labels={"invalid": "yes"})


def grpc_route() -> str:
    rule = {"backendRefs": [{"name": "echo", "port": 8080}]}
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": ["grpc.example.com"], "rules": [rule]}
    return manifest(GATEWAY_API, "GRPCRoute", "grpc", spec=spec)


def other_installation() -> list[Any]:
    """A second one, with one replica, in a namespace of its own, for a class of its own."""
    # The definitions, and the roles for users, are the cluster's: both installations share them.
    objects = list(install_manifests("other-system", replicas=1, definitions=False))
    for each in objects:
        if each["kind"] == "GatewayClass":
            each["metadata"]["name"] = "other"
            each["spec"]["controllerName"] = "example.com/other"
        if each["kind"] == "Deployment":
            for variable in each["spec"]["template"]["spec"]["containers"][0]["env"]:
                if variable["name"] == "TRIPYLON_CONTROLLER_NAME":
                    variable["value"] = "example.com/other"
    return objects
