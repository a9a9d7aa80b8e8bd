"""`make conformance`: the official Gateway API suite against Tripylon, on the test cluster or on one of the user's own.

    PROFILES=GATEWAY-HTTP,GATEWAY-GRPC   which profiles (this is the default)
    RUN=HTTPRouteHeaderMatching          one test only, whatever features it needs
    FEATURES=HTTPRoute,Gateway,...       instead of what the GatewayClass claims in its status
    KUBECONFIG=FILE                      a cluster that has Tripylon and the Gateway API v1.7.0 CRDs already
    USABLE_ADDRESS=IP UNUSABLE_ADDRESS=IP  addresses for the tests of static addresses, with KUBECONFIG
    REPLICAS=1                           how many controllers share the work (2, as installed by default)
    FLAGS="--debug"                      more flags of the suite
    OUT=FOLDER                           where the table and the report go; by default docs/conformance for a whole run
                                         that passed, else .cache/conformance

The verdict is that of the Go test. Logs of the controller and of all proxies are kept when something fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec
from tests.cluster import install, verdict
from tests.cluster.build import Programs, build
from tests.cluster.cluster import UNUSABLE_ADDRESS, USABLE_ADDRESS, Cluster, check_machine

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".cache" / "conformance"
PROFILES = "GATEWAY-HTTP,GATEWAY-GRPC"
LIMIT = "60m"
PROJECT_URL = "https://tripylon.dev"
MAX_GRACE_S = 2.0
"""The suite waits 30 s for a namespace to go, with its proxies in it."""


def main(variables: Mapping[str, str]) -> int:
    """Runs the suite as the variables say; the exit code: 0 when everything that ran passed."""
    if not variables.get("KUBECONFIG"):
        check_machine()
    programs = build()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    if variables.get("KUBECONFIG"):
        print(f"conformance: on the cluster of {variables['KUBECONFIG']}, where Tripylon must be installed already")
        return judge(run_suite([], dict(os.environ), programs, variables), programs, variables)
    cluster = Cluster(f"conformance-{os.getpid()}", programs, max_grace_s=MAX_GRACE_S)
    print(f"conformance: cluster up after {cluster.up():.1f} s", flush=True)
    try:
        install.install(cluster, replicas=int(variables.get("REPLICAS") or 2))
        run = run_suite(cluster.inside([]), cluster.environment(), programs, variables)
        if not run.passed:
            shutil.copytree(cluster.logs, SCRATCH / "logs")
            shutil.copytree(cluster.folder / "log", SCRATCH / "cluster-log")
            print(f"conformance: logs of controller, proxies and backends are in {SCRATCH / 'logs'}")
        return judge(run, programs, variables)
    finally:
        cluster.down()


def run_suite(
    prefix: list[str], environment: dict[str, str], programs: Programs, variables: Mapping[str, str]
) -> verdict.Run:
    """Runs the suite, printing each verdict as it comes; its output and its report are kept in the scratch folder."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        [*prefix, str(programs.suite), *flags(variables)],
        cwd=SCRATCH, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    with (SCRATCH / "output.log").open("w") as log:
        run = verdict.read(shown(process, log.write))
    code = process.wait()
    print(f"conformance: the suite ended after {time.monotonic() - began_s:.0f} s with exit code {code}")
    return msgspec.structs.replace(run, finished=run.finished and (code == 0 or not run.passed))


def shown(process: subprocess.Popen[str], keep: Callable[[str], object]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        keep(line)
        result = verdict.single(line)
        if result and result.verdict != "skip":
            print(f"  {result.verdict}  {result.name} ({result.seconds:.1f} s)", flush=True)
        yield line


def flags(variables: Mapping[str, str]) -> list[str]:
    """The suite's flags. Without FEATURES it reads the supported ones from the status of the GatewayClass."""
    result = [
        *("-test.run", "^TestConformance$", "-test.v=test2json", "-test.timeout", LIMIT),
        f"--gateway-class={install.GATEWAY_CLASS}",
        f"--conformance-profiles={variables.get('PROFILES') or PROFILES}",
        *("--organization=tripylon", "--project=tripylon", f"--version=v{version('tripylon')}"),
        *(f"--url={PROJECT_URL}", f"--contact={PROJECT_URL}", f"--report-output={SCRATCH / 'report.yaml'}"),
    ]
    own = not variables.get("KUBECONFIG")
    for flag, variable, fallback in (
        ("--run-test", "RUN", ""),
        ("--supported-features", "FEATURES", ""),
        ("--usable-address", "USABLE_ADDRESS", USABLE_ADDRESS if own else ""),
        ("--unusable-address", "UNUSABLE_ADDRESS", UNUSABLE_ADDRESS if own else ""),
    ):
        if value := variables.get(variable) or fallback:
            result.append(f"{flag}={value}")
    return [*result, *variables.get("FLAGS", "").split()]


def judge(run: verdict.Run, programs: Programs, variables: Mapping[str, str]) -> int:
    """Prints and writes the table; the exit code."""
    table = msgspec.json.decode(programs.table.read_bytes(), type=verdict.Table)
    profiles = (variables.get("PROFILES") or PROFILES).split(",")
    title = f"Gateway API v1.7.0, experimental channel, Tripylon v{version('tripylon')}"
    out = folder_of_results(run, variables)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(verdict.page(run, table, title=title, profiles=profiles))
    report = SCRATCH / "report.yaml"
    if report.exists() and out != SCRATCH:
        shutil.copyfile(report, out / "report.yaml")
    print("\n".join(verdict.totals(verdict.by_place(run, table, profiles))))
    for failure in (*run.failures, *run.failed_parts):
        print(f"conformance: failed: {failure}")
    if not run.finished:
        print(f"conformance: the suite was cut off: see {SCRATCH / 'output.log'}")
    print(f"conformance: {'passed' if run.passed else 'FAILED'}; table and report are in {out}")
    return 0 if run.passed else 1


def folder_of_results(run: verdict.Run, variables: Mapping[str, str]) -> Path:
    """The project's own report is that of a whole run that passed; other runs leave it alone."""
    if chosen := variables.get("OUT"):
        return Path(chosen).absolute()
    partial = any(variables.get(name) for name in ("RUN", "FEATURES", "PROFILES", "KUBECONFIG", "FLAGS", "REPLICAS"))
    return SCRATCH if partial or not run.passed else ROOT / "docs" / "conformance"
