"""A hundred objects that can never become Ready, each in its own way, and a good one among them (A-CTL-3)."""

import itertools
from collections import defaultdict

import pytest

from e2e import webhook
from e2e.cluster import Database, Json, Kube, eventually, provider, tenant
from e2e.conftest import Operate
from e2e.operators import Operator
from keep_operator.resources.kinds import PROVIDERS

pytestmark = pytest.mark.e2e

REFUSE = """
    CREATE FUNCTION keep_operator.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'injected'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON keep_operator.provider FOR EACH ROW
    WHEN (starts_with(NEW.external_name, 'unstorable-')) EXECUTE FUNCTION keep_operator.refuse()
"""


def banned(manifest: Json) -> Json:
    """The same object, whose status nobody may write."""
    return {**manifest, "metadata": {**manifest["metadata"], "labels": {"banned": "yes"}}}


def waits(operator: Operator) -> dict[str, list[float]]:
    """The pauses that followed each object's failures, in order, in seconds."""
    pauses = defaultdict(list)
    for line in operator.told("reconciled"):
        if "retry_in_s" in line:
            pauses[line["object"].rpartition("/")[2]].append(line["retry_in_s"])
    return pauses


def test_a_hundred_that_fail_delay_nobody(operate: Operate, kube: Kube, namespace: str, database: Database) -> None:
    """Bad specs, a database that says no, a policy that bans the status: each waits ever longer, or for an edit.

    Good Providers that come later are Ready before the others have had another turn each.
    """
    operator = operate()
    kube.create(tenant("team"))
    kube.await_ready(tenant("team"))
    database.execute(REFUSE)
    misspelt = [provider(f"misspelt-{n}", namespace, "team", config={"VMBackendUrl": "http://vm"}) for n in range(34)]
    unstorable = [provider(f"unstorable-{n}", namespace, "team") for n in range(33)]
    unspeakable = [banned(provider(f"unspeakable-{n}", namespace, "team")) for n in range(33)]
    failing = {thing["metadata"]["name"] for thing in (*unstorable, *unspeakable)}

    def looks(outcome: str) -> int:
        return operator.metrics("keep_operator_reconciles_total")[f'kind="Provider",outcome="{outcome}"']

    with webhook.refusing_status_of(kube, PROVIDERS, "banned"):
        for some in itertools.zip_longest(misspelt, unstorable, unspeakable):
            kube.create(*filter(None, some))
        eventually(lambda: looks("refused"), lambda count: count >= len(misspelt), "refusal")
        eventually(
            lambda: min(len(waits(operator)[name]) for name in failing),
            lambda least: least >= 4,
            "four failures of each",
        )
        kube.await_condition(misspelt[0], "Ready", ("False", "InvalidConfig"))
        kube.await_condition(unstorable[0], "Synced", ("Unknown", "SyncFailed"))
        assert not kube.get(unspeakable[0]).status

        before, refusals = looks("unavailable"), looks("refused")
        good = [provider(f"good-{n}", namespace, "team") for n in range(5)]
        kube.create(*good)
        kube.await_all_ready(*good)
        assert looks("unavailable") - before < len(failing)
        # A watch that brings an own write before its answer came is one look more; nothing else looks again.
        assert refusals == looks("refused") <= 2 * len(misspelt)
        assert not waits(operator).keys() & {thing["metadata"]["name"] for thing in misspelt}, "an edit ends a refusal"
        for pauses in waits(operator).values():
            assert all(2**nth / 2 <= pause <= 2**nth for nth, pause in enumerate(pauses)), pauses
    database.execute("DROP TRIGGER refuse ON keep_operator.provider")
    kube.edit(misspelt[0], config={"VMBackendUrl": None, "VMBackendURL": "http://vm"})
    kube.kubectl("annotate", "kprov", "--all", "-n", namespace, "keep-operator.dev/reconcile-requested-at=now")
    kube.await_all_ready(misspelt[0], *unstorable, *unspeakable)
    names = [entry["name"] for entry in database.ledger("Provider") if entry["action"] == "Created"]
    assert sorted(names) == sorted({*failing, "misspelt-0", *(thing["metadata"]["name"] for thing in good)})
