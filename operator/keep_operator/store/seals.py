"""The seals of the ledger: puts them on, and reads them again with their entries.

::

    INSERT INTO ledger ──trigger──▶ ledger_pending ──`seal`──▶ ledger_seal

`seal` takes entries out of the queue and seals them in one transaction: whenever the process dies, an entry waits or is
sealed. Entries are sealed in the order in which they become visible; an id that comes late gets a later position. What a
seal is, and what is wrong with a chain, is `domain.chain`.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from keep_operator.domain.chain import FORM, START, Breach, Entry, Seal, Verification, link
from keep_operator.store.connection import Connection, Row, prepared
from keep_operator.store.tables import LEDGER, LEDGER_PENDING, LEDGER_SEAL

# Entries in one transaction: hashing them keeps the process from its other work for some milliseconds.
BATCH: Final = 1_000
# Entries on a page of a verification: some hundred bytes each.
PAGE: Final = 2_000

# What holds as long as nobody has altered the tables; the names are those of the migrations.
GUARDS: Final = frozenset({"ledger_append_only", "ledger_pending_fill", "ledger_seal_append_only"})

# As `domain.chain.Entry` has them. Neither the session's settings nor the limits of Python's dates change what is read.
_ENTRY: Final = (
    LEDGER.c.id,
    sa.cast(sa.extract("epoch", LEDGER.c.at), sa.Text).label("at"),
    LEDGER.c.tenant_id,
    LEDGER.c.kind,
    LEDGER.c.namespace,
    LEDGER.c.name,
    LEDGER.c.uid,
    LEDGER.c.action,
    LEDGER.c.actor,
    sa.func.encode(sa.func.sha256(sa.func.convert_to(sa.cast(LEDGER.c.details, sa.Text), "UTF8")), "hex").label(
        "details"
    ),
)
_IS_SEALED: Final = sa.exists().where(LEDGER_SEAL.c.ledger_id == LEDGER.c.id)

# The oldest that wait. An id without an entry stays in the queue: it proves that there was one.
_OLDEST: Final = LEDGER_PENDING.alias("oldest")
_TAKEN: Final = (
    sa.delete(LEDGER_PENDING)
    .where(
        LEDGER_PENDING.c.ledger_id.in_(
            sa.select(_OLDEST.c.ledger_id)
            .join(LEDGER, LEDGER.c.id == _OLDEST.c.ledger_id)
            .order_by(_OLDEST.c.ledger_id)
            .limit(sa.bindparam("most"))
        )
    )
    .returning(LEDGER_PENDING.c.ledger_id)
    .cte("taken")
)
# An entry that is gone waits for nothing.
_WAITING: Final = prepared(sa.select(sa.exists().where(LEDGER_PENDING.c.ledger_id == LEDGER.c.id)))
_TAKE: Final = prepared(
    sa.select(*_ENTRY, _IS_SEALED.label("is_sealed"))
    .join(_TAKEN, _TAKEN.c.ledger_id == LEDGER.c.id)
    .order_by(LEDGER.c.tenant_id, LEDGER.c.id)
)

_ASKED: Final = (
    sa.func.unnest(sa.bindparam("tenants", type_=ARRAY(sa.Text))).table_valued("tenant_id").render_derived("asked")
)
_LAST: Final = (
    sa.select(LEDGER_SEAL.c.position, LEDGER_SEAL.c.hash)
    .where(LEDGER_SEAL.c.tenant_id == _ASKED.c.tenant_id)
    .order_by(LEDGER_SEAL.c.position.desc())
    .limit(1)
    .lateral("last")
)
_HEADS: Final = prepared(sa.select(_ASKED.c.tenant_id, _LAST.c.position, _LAST.c.hash).join(_LAST, sa.true()))

_ROWS: Final = (
    sa.func.unnest(*(sa.bindparam(each.name, type_=ARRAY(each.type)) for each in LEDGER_SEAL.c))
    .table_valued(*(each.name for each in LEDGER_SEAL.c))
    .render_derived("rows")
)
_PUT: Final = prepared(sa.insert(LEDGER_SEAL).from_select([each.name for each in LEDGER_SEAL.c], sa.select(_ROWS)))

_GUARDS: Final = sa.text("""
    SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A')
        AND tgrelid IN ('keep_operator.ledger'::regclass, 'keep_operator.ledger_seal'::regclass)
""")

# More than these tell nobody more.
_LOST: Final = (
    sa.select(LEDGER_PENDING.c.ledger_id)
    .where(~sa.exists().where(LEDGER.c.id == LEDGER_PENDING.c.ledger_id))
    .order_by(LEDGER_PENDING.c.ledger_id)
    .limit(10)
)


async def waiting(conn: Connection) -> bool:
    """Whether entries wait for their seals; writes nothing, not even a lock."""
    return bool(await conn.scalar(_WAITING))


async def seal(conn: Connection, most: int = BATCH) -> int:
    """Seals entries that wait, the oldest ``most``; how many were taken out of the queue. Needs `engine.transaction`.

    Conflict when another seals at the same moment: nothing was done.
    """
    taken = list(await conn.execute(_TAKE, {"most": most}))
    # What has a seal was queued again by a restore without triggers, or by hand.
    entries = [_entry(row) for row in taken if not row.is_sealed]
    if entries:
        tenants = sorted({str(entry.tenant_id) for entry in entries})
        heads = {row.tenant_id: (row.position, row.hash) for row in await conn.execute(_HEADS, {"tenants": tenants})}
        columns = zip(*_sealed(entries, heads), strict=True)
        await conn.execute(_PUT, {each.name: list(values) for each, values in zip(LEDGER_SEAL.c, columns, strict=True)})
    return len(taken)


def _sealed(entries: Iterable[Entry], heads: dict[str, tuple[int, bytes]]) -> Iterator[tuple[Any, ...]]:
    for tenant_id, own in groupby(entries, key=lambda entry: entry.tenant_id):
        position, head = heads.get(str(tenant_id), (0, START))
        for entry in own:
            position, head = position + 1, link(head, entry)
            yield entry.id, tenant_id, position, FORM, head


async def verify(conn: Connection, tenant_id: str | None = None, noted: Iterable[tuple[str, str]] = ()) -> Verification:
    """Reads all entries and seals, or one tenant's, page by page. Needs `engine.snapshot`.

    ``noted`` are (tenant, head) from elsewhere.
    """
    verification = Verification(noted)
    verification.whole(Breach.GUARD_OFF, sorted(GUARDS - set((await conn.execute(_GUARDS)).scalars())))
    verification.whole(Breach.LOST, (await conn.execute(_LOST)).scalars())
    async for page in _seals(conn, tenant_id):
        for each in page:
            verification.read(each)
    verification.end()
    async for rows in _unsealed(conn, tenant_id):
        for row in rows:
            verification.unsealed(row.tenant_id, row.id, waits=row.waits)
    return verification


async def _seals(conn: Connection, tenant_id: str | None) -> AsyncIterator[Sequence[Seal]]:
    """Every seal with its entry, by tenant and position."""
    place = sa.tuple_(LEDGER_SEAL.c.tenant_id, LEDGER_SEAL.c.position)
    question = (
        sa.select(*(each.label(f"seal_{each.name}") for each in LEDGER_SEAL.c), *_ENTRY)
        .join_from(LEDGER_SEAL, LEDGER, LEDGER.c.id == LEDGER_SEAL.c.ledger_id, isouter=True)
        .order_by(LEDGER_SEAL.c.tenant_id, LEDGER_SEAL.c.position)
        .limit(PAGE)
    )
    if tenant_id is not None:
        question = question.where(LEDGER_SEAL.c.tenant_id == tenant_id)
    rows = (await conn.execute(question)).all()
    while rows:
        yield [_seal(row) for row in rows]
        after = (rows[-1].seal_tenant_id, rows[-1].seal_position)
        rows = (await conn.execute(question.where(place > after))).all()


async def _unsealed(conn: Connection, tenant_id: str | None) -> AsyncIterator[Sequence[Row]]:
    """Every entry without a seal, by id, and whether it waits for one."""
    ids = sa.select(LEDGER.c.id).order_by(LEDGER.c.id).limit(PAGE)
    if tenant_id is not None:
        ids = ids.where(LEDGER.c.tenant_id == tenant_id)
    waits = sa.exists().where(LEDGER_PENDING.c.ledger_id == LEDGER.c.id)
    question = sa.select(LEDGER.c.id, LEDGER.c.tenant_id, waits.label("waits")).where(~_IS_SEALED).order_by(LEDGER.c.id)
    if tenant_id is not None:
        question = question.where(LEDGER.c.tenant_id == tenant_id)
    page = list((await conn.execute(ids)).scalars())
    while page:
        yield (await conn.execute(question.where(LEDGER.c.id.between(page[0], page[-1])))).all()
        page = list((await conn.execute(ids.where(LEDGER.c.id > page[-1]))).scalars())


def _seal(row: Row) -> Seal:
    return Seal(
        ledger_id=row.seal_ledger_id,
        tenant_id=row.seal_tenant_id,
        position=row.seal_position,
        form=row.seal_form,
        hash=row.seal_hash,
        entry=None if row.id is None else _entry(row),
    )


def _entry(row: Row) -> Entry:
    return Entry(
        id=row.id,
        at=row.at,
        tenant_id=row.tenant_id,
        kind=row.kind,
        namespace=row.namespace,
        name=row.name,
        uid=row.uid,
        action=row.action,
        actor=row.actor,
        details=row.details,
    )
