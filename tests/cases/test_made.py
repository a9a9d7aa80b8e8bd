"""What the schema takes is built without a fault of ours, Envoy takes what comes of it, and a cluster the status."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cases.harness import NOW, run
from tests.cases.made import world
from tests.cases.together import refused_by_envoy

from tripylon.api.kinds import kind_of
from tripylon.api.validate import validate
from tripylon.status.desired import desired, with_status

WORLDS = 120
BATCH = 30


@pytest.mark.parametrize("start", range(0, WORLDS, BATCH))
def test_valid_objects_of_any_content_are_served(start: int, tmp_path: Path) -> None:
    cases = [world(seed) for seed in range(start, start + BATCH)]
    assert refused_by_envoy(cases, tmp_path) == []
    routes = 0
    for case in cases:
        outcome = run(case)
        assert not outcome.refused, case.title
        for resource in outcome.resources:
            status = desired(outcome.graph, resource, options=outcome.options, programming=None, now=NOW)
            routes += status is not None and resource.ref.kind.endswith("Route")
            assert validate(kind_of(resource), with_status(resource, status)) == (), (case.title, resource.ref)
    assert routes > BATCH // 2
