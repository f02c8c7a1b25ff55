"""The pages of runs: found by filters, looked at, cancelled; on a real database, asked as a browser does."""

import re
from typing import Any
from uuid import UUID

import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_runs import RUNNER, have
from integration.console.visit import Console
from integration.store.lineages import ME
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Lineage
from keep_operator.store import engine as database

pytestmark = pytest.mark.integration

RUNS = "/w/monitoring/high-cpu/runs"


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """Workflow monitoring/high-cpu with versions 1 and 2, of which the second is active; ann may run it."""
    console.token = console.played.give("ann", *RUNNER)
    console.played.have_workflow(ME.uid)
    await started.have(console.engine, "high-cpu", {"type": "manual"})
    return await started.change(console.engine, "high-cpu", {"type": "manual"}, consts={"limit": 80})


@pytest.fixture
async def reader(console: Console, lineage: Lineage) -> Browser:
    """Ann's browser, signed in."""
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def ended(console: Console, reason: Reason = Reason.COMPLETED, **body: Any) -> str:
    """A run that has ended."""
    run = await have(console, **body)
    await started.end(console.engine, UUID(run["id"]), reason)
    return str(run["id"])


def shown(text: str) -> list[str]:
    """The ids of the runs in a list, in its order."""
    return re.findall(r'href="/r/([0-9a-f-]{36})"', text)


async def test_runs_are_found_by_version_state_trigger_and_time(reader: Browser) -> None:
    """Filters combine, several states are one filter, and an address with them can be sent to somebody."""
    console = reader.console
    old = await ended(console, revision={"number": 1})
    failed = await ended(console, Reason.STEP_FAILED)
    late = await ended(console, Reason.TIMED_OUT)
    waits = (await have(console))["id"]
    for query, wanted in (
        ("", [waits, late, failed, old]),
        ("version=1", [old]),
        ("version=active", [waits, late, failed]),
        ("state=Failed&state=TimedOut", [late, failed]),
        ("state=Failed&state=TimedOut&version=1", []),
        ("state=Succeeded&state=Queued", [waits, old]),
        ("state=Queued&trigger=API", [waits]),
        ("trigger=Alert", []),
        ("from=2020-01-01T00:00&until=2099-01-01T00:00", [waits, late, failed, old]),
        ("until=2020-01-01T00:00", []),
        ("from=2099-01-01T00:00:00Z&version=&trigger=&state=", []),
    ):
        answer = await reader.get(f"{RUNS}?{query}")
        text = await answer.text()
        assert (answer.status, shown(text)) == (200, wanted), query
    assert "No run fits" in text
    for query in ("state=Lost", "trigger=Moon", "from=soon", "version=9", "after=bG9nIDEx", "from=%00"):
        assert (await reader.get(f"{RUNS}?{query}")).status in (400, 404), query


async def test_a_page_of_runs_shows_what_each_ran(reader: Browser) -> None:
    """Version and hash, why that one, who or what started it, and how it ended, without opening it."""
    run = await ended(reader.console, Reason.STEP_FAILED, revision={"number": 1}, mode="DryRun")
    text = await (await reader.get(RUNS)).text()
    for each in ("v1 (", "Pinned", "API, DryRun", "Failed", "StepFailed", f"/r/{run}", 'aria-current="page">Runs'):
        assert each in text, each


async def test_lists_of_runs_have_pages(reader: Browser) -> None:
    """The newest first; the filter goes along, and no run is shown twice or left out."""
    made = [(await have(reader.console))["id"] for _ in range(53)]
    text = await (await reader.get(f"{RUNS}?state=Queued&state=Failed&version=2")).text()
    (behind,) = re.findall(r'href="([^"]+)" rel="next"', text)
    assert "state=Queued&amp;state=Failed" in behind and "version=2" in behind
    rest = await (await reader.get(behind.replace("&amp;", "&"))).text()
    assert shown(text) + shown(rest) == made[::-1]
    assert 'rel="next"' not in rest and "The newest" in rest


async def test_each_version_has_its_rate(reader: Browser) -> None:
    """Whoever asks whether the new version is worse than the old one reads it from the page, with or without a chart."""
    console = reader.console
    for reason in (Reason.COMPLETED, Reason.COMPLETED, Reason.COMPLETED, Reason.STEP_FAILED):
        await ended(console, reason, revision={"number": 1})
    for reason in (Reason.TIMED_OUT, Reason.STEP_FAILED, Reason.CANCELLED):
        await ended(console, reason)
    text = await (await reader.get(RUNS)).text()
    assert "75.0 %" in text and "1 of 4" in text and "2 of 2" in text and "0.0 %" in text
    (chart, *_) = re.findall(r'data-chart="([^"]+)"', text)
    assert "&#34;names&#34;: [&#34;v1&#34;, &#34;v2&#34;]" in chart and "[75.0, 0.0]" in chart
    text = await (await reader.get(f"{RUNS}?version=1&state=Failed")).text()
    assert "75.0 %" in text and "2 of 2" not in text


async def test_the_page_of_runs_costs_a_known_number_of_statements(reader: Browser) -> None:
    """However many runs there are and however they are filtered: the line, its history, a page, the rates."""
    counted = database.queries(reader.console.engine)
    for made in (0, 3):
        for _ in range(made):
            await ended(reader.console)
        for query in ("", "?version=1", "?state=Failed&state=Succeeded", "?version=2&trigger=API"):
            before = counted.statements
            assert (await reader.get(RUNS + query)).status == 200
            assert counted.statements - before == 4, query


async def test_who_may_not_see_runs_sees_none(reader: Browser) -> None:
    """The right to a Workflow is none to what it did."""
    reader.console.played.rights["ann"].remove("get workflowruns monitoring")
    answer = await reader.get(RUNS)
    assert answer.status == 403 and "may not get workflowruns" in await answer.text()
