"""A console that looks after some namespaces only, as its rights are: what it shows, and what it says of the others."""

import pytest

from integration.console.test_pages import Browser
from integration.console.visit import Console
from integration.store.lineages import ME
from keep_operator.domain.history import Lineage
from keep_operator.resources.kinds import PROVIDERS, WORKFLOWS

pytestmark = pytest.mark.integration

WATCHED = ("monitoring", "sre")


@pytest.fixture
def watched() -> tuple[str, ...]:
    """Two of them."""
    return WATCHED


@pytest.fixture
async def browser(console: Console) -> Browser:
    """Ann's browser; each namespace has a workflow and a provider of its own, and the whole cluster a list that nobody may read."""
    played = console.played
    for kind in (WORKFLOWS, PROVIDERS):
        for namespace in (*WATCHED, "secret"):
            cells = {"Ready": "True", "Reason": "Ready", "Age": "3d"}
            played.tables[kind.path(namespace)] = [{"name": f"of-{namespace}", "namespace": namespace, "cells": cells}]
        played.tables[kind.path()] = [{"name": "of-everybody", "namespace": "secret", "cells": {"Ready": "True"}}]
    browser = Browser(console)
    await browser.sign_in()
    return browser


async def shown(browser: Browser, path: str) -> set[str]:
    """The names of all rows."""
    answer = await browser.get(path)
    text = await answer.text()
    assert answer.status == 200, text
    return {each for each in ("of-monitoring", "of-sre", "of-secret", "of-everybody") if each in text}


@pytest.mark.parametrize("kind", ["workflows", "providers"])
async def test_who_may_see_all_sees_what_is_looked_after(browser: Browser, kind: str) -> None:
    """Each of these namespaces is listed by itself: the console has no right to list the whole cluster, and asks for no more."""
    browser.console.played.give("ann", f"list {kind} ")
    assert await shown(browser, f"/?kind={kind}") == {"of-monitoring", "of-sre"}
    assert browser.console.played.asked[f"GET {kind}"] == 2


async def test_who_may_see_one_of_them_sees_that_one(browser: Browser) -> None:
    """The user's right decides among them; one to a namespace that is not looked after shows nothing of it."""
    browser.console.played.give("ann", "list workflows sre", "list workflows secret")
    assert await shown(browser, "/") == {"of-sre"}
    assert await shown(browser, "/?namespace=sre") == {"of-sre"}


async def test_nobody_sees_what_he_may_not(browser: Browser) -> None:
    """Without a right there is no list, looked after or not, and the page says which right it takes."""
    assert await shown(browser, "/") == set()
    for namespace in ("sre", "secret"):
        answer = await browser.get(f"/?namespace={namespace}")
        assert answer.status == 403 and f"in namespace {namespace}" in await answer.text()


@pytest.mark.parametrize(
    "path", ["/?namespace=secret", "/?kind=providers&namespace=secret", "/w/secret/flow", "/p/secret/vms"]
)
async def test_a_namespace_that_is_not_looked_after_is_said_to_be_so(browser: Browser, path: str) -> None:
    """Whoever may see it learns that this installation does not look there, and who can change that; nothing is asked about it."""
    browser.console.played.give("ann", "list workflows ", "list workflows secret", "list providers secret")
    asked = sum(
        browser.console.played.asked[each] for each in ("GET workflows", "GET providers", "GET flow", "GET vms")
    )
    answer = await browser.get(path)
    text = await answer.text()
    assert answer.status == 404 and "does not look after namespace secret" in text
    assert "KEEP_OPERATOR_WATCH_NAMESPACES" in text and 'href="/"' in text
    assert asked == sum(
        browser.console.played.asked[each] for each in ("GET workflows", "GET providers", "GET flow", "GET vms")
    )


async def test_pages_of_a_namespace_that_is_looked_after_are_as_ever(browser: Browser, lineage: Lineage) -> None:
    """The limit is on namespaces alone."""
    browser.console.played.have_workflow(ME.uid)
    assert lineage.owner == ME
    assert (await browser.get("/w/monitoring/high-cpu")).status == 200


async def test_a_name_that_no_namespace_has_is_no_outage(browser: Browser) -> None:
    """A slip of the pen is told as one, to those who may look everywhere too."""
    browser.console.played.give("ann", "list workflows ", "list workflows Monitoring")
    answer = await browser.get("/?namespace=Monitoring")
    assert answer.status == 404 and "No namespace can have that name" in await answer.text()
