"""The pages of runs: found by filters, looked at, cancelled; on a real database, asked as a browser does."""

import html
import json
import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_runs import RUNNER, have
from integration.console.visit import Console
from integration.store import lineages, samples
from integration.store.lineages import EARLIER, ME, done
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import Reason, Run, Step, StepState
from keep_operator.domain.history import Lineage
from keep_operator.domain.ownership import Owner
from keep_operator.store import engine as database
from keep_operator.store import executions, runs
from keep_operator.store.executions import Progress

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


async def begun(console: Console, run_id: str, *names: str, result: Any = None, message: str | None = None) -> Run:
    """A worker has the run, and has done these steps."""
    claim = await done(console.engine, lambda conn: executions.claim(conn, UUID(run_id), "worker-1"))
    assert claim is not None
    for place, name in enumerate(names):
        await step(console, claim.run, place, name, result=result, message=message)
    return claim.run


async def step(console: Console, run: Run, place: int, name: str, **more: Any) -> None:
    """A step is begun and ends."""
    started_ = Step(place, -1, 1, run.attempt, name, "action", "console", StepState.RUNNING, "None", EARLIER)
    await done(console.engine, lambda conn: executions.write(conn, run, Progress((started_,))))
    finished = replace(started_, state=StepState.SUCCEEDED, **more)
    await done(console.engine, lambda conn: executions.write(conn, run, Progress((finished,))))


async def test_a_run_shows_the_definition_that_ran(reader: Browser) -> None:
    """Not the one that is active now: that is a link to what is different."""
    console = reader.console
    run = await have(console, revision={"number": 1}, inputs={"who": "me"})
    claimed = await begun(console, run["id"], "tell", result={"a": [1, None]}, message="told")
    lines = [{"at": "2026-06-01T00:00:00Z", "position": 0, "level": "INFO", "message": f"line {n}"} for n in range(103)]
    await done(console.engine, lambda conn: executions.write(conn, claimed, Progress(lines=lines)))
    text = await (await reader.get(f"/r/{run['id']}")).text()
    for each in (
        "v1 (", run["contentHash"], "/w/monitoring/high-cpu/compare/1...2", "The definition that ran", "message: hello",
        "tell", "told", "&#34;a&#34;", "line 102", "00:00:00.000", "&#34;who&#34;: &#34;me&#34;", "Running", f"/r/{run['id']}/again",
    ):  # fmt: skip
        assert each in text, each
    assert "limit: 80" not in text and "line 2<" not in text
    (earlier,) = re.findall(r'href="([^"]+)#log">Earlier lines', text)
    before = await (await reader.get(earlier)).text()
    assert re.findall("<td>line (\\d+)</td>", before) == ["0", "1", "2"] and "Earlier lines" not in before
    assert "hx-sse" not in before, "what one reads does not run away"
    for wrong in ("c3RlcHMg_w", "bG9nIC0x", "x" * 300):
        assert (await reader.get(f"/r/{run['id']}?log={wrong}")).status == 400


async def test_a_run_of_the_active_version_leads_to_what_that_has_changed(reader: Browser) -> None:
    """Since yesterday it fails: what is new is one click away. The first version has nothing before it."""
    new = (await have(reader.console))["id"]
    assert 'compare/1...2">what is different from the version before' in await (await reader.get(f"/r/{new}")).text()
    first = await started.have(reader.console.engine, "first", {"type": "manual"})
    only = (await have(reader.console, workflow="first"))["id"]
    text = await (await reader.get(f"/r/{only}")).text()
    assert first.active_number == 1
    assert "it is active now" in text and "/compare/" not in text.partition('<div id="live"')[0]


async def test_many_steps_have_pages(reader: Browser) -> None:
    """Of a loop over hundreds the last ones are shown first, since that is where it is; none is left out."""
    console = reader.console
    run = await have(console)
    claimed = await begun(console, run["id"])
    await lineages.run(
        console.engine,
        "INSERT INTO keep_operator.run_step (run_id, position, iteration, try_number, attempt, name, kind, type, state, "  # noqa: S608
        f"side_effects, completed_at) SELECT '{claimed.id}', n / 50, n % 50 - 1, 1, 1, 'many-' || n, 'step', 'console', "
        "'Succeeded', 'None', now() FROM generate_series(0, 249) n",
    )
    seen: list[str] = []
    path: str | None = f"/r/{run['id']}"
    while path is not None:
        text = await (await reader.get(path)).text()
        seen = [*re.findall(r"<strong>many-(\d+)</strong>", text), *seen]
        found = re.search(r'<a href="([^"]+)">Earlier steps', text)
        path = found and found[1]
    assert seen == [str(n) for n in range(250)]
    for wrong in ("c3RlcHMg_w", "x" * 300, "cnVucyAx"):
        assert (await reader.get(f"/r/{run['id']}?steps={wrong}")).status == 400


async def test_the_page_of_a_run_costs_a_known_number_of_statements(reader: Browser) -> None:
    """The run, its steps, its log, what is active, the definition."""
    run = await have(reader.console)
    await begun(reader.console, run["id"], "one", "two", "three")
    counted = database.queries(reader.console.engine)
    before = counted.statements
    assert (await reader.get(f"/r/{run['id']}")).status == 200
    assert counted.statements - before == 5


async def test_a_run_that_one_may_not_see_is_as_one_that_is_not_there(reader: Browser) -> None:
    """Of another namespace's runs nobody learns whether there are any; what is no id is none."""
    run = await have(reader.console)
    reader.console.played.rights["ann"].remove("get workflowruns monitoring")
    reader.console.clock.seconds += 11
    there = await reader.get(f"/r/{run['id']}")
    absent = await reader.get(f"/r/{UUID(int=1)}")
    assert (there.status, absent.status) == (404, 404)
    assert (await there.text()).replace(run["id"], "") == (await absent.text()).replace(str(UUID(int=1)), "")
    for path in ("/r/1", "/r/%00", f"/r/{run['id']}/cancel", f"/live/run/{run['id']}", "/live/run/x"):
        assert (await reader.get(path)).status == 404, path


async def test_the_right_to_versions_is_one_of_its_own(reader: Browser) -> None:
    """Who may see runs but no definitions is told so, and sees the run."""
    run = await have(reader.console)
    reader.console.played.rights["ann"].remove("get workflowrevisions monitoring")
    answer = await reader.get(f"/r/{run['id']}")
    text = await answer.text()
    assert answer.status == 200 and "may not get workflowrevisions" in text and "message: hello" not in text


async def by_alert(console: Console, lineage: Lineage, event: dict[str, Any]) -> Run:
    """A run that an alert has started: it has no object, and its event is all that it got."""
    wanted = Asked("Alert", "alert-1", "alert", event=event, fingerprint="disk-full")
    made = await done(console.engine, lambda conn: runs.request(conn, lineage.id, wanted))
    assert isinstance(made, runs.Requested)
    return made.run


async def test_what_an_alert_has_started_is_run_again_with_its_alert(reader: Browser, lineage: Lineage) -> None:
    """The same version, event and inputs, by the button and by the command beside it; sent twice it is one run."""
    console = reader.console
    first = await by_alert(console, lineage, {"name": "disk full", "labels": {"host": "db-1"}})
    await started.change(console.engine, "high-cpu", {"type": "manual"}, consts={"limit": 90})
    text = await (await reader.get(f"/r/{first.id}")).text()
    command = json.dumps({"namespace": "monitoring", "workflow": "high-cpu", "retryOf": str(first.id)})
    assert command in html.unescape(text)
    page = await (await reader.get(f"/r/{first.id}/again")).text()
    assert command in html.unescape(page) and "the same event" in page and "that is v3" in page
    fields = dict(re.findall('type="hidden" name="([a-z_]+)" value="([^"]*)"', page))
    assert (await reader.post(f"/r/{first.id}/again", **{**fields, "csrf": "x"})).status == 403
    answer, twice = [await reader.post(f"/r/{first.id}/again", **fields) for _ in range(2)]
    assert answer.status == 303 and answer.headers["Location"] == twice.headers["Location"]
    by_command = await console.ask("/runs", method="POST", json=json.loads(command))
    assert by_command.status == 201
    for made in (answer.headers["Location"].removeprefix("/r/"), by_command.body["id"]):
        told = (await console.ask(f"/runs/{made}")).body
        assert (told["revision"], told["retryOf"], told["requestedBy"]) == (2, str(first.id), "ann")
        assert (told["event"], told["inputs"]) == ({"name": "disk full", "labels": {"host": "db-1"}}, {})
        assert f"/r/{first.id}" in await (await reader.get(f"/r/{made}")).text()


async def test_what_a_workflowrun_has_started_is_run_again_by_its_name(reader: Browser, lineage: Lineage) -> None:
    """kubectl keep takes version and inputs from the WorkflowRun that is named; a dry run stays one."""
    owner = Owner(samples.CLUSTER, "monitoring", "high-cpu-1", "uid-of-run")
    wanted = Asked("Manual", "run-1", "ann", inputs={"who": "me"}, mode="DryRun", owner=owner)
    made = await done(reader.console.engine, lambda conn: runs.request(conn, lineage.id, wanted))
    assert isinstance(made, runs.Requested)
    page = await (await reader.get(f"/r/{made.run.id}/again")).text()
    assert "kubectl keep run high-cpu --retry high-cpu-1 --mode DryRun -n monitoring" in page
    (csrf,) = set(re.findall('name="csrf" value="([^"]+)"', page))
    answer = await reader.post(f"/r/{made.run.id}/again", csrf=csrf)
    told = (await reader.console.ask(f"/runs/{answer.headers['Location'].removeprefix('/r/')}")).body
    assert (told["mode"], told["inputs"], told["revision"]) == ("DryRun", {"who": "me"}, 2)


async def test_who_may_not_run_is_offered_nothing(reader: Browser) -> None:
    """No button; by the address the right that is missing, and no run."""
    run = await have(reader.console)
    csrf = await reader.csrf()
    reader.console.played.rights["ann"].remove("create workflowruns monitoring")
    reader.console.clock.seconds += 11
    assert "/again" not in await (await reader.get(f"/r/{run['id']}")).text()
    for answer in (await reader.get(f"/r/{run['id']}/again"), await reader.post(f"/r/{run['id']}/again", csrf=csrf)):
        assert answer.status == 403 and "may not create workflowruns" in await answer.text()
    assert shown(await (await reader.get(RUNS)).text()) == [run["id"]]


async def test_a_run_that_cannot_be_repeated_says_why(reader: Browser) -> None:
    """A workflow that is suspended does not run by this way either."""
    run = await ended(reader.console, revision={"number": 1})
    csrf = await reader.csrf()
    await lineages.run(reader.console.engine, "UPDATE keep_operator.workflow SET suspended = true")
    answer = await reader.post(f"/r/{run}/again", csrf=csrf)
    assert answer.status == 409 and "suspended" in await answer.text()


async def test_a_run_is_cancelled_after_a_question(reader: Browser) -> None:
    """With the right and the session's own form; who may not finds no button, and by the address the word no."""
    console = reader.console
    run = await have(console)
    path = f"/r/{run['id']}/cancel"
    assert path in await (await reader.get(f"/r/{run['id']}")).text()
    text = await (await reader.get(path)).text()
    (csrf,) = set(re.findall('name="csrf" value="([^"]+)"', text))
    assert (await reader.post(path)).status == 403
    assert "Queued" in await (await reader.get(f"/r/{run['id']}")).text()
    answer = await reader.post(path, csrf=csrf)
    assert (answer.status, answer.headers["Location"]) == (303, f"/r/{run['id']}")
    text = await (await reader.get(f"/r/{run['id']}")).text()
    assert "Cancelled by ann" in text and path not in text
    assert "nothing to cancel" in await (await reader.get(path)).text()
    other = await have(console)
    console.played.rights["ann"].remove("patch workflowruns monitoring")
    console.clock.seconds += 11
    assert "/cancel" not in await (await reader.get(f"/r/{other['id']}")).text()
    for answer in (
        await reader.get(f"/r/{other['id']}/cancel"),
        await reader.post(f"/r/{other['id']}/cancel", csrf=csrf),
    ):
        assert answer.status == 403
    assert "Queued" in await (await reader.get(f"/r/{other['id']}")).text()
