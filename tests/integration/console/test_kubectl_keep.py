"""`kubectl keep` and the read API understand each other: the one is asked by the other, with nothing played between them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from component.plugin.conftest import VERSIONS, Terminal, terminal
from integration.console.visit import Console
from integration.store import lineages
from integration.store.lineages import ME
from keep_operator.cli import ledger
from keep_operator.domain.history import Lineage
from keep_operator.resources.kinds import GROUP

__all__ = ["terminal"]

pytestmark = pytest.mark.integration


async def keep(terminal: Terminal, console: Console, *words: str, token: str = "", exit_code: int = 0) -> Any:
    """What the command tells a script, or (where it does not end well) the reader."""
    reach = ("--api-url", console.url, "--api-token", token or console.token)
    form = () if exit_code else ("-o", "json")
    result = await asyncio.to_thread(terminal.keep, *words, *reach, *form)
    assert result.exit_code == exit_code, result.output
    return result.stderr if exit_code else json.loads(result.stdout)


async def test_the_ledger_of_a_workflow_and_of_a_tenant(terminal: Terminal, console: Console, lineage: Lineage) -> None:
    """Page by page, the newest first, as many as were asked for."""
    entries = await keep(terminal, console, "ledger", "high-cpu", "--limit", "3")
    assert [each["action"] for each in entries] == ["Deployed", "Deployed", "Created"]
    entries = await keep(terminal, console, "ledger", "--tenant", "keep")
    assert entries[-1]["action"] == "Created"
    assert len(entries) > 3
    shown = await asyncio.to_thread(
        terminal.keep, "ledger", "high-cpu", "--api-url", console.url, "--api-token", console.token
    )
    assert "v1 -> v2" in shown.stdout.splitlines()[1]


async def test_an_entry_is_told_alike_everywhere(
    terminal: Terminal, console: Console, lineage: Lineage, database_url: str
) -> None:
    """A script that reads one of the three reads the others."""
    answer = await console.ask("/ledger", params={"tenant": "keep", "limit": "1"})
    (answered,) = answer.body["items"]
    (kept,) = await keep(terminal, console, "ledger", "--tenant", "keep", "--limit", "1")
    words = ["show", "--tenant", "keep", "--limit", "1", "-o", "json"]
    environment = {"KEEP_OPERATOR_DATABASE_URL": database_url}
    shown = await asyncio.to_thread(CliRunner().invoke, ledger.group, words, env=environment)
    assert shown.exit_code == 0, shown.output
    assert [answered] == [kept] == json.loads(shown.stdout)


async def test_versions_without_an_object(terminal: Terminal, console: Console, lineage: Lineage) -> None:
    """`history --all` lists them among the others; `show` shows what they did."""
    del terminal.objects[f"workflowrevisions.{GROUP}/{VERSIONS[1]['metadata']['name']}"]
    told = await keep(terminal, console, "history", "high-cpu", "--all")
    archived = [each for each in told["revisions"] if each["archived"]]
    assert [(each["number"], each["contentHash"]) for each in archived] == [
        (4, lineages.hash_of("A")),
        (1, lineages.hash_of("A")),
    ]
    shown = await keep(terminal, console, "show", "high-cpu", "v1")
    assert shown["spec"]["definition"] == lineages.definition_of("A")


async def test_retention_as_a_dry_run(terminal: Terminal, console: Console, lineage: Lineage) -> None:
    """Numbers that go, and a reason for each that stays."""
    console.clock.now = datetime.now(UTC) + timedelta(days=30)
    console.played.have_workflow(ME.uid, revisionHistoryLimit=1)
    told = await keep(terminal, console, "retention", "high-cpu", "--dry-run")
    assert told["archive"] == [3]
    assert {each["number"]: each["why"] for each in told["kept"]}[2] == "active"


async def test_what_the_api_refuses_is_told_in_its_words(
    terminal: Terminal, console: Console, lineage: Lineage
) -> None:
    """No token, no right, no such workflow, no database: each ends with its own exit code and the API's sentence."""
    assert "does not know this token" in await keep(
        terminal, console, "ledger", "high-cpu", token="of-nobody", exit_code=6
    )
    stranger = console.played.give("stranger")
    assert "may not get workflows" in await keep(terminal, console, "ledger", "high-cpu", token=stranger, exit_code=6)
    assert "has no record" in await keep(terminal, console, "ledger", "another", exit_code=4)
    console.played.away = True
    console.clock.seconds += 60
    assert "cannot be asked just now" in await keep(terminal, console, "ledger", "high-cpu", exit_code=3)
