"""Whoever means ill, or knows no better, is told what was wrong with the request, learns nothing, and holds up nobody."""

import asyncio
import random
import threading

import pytest

from integration.console.visit import Console
from integration.store import samples
from keep_operator.console import asked
from keep_operator.domain.grammar import workflow
from keep_operator.domain.grammar.workflow import Judgement
from keep_operator.domain.history import Lineage

pytestmark = pytest.mark.integration

STRANGE = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1e3",
        "99999999999999999999",
        "v",
        "v0",
        "None",
        "null",
        "true",
        "tag:",
        "tag:-",
        ".",
        "..",
        "/",
    ),
    *("%", "%00", "\x00", "\r\nX: y", "'; DROP TABLE keep_operator.ledger; --", "../../etc/passwd", "{{ x }}", "*"),
    *(
        "é",
        "\u202e",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "١٢",
        "ａ",
        "a" * 300,
        "0" * 64,
    ),
    *("dmVyc2lvbnMgMQ", "dmVyc2lvbnMgMTIzNDU2Nzg5MDEyMzQ1Njc4OTA", "active", "previous", "monitoring", "high-cpu"),
)
# Each parameter is given each so-manieth of them, beginning with another one.
TURNS = 5
PATHS = {
    "revisions": ("namespace", "workflow", "workflowId", "after", "limit"),
    "revisions/v1": ("namespace", "workflow", "workflowId"),
    "history": ("namespace", "workflow", "workflowId", "after", "limit", "only"),
    "ledger": ("tenant", "after", "limit"),
    "diff": ("namespace", "workflow", "workflowId", "before", "after", "context"),
    "retention": ("namespace", "workflow"),
    "runs": ("namespace", "workflow", "workflowId", "revision", "state", "trigger", "from", "until", "after", "limit"),
    "runs/01a22822-5caf-7078-b33b-26b60f595b67": ("after", "limit"),
}
SENSIBLE = {
    "namespace": "monitoring",
    "workflow": "high-cpu",
    "tenant": "keep",
    "before": "v1",
    "after": "v2",
    "context": "3",
    "limit": "5",
}


async def test_whatever_is_asked_has_an_answer(
    console: Console, lineage: Lineage, caplog: pytest.LogCaptureFixture
) -> None:
    """Each parameter with strange values: success, or a problem that says what is wrong; never a fault of ours."""
    statuses = set()
    asked_for = [(path, name) for path, names in PATHS.items() for name in names]
    for turn, (path, name) in enumerate(asked_for):
        query = {each: SENSIBLE[each] for each in PATHS[path] if each in SENSIBLE}
        if path != "diff":
            query.pop("after", None)
        for value in STRANGE[turn % TURNS :: TURNS]:
            answer = await console.ask(f"/{path}", params={**query, name: value})
            assert answer.status in (200, 400, 403, 404), (path, name, value, answer)
            if answer.status != 200:
                assert answer.headers["content-type"] == "application/problem+json"
                assert "SELECT" not in answer.body["detail"]
            statuses.add(answer.status)
    assert statuses >= {200, 400, 403, 404}
    assert [record for record in caplog.records if record.exc_info] == []


async def test_whatever_is_sent_has_an_answer(
    console: Console, lineage: Lineage, caplog: pytest.LogCaptureFixture
) -> None:
    """A body of random pieces of JSON and YAML is compared, or refused with a reason."""
    pieces = (
        '{"steps": [',
        "]}",
        '"name": ',
        "- ",
        "\n  ",
        ": ",
        "null",
        "NaN",
        "1e999",
        "&a ",
        "*a",
        "!!x ",
        "\\ud800",
        "é",
        "{",
        "[",
    )
    dice = random.Random(4)  # noqa: S311 - the same bodies each time
    for media_type in ("application/json", "application/yaml") * 60:
        body = "".join(dice.choices(pieces, k=dice.randint(0, 12))).encode()
        headers = {"Content-Type": media_type}
        query = {"namespace": "monitoring", "workflow": "high-cpu"}
        answer = await console.ask("/diff", method="POST", headers=headers, data=body, params=query)
        assert answer.status in (200, 400), (body, answer)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', "- ", "{a: ", "[["])
@pytest.mark.parametrize("media_type", ["application/json", "application/yaml"])
async def test_endless_nesting_is_refused(console: Console, lineage: Lineage, opening: str, media_type: str) -> None:
    """A megabyte of opening brackets is one more draft that is no definition."""
    body = (opening * (asked.LARGEST_BODY // len(opening))).encode()
    query = {"namespace": "monitoring", "workflow": "high-cpu"}
    answer = await console.ask("/diff", method="POST", headers={"Content-Type": media_type}, data=body, params=query)
    assert answer.status == 400, answer
    assert answer.body["reason"] in ("BodyInvalid", "DraftInvalid")
    assert len(answer.body["detail"]) < 2_000


async def test_a_draft_that_takes_long_to_read_holds_up_nobody(
    console: Console, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one draft is being read, others are answered."""
    others_were_answered = threading.Event()

    def slow(text: str) -> Judgement:
        assert others_were_answered.wait(30)
        return workflow.judge({"steps": []})

    monkeypatch.setattr(workflow, "read", slow)
    query = {"namespace": "monitoring", "workflow": "high-cpu"}
    headers = {"Content-Type": "application/yaml"}
    drafting = asyncio.create_task(console.ask("/diff", method="POST", headers=headers, data=b"a: 1", params=query))
    while not console.played.asked["POST subjectaccessreviews"]:  # noqa: ASYNC110 - asked of another server
        await asyncio.sleep(0.01)
    assert (await console.ask("/revisions", params=query)).status == 200
    others_were_answered.set()
    assert (await drafting).status == 200


async def test_who_may_not_read_a_tenant_learns_nothing_of_it(console: Console) -> None:
    """Neither that there is one of that id, nor what its object is called."""
    await samples.have_tenant(console.engine, "acme", of=samples.owner("acme-of-the-north", namespace=""))
    stranger = console.played.give("stranger")
    there = await console.problem("/ledger", 403, "Forbidden", token=stranger, params={"tenant": "acme"})
    not_there = await console.problem("/ledger", 403, "Forbidden", token=stranger, params={"tenant": "else"})
    assert there["detail"].replace("acme", "else") == not_there["detail"]
    assert "north" not in str(there)
