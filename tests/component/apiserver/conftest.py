"""An API server in memory for each test."""

from collections.abc import AsyncIterator

import pytest

from component.apiserver.contract import Api
from component.apiserver.server import ApiServer, serve
from keep_operator.cluster.client import Cluster


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serve() as server:
        yield server


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    link = server.connect("test")
    async with Cluster(link) as cluster:
        yield Api(link, cluster, "default")
