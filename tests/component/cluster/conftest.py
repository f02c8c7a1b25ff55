"""A server that the test plays, and our client with all its patience taken away."""

from collections.abc import AsyncIterator

import pytest

from component.cluster import hostile
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection


@pytest.fixture
async def api() -> AsyncIterator[hostile.Hostile]:
    async with hostile.serve() as server:
        yield server


@pytest.fixture
async def cluster(api: hostile.Hostile) -> AsyncIterator[Cluster]:
    async with Cluster(Connection(api.url), bounds=hostile.BOUNDS) as client:
        yield client
