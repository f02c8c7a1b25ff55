"""Workflows read the alerts of their tenant, and make alerts that are like any others; none of it goes on without end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from sqlalchemy import text

from integration.console import started
from integration.runner import scene
from integration.store import lineages, samples
from integration.store.lineages import looked
from keep_operator.domain.events import causes
from keep_operator.domain.events.alert import read
from keep_operator.domain.execution import Run, State
from keep_operator.domain.history import Lineage
from keep_operator.errors import Unavailable
from keep_operator.runner import actions, execution
from keep_operator.runner import alerts as runner_alerts
from keep_operator.runner.actions import Call, Outcome
from keep_operator.runner.execution import Orders
from keep_operator.store import engine as database
from keep_operator.store import executions, intake, runs
from keep_operator.store.connection import Connection
from keep_operator.store.engine import Engine
from keep_operator.store.intake import Intake, Source
from unit.domain import keep_runs
from unit.domain.grammar import corpus

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ANY = {"type": "alert"}
MANUAL = {"type": "manual"}


@pytest.fixture(autouse=True)
async def tenant(engine: Engine) -> None:
    """The tenant of them all."""
    await samples.have_tenant(engine)


def brings(*rows: Any) -> dict[str, Any]:
    """A step that has these results."""
    return scene.step("ask", given={"command_output": list(rows)})


def makes(name: str = "make", **given: Any) -> dict[str, Any]:
    """An action that makes an alert of each row that there is."""
    alert = {"name": "disk of {{ host }}", "severity": "critical", "labels": {"host": "{{ host }}"}}
    return scene.step(name, "keep", given={"alert": alert, **given})


async def have(engine: Engine, name: str, trigger: dict[str, Any], *actions: dict[str, Any], **more: Any) -> Lineage:
    """A workflow, active."""
    return await started.have(engine, name, trigger, **{"actions": list(actions)} if actions else {}, **more)


async def carried_out(engine: Engine, run_id: UUID, at: datetime = NOW) -> Run:
    """The run, once a worker has carried it out at that time."""
    means = replace(scene.means(engine), intake=Intake(engine, lambda: at, timedelta(days=1)))
    ended = await execution.execute(means, run_id, Orders())
    assert ended is not None
    return ended


async def ran(engine: Engine, lineage: Lineage, at: datetime = NOW, **fields: Any) -> Run:
    """A run by hand, carried out."""
    return await carried_out(engine, (await scene.asked(engine, lineage, **fields)).id, at)


async def all_ended(engine: Engine, most: int = 50) -> list[tuple[str, str]]:
    """Everything that waits has been carried out, and what that has started; workflows and triggers, in their order."""
    for _ in range(most):
        waiting = list(await looked(engine, lambda conn: conn.execute(text(WAITING))))
        if not waiting:
            return [tuple(row) for row in await looked(engine, lambda conn: conn.execute(text(ALL)))]
        await carried_out(engine, waiting[0].id)
    raise AssertionError("it does not end")


ALL = """SELECT w.external_name, run.trigger FROM keep_operator.run JOIN keep_operator.workflow w ON w.id = run.workflow_id
    ORDER BY run.id"""
WAITING = "SELECT id FROM keep_operator.run WHERE state = 'Queued' ORDER BY id"


async def known(engine: Engine) -> list[tuple[str, str, str]]:
    """Name, status and severity of every alert."""
    query = "SELECT last_event ->> 'name', status, severity FROM keep_operator.alert ORDER BY 1"
    return [tuple(row) for row in await looked(engine, lambda conn: conn.execute(text(query)))]


async def posted(engine: Engine, *raw: dict[str, Any], tenant: str = "keep") -> list[intake.Taken]:
    """A machine posts alerts."""
    means = Intake(engine, lambda: NOW, timedelta(days=1))
    events = [read(each, "body", NOW) for each in raw]
    return [each async for each in intake.take(means, Source(tenant, "token t"), events)]


async def last(engine: Engine, run: Run) -> tuple[Any, str]:
    """What its last step brought, and its message."""
    step = (await scene.steps(engine, run))[-1]
    return step.result, step.message or ""


async def test_an_alert_is_made_of_each_result(engine: Engine) -> None:
    """Like one that is posted: it starts the workflows whose triggers match, once; the same again starts nothing."""
    critical = {"type": "alert", "cel": 'severity == "critical" && labels.host == "db-1"'}
    listener = await have(engine, "listener", critical)
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"}, {"host": "db-2"})])
    run = await ran(engine, maker)
    assert run.state is State.SUCCEEDED
    assert await known(engine) == [("disk of db-1", "firing", "critical"), ("disk of db-2", "firing", "critical")]
    result, message = await last(engine, run)
    assert [(each["name"], each["outcome"]) for each in result] == [
        ("disk of db-1", "created"),
        ("disk of db-2", "created"),
    ]
    assert "started Workflow monitoring/listener v1" in message
    (row,) = await looked(engine, lambda conn: conn.execute(text(WAITING)))
    woken = await looked(engine, lambda conn: runs.get(conn, row.id))
    assert woken is not None
    assert (woken.workflow_id, woken.trigger, woken.requested_by) == (listener.id, "Alert", f"run {run.id}")
    again = await ran(engine, maker)
    assert [each["outcome"] for each in (await last(engine, again))[0]] == ["unchanged", "unchanged"]
    assert len(list(await looked(engine, lambda conn: conn.execute(text(WAITING))))) == 1


async def test_what_is_no_longer_there_is_resolved(engine: Engine) -> None:
    """Of those that the action made; with read_only nothing is, and alerts of others are left alone."""
    await posted(engine, {"name": "disk of web-1"})
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"}, {"host": "db-2"})])
    await ran(engine, maker)
    await started.change(engine, "maker", MANUAL, steps=[brings({"host": "db-2"})], actions=[makes(read_only=True)])
    await ran(engine, maker)
    assert [status for _, status, _ in await known(engine)] == ["firing"] * 3
    await started.change(engine, "maker", MANUAL, steps=[brings({"host": "db-2"})], actions=[makes()])
    run = await ran(engine, maker)
    assert await known(engine) == [
        ("disk of db-1", "resolved", "critical"),
        ("disk of db-2", "firing", "critical"),
        ("disk of web-1", "firing", "info"),
    ]
    assert [each["outcome"] for each in (await last(engine, run))[0]] == ["unchanged", "resolved"]


async def test_an_alert_fires_when_it_has_been_there_for_so_long(engine: Engine) -> None:
    """With ``for`` it is pending first; when it goes and comes back it waits anew."""
    maker = await have(engine, "maker", MANUAL, makes(**{"for": "5m"}), steps=[brings({"host": "db-1"})])
    told = []
    for minutes in (0, 4, 6):
        await ran(engine, maker, NOW + timedelta(minutes=minutes))
        told += [status for _, status, _ in await known(engine)]
    assert told == ["pending", "pending", "firing"]
    for rows, status in (([], "resolved"), ([{"host": "db-1"}], "pending")):
        step = scene.step("ask", given={"command_output": rows})
        await started.change(engine, "maker", MANUAL, steps=[step], actions=[makes(**{"for": "5m"})])
        await ran(engine, maker, NOW + timedelta(minutes=20))
        assert [each for _, each, _ in await known(engine)] == [status]


QUERIES: Sequence[tuple[dict[str, Any], list[str]]] = (
    ({"filters": [{"key": "severity", "value": "critical"}]}, ["a", "b"]),
    ({"filters": [{"key": "ticket", "value": "T1"}]}, ["b"]),
    ({"filters": [{"key": "severity", "value": "critical"}], "limit": "1"}, ["b"]),
    ({"version": 2, "filter": 'labels.team == "shop"'}, ["a", "c"]),
    ({"version": 2, "filter": "severity > 'info' && name.startsWith('a')"}, ["a"]),
)


@pytest.mark.parametrize(("given", "names"), QUERIES)
async def test_alerts_are_found(engine: Engine, given: dict[str, Any], names: list[str]) -> None:
    """By filters or CEL, with what was added to them; of the run's own tenant and of no other."""
    await samples.have_tenant(engine, "other", of=None)
    await posted(
        engine,
        {"name": "a", "severity": "critical", "labels": {"team": "shop"}},
        {"name": "b", "severity": "critical"},
        {"name": "c", "labels": {"team": "shop"}},
    )
    await posted(engine, {"name": "d", "severity": "critical", "labels": {"team": "shop"}}, tenant="other")
    enrich = """UPDATE keep_operator.alert SET enrichments = '{"ticket": {"value": "T1"}}', updated_at = now() + '1 s'
        WHERE last_event ->> 'name' = 'b'"""
    await lineages.run(engine, enrich)
    reader = await have(engine, "reader", MANUAL, steps=[scene.step("ask", "keep", given=given)])
    run = await ran(engine, reader, datetime.now(UTC) + timedelta(seconds=5))
    result = (await scene.steps(engine, run))[0].result
    assert sorted(each["name"] for each in result) == names
    for each in result:
        added = {"ticket": "T1"} if each["name"] == "b" else {}
        assert (each["enrichments"], each["alert_enrichment"]["enrichments"]) == (added, added)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "the parameter filters is needed"),
        ({"filters": ["a"]}, "each of the filters must be an object with key and value"),
        ({"version": 2}, "the parameter filter is needed"),
        ({"version": 2, "filter": "a =="}, "filter "),
        ({"version": 3}, "version must be 1 (filters) or 2 (filter)"),
        ({"filters": [{"key": "a", "value": "b"}], "time_delta": 0}, "time_delta must be a number of days"),
        ({"filters": [{"key": "a", "value": "b"}], "timerange": {"from": "soon"}}, "timerange.from must be a time"),
    ],
)
async def test_a_question_that_cannot_be_meant_so(engine: Engine, given: dict[str, Any], told: str) -> None:
    """The step fails, and names the parameter."""
    reader = await have(engine, "reader", MANUAL, steps=[scene.step("ask", "keep", given=given)])
    run = await ran(engine, reader)
    assert run.state is State.FAILED
    assert f"keep: {told}" in (run.message or "")


async def test_an_old_alert_is_found_while_it_fires(engine: Engine) -> None:
    """It has not ended, though it was last heard of days ago; one that has ended is of its time."""
    await posted(engine, {"name": "fires"}, {"name": "ended", "status": "resolved"})
    age = (
        "UPDATE keep_operator.alert SET updated_at = now() - interval '3 days', expires_at = now() + interval '9 days'"
    )
    await lineages.run(engine, age)
    for given, names in (({}, ["fires"]), ({"time_delta": 7}, ["ended", "fires"])):
        question = {"version": 2, "filter": "name != ''", **given}
        reader = await have(engine, f"reader-{len(names)}", MANUAL, steps=[scene.step("ask", "keep", given=question)])
        run = await ran(engine, reader, datetime.now(UTC))
        assert sorted(each["name"] for each in (await scene.steps(engine, run))[0].result) == names


def raises(name: str) -> dict[str, Any]:
    """An action that makes one alert, whatever has started its workflow, another one each time."""
    alert = {"name": f"by {name}", "after": "{{ alert.name }} {{ alert.after }}"}
    return scene.step("raise", "keep", given={"alert": alert})


async def test_a_workflow_does_not_start_itself(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Its alert matches its own trigger; the run says that it started nothing, and so does the log."""
    await have(engine, "echo", ANY, raises("echo"))
    await posted(engine, {"name": "first"})
    assert await all_ended(engine) == [("echo", "Alert")]
    (row,) = await looked(engine, lambda conn: conn.execute(text("SELECT id FROM keep_operator.run")))
    (step,) = await looked(engine, lambda conn: executions.steps(conn, row.id))
    assert "does not start Workflow monitoring/echo v1: it led to this alert" in (step.message or "")
    assert "starts no more workflows" in caplog.text
    assert [name for name, *_ in await known(engine)] == ["by echo", "first"]


async def test_workflows_that_start_each_other_come_to_an_end(engine: Engine) -> None:
    """Each is started by the alert of the other, whatever it says; neither runs twice for one alert from outside."""
    for name in ("ping", "pong"):
        await have(engine, name, {"type": "alert", "cel": f"name != 'by {name}'"}, raises(name))
    await posted(engine, {"name": "by ping"})
    assert await all_ended(engine) == [("pong", "Alert"), ("ping", "Alert")]


async def test_a_chain_of_workflows_has_a_length(engine: Engine) -> None:
    """Each is started by the one before; behind the last that may be, the alert is there and starts nothing."""
    length = causes.LONGEST + 3
    for number in range(length):
        trigger = {"type": "alert", "cel": f"name == 'by w{number - 1}'"}
        await have(engine, f"w{number}", trigger, raises(f"w{number}"))
    await posted(engine, {"name": "by w-1"})
    assert [name for name, _ in await all_ended(engine)] == [f"w{number}" for number in range(causes.LONGEST)]
    assert f"by w{causes.LONGEST - 1}" in [name for name, *_ in await known(engine)]
    query = "SELECT message FROM keep_operator.run_step ORDER BY started_at DESC LIMIT 1"
    (row,) = await looked(engine, lambda conn: conn.execute(text(query)))
    assert "5 workflows led to it, which is as many as may" in row.message


async def test_a_chain_cannot_be_posted_or_written_away(engine: Engine) -> None:
    """Who posts an alert does not say what led to it; and no workflow takes it from one by enriching it."""
    lineage = await have(engine, "echo", ANY, raises("echo"))
    (taken,) = await posted(engine, {"name": "forged", causes.FIELD: [str(lineage.id)]})
    assert [listener.name for listener, _ in taken.runs] == ["echo"]
    query = """UPDATE keep_operator.alert SET enrichments = '{"workflowChain": {"value": []}}'"""
    await lineages.run(engine, query)
    assert await all_ended(engine) == [("echo", "Alert")]


async def test_a_dry_run_makes_no_alert(engine: Engine) -> None:
    """It shows which there would be."""
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"})])
    run = await ran(engine, maker, mode="DryRun")
    assert await known(engine) == []
    result, message = await last(engine, run)
    assert [each["name"] for each in result["parameters"]["alert"]] == ["disk of db-1"]
    assert "dry run" in message


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("inside", "at"), [(execution, 1), (execution, 2), (execution, 3), (intake, 1), (intake, 2)])
async def test_a_worker_may_die_while_it_makes_alerts(engine: Engine, inside: Any, at: int, committed: bool) -> None:
    """Another one goes on: each alert is there once, and what it starts has been started once."""
    await have(engine, "listener", ANY)
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"}, {"host": "db-2"})])
    run = await scene.asked(engine, maker)
    assert await scene.until_killed(engine, run, at, committed=committed, inside=inside)
    await execution.execute(scene.means(engine), run.id, Orders())
    assert (await scene.now(engine, run)).state is State.SUCCEEDED
    assert await known(engine) == [("disk of db-1", "firing", "critical"), ("disk of db-2", "firing", "critical")]
    assert await all_ended(engine) == [("maker", "Manual"), ("listener", "Alert"), ("listener", "Alert")]


@pytest.mark.parametrize(
    ("given", "reason", "told"),
    [
        (
            {"workflow_to_update_yaml": "workflow: {}"},
            "ActionNotSupported",
            "with workflow_to_update_yaml is not supported",
        ),
        (
            {"delete_all_other_workflows": True},
            "ActionNotSupported",
            "with delete_all_other_workflows is not supported",
        ),
        ({"alert": {"description": "who?"}}, "StepFailed", "alert[0].name is required"),
        ({"alert": {"name": "a", "labels": "b"}}, "StepFailed", "alert[0].labels must be an object"),
        ({"alert": {"name": "a"}, "for": "soon"}, "StepFailed", "for must be a time such as 30s, 5m or 1h"),
        ({"if": "True"}, "StepFailed", "the parameter alert is needed"),
    ],
)
async def test_what_cannot_be_made(engine: Engine, given: dict[str, Any], reason: str, told: str) -> None:
    """Says which parameter, or that it is not there in this runtime; nothing is made."""
    maker = await have(engine, "maker", MANUAL, scene.step("make", "keep", given=given))
    run = await ran(engine, maker)
    assert run.reason == reason
    assert told in (run.message or "")
    assert await known(engine) == []


EXAMPLES = {
    "create_alert_from_vm_metric.yml": ("Completed", ["High CPU Usage"]),
    "create_alerts_from_elastic.yml": ("Completed", ["disk is full"]),
    "create_alerts_from_mysql.yml": ("Completed", ["disk is full"]),
    "update_service_now_tickets_status.yml": ("Completed", ["ticketed"]),
    "update_workflows_from_http.yml": ("ActionNotSupported", []),
    "update_workflows_from_s3.yml": ("ActionNotSupported", []),
}


@corpus.needs_keep
@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_examples_of_keep_that_use_its_alerts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Read and made for real, with recorded answers of all other providers; those that make workflows say that they cannot."""
    reason, names = EXAMPLES[name]
    (path,) = (each for each in corpus.KEEP if each.name == name)
    definition = dict(keep_runs.read(path).raw)
    if name.startswith("update_service"):
        await posted(engine, {"name": "ticketed"}, {"name": "without"})
        enrich = """UPDATE keep_operator.alert SET enrichments = '{"ticket_type": {"value": "servicenow"},
            "ticket_id": {"value": "T1"}, "table_name": {"value": "incident"}}' WHERE last_event ->> 'name' = 'ticketed'"""
        await lineages.run(engine, enrich)
    recorded = keep_runs.recorded()["files"].get(name, {})
    calls: list[Call] = []

    async def perform(call: Call) -> Outcome:
        if call.type == "keep":
            return await actions.perform(call)
        calls.append(call)
        return Outcome(recorded.get({each["provider"]["type"]: each["name"] for each in steps}[call.type]))

    steps = [*(definition.get("steps") or ()), *(definition.get("actions") or ())]
    monkeypatch.setattr(execution, "perform", perform)
    monkeypatch.setattr(execution.Execution, "_credentials", lambda *_: ({}, {}))
    await have(engine, "example", MANUAL, **{key: definition[key] for key in ("steps", "actions")})
    run = await ran(engine, await lineages.own(engine, samples.owner("example")), datetime.now(UTC))
    assert run.reason == reason, run.message
    if name.startswith("update_service"):
        assert [call.parameters["ticket_id"] for call in calls] == ["T1"]
    else:
        assert [told for told, *_ in await known(engine)] == names


async def test_two_runs_that_make_the_same_alert_at_once(engine: Engine) -> None:
    """On two runners: it is there once, and one of them starts what it starts."""
    await have(engine, "listener", ANY)
    settings = {"run": {"concurrency": "Allow"}}
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"})], settings=settings)
    waiting = [await scene.asked(engine, maker) for _ in range(4)]
    await asyncio.gather(*(carried_out(engine, run.id) for run in waiting))
    outcomes = [each["outcome"] for run in waiting for each in (await last(engine, run))[0]]
    assert sorted(outcomes) == ["created", "unchanged", "unchanged", "unchanged"]
    assert (await all_ended(engine)).count(("listener", "Alert")) == 1


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
async def test_the_database_goes_away_while_alerts_are_made(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """The step waits for it, and goes on with the alert it was at: none is made twice, none is left out."""
    monkeypatch.setattr(runner_alerts, "RETRY_S", 0.01)
    await have(engine, "listener", ANY)
    maker = await have(engine, "maker", MANUAL, makes(), steps=[brings({"host": "db-1"}, {"host": "db-2"})])
    run = await scene.asked(engine, maker)
    away = Away(at=2, committed=committed)
    with mock.patch.object(intake, "database", away):
        await execution.execute(scene.means(engine), run.id, Orders())
    assert away.count > 2
    assert (await scene.now(engine, run)).state is State.SUCCEEDED
    assert await all_ended(engine) == [("maker", "Manual"), ("listener", "Alert"), ("listener", "Alert")]


class Away:
    """The database module, of which one transaction fails: before it is committed, or by an answer that is lost."""

    look = staticmethod(database.look)

    def __init__(self, at: int, *, committed: bool) -> None:
        self.count = 0
        self._at = at
        self._committed = committed

    @asynccontextmanager
    async def transaction(self, of: Engine) -> AsyncIterator[Connection]:
        """As `engine.transaction`."""
        self.count += 1
        failing = self.count == self._at
        async with database.transaction(of) as conn:
            yield conn
            if failing and not self._committed:
                raise Unavailable("DatabaseUnavailable", "away")
        if failing:
            raise Unavailable("DatabaseUnavailable", "the answer was lost")


async def test_an_alert_that_another_workflow_has_taken_over_is_its_own(engine: Engine) -> None:
    """By a fingerprint that is given, a workflow changes a posted alert; it goes on from there, and nobody else resolves it."""
    await posted(engine, {"name": "disk", "fingerprint": "f", "severity": "info"})
    alert = {"name": "disk", "severity": "high", "description": "since {{ alert.name }}"}
    taker = await have(engine, "taker", ANY, scene.step("take", "keep", given={"alert": alert, "fingerprint": "f"}))
    run = await ran(engine, taker, event={"name": "x", "fingerprint": "g"})
    assert [each["outcome"] for each in (await last(engine, run))[0]] == ["updated"]
    assert await known(engine) == [("disk", "firing", "high")]
    maker = await have(engine, "maker", MANUAL, makes(), steps=[scene.step("ask", given={"command_output": []})])
    await ran(engine, maker)
    assert await known(engine) == [("disk", "firing", "high")]
