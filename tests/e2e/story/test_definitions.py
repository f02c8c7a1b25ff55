"""The definition of Providers goes and comes back, as `helm uninstall` of a chart with CRDs does it: ids survive."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from e2e.between import line
from e2e.cluster import Database, Kube, eventually, provider
from e2e.conftest import Operate
from keep_operator.cli import crds
from keep_operator.resources.kinds import PROVIDERS
from keep_operator.sandbox.instance import Sandbox

pytestmark = pytest.mark.e2e

MISSED = "an object is gone, and no watch had told so"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/providers.keep-operator.dev"


@contextmanager
def undefined(kube: Kube) -> Iterator[None]:
    """The kind is deleted at the beginning and defined anew at the end of the block."""
    status, answer = kube.send("DELETE", DEFINITION)
    assert status == 200, answer
    try:
        yield
        eventually(lambda: kube.send("GET", DEFINITION)[0], lambda status: status == 404, "end of the definition")
    finally:
        crds.apply(kube.server, timedelta(seconds=60), lambda line: None)
        eventually(lambda: kube.send("GET", PROVIDERS.path())[0], lambda status: status == 200, "the kind")


def test_records_outlive_a_definition_that_is_forced_away(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Objects are stripped of finalizers and go with their definition while the operator cannot look.

    What is applied again has its id back, also what comes after a sweep has missed it; nothing was deleted in the database.
    """
    with line(sandbox.kubeconfig("operator"), tmp_path) as to_server:
        operator = operate(KEEP_OPERATOR_LEASE_SECONDS="60", KUBECONFIG=str(to_server.kubeconfig))
        first, second, late = things = [provider(name, namespace) for name in ("first", "second", "late")]
        kube.create(*things)
        before = kube.await_ready(*things)
        to_server.cut()
        with undefined(kube):
            for thing in things:
                kube.patch(PROVIDERS.path(namespace, thing["metadata"]["name"]), {"metadata": {"finalizers": None}})
        kube.create(first, second)
        to_server.mend()
        after = kube.await_ready(first, second)
        assert [thing.uid for thing in after] != [thing.uid for thing in before[:2]]
        eventually(
            lambda: [line["object"] for line in operator.told(MISSED)], lambda names: f"{namespace}/late" in names
        )
        kube.create(late)
        after += kube.await_ready(late)
    ids = [thing.status["providerId"] for thing in before]
    assert [thing.status["providerId"] for thing in after] == ids
    done = [entry["action"] for entry in database.ledger("Provider")]
    assert sorted(done) == ["Created"] * 3 + ["Reattached"] * 3


def test_a_deleted_definition_deletes_its_objects_by_their_policies(
    operate: Operate, kube: Kube, namespace: str, database: Database
) -> None:
    """With the operator at work that is a deletion of each object: what is orphaned keeps its record and gets it back.

    The process that lost its watch ends; the next one waits for the definition, says so, and needs no further restart.
    """
    first = operate(flawed=True)
    kept = provider("kept", namespace, deletionPolicy="Orphan", adoptionPolicy="IfUnowned")
    goes = provider("goes", namespace)
    kube.create(kept, goes)
    before = {thing.raw["metadata"]["name"]: thing.status["providerId"] for thing in kube.await_ready(kept, goes)}
    with undefined(kube):
        assert first.process.wait(60) == 1
        assert "WatchFailed" in first.log
        second = operate(wait=False)
        eventually(lambda: second.page("/readyz")[1], lambda page: "ApiResourceMissing" in page, "what is missing")
        (row,) = database.providers()
        assert (row["external_name"], str(row["id"])) == ("kept", before["kept"])
    second.await_ready()
    kube.create(kept, goes)
    after = {thing.raw["metadata"]["name"]: thing.status["providerId"] for thing in kube.await_ready(kept, goes)}
    assert after["kept"] == before["kept"]
    assert after["goes"] != before["goes"]
