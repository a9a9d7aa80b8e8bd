"""What happens to requests when parts of the gateway die, come back, or are told to stop."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.live import clients
from tests.live.echo import Deployment
from tests.live.fleet import ROOT, Fleet, Manifest
from tests.live.gateway import TRIPYLON, LiveGateway
from tests.live.load import Load, LoadClient
from tests.live.manifests import Places

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

HOSTS = ("one.example.com", "two.example.com")
RATE = 500.0
LIMIT_S = 60.0


def route(name: str, service: str) -> Manifest:
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "hostnames": [f"{name}.example.com"],
            "rules": [{"backendRefs": [{"name": service, "port": 8080}]}],
        },
    }


OBJECTS: list[Manifest] = [
    {
        "kind": "Gateway",
        "metadata": {"name": "edge"},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    },
    route("one", "first"),
    route("two", "second"),
]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[LiveGateway]:
    deployments = (Deployment("infra", "first", 1, "lean"), Deployment("infra", "second", 1, "lean"))
    with Fleet(tmp_path, deployments) as fleet:
        places = Places(fleet)
        gateway = LiveGateway(tmp_path / "gateway", places, "--concurrency", "1", "--access-log", "off")
        for manifest in [*fleet.manifests(), *places.complete(OBJECTS)]:
            gateway.write(manifest)
        try:
            gateway.start()
            gateway.wait_live()
            yield gateway
        finally:
            gateway.stop()
            places.close()


def ask(gateway: LiveGateway, host: str, path: str = "/") -> tuple[int, str]:
    answer = clients.http1(gateway.target("edge", 80), clients.Call(host=host, path=path))
    return answer.status, answer.body.decode()


def load(gateway: LiveGateway, folder: Path) -> LoadClient:
    target = gateway.target("edge", 80)
    return LoadClient(Load(target.address, target.port, HOSTS, str(folder / "records"), rate=RATE))


def metric(gateway: LiveGateway, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", gateway.get("/metrics")[1].decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def requests_begun(gateway: LiveGateway) -> float:
    """How many requests Envoy's listeners have taken since it started."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(gateway.get("/metrics/envoy")[1].decode())
        for sample in family.samples
        if sample.name == "envoy_http_downstream_rq_total" and "admin" not in sample.labels.values()
    )


def wait_until_begun(gateway: LiveGateway, before: float) -> None:
    deadline = time.monotonic() + LIMIT_S
    while requests_begun(gateway) <= before:
        assert time.monotonic() < deadline, "the request has not come"
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not alive(pid):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} lives on")


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def left_behind(gateway: LiveGateway) -> list[str]:
    """Command lines of processes that name the gateway's state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and alive(int(entry.name)):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if str(gateway.state) in line]


def test_envoy_serves_on_and_is_taken_over(gateway: LiveGateway, tmp_path: Path) -> None:
    envoy = gateway.envoy_pid
    with load(gateway, tmp_path) as client:
        gateway.kill()
        time.sleep(0.5)
        assert alive(envoy)
        gateway.start()
        gateway.wait_live()
        time.sleep(0.5)
        records = client.finish()
    assert gateway.envoy_pid == envoy
    assert Counter((record.host, record.outcome) for record in records).keys() == {
        ("one.example.com", "200 first-0"),
        ("two.example.com", "200 second-0"),
    }
    assert metric(gateway, "tripylon_xds_connected_proxies") == 1
    assert (metric(gateway, "tripylon_xds_resources_total"), metric(gateway, "tripylon_xds_removals_total")) == (0, 0)


def test_only_what_changed_meanwhile_is_sent_after_a_take_over(gateway: LiveGateway, tmp_path: Path) -> None:
    envoy = gateway.envoy_pid
    with load(gateway, tmp_path) as client:
        gateway.kill()
        for manifest in gateway.places.complete([route("two", "first")]):
            gateway.write(manifest)
        gateway.start()
        gateway.wait_live()
        assert ask(gateway, "two.example.com") == (200, "first-0")
        records = client.finish()
    assert gateway.envoy_pid == envoy
    assert {record.outcome for record in records} == {"200 first-0", "200 second-0"}
    assert {record.outcome for record in records if record.host == "one.example.com"} == {"200 first-0"}
    assert metric(gateway, "tripylon_xds_resources_total") == 1


def test_routes_deleted_meanwhile_are_gone_after_a_take_over(gateway: LiveGateway) -> None:
    gateway.kill()
    gateway.path("HTTPRoute infra/two").unlink()
    gateway.start()
    gateway.wait_live()
    assert ask(gateway, "one.example.com") == (200, "first-0")
    assert ask(gateway, "two.example.com")[0] == 404


def test_a_killed_envoy_is_started_again(gateway: LiveGateway) -> None:
    first = gateway.envoy_pid
    os.kill(first, signal.SIGKILL)
    wait_until_gone(first)
    assert served_again(gateway) == (200, "first-0")
    assert gateway.envoy_pid != first
    assert metric(gateway, "tripylon_envoy_restarts_total") == 1
    gateway.apply(gateway.places.complete([route("two", "first")]))
    assert ask(gateway, "two.example.com") == (200, "first-0")


def served_again(gateway: LiveGateway) -> tuple[int, str]:
    """The first answer that comes."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            answer = ask(gateway, "one.example.com")
            if answer[0] == 200:
                return answer
        time.sleep(0.02)
    raise AssertionError(gateway.tail())


def test_both_killed_and_started_again(gateway: LiveGateway) -> None:
    gateway.kill()
    first = gateway.envoy_pid
    os.kill(first, signal.SIGKILL)
    wait_until_gone(first)
    gateway.start()
    gateway.wait_live()
    assert ask(gateway, "one.example.com") == (200, "first-0")


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_running_request_ends_well_when_told_to_stop(gateway: LiveGateway, sign: signal.Signals, code: int) -> None:
    envoy, answers = gateway.envoy_pid, []
    slow = threading.Thread(target=lambda: answers.append(ask(gateway, "one.example.com", "/slow")))
    before = requests_begun(gateway)
    slow.start()
    wait_until_begun(gateway, before)
    assert gateway.terminate(sign) == code
    slow.join(LIMIT_S)
    assert answers == [(200, "first-0")]
    assert not alive(envoy)
    assert left_behind(gateway) == []
    assert not (gateway.state / "envoy.pid").exists()
    with pytest.raises(OSError, match="refused"):
        ask(gateway, "one.example.com")


def test_a_second_signal_cuts_the_waiting_short(gateway: LiveGateway) -> None:
    target, envoy = gateway.target("edge", 80), gateway.envoy_pid
    before = requests_begun(gateway)
    with socket.create_connection((target.address, target.port)) as half:
        half.sendall(b"POST / HTTP/1.1\r\nhost: one.example.com\r\ncontent-length: 5\r\n\r\n")
        wait_until_begun(gateway, before)
        os.kill(gateway.pid, signal.SIGTERM)
        time.sleep(0.3)
        assert gateway.get("/healthz")[0] == 200
        gateway.terminate(signal.SIGINT)
    wait_until_gone(envoy)
    assert left_behind(gateway) == []


def test_a_second_gateway_on_the_same_state_is_refused(gateway: LiveGateway) -> None:
    again = subprocess.run(
        (TRIPYLON, "run", str(gateway.folder), "--state", str(gateway.state), "--admin", "127.0.0.1:0"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert again.returncode == 1
    assert str(gateway.pid) in again.stderr
    assert str(gateway.state) in again.stderr
    assert ask(gateway, "one.example.com") == (200, "first-0")


def test_a_port_in_use_is_told_before_anything_is_started(gateway: LiveGateway, tmp_path: Path) -> None:
    state = tmp_path / "other-state"
    second = subprocess.run(
        (TRIPYLON, "run", str(gateway.folder), "--state", str(state), "--admin", "127.0.0.1:0"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    target = gateway.target("edge", 80)
    assert second.returncode == 1
    assert f"Port {target.port} on {target.address} is taken by process {gateway.envoy_pid}" in second.stderr
    assert not (state / "envoy.pid").exists()
    assert ask(gateway, "one.example.com") == (200, "first-0")
