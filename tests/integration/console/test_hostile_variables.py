"""Every place of every page where something is shown: what users write arrives there as text, or it is no place of theirs."""

import html
import json
import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import pytest
from markupsafe import Markup

from integration.console import started, templating
from integration.console.templating import Seen
from integration.console.test_hostile_pages import DECIDERS, FLOW, PROBE, a_run, audited, reader
from integration.console.test_pages import Browser
from integration.console.test_release_pages import CANARY, begin, ran
from integration.console.test_release_pages import have as have_release
from integration.console.test_run_pages import begun
from integration.console.test_runs import have as have_run
from integration.store import lineages, samples
from integration.store.lineages import EARLIER, ME, done, own
from keep_operator.console.pages import fleet, ledger, lists, provider, rendering, run, runs, workflow
from keep_operator.domain.binding import Asked
from keep_operator.domain.effects import CheckItem, Review
from keep_operator.domain.execution import Run
from keep_operator.domain.history import Hold
from keep_operator.domain.ownership import Owner
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_DECISIONS, WORKFLOWS
from keep_operator.store import deployments, releases, revisions, workflows
from keep_operator.store import runs as store

pytestmark = pytest.mark.integration
__all__ = ["reader"]

# What is left of a probe wherever it is quoted, cut or escaped.
MARK: Final = re.compile(r"alert(\(|%28)1")
# One that is short, and no two parts of a path.
SHORT: Final = "'\"><img src=x onerror=alert(1)>"
# Texts that nobody can choose: ids, hashes, versions, times, addresses of ours with all that was put in quoted.
FORMS: Final = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}|[0-9a-f]{64}|v\d+ \([0-9a-f]{8}\)|none yet"
    r"|/[-A-Za-z0-9/_.~%?=&:+]*|[\d,.]+( (ms|s|min|h|d))?( \d+ (s|min|h))?|[-0-9T: ]{16,19}|–|"
)
BEHIND: Final = re.compile(
    r'href="([^"#]+)[^"]*"(?: rel="next")?>(?:Earlier|Older|Later|More|The next|The newest|To its last)'
)
RIGHTS: Final = (
    *(
        f"{verb} workflows monitoring/high-cpu"
        for verb in ("deny", "promote", "abort", "pause", "resume", "retry", "checkitem")
    ),
    *(f"list {kind} " for kind in ("workflows", "providers", "tenants")),
    f"list workflows {PROBE}",
    "get providers monitoring",
    "get workflowruns monitoring",
    "get workflowruns ",
)
SPEC: Final[dict[str, Any]] = {
    **CANARY,
    "approval": {"required": "Always", "minApprovals": 3, "approvers": {"users": [PROBE], "groups": [PROBE]}},
    "checklist": [
        {"id": PROBE[:60], "title": PROBE, "required": False},
        {"id": "open", "title": "Open"},
        {"id": "auto", "title": "By itself", "auto": "dryRuns.total >= 1"},
    ],
}


# Places whose words are ours, or of a form that is checked before they come here.
OURS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "names of objects, which the API server checks, and a path before anything is read": {
        **dict.fromkeys(("compare.html", "compare_form.html", "release.html"), ("about.place.name",)),
        **dict.fromkeys(
            ("decide.html", "parts.html", "runs.html", "workflow.html"), ("about.place.name", "about.place.namespace")
        ),
        "ledger.html": ("each.key.name", "each.key.namespace", "tenant"),
        "provider.html": ("each.name", "name", "namespace", 'tenant or "none yet"'),
        "run.html": ("found.namespace",),
        "run_again.html": ("found.name", "body"),
        "workflow_live.html": ("each.command",),
    },
    "words that the database, or an enumeration of ours, takes no others of": {
        "fleet.html": ("each", "each | capitalize", "kind", "kind | capitalize"),
        "ledger.html": ("each", "each.action", "each.key.kind", "key", "key.kind"),
        "parts.html": ("change.kind",),
        "problem.html": ("problem.reason", "problem.status.phrase"),
        "run.html": ("run.mode", "run.selection", "run.trigger"),
        "run_again.html": ("run.mode",),
        "run_live.html": ("run.reason",),
        "runs.html": (
            "each", "each.run.mode", 'each.run.reason or ""', "each.run.selection", "each.run.trigger", "wanted.trigger",
        ),
        "workflow.html": ("each.action", "each.kind", "key"),
    },
    "sentences and names of ours": {
        "compare.html": ("difference.after",),
        "fleet.html": ("row.failed.words",),
        "compare_form.html": ("side", "side | capitalize", "fault"),
        "decide.html": ("heed", "wish.action", "words"),
        "parts.html": ("last", "left.kind if left else 'none'", "line.kind", "line.sign", "name", "right.kind if right else 'none'"),
        "provider.html": ('each.versions | join("; ")',),
        "release_live.html": (
            '"Done" if each.done else "Open"', '"approves" if each.approves else "denies"', "'' if each.first else 'outline'",
            "'true' if each.done else 'unknown'", "canary.chart.data", "canary.chart.title", "each", "each.label", "each.state",
            "each.text", 'marks | join(", ")', "name",
            '{"Never": "by nothing any more", "ImportantOnly": "for important versions", "Always": "for every version"}'
            "[approval.required]",
        ),
        "run_cancel.html": ('"has been asked to end already" if not run.completed_at else "has ended"',),
        "runs.html": (
            '"Runs that fit" if filtered else "All runs"', "chart.data", "chart.title", 'each.marks | join(", ")', "each.name",
        ),
        "signin.html": ("fault",),
        "workflow.html": ("'fault' if decided.status == 'False' else ''", 'each.marks | join(", ")'),
        "workflow_live.html": (
            '"Stable" if about.lineage.canary else "Active"', "'' if each.first else 'outline'", "each.label",
        ),
    },
    "secrets of the session, made by us": dict.fromkeys(
        ("compare_form.html", "decide.html", "page.html", "run_again.html", "run_cancel.html"), ("csrf",)
    ),
}  # fmt: skip
LISTED: Final = {
    (template, shown) for templates in OURS.values() for template, several in templates.items() for shown in several
}


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What has been shown where; lists have a row a page, so that each page has another one behind it."""
    found = Seen()
    monkeypatch.setattr(rendering, "Environment", templating.watching(found))
    monkeypatch.setattr(lists, "PATIENCE_S", 0.0)
    for module, name in (
        (fleet, "SHOWN"), (ledger, "SHOWN"), (provider, "SHOWN"), (runs, "SHOWN"), (run, "STEPS"), (run, "LINES"),
        (workflow, "ENTRIES"), (workflow, "VERSIONS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 1)
    return found


async def _follow(reader: Browser, path: str) -> None:
    """A page, and all those that it leads to by its lists."""
    known, left = {path}, [path]
    while left:
        here = left.pop()
        await audited(reader, here)
        text = await (await reader.get(here)).text()
        behind = {html.unescape(each) for each in BEHIND.findall(text)} - known
        known |= behind
        left += sorted(behind)
        assert len(known) < 200, "lists come to an end"


async def _lists(reader: Browser) -> None:
    played = reader.console.played
    await audited(reader, f"{FLOW}/runs")
    cells = {"Ready": PROBE, "Reason": PROBE, "Age": PROBE, "Active": PROBE, "Desired": PROBE, "Canary": PROBE}
    rows = [{"name": PROBE, "namespace": PROBE, "cells": {**cells, "Tenant-ID": PROBE}} for _ in range(3)]
    rows.append({"name": "bad", "namespace": "a", "cells": {**cells, "Ready": "False"}})
    for kind in (WORKFLOWS, PROVIDERS, TENANTS):
        played.tables[kind.path()] = rows
        await _follow(reader, f"/?kind={kind.plural}")
    await audited(reader, f"/?q={quote(PROBE)}")
    await audited(reader, f"/?q=nothing{quote(PROBE)}")
    played.tables[WORKFLOWS.path(PROBE)] = rows
    await reader.get(f"/?namespace={quote(PROBE)}")


async def _workflow(reader: Browser) -> None:
    engine = reader.console.engine
    for tag in (PROBE, SHORT):
        statement = f"INSERT INTO keep_operator.revision_tag SELECT id, $p${tag}$p$, 2 FROM keep_operator.workflow"  # noqa: S608
        await lineages.run(engine, statement)
    hold = Hold("a" * 64, 1, f"holder {PROBE}", f"held {PROBE}", EARLIER)
    seen_ = await own(engine)
    await done(engine, lambda conn: deployments.set_hold(conn, seen_, hold, actor=PROBE))
    handled = {"type": "Handled", "status": "False", "reason": PROBE, "message": PROBE}
    reader.console.played.objects[WORKFLOW_DECISIONS.path("monitoring", "mine")] = {
        "metadata": {"name": "mine"},
        "spec": {"workflowRef": {"name": "high-cpu"}, "action": PROBE},
        "status": {"conditions": [handled]},
    }
    await audited(reader, f"{FLOW}?decision=mine")
    await _follow(reader, FLOW)
    for path in (
        "compare/1...2", "compare/1...2?view=beside", "compare/2...1?view=beside", "compare", "decide/rollback?revision=1",
        f"decide/tag?tag={quote(PROBE[:60])}", f"decide/checkitem?item={quote(PROBE[:60])}", "decide/note", "decide/approve",
    ):  # fmt: skip
        await audited(reader, f"{FLOW}/{path}")
    csrf = await reader.csrf()
    manual = {"triggers": [{"type": "manual"}]}
    tell = {"name": "tell", "provider": {"type": "console", "with": {"message": "hello", PROBE: "x"}}}
    for draft in (
        PROBE,
        "a: [",
        f"a: &{SHORT}",
        json.dumps({"steps": [{"name": PROBE, PROBE: 1}], PROBE: 1, "triggers": [{"type": PROBE, PROBE: 1}]}),
        json.dumps({**manual, "actions": [tell]}),
        json.dumps(
            {
                "triggers": [{"type": "manual"}],
                "actions": [{**tell, "name": PROBE}] * 2,
                "inputs": [{"name": PROBE}] * 2,
            }
        ),
        json.dumps(
            {"triggers": [{"type": "manual"}], "actions": [{**tell, "if": f"{{{{ {SHORT} }}}}", "foreach": SHORT}]}
        ),
        json.dumps({**manual, "actions": [{**tell, "name": "a", "provider": {"type": SHORT}}]}),
        json.dumps(
            {**manual, "actions": [{"name": "a", "provider": {"type": "console", "with": {SHORT: "{{ keep.x("}}}]}
        ),
        json.dumps({"triggers": [{"type": "alert", "cel": SHORT, "filters": [{"key": SHORT}]}], "actions": [tell]}),
    ):
        answer = await reader.post(f"{FLOW}/compare", csrf=csrf, before="1", draft=draft)
        assert "<script>alert" not in await answer.text()


async def _release(reader: Browser) -> None:
    console = reader.console
    engine = console.engine
    approved = {"status": "Unknown", "reason": PROBE, "message": PROBE}
    for deployed in ("AwaitingApproval", "AwaitingDeploy", PROBE):
        have_release(console, SPEC, deployed, Approved=approved)
        _spoil(console.played.objects[WORKFLOWS.path("monitoring", "high-cpu")], deployed)
        await audited(reader, f"{FLOW}/release")
    at = await own(engine)
    for actor, approves in ((PROBE, True), (f"no {PROBE}", False)):
        said = Review(2, approves, actor)
        await done(engine, lambda conn, said=said: releases.review(conn, at, said, actor=PROBE))  # type: ignore[misc]
    ticked = CheckItem(2, PROBE[:60], True, f"ticker {PROBE}", f"ticked {PROBE}")
    await done(engine, lambda conn: releases.check(conn, at, ticked, actor=PROBE))
    await audited(reader, f"{FLOW}/release")
    have_release(console, {"strategy": {"type": "Manual"}}, "AwaitingDeploy")
    await audited(reader, f"{FLOW}/release")
    have_release(console, CANARY)
    await ran(console, await own(engine), 2, 3, 2)
    await audited(reader, f"{FLOW}/release")


async def _canary(reader: Browser) -> None:
    console = reader.console
    engine = console.engine
    held = await own(engine)
    await done(engine, lambda conn: deployments.end_hold(conn, held, actor=PROBE, reason=PROBE))
    await lineages.activate(engine, 1)
    tried = await begin(console, sticky_key=PROBE)
    await ran(console, tried, 2, 3, 2)
    await audited(reader, f"{FLOW}/release")
    await audited(reader, FLOW)
    for full in ("", "?full=true"):
        await audited(reader, f"{FLOW}/decide/promote{full}")
    assert tried.canary is not None
    waits = replace(tried.canary, paused=PROBE, paused_since=EARLIER, failed=1, step=tried.canary.step)
    await done(engine, lambda conn: releases.set_canary(conn, tried, waits, actor=PROBE))
    await audited(reader, f"{FLOW}/release")
    await audited(reader, FLOW)
    await audited(reader, f"{FLOW}/runs?version=2")
    ended = await own(engine)
    await done(engine, lambda conn: releases.end_canary(conn, ended, "Aborted", actor=PROBE, reason=PROBE))
    rejected = await own(engine)
    await done(
        engine, lambda conn: revisions.reject(conn, rejected, 2, verdict="AnalysisFailed", actor=PROBE, reason=PROBE)
    )
    await audited(reader, f"{FLOW}/decide/resume")


def _spoil(flow: dict[str, Any], deployed: str) -> None:
    for each in flow["status"]["conditions"]:
        each["message"] = PROBE
        if each["type"] != "Deployed":
            each["reason"] = PROBE
    flow["status"]["source"] = {"tool": PROBE, "trackingId": PROBE}
    flow["status"]["conditions"].append({"type": "Ready", "status": "False", "reason": PROBE, "message": PROBE})
    flow["status"]["conditions"][-1]["lastTransitionTime"] = "2026-06-01T00:00:00Z"


async def _asked(reader: Browser, **more: Any) -> Run:
    """A run by somebody, or something, that chooses his words."""
    seen_ = await own(reader.console.engine)
    given: dict[str, Any] = {
        "trigger": "Alert",
        "idempotency_key": f"key {PROBE} {more.get('tick')}",
        "requested_by": PROBE,
        **more,
    }
    made = await done(reader.console.engine, lambda conn: store.request(conn, seen_.id, Asked(**given)))
    assert isinstance(made, store.Requested), made
    return made.run


async def _runs(reader: Browser) -> None:
    console = reader.console
    event = {"name": PROBE, "fingerprint": PROBE, "labels": {PROBE: PROBE}, PROBE: [PROBE]}
    by_alert = await _asked(reader, event=event, fingerprint=PROBE, inputs={PROBE: PROBE})
    await begun(console, str(by_alert.id), PROBE, f"two {PROBE}", result={PROBE: [PROBE] * 50}, message=PROBE)
    for path in ("", "/again", "/cancel"):
        await audited(reader, f"/r/{by_alert.id}{path}")
    owner = Owner(samples.CLUSTER, "monitoring", PROBE, "uid-of-run")
    by_object = await _asked(reader, trigger="Manual", mode="DryRun", owner=owner, idempotency_key="object")
    for path in ("", "/again", "/cancel"):
        await audited(reader, f"/r/{by_object.id}{path}")
    ticked = await _asked(reader, trigger="Interval", tick=EARLIER)
    again = await have_run(console, retryOf=str(by_alert.id), inputs={})
    await audited(reader, f"/r/{again['id']}")
    old = await have_run(console, revision={"number": 1})
    for path in ("", "/again"):
        await audited(reader, f"/r/{old['id']}{path}")
    over = await a_run(reader)
    more = "INSERT INTO keep_operator.run_log (run_id, at, position, level, message) VALUES ('{}', now(), 0, $p${}$p$, $p${}$p$)"
    await lineages.run(console.engine, more.format(over, PROBE, PROBE))
    await lineages.run(console.engine, f"UPDATE keep_operator.run_step SET type = $p${PROBE}$p$, attempt = 2")  # noqa: S608
    await lineages.run(
        console.engine, "UPDATE keep_operator.run SET attempt = 2 WHERE completed_at IS NULL AND started_at IS NOT NULL"
    )
    await audited(reader, f"/r/{by_alert.id}")
    await lineages.run(
        console.engine,
        "UPDATE keep_operator.run_step SET state = 'Running', completed_at = NULL, iteration = 1 "  # noqa: S608
        f"WHERE run_id = '{by_alert.id}' AND position = 1",
    )
    await _follow(reader, f"/r/{by_alert.id}")
    await _follow(reader, f"/r/{over}")
    await audited(reader, f"/r/{over}/cancel")
    await audited(reader, f"{FLOW}/runs?version={quote(SHORT)}")
    await audited(reader, f"{FLOW}/runs?version={quote(PROBE[:70])}", 404)
    await _follow(reader, f"{FLOW}/runs")
    await audited(
        reader, f"{FLOW}/runs?version=2&state=Failed&trigger=API&from=2020-01-01T00:00&until=2099-01-01T00:00"
    )
    await audited(reader, f"/r/{ticked.id}")


async def _failing(reader: Browser) -> None:
    """The fleet while a list is read anew, with a workflow whose runs fail."""
    console = reader.console
    row = {"name": "high-cpu", "namespace": "monitoring", "cells": {"Ready": "True", "Reason": PROBE}}
    console.played.tables[WORKFLOWS.path()] = [row, row]
    console.clock.seconds += 60
    await audited(reader, "/")
    console.clock.seconds += 5
    await audited(reader, "/")
    await audited(reader, "/?only=urgent")


async def _nobodys(reader: Browser) -> None:
    """A run of a workflow whose object is gone: its name is what was once written as `externalName`."""
    console = reader.console
    run_id = (await have_run(console))["id"]
    console.played.give("ann", "get tenants ", "patch tenants ", "update tenants ")
    seen_ = await own(console.engine)
    assert seen_.owner is not None
    await done(console.engine, lambda conn: workflows.orphan(conn, seen_.id, ME, actor=PROBE))
    renamed = f"UPDATE keep_operator.workflow SET external_name = $p${PROBE}$p$ WHERE id = '{seen_.id}'"  # noqa: S608
    await lineages.run(console.engine, renamed)
    for path in ("", "/cancel"):
        await audited(reader, f"/r/{run_id}{path}")


async def _provider(reader: Browser) -> None:
    condition = {
        "type": PROBE,
        "status": PROBE,
        "reason": PROBE,
        "message": PROBE,
        "lastTransitionTime": "2026-05-01T00:00:00Z",
    }
    reader.console.played.objects[PROVIDERS.path("monitoring", "vms")] = {
        "metadata": {"name": "vms", "namespace": "monitoring"},
        "spec": {"type": PROBE},
        "status": {"tenantId": "keep", "externalName": f"vms {PROBE}", "conditions": [condition]},
    }
    step = {"name": "ask", "provider": {"type": "console", "config": "{{ providers.plain }}", "with": {"a": "b"}}}
    for name in ("one", "two"):
        await started.have(reader.console.engine, name, {"type": "manual"}, steps=[step])
    await audited(reader, "/p/monitoring/vms")
    reader.console.played.objects[PROVIDERS.path("monitoring", "plain")] = {
        "metadata": {"name": "plain", "namespace": "monitoring"},
        "spec": {"type": "console"},
        "status": {"tenantId": "keep", "externalName": "plain"},
    }
    await _follow(reader, "/p/monitoring/plain")


async def _others(reader: Browser) -> None:
    await _follow(reader, "/ledger/keep")
    for query in (
        "kind=Workflow&namespace=monitoring&name=high-cpu",
        f"kind=Workflow&namespace={quote(PROBE)}&name={quote(PROBE)}",
        f"name={quote(PROBE)}",
    ):
        await _follow(reader, f"/ledger/keep?{query}")
    await audited(reader, f"{FLOW}/compare/1...{quote(SHORT)}x", 404)
    stranger = Browser(reader.console)
    await audited(stranger, f"/signin?to={quote('/?q=' + PROBE)}")
    answer = await stranger.post("/signin", token="token-of-nobody", to="/?q=" + PROBE)
    assert "<script>alert" not in await answer.text()


async def test_what_users_write_arrives_as_text_wherever_it_is_shown(reader: Browser, seen: Seen) -> None:
    """Each place of each template has shown a hostile text, or is known to be ours; a new place is neither, and fails here."""
    console = reader.console
    console.played.give("ann", *RIGHTS, *DECIDERS)
    console.clock.seconds += 11
    await _lists(reader)
    await _workflow(reader)
    await _runs(reader)
    await _failing(reader)
    await _release(reader)
    await _canary(reader)
    await _provider(reader)
    await _others(reader)
    console.played.rights["ann"].discard("get workflowrevisions monitoring")
    console.clock.seconds += 11
    await audited(reader, f"{FLOW}/decide/resume")
    await _nobodys(reader)
    console.played.tokens[console.token] = PROBE
    console.played.rights[PROBE] = console.played.rights["ann"]
    console.clock.seconds += 11
    await audited(reader, "/")
    faults = {
        place: what
        for place in sorted(templating.everywhere())
        if (what := _judged(seen.values.get(place, []), listed=place in LISTED))
    }
    assert faults == {}
    assert LISTED - templating.everywhere() == set(), "places that are gone"


def _judged(values: list[object], *, listed: bool) -> str:
    """What is wrong with a place that has shown these values; empty: nothing."""
    if not values:
        return "is shown by no page of this test: visit one that does"
    hostile = any(MARK.search(str(each)) for each in values)
    if hostile or listed:
        return "is listed as ours, and has shown what users write" if hostile and listed else ""
    plain = all(isinstance(each, int | float | Markup) or each is None or FORMS.fullmatch(str(each)) for each in values)
    return "" if plain else f"has shown {str(values[-1])[:60]}: let it show a probe, or list it as ours"
