"""A whole operator for each test, on servers that the test holds in its hands."""

from collections.abc import AsyncIterator

import pytest

from component.rig.rig import Rig, built
from databases import database_url, server_url, template

__all__ = ["database_url", "rig", "server_url", "template"]


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with built(database_url) as rig:
        yield rig
