"""`python -m tests.cluster check|left-out|build|up|down|exec|pytest|conformance`: what the Makefile's targets call.

`--name NAME` chooses among clusters that run side by side; `down --all` ends them all.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster.build import BuildError, Programs, build
from tests.cluster.cluster import Cluster, ClusterError, check_machine, check_system, running_clusters


def main() -> int:
    """Runs one command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--name", default="main", help="which cluster (default: main)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say whether this machine can have a cluster, and what is missing")
    commands.add_parser("left-out", help="say in one line what ran without a cluster does not show, and what shows it")
    commands.add_parser("build", help="build the programs, unless they are built")
    commands.add_parser("up", help="start a cluster")
    commands.add_parser("down", help="end a cluster").add_argument("--all", action="store_true")
    commands.add_parser("exec", help="run a command in a cluster's network").add_argument(
        "argv", nargs=argparse.REMAINDER
    )
    tests = commands.add_parser("pytest", help="run the tests that need a cluster")
    tests.add_argument("argv", nargs=argparse.REMAINDER)
    commands.add_parser("conformance", help="run the official suite; PROFILES, RUN and KUBECONFIG say how")
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except (BuildError, ClusterError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "check":
            check_machine()
        case "left-out":
            print(left_out())
        case "build":
            print(build().folder)
        case "up":
            return up(arguments.name)
        case "down":
            for name in running_clusters() if arguments.all else [arguments.name]:
                print(f"cluster {name}:", "ended" if Cluster(name, Programs(Path())).down() else "was not up")
        case "exec":
            cluster = Cluster(arguments.name, Programs(Path()))
            command = cluster.inside(arguments.argv)
            os.execvpe(command[0], command, cluster.environment())
        case "pytest":
            check_machine()
            command = [sys.executable, "-m", "pytest", "-m", "cluster", *arguments.argv]
            # As root of a user namespace the tests do the same as root does.
            user = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
            variables = {"TRIPYLON_TEST_CLUSTER": "1", "TRIPYLON_CLUSTER_BINARY": str(build().cluster)}
            os.execvpe((user + command)[0], user + command, dict(os.environ) | variables)
        case _:
            from tests.cluster import conformance

            return conformance.main(os.environ)
    return 0


def left_out() -> str:
    """The last line of `make test`."""
    left = "left out: what needs a Kubernetes cluster; `make test-cluster` and `make conformance` run it"
    try:
        check_system()
    except ClusterError as error:
        return f"{left} elsewhere, since {error}"
    return f"{left} on one of their own"


def up(name: str) -> int:
    check_machine()
    cluster = Cluster(name, build())
    took_s = cluster.up()
    print(f"cluster {name} is up after {took_s:.1f} s; run commands in it with")
    print(f"  {sys.executable} -m tests.cluster --name {name} exec kubectl get pods -A")
    return 0


if __name__ == "__main__":
    sys.exit(main())
