"""A real API server, as the same client sees it."""

from collections.abc import AsyncIterator

import pytest

from component.apiserver.contract import Api
from e2e.cluster import Kube
from keep_operator.cluster import connection
from keep_operator.cluster.client import Cluster


@pytest.fixture
async def api(clean: Kube, namespace: str) -> AsyncIterator[Api]:
    link = connection.load({"KUBECONFIG": str(clean.kubeconfig)})
    async with Cluster(link) as cluster:
        yield Api(link, cluster, namespace)
