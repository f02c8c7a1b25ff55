"""What differs, over HTTP: between two versions, and from a draft; whatever is sent."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import pytest

from integration.console.visit import Console
from integration.store import lineages
from keep_operator.console import asked
from keep_operator.domain import difference, revision
from keep_operator.domain.history import Lineage, Revision
from keep_operator.store import engine as database
from keep_operator.store import revisions

pytestmark = pytest.mark.integration

PLACE = {"namespace": "monitoring", "workflow": "high-cpu"}
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}


def large(words: str) -> dict[str, Any]:
    """A definition of somewhat less than 200 KiB."""
    actions = [
        {"name": f"a{number}", "provider": {"type": "slack", "with": {"message": f"{words} {number} {'x' * 60}"}}}
        for number in range(1_300)
    ]
    return {"triggers": [{"type": "manual"}], "actions": actions}


async def add(console: Console, definition: dict[str, Any]) -> None:
    """Another version of the workflow, with this content."""
    seen = await lineages.own(console.engine)
    made = Revision(seen.latest_number + 1, revision.content_hash(definition), lineages.EARLIER)
    name = lineages.object_name(made.number)
    async with database.transaction(console.engine) as conn:
        await revisions.insert(conn, seen, made, definition, name=name, actor="keep-operator")


async def drafted(console: Console, body: str | bytes, headers: dict[str, str] = JSON, **asked_for: Any) -> Any:
    """The good answer to a draft."""
    answer = await console.ask("/diff", method="POST", params={**PLACE, **asked_for}, data=body, headers=headers)
    assert answer.status == 200, answer
    return answer.body


async def test_two_versions_are_compared_as_the_rules_do_it(console: Console, lineage: Lineage) -> None:
    """The answer is the one that kubectl keep and the pages give, whichever way round."""
    there = await console.get("/diff", before="1", after="active", context=0)
    told = difference.told(lineages.definition_of("A"), lineages.definition_of("B"), context=0)
    assert {key: there[key] for key in told} == told
    assert (there["before"]["number"], there["after"]["number"]) == (1, 2)
    assert there["before"]["contentHash"] == lineages.hash_of("A")
    back = await console.get("/diff", before="2", after="1")
    turned = {"added": "removed", "removed": "added"}
    assert {(each["name"], turned[each["kind"]]) for each in back["changes"]} == {
        (each["name"], each["kind"]) for each in there["changes"]
    }
    same = await console.get("/diff", before="1", after="4")
    assert (same["identical"], same["changes"], same["hunks"]) == (True, [], [])


async def test_a_comparison_is_not_made_twice_for_one_client(console: Console, lineage: Lineage) -> None:
    """Versions never change, so a client that has the answer is told so before anything large is read."""
    first = await console.ask("/diff", params={**PLACE, "before": "1", "after": "2"})
    counted = database.queries(console.engine)
    before = counted.statements
    known = {"If-None-Match": first.headers["etag"]}
    again = await console.ask("/diff", params={**PLACE, "before": "1", "after": "2"}, headers=known)
    assert (again.status, counted.statements - before) == (304, 2)
    other = await console.ask("/diff", params={**PLACE, "before": "1", "after": "2", "context": 9}, headers=known)
    assert other.status == 200


async def test_large_definitions_are_compared_while_others_are_answered(console: Console) -> None:
    """Two definitions of 200 KiB that differ everywhere: the answer is complete, and a page is there in between."""
    await lineages.have(console.engine)
    for words in ("before", "after"):
        await add(console, large(words))
    comparing = asyncio.create_task(console.get("/diff", before="1", after="2"))
    assert len((await console.get("/revisions"))["items"]) == 2
    told = await comparing
    assert len(told["changes"]) == 1_300
    draft = await drafted(console, json.dumps(large("before")), before="2")
    assert (len(draft["changes"]), draft["after"]["number"]) == (1_300, 1)


WORKFLOW = {"actions": [{"name": "tell", "provider": {"type": "slack", "with": {"message": "ünï \u2028 ☃"}}}]}
MANIFEST = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Workflow", "spec": {"definition": WORKFLOW}}


async def test_a_draft_is_taken_in_every_form(console: Console, lineage: Lineage) -> None:
    """A definition, a manifest, one of Keep's files, as JSON or YAML: one answer."""
    forms = [
        (json.dumps(WORKFLOW), JSON),
        (json.dumps(MANIFEST), JSON),
        (json.dumps({"workflow": WORKFLOW}, ensure_ascii=False), JSON),
        (json.dumps(WORKFLOW), YAML),
        ("workflow:\n  id: x\n  description: what people read\n  actions: " + json.dumps(WORKFLOW["actions"]), YAML),
        ("kind: Workflow\nspec:\n  definition: " + json.dumps(WORKFLOW), {"Content-Type": "text/yaml; charset=utf-8"}),
    ]
    answers = [await drafted(console, body, headers) for body, headers in forms]
    for each in answers:
        assert each["after"] == {"name": "draft", "number": None, "contentHash": revision.content_hash(WORKFLOW)}
        assert {**each, "warnings": []} == {**answers[0], "warnings": []}
    assert answers[0]["before"]["number"] == 2, "the active one, as none was named"


async def test_faults_of_a_draft_are_told_and_hinder_nothing(console: Console, lineage: Lineage) -> None:
    """Whoever asks about an unfinished draft learns what it changes, and what is still wrong with it, line by line."""
    told = await drafted(console, "actions:\n- name: tell\ntriggers:\n- type: sometimes\n", YAML, before="previous")
    assert told["before"]["number"] == 1
    assert not told["identical"]
    assert {(each["path"], each["line"]) for each in told["faults"]} >= {("triggers[0].type", 4)}
    assert all(each["reason"] and each["message"] for each in told["faults"])


# A few lines that become a thousand million values.
BOMB = b"a0: &a0 [1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)
)


NO_DRAFTS: tuple[tuple[bytes, dict[str, str], int, str], ...] = (
    (b"", JSON, 400, "BodyInvalid"),
    (b"{", JSON, 400, "BodyInvalid"),
    (b"\xff\xfe", JSON, 400, "BodyInvalid"),
    (b'{"a": NaN}', JSON, 400, "BodyInvalid"),
    (b'{"a": 1, "a": 2}', JSON, 400, "BodyInvalid"),
    (b"[" * 500_000, JSON, 400, "BodyInvalid"),
    (b'{"steps":' * 60 + b"1" + b"}" * 60, JSON, 400, "DraftInvalid"),
    (b"[]", JSON, 400, "DraftInvalid"),
    (b'"text"', JSON, 400, "DraftInvalid"),
    (b"null", JSON, 400, "DraftInvalid"),
    (b'{"steps": ["\\ud800"]}', JSON, 400, "DraftInvalid"),
    (b'{"steps": [12345678901234567890123]}', JSON, 400, "DraftInvalid"),
    (b'{"steps": [' + b"1" * 5_000 + b"]}", JSON, 400, "BodyInvalid"),
    (b'{"kind": "Workflow", "spec": {"definitionFrom": {}}}', JSON, 400, "DraftInvalid"),
    (b'{"kind": "Workflow", "spec": []}', JSON, 400, "DraftInvalid"),
    (b"a: &a [*a]", YAML, 400, "DraftInvalid"),
    (BOMB, YAML, 400, "DraftInvalid"),
    (b"on: yes: no", YAML, 400, "DraftInvalid"),
    (b"\x00", YAML, 400, "DraftInvalid"),
    (b"{}", {}, 415, "BodyInvalid"),
    (b"{}", {"Content-Type": "application/xml"}, 415, "BodyInvalid"),
    (json.dumps({"consts": {"a": "x" * 205_000}}).encode(), JSON, 400, "DraftInvalid"),
    (b"x" * (asked.LARGEST_BODY + 1), YAML, 413, "BodyTooLarge"),
)


async def test_what_is_no_draft_is_refused_with_the_fault(console: Console, lineage: Lineage) -> None:
    """Broken, deep, endless, binary, huge: each is told what is wrong with it, and the console goes on."""
    for body, headers, status, reason in NO_DRAFTS:
        answer = await console.ask("/diff", method="POST", params=PLACE, data=io.BytesIO(body), headers=headers)
        assert (answer.status, answer.body["reason"]) == (status, reason), body[:100]
        assert len(answer.body["detail"]) < 1_000
        assert (await console.ask("")).status == 200


async def test_a_body_without_an_end_is_not_read_to_it(console: Console, lineage: Lineage) -> None:
    """Who sends for ever, without saying how much, is cut off at the limit."""
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    try:
        answer = await console.ask("/diff", method="POST", params=PLACE, data=endless(), headers=JSON)
        assert (answer.status, answer.body["reason"]) == (413, "BodyTooLarge")
    except (aiohttp.ClientError, ConnectionError):
        pass  # the connection was closed before the client had read the answer
    assert sent < 64 * asked.LARGEST_BODY
    assert (await console.ask("")).status == 200


async def test_a_draft_of_nobody_is_not_read(console: Console, lineage: Lineage) -> None:
    """What somebody without a right sends is not looked at."""
    token = console.played.give("eve")
    for who, status in ((token, 403), ("wrong", 401)):
        answer = await console.ask("/diff", method="POST", params=PLACE, data=b"{", headers=JSON, token=who)
        assert answer.status == status
