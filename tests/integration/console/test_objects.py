"""The pages of a Provider and of a tenant's ledger; on a real database, asked as a browser does."""

import re
from typing import Any

import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from integration.store import lineages, samples
from keep_operator.console.pages import ledger as ledger_page
from keep_operator.console.pages import provider
from keep_operator.resources.kinds import PROVIDERS, TENANTS, Key
from keep_operator.store import engine as database
from keep_operator.store import ledger

pytestmark = pytest.mark.integration

PAGE = "/p/monitoring/vms"
LEDGER = "/ledger/keep"


@pytest.fixture
async def reader(console: Console) -> Browser:
    """Ann's browser, signed in; a Provider that she may look at."""
    rights = (
        "get providers monitoring",
        "list workflows monitoring",
        "list workflows ",
        "list providers ",
        "list tenants ",
    )
    console.token = console.played.give("ann", *RUNNER, *rights)
    console.played.objects[PROVIDERS.path("monitoring", "vms")] = {
        "metadata": {"name": "vms", "namespace": "monitoring"},
        "spec": {"type": "victoriametrics", "config": {"password": "canary-in-config"}, "secrets": [{"key": "canary-key"}]},
        "status": {
            "tenantId": "keep",
            "externalName": "vms-prod",
            "configHash": "canary-hash",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "SecretNotFound", "message": "<b>no</b>",
                 "lastTransitionTime": "2026-05-01T00:00:00Z"},
            ],
        },
    }  # fmt: skip
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def have(console: Console, name: str, config: Any, **more: Any) -> None:
    """A workflow with a step that uses a Provider so."""
    step = {"name": "ask", "provider": {"type": "victoriametrics", "config": config, "with": {"query": "vms-prod"}}}
    await started.have(console.engine, name, {"type": "manual"}, steps=[step], **more)


async def test_a_provider_shows_who_would_miss_it(reader: Browser) -> None:
    """By the name that workflows call it, in the version that runs or in the newest; and never what it holds."""
    console = reader.console
    await have(console, "template", "{{ providers.vms-prod }}")
    await have(console, "bare", " vms-prod ")
    await have(console, "longer", "{{ providers.vms-prod-2 }}")
    await have(console, "shorter", "{{ providers.vms }}")
    await have(console, "inline", {"name": "vms-prod"})
    await have(console, "former", "{{ providers.vms-prod }}")
    await started.change(console.engine, "former", {"type": "manual"})
    answer = await reader.get(PAGE)
    text = await answer.text()
    assert answer.status == 200
    assert re.findall(r'<a href="/w/monitoring/([^"]+)"', text) == ["bare", "template"]
    for each in (
        "victoriametrics",
        "SecretNotFound",
        "&lt;b&gt;no",
        "vms-prod",
        "v1, active",
        "/ledger/keep?kind=Provider",
    ):
        assert each in text, each
    assert "canary" not in text


async def test_of_workflows_that_one_may_not_list_nothing_is_told(reader: Browser) -> None:
    """The right to a Provider is none to what uses it; a Provider that may not be read is not shown at all."""
    console = reader.console
    await have(console, "secret-plan", "{{ providers.vms-prod }}")
    console.played.rights["ann"] -= {"list workflows ", "list workflows monitoring"}
    text = await (await reader.get(PAGE)).text()
    assert "secret-plan" not in text and "None that you may list" in text
    console.played.rights["ann"].remove("get providers monitoring")
    console.clock.seconds += 11
    assert (await reader.get(PAGE)).status == 403
    for path in ("/p/other/vms", "/p/monitoring/%2e%2e", "/p/monitoring/a%00b", "/p/monitoring/V"):
        assert (await reader.get(path)).status in (403, 404), path


async def test_many_workflows_of_a_provider_have_pages(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is on one page."""
    monkeypatch.setattr(provider, "SHOWN", 2)
    for name in ("a", "b", "c", "d", "e"):
        await have(reader.console, name, "{{ providers.vms-prod }}")
    seen: list[str] = []
    path: str | None = PAGE
    counted = database.queries(reader.console.engine)
    while path is not None:
        before = counted.statements
        text = await (await reader.get(path)).text()
        assert counted.statements - before == 1
        seen += re.findall(r'<a href="/w/monitoring/([^"]+)"', text)
        found = re.search(r'<a href="([^"]+)" rel="next"', text)
        path = found and found[1].replace("&amp;", "&")
    assert seen == ["a", "b", "c", "d", "e"]
    assert (await reader.get(f"{PAGE}?after=a%00b")).status == 400


async def test_a_provider_that_is_new_has_a_page(reader: Browser) -> None:
    """Before the operator has looked at it there is nothing to tell; one that is not there is not found."""
    reader.console.played.objects[PROVIDERS.path("monitoring", "new")] = {"metadata": {}, "spec": {"type": "slack"}}
    text = await (await reader.get("/p/monitoring/new")).text()
    assert "has not looked at it yet" in text and "none yet" in text
    assert (await reader.get("/p/monitoring/absent")).status == 404


async def test_the_ledger_shows_all_that_was_done_to_a_tenant(reader: Browser) -> None:
    """Page by page, the last first; of one object where it is named; words of users are text."""
    console = reader.console
    for name in ("one", "two"):
        await started.have(console.engine, name, {"type": "manual"})
    await lineages.done(
        console.engine,
        lambda conn: ledger.append(
            conn,
            "keep",
            Key("Provider", "monitoring", "vms"),
            "u",
            action="Noted",
            actor="<i>eve</i>",
            details={"a": "<b>"},
        ),
    )
    text = await (await reader.get(LEDGER)).text()
    for each in ("Noted", "&lt;i&gt;eve", "/p/monitoring/vms", "/w/monitoring/one", "Deployed", "only these"):
        assert each in text, each
    assert "<i>eve" not in text
    text = await (await reader.get(f"{LEDGER}?kind=Workflow&namespace=monitoring&name=two")).text()
    assert "/w/monitoring/two" in text and "/w/monitoring/one" not in text and "Noted" not in text
    assert "give both" in await (await reader.get(f"{LEDGER}?kind=Workflow")).text()
    assert "Nothing was done to Workflow" in await (await reader.get(f"{LEDGER}?kind=Workflow&name=x")).text()
    for wrong in ("kind=Pod&name=x", "after=nonsense", "kind=Workflow&name=%00"):
        assert (await reader.get(f"{LEDGER}?{wrong}")).status == 400, wrong


async def test_the_ledger_has_pages(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry once; a page costs whose ledger it is, and its rows."""
    monkeypatch.setattr(ledger_page, "SHOWN", 3)
    for name in ("one", "two"):
        await started.have(reader.console.engine, name, {"type": "manual"})
    for number in range(3):
        await started.change(reader.console.engine, "two", {"type": "manual"}, consts={"number": number})
    counted = database.queries(reader.console.engine)
    for begin in (LEDGER, f"{LEDGER}?kind=Workflow&namespace=monitoring&name=two"):
        seen, path = 0, begin
        while path:
            before = counted.statements
            text = await (await reader.get(path)).text()
            assert counted.statements - before == 2
            seen += text.count("<time ")
            found = re.search(r'<a href="([^"]+)" rel="next"', text)
            path = found[1].replace("&amp;", "&") if found else ""
        entries = [
            each for each in await samples.entries(reader.console.engine) if begin == LEDGER or each.key.name == "two"
        ]
        assert seen == len([each for each in entries if begin == LEDGER or each.key.kind == "Workflow"]) > 3


async def test_a_ledger_is_for_those_who_may_read_the_tenant(reader: Browser) -> None:
    """As by the API; whether there is a tenant is told to nobody else."""
    reader.console.played.rights["ann"].remove("get tenants ")
    told = [await reader.get(f"/ledger/{name}") for name in ("keep", "absent")]
    assert [each.status for each in told] == [403, 403]
    reader.console.played.give("ann", "get tenants ")
    assert [(await reader.get(f"/ledger/{name}")).status for name in ("keep", "absent", "UPPER", "a%00b")] == [
        200, 404, 404, 404,
    ]  # fmt: skip


async def test_the_fleet_leads_to_providers_and_ledgers(reader: Browser) -> None:
    """From a row to what it is about; a Tenant's ledger is found by its id, not by its name."""
    played = reader.console.played
    played.tables[PROVIDERS.path()] = [{"name": "vms", "namespace": "monitoring", "cells": {"Ready": "True"}}]
    played.tables[TENANTS.path()] = [
        {"name": "team", "cells": {"Tenant-ID": "keep", "Ready": "True"}},
        {"name": "new", "cells": {"Tenant-ID": None}},
    ]
    assert 'href="/p/monitoring/vms"' in await (await reader.get("/?kind=providers")).text()
    text = await (await reader.get("/?kind=tenants")).text()
    assert 'href="/ledger/keep"' in text and text.count('href="/ledger/') == 1
