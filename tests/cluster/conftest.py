"""Makes the fixtures of tests that need a cluster known to the tests of this folder."""

from tests.cluster.fixtures import cluster, fresh_cluster, namespace

__all__ = ["cluster", "fresh_cluster", "namespace"]
