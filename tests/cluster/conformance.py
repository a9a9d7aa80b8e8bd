"""`make conformance`: the official Gateway API suite against Tripylon, on the test cluster or on one of the user's own.

    PROFILES=GATEWAY-HTTP,GATEWAY-GRPC   which profiles; by default all five of a gateway, but for those whose core the
                                         GatewayClass does not claim
    RUN=HTTPRouteHeaderMatching          one test only, whatever features it needs
    FEATURES=HTTPRoute,Gateway,...       instead of what the GatewayClass claims in its status
    KUBECONFIG=FILE                      a cluster that has Tripylon and the Gateway API v1.7.0 CRDs already
    USABLE_ADDRESS=IP UNUSABLE_ADDRESS=IP  addresses for the tests of static addresses, with KUBECONFIG
    PARALLEL=0                           one test after the other; a number above 0: as many at a time (as processors)
    REPLICAS=1                           how many controllers share the work (2, as installed by default)
    FLAGS="--debug"                      more flags of the suite
    OUT=FOLDER                           where the table and the report go; by default docs/conformance/v1.7.0 for a
                                         whole run that passed, else .cache/conformance

The verdict is that of the Go test. Logs of the controller and of all proxies are kept when something fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from tests.cluster import install, verdict
from tests.cluster.build import Programs, build
from tests.cluster.cluster import UNUSABLE_ADDRESS, USABLE_ADDRESS, Cluster, ClusterError, check_machine
from tests.cluster.kubectl import provide_kubectl, search_path

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".cache" / "conformance"
PROFILES = ("GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "GATEWAY-UDP")
LIMIT = "60m"
PROJECT_URL = "https://tripylon.dev"
MAX_GRACE_S = 2.0
"""The suite waits 30 s for a namespace to go, with its proxies in it."""


def main(variables: Mapping[str, str]) -> int:
    """Runs the suite as the variables say; the exit code: 0 when everything that ran passed."""
    if variables.get("KUBECONFIG"):
        provide_kubectl()
    else:
        check_machine()
    programs = build()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    if variables.get("KUBECONFIG"):
        print(f"conformance: on the cluster of {variables['KUBECONFIG']}, where Tripylon must be installed already")
        return Suite(programs, variables, [], dict(os.environ) | {"PATH": search_path()}).judged()
    cluster = Cluster(f"conformance-{os.getpid()}", programs, max_grace_s=MAX_GRACE_S)
    print(f"conformance: cluster up after {cluster.up():.1f} s", flush=True)
    try:
        install.install(cluster, replicas=int(variables.get("REPLICAS") or 2))
        suite = Suite(programs, variables, cluster.inside([]), cluster.environment())
        code = suite.judged()
        if code:
            shutil.copytree(cluster.logs, SCRATCH / "logs")
            shutil.copytree(cluster.folder / "log", SCRATCH / "cluster-log")
            print(f"conformance: logs of controller, proxies and backends are in {SCRATCH / 'logs'}")
        return code
    finally:
        cluster.down()


class Suite:
    """The suite as the variables want it, against the cluster that prefix and environment lead to."""

    def __init__(
        self, programs: Programs, variables: Mapping[str, str], prefix: list[str], environment: dict[str, str]
    ) -> None:
        self.programs = programs
        self.variables = variables
        self.prefix = prefix
        self.environment = environment
        self.table = msgspec.json.decode(programs.table.read_bytes(), type=verdict.Table)

    def judged(self) -> int:
        """Runs the suite, prints and writes the table; the exit code."""
        chosen = self.profiles()
        return judge(self.run(chosen), self.table, chosen, self.variables)

    def profiles(self) -> list[str]:
        """The profiles to run. Those that are left out because they are not claimed are told."""
        if wanted := self.variables.get("PROFILES"):
            return wanted.split(",")
        if self.variables.get("RUN"):
            return list(PROFILES)
        claimed = set(self.claimed())
        missing = {each.name: sorted({*each.core} - claimed) for each in self.table.profiles if each.name in PROFILES}
        for name, features in missing.items():
            if features:
                print(f"conformance: {name} is left out: {', '.join(features)} is not claimed")
        return [name for name, features in missing.items() if not features]

    def claimed(self) -> list[str]:
        """The features that are offered: by the variable, else in the status of the GatewayClass."""
        if features := self.variables.get("FEATURES"):
            return features.split(",")
        ask = [*self.prefix, "kubectl", "get", "gatewayclass", install.GATEWAY_CLASS, "-o", "json"]
        ran = subprocess.run(ask, capture_output=True, text=True, check=False, env=self.environment)
        if ran.returncode:
            raise ClusterError(f"GatewayClass {install.GATEWAY_CLASS} cannot be read: {ran.stderr.strip()}")
        return [feature["name"] for feature in json.loads(ran.stdout)["status"].get("supportedFeatures", ())]

    def run(self, profiles: Sequence[str]) -> verdict.Run:
        """Runs the suite, printing each verdict as it comes; its output and report are kept in the scratch folder."""
        began_s = time.monotonic()
        process = subprocess.Popen(
            [*self.prefix, str(self.programs.suite), *flags(self.variables, profiles)],
            cwd=SCRATCH, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
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


def flags(variables: Mapping[str, str], profiles: Sequence[str]) -> list[str]:
    """The suite's flags. Without FEATURES it reads the supported ones from the status of the GatewayClass."""
    result = [
        *("-test.run", "^TestConformance$", "-test.v=test2json", "-test.timeout", LIMIT),
        f"--gateway-class={install.GATEWAY_CLASS}",
        f"--conformance-profiles={','.join(profiles)}",
        *("--organization=tripylon", "--project=tripylon", f"--version=v{version('tripylon')}"),
        *(f"--url={PROJECT_URL}", f"--contact={PROJECT_URL}", f"--report-output={SCRATCH / 'report.yaml'}"),
    ]
    match variables.get("PARALLEL", ""):
        case "":
            pass
        case "0":
            result.append("--disable-parallel-tests")
        case count:
            result.append(f"-test.parallel={count}")
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


def judge(run: verdict.Run, table: verdict.Table, profiles: Sequence[str], variables: Mapping[str, str]) -> int:
    """Prints and writes the table; the exit code."""
    title = f"Gateway API v1.7.0, experimental channel, Tripylon v{version('tripylon')}"
    out = folder_of_results(run, variables)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(verdict.page(run, table, title=title, profiles=profiles))
    report = SCRATCH / "report.yaml"
    if report.exists() and out != SCRATCH:
        shutil.copyfile(report, out / "report.yaml")
    print("\n".join(verdict.totals(run, table, profiles)))
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
    narrowing = ("RUN", "FEATURES", "PROFILES", "PARALLEL", "KUBECONFIG", "FLAGS", "REPLICAS")
    partial = any(variables.get(name) for name in narrowing)
    return SCRATCH if partial or not run.passed else ROOT / "docs" / "conformance" / "v1.7.0"
