"""`make run`: the sandbox, operator, runner and read API in it, and the sample story, all of it gone with Ctrl-C."""

import asyncio
import base64
import contextlib
import json
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from keep_operator.cluster import access, connection
from keep_operator.cluster.client import Cluster
from keep_operator.errors import Unavailable
from keep_operator.resources.kinds import GROUP, Resource
from keep_operator.runtime import health
from keep_operator.sandbox import display, receiver, screen, tools
from keep_operator.sandbox.display import Display, Step
from keep_operator.sandbox.instance import KEY_BYTES, Sandbox
from keep_operator.sandbox.processes import Command, bare_environment
from keep_operator.sandbox.story import NAMESPACE, Story

# The console takes tokens only, and the sandbox's people have certificates: a reader of the API, and who decides by its pages.
READER: Final = "reader"
ADMIN: Final = "admin"
# As long as a session of the pages lasts.
LASTS: Final = "12h"
RANK: Final = 10  # stops before the servers that it uses
USUAL_CRDS: Final = timedelta(seconds=3)
USUAL_START: Final = timedelta(seconds=3)
START_LIMIT: Final = timedelta(seconds=90)  # for a machine under load


class Process:
    """A process of ours in a sandbox: ``operator`` or ``console``, under its own account and rights, or ``runner``."""

    def __init__(self, box: Sandbox, name: str, command: str, **environment: str) -> None:
        self._box = box
        self._name = name
        self._command = command
        self._environment = environment
        self._log = box.logs / f"{name}.log"

    def start(self) -> None:
        """Starts it anew; its log begins anew too."""
        self._log.unlink(missing_ok=True)
        environment = {
            **bare_environment(),
            **self._box.environment(),
            "KUBECONFIG": str(self._box.kubeconfig(self._name)),
            "KEEP_OPERATOR_HEALTH_PORT": "0",
            "KEEP_OPERATOR_CONSOLE_PORT": "0",
            "KEEP_OPERATOR_LOG_FORMAT": "json",
            **self._environment,
        }
        argv = [sys.executable, "-m", "keep_operator", self._command]
        self._box.roster.start(
            Command(self._name, argv, self._log, cwd=self._box.folder, environment=environment, rank=RANK)
        )

    def await_ready(self) -> str:
        """The URL of its pages once `/readyz` says so; raises Unavailable with what it says instead."""
        end, page = time.monotonic() + START_LIMIT.total_seconds(), ""
        while time.monotonic() < end:
            if (trouble := self.trouble()) is not None:
                raise Unavailable("SandboxProcessDied", trouble)
            if (found := re.search(r'"port": (\d+)', self._text())) is not None:
                url = f"http://127.0.0.1:{found[1]}"
                ready, page = _read(f"{url}/readyz")
                if ready:
                    return url
            time.sleep(0.05)
        raise Unavailable(
            "SandboxProcessDied", f"the {self._name} does not become ready:\n{page or self._text()[-1500:]}"
        )

    @property
    def api_url(self) -> str:
        """Where a console that is ready answers."""
        found = re.search(r'"serving the API", "port": (\d+)', self._text())
        assert found is not None  # since it is ready
        return f"http://127.0.0.1:{found[1]}"

    def lines(self, begin: int) -> tuple[list[dict[str, Any]], int]:
        """What it has logged from there on, in bytes of its log, without a line that is still being written; and where that ends."""
        found = []
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(begin)
            for line in log:
                if line.endswith(b"\n"):
                    begin += len(line)
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(line))
        return found, begin

    def trouble(self) -> str | None:
        """Why it does not run any more, None while it does."""
        if self._box.roster.running(self._name):
            return None
        return f"the {self._name} has ended; the end of {self._log}:\n{self._text()[-1500:]}"

    def _text(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


class Relay:
    """A display that can be exchanged for another: bars while things start, plain lines around the live table."""

    def __init__(self, inner: Display) -> None:
        self.inner = inner

    def say(self, text: str) -> None:
        """Shows one line."""
        self.inner.say(text)

    def step(self, title: str, usual: timedelta | None = None) -> AbstractContextManager[Step]:
        """Shows a piece of work from its beginning to its end."""
        return self.inner.step(title, usual)


def run(box: Sandbox) -> None:
    """Everything from nothing to a cluster that shows the story, then stays until it is interrupted."""
    began = time.monotonic()
    with ExitStack() as bars:
        relay = Relay(bars.enter_context(display.opened()))
        with box.attended(relay):
            with relay.step("Installing the CRDs", USUAL_CRDS):
                _install(box)
            secret = secrets.token_urlsafe(24)
            once = {
                "KEEP_OPERATOR_SESSION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii"),
                "KEEP_OPERATOR_SIGNIN_ONCE": json.dumps({secret: _token(box, ADMIN)}),
            }
            port = _free_port()
            console = Process(box, "console", "console", KEEP_OPERATOR_CONSOLE_PORT=str(port), **once)
            operator = Process(box, "operator", "operate", KEEP_OPERATOR_CONSOLE_URL=f"http://127.0.0.1:{port}")
            runner = Process(box, "runner", "runner")
            with relay.step("Starting the operator", USUAL_START):
                operator.start()
                console.start()
                runner.start()
                url = operator.await_ready()
            relay.say(f"Up after {time.monotonic() - began:.0f} s.")
            bars.close()
            relay.inner = display.Lines(sys.stderr)
            asyncio.run(_tell(box, operator, console, runner, Addresses(url, secret)))


def _free_port() -> int:
    """One that is free now: the operator tells the console's address before the console is there."""
    with health.listen(0) as found:
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the operator's health pages are, and the secret that signs in once at the console's."""

    health: str
    secret: str


async def _tell(box: Sandbox, operator: Process, console: Process, runner: Process, where: Addresses) -> None:
    news = News(runner)
    async with Cluster(_admin(box)) as cluster, receiver.listening(news.hear) as receiver_url:
        with screen.opened() as shown:
            story = Story(
                cluster,
                shown,
                alive=lambda: operator.trouble() or console.trouble() or runner.trouble(),
                receiver_url=receiver_url,
                news=news.take,
            )
            await asyncio.to_thread(runner.await_ready)
            took = await story.play()
            await asyncio.to_thread(console.await_ready)
            shown.chapter(f"All is Ready; the operator took {took.total_seconds():.1f} s for the whole story.")
            for line in _next(box, where, console.api_url):
                shown.say(line)
            await story.follow()


class News:
    """What has become known of runs since somebody last asked: that they ended, and what arrived at the receiver."""

    def __init__(self, runner: Process) -> None:
        self._runner = runner
        self._read = 0
        self._heard: list[str] = []

    def hear(self, line: str) -> None:
        """Note what arrived."""
        self._heard.append(f"receiver: {line}")

    def take(self) -> list[str]:
        """Each line once."""
        heard, self._heard = self._heard, []
        lines, self._read = self._runner.lines(self._read)
        return heard + [_told(each) for each in lines if "run" in each and "state" in each]


def _told(ended: dict[str, Any]) -> str:
    version = f"v{ended['revision']} ({ended['hash']})"
    detail = "" if ended["reason"] == "Completed" else f" {ended['reason']}: {ended['detail']}"
    return f"run {ended['run'][-8:]} of {ended['workflow']} {version}: {ended['state']}{detail}"


def _install(box: Sandbox) -> None:
    """CRDs as a user would install them, the rights of our processes, an account that may read all of ours and one that may all."""
    done = subprocess.run(
        [sys.executable, "-m", "keep_operator", "crds", "apply", "--kubeconfig", str(box.kubeconfig())],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise Unavailable("SandboxProcessDied", f"the CRDs could not be installed: {done.stderr.strip()}")

    async def grant() -> None:
        rights = [access.cluster_role(), access.binding("keep-operator"), *access.own_roles("keep-operator", "default")]
        rights += [access.console_role(), access.console_binding("keep-operator-console")]
        rights += [*_account(READER, "get", "list"), *_account(ADMIN, "*")]
        async with Cluster(_admin(box)) as cluster:
            for manifest in rights:
                kind, metadata = manifest["kind"], manifest["metadata"]
                group, _, version = manifest["apiVersion"].rpartition("/")
                namespaced = not kind.startswith("Cluster")
                where = Resource(group, version, f"{kind.lower()}s", kind, namespaced=namespaced)
                await cluster.apply(where, metadata.get("namespace"), metadata["name"], manifest, force=True)

    asyncio.run(grant())


def _account(name: str, *verbs: str) -> list[dict[str, Any]]:
    """A service account that may do that with all of our objects, in all namespaces."""
    rbac, metadata = f"{access.RBAC_GROUP}/v1", {"name": f"keep-operator-sandbox-{name}"}
    rule = {"apiGroups": [GROUP], "resources": ["*"], "verbs": [*verbs]}
    ref = {"apiGroup": access.RBAC_GROUP, "kind": "ClusterRole", **metadata}
    account = {"kind": "ServiceAccount", "namespace": "default", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": metadata, "rules": [rule]},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": ref, "subjects": [account]},
    ]


def _token(box: Sandbox, account: str) -> str:
    """A token of the account."""
    argv = [str(tools.ensure_present() / "kubectl"), f"--kubeconfig={box.kubeconfig()}", "--namespace=default"]
    argv += ["create", "token", account, f"--duration={LASTS}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise Unavailable("SandboxProcessDied", f"there is no token for the console: {done.stderr.strip()}")
    return done.stdout.strip()


def _admin(box: Sandbox) -> connection.Connection:
    return connection.load({"KUBECONFIG": str(box.kubeconfig())})


def _next(box: Sandbox, where: Addresses, api_url: str) -> list[str]:
    """What to try next, in a browser and in a second terminal."""
    here = Path.cwd()
    folder = box.folder.relative_to(here) if box.folder.is_relative_to(here) else box.folder
    program = Path(sys.executable).parent / "keep-operator"
    program = program.relative_to(here) if program.is_relative_to(here) else program
    return [
        f"See it in a browser on this machine (the address is good once): {api_url}/signin/once/{where.secret}",
        "Try next, in a second terminal:",
        f'  eval "$({program} sandbox env)"',
        "  kubectl get keep -A",
        f"  kubectl keep history high-cpu -n {NAMESPACE}       # which version runs",
        f"  kubectl keep diff high-cpu v1 v3 -n {NAMESPACE}    # what changed",
        f"  kubectl keep rollback high-cpu -m why -n {NAMESPACE}",
        f"  kubectl keep run high-cpu --wait -n {NAMESPACE}    # now, and not in five minutes",
        f"  export KEEP_OPERATOR_API_URL={api_url} \\",
        f'    KEEP_OPERATOR_API_TOKEN="$(kubectl create token {READER})"',
        f"  kubectl keep ledger high-cpu -n {NAMESPACE}        # all that was done, by whom",
        "  kubectl delete tenant platform --wait=false        # held while it is in use",
        f"  kubectl delete providers.keep-operator.dev --all -n {NAMESPACE}",
        f"  curl -s {where.health}/readyz {where.health}/metrics",
        f"  tail -f {folder}/logs/operator.log {folder}/logs/runner.log",
        "This table stays live. Ctrl-C ends everything.",
    ]


def _read(url: str) -> tuple[bool, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback address
            return True, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read().decode()
    except OSError:
        return False, ""
