"""What belongs to this installation as a whole: the cluster id that stands in every ownership marker (A-GC-1)."""

from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from keep_operator.store.tables import INSTALLATION


@dataclass(frozen=True, slots=True)
class Identity:
    """``cluster_id`` is the one to use; ``stored`` the one in the database: they differ when the setting overrides."""

    cluster_id: str
    stored: str


async def cluster_id(conn: AsyncConnection, given: str | None) -> Identity:
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
