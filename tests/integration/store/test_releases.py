"""What becomes of a version on its way to all runs: each word is kept once with its entry, and who is slower gets Conflict."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest

from integration.store import lineages, samples
from integration.store.lineages import ACTOR, done, looked, own
from keep_operator.domain import binding
from keep_operator.domain import canary as rules
from keep_operator.domain.binding import Asked
from keep_operator.domain.canary import Question, Stats
from keep_operator.domain.effects import CheckItem, Review
from keep_operator.domain.execution import Mode, Reason, Run
from keep_operator.domain.history import Canary, Hold, Lineage, Reference
from keep_operator.errors import Conflict
from keep_operator.store import deployments, executions, releases, revisions, runs, workflows
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.runs import Requested

pytestmark = pytest.mark.integration

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
BEGUN: Final = Canary(3, 2, "[]", 0, NOW, 20, NOW, NOW, sticky_key=None)
GONE_ON: Final = replace(BEGUN, step=1, weight=50, step_since=NOW + timedelta(minutes=1))
PAUSED: Final = rules.pause(BEGUN, NOW + timedelta(seconds=1))

Write = Callable[[Connection], Awaitable[None]]


@pytest.fixture
async def lineage(engine: Engine) -> Lineage:
    """Workflow monitoring/high-cpu with versions A, B, C, of which the second is active after the first."""
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="ABC")
    await lineages.activate(engine, 1)
    return await lineages.activate(engine, 2)


async def tried(engine: Engine, canary: Canary = BEGUN) -> Lineage:
    """The third version is tried beside the second."""
    seen = await own(engine)
    await done(engine, lambda conn: releases.set_canary(conn, seen, canary, actor=ACTOR))
    return await own(engine)


async def last(engine: Engine) -> tuple[str, dict[str, Any]]:
    """The newest entry about a workflow."""
    _, action, details = (await lineages.told(engine))[-1]
    return action, details


async def refused(engine: Engine, write: Write) -> None:
    """It is too late for this, and nothing of it is written."""
    before, entries = await own(engine), await samples.entries(engine)
    with pytest.raises(Conflict):
        await done(engine, write)
    assert (await own(engine), await samples.entries(engine)) == (before, entries)


async def ran(
    engine: Engine, lineage: Lineage, number: int, *reasons: Reason | None, mode: Mode = "Live", took_s: float = 1.0
) -> list[Run]:
    """Runs of a version that end so; None: it is under way."""
    made = []
    for reason in reasons:
        asked = Asked("Manual", str(uuid4()), "ann", reference=Reference(number=number), mode=mode, unreleased=True)
        got = await done(engine, lambda conn, asked=asked: runs.request(conn, lineage.id, asked))  # type: ignore[misc]
        assert isinstance(got, Requested)
        made.append(got.run)
        if reason is Reason.CANCELLED:
            await done(engine, lambda conn, got=got: runs.cancel(conn, got.run.id, message=""))  # type: ignore[misc]
        elif reason is not None:
            claim = await done(engine, lambda conn, got=got: executions.claim(conn, got.run.id, "w"))  # type: ignore[misc]
            assert claim is not None
            await done(engine, lambda conn, it=claim.run, why=reason: executions.end(conn, it, why, ""))  # type: ignore[misc]
            await lineages.run(
                engine,
                f"UPDATE keep_operator.run SET started_at = completed_at - interval '{took_s} s' "  # noqa: S608
                f"WHERE id = '{got.run.id}'",
            )
    return made


async def test_a_canary_is_read_as_it_was_written(engine: Engine, lineage: Lineage) -> None:
    """It begins, goes on, stands still and ends; each has its entry, and the last look knows all of it."""
    begun = await tried(engine, replace(BEGUN, sticky_key="inputs.host"))
    assert begun.canary == replace(BEGUN, sticky_key="inputs.host")
    told = {"candidate": 3, "stable": 2, "paused": None, "failedMeasurements": 0, "reason": ""}
    assert await last(engine) == ("CanaryStarted", told | {"step": 0, "weight": 20})
    moved = await tried(engine, GONE_ON)
    assert moved.canary == GONE_ON
    assert await last(engine) == ("CanaryMoved", told | {"step": 1, "weight": 50})
    standing = await tried(engine, rules.pause(GONE_ON, NOW))
    assert standing.canary is not None and standing.canary.paused_since == NOW
    assert (await last(engine))[1]["paused"] == "CanaryPaused"
    await done(engine, lambda conn: releases.end_canary(conn, standing, "Aborted", actor="bob", reason="It is loud"))
    ended = {"candidate": 3, "stable": 2, "step": 1, "weight": 50, "outcome": "Aborted", "reason": "It is loud"}
    assert await last(engine) == ("CanaryEnded", ended)
    assert (await own(engine)).canary is None


@pytest.mark.parametrize("meanwhile", ["ended", "paused", "moved", "rejected", "denied", "another active", "renewed"])
async def test_a_canary_is_moved_only_where_it_was_seen(engine: Engine, lineage: Lineage, meanwhile: str) -> None:
    """Between the look and the step somebody aborts, pauses, rejects, denies or promotes: his word counts."""
    seen = await tried(engine)
    match meanwhile:
        case "ended":
            await done(engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="bob"))
        case "paused":
            await tried(engine, PAUSED)
        case "moved":
            await tried(engine, GONE_ON)
        case "rejected":
            await done(engine, lambda conn: revisions.reject(conn, seen, 3, verdict="RejectedByUser", actor="bob"))
        case "denied":
            await done(engine, lambda conn: releases.deny(conn, seen, 3, "DeniedByPeer", actor="bob"))
        case "another active":
            await lineages.activate(engine, 1)
        case _:
            await tried(engine, replace(BEGUN, began=NOW + timedelta(hours=1)))
    await refused(engine, lambda conn: releases.set_canary(conn, seen, GONE_ON, actor=ACTOR))


@pytest.mark.parametrize("meanwhile", ["ended", "paused", "moved"])
async def test_a_canary_ends_only_where_it_was_seen(engine: Engine, lineage: Lineage, meanwhile: str) -> None:
    """An operator that lags takes nobody's canary away, and ends none twice."""
    seen = await tried(engine)
    if meanwhile == "ended":
        await done(engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="bob"))
    else:
        await tried(engine, PAUSED if meanwhile == "paused" else GONE_ON)
    await refused(engine, lambda conn: releases.end_canary(conn, seen, "Failed", actor=ACTOR))


async def test_of_many_who_begin_or_move_it_one_does(engine: Engine, lineage: Lineage) -> None:
    """Ten at the same moment: one canary, one entry, and so again for its next step."""
    for canary, action in ((BEGUN, "CanaryStarted"), (GONE_ON, "CanaryMoved")):
        seen = await own(engine)

        async def attempt(seen: Lineage = seen, canary: Canary = canary) -> bool:
            try:
                await done(engine, lambda conn: releases.set_canary(conn, seen, canary, actor=ACTOR))
            except Conflict:
                return False
            return True

        assert (await asyncio.gather(*(attempt() for _ in range(10)))).count(True) == 1
        assert [told for _, told, _ in await lineages.told(engine)].count(action) == 1
        assert (await own(engine)).canary == canary


async def test_what_people_say_of_a_version(engine: Engine, lineage: Lineage) -> None:
    """Each has one word, the last one; with the groups in which it was said."""
    for who, approves, groups in (("bob", True, ("sre",)), ("eve", True, ()), ("bob", False, ())):
        said = Review(3, approves, who, groups)
        await done(engine, lambda conn, said=said: releases.review(conn, lineage, said, actor=said.actor))  # type: ignore[misc]
    found = (await own(engine)).reviews
    assert {(each.number, each.actor, each.approves, each.groups) for each in found} == {
        (3, "bob", False, ()),
        (3, "eve", True, ()),
    }
    assert await last(engine) == ("Reviewed", {"number": 3, "by": "bob", "decision": "Deny", "reason": ""})


@pytest.mark.parametrize("first", ["approve", "deny"])
async def test_the_first_verdict_is_final(engine: Engine, lineage: Lineage, first: str) -> None:
    """Approved and denied at the same moment: one of them counts, for ever, and neither twice."""
    say: dict[str, Write] = {
        "approve": lambda conn: releases.approve(conn, lineage, 3, "ApprovedByPeers", actor="bob"),
        "deny": lambda conn: releases.deny(conn, lineage, 3, "DeniedByPeer", actor="eve"),
    }
    await done(engine, say[first])
    action = {"approve": ("Approved", "ApprovedByPeers"), "deny": ("Denied", "DeniedByPeer")}[first]
    assert await last(engine) == (action[0], {"number": 3, "verdict": action[1], "reason": ""})
    for each in say.values():
        await refused(engine, each)
    third = (await own(engine)).revisions[2]
    assert (third.approved, third.denied) == (
        ("ApprovedByPeers", None) if first == "approve" else (None, "DeniedByPeer")
    )


async def test_a_denied_content_becomes_active_under_no_number(engine: Engine, lineage: Lineage) -> None:
    """A-AP-4: the fourth version has the content that the third was denied for."""
    await lineages.add(engine, "D")
    await lineages.add(engine, "C")
    await done(engine, lambda conn: releases.deny(conn, lineage, 3, "DeniedByPeer", actor="eve"))
    with pytest.raises(Conflict):
        await lineages.activate(engine, 5)
    seen = await own(engine)
    await refused(engine, lambda conn: releases.set_canary(conn, seen, replace(BEGUN, candidate=5), actor=ACTOR))


async def test_an_item_is_ticked_and_may_fall_open_again(engine: Engine, lineage: Lineage) -> None:
    """What is found true by itself may become false; who said so and why is kept."""
    for item in (CheckItem(3, "told", True, "bob", "by mail"), CheckItem(3, "told", False, "keep-operator", "no")):
        await done(engine, lambda conn, item=item: releases.check(conn, lineage, item, actor=item.by))  # type: ignore[misc]
    (found,) = (await own(engine)).checks
    assert (found.number, found.item, found.done, found.by, found.message) == (3, "told", False, "keep-operator", "no")
    told = {"number": 3, "item": "told", "done": False, "by": "keep-operator", "message": "no"}
    assert await last(engine) == ("ItemChecked", told)


async def test_nothing_is_said_of_what_another_owns(engine: Engine, lineage: Lineage) -> None:
    """The workflow was handed over between look and write: every one of these writes is refused."""
    seen = await tried(engine)
    assert lineage.owner is not None
    heir = samples.owner("heir")
    await done(engine, lambda conn: workflows.hand_over(conn, lineage.id, samples.owner("high-cpu"), heir, actor=ACTOR))
    writes: list[Write] = [
        lambda conn: releases.set_canary(conn, seen, GONE_ON, actor=ACTOR),
        lambda conn: releases.end_canary(conn, seen, "Failed", actor=ACTOR),
        lambda conn: releases.review(conn, seen, Review(3, True, "bob"), actor="bob"),
        lambda conn: releases.approve(conn, seen, 3, "ApprovedByPeers", actor="bob"),
        lambda conn: releases.deny(conn, seen, 3, "DeniedByPeer", actor="bob"),
        lambda conn: releases.check(conn, seen, CheckItem(3, "told", True, "bob"), actor="bob"),
        lambda conn: releases.watch(conn, seen, NOW),
    ]
    entries = await samples.entries(engine)
    for write in writes:
        with pytest.raises(Conflict):
            await done(engine, write)
    assert await samples.entries(engine) == entries
    assert (await own(engine, heir)).canary == BEGUN


OK, BAD, GONE = Reason.COMPLETED, Reason.STEP_FAILED, Reason.CANCELLED


async def test_an_analysis_counts_runs_that_ended(engine: Engine, lineage: Lineage) -> None:
    """A-CAN-4: of that version and mode, asked for in that time; neither cancelled ones nor those that are under way."""
    await ran(engine, lineage, 2, OK, BAD)
    early, late = await ran(engine, lineage, 3, OK, BAD)
    await ran(engine, lineage, 3, BAD, OK, GONE, None, took_s=20.0)
    await ran(engine, lineage, 3, OK, OK, mode="DryRun")
    asked = {
        "all": Question(3, early.queued_at),
        "since": Question(3, late.queued_at),
        "between": Question(3, early.queued_at, late.queued_at),
        "stable": Question(2, NOW - timedelta(days=9_000)),
        "dry": Question(3, early.queued_at, None, "DryRun"),
        "none": Question(1, early.queued_at),
        "later": Question(3, datetime.now(UTC) + timedelta(minutes=5)),
    }
    counted = await looked(engine, lambda conn: releases.count(conn, lineage, asked))
    assert {name: (it.runs, it.failures) for name, it in counted.items()} == {
        "all": (4, 2),
        "since": (3, 2),
        "between": (1, 0),
        "stable": (2, 1),
        "dry": (2, 0),
        "none": (0, 0),
        "later": (0, 0),
    }
    assert counted["none"] == Stats()
    assert counted["between"].p95_s == pytest.approx(1.0)
    assert counted["all"].p95_s == pytest.approx(20.0)
    assert await looked(engine, lambda conn: releases.count(conn, lineage, {})) == {}


async def split(engine: Engine, lineage: Lineage, keys: Sequence[str]) -> dict[str, int]:
    """Which version a run with each of these keys gets, with a new run each time."""
    found: dict[str, int] = {}
    for key in keys:
        asked = Asked("Alert", str(uuid4()), "keep", event={"name": key}, fingerprint=key)
        got = await done(engine, lambda conn, asked=asked: runs.request(conn, lineage.id, asked))  # type: ignore[misc]
        assert isinstance(got, Requested)
        assert got.run.selection == ("Canary" if got.run.revision == 3 else "Active")
        found[key] = got.run.revision
    return found


async def test_the_split_of_ten_thousand_keys(engine: Engine, lineage: Lineage) -> None:
    """A-CAN-1: 20 % within the binomial bound; the database's runs are split as the rule says, and more weight moves none back."""
    content = lineages.hash_of("C")
    keys = [f"host-{number}" for number in range(10_000)]
    share = sum(rules.chooses(key, lineage.id, content, 20) for key in keys)
    assert abs(share - 2_000) <= 120
    sample = keys[:150]
    await tried(engine)
    before = await split(engine, lineage, sample)
    assert before == {key: 3 if rules.chooses(key, lineage.id, content, 20) else 2 for key in sample}
    await tried(engine, GONE_ON)
    after = await split(engine, lineage, sample)
    assert after == {key: 3 if rules.chooses(key, lineage.id, content, 50) else 2 for key in sample}
    assert {key for key in sample if before[key] == 3} < {key for key in sample if after[key] == 3}


async def test_no_run_of_a_canary_that_is_over(engine: Engine, lineage: Lineage) -> None:
    """Runs are asked for all the time while it ends: whoever comes afterwards gets the stable version, and nobody is turned away."""
    seen = await tried(engine, replace(BEGUN, weight=100))
    over = asyncio.Event()
    late: list[int] = []

    async def asking() -> None:
        while len(late) < 10:
            was_over = over.is_set()
            asked = Asked("Manual", str(uuid4()), "ann")
            try:
                got = await done(engine, lambda conn, asked=asked: runs.request(conn, lineage.id, asked))  # type: ignore[misc]
            except Conflict:
                continue  # it is asked for again
            assert isinstance(got, Requested), got
            if was_over:
                late.append(got.run.revision)

    async def ending() -> None:
        await asyncio.sleep(0.1)
        await done(engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="bob"))
        over.set()

    async with asyncio.timeout(60):
        await asyncio.gather(ending(), *(asking() for _ in range(4)))
    assert set(late) == {2}


async def test_a_canary_that_ends_between_two_looks_turns_no_run_away(
    engine: Engine, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was to be the candidate's, which has none any more: it is asked for again, and gets the stable version."""
    seen = await tried(engine, replace(BEGUN, weight=100))
    is_tried = binding.is_tried

    def and_then_it_ends(asked: Asked, workflow_id: UUID, looked: binding.Tried | None) -> bool:
        asyncio.run_coroutine_threadsafe(
            done(engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="bob")), loop
        ).result(10)
        return is_tried(asked, workflow_id, looked)

    loop = asyncio.get_running_loop()
    asked = Asked("Manual", "once", "ann")
    with monkeypatch.context() as patch:
        patch.setattr(binding, "is_tried", and_then_it_ends)
        with pytest.raises(Conflict):
            await done(engine, lambda conn: runs.request(conn, lineage.id, asked))
    got = await done(engine, lambda conn: runs.request(conn, lineage.id, asked))
    assert isinstance(got, Requested)
    assert (got.run.revision, got.run.selection) == (2, "Active")


async def test_runs_in_flight_finish_on_their_version(engine: Engine, lineage: Lineage) -> None:
    """A-RUN-3: the canary is over and its content rejected; what has begun has its version, and ends as it ends."""
    seen = await tried(engine, replace(BEGUN, weight=100))
    got = await done(engine, lambda conn: runs.request(conn, lineage.id, Asked("Manual", "1", "ann")))
    assert isinstance(got, Requested) and got.run.revision == 3
    hold = Hold(lineages.hash_of("C"), 2, ACTOR, "", NOW, automatic=True)

    async def take_back(conn: Connection) -> None:
        await revisions.reject(conn, seen, 3, verdict="AnalysisFailed", actor=ACTOR)
        await deployments.set_hold(conn, seen, hold, actor=ACTOR)
        await releases.end_canary(conn, seen, "Failed", actor=ACTOR)

    await done(engine, take_back)
    claim = await done(engine, lambda conn: executions.claim(conn, got.run.id, "w"))
    assert claim is not None
    assert (claim.run.revision, claim.definition) == (3, lineages.definition_of("C"))
    assert (await own(engine)).running == {3: 1}


@pytest.mark.parametrize(
    ("watched", "heard"),
    [("canary", True), ("until later", True), ("until before", False), ("nothing", False)],
)
async def test_the_end_of_a_run_is_told_while_somebody_watches(
    engine: Engine, lineage: Lineage, database_url: str, watched: str, heard: bool
) -> None:
    """A-CAN-5 begins with a word of the database, once for each run that ends; all others cost nothing."""
    if watched == "canary":
        await tried(engine)
    elif watched != "nothing":
        until = datetime.now(UTC) + timedelta(hours=1 if watched == "until later" else -1)
        await done(engine, lambda conn: releases.watch(conn, lineage, until))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listening:
        await listening.execute("LISTEN keep_operator_run_ended")
        await ran(engine, lineage, 2, OK, GONE)
        await listening.execute("NOTIFY keep_operator_run_ended, 'last'")
        told = []
        async for note in listening.notifies(timeout=5):
            if note.payload == "last":
                break
            told.append(note.payload)
    assert len(told) == (2 if heard else 0)
    assert all('"name" : "high-cpu"' in each and '"namespace" : "monitoring"' in each for each in told)


async def test_what_was_written_by_hand_is_checked(database_url: str, engine: Engine, lineage: Lineage) -> None:
    """No canary of a version against itself, none of more than everything, no pause without its time."""
    values = "'{id}', {candidate}, 2, '[]', 0, now(), {weight}, now(), now(), 0, {paused}, NULL, NULL"
    for fields in ({"candidate": 2}, {"weight": 101}, {"paused": "'CanaryPaused'"}, {"candidate": 9}):
        given = {"id": lineage.id, "candidate": 3, "weight": 10, "paused": "NULL"} | fields
        async with await psycopg.AsyncConnection.connect(database_url) as conn:
            with pytest.raises(psycopg.IntegrityError, match="canary_"):
                await conn.execute(f"INSERT INTO keep_operator.canary VALUES ({values.format(**given)})")  # noqa: S608
