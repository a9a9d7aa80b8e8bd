"""The load client by itself: every request is recorded, with what came of it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.live.echo import Deployment
from tests.live.fleet import Fleet
from tests.live.load import Load, LoadClient


def test_every_request_is_recorded_with_its_outcome(tmp_path: Path) -> None:
    with Fleet(tmp_path, (Deployment("load", "lean", 1, "lean"),)) as fleet:
        placed = fleet.placed("load/lean")
        load = Load(placed.addresses[0], placed.ports["http"], ("a", "b"), str(tmp_path / "records"), rate=1000)
        with LoadClient(load) as client:
            time.sleep(1)
            records = client.finish()
    assert Counter(record.outcome for record in records) == {"200 lean-0": len(records)}
    assert {record.host for record in records} == {"a", "b"}
    assert all(record.sent_s <= record.done_s for record in records)
    assert len(records) > 500


def test_a_backend_that_goes_away_is_noticed(tmp_path: Path) -> None:
    with Fleet(tmp_path, (Deployment("load", "lean", 1, "lean"),)) as fleet:
        placed = fleet.placed("load/lean")
        load = Load(placed.addresses[0], placed.ports["http"], ("a",), str(tmp_path / "records"), rate=200)
        with LoadClient(load) as client:
            fleet.__exit__()
            time.sleep(0.3)
            records = client.finish()
    assert {"200 lean-0", "refused"} <= {record.outcome for record in records}
