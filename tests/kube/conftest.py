from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.kube.apiserver import ApiServer, find_binary
from tests.kube.scripted import Scripted, scripted


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs a real API server")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server for the tests of one file."""
    binary = find_binary()
    if binary is None:
        pytest.skip("no API server: run `make cluster-build`, or name one in TRIPYLON_CLUSTER_BINARY")
    made = ApiServer(binary, tmp_path_factory.mktemp("api"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
