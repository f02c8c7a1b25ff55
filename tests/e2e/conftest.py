"""A real API server, a real PostgreSQL and real operator processes; one sandbox for the whole run."""

import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from databases import database_url, empty_url, template  # noqa: F401 -- fixtures
from e2e import accounts
from e2e.cluster import Database, Kube, tenant
from e2e.keep import keep  # noqa: F401 -- a fixture
from e2e.operators import Operator
from keep_operator.__main__ import NESTING_LIMIT
from keep_operator.cli import crds
from keep_operator.sandbox import display, tools
from keep_operator.sandbox.instance import Sandbox
from keep_operator.sandbox.options import Options

# As the program does: one test lets the cluster hold JSON that is nested deeper than Python reads by default.
sys.setrecursionlimit(NESTING_LIMIT)

Operate = Callable[..., Operator]
CEL_SINCE, POLICIES_SINCE = (1, 25), (1, 30)


# What takes longest, the longest first. These files begin before the others, so that none of them is the last one, alone.
LONGEST = (
    "gitops/test_argo_cd.py",
    "chart/test_first_day.py",
    "chart/test_upgrade.py",
    "story/test_first_deployment.py",
    "story/test_namespace.py",
    "story/test_leadership.py",
    "story/test_recovery.py",
    "chart/test_guide.py",
    "story/test_rollback.py",
    "story/test_releases.py",
    "chart/test_install.py",
    "story/test_outages.py",
    "sandbox/test_commands.py",
    "story/test_runs.py",
    "story/test_kills.py",
    "story/test_quiet.py",
    "browser/test_pages.py",
    "sandbox/test_story.py",
    "gitops/test_flux.py",
    "sandbox/test_running.py",
    "plugin/test_releasing.py",
    "story/test_rename.py",
    "story/test_who_decides.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; pytest-xdist hands files out in this order, with `--no-loadscope-reorder`."""
    here = Path(__file__).parent
    places = {(here / name).resolve(strict=True): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def options_for(folder: Path) -> Options:
    """A sandbox of the tests' own, of kind if that is asked for; never the cluster of somebody's context."""
    cluster = "kind" if os.environ.get("CLUSTER") == "kind" else ""
    return Options(folder=folder, cluster=cluster, assets=os.environ.get("KUBEBUILDER_ASSETS", ""))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Cluster and database of this run; started once, and gone with the run whatever happens to it."""
    box = Sandbox(options_for(tmp_path_factory.mktemp("sandbox")))
    with display.opened(sys.__stderr__) as shown, box.attended(shown):
        yield box


@pytest.fixture(scope="session")
def kube(sandbox: Sandbox) -> Kube:
    """The cluster as its administrator sees it, with our definitions served.

    From now on the sandbox's kubeconfigs `operator` and `console` are those of the chart's service accounts.
    """
    folder = tools.ready()
    assert folder is not None, "the sandbox has fetched kubectl"
    kube = Kube(sandbox.kubeconfig(), folder)
    crds.apply(kube.server, timedelta(seconds=60), lambda line: None)
    accounts.grant(kube)
    for file, account in (("operator", accounts.OPERATOR), ("console", accounts.CONSOLE)):
        accounts.kubeconfig(kube, accounts.NAMESPACE, account, sandbox.kubeconfig(file))
    return kube


@pytest.fixture(scope="session")
def server_version(kube: Kube) -> tuple[int, int]:
    """Major and minor version of the API server."""
    _, answer = kube.send("GET", "/version")
    return int(answer["major"]), int(answer["minor"].rstrip("+"))


@pytest.fixture(autouse=True)
def _skip_what_the_server_lacks(request: pytest.FixtureRequest) -> None:
    needs = {"needs_cel": CEL_SINCE, "needs_admission_policy": POLICIES_SINCE}
    for name, since in needs.items():
        marker = request.node.get_closest_marker(name)
        if marker and request.getfixturevalue("server_version") < since:
            pytest.skip(f"{name}: {marker.args[0] if marker.args else f'needs Kubernetes {since[0]}.{since[1]}'}")


@pytest.fixture
def clean(kube: Kube) -> Iterator[Kube]:
    """The cluster without any object of ours, before and after."""
    kube.sweep()
    yield kube
    kube.sweep()


_numbers = itertools.count(1)


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"made-for": "a-test"}}})
    yield name
    kube.send("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def server_url(sandbox: Sandbox) -> str:
    """The server of this run."""
    return sandbox.database_url()


@pytest.fixture
def database(database_url: str) -> Database:  # noqa: F811 -- the fixture
    """A control database without rows. Where its schema is made by what is tested, a file has a `database` of its own."""
    return Database(database_url)


@pytest.fixture
def operate(clean: Kube, sandbox: Sandbox, database: Database, tmp_path: Path) -> Iterator[Operate]:
    """Starts operator processes on the empty database and the swept cluster; ends them after the test.

    A traceback in a log, a foreign-key error, or words of a library that are no log line fail the test that caused them,
    unless it says ``flawed=True``.
    """
    started: list[tuple[Operator, bool]] = []
    key = secrets.token_urlsafe(32)

    def start(*, flawed: bool = False, wait: bool = True, **environment: str) -> Operator:
        given = {
            "KUBECONFIG": str(sandbox.kubeconfig("operator")),
            "KEEP_OPERATOR_DATABASE_URL": database.url,
            "KEEP_OPERATOR_ENCRYPTION_KEY": key,
            "KEEP_OPERATOR_LEASE_SECONDS": "6",  # a busy machine may hold a renewal up for seconds
            **environment,
        }
        operator = Operator(given, tmp_path / f"operator-{len(started)}.log")
        started.append((operator, flawed))
        return operator.await_ready() if wait else operator

    yield start
    for operator, _ in started:
        operator.stop()
    for operator, flawed in started:
        if not flawed:
            assert "Traceback" not in operator.log, operator.log[-5000:]
            assert "oreign key" not in operator.log
            strange = [line for line in operator.log.splitlines() if not line.startswith(("{", "keep-operator: "))]
            assert strange == []


@pytest.fixture
def team(operate: Operate, kube: Kube) -> str:
    """A Ready Tenant, and an operator."""
    operate()
    kube.create(tenant("team"))
    kube.await_ready(tenant("team"))
    return "team"
