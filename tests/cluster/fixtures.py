"""Fixtures of tests that need a cluster: `from tests.cluster.fixtures import cluster, namespace` in a conftest.

Such tests are marked `cluster`. They run under `make test-cluster`; anywhere else they are left out with one line that
says so, since a first build of the programs takes ten minutes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from tests.cluster.build import build
from tests.cluster.cluster import Cluster, ClusterError, check_machine

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster for the whole run of tests; use a namespace of your own in it, or `fresh_cluster` to break it."""
    yield from started("tests")


@pytest.fixture
def fresh_cluster() -> Iterator[Cluster]:
    """A cluster for one test."""
    yield from started("fresh")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace in the shared cluster."""
    name = f"test-{next(_NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def started(purpose: str) -> Iterator[Cluster]:
    """A cluster that ends with the fixture. Skips the test where clusters are not asked for or not to be had."""
    if os.environ.get("TRIPYLON_TEST_CLUSTER") != "1":
        pytest.skip("left out: needs a Kubernetes cluster; `make test-cluster` runs it")
    try:
        check_machine()
    except ClusterError as error:
        pytest.skip(str(error))
    made = Cluster(f"{purpose}-{os.getpid()}-{next(_NUMBERS)}", build())
    made.up()
    try:
        yield made
    finally:
        made.down()
