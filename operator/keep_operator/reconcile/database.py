"""The control database as reconciles use it: anybody looks, only the leader writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from keep_operator.errors import Conflict
from keep_operator.store import engine as store
from keep_operator.store import installation, seals
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine


class Database:
    """One database for one cluster. ``epoch`` is that of this replica's leadership, set when it begins (A-CTL-2).

    ``wrote`` is set when a transaction has ended: its ledger entries want their seals.
    """

    def __init__(self, engine: Engine, cluster_id: str) -> None:
        self._engine = engine
        self.cluster_id = cluster_id
        self.epoch = 0
        self.deposed = asyncio.Event()
        self.wrote = asyncio.Event()

    def look(self) -> AbstractAsyncContextManager[Connection]:
        """A connection that only reads."""
        return store.look(self._engine)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction that commits only while this replica leads.

        Raises Conflict `LeadershipLost` when it does not, and sets ``deposed``: the database is the last word.
        """
        try:
            async with self._fenced() as conn:
                yield conn
        finally:
            self.wrote.set()  # however it ended: where the answer was lost, it may have been committed

    async def seal(self) -> int:
        """Seal ledger entries that wait for it, one batch of `seals.BATCH`; how many waited. As `transaction` raises.

        Where none waits nothing is written: the lock that keeps the right to write would be a write, too.
        """
        async with self.look() as conn:
            if not await seals.waiting(conn):
                return 0
        async with self._fenced() as conn:
            return await seals.seal(conn)

    @asynccontextmanager
    async def _fenced(self) -> AsyncIterator[Connection]:
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
