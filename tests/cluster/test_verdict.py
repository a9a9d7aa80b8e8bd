"""What the harness makes of the suite's output: the totals count a test wherever its features belong."""

from __future__ import annotations

import pytest
from tests.cluster import conformance, install, verdict
from tests.cluster.verdict import NOWHERE, Profile, Result, Run, Table

TABLE = Table(
    tests=(
        verdict.Test("GatewayFirst", ("Gateway",), False),
        verdict.Test("GatewayPort", ("Gateway", "GatewayPort8080"), False),
        verdict.Test("HTTPRouteFirst", ("Gateway", "HTTPRoute"), False),
        verdict.Test("HTTPRoutePort", ("Gateway", "HTTPRoute", "GatewayPort8080"), False),
        verdict.Test("UDPRouteFirst", ("Gateway", "UDPRoute"), False),
        verdict.Test("MeshFirst", ("Mesh",), False),
    ),
    profiles=(
        Profile("GATEWAY-HTTP", ("Gateway", "HTTPRoute"), ("GatewayPort8080",)),
        Profile("GATEWAY-UDP", ("Gateway", "UDPRoute"), ("GatewayPort8080",)),
    ),
)
OUTPUT = """\
=== RUN   TestConformance
=== RUN   TestConformance/GatewayFirst
=== RUN   TestConformance/GatewayPort
=== RUN   TestConformance/GatewayPort/a_part
    --- FAIL: TestConformance/GatewayPort (1.50s)
        --- FAIL: TestConformance/GatewayPort/a_part (0.50s)
    --- PASS: TestConformance/GatewayFirst (0.25s)
    --- SKIP: TestConformance/HTTPRoutePort (0.00s)
=== RUN   TestConformance/UDPRouteFirst
"""


def test_a_test_that_began_and_has_no_verdict_has_failed() -> None:
    run = verdict.read(OUTPUT.splitlines())
    assert run.failures == ("GatewayPort", "UDPRouteFirst")
    assert run.failed_parts == ("GatewayPort/a_part",)
    assert not run.finished
    assert not run.passed


def test_totals_count_a_test_in_every_profile_that_has_its_features() -> None:
    names = ("GatewayFirst", "GatewayPort", "HTTPRouteFirst", "UDPRouteFirst", "MeshFirst")
    run = Run((*(Result(name, "pass", 1.0) for name in names), Result("HTTPRoutePort", "skip", 0.0)), (), True)
    assert verdict.totals(run, TABLE, ["GATEWAY-HTTP", "GATEWAY-UDP"])[2:] == [
        "| GATEWAY-HTTP | core | 2 | 0 | 0 |",
        "| GATEWAY-HTTP | extended | 1 | 0 | 1 |",
        "| GATEWAY-UDP | core | 2 | 0 | 0 |",
        "| GATEWAY-UDP | extended | 1 | 0 | 0 |",
        "| none | extended | 1 | 0 | 0 |",
    ]
    listed = verdict.by_place(run, TABLE, ["GATEWAY-HTTP", "GATEWAY-UDP"])
    assert sum(len(results) for results in listed.values()) == len(run.results)
    assert [result.name for result in listed["GATEWAY-UDP", "core"]] == ["UDPRouteFirst"]
    assert [result.name for result in listed[NOWHERE]] == ["MeshFirst"]


@pytest.mark.parametrize(
    ("parallel", "expected"),
    [("", []), ("0", ["--disable-parallel-tests"]), ("4", ["-test.parallel=4"])],
)
def test_tests_run_side_by_side_or_in_order(parallel: str, expected: list[str]) -> None:
    made = conformance.flags({"PARALLEL": parallel}, ["GATEWAY-TLS", "GATEWAY-UDP"])
    assert [flag for flag in made if "parallel" in flag] == expected
    assert "--conformance-profiles=GATEWAY-TLS,GATEWAY-UDP" in made
    assert f"--gateway-class={install.GATEWAY_CLASS}" in made
    assert not [flag for flag in made if flag.startswith("--supported-features")]
