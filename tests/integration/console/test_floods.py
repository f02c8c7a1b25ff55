"""Who sends too much is told so, and is in nobody's way: tokens of nobody, bodies that do not arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from integration.console.started import TOKEN
from integration.console.test_events import post, posting
from integration.console.test_pages import Browser
from integration.console.visit import Console
from integration.store import lineages, samples
from keep_operator.console import asked, doorkeeper, machines
from keep_operator.domain.tenant import Token
from keep_operator.store import tokens

pytestmark = pytest.mark.integration
__all__ = ["posting"]
EVENT: Final = {"name": "disk is full", "severity": "warning", "source": ["zabbix"]}


async def test_tokens_of_nobody_are_as_few_at_the_api_as_at_the_sign_in(console: Console) -> None:
    """Whoever tries tokens keeps the API server no busier by another door; who had a good one lately is not kept out."""
    assert (await console.ask("")).status == 200
    for number in range(doorkeeper.ATTEMPTS_AT_ONCE):
        await console.problem("", 401, "Unauthenticated", token=f"token-of-nobody-{number}")
    asked_before = console.played.asked["POST tokenreviews"]
    answer = await console.ask("", token="token-of-nobody")
    assert (answer.status, answer.body["reason"], answer.headers["retry-after"]) == (429, "TooManyRequests", "2")
    assert (await Browser(console).post("/signin", token="token-of-nobody")).status == 429
    assert console.played.asked["POST tokenreviews"] == asked_before
    console.clock.seconds += doorkeeper.REMEMBERED_FOR.total_seconds() - 1
    for _ in range(4):
        await console.problem("", 401, "Unauthenticated", token="token-of-nobody")
    console.clock.seconds += 1
    assert (await console.ask("")).status == 200, "asked about anew"


async def test_a_good_token_is_asked_about_once_however_many_bring_it(console: Console) -> None:
    """A console that has just started, behind an ingress, turns away nobody who comes with a crowd."""
    answers = await asyncio.gather(*(console.ask("") for _ in range(doorkeeper.ATTEMPTS_AT_ONCE + 10)))
    assert {answer.status for answer in answers} == {200}
    assert console.played.asked["POST tokenreviews"] == 1
    answers = await asyncio.gather(*(console.ask("", token="token-of-nobody") for _ in range(10)))
    assert {answer.status for answer in answers} == {401}
    assert console.played.asked["POST tokenreviews"] == 2


async def test_an_api_server_that_is_away_counts_for_nobody(console: Console) -> None:
    """Whoever signs in when it is back does not wait for what was tried meanwhile."""
    console.played.away = True
    for _ in range(doorkeeper.ATTEMPTS_AT_ONCE + 1):
        await console.problem("", 503, "ApiServerUnavailable")
    console.played.away = False
    assert (await console.ask("")).status == 200


async def test_wrong_tokens_count_whatever_tenant_they_name(posting: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison is slow on purpose: by making tenants up nobody has more of them made."""
    compared: list[str] = []

    def fits(known: Token, token: str) -> bool:
        compared.append(token)
        return False

    monkeypatch.setattr(tokens, "fits", fits)
    for number in range(machines.FAILURES + 5):
        wrong = f"wrong-but-long-enough-{number}"
        answer = await post(posting, EVENT, token=wrong, tenant=f"made-up-{number}")
        assert answer.status == (401 if number < machines.FAILURES else 429)
    assert len(compared) == machines.FAILURES


async def test_a_machine_that_was_let_in_today_is_let_in_whoever_else_tries(posting: Console) -> None:
    """Behind one proxy all have one address: one that tries tokens does not keep out the Alertmanager beside it."""
    assert (await post(posting, EVENT, token=TOKEN)).status == 200
    for number in range(machines.FAILURES + 1):
        await post(posting, EVENT, token=f"wrong-but-long-enough-{number}")
    posting.clock.seconds += machines.ACCEPTED_FOR_S
    for number in range(100, 100 + machines.FAILURES + 1):
        await post(posting, EVENT, token=f"wrong-but-long-enough-{number}")
    assert (await post(posting, EVENT, token=TOKEN)).status == 200


@asynccontextmanager
async def dripping(console: Console, count: int) -> AsyncIterator[None]:
    """So many sign-ins that have begun to send their form, and do not go on."""
    host, port = console.url.removeprefix("http://").split(":")
    lines = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    for _, writer in lines:
        writer.write(b"POST /signin HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nt")
        await writer.drain()
    try:
        # One that gets no place is told so at once.
        refused = [asyncio.create_task(reader.readline()) for reader, _ in lines]
        async with asyncio.timeout(20):
            while sum(each.done() for each in refused) < count - asked.ARRIVING:  # noqa: ASYNC110 - said by another party
                await asyncio.sleep(0.01)
        yield
        assert {await each for each in refused if each.done()} == {b"HTTP/1.1 429 Too Many Requests\r\n"}
    finally:
        for each in refused:
            each.cancel()
        for _, writer in lines:
            writer.close()


async def test_forms_that_do_not_arrive_are_in_the_way_of_sign_ins_only(console: Console) -> None:
    """Whoever opens hundreds of connections and drips bytes keeps out nobody who is signed in, and nobody who reads."""
    browser = Browser(console)
    await browser.sign_in()
    async with dripping(console, 200):
        assert (await Browser(console).post("/signin", token=console.token)).status == 429
        assert (await browser.get("/signin")).status == 303
        csrf = await _csrf(browser)
        assert (await browser.post("/signout", csrf=csrf)).status == 303


async def _csrf(browser: Browser) -> str:
    browser.console.played.give("ann", "list workflows ")
    return await browser.csrf()


async def test_who_may_nothing_and_reloads_keeps_the_api_server_no_busier(console: Console) -> None:
    """A page that looks for what somebody may see asks about each namespace once within seconds, however often it is opened."""
    for number in range(20):
        of = samples.owner(f"flow-{number}", namespace=f"team-{number}")
        await lineages.have(console.engine, f"flow-{number}", of=of)
    browser = Browser(console)
    await browser.sign_in()
    asked_of = console.played.asked
    assert (await browser.get("/")).status == 200
    before = asked_of["POST subjectaccessreviews"]
    assert before >= 20
    for _ in range(5):
        await browser.get("/")
    assert asked_of["POST subjectaccessreviews"] == before
    console.played.give("ann", "list workflows ")
    console.clock.seconds += doorkeeper.DENIED_FOR_S
    assert "There are no workflows yet" in await (await browser.get("/")).text()


async def test_a_session_that_has_ended_keeps_the_api_server_no_busier(console: Console) -> None:
    """Its cookie opens still, and its token is asked about once within seconds, however often it comes."""
    browser = Browser(console)
    await browser.sign_in()
    kept, before = dict(browser.cookies), console.played.asked["POST tokenreviews"]
    console.played.tokens.clear()
    console.clock.seconds += doorkeeper.REMEMBERED_FOR.total_seconds()
    for _ in range(5):
        browser.cookies = dict(kept)
        assert (await browser.get("/")).headers["Location"] == "/signin"
    assert console.played.asked["POST tokenreviews"] == before + 1
