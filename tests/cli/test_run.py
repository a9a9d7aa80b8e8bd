"""`tripylon run` and `proxy` with the real Envoy: what the user sees, and that nothing is left behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.conftest import Command
from tests.cli.standalone import Standalone, backend, free_port, is_alive, request, running, wait_for

pytestmark = pytest.mark.live

MANIFEST = """apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: tripylon
  listeners: [{{name: http, protocol: HTTP, port: {port}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [shop.example.com]
  rules:
    - backendRefs: [{{group: gateway.tripylon.dev, kind: Backend, name: shop}}]
---
apiVersion: gateway.tripylon.dev/v1alpha1
kind: Backend
metadata: {{name: shop}}
spec: {{static: {{hosts: [{{host: 127.0.0.1, port: {backend}}}]}}}}
"""


def write(folder: Path, *, port: int, to: int) -> Path:
    objects = folder / "objects"
    objects.mkdir(exist_ok=True)
    (objects / "all.yaml").write_text(MANIFEST.format(port=port, backend=to))
    return objects


def run_words(folder: Path) -> tuple[str, ...]:
    return ("run", str(folder), "--bind", "127.0.0.1", "--state", "state", "--concurrency", "1")


def nothing_is_left(state: Path, envoy: int) -> None:
    wait_for(lambda: not is_alive(envoy), lambda: f"Envoy {envoy} lives on")
    assert sorted(path.name for path in state.iterdir() if path.suffix in (".sock", ".pid")) == []


def test_start_change_finding_and_end(tmp_path: Path, command: Command) -> None:
    port = free_port()
    with backend("one") as one, running(tmp_path, *run_words(write(tmp_path, port=port, to=one))) as gateway:
        said = gateway.ready().wait_said("Try: ")
        assert f"listening: http 127.0.0.1:{port} default/edge/http for shop.example.com" in said
        assert "route: shop.example.com /* -> Backend default/shop (HTTPRoute default/shop rule 0)" in said
        assert f"Try: curl -H 'Host: shop.example.com' http://127.0.0.1:{port}/" in said
        assert request(port, host="shop.example.com") == (200, "one shop.example.com")

        shown = command("status", "--admin", f":{gateway.admin}")
        assert shown.code == 0
        assert "3 objects, 0 errors, 0 warnings.\nEnvoy tripylon serves the last change (1).\n" in shown.out

        broken = (tmp_path / "objects" / "all.yaml").read_text() + "---\nkind: [\n"
        (tmp_path / "objects" / "all.yaml").write_text(broken)
        said = gateway.wait_said("1 error, 0 warnings.")
        assert "all.yaml:22:" in said
        assert request(port, host="shop.example.com").status == 200
        assert command("status", "--admin", f":{gateway.admin}").code == 1

        write(tmp_path, port=port, to=one)
        said = gateway.wait_said("No errors or warnings are left.")
        assert "is live" not in said  # neither the broken document nor its end changed what is served
        envoy = gateway.envoy_pid(tmp_path / "state")
        assert gateway.end(signal.SIGINT) == 130
        assert "Traceback" not in gateway.said()
        nothing_is_left(tmp_path / "state", envoy)
        requests = [json.loads(line) for line in gateway.out.read_text().splitlines()]
        assert [each["authority"] for each in requests] == ["shop.example.com"] * 2


def test_a_changed_listener_is_shown_and_served(tmp_path: Path) -> None:
    before, after = free_port(), free_port()
    with backend("one") as one, running(tmp_path, *run_words(write(tmp_path, port=before, to=one))) as gateway:
        gateway.ready().wait_said("Try: ")
        write(tmp_path, port=after, to=one)
        said = gateway.wait_said(f"listening: http 127.0.0.1:{after} ")
        assert "change 2 is live" in said
        assert request(after, host="shop.example.com").status == 200
        envoy = gateway.envoy_pid(tmp_path / "state")
        assert gateway.end(signal.SIGTERM) == 0
        nothing_is_left(tmp_path / "state", envoy)


def test_a_running_request_ends_before_the_gateway_does(tmp_path: Path) -> None:
    port, gate = free_port(), threading.Event()
    with (
        backend("slow", gate) as slow,
        ThreadPoolExecutor(1) as pool,
        running(tmp_path, *run_words(write(tmp_path, port=port, to=slow))) as gateway,
    ):
        gateway.ready().wait_said("Try: ")
        answer = pool.submit(request, port, host="shop.example.com")
        wait_for(lambda: _active_requests(gateway) == 1, gateway.said)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_said("Stopping: running requests have up to 10 s")
        gate.set()
        assert answer.result(timeout=30) == (200, "slow shop.example.com")
        assert gateway.process.wait(timeout=30) == 0


def test_a_second_ctrl_c_ends_running_requests(tmp_path: Path) -> None:
    port, gate = free_port(), threading.Event()
    with backend("slow", gate) as slow, ThreadPoolExecutor(1) as pool:
        words = (*run_words(write(tmp_path, port=port, to=slow)), "--drain-limit", "100")
        with running(tmp_path, *words) as gateway:
            gateway.ready().wait_said("Try: ")
            envoy = gateway.envoy_pid(tmp_path / "state")
            answer = pool.submit(request, port, host="shop.example.com")
            wait_for(lambda: _active_requests(gateway) == 1, gateway.said)
            gateway.process.send_signal(signal.SIGINT)
            gateway.wait_said("Stopping: running requests have up to 100 s")
            assert gateway.end(signal.SIGINT) == 130
            with pytest.raises((OSError, HTTPException)):
                answer.result(timeout=30)
            gate.set()
            nothing_is_left(tmp_path / "state", envoy)


def test_a_killed_control_plane_is_taken_over(tmp_path: Path) -> None:
    port = free_port()
    with backend("one") as one:
        words = run_words(write(tmp_path, port=port, to=one))
        first = Standalone(tmp_path, *words).ready()
        envoy = first.envoy_pid(tmp_path / "state")
        first.end(signal.SIGKILL)
        assert request(port, host="shop.example.com").status == 200
        with running(tmp_path, *words) as second:
            second.ready().wait_said(f"Envoy taken over (process {envoy})")
            assert request(port, host="shop.example.com").status == 200
            assert second.end(signal.SIGINT) == 130
        nothing_is_left(tmp_path / "state", envoy)


def test_an_empty_folder_is_served_as_soon_as_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    port = free_port()
    with backend("one") as one, running(tmp_path, *run_words(tmp_path / "objects")) as gateway:
        gateway.ready().wait_said("There is no Gateway to serve yet")
        write(tmp_path, port=port, to=one)
        gateway.wait_said("change 1 is live")
        assert request(port, host="shop.example.com").status == 200


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = _run(tmp_path, *run_words(write(tmp_path, port=port, to=9)), "--admin", "off")
    assert ran.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by process" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "state" / "envoy.pid").exists()


def test_two_on_one_state_folder(tmp_path: Path) -> None:
    port = free_port()
    words = run_words(write(tmp_path, port=port, to=9))
    with running(tmp_path, *words) as gateway:
        gateway.ready()
        ran = _run(tmp_path, *words, "--admin", "off")
        assert ran.returncode == 1
        assert f"process {gateway.process.pid} already runs on the state directory" in ran.stderr
        assert gateway.picture()["ready"] is True


def test_an_admin_port_in_use_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = _run(tmp_path, *run_words(write(tmp_path, port=free_port(), to=9)), "--admin", admin)
    assert ran.returncode == 1
    assert f"The admin pages cannot listen on {admin}" in ran.stderr
    assert not (tmp_path / "state" / "envoy.pid").exists()


def test_in_json_every_line_is_an_event(tmp_path: Path) -> None:
    port = free_port()
    objects = write(tmp_path, port=port, to=9)
    (objects / "broken.yaml").write_text("kind: [\n")
    with running(tmp_path, *run_words(objects), "--log-format", "json", "--access-log", "off") as gateway:
        gateway.ready().wait_said('"findings"')
        (objects / "broken.yaml").unlink()
        gateway.wait_said('"errors":0')
        assert gateway.end() == 130
    events = [json.loads(line) for line in gateway.said().splitlines()]
    started = next(event for event in events if event["event"] == "the gateway runs")
    assert (started["live"], started["gateways"], started["routes"], started["adopted"]) == (True, 1, 1, False)
    wrong = next(event for event in events if event["level"] == "error")
    assert wrong["place"].endswith("broken.yaml:1:7")
    assert wrong["reason"] == "InvalidSyntax"


def test_proxy_spreads_requests_over_its_targets(tmp_path: Path) -> None:
    port = free_port()
    with backend("one") as one, backend("two") as two:
        targets = ("--to", f"http://127.0.0.1:{one}", "--to", f"127.0.0.1:{two}")
        with running(tmp_path, "proxy", "--from", f"127.0.0.1:{port}", *targets, "--access-log", "log.json") as gateway:
            gateway.ready()
            bodies = {request(port, host="any.example").body for _ in range(60)}
            assert bodies == {"one any.example", "two any.example"}
            assert gateway.end() == 130
        assert len((tmp_path / "log.json").read_text().splitlines()) == 60
        assert gateway.out.read_text() == ""


def test_proxy_with_tls_and_a_host(tmp_path: Path) -> None:
    port = free_port()
    words = ("proxy", "--from", f"127.0.0.1:{port}", "--tls", "--host", "a.localhost", "--access-log", "off")
    with backend("one") as one, running(tmp_path, *words, "--to", f"http://127.0.0.1:{one}") as gateway:
        gateway.ready()
        assert request(port, host="a.localhost", tls=True) == (200, "one a.localhost")
        assert request(port, host="b.localhost", tls=True).status == 404
        assert "PRIVATE" not in json.dumps(gateway.picture())


def _active_requests(gateway: Standalone) -> float:
    metrics = request(gateway.admin, "/metrics/envoy").body
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "envoy_http_downstream_rq_active" and "admin" not in sample.labels.values()
    )


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tripylon", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
