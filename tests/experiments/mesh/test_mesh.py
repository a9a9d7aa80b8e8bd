"""One east-west request: a route of a Service rules what its cluster IP and port get, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from tests.experiments.mesh import network
from tests.experiments.mesh.__main__ import ROOT

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def result() -> Any:
    if missing := network.what_is_missing():
        pytest.skip(missing)
    command = [sys.executable, "-m", "tests.experiments.mesh", "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("asked", "backend", "route"),
    [
        ("the Service", "echo-v1", "split"),
        ("the Service, header of v2", "echo-v2", "split"),
        ("the Service, Host of another one", "echo-v1", "split"),
        ("another port of the Service", "echo-v2", None),
        ("a Service without routes", "echo-v2", None),
        ("a pod's own address", "echo-v2", None),
    ],
)
def test_who_answers(result: Mapping[str, Any], asked: str, backend: str, route: str | None) -> None:
    got = result["answers"][asked]
    assert (got["status"], got["backend"], got["route"]) == (200, backend, route)


def test_the_rules_of_the_route_are_all_there_is(result: Mapping[str, Any]) -> None:
    assert result["answers"]["the Service, a path of no rule"] == {"status": 404, "route": None}


def test_a_routed_request_tells_whose_it_was(result: Mapping[str, Any]) -> None:
    assert result["answers"]["the Service"]["forwarded"] == network.POD_ADDRESS


def test_what_is_no_http_passes_through(result: Mapping[str, Any]) -> None:
    assert result["answers"]["a server that speaks first"] == "220 echo-v2"


def test_who_asks_for_the_capture_itself_is_not_sent_round_and_round(result: Mapping[str, Any]) -> None:
    assert result["answers"]["the port of the capture"] == ""


def test_all_three_ways_are_measured(result: Mapping[str, Any]) -> None:
    assert set(result["latencies"]) == {"not redirected", "passed through", "routed"}
