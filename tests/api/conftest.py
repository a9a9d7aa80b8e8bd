"""Fixtures of the tests of what users write."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api import upstream
from tests.api.corpus import GATEWAY_KINDS, corpus


@pytest.fixture(scope="session")
def definitions() -> dict[str, dict[str, Any]]:
    """The Gateway API's experimental CustomResourceDefinitions by kind."""
    return upstream.definitions()


@pytest.fixture(scope="session")
def manifests() -> list[dict[str, Any]]:
    """Every object of the Gateway API's examples and conformance suite."""
    return list(upstream.manifests())


@pytest.fixture(scope="session")
def objects(definitions: dict[str, dict[str, Any]], manifests: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The corpus by kind."""
    return {kind.name: list(corpus(kind, definitions[kind.name], manifests)) for kind in GATEWAY_KINDS}
