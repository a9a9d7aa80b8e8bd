"""Shared by the live tests: one echo process for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.live.fleet import Fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The pods that all live tests share."""
    with Fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running
