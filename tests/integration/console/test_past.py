"""Versions, timeline and ledger over HTTP: complete, page by page, and at a cost that is known."""

from typing import Any
from uuid import uuid4

import pytest

from integration.console.visit import Console
from integration.store import lineages, samples
from integration.store.lineages import ME, done
from keep_operator.domain.history import Lineage
from keep_operator.store import engine as database
from keep_operator.store import revisions, workflows

pytestmark = pytest.mark.integration

PLACE = {"namespace": "monitoring", "workflow": "high-cpu"}


async def test_versions_are_told_as_they_are(console: Console, lineage: Lineage) -> None:
    """Whoever asks for the versions learns of each what it is, who made it, whether it can run and when it did."""
    body = await console.get("/revisions")
    assert body["workflowId"] == str(lineage.id)
    assert body["after"] is None
    assert [each["number"] for each in body["items"]] == [4, 3, 2, 1]
    newest, broken, second, _ = body["items"]
    assert (newest["sameContentAs"], newest["parentNumber"]) == (1, 3)
    assert newest["author"] == {"username": "ann", "source": "Annotation"}
    assert (broken["valid"], broken["flaw"]["reason"]) == (False, "SchemaError")
    assert second["firstActiveAt"].endswith("Z")
    assert newest["firstActiveAt"] is None
    assert "definition" not in newest


async def test_a_version_is_found_by_each_of_its_names(console: Console, lineage: Lineage) -> None:
    """Numbers, tags, hashes and words mean what they mean to kubectl keep; archived versions are found too."""
    await done(console.engine, lambda conn: revisions.tag(conn, lineage, 3, "blue", actor="bob"))
    await done(console.engine, lambda conn: revisions.tag(conn, lineage, 2, "7", actor="bob"))
    await done(console.engine, lambda conn: revisions.archive(conn, lineage, {3: "high-cpu-v3"}, actor="bob"))
    for names, number, content in (
        (("1", "v1", "previous"), 1, "A"),
        (("2", "active", "7", "tag:7", lineages.hash_of("B")[:8]), 2, "B"),
        (("v3", "blue", "tag:blue"), 3, "c"),
        (("4", "latest", "desired", lineages.hash_of("A")), 4, "A"),
    ):
        for name in names:
            body = await console.get(f"/revisions/{name}")
            assert (body["number"], body["definition"]) == (number, lineages.definition_of(content)), name
            assert (body["archivedAt"] is not None) == (number == 3)


async def test_a_version_that_is_not_there_is_told_with_those_that_are(console: Console, lineage: Lineage) -> None:
    """Who mistypes a version is told which there are."""
    for name in ("9", "v5", "green", "tag:2", "0123456789abcdef", "v99999999"):
        told = await console.problem(f"/revisions/{name}", 404, "RevisionNotFound", params=PLACE)
        assert told["detail"] == f'Workflow monitoring/high-cpu has no version "{name}": it has v1 to v4.'


async def test_a_workflow_without_versions_says_so(console: Console) -> None:
    """Before the first version there is nothing to see, which is no error of the list."""
    await lineages.have(console.engine)
    assert (await console.get("/revisions"))["items"] == []
    for name, why in (("active", "it has none yet"), ("previous", "it has none yet")):
        told = await console.problem(f"/revisions/{name}", 404, "RevisionNotFound", params=PLACE)
        assert why in told["detail"]


async def test_the_timeline_tells_who_did_what_and_why(console: Console, lineage: Lineage) -> None:
    """Versions and deployments are one story, the last first; deployments alone are what status.history has ten of."""
    entries = (await console.get("/history"))["items"]
    assert [each["action"] for each in entries[:2]] == ["Deployed", "Deployed"]
    details = {"id": str(lineage.id), "from": 1, "to": 2, "cause": "AllAtOnce", "reason": "why not"}
    assert (entries[0]["actor"], entries[0]["details"]) == ("ann", details)
    assert [int(each["id"]) for each in entries] == sorted((int(each["id"]) for each in entries), reverse=True)
    deployed = (await console.get("/history", only="deployments"))["items"]
    assert [(each["fromRevision"], each["revision"], each["reason"]) for each in deployed] == [
        (1, 2, "AllAtOnce"),
        (None, 1, "AllAtOnce"),
    ]


@pytest.mark.parametrize("path", ["/revisions", "/history", "/history?only=deployments"])
async def test_pages_have_no_gaps_while_versions_are_made(console: Console, lineage: Lineage, path: str) -> None:
    """Who reads a thousand versions while others are made sees each one that was there at the start, once."""
    other = await lineages.have(console.engine, "other", of=samples.owner("other"))
    await lineages.run(console.engine, lineages.many_versions(other.id, 1_000))
    asked = {"namespace": "monitoring", "workflow": "other", "limit": "150"}
    seen: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = (await console.ask(path, params={**asked, **after})).body
        seen += page["items"]
        await lineages.add(console.engine, chr(ord("D") + len(seen) // 150), of=samples.owner("other"))
        await lineages.activate(console.engine, 1_000 + len(seen) // 150, of=samples.owner("other"))
        if page["after"] is None:
            break
        after = {"after": page["after"]}
    numbers = [each.get("number") or each.get("revision") or each["details"].get("to") for each in seen]
    there = [number for number in numbers if number is not None]
    assert there == list(range(1_000, 0, -1))


STATEMENTS = {
    "/revisions": 2,
    "/history": 2,
    "/history?only=deployments": 2,
    "/revisions/1": 3,
    "/diff?before=1&after=2": 3,
    "/retention": 2,
}


async def test_each_answer_costs_a_known_number_of_statements(console: Console, lineage: Lineage) -> None:
    """However long a history is, the database is asked as often as in a short one."""
    console.played.have_workflow(ME.uid)
    counted = database.queries(console.engine)
    for more in (0, 6):
        for content in "DEFGHI"[:more]:
            await lineages.add(console.engine, content)
        for path, statements in STATEMENTS.items():
            before = counted.statements
            assert (await console.ask(path, params=PLACE)).status == 200
            kept = 1 if more and path.startswith("/diff") else 0  # the definitions need not be read again
            assert counted.statements - before == statements - kept, path


async def test_the_ledger_of_a_tenant_costs_two_statements(console: Console, lineage: Lineage) -> None:
    """Whose ledger it is, and a page of it."""
    counted = database.queries(console.engine)
    before = counted.statements
    answer = await console.ask("/ledger?tenant=keep&limit=3")
    assert counted.statements - before == 2
    assert [each["tenant"] for each in answer.body["items"]] == ["keep"] * 3
    assert answer.body["after"]


async def test_cursors_fit_their_own_lists_only(console: Console, lineage: Lineage) -> None:
    """A cursor of another list, a made-up one, a cut one: each is refused, and none shows a wrong page."""
    cursor = (await console.get("/revisions", limit=1))["after"]
    for path in ("/history", "/history?only=deployments"):
        await console.problem(path, 400, "CursorInvalid", params={**PLACE, "after": cursor})
    await console.problem("/ledger", 400, "CursorInvalid", params={"tenant": "keep", "after": cursor})
    for wrong in ("", "x", cursor[:-1], cursor + "=", "ünï", "0" * 500):
        await console.problem("/revisions", 400, "CursorInvalid", params={**PLACE, "after": wrong})


async def test_an_answer_that_is_known_is_not_sent_again(console: Console, lineage: Lineage) -> None:
    """A page that is looked at again and again costs no traffic until something has changed."""
    first = await console.ask("/revisions", params=PLACE)
    known = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
    again = await console.ask("/revisions", params=PLACE, headers=known)
    assert (again.status, again.body, again.headers["etag"]) == (304, None, first.headers["etag"])
    await lineages.add(console.engine, "D")
    assert (await console.ask("/revisions", params=PLACE, headers=known)).status == 200
    head = await console.ask("/revisions", params=PLACE, method="HEAD")
    assert (head.status, head.body) == (200, None)


async def test_a_deleted_workflow_is_found_by_its_id(console: Console, lineage: Lineage) -> None:
    """A Workflow that is made again under the same name shows nothing of the old one; its id does."""
    await done(console.engine, lambda conn: workflows.delete(conn, lineage.id, ME, actor="bob"))
    told = await console.problem("/history", 404, "WorkflowNotFound", params=PLACE)
    assert "workflowId" in told["detail"]
    again = await lineages.have(console.engine, of=samples.owner("high-cpu", "another-uid"))
    assert (await console.get("/revisions"))["items"] == []
    assert (await console.get("/revisions"))["workflowId"] == str(again.id)
    old = await console.get("/history", workflowId=str(lineage.id))
    assert [each["action"] for each in old["items"][:2]] == ["Deleted", "Deployed"]


async def test_ids_open_no_other_door(console: Console, lineage: Lineage) -> None:
    """Who may read one namespace reads no workflow of another one, nor of another cluster, by its id."""
    elsewhere = samples.owner("other", namespace="secret")
    abroad = samples.owner("high-cpu", "uid-abroad", cluster="cluster-b")
    for other in (
        await lineages.have(console.engine, "other", of=elsewhere),
        await lineages.have(console.engine, "abroad", of=abroad),
    ):
        await console.problem("/history", 404, "WorkflowNotFound", params={**PLACE, "workflowId": str(other.id)})
    await console.problem("/history", 404, "WorkflowNotFound", params={**PLACE, "workflowId": str(uuid4())})
    assert (await console.get("/history"))["workflowId"] == str(lineage.id)


async def test_tenants_of_other_clusters_are_not_there(console: Console) -> None:
    """Two clusters that share a database do not see each other's ledgers."""
    await samples.have_tenant(console.engine, "abroad", of=samples.owner("abroad", namespace="", cluster="cluster-b"))
    for tenant in ("abroad", "nobody"):
        told = await console.problem("/ledger", 404, "TenantNotFound", params={"tenant": tenant})
        assert f'"{tenant}"' in told["detail"]


async def test_of_two_with_one_name_the_newer_is_meant(console: Console, lineage: Lineage) -> None:
    """A Workflow that is made again before the operator has collected the old one shows its own past, not the other's."""
    again = await lineages.have(console.engine, "again", of=samples.owner("high-cpu", "another-uid"))
    assert (await console.get("/history"))["workflowId"] == str(again.id)
    assert (await console.get("/history", workflowId=str(lineage.id)))["workflowId"] == str(lineage.id)
