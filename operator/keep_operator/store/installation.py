"""What belongs to this installation as a whole: the cluster id that stands in every ownership marker (A-GC-1), and the
epoch of the replica that may write (A-CTL-2).

An epoch is the transition count of the leader's Lease. A new leader writes its own here before anything else; every
write transaction then holds the row it needs to be the newest, so that a deposed leader's late write finds no place:

::

    leader 7   guard(7) ── writes ── commit          guard(7) ✗ refused
    leader 8               claim(8) waits ───── claim(8) ── guard(8) ── writes ── commit
"""

from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from keep_operator.errors import Conflict
from keep_operator.store.connection import Connection, prepared
from keep_operator.store.tables import INSTALLATION

# Built once: every write transaction begins with it.
_MINE: Final = prepared(
    select(INSTALLATION.c.leader_epoch)
    .where(INSTALLATION.c.leader_epoch == bindparam("epoch"))
    .with_for_update(read=True)
)


@dataclass(frozen=True, slots=True)
class Identity:
    """``cluster_id`` is the one to use; ``stored`` the one in the database: they differ when the setting overrides."""

    cluster_id: str
    stored: str


async def cluster_id(conn: Connection, given: str | None) -> Identity:
    """The id of this cluster: ``given`` if there is one, else the stored one, made now if there is none.

    What is stored stays: a setting that differs from it is used and not written (a restore into another cluster
    sets it by hand, and takes it away again). Safe when several start at once; needs `engine.transaction`.
    """
    stored = await conn.scalar(select(INSTALLATION.c.cluster_id))
    if stored is None:
        # Of two at the same moment the later one waits for the first, does nothing, and then reads the first's.
        await conn.execute(insert(INSTALLATION).values(cluster_id=given or str(uuid4())).on_conflict_do_nothing())
        stored = (await conn.execute(select(INSTALLATION.c.cluster_id))).scalar_one()
    return Identity(cluster_id=given or stored, stored=stored)


async def stored_cluster_id(conn: Connection) -> str | None:
    """The id of the cluster that the first operator has started in; None before that."""
    stored: str | None = await conn.scalar(select(INSTALLATION.c.cluster_id))
    return stored


async def key_name(conn: Connection, ours: str) -> str:
    """The name of the key that credentials are sealed with; ``ours``, stored now, where there has been none.

    Safe when several start at once; needs `engine.transaction`.
    """
    first = update(INSTALLATION).where(INSTALLATION.c.key_name.is_(None)).values(key_name=ours)
    await conn.execute(first)
    stored: str = (await conn.execute(select(INSTALLATION.c.key_name))).scalar_one()
    return stored


async def stored_key_name(conn: Connection) -> str | None:
    """The name of the key that credentials are sealed with; None before the first operator has started."""
    stored: str | None = await conn.scalar(select(INSTALLATION.c.key_name))
    return stored


async def replace_key_name(conn: Connection, before: str | None, after: str) -> None:
    """Say that credentials are sealed with another key from now on; raises Conflict where that was said meanwhile."""
    told = update(INSTALLATION).where(INSTALLATION.c.key_name.is_not_distinct_from(before)).values(key_name=after)
    if not (await conn.execute(told)).rowcount:
        raise Conflict("SyncFailed", "the key of the database was changed by another at the same moment; look again")


async def claim(conn: Connection, epoch: int) -> int | None:
    """Make ``epoch`` the one that may write; None when done, else the stored one, which is not below it.

    Waits for write transactions of the epoch before. Safe to repeat by the same leader only through a higher epoch.
    """
    newer = update(INSTALLATION).where(INSTALLATION.c.leader_epoch < epoch).values(leader_epoch=epoch)
    if (await conn.execute(newer)).rowcount:
        return None
    stored: int = (await conn.execute(select(INSTALLATION.c.leader_epoch))).scalar_one()
    return stored


async def guard(conn: Connection, epoch: int) -> None:
    """Hold the right to write until the transaction ends; raises Conflict `LeadershipLost` where another has it."""
    if await conn.scalar(_MINE, {"epoch": epoch}) is None:
        raise Conflict("LeadershipLost", "another replica leads now; nothing was written")
