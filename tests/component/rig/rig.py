"""The whole operator on an API server in memory and a real PostgreSQL, in time that leaps.

::

    User ──► ApiServer ◄──── Operator (kopf, client, queue, reconciles) ────► Doors ──► PostgreSQL
                faults, counts                                           faults, counts
                     └───────────────── Gate: each write of both ──────────────┘
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from component.apiserver.faults import Gate
from component.apiserver.server import ApiServer, serve
from component.apiserver.state import State
from component.rig import database, process
from component.rig.clock import Clock
from component.rig.database import Doors
from component.rig.process import Operator
from component.rig.user import User
from databases import Database

REST_S: Final = 45.0
"""Nothing more is to happen within this: longer than a Tenant's counts wait, or a Lease."""


class Mark(NamedTuple):
    """A point in time from which to count."""

    exchanges: int = 0
    commits: int = 0


BEGINNING: Final = Mark()


@dataclass
class Rig:
    """One cluster and one database, without an operator at first."""

    server: ApiServer
    doors: Doors
    clock: Clock
    database: Database
    user: User
    operators: list[Operator] = field(default_factory=list)

    async def start(self, *, name: str = "", **settings: Any) -> Operator:
        """Start an operator, and do not wait for it."""
        operator = Operator(name or f"operator-{len(self.operators)}", self.server, self.doors)
        self.operators.append(operator)
        await operator.start(**settings)
        return operator

    async def operate(self, **settings: Any) -> Operator:
        """An operator that is ready."""
        operator = await self.start(**settings)
        await self.user.eventually(lambda: operator.ready or operator.ended, bool, "ready")
        if operator.ended:
            raise AssertionError(f"{operator.name} ended") from await operator.end()
        return operator

    async def rest(self, seconds: float = REST_S) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def mark(self) -> Mark:
        """The present."""
        return Mark(len(self.server.exchanges), len(self.doors.commits))

    def spent(self, operator: Operator, since: Mark = BEGINNING) -> Counter[str]:
        """What an operator has written: ``PATCH providers/status``, ``COMMIT insert provider``.

        Renewals of its Lease, and the sealing of the ledger, many entries at once, are no object's and not counted here.
        """
        spent = self.server.writes(operator.name, since=since.exchanges)
        spent.update(what for client, what in self.doors.commits[since.commits :] if client == operator.name)
        return Counter({what: count for what, count in spent.items() if not re.search("leases|ledger_seal", what)})

    def use(self, gate: Gate) -> None:
        """Have a gate stand before every write, to the API server and to the database."""
        self.server.gate = self.doors.gate = gate


@contextlib.asynccontextmanager
async def built(database_url: str, state: State | None = None, leapt_s: float = 0.0) -> AsyncIterator[Rig]:
    """A rig for the length of a block; all of its operators are dead at the end."""
    async with serve(state) as server, database.doors(database_url) as doors:
        clock = Clock(lambda: bool(server.under_way or doors.under_way), leapt_s)
        server.state.now = clock.now
        loop: Any = asyncio.get_running_loop()
        with process.guests(server, clock), clock.leaping(loop):
            there = Database(database_url)
            rig = Rig(server, doors, clock, there, User(server, there))
            try:
                yield rig
            finally:
                for operator in reversed(rig.operators):
                    await operator.kill()
