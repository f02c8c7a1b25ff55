"""Versions are numbered without gaps, made once, and changed by nobody."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import psycopg
import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from integration.store.lineages import ACTOR, done, own
from keep_operator.domain import revision
from keep_operator.domain.history import Cause, Deployment, Lineage, Revision
from keep_operator.errors import Conflict, Refused, Unavailable
from keep_operator.store import deployments, revisions
from keep_operator.store import engine as database
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

IMMUTABLE = {
    "workflow_revision": "change_note = 'never mind'",
    "deployment": "actor = 'nobody'",
    "handled_decision": "outcome = 'Refused'",
}


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A, B, A; the second is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="ABA")
    return await lineages.activate(engine, 2)


async def test_a_version_is_read_as_it_was_made(engine: Engine) -> None:
    """Number, hash, author, note, flaw and content come back as they went."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    content = {"steps": [{"with": {"limit": 1e23, "text": "Grüße\u0001", "yes": True}}], "actions": []}
    made = replace(lineages.revision(1, "a"), diff_summary="consts changed (limit: 80 → 90)")
    await done(engine, lambda conn: revisions.insert(conn, seen, made, content, name="high-cpu-v1", actor=ACTOR))
    (found,) = (await own(engine)).revisions
    assert found == replace(made, created_at=found.created_at)
    assert found.created_at > lineages.EARLIER
    kept = await lineages.looked(engine, lambda conn: revisions.definitions(conn, seen.id, [1, 2]))
    assert kept == {1: content}


async def test_a_version_costs_one_statement(engine: Engine) -> None:
    """Number, row, state and ledger entry: all of it or nothing."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    counted = database.queries(engine)
    before = counted.statements
    await lineages.insert(engine, seen, "A")
    assert counted.statements == before + 1
    assert (await lineages.told(engine))[-1] == (
        "WorkflowRevision",
        "Created",
        {"number": 1, "contentHash": lineages.hash_of("A"), "sameContentAs": None, "flaw": None, "tags": None},
    )
    entry = (await samples.entries(engine))[-1]
    assert (entry.key.namespace, entry.key.name) == ("monitoring", "high-cpu-v1")


async def test_equal_content_is_known_by_its_first_version(engine: Engine) -> None:
    """A, B, A, A made by others, b: a version says which older one it equals, also after others of another hash."""
    await samples.have_tenant(engine)
    lineage = await lineages.have(engine, contents="ABABA")
    assert [each.same_content_as for each in lineage.revisions] == [None, None, 1, 2, 1]
    other = await lineages.have(engine, "other", contents="A", of=samples.owner("other"))
    assert other.revisions[0].same_content_as is None


async def test_twenty_who_make_the_same_version_make_one(engine: Engine) -> None:
    """Replicas that see one change at the same moment: one version, no gap, and the others look again (A-REV-5)."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)

    async def attempt() -> bool:
        try:
            await lineages.insert(engine, seen, "A")
        except Conflict:
            return False
        return True

    assert (await asyncio.gather(*(attempt() for _ in range(20)))).count(True) == 1
    assert [each.number for each in (await own(engine)).revisions] == [1]


async def test_twenty_who_make_their_versions_leave_no_gap(engine: Engine) -> None:
    """Whoever comes too late looks again: twenty contents by twenty writers are the versions 1 to 20, each once."""
    await samples.have_tenant(engine)
    await lineages.have(engine)
    contents = "ABCDEFGHIJKLMNOPQRST"

    async def persist(content: str) -> None:
        while True:
            seen = await own(engine)
            if seen.with_content(lineages.hash_of(content)):
                return
            try:
                await lineages.insert(engine, seen, content)
            except Conflict:
                continue
            return

    await asyncio.gather(*(persist(content) for content in contents + contents[::-1]))
    lineage = await own(engine)
    assert [each.number for each in lineage.revisions] == list(range(1, 21))
    assert lineage.latest_number == 20
    assert {each.content_hash for each in lineage.revisions} == {lineages.hash_of(each) for each in contents}
    numbers = [details["number"] for kind, _, details in await lineages.told(engine) if kind == "WorkflowRevision"]
    assert numbers == list(range(1, 21))


async def test_a_version_that_is_not_written_leaves_no_gap(engine: Engine) -> None:
    """A definition that cannot be stored, or a crash before the commit, takes no number."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    for wrong in ({"text": "\x00"}, {"text": "\ud800"}, {"number": float("nan")}):
        made = lineages.revision(1, "A")
        with pytest.raises(Refused):
            async with database.transaction(engine) as conn:
                await revisions.insert(conn, seen, made, wrong, name="x", actor=ACTOR)
    await lineages.insert(engine, seen, "A")
    assert [each.number for each in (await own(engine)).revisions] == [1]


async def test_no_number_is_left_out_or_filled_in(engine: Engine) -> None:
    """Only the number behind the latest can be made, also where an older dump has left a hole."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine, contents="A")
    await done(
        engine,
        lambda conn: revisions.recover(conn, seen, lineages.revision(3, "C"), {}, name="high-cpu-v3", actor=ACTOR),
    )
    for number in (1, 2, 3, 5):
        made = lineages.revision(number, "D")
        with pytest.raises(Conflict):
            await done(
                engine, partial(revisions.insert, seen=seen, revision=made, definition={}, name="x", actor=ACTOR)
            )
    assert [each.number for each in (await own(engine)).revisions] == [1, 3]


async def test_a_large_definition_is_kept_apart_from_the_rest(engine: Engine) -> None:
    """200 KiB come back whole when they are asked for, and no look carries them."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    large = {"steps": [{"name": f"step-{number}", "with": {"query": "x" * 100}} for number in range(1_500)]}
    made = lineages.revision(1, "A")
    await done(engine, lambda conn: revisions.insert(conn, seen, made, large, name="x", actor=ACTOR))
    assert await lineages.looked(engine, lambda conn: revisions.definitions(conn, seen.id, [1])) == {1: large}


@pytest.mark.parametrize("deed", ["UPDATE keep_operator.{0} SET {1}", "DELETE FROM keep_operator.{0}", "TRUNCATE {0}"])
@pytest.mark.parametrize("table", IMMUTABLE)
async def test_what_was_is_changed_by_nobody(engine: Engine, database_url: str, table: str, deed: str) -> None:
    """The owner of the tables cannot change a version, a deployment or a handled decision by an ordinary statement."""
    statement = deed.format(table, IMMUTABLE[table]).replace("TRUNCATE ", "TRUNCATE keep_operator.") + (
        " CASCADE" if "TRUNCATE" in deed else ""
    )
    with pytest.raises(Unavailable):
        await lineages.run(engine, statement)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"keep_operator.{table} only grows"):
            await owner.execute(statement)


async def test_a_lineage_with_versions_cannot_be_removed(engine: Engine, lineage: Lineage) -> None:
    """Neither can the row that all its history hangs on, not even with all that hangs on it."""
    for statement in ("DELETE FROM keep_operator.workflow", "TRUNCATE keep_operator.workflow CASCADE"):
        with pytest.raises((Conflict, Unavailable)):
            await lineages.run(engine, statement)
    assert await own(engine) == lineage


async def test_archiving_keeps_the_content(engine: Engine, lineage: Lineage) -> None:
    """The object goes, the version stays with its content, and comes back under its own number when it is gone back to."""
    names = {number: lineages.object_name(number) for number in (1, 3, 99)}
    assert await done(engine, lambda conn: revisions.archive(conn, lineage, names, actor=ACTOR)) == 2
    assert await done(engine, lambda conn: revisions.archive(conn, lineage, names, actor=ACTOR)) == 0
    assert [each.archived_at is not None for each in (await own(engine)).revisions] == [True, False, True]
    kept = await lineages.looked(engine, lambda conn: revisions.definitions(conn, lineage.id, [1, 3]))
    assert kept == {number: lineages.definition_of("A") for number in (1, 3)}
    back = await lineages.activate(engine, 3, Cause.ROLLBACK)
    assert [each.archived_at is not None for each in back.revisions] == [True, False, False]
    archived = [
        (each.key.name, each.details["number"]) for each in await samples.entries(engine) if each.action == "Archived"
    ]
    assert sorted(archived) == [("high-cpu-v1", 1), ("high-cpu-v3", 3)]


async def test_a_rejection_is_cleared_for_the_content(engine: Engine, lineage: Lineage) -> None:
    """A content that was rejected as version 1 may run again as version 3 when that is retried."""
    for number, verdict in ((1, "RejectedByUser"), (2, "AnalysisFailed")):
        rejecting = partial(revisions.reject, seen=lineage, number=number, verdict=verdict, actor="bob", reason="loud")
        await done(engine, rejecting)
    with pytest.raises(Conflict):
        await done(engine, lambda conn: revisions.reject(conn, lineage, 1, verdict="RejectedByUser", actor="bob"))
    assert [each.rejected for each in (await own(engine)).revisions] == ["RejectedByUser", "AnalysisFailed", None]
    content = lineages.hash_of("A")
    await done(engine, lambda conn: revisions.clear_rejection(conn, lineage, content, actor="ann", reason="mended"))
    assert [each.rejected for each in (await own(engine)).revisions] == [None, "AnalysisFailed", None]
    with pytest.raises(Conflict):
        await done(engine, lambda conn: revisions.clear_rejection(conn, lineage, content, actor="ann"))
    assert (await lineages.told(engine))[-3:] == [
        ("Workflow", "Rejected", {"number": 1, "verdict": "RejectedByUser", "reason": "loud"}),
        ("Workflow", "Rejected", {"number": 2, "verdict": "AnalysisFailed", "reason": "loud"}),
        ("Workflow", "RejectionCleared", {"contentHash": content, "reason": "mended"}),
    ]


async def test_a_new_version_gets_its_free_tags(engine: Engine, lineage: Lineage) -> None:
    """What the spec says of tags is for the version that it makes; a tag that another has stays there (A-TAG-1)."""
    await done(engine, lambda conn: revisions.tag(conn, lineage, 1, "taken", actor="ann"))
    made = replace(lineages.revision(4, "C"), tags=("free", "taken"))
    await done(engine, lambda conn: revisions.insert(conn, lineage, made, {}, name="high-cpu-v4", actor=ACTOR))
    assert [each.tags for each in (await own(engine)).revisions] == [("taken",), (), (), ("free",)]
    assert (await lineages.told(engine))[-1][2]["tags"] == ["free"]


async def test_a_tag_is_in_one_place(engine: Engine, lineage: Lineage) -> None:
    """A tag moves from version to version, and the ledger tells from where (A-TAG-1)."""

    async def point(number: int, tag: str) -> list[tuple[str, ...]]:
        await done(engine, lambda conn: revisions.tag(conn, lineage, number, tag, actor="ann", reason="r"))
        return [each.tags for each in (await own(engine)).revisions]

    await point(1, "stable-2026")
    assert await point(1, "production") == [("production", "stable-2026"), (), ()]
    assert await point(2, "production") == [("stable-2026",), ("production",), ()]
    for number in (2, 4):
        with pytest.raises(Conflict):
            await point(number, "production")
    await done(engine, lambda conn: revisions.untag(conn, lineage, "production", actor="ann"))
    with pytest.raises(Conflict):
        await done(engine, lambda conn: revisions.untag(conn, lineage, "production", actor="ann"))
    assert [each.tags for each in (await own(engine)).revisions] == [("stable-2026",), (), ()]
    assert (await lineages.told(engine))[-2:] == [
        ("Workflow", "Tagged", {"tag": "production", "from": 1, "to": 2, "reason": "r"}),
        ("Workflow", "Untagged", {"tag": "production", "from": 2, "reason": ""}),
    ]


async def test_versions_of_an_older_dump_are_given_back(engine: Engine) -> None:
    """The objects know versions 1 and 3: they get their numbers back, and the next is 4 (A-REV-13)."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)

    async def give_back(made: Revision) -> None:
        content = lineages.definition_of("A")
        await done(engine, lambda conn: revisions.recover(conn, seen, made, content, name="x", actor="ann"))

    await give_back(lineages.revision(3, "A"))
    await give_back(lineages.revision(1, "A"))
    with pytest.raises(Conflict):
        await give_back(lineages.revision(3, "A"))
    await lineages.add(engine, "B")
    lineage = await lineages.activate(engine, 3, Cause.DEPLOY)
    assert [each.number for each in lineage.revisions] == [1, 3, 4]
    assert lineage.latest_number == 4
    assert [each.created_at == lineages.EARLIER for each in lineage.revisions] == [True, True, False]
    assert [action for kind, action, _ in await lineages.told(engine) if kind == "WorkflowRevision"] == [
        "Recovered",
        "Recovered",
        "Created",
    ]


async def test_what_was_of_an_older_dump_is_given_back(engine: Engine, lineage: Lineage) -> None:
    """When versions were active, the deployments that the dump lacks, and which is active; a lost number is passed over."""
    when = datetime(2026, 5, 2, tzinfo=UTC)

    async def give_back(conn: Connection) -> None:
        times = {"first_active_at": when, "last_active_at": when}
        await revisions.recall(conn, lineage, 1, **times, name="high-cpu-v1", actor="ann")
        deployed = [Deployment(3, 2, Cause.ALL_AT_ONCE, "x", when), Deployment(1, 3, Cause.ROLLBACK, "bob", when)]
        await deployments.redeploy(conn, lineage, deployed, 1, actor="ann")
        await deployments.skip(conn, lineage, 7, actor="ann")

    await done(engine, give_back)
    found = await own(engine)
    assert (found.active_number, found.latest_number) == (1, 7)
    assert found.revisions[0].first_active_at == when
    assert [(each.revision, each.from_revision, each.at) for each in found.deployments][:2] == [
        (1, 3, when),
        (3, 2, when),
    ]
    assert [action for _, action, _ in await lineages.told(engine)][-3:] == ["Recovered"] * 3
    with pytest.raises(Conflict):
        await done(engine, lambda conn: deployments.skip(conn, lineage, 7, actor="ann"))
    with pytest.raises(Conflict):
        await done(engine, lambda conn: deployments.redeploy(conn, lineage, [], 3, actor="ann"))
    await lineages.add(engine, "B")
    assert (await own(engine)).latest_number == 8


async def test_contents_that_were_changed_are_found(engine: Engine) -> None:
    """A superuser switches the guard off and changes a content, another one its hash as well: both are named, and only they."""
    await samples.have_tenant(engine)
    seen = await lineages.have(engine)
    for number, letter in enumerate("ABC", start=1):
        content = lineages.definition_of(letter)
        made = replace(lineages.revision(number, letter), content_hash=revision.content_hash(content))
        seen = await own(engine)
        insert = partial(revisions.insert, revision=made, definition=content, name="x", actor=ACTOR)
        await done(engine, lambda conn, insert=insert, seen=seen: insert(conn, seen))  # type: ignore[misc]

    async def verify(tenant_id: str | None = None) -> list[str]:
        async with database.snapshot(engine) as conn:
            return await revisions.changed(conn, tenant_id)

    assert await verify() == []
    other = lineages.definition_of("Z")
    await lineages.run(engine, "ALTER TABLE keep_operator.workflow_revision DISABLE TRIGGER USER")
    for number in (2, 3):
        change = (
            f"UPDATE keep_operator.workflow_revision SET definition = '{json.dumps(other)}' WHERE number = {number}"  # noqa: S608
        )
        await lineages.run(engine, change)
    change = (
        f"UPDATE keep_operator.workflow_revision SET content_hash = '{revision.content_hash(other)}' WHERE number = 3"  # noqa: S608
    )
    await lineages.run(engine, change)
    assert await verify() == await verify("keep") == [f"{seen.id} v2", f"{seen.id} v3"]
    assert await verify("another") == []


async def test_a_look_at_a_thousand_versions_is_one_question(engine: Engine) -> None:
    """However long the history, a plan knows all versions, from one statement that reads no content."""
    await samples.have_tenant(engine)
    lineage = await lineages.have(engine)
    await lineages.run(engine, lineages.many_versions(lineage.id, 1_000))
    counted = database.queries(engine)
    before = counted.statements
    found = await own(engine)
    assert counted.statements == before + 1
    assert [each.number for each in found.revisions] == list(range(1, 1_001))
    async with database.look(engine) as conn:
        assert await conn.scalar(text("SELECT count(*) FROM keep_operator.workflow_revision")) == 1_000
