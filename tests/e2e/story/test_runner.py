"""A runner beside a real operator: with the rights that the guide gives it, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from databases import name_of
from e2e.cluster import Database, Kube, eventually, tenant
from e2e.conftest import Operate
from e2e.operators import Operator
from keep_operator.sandbox.instance import Sandbox
from manifests import definition, run, workflow

pytestmark = pytest.mark.e2e
PASSWORD = "of-the-runner"
KEY = "k" * 43
GUIDE = Path(__file__).parents[3] / "docs" / "runner.md"


def granted(role: str) -> list[str]:
    """The statements of the guide, for this role."""
    block = re.search(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    statements = [each.strip() for each in block[1].split(";") if each.strip()]
    return [re.sub(r"\brunner\b", role, each).replace("'…'", f"'{PASSWORD}'") for each in statements]


@pytest.fixture
def operator(operate: Operate) -> Operator:
    """An operator that is ready: it has made the schema."""
    return operate(KEEP_OPERATOR_ENCRYPTION_KEY=KEY)


@pytest.fixture
def limited(sandbox: Sandbox, database: Database, operator: Operator) -> Iterator[str]:
    """The database's URL for a role with the rights of the guide; the schema is there."""
    name = name_of(database.url)
    role, parts = f"runner_of_{name}", urlsplit(database.url)
    with psycopg.connect(sandbox.database.url(name, superuser=True), autocommit=True) as admin:
        for statement in granted(role):
            admin.execute(statement.encode())
        yield urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}"))
        admin.execute(f"DROP OWNED BY {role}".encode())
        admin.execute(f"DROP ROLE {role}".encode())


@pytest.fixture
def runner(limited: str, tmp_path: Path) -> Iterator[Operator]:
    """A runner with that role; it ends in peace."""
    given = {
        "KEEP_OPERATOR_DATABASE_URL": limited,
        "KEEP_OPERATOR_ENCRYPTION_KEY": KEY,
        "KEEP_OPERATOR_RUN_HEARTBEAT_SECONDS": "0.5",
        "KEEP_OPERATOR_RUN_STALLED_SECONDS": "2",
        "KUBECONFIG": "/nowhere",
    }
    process = Operator(given, tmp_path / "runner.log", "runner").await_ready()
    yield process
    assert process.stop() == 0
    assert "Traceback" not in process.log, process.log[-5000:]
    assert "permission denied" not in process.log, process.log[-5000:]
    assert "SyncFailed" not in process.log, process.log[-5000:]


def test_the_rights_of_the_guide_are_enough_to_run(
    runner: Operator, kube: Kube, namespace: str, database: Database
) -> None:
    """By hand and at an interval, to the end, with nothing left in the queue; and not enough to change a version."""
    by_hand = workflow("by-hand", namespace, "team", definition("one"))
    ticking = workflow(
        "ticking", namespace, "team", {**definition("two"), "triggers": [{"type": "interval", "value": 1}]}
    )
    kube.create(tenant("team"), by_hand, ticking)
    kube.await_ready(by_hand, ticking)
    kube.create(run(by_hand))
    kube.await_state(run(by_hand), lambda it: it.condition("Succeeded") == ("True", "Completed"), "its end")
    ticks = "SELECT r.state FROM keep_operator.run r WHERE r.trigger = 'Interval' AND r.state = 'Succeeded'"
    eventually(lambda: database.rows(ticks), lambda rows: len(rows) >= 3, "three ticks")
    eventually(
        lambda: runner.metrics("keep_operator_runs_total")['state="Succeeded"'], lambda count: count >= 4, "the count"
    )
    kube.edit(ticking, suspend=True)
    jobs = "SELECT id FROM keep_operator.procrastinate_jobs"
    eventually(lambda: database.rows(jobs), lambda rows: not rows, "an empty queue")
    assert {row["state"] for row in database.rows("SELECT state FROM keep_operator.run")} == {"Succeeded"}


def test_a_runner_can_change_no_version(limited: str) -> None:
    """Whoever breaks out of a step has no definition, credential or ledger to write."""
    with psycopg.connect(limited, autocommit=True) as connection:
        for table in ("workflow", "workflow_revision", "provider", "tenant", "ledger", "hold", "deployment"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier("keep_operator", table)))
