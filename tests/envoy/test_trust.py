"""A Backend that is to be verified where nothing is trusted: not reached in plain text, not refused by Envoy, told."""

from __future__ import annotations

import pytest
from tests.cases.harness import HERE, load, run

from tripylon.envoy.plain import plain
from tripylon.envoy.verify import verify_resources

NAME = "backend/default/ext/tls"


@pytest.mark.parametrize("case", ["tls-system", "tls-address"])
def test_without_authorities_no_certificate_is_taken(case: str) -> None:
    outcome = run(load(HERE / "backend" / f"{case}.yaml"), system_ca="")
    (cluster,) = [
        plain(each) for each in outcome.xds if each.name == NAME and b"ClusterLoadAssignment" not in each.body
    ]
    validation = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert validation == {"verify_certificate_hash": ["00" * 32]}
    assert verify_resources(outcome.xds) == ()
    (finding,) = outcome.findings
    assert (str(finding.object), finding.condition, finding.reason) == ("Backend default/ext", "Accepted", "Invalid")
