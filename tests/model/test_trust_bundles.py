"""ClusterTrustBundles where the cluster does not serve the kind: no authorities of a kind that is known."""

from __future__ import annotations

from tests.cases.harness import full, new_graph

from tripylon.api.kinds import decode
from tripylon.graph import Graph
from tripylon.model.options import Options
from tripylon.status.features import supported_features
from tripylon.values import Ref
from tripylon.world import world

KIND = ("certificates.k8s.io", "ClusterTrustBundle")
POLICY = Ref("gateway.networking.k8s.io", "BackendTLSPolicy", "default", "web")


def reasons(graph: Graph) -> list[str]:
    return sorted(finding.reason for finding in graph.findings(POLICY) if finding.condition == "ResolvedRefs")


def test_the_kind_is_unknown_for_as_long_as_the_cluster_does_not_serve_it() -> None:
    graph = new_graph(Options(standalone=False))
    spec = {
        "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
        "validation": {
            "hostname": "web.example.com",
            "caCertificateRefs": [{"group": KIND[0], "kind": KIND[1], "name": "all"}],
        },
    }
    world.put(graph, decode(*full({"kind": "BackendTLSPolicy", "name": "web", "spec": spec})))
    graph.put(world.ABSENT_KINDS, KIND, True)
    graph.flush()
    assert reasons(graph) == ["InvalidKind"]
    graph.delete(world.ABSENT_KINDS, KIND)
    graph.flush()
    assert reasons(graph) == ["InvalidCACertificateRef"]


def test_the_feature_is_claimed_only_while_the_kind_is_served() -> None:
    served = {each.name for each in supported_features(standalone=False)}
    absent = {each.name for each in supported_features(standalone=False, absent={KIND[1]})}
    assert served - absent == {"ClusterTrustBundle"}
