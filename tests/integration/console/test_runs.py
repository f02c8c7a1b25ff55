"""Runs are asked for, found, looked at and cancelled by whoever may; each names the version that it is bound to."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from integration.console import started
from integration.console.visit import READER, Answer, Console
from integration.store import lineages
from integration.store.lineages import done, looked
from keep_operator.domain.execution import Step, StepState
from keep_operator.domain.history import Lineage
from keep_operator.store import executions, revisions
from keep_operator.store import lineages as rows
from keep_operator.store.executions import Progress

pytestmark = pytest.mark.integration

PLACE = {"namespace": "monitoring", "workflow": "high-cpu"}
RUNNER = (*READER, "get workflowruns monitoring", "create workflowruns monitoring", "patch workflowruns monitoring")


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """Workflow monitoring/high-cpu with versions 1 and 2, of which the second is active; ann may run it."""
    console.token = console.played.give("ann", *RUNNER)
    await started.have(console.engine, "high-cpu", {"type": "manual"})
    return await started.change(console.engine, "high-cpu", {"type": "manual"}, consts={"limit": 80})


async def ask(console: Console, **body: Any) -> Answer:
    """Ask for a run."""
    return await console.ask("/runs", method="POST", json={**PLACE, **body})


async def have(console: Console, **body: Any) -> dict[str, Any]:
    """A run that there is now."""
    answer = await ask(console, **body)
    assert answer.status == 201, answer
    assert answer.headers["location"] == f"/api/v1/runs/{answer.body['id']}"
    return dict(answer.body)


async def test_a_run_is_bound_to_the_active_version(console: Console, lineage: Lineage) -> None:
    """The answer names number and hash at once; the row and its job are there with it."""
    run = await have(console, inputs={"who": "me"}, mode="DryRun", timeout="5m")
    assert lineage.active is not None
    assert (run["revision"], run["contentHash"], run["selection"]) == (2, lineage.active.content_hash, "Active")
    assert (run["state"], run["trigger"], run["mode"], run["requestedBy"]) == ("Queued", "API", "DryRun", "ann")
    (row,) = await looked(console.engine, lambda conn: conn.execute(text("SELECT * FROM keep_operator.run")))
    assert (str(row.id), row.inputs, row.timeout_s) == (run["id"], {"who": "me"}, 300)
    (job,) = await looked(
        console.engine, lambda conn: conn.execute(text("SELECT args FROM keep_operator.procrastinate_jobs"))
    )
    assert job.args == {"run_id": run["id"]}


async def test_a_version_can_be_named(console: Console, lineage: Lineage) -> None:
    """By number, hash or tag; a retry keeps the version of the run that it repeats, unless another is named."""
    first = lineage.revisions[0]
    await done(console.engine, lambda conn: _tag(conn, lineage))
    for revision in ({"number": 1}, {"contentHash": first.content_hash}, {"tag": "production"}):
        run = await have(console, revision=revision)
        assert (run["revision"], run["selection"]) == (1, "Pinned")
    again = await have(console, retryOf=run["id"])
    assert (again["revision"], again["retryOf"], again["tryNumber"]) == (1, run["id"], 2)
    other = await have(console, retryOf=run["id"], revision={"number": 2})
    assert (other["revision"], other["retryOf"], other["tryNumber"]) == (2, run["id"], 2)


async def test_inputs_that_the_version_does_not_take(console: Console, lineage: Lineage) -> None:
    """422, with the version and the input; the version before takes them."""
    declared = [{"name": "limit", "type": "number", "required": True}]
    await started.change(console.engine, "high-cpu", {"type": "manual"}, inputs=declared)
    for given, fault in (({}, '"limit" is required'), ({"limit": "many"}, '"limit" must be a number')):
        refused = await ask(console, inputs=given)
        assert (refused.status, refused.body["reason"]) == (422, "InvalidInputs")
        assert fault in refused.body["detail"] and "v3 (" in refused.body["detail"]
    assert (await have(console, inputs={"limit": 90}))["revision"] == 3
    assert (await have(console, revision={"number": 2}))["revision"] == 2


async def _tag(conn: Any, lineage: Lineage) -> None:
    seen = await rows.find(conn, lineage.id)
    assert seen is not None
    await revisions.tag(conn, seen, 1, "production", actor="bob", reason="")


async def test_the_same_request_again_is_the_same_run(console: Console, lineage: Lineage) -> None:
    """A client that lost the answer asks again, from as many replicas as it likes, and gets the run that there is."""
    answers = await asyncio.gather(*(ask(console, requestId="deploy-4711") for _ in range(8)))
    assert sorted(each.status for each in answers) == [200] * 7 + [201]
    assert len({each.body["id"] for each in answers}) == 1
    assert (await ask(console)).status == 201


REFUSED: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"workflow": "nothing"}, 404, "WorkflowNotFound"),
    ({"revision": {"number": 9}}, 404, "RevisionNotFound"),
    ({"revision": {"tag": "nothing"}}, 404, "RevisionNotFound"),
    ({"retryOf": str(uuid4())}, 404, "RevisionNotFound"),
    ({"namespace": "Not-One"}, 400, "BodyInvalid"),
    ({"namespace": None}, 400, "BodyInvalid"),
    ({"workflow": 3}, 400, "BodyInvalid"),
    ({"revision": None}, 400, "BodyInvalid"),
    ({"revision": {}}, 400, "BodyInvalid"),
    ({"revision": {"number": 0}}, 400, "BodyInvalid"),
    ({"revision": {"number": True}}, 400, "BodyInvalid"),
    ({"revision": {"number": 2**31}}, 400, "BodyInvalid"),
    ({"revision": {"number": 1, "tag": "a"}}, 400, "BodyInvalid"),
    ({"revision": {"number": 1}, "retryOf": str(uuid4())}, 404, "RevisionNotFound"),
    ({"retryOf": "me"}, 400, "BodyInvalid"),
    ({"inputs": []}, 400, "BodyInvalid"),
    ({"inputs": {"a": [0] * 3_000}}, 400, "BodyInvalid"),
    ({"mode": "Fast"}, 400, "BodyInvalid"),
    ({"mode": ["Live"]}, 400, "BodyInvalid"),
    ({"timeout": "0s"}, 400, "BodyInvalid"),
    ({"timeout": "999h"}, 400, "BodyInvalid"),
    ({"timeout": 5}, 400, "BodyInvalid"),
    ({"timeout": "soon"}, 400, "BodyInvalid"),
    ({"requestId": ""}, 400, "BodyInvalid"),
    ({"requestId": "x" * 129}, 400, "BodyInvalid"),
    ({"requestId": "a\0b"}, 400, "BodyInvalid"),
    ({"when": "now"}, 400, "BodyInvalid"),
)


async def test_what_cannot_run_is_told_why(console: Console, lineage: Lineage) -> None:
    """Nothing is queued then."""
    for body, status, reason in REFUSED:
        answer = await ask(console, **body)
        assert (answer.status, answer.body["reason"]) == (status, reason), (body, answer)
        assert answer.body["detail"].endswith("."), answer.body
    for raw in (b"[]", b"3", b"null"):
        headers = {"Content-Type": "application/json"}
        await console.problem("/runs", 400, "BodyInvalid", method="POST", data=raw, headers=headers)
    assert (await console.get("/runs"))["items"] == []


async def test_a_suspended_workflow_takes_no_run(console: Console, lineage: Lineage) -> None:
    """Whoever paused it meant it."""
    await lineages.run(console.engine, "UPDATE keep_operator.workflow SET suspended = true")
    answer = await ask(console)
    assert (answer.status, answer.body["reason"]) == (409, "Suspended")


async def test_rights_are_those_on_workflowruns(console: Console, lineage: Lineage) -> None:
    """Asking takes `create`, looking `get`, cancelling `patch`; who may not look learns not whether there is one."""
    run = await have(console)
    eve = console.played.give("eve", "get workflows monitoring", "get workflowruns elsewhere")
    told = await console.problem("/runs", 403, "Forbidden", token=eve, method="POST", json=PLACE)
    assert 'User "eve" may not create workflowruns.keep-operator.dev in namespace monitoring' in told["detail"]
    await console.problem("/runs", 403, "Forbidden", token=eve, params=PLACE)
    there = await console.problem(f"/runs/{run['id']}", 404, "RunNotFound", token=eve)
    absent = await console.problem(f"/runs/{uuid4()}", 404, "RunNotFound", token=eve)
    assert there["detail"].partition(",")[2] == absent["detail"].partition(",")[2]
    await console.problem(f"/runs/{run['id']}/cancel", 404, "RunNotFound", token=eve, method="POST")
    kim = console.played.give("kim", "get workflowruns monitoring")
    assert (await console.ask(f"/runs/{run['id']}", token=kim)).status == 200
    await console.problem(f"/runs/{run['id']}/cancel", 403, "Forbidden", token=kim, method="POST")
    await console.problem(f"/runs/{run['id'][:-1]}", 400, "ParameterInvalid")


async def test_another_clusters_runs_are_not_shown(console: Console, lineage: Lineage) -> None:
    """Rights are this cluster's, and say nothing about the other's namespaces."""
    run = await have(console)
    await lineages.run(console.engine, "UPDATE keep_operator.workflow SET owner_cluster = 'cluster-b'")
    await console.problem(f"/runs/{run['id']}", 404, "RunNotFound")


async def test_a_run_of_a_workflow_that_nobody_owns_takes_a_right_on_the_tenant(
    console: Console, lineage: Lineage
) -> None:
    """What is left of it belongs to no namespace."""
    run = await have(console)
    await lineages.run(
        console.engine,
        "UPDATE keep_operator.workflow SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL, owner_uid = NULL",
    )
    assert (await console.ask(f"/runs/{run['id']}")).body["namespace"] is None
    kim = console.played.give("kim", "get workflowruns monitoring")
    await console.problem(f"/runs/{run['id']}", 404, "RunNotFound", token=kim)


async def test_the_right_on_a_tenant_is_one_on_its_object(console: Console, lineage: Lineage) -> None:
    """A Tenant may be called as another tenant's id is: who may read that one reads nothing of the other."""
    run = await have(console)
    await lineages.run(
        console.engine,
        "UPDATE keep_operator.workflow SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL, owner_uid = NULL",
    )
    await lineages.run(console.engine, "UPDATE keep_operator.tenant SET owner_name = 'acme' WHERE id = 'keep'")
    path = f"/runs/{run['id']}"
    await console.problem(path, 404, "RunNotFound", token=console.played.give("eve", "get tenants /keep"))
    assert (await console.ask(path, token=console.played.give("bob", "get tenants /acme"))).status == 200
    await lineages.run(console.engine, "UPDATE keep_operator.tenant SET owner_cluster = 'cluster-b' WHERE id = 'keep'")
    for token in ("token-of-eve", "token-of-bob"):
        await console.problem(path, 404, "RunNotFound", token=token)


async def test_a_run_is_shown_with_its_steps_and_log(console: Console, lineage: Lineage) -> None:
    """What happened, in order; results as they were, lines page by page."""
    run = await have(console, inputs={"who": "me"})
    claim = await done(console.engine, lambda conn: executions.claim(conn, UUID(run["id"]), "worker-1"))
    assert claim is not None
    step = Step(0, -1, 1, claim.run.attempt, "tell", "action", "console", StepState.RUNNING, "None", lineages.EARLIER)
    await done(console.engine, lambda conn: executions.write(conn, claim.run, Progress((step,))))
    ended = Step(
        0, -1, 1, claim.run.attempt, "tell", "action", "console", StepState.SUCCEEDED, "None", lineages.EARLIER,
        result={"a": [1.5, None]}, facts={"hidden": "canary"},
    )  # fmt: skip
    await done(console.engine, lambda conn: executions.write(conn, claim.run, Progress((ended,))))
    lines = [{"at": "2026-06-01T00:00:00Z", "position": 0, "level": "INFO", "message": f"line {n}"} for n in range(5)]
    await done(console.engine, lambda conn: executions.write(conn, claim.run, Progress(lines=lines)))
    told = (await console.ask(f"/runs/{run['id']}", params={"limit": "3"})).body
    assert (told["namespace"], told["workflow"], told["inputs"], told["state"]) == (
        "monitoring", "high-cpu", {"who": "me"}, "Running"
    )  # fmt: skip
    (shown,) = told["steps"]
    assert (shown["name"], shown["state"], shown["result"], shown["iteration"]) == (
        "tell", "Succeeded", {"a": [1.5, None]}, None
    )  # fmt: skip
    assert "canary" not in str(told)
    assert [each["message"] for each in told["log"]["items"]] == ["line 0", "line 1", "line 2"]
    behind = (await console.ask(f"/runs/{run['id']}", params={"after": told["log"]["after"]})).body["log"]
    assert ([each["message"] for each in behind["items"]], behind["after"]) == (["line 3", "line 4"], None)
    await console.problem(f"/runs/{run['id']}", 400, "CursorInvalid", params={"after": "cnVucyAx"})


async def test_a_run_is_cancelled(console: Console, lineage: Lineage) -> None:
    """One that waits ends at once, one that a worker has is asked to; once ended it stays as it is."""
    waiting, running = await have(console), await have(console)
    assert await done(console.engine, lambda conn: executions.claim(conn, UUID(running["id"]), "w")) is not None
    cancelled = (await console.ask(f"/runs/{waiting['id']}/cancel", method="POST")).body
    assert (cancelled["state"], cancelled["reason"], cancelled["message"]) == (
        "Cancelled", "Cancelled", "Cancelled by ann"
    )  # fmt: skip
    again = (await console.ask(f"/runs/{waiting['id']}/cancel", method="POST")).body
    assert again == cancelled
    asked_to = (await console.ask(f"/runs/{running['id']}/cancel", method="POST")).body
    assert (asked_to["state"], asked_to["cancelRequested"]) == ("Running", True)


async def test_runs_are_found_page_by_page(console: Console, lineage: Lineage) -> None:
    """All filters combine; pages hold each run once, the newest first, though others come meanwhile."""
    one = await have(console, revision={"number": 1})
    made = [(await have(console))["id"] for _ in range(7)]
    await started.end(console.engine, UUID(made[0]))
    assert [each["id"] for each in await console.all("/runs", 3)] == [*reversed(made), one["id"]]
    first = await console.get("/runs", limit=3)
    late = (await have(console))["id"]
    behind = await console.get("/runs", limit=3, after=first["after"])
    assert [each["id"] for each in behind["items"]] == [made[3], made[2], made[1]]

    async def ids(**query: Any) -> list[str]:
        return [each["id"] for each in await console.all("/runs", 2, **query)]

    assert await ids(revision="1") == [one["id"]]
    assert lineage.active is not None
    assert await ids(revision=lineage.active.content_hash[:12]) == [late, *reversed(made)]
    assert await ids(revision="active", state="Succeeded") == [made[0]]
    assert await ids(state="Succeeded", revision="1") == []
    assert await ids(trigger="Alert") == []
    assert len(await ids(trigger="API")) == 9
    await console.problem("/runs", 404, "RevisionNotFound", params={**PLACE, "revision": "9"})
    await console.problem("/runs", 400, "CursorInvalid", params={**PLACE, "after": "bG9nIDEx"})


async def test_a_hash_finds_the_runs_of_every_version_with_that_content(console: Console, lineage: Lineage) -> None:
    """A content that came back has two numbers and one hash."""
    first = await have(console, revision={"number": 1})
    await started.change(console.engine, "high-cpu", {"type": "manual"})
    third = await have(console)
    assert third["contentHash"] == first["contentHash"]
    for text_, wanted in (
        (first["contentHash"], [third["id"], first["id"]]),
        ("3", [third["id"]]),
        ("1", [first["id"]]),
    ):
        assert [each["id"] for each in (await console.get("/runs", revision=text_))["items"]] == wanted


async def test_runs_are_found_by_time(console: Console, lineage: Lineage) -> None:
    """`from` counts, `until` does not; times have an offset, and any that there are can be asked for."""
    runs_ = [await have(console) for _ in range(3)]
    queued = [
        row.queued_at
        for row in await looked(
            console.engine, lambda conn: conn.execute(text("SELECT queued_at FROM keep_operator.run ORDER BY id"))
        )
    ]

    async def ids(**query: str) -> list[str]:
        return [each["id"] for each in (await console.get("/runs", **query))["items"]]

    middle = queued[1].isoformat()
    assert await ids(**{"from": middle}) == [runs_[2]["id"], runs_[1]["id"]]
    assert await ids(until=middle) == [runs_[0]["id"]]
    assert await ids(**{"from": middle, "until": (queued[1] + timedelta(microseconds=1)).isoformat()}) == [
        runs_[1]["id"]
    ]
    assert len(await ids(**{"from": "0001-01-01T00:00:00+00:00", "until": "9999-12-31T23:59:59Z"})) == 3
    for strange in ("2026-01-01", "2026-01-01T00:00:00", "now", "0001-01-01T00:00:00+23:00"):
        await console.problem("/runs", 400, "ParameterInvalid", params={**PLACE, "from": strange})
