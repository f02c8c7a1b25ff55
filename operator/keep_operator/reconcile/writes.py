"""The one way to write to the control database: as the leader, or not at all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from keep_operator.store import installation
from keep_operator.store.engine import transaction


class Writes:
    """Write transactions of one leadership; ``epoch`` is set when it begins."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.epoch = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits only if this replica still leads; raises Conflict `LeadershipLost` if it does not."""
        async with transaction(self._engine) as conn:
            await installation.guard(conn, self.epoch)
            yield conn
