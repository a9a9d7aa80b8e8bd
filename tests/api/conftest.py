"""Fixtures of the tests of what users write."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api import upstream


@pytest.fixture(scope="session")
def definitions() -> dict[str, dict[str, Any]]:
    """The Gateway API's experimental CustomResourceDefinitions by kind."""
    return upstream.definitions()


@pytest.fixture(scope="session")
def manifests() -> list[dict[str, Any]]:
    """Every object of the Gateway API's examples and conformance suite."""
    return list(upstream.manifests())
