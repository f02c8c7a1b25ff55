"""The console in a browser, with a whole installation behind it: what people see, decide, and are not let do."""

import re
import time
from typing import Final

import pytest
from playwright.sync_api import Page, Route, expect

from e2e.browser.conftest import CHECKOUT, NAMESPACE, SEARCH, Visit, World, audit, picture, written
from manifests import definition, run, workflow

pytestmark = pytest.mark.e2e

FLOW = f"/w/{NAMESPACE}/checkout"


def seen(page: Page, text: str) -> None:
    """A text stands in the page."""
    expect(page.locator("main")).to_contain_text(text)


def test_the_printed_address_signs_in_and_is_used_up(visit: Visit, world: World) -> None:
    """Somebody who starts the sandbox sees the fleet with one click; with the next one he must show a token."""
    page = visit()
    page.goto(f"/signin/once/{world.secret}")
    expect(page).to_have_url(f"{world.url}/")
    expect(page.locator(".who")).to_have_text(f"system:serviceaccount:{NAMESPACE}:admin")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"/signin/once/{world.secret}")
    expect(page.get_by_role("alert")).to_contain_text("Sign in with a token")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody(visit: Visit, world: World, theme: str) -> None:
    """axe finds nothing wrong on any page in either theme: contrast, labels, order, names of what can be clicked."""
    page = visit(color_scheme=theme)
    page.goto("/signin")
    wrong = {"signin": audit(page)}
    picture(page, f"signin-{theme}")
    page = visit("admin", color_scheme=theme)
    for name, path in world.pages.items():
        page.goto(path)
        wrong[name] = audit(page)
        picture(page, f"{name}-{theme}")
    assert {name: found for name, found in wrong.items() if found} == {}


def test_a_narrow_screen_needs_no_scrolling_to_the_side(visit: Visit, world: World) -> None:
    """On a telephone each page is as wide as the screen; tables that are wider scroll by themselves."""
    page = visit("admin", width=375)
    wide = {}
    for name, path in world.pages.items():
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 375:
            wide[name] = width
        picture(page, f"{name}-narrow")
    assert wide == {}


def test_the_keyboard_is_enough(visit: Visit) -> None:
    """The first key leads past the navigation; what has the focus can be seen."""
    page = visit("admin")
    page.goto(FLOW)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    outline = page.evaluate("(s => s.outlineStyle + s.boxShadow)(getComputedStyle(document.activeElement))")
    assert outline != "nonenone"
    page.get_by_role("button", name="Rollback").press(" ")
    page.wait_for_url(f"{FLOW}/decide/rollback?revision=1")


def test_a_viewer_reads_and_is_told_why_that_is_all(visit: Visit, world: World) -> None:
    """No button is offered; the address of one says which right is missing, before anything is filled in; and nothing happens."""
    page = visit("viewer")
    page.goto(FLOW)
    expect(page.get_by_role("heading", name="checkout")).to_be_visible()
    expect(page.get_by_role("heading", name="Decide")).to_have_count(0)
    expect(page.get_by_role("link", name="Go back")).to_have_count(0)
    for action in ("rollback", "approve", "promote", "abort"):
        answer = page.goto(f"{FLOW}/decide/{action}")
        assert answer is not None and answer.status == 403
        expect(page.get_by_role("alert")).to_contain_text(f"may not {action} workflows.keep-operator.dev")
    assert not world.kube.kubectl("-n", NAMESPACE, "get", "workflowdecisions", "-o", "name").strip()


def test_the_night_of_the_incident(visit: Visit, world: World) -> None:
    """Find what fails, see what ran and what changed, take it back, and see the next run succeed on the old version."""
    page = visit("admin")
    page.get_by_role("link", name="need somebody").click()
    expect(page.get_by_role("row").filter(has_text="stock")).to_have_count(0)
    ours = page.get_by_role("row").filter(has_text="checkout")
    expect(ours).to_contain_text("True")
    picture(page, "incident-fleet")
    ours.get_by_role("link", name="the last run failed").click()
    failed = page.get_by_role("row").filter(has_text="StepFailed")
    expect(failed).to_have_count(1)
    expect(failed).to_contain_text("v2")
    failed.get_by_role("link").click()
    seen(page, "The definition that ran")
    seen(page, "http://127.0.0.1:9/rates")
    expect(page.locator(".run-steps")).to_contain_text("rates")
    picture(page, "incident-run")

    assert page.url == world.kube.get(run(CHECKOUT, "on-v2")).status["resultUrl"], "kubectl leads here, too"

    page.get_by_role("link", name="the version before").click()
    seen(page, "steps.rates")
    expect(page.locator("table.diff tr.come").filter(has_text="127.0.0.1:9/rates")).to_have_count(1)
    picture(page, "incident-compare")

    page.goto(FLOW)
    page.get_by_role("button", name="Rollback").click()
    seen(page, f"kubectl keep rollback checkout --to v1 -n {NAMESPACE}")
    seen(page, "v2")
    page.get_by_label("Why").fill("Nobody can pay")
    picture(page, "incident-decide")
    page.get_by_role("button", name="Rollback").click()
    expect(page.get_by_role("status").first).to_contain_text("Rollback: Done")
    seen(page, "Nobody can pay")
    picture(page, "incident-after")

    world.works("after", "Completed")
    _is_well_again(page)
    page.goto(f"{FLOW}/runs")
    newest = page.locator("section[aria-labelledby=runs] tbody tr").first
    expect(newest).to_contain_text("v1")
    expect(newest).to_contain_text("Succeeded")
    newest.get_by_role("link").click()
    expect(page.locator("#live")).to_contain_text("Log")
    _runs_again(page)


def _is_well_again(page: Page) -> None:
    page.goto("/?q=checkout")
    for _ in range(40):  # lists are read every few seconds
        if "run failed" not in page.content():
            break
        page.wait_for_timeout(250)
        page.reload()
    expect(page.get_by_role("row").filter(has_text="checkout")).not_to_contain_text("failed")


def _runs_again(page: Page) -> None:
    page.get_by_role("button", name="Run again").click()
    seen(page, f"kubectl keep run checkout --retry after -n {NAMESPACE}")
    page.get_by_role("button", name="Run again").click()
    seen(page, "Repeats")
    expect(page.locator("#live")).to_contain_text("Completed")
    page.goto(FLOW)
    expect(page.get_by_role("button", name="Rollback")).to_have_count(0)


def test_a_canary_is_approved_and_promoted(visit: Visit, world: World) -> None:
    """What waits for a person stands first in the fleet; two decisions later all runs are the new version's."""
    page = visit("admin")
    page.get_by_role("link", name="search").click()
    page.get_by_role("button", name="Approve").click()
    seen(page, "found, and ranked")
    page.get_by_label("Why").fill("Read it with Bob")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").first).to_contain_text("Approve: Done")
    world.kube.await_state(SEARCH, lambda it: (it.status.get("canary") or {}).get("weight") == 20, "a canary")
    page.goto(f"/w/{NAMESPACE}/search")
    seen(page, "with 20 % of the runs")
    picture(page, "canary")
    page.get_by_role("button", name="Promote to the end").click()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status").first).to_contain_text("Promote: Done")
    world.kube.await_state(SEARCH, lambda it: it.status["activeRevision"]["number"] == 2, "the new version")
    page.reload()
    expect(page.locator("dl.facts")).to_contain_text("v2")


STEPS: Final = {"steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]}
PARCEL: Final = workflow(
    "parcel", NAMESPACE, "team", definition("sent"), release={"strategy": {"type": "Canary", "canary": STEPS}}
)


def decided(page: Page, action: str, flow: str, reason: str = "") -> None:
    """A button of the release page, the page before, and what came of it."""
    page.goto(f"{flow}/release")
    page.get_by_role("button", name=action, exact=True).click()
    page.get_by_label("Why").fill(reason)
    page.get_by_role("button", name=action, exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text(f"{action}: Done")


def test_a_canary_goes_step_by_step_and_another_is_aborted(visit: Visit, world: World) -> None:
    """Who has the release open sees each step that somebody else promotes, and that the next version is taken back and held."""
    flow = f"/w/{NAMESPACE}/parcel"
    world.kube.create(PARCEL)
    world.kube.await_ready(PARCEL)
    world.kube.edit(PARCEL, definition=definition("sent, and insured"))
    page, other = visit("admin"), visit("viewer")
    world.kube.await_condition(PARCEL, "Deployed", ("Unknown", "CanaryPaused"))
    other.goto(f"{flow}/release")
    expect(other.locator("#live-state")).to_have_text("Live.")
    live, step = other.locator("#live"), other.locator(".steps [aria-current=step]")
    expect(live).to_contain_text("with 10 % of the runs")
    expect(step).to_have_text("wait for a person now")
    expect(other.get_by_role("progressbar")).to_have_attribute("value", "1")

    decided(page, "Promote", flow)
    expect(live).to_contain_text("with 50 % of the runs")
    expect(other.get_by_role("progressbar")).to_have_attribute("value", "3")
    picture(other, "canary-step")
    assert world.kube.get(PARCEL).status["activeRevision"]["number"] == 1
    decided(page, "Promote", flow)
    expect(live).to_contain_text("None is under way")
    assert world.kube.get(PARCEL).status["activeRevision"]["number"] == 2

    world.kube.edit(PARCEL, definition=definition("lost"))
    expect(live).to_contain_text("v3 (")
    expect(live).to_contain_text("with 10 % of the runs")
    decided(page, "Abort", flow, "It loses parcels")
    expect(live).to_contain_text("v2 runs instead")
    expect(live).to_contain_text("It loses parcels")
    told = world.kube.await_condition(PARCEL, "Deployed", ("False", "Aborted"))
    assert told.status["activeRevision"]["number"] == 2 and not told.status.get("canary")
    page.goto(flow)
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Rollback to v1", exact=True)).to_be_visible()


def test_what_happens_is_seen_by_whoever_looks(visit: Visit, world: World) -> None:
    """A new version, and a run from its beginning to its end, come into pages that are open, without a reload."""
    flow, name = written(workflow("stock", NAMESPACE, "team"), "bob@example.com"), "watched"
    page, other = visit("admin"), visit("viewer")
    page.goto(f"/w/{NAMESPACE}/stock")
    expect(page.locator("#live-state")).to_have_text("Live.")
    world.kube.create(run(flow, name))
    world.kube.await_state(run(flow, name), lambda it: it.status.get("executionId"), "its row")
    other.goto(f"/r/{world.execution(flow, name)}")
    expect(other.locator("#live")).to_contain_text("Succeeded")
    world.kube.edit(flow, definition=definition("out of stock"))
    expect(page.locator("#live")).to_contain_text("v2 (")


@pytest.mark.parametrize("late", ["hx-sse.min.js", "console.js"])
def test_a_slow_line_is_live_all_the_same(visit: Visit, late: str) -> None:
    """Whichever of the scripts comes late, the page follows what happens, and says so."""
    page = visit("viewer")

    def slowly(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page.route(re.compile(re.escape(late)), slowly)
    page.goto(f"/w/{NAMESPACE}/stock")
    expect(page.locator("#live-state")).to_have_text("Live.")


def test_a_page_that_is_old_decides_nothing(visit: Visit, world: World) -> None:
    """Two people decide at once: the second is told that something else is active by now, and nothing happens."""
    page, mail = visit("admin"), f"/w/{NAMESPACE}/mail"
    page.goto(f"{mail}/decide/reject")
    page.get_by_label("Why").fill("It is wrong")
    flow = {**SEARCH, "metadata": {"name": "mail", "namespace": NAMESPACE}}
    world.kube.edit(flow, definition=definition("another mail"))
    world.kube.await_state(flow, lambda it: it.status["activeRevision"]["number"] == 2, "the second version")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("status").first).to_contain_text("Reject: Stale")
    assert world.kube.get(flow).status["activeRevision"]["number"] == 2


def test_without_scripts_all_can_be_read_and_decided(visit: Visit, world: World) -> None:
    """A browser that runs no JavaScript shows every page, and a decision is made by it."""
    page = visit("admin", java_script_enabled=False)
    for name, path in world.pages.items():
        answer = page.goto(path)
        assert answer is not None and answer.status == (404 if name == "problem" else 200), name
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(f"/w/{NAMESPACE}/stock/decide/note")
    page.get_by_label("Why").fill("Looked at it")
    page.get_by_role("button", name="Note").click()
    expect(page.get_by_role("status").first).to_contain_text("Note: Done")
    seen(page, "Looked at it")
