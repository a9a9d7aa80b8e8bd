"""Shared by the live tests: one echo process for the session, and both layouts of routes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.live.fleet import Fleet

pytest.register_assert_rewrite("tests.live.every_feature")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The pods that all live tests share."""
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture(scope="module", params=("plain", "scoped"))
def layout(request: pytest.FixtureRequest) -> str:
    """How routes are sent to Envoy; a test that takes it runs once for each way, and must find the same."""
    return str(request.param)
