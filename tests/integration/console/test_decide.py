"""What a decision's page shows is what is decided by it, by whoever has looked at it, and nothing else."""

import re
from typing import Any, Final

import pytest

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_release_pages import APPROVAL, CANARY, DECIDER, begin, have
from integration.console.test_runs import RUNNER
from integration.console.visit import Console
from integration.store import lineages
from integration.store.lineages import done, own
from keep_operator.domain.history import Hold, Lineage
from keep_operator.store import deployments, releases

pytestmark = pytest.mark.integration

FLOW: Final = "/w/monitoring/high-cpu"


@pytest.fixture
async def lineage(console: Console) -> Lineage:
    """Workflow monitoring/high-cpu with an active version 1 and a newer one."""
    console.token = console.played.give("ann", *RUNNER, *DECIDER, "note workflows monitoring/high-cpu")
    await lineages.have(console.engine, contents="AB")
    return await lineages.activate(console.engine, 1)


@pytest.fixture
async def reader(console: Console, lineage: Lineage) -> Browser:
    """Ann's browser, signed in; she may decide."""
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def opened(reader: Browser, path: str) -> tuple[str, dict[str, str]]:
    """The page before a decision, and what its form brings along."""
    answer = await reader.get(f"{FLOW}/decide/{path}")
    text = await answer.text()
    assert answer.status == 200, text
    return text, dict(re.findall('type="hidden" name="([a-z_]+)" value="([^"]*)"', text.partition("<h1>")[2]))


async def decided(reader: Browser, action: str, **fields: str) -> dict[str, Any]:
    """The spec of the decision that a form has made."""
    answer = await reader.post(f"{FLOW}/decide/{action}", {}, **fields)
    assert answer.status == 303, await answer.text()
    spec: dict[str, Any] = reader.console.played.bodies[-1]["spec"]
    return spec


async def test_an_approval_names_the_groups_that_it_is_asked_of(reader: Browser) -> None:
    """Where only a group may approve, who is in it can do so by a page, as by `kubectl keep approve`."""
    people = {"approval": {"required": "Always", "approvers": {"groups": ["people"]}, "forbidSelfApproval": False}}
    have(reader.console, people, "AwaitingApproval", Approved={"status": "Unknown", "reason": "AwaitingApproval"})
    assert "Yours would not count" not in await (await reader.get(f"{FLOW}/release")).text()
    _, fields = await opened(reader, "approve?revision=2")
    assert (await decided(reader, "approve", **fields))["actorGroups"] == ["people"]
    have(reader.console, APPROVAL)
    assert "actorGroups" not in await decided(reader, "note", **(await opened(reader, "note"))[1])


@pytest.mark.parametrize("action", ["promote", "promote?full=true", "abort", "pause"])
async def test_a_decision_about_a_canary_is_about_the_one_that_was_seen(reader: Browser, action: str) -> None:
    """If another version is tried by the time the button is pressed, that one is neither promoted nor stopped unseen."""
    have(reader.console, CANARY, "CanaryInProgress")
    await begin(reader.console)
    text, fields = await opened(reader, action)
    assert f"<h1>{action.partition('?')[0].capitalize()} v2 (" in text
    assert f"kubectl keep {action.replace('?full=true', ' high-cpu --full').removesuffix(' high-cpu')}" in text
    spec = await decided(reader, action.partition("?")[0], **fields)
    assert spec["revision"] == {"number": 2}
    step = {"canaryStepIndex": 1} if action == "promote" else {}
    assert spec["expect"] == {"activeRevision": 1, **step}


async def test_what_is_resumed_is_what_was_seen(reader: Browser) -> None:
    """A paused canary, or a version that is held back: never the one in place of the other."""
    have(reader.console, CANARY, "CanaryPaused")
    await begin(reader.console)
    spec = await decided(reader, "resume", **(await opened(reader, "resume"))[1])
    assert (spec["revision"], spec["expect"]["canaryStepIndex"]) == ({"number": 2}, 1)
    seen = await own(reader.console.engine)
    await done(reader.console.engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor="ann"))
    held = await lineages.activate(reader.console.engine, 2)
    assert held.latest is not None
    hold = Hold(held.latest.content_hash, 1, "ann", "", lineages.EARLIER)
    await done(reader.console.engine, lambda conn: deployments.set_hold(conn, held, hold, actor="ann"))
    await lineages.activate(reader.console.engine, 1)
    text, fields = await opened(reader, "resume")
    assert "the canary is at step" not in text
    spec = await decided(reader, "resume", **fields)
    assert (spec["revision"], spec["expect"]) == ({"number": 2}, {"activeRevision": 1})


@pytest.mark.parametrize(
    "fields", [{"revision": "²"}, {"revision": "9" * 5_000}, {"expect": "²"}, {"expect": "-1"}, {"step": "1.0"}]
)
async def test_a_number_that_is_none_is_refused(
    reader: Browser, caplog: pytest.LogCaptureFixture, fields: dict[str, str]
) -> None:
    """What a form names is never left out silently, and no digit of any script is a fault of ours."""
    answer = await reader.post(f"{FLOW}/decide/note", {}, csrf=await reader.csrf(), reason="x", **fields)
    assert (answer.status, "FormInvalid" in await answer.text()) == (400, True)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("note?item=%24(reboot)&tag=%3Breboot", "kubectl keep note high-cpu -n monitoring"),
        ("checkitem?revision=2&item=%24(reboot)", "kubectl keep check high-cpu &#39;$(reboot)&#39; v2 -n monitoring"),
        ("checkitem?item=a%26%26reboot%27", "kubectl keep check high-cpu &#39;a&amp;&amp;reboot&#39;&#34;&#39;&#34;&#39;&#39; v2"),
    ],
)  # fmt: skip
async def test_a_command_that_is_copied_from_a_page_does_what_it_says(
    reader: Browser, query: str, command: str
) -> None:
    """Neither a link that somebody was sent, nor the name of an item, puts another command on one's terminal."""
    text, _ = await opened(reader, query)
    assert f"<code>{command}" in text
    for name in ("item", "tag"):
        path = f"{FLOW}/decide/{'checkitem' if name == 'item' else 'tag'}?{name}=a%0Areboot"
        assert (await reader.get(path)).status in (400, 403)


async def test_what_changes_is_shown_to_who_may_read_versions(reader: Browser) -> None:
    """Who may decide about a workflow, but not get its versions, does not read them by the page of a decision."""
    played = reader.console.played
    text, _ = await opened(reader, "note?revision=2")
    assert "What changes:" in text
    played.rights["ann"].discard("get workflowrevisions monitoring")
    reader.console.clock.seconds += 11
    text, _ = await opened(reader, "note?revision=2")
    assert "What changes:" not in text and "you may not get workflowrevisions" in text


async def test_a_form_that_is_sent_twice_is_one_decision_and_another_text_is_none(reader: Browser) -> None:
    """Whoever goes back, and sends something else, is told that the first one stands instead of being led to believe it."""
    _, fields = await opened(reader, "note")
    first = await reader.post(f"{FLOW}/decide/note", {}, **fields, reason="It is loud")
    again = await reader.post(f"{FLOW}/decide/note", {}, **fields, reason="It is loud")
    assert (first.status, first.headers["Location"]) == (again.status, again.headers["Location"])
    other = await reader.post(f"{FLOW}/decide/note", {}, **fields, reason="It is quiet")
    assert (other.status, "AlreadyDecided" in await other.text()) == (409, True)


async def test_what_changes_hides_nothing(reader: Browser) -> None:
    """A definition whose text turns itself around reads, for who approves it, as it runs."""
    await lineages.add(reader.console.engine, "C")
    seen = await started.change(reader.console.engine, "high-cpu", consts={"who": "user\u202e\u2066// all\u2069"})
    for path in (f"{FLOW}/decide/note?revision=v1", f"{FLOW}/compare/1...{seen.latest_number}"):
        text = await (await reader.get(path)).text()
        assert "user\\u202e\\u2066// all\\u2069" in text and not set("\u202e\u2066\u2069") & set(text), path
