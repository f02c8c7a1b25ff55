"""The accounts of the chart's pods: processes that act with their tokens, and so with the chart's rights."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from charts import NAMESPACE, Json, environment
from e2e import accounts
from e2e.cluster import Database, Kube
from e2e.operators import Operator

Start = Callable[[], Operator]


def kubeconfig_of(kube: Kube, account: str, path: Path) -> Path:
    """A kubeconfig with a token of the account, for its own namespace."""
    return accounts.kubeconfig(kube, NAMESPACE, account, path)


def environment_of(kube: Kube, deployment: str) -> dict[str, str]:
    """The plain variables that the pods of a Deployment would have."""
    status, live = kube.send("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{deployment}")
    assert status == 200, live
    (container,) = live["spec"]["template"]["spec"]["containers"]
    return {name: value for name, value in environment(container).items() if isinstance(value, str)}


@contextmanager
def operators(kube: Kube, database: Database, folder: Path) -> Iterator[Start]:
    """Starts operators as the chart's pods would be, on one database with one key; ends them."""
    started: list[Operator] = []
    key = secrets.token_urlsafe(32)

    def start() -> Operator:
        given: Json = environment_of(kube, "keep-operator")
        given = {name: value for name, value in given.items() if not name.endswith(("_FILE", "_PORT"))}
        given |= {
            "KUBECONFIG": str(kubeconfig_of(kube, "keep-operator", folder / f"account-{len(started)}")),
            "KEEP_OPERATOR_DATABASE_URL": database.url,
            "KEEP_OPERATOR_ENCRYPTION_KEY": key,
            "KEEP_OPERATOR_LOG_FORMAT": "json",
            "KEEP_OPERATOR_LEASE_SECONDS": "6",
        }
        started.append(Operator(given, folder / f"operator-{len(started)}.log"))
        return started[-1].await_ready()

    try:
        yield start
    finally:
        for operator in started:
            operator.stop()
