"""`make bench-cluster`: what a large cluster costs, and how fast a change is live in it. Prints tables, judges nothing.

The test cluster is started and Tripylon installed in it; `inside.py` then works from within the cluster's network and
hands back figures. `--routes`, `--services` and `--gateways` choose another size.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from tests.bench.scale.inside import Figures, Size
from tests.bench.table import Table, megabytes, milliseconds
from tests.cluster import install
from tests.cluster.build import build
from tests.cluster.cluster import Cluster, ClusterError, check_machine

_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES = 4
"""What each Envoy takes of it."""


def main() -> int:
    """Measures and prints; the exit code."""
    parser = argparse.ArgumentParser(description="What a large cluster costs.")
    defaults = Size()
    for field in Size.__struct_fields__:
        parser.add_argument(f"--{field}", type=int, default=getattr(defaults, field))
    size = Size(**vars(parser.parse_args()))
    try:
        check_machine()
        figures = measured(size)
    except (ClusterError, subprocess.CalledProcessError) as error:
        print(f"bench-cluster: {error}", file=sys.stderr)
        return 1
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {os.cpu_count()} processors for everything, Python {sys.version.split()[0]}")
    for table in tables(size, figures):
        print(f"\n{table.text()}", flush=True)
    return 0


def measured(size: Size) -> Figures:
    """Starts a cluster, measures within it, and ends it."""
    cluster = Cluster(f"bench-{os.getpid()}", build())
    cluster.up()
    before = raised_limit(max(size.gateways, size.burst) * _INSTANCES + 256)
    try:
        install.install(cluster)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            out = Path(folder, "figures.json")
            command = [sys.executable, "-m", "tests.bench.scale.inside", msgspec.json.encode(size).decode(), str(out)]
            subprocess.run(cluster.inside(command), env=cluster.environment(), check=True)
            return msgspec.json.decode(out.read_bytes(), type=Figures)
    finally:
        cluster.down()
        if before:
            _LIMIT.write_text(before)


def raised_limit(wanted: int) -> str:
    """Lets one user have so many inotify instances, as all proxies here share one; what was there, if that was less."""
    before = _LIMIT.read_text()
    if int(before) >= wanted:
        return ""
    try:
        _LIMIT.write_text(str(wanted))
    except OSError:
        raise ClusterError(f"so many proxies need {_LIMIT} to be {wanted}: set it, or measure fewer Gateways") from None
    return before


def tables(size: Size, figures: Figures) -> tuple[Table, ...]:
    """What is printed."""
    whole = Table(
        f"{size.routes:,} HTTPRoutes, {size.services:,} Services of {size.endpoints} endpoints, "
        f"{size.gateways} Gateways",
        ("what", "measured"),
        (
            (f"{size.burst} Gateways created at once, all programmed after", f"{figures.burst_s:,.1f} s"),
            ("objects created within", f"{figures.created_s:,.1f} s"),
            ("after that, all routes have their status and are served", f"{figures.settled_s:,.1f} s"),
            ("a new replica is ready after", f"{figures.ready_s:,.1f} s"),
            ("processor time of the leader for all of it", f"{figures.leader_cpu_s:,.1f} s"),
            ("processor time of the other replica", f"{figures.follower_cpu_s:,.1f} s"),
            ("greatest memory of the leader", f"{megabytes(figures.leader_bytes)} MB"),
            ("greatest memory of the other replica", f"{megabytes(figures.follower_bytes)} MB"),
            ("status writes for each new route", f"{figures.writes_per_new:.2f}"),
            ("status writes for each changed route", f"{figures.writes_per_change:.2f}"),
        ),
    )
    live = Table(
        f"A new route at this size, medians and 95th percentiles of {len(figures.lives_s)} (milliseconds)",
        ("step", "median", "95 %"),
        (
            ("the API server has stored it", *_both(figures.stored_s)),
            ("from then to the first 200 by it", *_both(figures.served_s)),
            ("from the request to the first 200", *_both(figures.lives_s)),
        ),
        "The route's new host is asked for again and again at its Gateway's address; a negative second step would mean "
        "that it served before the API server had answered.",
    )
    return whole, live


def _both(values: list[float]) -> tuple[str, str]:
    ordered = sorted(values)
    return milliseconds(ordered[len(ordered) // 2]), milliseconds(ordered[int(len(ordered) * 0.95)])


if __name__ == "__main__":
    sys.exit(main())
