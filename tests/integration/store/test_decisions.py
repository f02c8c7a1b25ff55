"""A decision is carried out once, whoever hands it in again, and whenever."""

import asyncio
from dataclasses import replace

import pytest

from integration.store import lineages, samples
from integration.store.lineages import ACTOR, done, own
from keep_operator.domain.history import Cause, Lineage
from keep_operator.domain.verdict import Handled
from keep_operator.errors import Conflict
from keep_operator.resources.kinds import Key
from keep_operator.store import decisions, deployments, workflows
from keep_operator.store import engine as database
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine

pytestmark = pytest.mark.integration

DECISION = Key("WorkflowDecision", "monitoring", "roll-back")
HANDLED = Handled("4711", "Rollback", "Done", "v1 is active.", lineages.EARLIER, from_number=2, to_number=1)


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu in tenant keep, with versions A, B; the second is active."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="AB")
    return await lineages.activate(engine, 2)


async def carry_out(conn: Connection, seen: Lineage) -> str:
    """Roll back to version 1."""
    number = await decisions.handle(conn, seen, DECISION, "uid-d", HANDLED, actor="bob", reason="It is loud")
    await deployments.activate(conn, seen, 1, cause=Cause.ROLLBACK, actor="bob", reason="It is loud")
    return number


async def test_a_handled_decision_is_remembered(engine: Engine, lineage: Lineage) -> None:
    """What became of it, and the ledger entry that proves it, in one statement with the entry."""
    counted = database.queries(engine)
    before = counted.statements
    number = await done(engine, lambda conn: carry_out(conn, lineage))
    assert counted.statements == before + 2
    assert await lineages.looked(engine, lambda conn: decisions.handled(conn, lineage.id)) == {"4711"}
    found = await lineages.looked(engine, lambda conn: decisions.find(conn, lineage, "4711"))
    assert found is not None
    assert found == replace(HANDLED, ledger_id=number, uid="uid-d")
    (entry,) = [each for each in await samples.entries(engine) if str(each.id) == number]
    assert (entry.key, entry.uid, entry.action, entry.actor) == (DECISION, "uid-d", "Handled", "bob")
    assert entry.details == {
        "id": str(lineage.id),
        "requestId": "4711",
        "action": "Rollback",
        "outcome": "Done",
        "message": "v1 is active.",
        "from": 2,
        "to": 1,
        "reason": "It is loud",
    }
    assert await lineages.looked(engine, lambda conn: decisions.find(conn, lineage, "4712")) is None


async def test_a_decision_that_comes_back_does_nothing(engine: Engine, lineage: Lineage) -> None:
    """Created anew from Git or a backup, after the version was changed again: nothing moves (A-AP-6)."""
    await done(engine, lambda conn: carry_out(conn, lineage))
    rolled_forward = await lineages.activate(engine, 2)
    entries = await samples.entries(engine)
    with pytest.raises(Conflict):
        await done(engine, lambda conn: carry_out(conn, rolled_forward))
    assert await own(engine) == rolled_forward
    assert await samples.entries(engine) == entries


async def test_of_many_who_carry_it_out_one_does(engine: Engine, lineage: Lineage) -> None:
    """Twenty at the same moment: one deployment, one entry."""

    async def attempt() -> bool:
        try:
            await done(engine, lambda conn: carry_out(conn, lineage))
        except Conflict:
            return False
        return True

    assert (await asyncio.gather(*(attempt() for _ in range(20)))).count(True) == 1
    assert [each.revision for each in (await own(engine)).deployments] == [1, 2]
    assert [action for _, action, _ in await lineages.told(engine)].count("Handled") == 1


async def test_a_decision_that_fails_was_not_handled(engine: Engine, lineage: Lineage) -> None:
    """Its effect cannot be had: it is not remembered either, and is tried again."""

    async def overtaken(conn: Connection) -> None:
        await decisions.handle(conn, lineage, DECISION, "uid-d", HANDLED, actor="bob")
        await deployments.activate(conn, lineage, 99, cause=Cause.ROLLBACK, actor="bob")

    with pytest.raises(Conflict):
        await done(engine, overtaken)
    assert await lineages.looked(engine, lambda conn: decisions.find(conn, lineage, "4711")) is None
    assert await own(engine) == lineage


async def test_an_id_is_of_its_workflow(engine: Engine, lineage: Lineage) -> None:
    """Two workflows may have decisions of one id; a decision about a deleted workflow is not handled."""
    other = await lineages.have(engine, "other", of=samples.owner("other"))
    for seen in (lineage, other):
        await done(
            engine,
            lambda conn, seen=seen: decisions.handle(  # type: ignore[misc]
                conn, seen, DECISION, "uid-d", HANDLED, actor="bob"
            ),
        )
    await done(engine, lambda conn: workflows.delete(conn, other.id, samples.owner("other"), actor=ACTOR))
    late = replace(HANDLED, request_id="4713")
    with pytest.raises(Conflict):
        await done(engine, lambda conn: decisions.handle(conn, other, DECISION, "uid-d", late, actor="bob"))


async def test_a_workflow_that_is_made_again_is_safe_from_old_decisions(engine: Engine, lineage: Lineage) -> None:
    """Deleted and made again, with all its decisions from Git: none of them is about the new one (A-AP-6)."""
    await done(engine, lambda conn: carry_out(conn, lineage))
    await done(engine, lambda conn: workflows.delete(conn, lineage.id, samples.owner("high-cpu"), actor=ACTOR))
    again = await lineages.have(engine, of=samples.owner("high-cpu", "uid-of-the-next"))
    found = await lineages.looked(engine, lambda conn: decisions.find(conn, again, "4711"))
    assert found is not None
    assert replace(found, ledger_id=None, uid=None) == HANDLED
    elsewhere = await lineages.have(engine, "other", of=samples.owner("other"))
    assert await lineages.looked(engine, lambda conn: decisions.find(conn, elsewhere, "4711")) is None


async def test_a_decision_is_given_back_to_an_older_dump(engine: Engine, lineage: Lineage) -> None:
    """The object says that it was handled: that is believed, and nothing is carried out a second time (A-REV-13)."""
    await done(engine, lambda conn: decisions.recover(conn, lineage, DECISION, "uid-d", HANDLED, actor="ann"))
    found = await lineages.looked(engine, lambda conn: decisions.find(conn, lineage, "4711"))
    assert found is not None
    assert replace(found, ledger_id=None, uid=None) == HANDLED
    assert (await lineages.told(engine))[-1][:2] == ("WorkflowDecision", "Recovered")
    assert await own(engine) == lineage


async def test_notes_are_only_told(engine: Engine, lineage: Lineage) -> None:
    """A note changes nothing but the ledger (A-NOTE-1)."""
    await done(engine, lambda conn: decisions.note(conn, lineage, 1, "Watch the limit", actor="ann"))
    assert await own(engine) == lineage
    assert (await lineages.told(engine))[-1] == ("Workflow", "Noted", {"number": 1, "reason": "Watch the limit"})
