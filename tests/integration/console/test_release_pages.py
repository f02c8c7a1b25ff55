"""The page of a release: what stands before the newest version, how its canary does, and who may decide what."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from integration.console import started
from integration.console.test_live import message, until, watching
from integration.console.test_pages import Browser
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from integration.store import lineages
from integration.store.lineages import ME, done, own
from keep_operator.domain import canary
from keep_operator.domain.effects import CheckItem, Review
from keep_operator.domain.history import Lineage
from keep_operator.resources import workflow
from keep_operator.resources.kinds import TENANTS
from keep_operator.resources.shapes import Invalid
from keep_operator.store import engine as database
from keep_operator.store import releases, revisions

pytestmark = pytest.mark.integration

PAGE = "/w/monitoring/high-cpu/release"
CANARY = {
    "strategy": {
        "type": "Canary",
        "canary": {
            "steps": [
                {"setWeight": 10},
                {"pause": {"duration": "10m"}},
                {"analysis": {"minRuns": 5, "window": "30m", "maxFailureRatePercent": 20}},
                {"pause": {}},
            ]
        },
    },
    "autoRollback": {"enabled": True, "window": "1h", "minRuns": 10, "maxFailureRatePercent": 30},
}
APPROVAL = {
    "approval": {"required": "Always", "minApprovals": 2, "approvers": {"users": ["bob", "carl"]}},
    "checklist": [
        {"id": "runbook", "title": "The runbook is written"},
        {"id": "dry", "title": "Dry runs are good", "auto": "dryRuns.total >= 1"},
    ],
}
DECIDER = ("create workflowdecisions monitoring", *(
    f"{each} workflows monitoring/high-cpu"
    for each in ("approve", "deny", "promote", "abort", "pause", "resume", "checkitem", "deploy", "retry", "rollback")
))  # fmt: skip


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """Workflow monitoring/high-cpu with a stable version 1 and a newer one, which is not active yet."""
    console.token = console.played.give("ann", *RUNNER)
    await lineages.have(console.engine, contents="AB")
    return await lineages.activate(console.engine, 1)


@pytest.fixture
async def reader(console: Console, lineage: Lineage) -> Browser:
    """Ann's browser, signed in."""
    browser = Browser(console)
    await browser.sign_in()
    return browser


def have(console: Console, release: dict[str, Any], deployed: str = "Progressing", **conditions: Any) -> None:
    """The Workflow's object as the operator leaves it."""
    console.played.have_workflow(ME.uid, release=release)
    (found,) = (each for path, each in console.played.objects.items() if path.endswith("/workflows/high-cpu"))
    told = [{"type": "Deployed", "status": "Unknown", "reason": deployed, "message": "so it is", **_SINCE}]
    told += [{"type": name, "message": "", **_SINCE, **each} for name, each in conditions.items()]
    found["status"] = {"conditions": told}


_SINCE = {"lastTransitionTime": "2026-06-01T00:00:00Z"}


async def begin(console: Console, weight: int = 10, step: int = 1, sticky_key: str | None = None) -> Lineage:
    """A canary of the second version, at one of its steps."""
    seen = await own(console.engine)
    spec = workflow.parse_spec({"definition": {}, "release": CANARY})
    assert not isinstance(spec, Invalid) and spec.release.strategy.canary is not None and seen.read_at is not None
    begun = canary.begin(2, 1, spec.release.strategy.canary.steps, sticky_key, seen.read_at)
    begun = replace(begun, weight=weight, step=step)
    await done(console.engine, lambda conn: releases.set_canary(conn, seen, begun, actor="operator"))
    return await own(console.engine)


async def ran(console: Console, lineage: Lineage, number: int, good: int, bad: int) -> None:
    """So many runs of a version that have ended."""
    revision = lineage.get(number)
    assert revision is not None
    for state, reason, count in (("Succeeded", "Completed", good), ("Failed", "StepFailed", bad)):
        await lineages.run(
            console.engine,
            "INSERT INTO keep_operator.run (id, tenant_id, workflow_id, revision, content_hash, selection, trigger, mode, "  # noqa: S608
            "state, reason, idempotency_key, requested_by, inputs, started_at, completed_at, max_attempts, timeout_s) "
            "SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || "
            "substr(md5(random()::text), 1, 20))::uuid, "
            f"'keep', '{lineage.id}', {number}, '{revision.content_hash}', 'Active', 'API', 'Live', '{state}', '{reason}', "
            f"gen_random_uuid()::text, 'ann', '{{}}', now(), now() + interval '2 s', 3, 60 FROM generate_series(1, {count})",
        )


async def test_the_gates_say_who_is_waited_for(reader: Browser) -> None:
    """Who has approved, whose word counts, how many are missing, and what of the checklist is open."""
    console = reader.console
    have(console, APPROVAL, "AwaitingApproval", Approved={"status": "Unknown", "reason": "AwaitingApproval"})
    console.played.give("ann", *DECIDER)
    seen = await own(console.engine)
    await done(console.engine, lambda conn: releases.review(conn, seen, Review(2, True, "bob"), actor="operator"))
    await done(console.engine, lambda conn: releases.review(conn, seen, Review(2, True, "eve"), actor="operator"))
    text = await (await reader.get(PAGE)).text()
    for each in (
        "AwaitingApproval", "<dt>Missing</dt><dd>1</dd>", "bob, carl", "bob approves", "eve approves",
        "it does not count: &#34;eve&#34; is none of the approvers", "Yours would not count",
        "The runbook is written", "Tick runbook", "kubectl keep check high-cpu runbook v2 -n monitoring",
        "/w/monitoring/high-cpu/decide/checkitem?revision=2&amp;item=runbook", "found out by itself",
        "/w/monitoring/high-cpu/decide/approve?revision=2", "kubectl keep approve high-cpu v2 -n monitoring",
        "/w/monitoring/high-cpu/compare/1...2",
    ):  # fmt: skip
        assert each in text, each
    assert "Tick dry" not in text
    ticked = CheckItem(2, "runbook", True, "carl", "it is")
    await done(console.engine, lambda conn: releases.check(conn, seen, ticked, actor="operator"))
    text = await (await reader.get(PAGE)).text()
    assert "carl" in text and "it is" in text and "Tick runbook" not in text


async def test_the_tenants_floors_are_gates_too(reader: Browser) -> None:
    """What the Workflow does not say its Tenant may; and a viewer finds no button."""
    console = reader.console
    have(console, {}, "AwaitingApproval", Approved={"status": "Unknown", "reason": "AwaitingApproval"})
    floors = {"approvalFloor": {"required": "Always"}, "checklistFloor": [{"id": "four", "title": "Four eyes"}]}
    console.played.objects[TENANTS.path(None, "keep")]["spec"] = {"policy": floors}
    text = await (await reader.get(PAGE)).text()
    assert "for every version" in text and "Four eyes" in text and "everyone who has the right" in text
    assert "/decide/" not in text


async def test_a_canary_says_by_what_its_runs_are_told_apart(reader: Browser) -> None:
    """Who wonders why an alert went to one side reads by which key, and what stands in where the key has no answer."""
    console = reader.console
    have(console, CANARY, "CanaryInProgress")
    await begin(console)
    assert "<dt>Told apart by</dt><dd>the alert's fingerprint</dd>" in await (await reader.get(PAGE)).text()
    seen = await own(console.engine)
    await done(console.engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="ann"))
    await begin(console, sticky_key="event.labels.host")
    text = await (await reader.get(PAGE)).text()
    assert "<code>event.labels.host</code>; a run for which it has no answer by its alert's fingerprint" in text


async def test_resume_says_that_a_rejected_version_stays_so(reader: Browser) -> None:
    """Before somebody resumes a version that was taken back he reads that it will not run by that."""
    console = reader.console
    have(console, {}, "AutoRolledBack")
    console.played.give("ann", *DECIDER)
    path = PAGE.replace("/release", "/decide/resume")
    assert "It does not run by that" not in await (await reader.get(path)).text()
    seen = await own(console.engine)
    await done(console.engine, lambda conn: revisions.reject(conn, seen, 2, verdict="AnalysisFailed", actor="operator"))
    text = await (await reader.get(path)).text()
    assert "It does not run by that" in text and "decide Retry" in text


async def test_a_canary_is_seen_at_its_step_with_both_versions_numbers(reader: Browser) -> None:
    """Where it is, how long still, and whether it does worse than what it shall replace."""
    console = reader.console
    have(console, CANARY, "CanaryInProgress")
    console.played.give("ann", *DECIDER)
    seen = await begin(console)
    await ran(console, seen, 1, 9, 1)
    await ran(console, seen, 2, 3, 1)
    assert seen.canary is not None
    over = seen.canary.step_since + timedelta(minutes=10)
    text = await (await reader.get(PAGE)).text()
    for each in (
        "v2 (", "with 10 % of the runs", "with 90 % of the runs", '<li aria-current="step">wait 10 min', "ends <time",
        f'title="{over:%Y-%m-%dT%H:%M:%SZ}"', "analysis: of at least 5 runs within 30 min 0 s, at most 20 % fail", "wait for a person",
        "<td>10</td><td>1</td><td>10.0</td>", "<td>4</td><td>1</td><td>25.0</td>", "canary v2", "[25.0]", "[10.0]",
        "decide/promote", "decide/promote?full=true", "decide/abort", "decide/pause",
        "more than 30 % fail", "So is the canary: 1 of 4 runs failed",
    ):  # fmt: skip
        assert each in text, each


async def test_what_became_active_is_watched_until_then(reader: Browser) -> None:
    """Whoever has just released sees how long it can still be taken back by itself, and how close it is to that."""
    console = reader.console
    have(console, CANARY, "RevisionActive")
    seen = await lineages.activate(console.engine, 2)
    await ran(console, seen, 2, 1, 2)
    text = await (await reader.get(PAGE)).text()
    assert "is watched until" in text and "2 of 3 runs failed" in text
    assert "None is under way" in text and "New versions take all runs" not in text


async def test_the_page_of_a_release_is_kept_up_to_date(reader: Browser) -> None:
    """A canary that ends, a run that fails: everybody who has the page open sees it."""
    console = reader.console
    have(console, CANARY, "CanaryInProgress")
    seen = await begin(console)
    assert f'hx-sse:connect="/live{PAGE}"' in await (await reader.get(PAGE)).text()
    async with watching(reader, f"/live{PAGE}") as stream:
        assert "CanaryInProgress" in await message(stream)
        await ran(console, seen, 2, 0, 1)
        assert "100.0" in await until(stream, "canary v2")
        have(console, CANARY, "AutoRolledBack")
        await done(console.engine, lambda conn: releases.end_canary(conn, seen, "Failed", actor="operator"))
        await until(stream, "AutoRolledBack")


async def test_the_head_of_a_workflow_is_kept_up_to_date(reader: Browser) -> None:
    """A version that becomes active is seen without a reload; the stream holds that part of the page and no more."""
    console = reader.console
    have(console, {})
    page = await (await reader.get("/w/monitoring/high-cpu")).text()
    assert 'hx-sse:connect="/live/w/monitoring/high-cpu"' in page
    async with watching(reader, "/live/w/monitoring/high-cpu") as stream:
        first = await message(stream)
        assert "v1 (" in first and "Timeline" not in first
        await lineages.activate(console.engine, 2)
        await until(stream, "<dt>Active</dt><dd>v2 (")


async def test_streams_of_workflows_take_the_right_to_look_at_them(reader: Browser) -> None:
    """As the pages do."""
    have(reader.console, {})
    for path in ("/live/w/other/high-cpu", "/live/w/other/high-cpu/release", "/live/w/%2e%2e/x"):
        assert (await reader.get(path)).status in (403, 404), path
    assert (await Browser(reader.console).get("/live/w/monitoring/high-cpu")).status == 401


async def test_the_page_of_a_release_costs_a_known_number_of_statements(reader: Browser) -> None:
    """The line, its history, its tenant; with a canary what was counted, and its course."""
    console = reader.console
    counted = database.queries(console.engine)
    have(console, {})
    before = counted.statements
    assert (await reader.get(PAGE)).status == 200
    assert counted.statements - before == 3
    have(console, CANARY, "CanaryInProgress")
    await begin(console)
    before = counted.statements
    assert (await reader.get(PAGE)).status == 200
    assert counted.statements - before == 5


@pytest.mark.parametrize("spec", [{"release": 3}, {"release": {"strategy": {"type": "Soon"}}}])
async def test_a_spec_that_is_refused_has_no_gates_to_show(reader: Browser, spec: dict[str, Any]) -> None:
    """The page says so, and shows what is known."""
    reader.console.played.have_workflow(ME.uid, **spec)
    answer = await reader.get(PAGE)
    text = await answer.text()
    assert answer.status == 200 and "its spec is refused" in text and "v2 (" in text


async def test_a_workflow_without_a_version_has_a_page(console: Console) -> None:
    """Right after it was applied."""
    console.token = console.played.give("ann", *RUNNER)
    await started.have(console.engine, "other", {"type": "manual"})
    await lineages.have(console.engine)
    have(console, {})
    browser = Browser(console)
    await browser.sign_in()
    answer = await browser.get(PAGE)
    assert answer.status == 200 and "There is no version yet" in await answer.text()
