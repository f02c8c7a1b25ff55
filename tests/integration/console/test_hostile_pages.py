"""Whoever writes markup into a field, forges a form, a cookie, a path or a header, does not get through the pages."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from typing import Any, Final
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from integration.console import started
from integration.console.test_pages import Browser
from integration.console.test_run_pages import begun
from integration.console.test_runs import RUNNER, have
from integration.console.visit import KEY, Console
from integration.store import lineages
from integration.store.lineages import ME, done
from keep_operator.console.asked import LARGEST_BODY
from keep_operator.console.pages.session import COOKIE, MOST_PIECES, Session, Sessions
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Author, Cause, Revision
from keep_operator.domain.revision import content_hash
from keep_operator.resources.kinds import PROVIDERS, TENANTS, WORKFLOW_DECISIONS, WORKFLOWS
from keep_operator.store import deployments, executions, revisions
from keep_operator.store.executions import Progress

pytestmark = pytest.mark.integration

# Breaks out of texts, attributes with either quote, elements whose content is no markup, and templates.
PROBE: Final = "'\"></textarea></title></style></script><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"
FLOW: Final = "/w/monitoring/high-cpu"
# All elements that pages are made of.
TAGS: Final = frozenset(
    """
    html head meta title link script body header footer main nav section a ul ol li dl dt dd h1 h2 h3 p span div strong mark small
    code pre time del ins table thead tbody tr th td form label input button select option textarea fieldset legend details summary
    figure figcaption progress caption
    """.split()  # noqa: SIM905
)
DECIDERS: Final = tuple(
    f"{verb} workflows monitoring/high-cpu" for verb in ("rollback", "note", "approve", "tag", "reject")
)


class Audit(HTMLParser):
    """What is wrong with a page, and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only elements of ours, which load and lead to nothing elsewhere."""
        told = {name: value or "" for name, value in attrs}
        if tag not in TAGS:
            self.faults.append(tag)
        self.faults += [f"{tag} {name}" for name in told if name.startswith("on") or name in ("style", "srcdoc")]
        for name in ("href", "src", "action", "formaction"):
            if name in told and (not told[name].startswith(("/", "#")) or told[name].startswith(("//", "/\\"))):
                self.faults.append(f"{tag} {name}={told[name]}")
        if tag == "script" and not told.get("src", "").startswith("/static/"):
            self.faults.append("script of its own")
        self.text += "".join(f" {value}" for value in told.values())

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text += data


async def audited(browser: Browser, path: str, status: int = 200) -> str:
    """The text of a page that has been found harmless."""
    answer = await browser.get(path)
    assert answer.status == status, (path, answer.status)
    audit = Audit(await answer.text())
    assert audit.faults == [], path
    assert "49" not in audit.text.split("{{7*7}}"), path
    return audit.text


@pytest.fixture
async def reader(console: Console) -> Browser:
    """The browser of somebody whose every word, and whose workflow's every word, is a probe."""
    played, engine = console.played, console.engine
    console.token = played.give("ann", *RUNNER, *DECIDERS, "create workflowdecisions monitoring", "list workflows ")
    played.have_workflow(ME.uid)
    flow = played.objects[WORKFLOWS.path("monitoring", "high-cpu")]
    condition = {"status": "False", "reason": PROBE, "message": PROBE, "lastTransitionTime": "2026-05-01T00:00:00Z"}
    flow["status"] = {
        "source": {"tool": PROBE, "trackingId": PROBE},
        "conditions": [{"type": kind, **condition} for kind in ("Ready", "Deployed", PROBE)],
    }
    await started.have(engine, "high-cpu", {"type": "manual"})
    seen = await lineages.own(engine)
    definition = {
        "description": PROBE,
        "triggers": [{"type": "manual"}],
        "consts": {"a": PROBE, PROBE: 1},
        "actions": [{"name": "tell", "provider": {"type": "console", "with": {"message": PROBE}}}],
    }
    made = Revision(
        2,
        content_hash(definition),
        lineages.EARLIER,
        parent_number=1,
        change_note=f"note {PROBE}",
        diff_summary=f"summary {PROBE}",
        author=Author(f"author {PROBE}", "Annotation"),
        created_from_generation=2,
    )
    await done(
        engine,
        lambda conn: revisions.insert(conn, seen, made, definition, name="high-cpu-v2", actor=f"actor {PROBE}"),
    )
    seen = await lineages.own(engine)
    await done(
        engine,
        lambda conn: deployments.activate(
            conn, seen, 2, cause=Cause.ALL_AT_ONCE, actor=f"deployer {PROBE}", reason=f"because {PROBE}"
        ),
    )
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def a_run(reader: Browser) -> str:
    """The id of a run that has said all that a run can say."""
    console = reader.console
    run = await have(console, inputs={"who": PROBE, PROBE: "x"})
    claimed = await begun(console, run["id"], PROBE, result={PROBE: PROBE}, message=f"step {PROBE}")
    lines = [{"at": "2026-06-01T00:00:00Z", "position": 0, "level": "INFO", "message": f"log {PROBE}"}]
    await done(console.engine, lambda conn: executions.write(conn, claimed, Progress(lines=lines)))
    await done(console.engine, lambda conn: executions.end(conn, claimed, Reason.STEP_FAILED, f"ended {PROBE}"))
    return str(run["id"])


async def test_whatever_people_write_is_text(reader: Browser) -> None:
    """Notes, authors, reasons, definitions, conditions, sources, results, logs: shown to the letter, never as markup."""
    run = await a_run(reader)
    rows = [{"name": PROBE, "namespace": PROBE, "cells": {"Ready": PROBE, "Reason": PROBE, "Age": PROBE}}]
    reader.console.played.tables[WORKFLOWS.path()] = rows
    for path, wanted in (
        ("/", ("", PROBE)),
        (FLOW, ("note ", "author ", "because ", "deployer ", "False ")),
        (f"{FLOW}/compare/1...2", ("",)),
        (f"{FLOW}/compare/1...2?view=beside", ("",)),
        (f"{FLOW}/compare", ()),
        (f"{FLOW}/decide/rollback?revision=1", ("",)),
        (f"{FLOW}/runs", ()),
        (f"/r/{run}", ("step ", "log ", "ended ")),
    ):
        text = await audited(reader, path)
        for each in wanted:
            assert f"{each}{PROBE}" in text or (each == "" and PROBE[:60] in text), (path, each)


async def test_who_one_is_and_what_was_decided_is_text(reader: Browser) -> None:
    """Names of users come from elsewhere, and the words of a decision's outcome may repeat what somebody wrote."""
    played = reader.console.played
    handled = {"type": "Handled", "status": "False", "reason": PROBE, "message": f"refused {PROBE}"}
    played.objects[WORKFLOW_DECISIONS.path("monitoring", "mine")] = {
        "metadata": {"name": "mine"},
        "spec": {"workflowRef": {"name": "high-cpu"}, "action": PROBE},
        "status": {"conditions": [handled]},
    }
    assert f"refused {PROBE}" in await audited(reader, f"{FLOW}?decision=mine")
    played.tokens[reader.console.token] = PROBE
    played.rights[PROBE] = played.rights["ann"]
    reader.console.clock.seconds += 11
    assert PROBE in await audited(reader, FLOW)


# Each of the addresses below is asked with a probe in it; the answer is a page, whatever its status is.
QUOTED: Final = "%27%22%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(1)%3E"


@pytest.mark.parametrize(
    "path",
    [
        "/?q={}", "/?namespace={}", "/?kind={}", "/?from={}", "/{}", "/signin?to={}", "/signin?to=/{}", "/signin/once/{}",
        FLOW + "?decision={}", FLOW + "?after={}", FLOW + "?versions={}", "/w/{}/high-cpu", "/w/monitoring/{}",
        FLOW + "/compare/{}...{}", FLOW + "/compare/1...2?view={}", FLOW + "/compare?before={}&after={}",
        FLOW + "/decide/{}", FLOW + "/decide/note?item={}", FLOW + "/decide/tag?tag={}", FLOW + "/decide/rollback?revision={}",
        FLOW + "/runs?version={}", FLOW + "/runs?state={}", FLOW + "/runs?from={}", FLOW + "/runs?after={}", "/r/{}",
        "/static/{}",
    ],
)  # fmt: skip
async def test_whatever_stands_in_an_address_is_text(reader: Browser, path: str) -> None:
    """A link that somebody was sent does nothing but lead somewhere."""
    reader.console.played.give("ann", "list workflows " + "<")
    answer = await reader.get(path.replace("{}", QUOTED))
    assert answer.status in (200, 303, 400, 403, 404, 410), answer.status
    if answer.content_type == "text/html":
        assert Audit(await answer.text()).faults == []
    assert "<script>alert" not in await answer.text()
    assert "\n" not in answer.headers.get("Location", "") and not answer.headers.get("Location", "/").startswith("//")


async def test_a_draft_and_a_reason_come_back_as_text(reader: Browser) -> None:
    """What one has typed is given back when it cannot be taken; so is what somebody else has had one type."""
    csrf = await reader.csrf()
    for draft in (PROBE, f"a: [{PROBE}", json.dumps({"steps": [{"name": PROBE}]}), f"consts:\n  a: |-\n    {PROBE}\n"):
        answer = await reader.post(f"{FLOW}/compare", csrf=csrf, before="1", draft=draft)
        assert answer.status in (200, 400, 422), answer.status
        audit = Audit(await answer.text())
        assert audit.faults == [] and "alert(1)" in audit.text


async def test_forms_of_others_do_nothing(reader: Browser) -> None:
    """Every form is refused without the session's secret, from another origin, or with the word of the browser that it is foreign."""
    run = (await have(reader.console))["id"]
    csrf = await reader.csrf()
    other = Sessions([KEY], lambda: 0).begin("token").csrf
    attacks: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({}, {"csrf": ""}),
        ({}, {"csrf": other}),
        ({}, {"csrf": csrf[:-1]}),
        ({"Origin": "https://evil.example.com"}, {"csrf": csrf}),
        ({"Origin": "null"}, {"csrf": csrf}),
        ({"Origin": f"{reader.console.url}.evil.example.com"}, {"csrf": csrf}),
        ({"Sec-Fetch-Site": "cross-site"}, {"csrf": csrf}),
        ({"Sec-Fetch-Site": "same-site"}, {"csrf": csrf}),
        ({"Content-Type": "text/plain"}, {}),
        ({"Content-Type": "multipart/form-data; boundary=x"}, {}),
        ({"Content-Type": "application/json"}, {}),
    ]
    before = len(reader.console.played.bodies)
    for path in (
        "/signout",
        f"{FLOW}/decide/rollback",
        f"{FLOW}/decide/note",
        f"{FLOW}/compare",
        f"/r/{run}/cancel",
        f"/r/{run}/again",
    ):
        for headers, fields in attacks:
            answer = await reader.post(path, headers, reason="x", draft="a: 1", revision="1", **fields)
            assert answer.status == 403, (path, headers, fields)
    decided = [each for each in reader.console.played.bodies[before:] if each["kind"] == "WorkflowDecision"]
    assert decided == [] and reader.cookies
    assert "Queued" in await audited(reader, f"/r/{run}")


async def test_looking_decides_nothing(reader: Browser) -> None:
    """No GET, HEAD or made-up method changes anything, whatever its address says."""
    csrf, before = await reader.csrf(), len(reader.console.played.bodies)
    console = reader.console
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in reader.cookies.items())}
    for method, status in (("GET", 200), ("HEAD", 200), ("PUT", 405), ("DELETE", 405), ("PATCH", 405), ("EVIL", 405)):
        path = f"{FLOW}/decide/note?csrf={csrf}&reason=x&_method=POST"
        headers = {**cookie, "X-HTTP-Method-Override": "POST"}
        async with console.session.request(method, f"{console.url}{path}", headers=headers) as answer:
            assert answer.status == status, method
    assert not [each for each in console.played.bodies[before:] if each["kind"] == "WorkflowDecision"]


def _sealed(token: str, key: str = KEY, began: int = 1_780_000_000) -> str:
    class Kept:
        value = ""

        def set_cookie(self, _: str, value: str, **__: Any) -> None:
            self.value = self.value or value

        def delete_cookie(self, *_: Any, **__: Any) -> None:
            """Nothing."""

    kept = Kept()
    Sessions([key], lambda: began).give(kept, Session(token, "x", began))  # type: ignore[arg-type]
    return kept.value


async def test_cookies_that_we_have_not_made_sign_nobody_in(console: Console) -> None:
    """Other keys, pieces out of order, garbage, what is too much: asked to sign in, and never a fault of ours."""
    browser = Browser(console)
    await browser.sign_in()
    good = browser.cookies[COOKIE]
    nothing = Fernet(KEY.encode()).encrypt_at_time(b"{}", int(console.clock.now.timestamp())).decode()
    for cookies in (
        {COOKIE: _sealed(console.token, Fernet.generate_key().decode())},
        {COOKIE: _sealed(console.token, began=int(console.clock.now.timestamp()) + 86_400)},
        {COOKIE: good[: len(good) // 2]},
        {COOKIE: good[len(good) // 2 :], f"{COOKIE}-1": good[: len(good) // 2]},
        {COOKIE: good[::-1]},
        {COOKIE: good, f"{COOKIE}-1": "x"},
        {COOKIE: "x" * 60_000},
        {COOKIE: "é"},
        {COOKIE: base64.urlsafe_b64encode(b"\x80" + bytes(100)).decode()},
        {COOKIE: nothing},
        {COOKIE.removeprefix("__Host-"): good},
        {COOKIE.lower(): good},
        {f"{COOKIE}-{MOST_PIECES}": good},
        {COOKIE: ""},
    ):
        browser.cookies = cookies
        answer = await browser.get("/")
        assert answer.status == 303, (cookies, answer.status)
        assert answer.headers["Location"].startswith("/signin")


async def test_a_long_token_has_room(console: Console) -> None:
    """Tokens of identity providers with many groups have ten thousand characters; they sign in, and stay."""
    token = re.sub(r"[^A-Za-z0-9]", "", base64.b64encode(bytes(n * 7919 % 251 for n in range(9_000))).decode())[:10_000]
    console.played.tokens[token] = "ann"
    browser = Browser(console)
    answer = await browser.post("/signin", token=token)
    assert answer.status == 303
    assert (await browser.get("/signin")).status == 303, "signed in"


async def test_forms_that_are_too_large_are_not_read(reader: Browser) -> None:
    """A megabyte at most, some fields at most; bytes that are no text harm nobody."""
    csrf, path = await reader.csrf(), f"{FLOW}/decide/note"
    large = io.BytesIO(f"csrf={csrf}&reason=".encode() + b"x" * LARGEST_BODY)
    assert (await reader._ask("POST", path, data=large, headers={"Origin": reader.console.url})).status == 413
    assert (await reader.post(path, {}, **{f"a{n}": "1" for n in range(200)}, csrf=csrf)).status == 400
    for raw in (b"\xff\xfe%ff%00&csrf=\x00", b"&" * 1000, b"csrf", b"%", b"csrf=" + csrf.encode() + b"&csrf=x"):
        answer = await reader._ask("POST", path, data=raw, headers={"Origin": reader.console.url})
        assert answer.status in (400, 403), raw
    answer = await reader.post(
        path, csrf=csrf, reason="\x00", request_id="\x00\n" * 500, expect="٣", revision="9" * 400
    )
    assert answer.status < 500, "what cannot be is refused by the API server's rules, or by ours"


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example.com", "//evil.example.com", "///evil.example.com", "/\\evil.example.com", "\\\\evil.example.com",
        "/\t/evil.example.com", "/\n/evil.example.com", "/\r\nLocation: //evil.example.com", "javascript:alert(1)",
        "data:text/html,x", " //evil.example.com", "/%2f/evil.example.com/..", "http:evil.example.com", "?//evil.example.com", "",
        "/@evil.example.com", "/.evil.example.com", "/\u2028/evil",
    ],
)  # fmt: skip
async def test_signing_in_leads_to_our_own_pages(console: Console, to: str) -> None:
    """Whatever a link to the sign-in says, afterwards one is still here."""
    browser = Browser(console)
    answer = await browser.post("/signin", token=console.token, to=to)
    place = answer.headers["Location"]
    assert answer.status == 303 and re.match(r"/(?![/\\\t\r\n])", place), place
    assert not set("\t\r\n\\") & set(place)


async def test_paths_and_headers_lead_nowhere_else(reader: Browser) -> None:
    """No path leads out of the pages' files or into another namespace, and headers of proxies are not believed."""
    for path, statuses in (
        ("/static/..%2f..%2fprocess.py", (404,)),
        ("/static/%2e%2e/session.py", (404,)),
        ("/static/vendor/../../front.py", (404,)),
        ("/static//etc/passwd", (404,)),
        ("/static/vendor", (404,)),
        ("/static/", (404,)),
        ("/w/monitoring/high-cpu%00", (404,)),
        ("/w/monitoring/high-cpu/../../other/high-cpu", (403, 404)),
        ("/w/other/high-cpu", (403,)),
        ("/w/other/high-cpu/runs", (403,)),
        ("/w/other/high-cpu/decide/rollback", (403,)),
        ("/w/other%2f..%2fmonitoring/high-cpu", (404,)),
        ("/w/MONITORING/high-cpu", (404,)),
        ("//evil.example.com/", (404,)),
        ("/signin/once/", (404,)),
        (f"/r/{UUID(int=1)}", (404,)),
    ):
        answer = await reader.get(path)
        assert answer.status in statuses, (path, answer.status)
        assert "secrets" not in await answer.text() or path.startswith("/w"), path
    for headers in (
        {"X-Forwarded-Host": "evil.example.com", "X-Forwarded-Proto": "https"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Remote-User": "admin", "Impersonate-User": "admin", "X-Original-URL": "/w/other/high-cpu"},
        {"Authorization": "Bearer token-of-nobody"},
    ):
        text = await (await reader.get("/", **headers)).text()
        assert "evil.example.com" not in text and '<li class="who">ann</li>' in text
        assert (await reader.get("/w/other/high-cpu", **headers)).status == 403


async def test_a_token_in_a_header_signs_nobody_in(console: Console) -> None:
    """Pages know sessions alone, so that no other site's script can bring rights of its own."""
    answer = await Browser(console).get("/", Authorization=f"Bearer {console.token}")
    assert answer.status == 303


async def test_rights_in_a_namespace_are_none_to_what_belongs_to_the_cluster(reader: Browser) -> None:
    """Who may list everything in one namespace sees no Tenant, whatever namespace the address names."""
    played = reader.console.played
    played.give("ann", "list tenants monitoring", "list providers monitoring")
    played.tables[TENANTS.path()] = [{"name": "secret-tenant", "cells": {"Ready": "True"}}]
    played.tables[PROVIDERS.path("monitoring")] = [
        {"name": "ours", "namespace": "monitoring", "cells": {"Ready": "True"}}
    ]
    assert "secret-tenant" not in await audited(reader, "/?kind=tenants&namespace=monitoring", 403)
    assert "ours" in await audited(reader, "/?kind=providers&namespace=monitoring")
    await audited(reader, "/?kind=providers&namespace=other", 403)


async def test_a_decision_about_another_workflow_is_not_told(reader: Browser) -> None:
    """Who may read one workflow learns nothing, by its page, of what was decided about another one of the namespace."""
    reader.console.played.objects[WORKFLOW_DECISIONS.path("monitoring", "theirs")] = {
        "metadata": {"name": "theirs"},
        "spec": {"workflowRef": {"name": "other"}, "action": "Approve"},
        "status": {"conditions": [{"type": "Handled", "status": "True", "reason": "Done", "message": "of others"}]},
    }
    for name in ("theirs", "..%2fworkflows%2fhigh-cpu", "%2e%2e", "x" * 250):
        assert "of others" not in await audited(reader, f"{FLOW}?decision={name}")


async def test_no_page_repeats_a_token(reader: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a page, nor a header, nor the log has what a session is made of."""
    run = await a_run(reader)
    for path in ("/", FLOW, f"{FLOW}/runs", f"{FLOW}/decide/note", f"/r/{run}", "/nothing", "/signin"):
        answer = await reader.get(path)
        assert reader.console.token not in await answer.text() + str(answer.headers)
    await reader.post("/signin", token=reader.console.token, to="/")
    told = "".join(str(record.__dict__) for record in caplog.records)
    assert reader.console.token not in told and not set(reader.cookies.values()) & set(told.split())
