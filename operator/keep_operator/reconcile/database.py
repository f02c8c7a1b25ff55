"""The control database as reconciles use it: anybody looks, only the leader writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from keep_operator.errors import Conflict
from keep_operator.store import engine as store
from keep_operator.store import installation


class Database:
    """One database for one cluster. ``epoch`` is that of this replica's leadership, set when it begins (A-CTL-2)."""

    def __init__(self, engine: AsyncEngine, cluster_id: str) -> None:
        self._engine = engine
        self.cluster_id = cluster_id
        self.epoch = 0
        self.deposed = asyncio.Event()

    def look(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection that only reads."""
        return store.look(self._engine)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits only while this replica leads.

        Raises Conflict `LeadershipLost` when it does not, and sets ``deposed``: the database is the last word.
        """
        async with store.transaction(self._engine) as conn:
            try:
                await installation.guard(conn, self.epoch)
            except Conflict:
                self.deposed.set()
                raise
            yield conn

    async def claim(self, epoch: int) -> int | None:
        """Begin to write under ``epoch``; None when done, else the stored one, which is not below it."""
        async with store.transaction(self._engine) as conn:
            known = await installation.claim(conn, epoch)
        if known is None:
            self.epoch = epoch
        return known
