"""The fleet: who needs somebody, over all that there is and not only over what one page shows."""

import re
from typing import Any

import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from integration.store.lineages import ME
from integration.store.test_failing import ran
from keep_operator.domain.history import Lineage
from keep_operator.errors import Unavailable
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.store import engine as database

pytestmark = pytest.mark.integration

EVERYWHERE = ("list workflows ", "get workflowruns ")


def row(name: str, ready: str = "True", reason: str = "Ready", namespace: str = "monitoring") -> dict[str, Any]:
    """A workflow as the API server lists it."""
    cells = {"Ready": ready, "Reason": reason, "Active": 2, "Age": "3d"}
    return {"name": name, "namespace": namespace, "cells": cells}


def listed(console: Console, *rows: dict[str, Any]) -> None:
    """These are the workflows that there are."""
    played = console.played
    played.tables = {WORKFLOWS.path(): list(rows)}
    for each in rows:
        played.tables.setdefault(WORKFLOWS.path(each["namespace"]), []).append(each)


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """Workflow monitoring/high-cpu with two versions, of which the second is active."""
    console.played.have_workflow(ME.uid)
    await started.have(console.engine, "high-cpu", {"type": "manual"})
    return await started.change(console.engine, "high-cpu", {"type": "manual"}, consts={"limit": 80})


@pytest.fixture
async def reader(console: Console, lineage: Lineage) -> Browser:
    """Ann's browser, signed in; she may see everything, and there are high-cpu and two others that are well."""
    console.token = console.played.give("ann", *RUNNER, *EVERYWHERE)
    listed(console, row("aaa"), row("high-cpu"), row("zzz"))
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def names(browser: Browser, path: str = "/") -> list[str]:
    """Who is shown, in their order."""
    answer = await browser.get(path)
    text = await answer.text()
    assert answer.status == 200, text
    return re.findall(r'<th scope="row">.*?</span>([^<]*)', text)


def later(console: Console) -> None:
    """What is read by then is read anew."""
    console.clock.seconds += 4


async def test_a_workflow_whose_runs_fail_needs_somebody(reader: Browser, lineage: Lineage) -> None:
    """It is Ready, since the operator has done all that it can; and still it stands first, with a way to the runs that failed."""
    console = reader.console
    assert await names(reader) == ["aaa", "high-cpu", "zzz"]
    await ran(console.engine, lineage, "ssftf")
    later(console)
    assert await names(reader) == ["high-cpu", "aaa", "zzz"]
    text = await (await reader.get("/")).text()
    assert "1 of them need somebody" in text
    ((href, words),) = re.findall(r'<a class="fault" href="([^"]+)">([^<]+)</a>', text)
    assert words == "3 of the last 5 runs failed"
    assert href == "/w/monitoring/high-cpu/runs?version=2&amp;state=Failed&amp;state=TimedOut"
    failed = await (await reader.get(href.replace("&amp;", "&"))).text()
    assert len(re.findall(r'href="/r/', failed)) == 3
    await ran(console.engine, lineage, "sss")
    later(console)
    assert await names(reader) == ["aaa", "high-cpu", "zzz"]


async def test_how_runs_ended_is_for_those_who_may_see_runs(reader: Browser, lineage: Lineage) -> None:
    """Who may list workflows, and no runs, learns nothing of them; where he may see them in one namespace, of those."""
    console = reader.console
    await ran(console.engine, lineage, "f")
    rights = console.played.rights["ann"]
    rights -= {"get workflowruns ", "get workflowruns monitoring"}
    text = await (await reader.get("/")).text()
    assert "failed" not in text and "need somebody" not in text
    assert await names(reader) == ["aaa", "high-cpu", "zzz"]
    rights -= {"list workflows "}
    rights |= {"list workflows monitoring", "get workflowruns monitoring"}
    console.clock.seconds += 11
    assert await names(reader) == ["high-cpu", "aaa", "zzz"]
    assert await names(reader, "/?namespace=monitoring") == ["high-cpu", "aaa", "zzz"]


async def test_what_needs_somebody_is_found_among_thousands(reader: Browser, lineage: Lineage) -> None:
    """The order is that of all rows: first who needs somebody, then what is under way, then the rest; the count leads to the first."""
    console = reader.console
    await ran(console.engine, lineage, "f")
    fine = [row(f"fine-{n:03}") for n in range(250)]
    rest = [row("waits", "Unknown", "ProvidersNotReady"), row("broken", "False", "DefinitionInvalid"), row("high-cpu")]
    listed(console, *fine, *rest)
    shown = await names(reader)
    assert shown[:4] == ["broken", "high-cpu", "waits", "fine-000"]
    text = await (await reader.get("/")).text()
    (urgent,) = re.findall(r'href="([^"]+)"><strong>2 of them need somebody', text)
    assert await names(reader, urgent.replace("&amp;", "&")) == ["broken", "high-cpu"]
    pages = [text]
    while found := re.search(r'href="([^"]+)" rel="next"', pages[-1]):
        pages.append(await (await reader.get(found[1].replace("&amp;", "&"))).text())
    everybody = [name for text in pages for name in re.findall(r'<th scope="row">.*?</span>([^<]*)', text)]
    assert everybody == ["broken", "high-cpu", "waits", *(each["name"] for each in fine)]
    assert await names(reader, "/?q=FINE-24") == [f"fine-24{n}" for n in range(10)]
    assert await names(reader, "/?q=high&only=urgent") == ["high-cpu"]
    nobody = await (await reader.get("/?q=fine&only=urgent")).text()
    assert "250 found, none of them needs anybody" in nobody


async def test_without_the_database_the_fleet_is_shown_all_the_same(
    reader: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server knows what is Ready; that nobody knows whose runs fail is said."""

    def away(*_: Any) -> Any:
        raise Unavailable("DatabaseUnavailable", "the control database is away")

    with monkeypatch.context() as patched:
        patched.setattr(database, "look", away)
        assert await names(reader) == ["aaa", "high-cpu", "zzz"]
        assert "Whose runs fail is not known" in await (await reader.get("/")).text()
    assert "Whose runs fail is not known" not in await (await reader.get("/")).text()


async def test_the_fleet_costs_one_statement_for_all_who_look(reader: Browser, lineage: Lineage) -> None:
    """However many workflows there are and whatever is filtered: one, and none within the next seconds; other kinds none."""
    console = reader.console
    console.played.give("ann", "list providers ", "list tenants ", "list workflows monitoring")
    counted = database.queries(console.engine)

    async def cost(path: str) -> int:
        before = counted.statements
        assert (await reader.get(path)).status == 200
        return counted.statements - before

    paths = ("/", "/?q=a", "/?only=urgent", "/?namespace=monitoring", "/?kind=providers", "/?kind=tenants")
    assert [await cost(path) for path in paths] == [1, 0, 0, 0, 0, 0]
    for n in range(30):
        await started.have(console.engine, f"w{n}", {"type": "manual"})
    await ran(console.engine, lineage, "f")
    listed(console, row("high-cpu"), *(row(f"w{n}") for n in range(30)))
    later(console)
    assert [await cost(path) for path in paths] == [1, 0, 0, 0, 0, 0]
