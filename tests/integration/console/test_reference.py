"""`docs/api.md` tells the truth: each of its examples is asked, and answered so."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from contract.docs import pages
from integration.console import started
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from integration.store import lineages
from keep_operator.console import asked, endpoints
from keep_operator.domain import comparison, revision
from keep_operator.domain.history import Author, Cause, Hold, Lineage, Revision
from keep_operator.store import deployments, history, revisions
from keep_operator.store import lineages as rows

pytestmark = pytest.mark.integration

PAGE = pages.read(pages.ROOT / "docs" / "api.md")
FIRST = {
    "consts": {"limit": 80},
    "triggers": [{"type": "interval", "value": "5m"}],
    "actions": [
        {
            "name": "notify",
            "provider": {"type": "slack", "config": "{{ providers.slack }}", "with": {"message": "CPU is high"}},
        }
    ],
}
SECOND = {**FIRST, "consts": {"limit": 90}, "triggers": [{"type": "interval", "value": "1m"}]}
# What differs from run to run: times, ids, numbers of ledger entries, cursors.
CHANGING = (
    (re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z$"), "a time"),
    (re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"), "an id"),
    (re.compile(r"^\d+$"), "a number"),
    (re.compile(r"^[A-Za-z0-9_-]{12,40}$"), "a cursor"),
)


def _steady(value: Any) -> Any:
    match value:
        case dict():
            return {key: _steady(each) for key, each in value.items()}
        case list():
            return [_steady(each) for each in value]
        case str():
            return next((told for form, told in CHANGING if form.match(value)), value)
        case _:
            return value


def _examples() -> Iterator[tuple[str, str, str]]:
    """Each request with its body and the answer that the page shows."""
    blocks = [block for block in PAGE.blocks if block.language in ("http", "json")]
    for request, answer in zip(blocks[::2], blocks[1::2], strict=True):
        assert (request.language, answer.language) == ("http", "json"), request
        line, _, rest = request.text.partition("\n")
        yield line, rest.strip(), answer.text


EXAMPLES = list(_examples())


async def _make(console: Console) -> Lineage:
    """The workflow of the page: two versions, the second rolled back, the first one tagged."""
    lineage = await lineages.have(console.engine)
    for number, definition in enumerate((FIRST, SECOND), 1):
        made = Revision(
            number,
            revision.content_hash(definition),
            lineages.EARLIER,
            parent_number=number - 1 or None,
            change_note=(None, "Less noise")[number - 1],
            diff_summary=(None, comparison.summary(comparison.compare(FIRST, SECOND)))[number - 1],
            author=Author("ann@example.com", "Annotation"),
            created_from_generation=number,
        )
        seen = await lineages.own(console.engine)
        name = lineages.object_name(number)

        async def insert(conn: Any, seen: Any = seen, made: Any = made, it: Any = definition, name: str = name) -> None:
            await revisions.insert(conn, seen, made, it, name=name, actor="keep-operator")

        await lineages.done(console.engine, insert)
        await lineages.activate(console.engine, number)

    async def roll_back(conn: Any) -> None:
        seen = await rows.find(conn, lineage.id)
        assert seen is not None
        reason, by = "incident 4711", "bob@example.com"
        hold = Hold(revision.content_hash(SECOND), 1, by, reason, lineages.EARLIER)
        await revisions.tag(conn, seen, 1, "production", actor=by, reason="")
        await deployments.set_hold(conn, seen, hold, actor=by)
        await deployments.activate(conn, seen, 1, cause=Cause.ROLLBACK, actor=by, reason=reason)

    await lineages.done(console.engine, roll_back)
    console.played.have_workflow(lineages.ME.uid)
    return lineage


async def test_the_examples_are_answered_as_the_page_says(console: Console) -> None:
    """Whoever follows the page gets what it shows."""
    await started.have_token(console.engine)
    await started.have(console.engine, "notify", {"type": "alert", "cel": 'severity == "critical"'})
    await _make(console)
    console.token = console.played.give("ann", *RUNNER)
    made = ""
    for line, body, told in EXAMPLES:
        method, path = line.split()
        path = re.sub(r"/runs/[-0-9a-f]{36}", f"/runs/{made}", path)
        headers = {"Content-Type": "application/json" if body.startswith("{") else "application/yaml"} if body else {}
        token = started.TOKEN if "/events/" in path else ""
        answer = await console.ask(
            path.removeprefix("/api/v1"), method=method, headers=headers, data=body or None, token=token
        )
        assert answer.status < 300, (line, answer)
        if line.startswith("POST /api/v1/runs"):
            made = answer.body["id"]
        shown = json.loads(told)
        if path.endswith("openapi.json"):
            assert _within(shown, answer.body)
        else:
            assert _steady(answer.body) == _steady(shown), json.dumps(answer.body, indent=2)


def _within(part: Any, whole: Any) -> bool:
    """Whether a document says what a part of it that is shown says."""
    if isinstance(part, dict):
        return all(_within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


def test_every_endpoint_has_an_example() -> None:
    """No path is there that the page does not show, and none in the page that is not there."""
    shown = set()
    for line, *_ in EXAMPLES:
        path = re.sub(r"/revisions/[^?]+", "/revisions/{revision}", line.partition("?")[0])
        shown.add(re.sub(r"/runs/[-0-9a-f]{36}", "/runs/{run}", path.replace("/events/keep", "/events/{tenant}")))
    there = {f"{each.method} {endpoints.PREFIX}{each.path}" for each in endpoints.ENDPOINTS}
    assert shown == there


def test_the_limits_are_those_that_are_told() -> None:
    """Numbers in the page are those of the program."""
    text = PAGE.path.read_text(encoding="utf-8")
    assert f"{asked.LARGEST_BODY // 1024} KiB" in text
    assert f"{history.LIMIT} at most" in text
