"""Who comes in, what is said at the door, and what the log has of it."""

import asyncio
import json
import logging
from typing import Any

import pytest

from integration.console.visit import Console
from integration.store.lineages import run
from keep_operator.console import app, asked, doorkeeper
from keep_operator.domain.history import Lineage
from keep_operator.logs import JsonFormatter

pytestmark = pytest.mark.integration

PLACE = {"namespace": "monitoring", "workflow": "high-cpu"}


async def test_a_token_is_whose_it_is(console: Console) -> None:
    """Whoever tries their token learns whom it stands for; the API server was shown it, and asked nothing else."""
    answer = await console.ask("")
    assert answer.body["user"] == "ann"
    (review,) = console.played.bodies
    assert review["spec"] == {"token": console.token}
    assert (await console.ask("/")).body == answer.body


NO_TOKENS = (
    None,
    "",
    "Bearer",
    "Bearer ",
    "Basic YW5uOnNlY3JldA==",
    "Bearer a b",
    "Bearer ünï",
    "Bearer " + "x" * (doorkeeper.LONGEST_TOKEN + 1),
    "token-of-ann",
    "Bearer token-of-ann, Bearer token-of-ann",
)


async def test_without_a_token_nothing_is_asked(console: Console) -> None:
    """What is no bearer token is told so, and the API server is left in peace."""
    for header in NO_TOKENS:
        headers = {} if header is None else {"Authorization": header}
        answer = await console.ask("/history", params=PLACE, token=None, headers=headers)
        assert (answer.status, answer.body["reason"]) == (401, "Unauthenticated"), header
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not console.played.asked


async def test_a_token_of_nobody_is_refused_each_time(console: Console) -> None:
    """A refusal is not remembered: a token that is good from now on works from now on."""
    for _ in range(2):
        told = await console.problem("", 401, "Unauthenticated", token="token-of-bob")
        assert "token-of-bob" not in json.dumps(told)
    assert console.played.asked["POST tokenreviews"] == 2
    console.played.give("bob")
    assert (await console.ask("", token="token-of-bob")).status == 200


async def test_the_api_server_is_asked_for_everything_that_it_decides_by(console: Console, lineage: Lineage) -> None:
    """Authorizers see the user as the API server itself does: groups and extra included."""
    await console.get("/history")
    spec = console.played.bodies[-1]["spec"]
    assert spec["resourceAttributes"] == {
        "verb": "get",
        "group": "keep-operator.dev",
        "resource": "workflows",
        "namespace": "monitoring",
        "name": "high-cpu",
    }
    assert (spec["user"], spec["groups"], spec["extra"]) == ("ann", ["people"], {"from": ["here"]})


RIGHTS = (
    ("/revisions", "get workflowrevisions.keep-operator.dev in namespace monitoring"),
    ("/revisions/1", "get workflowrevisions.keep-operator.dev in namespace monitoring"),
    ("/diff?before=1&after=2", "get workflowrevisions.keep-operator.dev in namespace monitoring"),
    ("/history", 'get workflows.keep-operator.dev "high-cpu" in namespace monitoring'),
    ("/retention", 'get workflows.keep-operator.dev "high-cpu" in namespace monitoring'),
)


async def test_who_may_not_read_objects_may_not_read_this(console: Console, lineage: Lineage) -> None:
    """The missing right is named; whether there is such a workflow is not told."""
    token = console.played.give("eve", "get workflows elsewhere", "get workflowrevisions elsewhere", "get tenants ")
    for path, right in RIGHTS:
        there = await console.problem(path, 403, "Forbidden", token=token, params=PLACE)
        assert f'User "eve" may not {right}' in there["detail"]
        absent = await console.problem(path, 403, "Forbidden", token=token, params={**PLACE, "workflow": "nothing"})
        assert absent["detail"] == there["detail"].replace("high-cpu", "nothing")


async def test_a_right_on_one_workflow_opens_that_one(console: Console, lineage: Lineage) -> None:
    """Roles with resourceNames hold here as well."""
    token = console.played.give("eve", "get workflows monitoring/high-cpu")
    assert (await console.ask("/history", params=PLACE, token=token)).status == 200
    await console.problem("/history", 403, "Forbidden", params={**PLACE, "workflow": "other"}, token=token)


async def test_the_ledger_of_a_tenant_takes_a_right_on_the_tenant(console: Console) -> None:
    """It tells of all namespaces, so rights in namespaces do not open it; nor is it told which tenants there are."""
    token = console.played.give("eve", "get workflows monitoring", "get workflowrevisions monitoring")
    there = await console.problem("/ledger", 403, "Forbidden", token=token, params={"tenant": "keep"})
    absent = await console.problem("/ledger", 403, "Forbidden", token=token, params={"tenant": "other"})
    assert 'get tenants.keep-operator.dev "keep"' in there["detail"]
    assert absent["detail"] == there["detail"].replace('"keep"', '"other"')
    assert (
        await console.ask("/ledger?tenant=keep", token=console.played.give("kim", "get tenants /keep"))
    ).status == 200


async def test_what_was_allowed_is_remembered_for_a_moment(console: Console, lineage: Lineage) -> None:
    """A hundred pages are two questions to the API server; a right that was taken away is gone ten seconds later."""
    for _ in range(3):
        await console.get("/history")
    assert console.played.asked == {"POST tokenreviews": 1, "POST subjectaccessreviews": 1}
    console.played.rights["ann"].clear()
    console.clock.seconds = doorkeeper.REMEMBERED_FOR.total_seconds()
    await console.problem("/history", 403, "Forbidden", params=PLACE)
    console.played.tokens.clear()
    console.clock.seconds *= 2
    await console.problem("/history", 401, "Unauthenticated", params=PLACE)


async def test_an_api_server_that_is_away_lets_nobody_in(console: Console, lineage: Lineage) -> None:
    """Nobody is let in on trust; the answer says to try again, and no address."""
    console.played.away = True
    answer = await console.ask("/history", params=PLACE)
    assert (answer.status, answer.body["reason"]) == (503, "ApiServerUnavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.body["detail"].startswith("The API server cannot be asked just now")
    assert not [word for word in ("127.0.0.1", "tokenreviews", "HTTP") if word in json.dumps(answer.body)]


async def test_a_database_without_its_tables_tells_no_sql(console: Console, lineage: Lineage) -> None:
    """What fails inside is told by one word; SQL and addresses stay inside."""
    await run(console.engine, "ALTER SCHEMA keep_operator RENAME TO aside")
    told = await console.problem("/history", 503, "SchemaMissing", params=PLACE)
    assert not {"SELECT", "127.0.0.1", "relation"} & set(json.dumps(told).split())
    await run(console.engine, "ALTER SCHEMA aside RENAME TO keep_operator")
    assert (await console.ask("/history", params=PLACE)).status == 200


async def test_a_bug_is_told_as_one_and_hits_nobody_else(
    console: Console, lineage: Lineage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is in the log, not in the answer, and the next request is answered."""

    def broken(_: Any) -> Any:
        raise RuntimeError("with a secret inside")

    with monkeypatch.context() as patched:
        patched.setattr(asked, "place", broken)
        told = await console.problem("/history", 500, "InternalError", params=PLACE)
    assert "secret" not in json.dumps(told)
    assert any(record.exc_info for record in caplog.records)
    assert (await console.ask("/history", params=PLACE)).status == 200


NONSENSE = (
    ("workflow=high-cpu", "namespace"),
    ("namespace=monitoring", "workflow"),
    ("namespace=&workflow=high-cpu", "namespace"),
    ("namespace=Monitoring&workflow=high-cpu", "namespace"),
    ("namespace=monitoring&workflow=../tenants", "workflow"),
    ("namespace=monitoring&workflow=a%00b", "workflow"),
    ("namespace=monitoring&workflow=%F0%9F%98%80", "workflow"),
    ("namespace=monitoring&workflow=%ff", "workflow"),
    ("namespace=monitoring&workflow=" + "a" * 254, "workflow"),
    ("namespace=monitoring&workflow=high-cpu&limit=0", "limit"),
    ("namespace=monitoring&workflow=high-cpu&limit=201", "limit"),
    ("namespace=monitoring&workflow=high-cpu&limit=ten", "limit"),
    ("namespace=monitoring&workflow=high-cpu&limit=%D9%A1", "limit"),
    ("namespace=monitoring&workflow=high-cpu&limit=1e9", "limit"),
    ("namespace=monitoring&workflow=high-cpu&workflowId=1", "workflowId"),
    ("namespace=monitoring&workflow=high-cpu&only=everything", "only"),
    ("namespace=monitoring&workflow=high-cpu&page=2", "page"),
    ("namespace=monitoring&workflow=high-cpu&workflow=other", "more than once"),
)


async def test_a_parameter_that_means_nothing_is_named(console: Console) -> None:
    """Missing, misspelt, doubled, out of bounds, of another alphabet: each is refused by its name, and asked of nobody."""
    for query, named in NONSENSE:
        told = await console.problem(f"/history?{query}", 400, "ParameterInvalid")
        assert named in told["detail"], query
    assert console.played.asked.keys() <= {"POST tokenreviews"}


async def test_a_version_that_can_be_none_is_refused(console: Console, lineage: Lineage) -> None:
    """What no version can be called is not looked for."""
    for name in ("%00", "a b", "%F0%9F%98%80", "x" * 73, "..%2f"):
        answer = await console.ask(f"/diff?namespace=monitoring&workflow=high-cpu&before=1&after={name}")
        assert (answer.status, answer.body["reason"]) == (400, "ParameterInvalid"), name


async def test_paths_and_methods_that_are_not_there(console: Console) -> None:
    """Who takes a wrong turn is told which ways there are."""
    for path in ("/nothing", "/revisions/1/2", "/History"):
        await console.problem(path, 404, "PathNotFound")
    answer = await console.ask("/history", method="DELETE")
    assert (answer.status, answer.body["reason"]) == (405, "MethodNotAllowed")
    assert "GET" in answer.headers["allow"]
    assert "POST" in (await console.ask("/diff", method="PUT")).headers["allow"]


async def test_each_request_is_one_line_without_secrets(
    console: Console, lineage: Lineage, caplog: pytest.LogCaptureFixture
) -> None:
    """Who looks after the console sees who asked for what, and how it ended; tokens, queries and drafts are in no line."""
    caplog.set_level(logging.DEBUG)
    canary = "canary-7f3a9"
    console.played.tokens[canary] = "ann"
    for path, more in (
        ("/history", {"params": PLACE}),
        ("/history", {"params": {**PLACE, "after": canary}}),
        (f"/{canary}", {}),
        (f"/revisions/{canary}", {"params": PLACE}),
        ("/diff", {"method": "POST", "params": PLACE, "data": canary, "headers": {"Content-Type": "application/json"}}),
        ("", {"params": {"token": canary}}),
    ):
        await console.ask(path, token=canary, **more)
    await console.ask("", token=f"{canary}-wrong")
    lines = [JsonFormatter(()).format(record) for record in caplog.records if record.name.startswith("keep_operator")]
    requests = [json.loads(line) for line in lines if json.loads(line)["msg"] == "request"]
    assert len(requests) == 7
    first = requests[0]
    assert (first["method"], first["path"], first["status"], first["user"]) == ("GET", "/api/v1/history", 200, "ann")
    assert (first["namespace"], first["workflow"]) == ("monitoring", "high-cpu")
    assert requests[-1]["reason"] == "Unauthenticated"
    assert not [line for line in lines if canary in line]


async def test_a_crowd_is_answered(console: Console, lineage: Lineage) -> None:
    """More requests at once than the console works at: they wait a moment, and nobody is sent away."""
    answers = await asyncio.gather(*(console.ask("/history", params=PLACE) for _ in range(app.AT_ONCE + 50)))
    assert {answer.status for answer in answers} == {200}


async def test_what_is_being_answered_is_answered_when_the_end_comes(
    console: Console, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling update of the console cuts nobody off."""
    arrived, goes_on = asyncio.Event(), asyncio.Event()
    place = console.engine.lend

    def waiting(limit: Any) -> Any:
        class Lent:
            async def __aenter__(self) -> Any:
                arrived.set()
                await goes_on.wait()
                self.real = place(limit)
                return await self.real.__aenter__()

            async def __aexit__(self, *error: Any) -> Any:
                return await self.real.__aexit__(*error)

        return Lent()

    monkeypatch.setattr(console.engine, "lend", waiting)
    asking = asyncio.create_task(console.get("/history"))
    await arrived.wait()
    console.stop.set()
    await asyncio.sleep(0.2)
    goes_on.set()
    assert (await asking)["items"]
