"""Workflows to begin with; each test sets what it is about."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import text

from integration.store import samples
from keep_operator.domain.history import Author, Cause, Flaw, Lineage, Revision
from keep_operator.domain.ownership import Owner
from keep_operator.domain.revision import content_hash
from keep_operator.store import deployments, lineages, revisions, workflows
from keep_operator.store import engine as database
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.ledger import Entry

ME: Final = samples.owner("high-cpu")
ACTOR: Final = samples.ACTOR
BROKEN: Final = Flaw("SchemaError", "steps[0]: provider is missing")
EARLIER: Final = datetime(2026, 5, 1, tzinfo=UTC)

Value = TypeVar("Value")


async def done(engine: Engine, work: Callable[[Connection], Awaitable[Value]]) -> Value:
    """Do it in a transaction of its own."""
    async with database.transaction(engine) as conn:
        return await work(conn)


async def run(engine: Engine, statement: str) -> None:
    """What somebody does who writes SQL."""
    async with database.transaction(engine) as conn:
        await conn.execute(text(statement))


async def looked(engine: Engine, work: Callable[[Connection], Awaitable[Value]]) -> Value:
    """Look it up."""
    async with database.look(engine) as conn:
        return await work(conn)


def new(name: str = "high-cpu", *, of: Owner | None = ME, **fields: Any) -> Lineage:
    """A lineage that has no row yet."""
    given: dict[str, Any] = {"settings": {"run": {"maxAttempts": 3}}, "suspended": False} | fields
    return Lineage(workflows.new_id(), "keep", name, of, **given)


async def have(engine: Engine, name: str = "high-cpu", contents: str = "", *, of: Owner = ME) -> Lineage:
    """A workflow with a version for each letter, as `add`; its tenant must be there."""
    lineage = new(name, of=of)
    await done(engine, lambda conn: workflows.insert(conn, lineage, actor=ACTOR))
    for content in contents:
        await add(engine, content, of=of)
    return await own(engine, of)


async def own(engine: Engine, of: Owner = ME) -> Lineage:
    """The lineage that the object has."""
    found = (await looked(engine, lambda conn: lineages.observe(conn, of.cluster_id, of.uid, None, None)))[0]
    assert found is not None
    return found


async def holder(engine: Engine, name: str) -> Lineage | None:
    """The lineage that has the name."""
    return (await looked(engine, lambda conn: lineages.observe(conn, "nobody", "nobody", "keep", name)))[1]


def hash_of(content: str) -> str:
    """The hash of a content that is called by a letter."""
    return content_hash(definition_of(content))


def definition_of(content: str) -> dict[str, Any]:
    """A content that is called by a letter."""
    return {"steps": [{"name": content}]}


def revision(number: int, content: str) -> Revision:
    """A version by number and content, a letter; a lower case letter is a content that is not valid."""
    return Revision(
        number,
        hash_of(content),
        EARLIER,
        flaw=BROKEN if content.islower() else None,
        parent_number=number - 1 or None,
        change_note=f"made {content}",
        diff_summary=f"became {content}" if number > 1 else None,
        author=Author("ann", "Annotation"),
        created_from_generation=number,
    )


def object_name(number: int) -> str:
    """The name of a version's object."""
    return f"high-cpu-v{number}"


async def add(engine: Engine, content: str, *, of: Owner = ME) -> None:
    """Another version of the workflow."""
    await insert(engine, await own(engine, of), content)


async def insert(engine: Engine, seen: Lineage, content: str) -> None:
    """Another version of the workflow as it was seen."""
    made = revision(seen.latest_number + 1, content)
    await done(
        engine,
        lambda conn: revisions.insert(
            conn, seen, made, definition_of(content), name=object_name(made.number), actor=ACTOR
        ),
    )


async def activate(engine: Engine, number: int, cause: Cause = Cause.ALL_AT_ONCE, *, of: Owner = ME) -> Lineage:
    """Make a version active; the lineage as it is then."""
    seen = await own(engine, of)
    await done(
        engine, lambda conn: deployments.activate(conn, seen, number, cause=cause, actor="ann", reason="why not")
    )
    return await own(engine, of)


async def told(engine: Engine) -> list[tuple[str, str, Any]]:
    """Of all entries about workflows: kind, action, and details without the lineage's id."""
    entries = [each for each in await samples.entries(engine) if each.key.kind.startswith("Workflow")]
    return [(each.key.kind, each.action, _without_id(each)) for each in entries]


def _without_id(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.details.items() if key != "id"}


def many_versions(lineage_id: UUID, count: int) -> str:
    """SQL that makes so many versions, deployments and ledger entries of a lineage at once, each version active once."""
    return f"""
        WITH made AS (
            INSERT INTO keep_operator.workflow_revision
                (workflow_id, number, content_hash, hash_version, definition, created_from_generation)
            SELECT '{lineage_id}', n, encode(sha256(n::text::bytea), 'hex'), 1, '{{}}', n FROM generate_series(1, {count}) n
            RETURNING number
        ), state AS (
            INSERT INTO keep_operator.revision_state SELECT '{lineage_id}', number, now(), now() FROM made
        ), deployed AS (
            INSERT INTO keep_operator.deployment (workflow_id, revision, from_revision, cause, actor, reason)
            SELECT '{lineage_id}', number, nullif(number - 1, 0), 'AllAtOnce', 'ann', '' FROM made ORDER BY number
        ), latest AS (
            UPDATE keep_operator.workflow SET latest_revision = {count} WHERE id = '{lineage_id}'
        )
        INSERT INTO keep_operator.ledger (tenant_id, kind, namespace, name, uid, action, actor, details)
        SELECT 'keep', 'Workflow', 'monitoring', 'high-cpu', 'uid-high-cpu', 'Deployed', 'ann',
            json_build_object('id', '{lineage_id}', 'to', number)
        FROM made ORDER BY number
    """  # noqa: S608
