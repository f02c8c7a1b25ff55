"""Machines post events, and workflows start: once, on the version whose trigger has matched, or not at all."""

import asyncio
import io
import json
import logging
import socket
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from integration.console import started
from integration.console.cluster import served
from integration.console.started import TOKEN
from integration.console.visit import Answer, Console, pages
from integration.store import lineages, samples
from integration.store.lineages import looked
from keep_operator.cluster.client import Cluster
from keep_operator.cluster.connection import Connection
from keep_operator.console import app, asked, machines, process, schemas
from keep_operator.console.doorkeeper import Doorkeeper
from keep_operator.console.ingest import ingest
from keep_operator.console.room import Room
from keep_operator.domain.events import matching
from keep_operator.domain.events.matching import Triggers
from keep_operator.domain.tenant import Token
from keep_operator.logs import JsonFormatter
from keep_operator.store import alerts, intake, tokens
from keep_operator.store import engine as database
from keep_operator.store.intake import Intake
from unit.domain.events.alerts import prometheus, webhook

pytestmark = pytest.mark.integration

ANY = {"type": "alert"}
CRITICAL = {"type": "alert", "cel": 'severity == "critical" && source == "prometheus"'}


@pytest.fixture
async def posting(console: Console) -> Console:
    """A console whose tenant accepts the machine's token."""
    await started.have_token(console.engine)
    return console


async def post(console: Console, body: Any, *, token: str | None = TOKEN, tenant: str = "keep", **more: Any) -> Answer:
    """Post a body as a machine does."""
    return await console.ask(f"/events/{tenant}", method="POST", token=token, json=body, **more)


async def taken(console: Console, body: Any, **more: Any) -> list[dict[str, Any]]:
    """What became of each event of a body that is good."""
    answer = await post(console, body, **more)
    assert answer.status == 200, answer
    return list(answer.body["events"])


async def rows(console: Console) -> list[Any]:
    """All runs, the oldest first."""
    return list(
        await looked(console.engine, lambda conn: conn.execute(text("SELECT * FROM keep_operator.run ORDER BY id")))
    )


async def test_a_webhook_of_alertmanager_starts_the_workflows_that_wait_for_it(posting: Console) -> None:
    """Of three workflows the two that match run, on their active versions, and get the alert with all that Keep gives it."""
    high = await started.have(posting.engine, "high-cpu", CRITICAL)
    await started.have(posting.engine, "other", {"type": "alert", "filters": [{"key": "source", "value": "zabbix"}]})
    await started.have(posting.engine, "every", ANY)
    (event,) = await taken(posting, webhook())
    assert (event["kind"], event["id"], event["name"], event["outcome"]) == (
        "alert",
        "f0b2c3d4e5a69788",
        "HighCPU",
        "accepted",
    )
    assert {each["workflow"] for each in event["runs"]} == {"high-cpu", "every"}
    assert (event["refused"], event["failed"]) == ([], [])
    assert high.active is not None
    (run,) = [each for each in await rows(posting) if each.workflow_id == high.id]
    assert (run.revision, run.content_hash) == (1, high.active.content_hash)
    assert (run.trigger, run.state, run.fingerprint) == ("Alert", "Queued", "f0b2c3d4e5a69788")
    assert (run.event["labels"]["instance"], run.event["trigger"]) == ("web-1", "alert")
    assert run.event["firingStartTime"] == run.event["startedAt"] == run.event["lastReceived"]
    assert run.requested_by == f"token {started.PLACE}"


async def test_the_same_event_again_starts_nothing(posting: Console) -> None:
    """Alertmanager repeats itself; the end of the alert, and its next fire, are events of their own."""
    await started.have(posting.engine, "every", ANY, strategy="parallel")
    outcomes = []
    for status in ("firing", "firing", "resolved", "resolved", "firing"):
        posting.clock.now += timedelta(minutes=5)
        (event,) = await taken(posting, webhook(prometheus(status=status)))
        outcomes.append((event["outcome"], len(event["runs"])))
    assert outcomes == [("accepted", 1), ("duplicate", 0), ("accepted", 1), ("duplicate", 0), ("accepted", 1)]
    first, resolved, anew = await rows(posting)
    assert resolved.event["firingStartTime"] is None
    assert anew.event["firingStartTime"] > first.event["firingStartTime"]
    assert anew.event["startedAt"] == first.event["startedAt"]


async def test_one_alert_posted_to_many_replicas_runs_once(posting: Console, database_url: str) -> None:
    """Two Alertmanagers of one cluster post the same to two consoles at the same moment: one run."""
    await started.have(posting.engine, "every", ANY)
    engine = database.connect(database_url, application_name="replica")
    stop = asyncio.Event()
    async with served(posting.played) as server, Cluster(Connection(server)) as cluster:
        taking = ingest(Intake(engine, lambda: posting.clock.now, timedelta(days=1)), lambda: 0.0, per_second=100)
        here = Room(
            engine, cluster, samples.CLUSTER, Doorkeeper(cluster, lambda: 0.0), lambda: posting.clock.now, taking
        )
        listening = socket.create_server(("127.0.0.1", 0))
        other = replace(posting, url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        answering = asyncio.create_task(
            process.answer(app.build(here, pages(lambda: 0.0, lambda: posting.clock.now)), listening, stop)
        )
        answers = await asyncio.gather(*(taken((posting, other)[turn % 2], webhook()) for turn in range(12)))
        stop.set()
        await answering
    await engine.dispose()
    assert sorted(event["outcome"] for (event,) in answers) == ["accepted"] + ["duplicate"] * 11
    assert len(await rows(posting)) == 1


async def test_a_batch_is_taken_in_its_order(posting: Console) -> None:
    """Events of one alert in one request follow each other; a mixed list takes each for what it looks like."""
    await started.have(posting.engine, "every", ANY, strategy="parallel")
    await started.have(posting.engine, "incidents", {"type": "incident", "events": ["created"]})
    body = [
        webhook(prometheus(), prometheus(status="resolved"), prometheus(status="resolved")),
        {"name": "disk is full", "severity": "warning", "source": ["zabbix"]},
        {"event": "created", "incident": {"id": "i-1", "name": "all is down"}},
    ]
    found = await taken(posting, body)
    assert [each["outcome"] for each in found] == ["accepted", "accepted", "duplicate", "accepted", "accepted"]
    assert [each["kind"] for each in found] == ["alert"] * 4 + ["incident"]
    assert [len(each["runs"]) for each in found] == [1, 1, 0, 1, 1]


async def test_incidents_start_what_waits_for_them_once(posting: Console) -> None:
    """A repeated delivery is known by its content; an update is another event."""
    await started.have(posting.engine, "new", {"type": "incident", "events": ["created"]})
    body = {"event": "created", "incident": {"id": "i-1", "severity": "high"}}
    assert [len((await taken(posting, body))[0]["runs"]) for _ in range(2)] == [1, 1]
    assert (await taken(posting, body))[0]["outcome"] == "duplicate"
    assert (await taken(posting, {**body, "event": "updated"}))[0]["runs"] == []
    (run,) = await rows(posting)
    assert (run.trigger, run.event["severity"]) == ("Incident", "high")


async def test_changes_are_judged_against_the_last_event(posting: Console) -> None:
    """`only_on_change` and `severity_changed` ask the alert's row, which keeps what workflows have added."""
    await started.have(posting.engine, "status", {**ANY, "only_on_change": ["status"]}, strategy="parallel")
    await started.have(posting.engine, "worse", {**ANY, "severity_changed": True}, strategy="parallel")
    await started.have(posting.engine, "seen", {**ANY, "cel": 'ticket == "OPS-1"'}, strategy="parallel")

    async def runs_of(**fields: Any) -> set[str]:
        (event,) = await taken(posting, {"name": "cpu", "fingerprint": "f", "source": ["x"], **fields})
        return {each["workflow"] for each in event["runs"]}

    assert await runs_of(severity="low", note="1") == {"status", "worse"}
    told = {"ticket": {"value": "OPS-1", "disposable": False}, "note": {"value": "for now", "disposable": True}}
    await lineages.run(posting.engine, f"UPDATE keep_operator.alert SET enrichments = '{json.dumps(told)}'")  # noqa: S608
    assert await runs_of(severity="low", note="2") == {"seen"}
    assert await runs_of(severity="critical", note="2") == {"worse", "seen"}
    (left,) = await looked(
        posting.engine, lambda conn: conn.execute(text("SELECT enrichments FROM keep_operator.alert"))
    )
    assert left.enrichments == {"ticket": told["ticket"]}
    assert await runs_of(severity="critical", status="resolved") == {"status", "seen"}
    (worse,) = [each for each in await rows(posting) if each.event.get("severity_change")]
    assert (worse.event["severity_change"], worse.event["previous_severity"]) == ("increased", "low")


async def test_an_alert_that_has_expired_is_new(posting: Console) -> None:
    """After its retention an alert begins anew, whether its row has been removed yet or not."""
    await started.have(posting.engine, "every", ANY, strategy="parallel")
    await taken(posting, webhook())
    told = {"ticket": {"value": "OPS-1", "disposable": False}}
    await lineages.run(posting.engine, f"UPDATE keep_operator.alert SET enrichments = '{json.dumps(told)}'")  # noqa: S608
    posting.clock.now += timedelta(hours=23)
    assert (await taken(posting, webhook()))[0]["outcome"] == "duplicate"  # which keeps it for another day
    posting.clock.now += timedelta(hours=23)
    assert (await taken(posting, webhook()))[0]["outcome"] == "duplicate"
    posting.clock.now += timedelta(hours=25)
    assert (await taken(posting, webhook()))[0]["outcome"] == "accepted"
    now = posting.clock.now
    known = await looked(posting.engine, lambda conn: alerts.known(conn, "keep", ["f0b2c3d4e5a69788"], now))
    assert known["f0b2c3d4e5a69788"].enrichments == {}
    assert await lineages.done(posting.engine, lambda conn: alerts.expire(conn, now)) == 0
    assert await lineages.done(posting.engine, lambda conn: alerts.expire(conn, now + timedelta(days=2), 1)) == 1


async def test_a_repeated_event_writes_nothing_while_its_alert_has_long_to_live(posting: Console) -> None:
    """A thousand firing alerts that are repeated each minute are no load for the database."""
    await taken(posting, webhook())
    before = await lineages.looked(posting.engine, _alert_version)
    posting.clock.now += timedelta(hours=1)
    await taken(posting, webhook())
    assert await lineages.looked(posting.engine, _alert_version) == before


async def _alert_version(conn: Any) -> Any:
    return (await conn.execute(text("SELECT xmin::text FROM keep_operator.alert"))).one()[0]


async def test_a_run_is_of_the_version_whose_trigger_has_matched(
    posting: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that becomes active while an event is being judged is judged itself, and the run is bound to it or not made."""
    await started.have(posting.engine, "high-cpu", CRITICAL)
    listening, looks = alerts.listening, 0

    async def changed_meanwhile(conn: Any, tenant: str) -> Any:
        nonlocal looks
        found = await listening(conn, tenant)
        looks += 1
        if looks == 1:
            await started.change(posting.engine, "high-cpu", {**ANY, "cel": 'name == "nothing"'})
        if looks == 2:
            await started.change(posting.engine, "high-cpu", {**CRITICAL, "severity_changed": True})
        return found

    monkeypatch.setattr(alerts, "listening", changed_meanwhile)
    (event,) = await taken(posting, webhook())
    assert looks == 2
    assert event["runs"] == []
    (event,) = await taken(posting, webhook(prometheus(fingerprint="other")))
    assert [each["revision"] for each in event["runs"]] == [3]
    assert [each.revision for each in await rows(posting)] == [3]


async def test_a_workflow_that_changes_without_end_is_given_up(
    posting: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was taken then, and the sender is told to come back."""
    await started.have(posting.engine, "high-cpu", ANY)
    stale = await looked(posting.engine, lambda conn: alerts.listening(conn, "keep"))
    await started.change(posting.engine, "high-cpu", ANY, consts={"a": 1})

    async def always_stale(conn: Any, tenant: str) -> Any:
        return stale

    monkeypatch.setattr(alerts, "listening", always_stale)
    answer = await post(posting, webhook())
    assert (answer.status, answer.body["reason"]) == (503, "SyncFailed")
    assert await rows(posting) == []
    monkeypatch.undo()
    assert (await taken(posting, webhook()))[0]["outcome"] == "accepted"


async def test_workflows_that_do_not_run_are_not_started(posting: Console) -> None:
    """A suspended workflow is left out; one that forbids a second run beside the first says so."""
    await started.have(posting.engine, "asleep", ANY, suspended=True)
    await started.have(posting.engine, "one", ANY, settings={"run": {"concurrency": "Forbid"}})
    (event,) = await taken(posting, webhook(prometheus(fingerprint="a")))
    assert [each["workflow"] for each in event["runs"]] == ["one"]
    (event,) = await taken(posting, webhook(prometheus(fingerprint="b")))
    assert event["runs"] == []
    assert [(each["workflow"], each["reason"]) for each in event["refused"]] == [("one", "ConcurrencyForbidden")]


async def test_a_trigger_that_fails_is_named_and_hinders_no_other(
    posting: Console, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender and the log name workflow, version and trigger; the log not for each event anew, and without the alert's values."""
    await started.have(posting.engine, "broken", {**ANY, "cel": "labels.token > 3"})
    await started.have(posting.engine, "every", ANY, strategy="parallel")
    for number in range(3):
        (event,) = await taken(posting, {"name": "a", "fingerprint": str(number), "labels": {"token": "canary-7"}})
        assert [each["workflow"] for each in event["runs"]] == ["every"]
        (failure,) = event["failed"]
        assert failure["message"] == "triggers[0].cel compares or combines values of types that do not fit"
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert [each for each in warnings if "monitoring/broken v1" in each] == warnings
    assert len(warnings) == 1
    assert "canary" not in caplog.text


async def test_a_token_is_of_one_tenant(posting: Console) -> None:
    """A wrong token, one of another tenant and a tenant that is not there are told the same."""
    await samples.have_tenant(posting.engine, "other", of=samples.owner("other", namespace=""))
    await started.have_token(posting.engine, "the-token-of-the-other-tenant", "other")
    told = []
    for token, tenant in ((TOKEN, "other"), ("wrong-but-long-enough", "keep"), (TOKEN, "nothing")):
        answer = await post(posting, webhook(), token=token, tenant=tenant)
        assert (answer.status, answer.body["reason"]) == (401, "Unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        told.append(answer.body["detail"])
    assert len(set(told)) == 1
    assert (await post(posting, webhook(), token=posting.token)).status == 401  # a user's token opens other doors
    for header in (None, "", "Basic YTpi", "Bearer short", "Bearer " + "x" * 5_000, f"Bearer {TOKEN}, Bearer {TOKEN}"):
        headers = {} if header is None else {"Authorization": header}
        assert (await post(posting, webhook(), token=None, headers=headers)).status == 401, header
    assert await rows(posting) == []
    assert not posting.played.asked


async def test_who_tries_tokens_is_slowed_down_and_hinders_nobody_known(
    posting: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong tokens cost a minute after ten of them; a machine whose token was accepted posts on meanwhile."""
    assert (await post(posting, webhook())).status == 200
    compared: list[str] = []
    fits = tokens.fits

    def counted(known: Token, token: str) -> bool:
        compared.append(token)
        return fits(known, token)

    monkeypatch.setattr(tokens, "fits", counted)
    answers = [await post(posting, webhook(), token=f"wrong-but-long-enough-{number}") for number in range(12)]
    assert [each.status for each in answers] == [401] * machines.FAILURES + [429] * 2
    assert answers[-1].body["reason"] == "TooManyRequests"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert len(compared) == machines.FAILURES
    assert (await post(posting, webhook(), token="wrong-but-long-enough-0")).status == 401
    assert len(compared) == machines.FAILURES  # remembered
    assert (await post(posting, webhook())).status == 200
    posting.clock.seconds += machines.FAILURE_EACH_S
    assert (await post(posting, webhook(), token="wrong-but-long-enough-12")).status == 401


async def test_a_token_that_was_taken_away_ends_within_a_minute(posting: Console) -> None:
    """A rotated Secret is followed; the old token does not live on in memory."""
    assert (await post(posting, webhook())).status == 200
    await started.have_token(posting.engine, "the-next-token-0123456789")
    assert (await post(posting, webhook(), token="the-next-token-0123456789")).status == 200
    posting.clock.seconds += machines.ACCEPTED_FOR_S
    assert (await post(posting, webhook())).status == 401


BODIES: tuple[tuple[Any, str], ...] = (
    ({}, "body.name is required"),
    ([], ""),
    ([{"name": "a"}, {"labels": 3}], "body[1].name is required"),
    ({"alerts": [{"labels": {"a": 1}}]}, "body.alerts[0].labels must be an object of texts"),
    ({"alerts": [], "version": "5"}, 'body.version must be "4"'),
    ({"incident": {"id": "1"}, "event": "solved"}, "body.event must be one of"),
    ({"name": "a", "labels": {str(number): number for number in range(2_000)}}, "body has more than 2,000 values"),
    ("text", "body must be an object"),
    ([None], "body[0] must be an object"),
)


async def test_a_body_that_cannot_be_meant_is_taken_not_at_all(posting: Console) -> None:
    """The first fault is told with its place; good events beside it are not taken either, so that they can be sent again."""
    await started.have(posting.engine, "every", ANY)
    for body, told in BODIES:
        answer = await post(posting, body)
        if told:
            assert (answer.status, answer.body["reason"]) == (400, "EventInvalid"), body
            assert answer.body["detail"].startswith(f"No event was taken: {told}"), answer.body
        else:
            assert (answer.status, answer.body["events"]) == (200, [])
    assert await rows(posting) == []
    answer = await post(posting, webhook(), params={"format": "incident"})
    assert (answer.status, answer.body["reason"]) == (400, "EventInvalid")
    answer = await post(posting, webhook(), params={"format": "xml"})
    assert (answer.status, answer.body["reason"]) == (400, "ParameterInvalid")


async def test_too_much_is_refused_before_it_is_read(posting: Console) -> None:
    """A megabyte, a thousand events, and so many in a second."""
    many = [{"name": str(number)} for number in range(schemas.MOST_EVENTS + 1)]
    for send in ({"json": many}, {"data": io.BytesIO(b"[" + b" " * asked.LARGEST_BODY + b"]")}):
        headers = {"Content-Type": "application/json"}
        answer = await posting.ask("/events/keep", method="POST", token=TOKEN, headers=headers, **send)
        assert (answer.status, answer.body["reason"]) == (413, "BodyTooLarge")
    answer = await posting.ask("/events/keep", method="POST", token=TOKEN, data=b"a=b")
    assert (answer.status, answer.body["reason"]) == (415, "BodyInvalid")
    for raw in (b"{", b"\xff", b'{"name": NaN}', b'{"a":' * 100_000, b'{"name": "a", "name": "b"}'):
        headers = {"Content-Type": "application/json"}
        answer = await posting.ask("/events/keep", method="POST", token=TOKEN, headers=headers, data=raw)
        assert (answer.status, answer.body["reason"]) == (400, "BodyInvalid"), raw[:20]
    assert (await post(posting, [{"name": "a"}] * schemas.MOST_EVENTS)).status == 200
    answer = await post(posting, [{"name": "b"}] * schemas.MOST_EVENTS)
    assert (answer.status, answer.body["reason"], answer.headers["retry-after"]) == (429, "TooManyRequests", "10")
    posting.clock.seconds += 10
    assert (await post(posting, [{"name": "b"}] * schemas.MOST_EVENTS)).status == 200


async def test_no_token_is_in_the_log(posting: Console, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which token it was by the place of its Secret."""
    caplog.set_level(logging.DEBUG)
    await post(posting, webhook())
    await post(posting, webhook(), token=f"wrong-{TOKEN}")
    lines = [JsonFormatter(()).format(record) for record in caplog.records if record.name.startswith("keep_operator")]
    assert not [line for line in lines if "canary" in line]
    (first, _) = [json.loads(line) for line in lines if json.loads(line)["msg"] == "request"]
    assert (first["path"], first["tenant"], first["user"]) == (
        "/api/v1/events/{tenant}",
        "keep",
        f"token {started.PLACE}",
    )


async def test_a_database_that_is_away_is_told_so(posting: Console) -> None:
    """The sender is told to try again; nothing of the database is told."""
    assert (await post(posting, webhook())).status == 200
    await lineages.run(posting.engine, "ALTER TABLE keep_operator.alert RENAME TO elsewhere")
    answer = await post(posting, webhook(prometheus(fingerprint="b")))
    assert (answer.status, answer.body["reason"]) == (503, "SchemaMissing")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_revision_is_compiled_once(posting: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading CEL is slow, so it is done once for each version; what is kept is bounded."""
    compiled: list[Any] = []
    original = matching.compiled

    def counted(definition: Any) -> Triggers:
        compiled.append(definition)
        return original(definition)

    monkeypatch.setattr(matching, "compiled", counted)
    monkeypatch.setattr(intake, "COMPILED_AT_MOST", 2)
    for name in ("a", "b"):
        await started.have(posting.engine, name, CRITICAL)
    for number in range(3):
        await taken(posting, webhook(prometheus(fingerprint=str(number))))
    assert len(compiled) == 2
    await started.have(posting.engine, "c", CRITICAL)
    (event,) = await taken(posting, webhook(prometheus(fingerprint="c")))
    assert {each["workflow"] for each in event["runs"]} == {"a", "b", "c"}
