"""A whole installation and a browser: API server, database, operator, runner and console are real, and so is Chromium."""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

import databases
from e2e import accounts
from e2e.cluster import Json, Kube, tenant
from e2e.operators import Operator
from keep_operator.runtime import health
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, provider, run, workflow

RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
NAMESPACE: Final = "shop"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
# Pictures of what the tests have seen.
PICTURES: Final = Path(__file__).parents[3] / ".cache" / "pictures"
VERBS: Final = {"admin": ["*"], "viewer": ["get", "list", "watch"]}
RELEASE: Final = {
    "strategy": {"type": "Canary", "canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}},
    "approval": {"required": "Always", "forbidSelfApproval": False},
}
# Milliseconds that a page is waited for: far more than it takes.
PATIENCE_MS: Final = 20_000


def paying(message: str, **more: object) -> Json:
    """What a checkout does, when it does it well."""
    return definition(message, description="Tell the shop that somebody has paid.", **more)


def broken() -> Json:
    """The same after an edit that looks harmless: it asks a service that no step may reach."""
    asked = {"type": "http", "with": {"url": "http://127.0.0.1:9/rates", "method": "GET"}}
    return paying("paid, in euros", steps=[{"name": "rates", "provider": asked}])


@dataclass(frozen=True)
class World:
    """What is installed. Tokens are those of an ``admin`` and a ``viewer``; ``secret`` is of the one-time address."""

    url: str
    kube: Kube
    tokens: dict[str, str]
    secret: str

    def execution(self, flow: Json, name: str) -> str:
        """The id of a run in the database."""
        return str(self.kube.get(run(flow, name)).status["executionId"])

    def works(self, name: str, reason: str) -> None:
        """A run of the checkout that ends so."""
        self.kube.create(run(CHECKOUT, name))
        self.kube.await_state(
            run(CHECKOUT, name), lambda it: (it.condition("Succeeded") or ("", ""))[1] == reason, reason
        )

    @property
    def pages(self) -> dict[str, str]:
        """An address of each kind of page, by a name for its picture."""
        flow = f"/w/{NAMESPACE}/checkout"
        return {
            "fleet": "/",
            "providers": "/?kind=providers",
            "tenants": "/?kind=tenants",
            "workflow": flow,
            "compare": f"{flow}/compare/1...2",
            "beside": f"{flow}/compare/1...2?view=beside",
            "draft": f"{flow}/compare",
            "decide": f"{flow}/decide/note",
            "runs": f"{flow}/runs",
            "release": f"/w/{NAMESPACE}/search/release",
            "provider": f"/p/{NAMESPACE}/victoriametrics",
            "ledger": "/ledger/team",
            "run": f"/r/{self.execution(CHECKOUT, 'on-v2')}",
            "again": f"/r/{self.execution(CHECKOUT, 'on-v2')}/again",
            "cancel": f"/r/{self.execution(CHECKOUT, 'on-v2')}/cancel",
            "problem": f"/w/{NAMESPACE}/nothing",
        }


def written(manifest: Json, author: str) -> Json:
    """The same by somebody."""
    metadata = {**manifest["metadata"], "annotations": {"keep-operator.dev/author": author}}
    return {**manifest, "metadata": metadata}


CHECKOUT: Final = written(workflow("checkout", NAMESPACE, "team", paying("paid")), "ann@example.com")
SEARCH: Final = workflow("search", NAMESPACE, "team", definition("found"), release=RELEASE)


@pytest.fixture(scope="module")
def world(kube: Kube, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One installation for all tests of a file: a failing checkout, a search that waits for approval, a slip of the pen."""
    kube.sweep()
    folder, secret = tmp_path_factory.mktemp("browser"), secrets.token_urlsafe(16)
    kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    tokens = {name: _account(kube, name, verbs) for name, verbs in VERBS.items()}
    with health.listen(0) as found:
        port = found.getsockname()[1]  # the operator is told of it before the console is there
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.callback(kube.send, "DELETE", f"/api/v1/namespaces/{NAMESPACE}")
        stack.callback(kube.sweep)
        given = {
            "KEEP_OPERATOR_DATABASE_URL": stack.enter_context(databases.temporary(sandbox.database_url())),
            "KEEP_OPERATOR_ENCRYPTION_KEY": secrets.token_urlsafe(32),
            "KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record",
            "KEEP_OPERATOR_CONSOLE_PORT": str(port),
            "KEEP_OPERATOR_CONSOLE_URL": url,
            "KEEP_OPERATOR_SESSION_KEY": Fernet.generate_key().decode(),
            "KEEP_OPERATOR_SIGNIN_ONCE": json.dumps({secret: tokens["admin"]}),
        }
        processes = []
        for name, command in (("operator", "operate"), ("runner", "runner"), ("console", "console")):
            its = {**given, "KUBECONFIG": str(sandbox.kubeconfig(name)) if name != "runner" else "/nowhere"}
            processes.append(Operator(its, folder / f"{name}.log", command))
            stack.callback(processes[-1].stop)
        for process in processes:
            process.await_ready()
        made = World(url, kube, tokens, secret)
        _history(made)
        yield made
    for process in processes:
        assert "Traceback" not in process.log, process.log[-5000:]
        assert not [token for token in tokens.values() if token in process.log]


def _account(kube: Kube, name: str, verbs: list[str]) -> str:
    """A service account that may do that with all objects of ours, and its token."""
    kube.send("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": name}})
    role = {"metadata": {"name": f"browser-{name}"}}
    rules = [{"apiGroups": ["keep-operator.dev"], "resources": ["*"], "verbs": verbs}]
    kube.send("POST", f"{RBAC}/clusterroles", {**role, "rules": rules})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **role["metadata"]}
    subject = {"kind": "ServiceAccount", "namespace": NAMESPACE, "name": name}
    kube.send("POST", f"{RBAC}/clusterrolebindings", {**role, "roleRef": ref, "subjects": [subject]})
    return accounts.token(kube, NAMESPACE, name)


def _history(world: World) -> None:
    kube = world.kube
    slip = workflow("nightly", NAMESPACE, "team", {"triggers": [{"type": "manual"}], "actions": [{"name": "say"}]})
    others = [
        written(workflow(name, NAMESPACE, "team", definition(name)), "bob@example.com") for name in ("mail", "stock")
    ]
    first = written(workflow("search", NAMESPACE, "team", definition("found")), "bob@example.com")
    kube.create(tenant("team"), provider("victoriametrics", NAMESPACE, "team"), CHECKOUT, first, slip, *others)
    kube.await_ready(CHECKOUT, first, *others)
    world.works("on-v1", "Completed")
    kube.edit(CHECKOUT, definition=broken())
    kube.edit(first, definition=definition("found, and ranked"), release=RELEASE)
    kube.await_state(CHECKOUT, lambda it: it.status["activeRevision"]["number"] == 2, "the second version")
    kube.await_condition(first, "Deployed", ("Unknown", "AwaitingApproval"))
    world.works("on-v2", "StepFailed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's Chromium."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        pytest.skip("there is no Chromium: run `make browser`")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Browser, world: World) -> Iterator[Visit]:
    """Opens a window, signed in as somebody or not. After the test: nothing was asked of anybody else, nothing was forbidden by
    the policy, no script has failed."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # A page that says no is loaded with its status, which Chromium finds worth a line.
        if message.type == "error" and "the server responded with a status of 4" not in message.text:
            faults.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(f"{world.url}/"):
            faults.append(f"asked of somebody else: {request.url}")

    def opened(who: str = "", *, width: int = 1280, **settings: Any) -> Page:
        context = chromium.new_context(base_url=world.url, viewport={"width": width, "height": 800}, **settings)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.expose_binding("forbidden", lambda _, what: faults.append(f"against the policy: {what}"))
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => forbidden(`${e.violatedDirective} ${e.blockedURI}`))"
        )
        context.on("request", asked)
        context.on("weberror", lambda error: faults.append(str(error.error)))
        context.on("console", heard)
        page = context.new_page()
        if who:
            page.goto("/signin")
            page.get_by_label("A token of this cluster").fill(world.tokens[who])
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("/")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def picture(page: Page, name: str) -> None:
    """Keep what is seen, for people."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=False)


def audit(page: Page) -> list[str]:
    """What axe finds wrong, each with its place."""
    page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']}).then((told) => told.violations)")
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]
