"""Signing in, the fleet, and what holds for all pages: asked as a browser does, with cookies and forms."""

import re
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from integration.console.visit import Console
from integration.store import lineages
from keep_operator.cluster import access
from keep_operator.console.pages.session import COOKIE
from keep_operator.domain.history import Cause, Lineage
from keep_operator.resources.kinds import WORKFLOWS
from keep_operator.store import engine as database

pytestmark = pytest.mark.integration

HTML = "text/html; charset=utf-8"


class Browser:
    """Keeps cookies, though the origin is not TLS, as browsers do for their own machine; follows nothing by itself."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        """A page."""
        return await self._ask("GET", path, headers=headers)

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> aiohttp.ClientResponse:
        """A form, sent by a page of ours unless the headers say otherwise."""
        return await self._ask("POST", path, data=fields, headers={"Origin": self.console.url, **(headers or {})})

    async def _ask(self, method: str, path: str, **more: Any) -> aiohttp.ClientResponse:
        more["headers"] = {**more["headers"], "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        answer = await self.console.session.request(method, f"{self.console.url}{path}", allow_redirects=False, **more)
        await answer.read()
        for header in answer.headers.getall("Set-Cookie", []):
            name, _, value = header.partition(";")[0].partition("=")
            if "Max-Age=0" in header:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    async def sign_in(self) -> None:
        """As ann."""
        answer = await self.post("/signin", token=self.console.token)
        assert answer.status == 303, await answer.text()

    async def csrf(self) -> str:
        """What forms of this session bring back."""
        found = re.search('name="csrf" value="([^"]+)"', await (await self.get("/")).text())
        assert found is not None
        return found[1]


@pytest.fixture
def browser(console: Console) -> Browser:
    """Ann's browser; she may list Workflows everywhere."""
    console.played.give("ann", "list workflows ")
    rows = [
        {
            "name": "fine",
            "namespace": "monitoring",
            "cells": {"Ready": "True", "Reason": "Ready", "Active": 3, "Age": "3d"},
        },
        {"name": "waits", "namespace": "sre", "cells": {"Ready": "Unknown", "Reason": "AwaitingApproval", "Age": "1h"}},
        {"name": "<script>alert(1)</script>", "namespace": "x", "cells": {"Ready": "False", "Reason": '"><img src=x>'}},
    ]
    console.played.tables[WORKFLOWS.path()] = rows
    return Browser(console)


async def test_whoever_is_not_signed_in_is_asked_who_he_is_and_brought_where_he_wanted(browser: Browser) -> None:
    """A deep link survives the sign-in; a link to elsewhere does not."""
    answer = await browser.get("/?kind=workflows&q=fine")
    assert (answer.status, answer.headers["Location"]) == (303, "/signin?to=%2F%3Fkind%3Dworkflows%26q%3Dfine")
    page = await browser.get(answer.headers["Location"])
    assert 'name="to" value="/?kind=workflows&amp;q=fine"' in await page.text()
    answer = await browser.post("/signin", token=browser.console.token, to="/?kind=workflows&q=fine")
    assert (answer.status, answer.headers["Location"]) == (303, "/?kind=workflows&q=fine")
    for elsewhere in ("https://example.com/", "//example.com", "/\\example.com", "javascript:alert(1)"):
        answer = await browser.post("/signin", token=browser.console.token, to=elsewhere)
        assert answer.headers["Location"] == "/"


async def test_the_cookie_is_for_us_alone_and_tells_nothing(browser: Browser) -> None:
    """HttpOnly, Secure, SameSite=Strict, host only; and the token does not stand in it."""
    answer = await browser.post("/signin", token=browser.console.token)
    (cookie,) = [each for each in answer.headers.getall("Set-Cookie") if "Max-Age=43200" in each]
    assert cookie.startswith(f"{COOKIE}=")
    for each in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert each in cookie
    assert "Domain" not in cookie and browser.console.token not in cookie


async def test_a_token_of_nobody_signs_nobody_in(browser: Browser) -> None:
    """The page says so, and does not repeat the token."""
    answer = await browser.post("/signin", token="token-of-nobody")
    assert answer.status == 401 and not browser.cookies
    text = await answer.text()
    assert "does not know this token" in text and "token-of-nobody" not in text


async def test_tokens_are_not_guessed_by_the_thousand(browser: Browser) -> None:
    """After thirty tokens of nobody the next ones wait, whatever they are; the API server is not asked about them."""
    for _ in range(30):
        assert (await browser.post("/signin", token="token-of-nobody")).status == 401
    asked = browser.console.played.asked["POST tokenreviews"]
    answer = await browser.post("/signin", token="token-of-nobody")
    assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1
    assert browser.console.played.asked["POST tokenreviews"] == asked


async def test_a_cookie_that_was_changed_or_is_old_signs_nobody_in(browser: Browser) -> None:
    """Whoever edits it, brings one of another key, or comes after twelve hours is asked again."""
    await browser.sign_in()
    good = dict(browser.cookies)
    name, value = next(iter(good.items()))
    browser.cookies[name] = value[:-4] + "AAA="
    assert (await browser.get("/")).status == 303
    browser.cookies = dict(good)
    assert (await browser.get("/")).status == 200
    browser.console.clock.now += timedelta(hours=12, seconds=1)
    assert (await browser.get("/")).status == 303


async def test_a_session_ends_with_its_token(browser: Browser) -> None:
    """A token that is taken back is worth nothing here after the seconds for which answers are remembered."""
    await browser.sign_in()
    browser.console.played.tokens.clear()
    browser.console.clock.seconds += 11
    answer = await browser.get("/")
    assert (answer.status, answer.headers["Location"]) == (303, "/signin")
    assert not browser.cookies


async def test_a_form_of_another_site_does_nothing(browser: Browser) -> None:
    """CSRF: neither the origin of another site, nor a form without the secret of this session."""
    await browser.sign_in()
    csrf = await browser.csrf()
    assert (await browser.post("/signout", csrf=csrf, headers={"Origin": "https://example.com"})).status == 403
    assert (await browser.post("/signout", csrf=csrf, headers={"Origin": "null"})).status == 403
    assert (await browser.post("/signout", csrf=csrf, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await browser.post("/signout", csrf="guess")).status == 403
    assert (await browser.post("/signout")).status == 403
    assert browser.cookies
    assert (await browser.post("/signout", csrf=csrf)).status == 303
    assert not browser.cookies


async def test_a_link_from_elsewhere_finds_the_session(browser: Browser) -> None:
    """A link in a chat: the browser brings the strict cookie only when the page asks for itself once more."""
    answer = await browser.get("/?q=fine", **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200 and 'http-equiv="refresh"' in await answer.text()


async def test_the_one_time_address_is_good_once(browser: Browser) -> None:
    """`make run` prints it; whoever finds it in a history later gets nothing."""
    answer = await browser.get("/signin/once/open-sesame")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert (await browser.get("/")).status == 200
    other = Browser(browser.console)
    assert (await other.get("/signin/once/open-sesame")).status == 410
    assert (await other.get("/signin/once/guess")).status == 410
    assert not other.cookies


async def test_the_fleet_shows_first_who_needs_somebody(browser: Browser) -> None:
    """What is wrong and what waits for people stands before what is well; nothing that users write is markup."""
    await browser.sign_in()
    answer = await browser.get("/")
    text = await answer.text()
    assert answer.headers["Content-Type"] == HTML
    assert text.index("waits") < text.index("fine")
    assert "2 of them need somebody" in text
    assert "<script>alert" not in text and "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    filtered = await (await browser.get("/?q=fine")).text()
    assert "fine" in filtered and "waits" not in filtered


async def test_who_may_not_see_a_kind_is_told_what_he_lacks(browser: Browser) -> None:
    """Ann has no right to Tenants; the page names the right, with a way back."""
    await browser.sign_in()
    answer = await browser.get("/?kind=tenants")
    assert answer.status == 403 and answer.headers["Content-Type"] == HTML
    text = await answer.text()
    assert "may not list tenants.keep-operator.dev" in text and 'href="/"' in text


@pytest.fixture
async def reader(console: Console, lineage: Lineage) -> Browser:
    """Ann's browser, signed in; she may read the workflow with the contents A, B, a broken one and A again."""
    assert lineage.owner is not None
    console.played.have_workflow(lineage.owner.uid)
    reader = Browser(console)
    await reader.sign_in()
    return reader


async def test_a_workflow_shows_what_runs_its_versions_and_what_was_done(reader: Browser) -> None:
    """The page that is opened at night: what is active, what was before, who did what."""
    text = await (await reader.get("/w/monitoring/high-cpu")).text()
    for each in ("v2 (", "v4 (", "Deployed", "invalid", "/w/monitoring/high-cpu/compare/2...4"):
        assert each in text, each
    assert "Go back to v1" not in text  # she may not


async def test_two_versions_are_compared_by_an_address_that_can_be_sent(reader: Browser) -> None:
    """By number, or by what they are; one below the other and side by side."""
    for pair in ("1...2", "active...desired", "v1...v2"):
        for view in ("", "?view=beside", "?view=nonsense"):
            answer = await reader.get(f"/w/monitoring/high-cpu/compare/{pair}{view}")
            text = await answer.text()
            assert answer.status == 200 and "By meaning" in text, pair
            assert 'class="gone"' in text and 'class="come"' in text
    assert (await reader.get("/w/monitoring/high-cpu/compare/1...9")).status == 404
    assert (await reader.get("/w/monitoring/high-cpu/compare/1")).status == 404
    answer = await reader.get("/w/monitoring/high-cpu/compare?before=1&after=2")
    assert answer.headers["Location"] == "/w/monitoring/high-cpu/compare/1...2"


async def test_a_draft_is_compared_and_kept_nowhere(reader: Browser) -> None:
    """What somebody is about to propose, against what runs; a draft that is none is told so, and not lost."""
    text = await (await reader.get("/w/monitoring/high-cpu/compare")).text()
    found = re.search('name="csrf" value="([^"]+)"', text)
    assert found is not None
    draft = "triggers: [{type: manual}]\nactions: [{name: tell, provider: {type: console, with: {message: hi}}}]\n"
    answer = await reader.post("/w/monitoring/high-cpu/compare", csrf=found[1], before="active", draft=draft)
    text = await answer.text()
    assert answer.status == 200 and "the draft" in text and "actions.tell" in text
    answer = await reader.post("/w/monitoring/high-cpu/compare", csrf=found[1], draft="a: [b")
    text = await answer.text()
    assert "cannot be compared" in text and "a: [b" in text


async def test_a_decision_is_shown_before_it_is_made_and_made_as_the_user(reader: Browser) -> None:
    """What will happen, with the difference; then a WorkflowDecision under the user's own name, which says what he saw."""
    played = reader.console.played
    played.give("ann", "rollback workflows monitoring/high-cpu", "create workflowdecisions monitoring")
    reader.console.clock.seconds += 11
    text = await (await reader.get("/w/monitoring/high-cpu/decide/rollback?revision=1")).text()
    assert "v2" in text and "kubectl keep rollback high-cpu --to v1 -n monitoring" in text and 'class="gone"' in text
    fields = dict(re.findall('type="hidden" name="([a-z_]+)" value="([^"]*)"', text))
    assert (fields["expect"], fields["revision"]) == ("2", "1")
    answer = await reader.post("/w/monitoring/high-cpu/decide/rollback", **fields, reason="It is loud")
    made = played.bodies[-1]
    assert made["kind"] == "WorkflowDecision"
    assert made["spec"] | {"requestId": ""} == {
        "workflowRef": {"name": "high-cpu"},
        "action": "Rollback",
        "actor": "ann",
        "requestId": "",
        "revision": {"number": 1},
        "expect": {"activeRevision": 2},
        "reason": "It is loud",
    }
    assert played.acted_as[-1] == f"Bearer {reader.console.token}"
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/w/monitoring/high-cpu?decision=high-cpu-rollback-")


def _ways_back(text: str) -> tuple[list[str], list[str]]:
    """The versions that the button, and the list of versions, lead back to."""
    return re.findall(r">Rollback to v(\d+)</a>", text), re.findall(r">Go back to v(\d+)</a>", text)


async def test_only_what_would_change_something_is_offered(reader: Browser) -> None:
    """A rollback leads to what runs in place of what runs now: never to its own content, nor where nothing was before."""
    console = reader.console
    played, flow = console.played, "/w/monitoring/high-cpu"
    played.give("ann", "rollback workflows monitoring/high-cpu", "create workflowdecisions monitoring")
    console.clock.seconds += 11
    text = await (await reader.get(flow)).text()
    assert _ways_back(text) == (["1"], ["1"])
    assert "kubectl keep rollback high-cpu --to v1 -n monitoring" in text
    await lineages.activate(console.engine, 1, Cause.ROLLBACK)
    text = await (await reader.get(flow)).text()
    assert _ways_back(text) == ([], ["2"]), "there is no way further back"
    for path in (f"{flow}/decide/rollback?revision=1", f"{flow}/decide/rollback?revision=4"):
        answer = await reader.get(path)
        assert answer.status == 409 and "is active already, as v1" in await answer.text(), "4 says what 1 says"
    await lineages.activate(console.engine, 2)
    played.objects[WORKFLOWS.path("monitoring", "high-cpu")]["spec"]["release"] = {"pin": {"number": 2}}
    assert _ways_back(await (await reader.get(flow)).text()) == ([], []), (
        "a pin is taken out where the manifest is kept"
    )


async def test_who_may_not_decide_is_told_what_he_lacks(reader: Browser) -> None:
    """A viewer finds no button, and by the address only the word no."""
    answer = await reader.get("/w/monitoring/high-cpu/decide/rollback?revision=1")
    assert answer.status == 403 and "may not rollback workflows" in await answer.text()
    assert (await reader.get("/w/monitoring/high-cpu/decide/explode")).status == 404
    before = len(reader.console.played.bodies)
    answer = await reader.post("/w/monitoring/high-cpu/decide/rollback", reason="x")
    assert answer.status == 403
    assert not [each for each in reader.console.played.bodies[before:] if each["kind"] == "WorkflowDecision"]


async def test_other_namespaces_are_other_peoples(reader: Browser) -> None:
    """Ann may read `monitoring`; of what is elsewhere she learns nothing, not even whether it exists."""
    for path in ("/w/other/high-cpu", "/w/other/high-cpu/compare/1...2", "/w/%2e%2e/high-cpu", "/w/monitoring%2Fx/y"):
        assert (await reader.get(path)).status in (403, 404), path


async def test_every_page_tells_browsers_to_be_careful(browser: Browser) -> None:
    """No script, frame, form or picture of anybody else; on failures, too."""
    await browser.sign_in()
    for path in ("/", "/?kind=tenants", "/signin/once/x", "/static/console.css"):
        answer = await browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = await answer.text()
        assert not re.search(r"<script(?![^>]* src=)", text) and not re.search(r"\son[a-z]+=", text)
        assert "style=" not in text or path.startswith("/static")


async def test_static_files_are_those_of_the_package(browser: Browser) -> None:
    """No path leads out of their folder; with their hash in the address they are kept for good."""
    text = await (await browser.get("/signin")).text()
    (path,) = re.findall(r'href="(/static/console\.css\?v=[0-9a-f]{16})"', text)
    answer = await browser.get(path)
    assert answer.status == 200 and "immutable" in answer.headers["Cache-Control"]
    for path in (
        "/static/../front.py",
        "/static/%2e%2e/front.py",
        "/static/vendor",
        "/static//etc/passwd",
        "/static/x",
    ):
        assert (await browser.get(path)).status == 404, path


async def test_the_api_server_is_read_once_for_all_who_look(browser: Browser) -> None:
    """Twenty people on the fleet page in the same second are one list."""
    await browser.sign_in()
    for _ in range(20):
        await browser.get("/")
    assert browser.console.played.asked["GET workflows"] == 1


async def test_the_console_uses_each_of_its_rights_and_no_other(reader: Browser) -> None:
    """Whoever grants its role grants nothing in vain, and whoever takes a right out of it breaks something."""
    console = reader.console
    for path in ("/revisions", "/history", "/retention"):
        await console.get(path)
    await console.get("/diff", before="1", after="2")
    assert (await console.ask("/ledger", params={"tenant": "keep"})).status == 200
    console.played.give(
        "ann", "get providers monitoring", *(f"list {each} " for each in ("tenants", "providers", "workflows"))
    )
    console.clock.seconds += 11
    for path in (
        *(f"/?kind={each}" for each in ("tenants", "providers", "workflows")),
        "/w/monitoring/high-cpu?decision=x",
    ):
        assert (await reader.get(path)).status == 200, path
    assert (await reader.get("/p/monitoring/vms")).status == 404
    granted = {(verb, rule.target) for rule in access.CONSOLE_RULES for verb in rule.verbs}
    assert console.played.used == granted


async def test_pages_cost_a_known_number_of_statements(reader: Browser) -> None:
    """However many versions and entries there are, a page is made of as many statements as with few; what is kept is not read."""
    console = reader.console
    console.played.give("ann", "list workflows ", "rollback workflows monitoring/high-cpu")
    counted = database.queries(console.engine)

    async def cost(path: str) -> int:
        before = counted.statements
        assert (await reader.get(path)).status == 200
        return counted.statements - before

    flow = "/w/monitoring/high-cpu"
    paths = ("/", flow, f"{flow}/compare", f"{flow}/compare/1...2", f"{flow}/decide/rollback?revision=1")
    few = [await cost(path) for path in paths]
    for content in "DEFGHI":
        await lineages.add(console.engine, content)
    assert few == [0, 4, 2, 3, 3]
    assert [await cost(path) for path in paths] == [0, 4, 2, 2, 2]


async def test_a_one_time_address_is_good_until_somebody_is_signed_in_by_it(browser: Browser) -> None:
    """A preview of the link, or an API server that is not there yet, does not use it up."""
    await browser._ask("HEAD", "/signin/once/open-sesame", headers={})
    assert not browser.cookies
    browser.console.played.away = True
    assert (await browser.get("/signin/once/open-sesame")).status == 503
    browser.console.played.away = False
    assert (await browser.get("/signin/once/open-sesame")).status == 303 and browser.cookies
    assert (await browser.get("/signin/once/open-sesame")).status == 410


async def test_a_mistyped_address_is_answered_with_a_page(browser: Browser) -> None:
    """Browsers get the way back to the fleet; programs get what programs read, and neither guesses what it is."""
    await browser.sign_in()
    for path, status in (("/workflows", 404), ("/w/monitoring", 404), ("/signout", 405)):
        answer = await browser.get(path, Accept="text/html,*/*;q=0.8")
        assert (answer.status, answer.content_type) == (status, "text/html"), path
        assert "To the fleet" in await answer.text() and "default-src" in answer.headers["Content-Security-Policy"]
    answer = await browser.get("/workflows")
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer = await browser.get("/api/v1/nothing", Accept="text/html")
    assert answer.content_type == "application/problem+json"
