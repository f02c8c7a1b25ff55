"""Renaming a Provider, in every way people do it (P5, A-GC-3, A-CF-1)."""

import pytest

from e2e.cluster import Database, Kube, eventually, provider

pytestmark = pytest.mark.e2e


def test_in_place(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A changed externalName renames the record and keeps its id; nothing of the old name is left."""
    vms = provider("vms", namespace, team)
    kube.create(vms)
    (before,) = kube.await_ready(vms)
    kube.edit(vms, externalName="victoriametrics")
    after = eventually(lambda: kube.get(vms), lambda t: t.ready and t.status["externalName"] == "victoriametrics")
    assert after.status["providerId"] == before.status["providerId"]
    (row,) = database.providers()
    assert (str(row["id"]), row["external_name"]) == (before.status["providerId"], "victoriametrics")
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created", "Renamed"]


def test_new_object_before_the_prune(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """The new object waits while the old one lives, then takes the record over: same id, no gap, no second row."""
    old = provider("vms", namespace, team, externalName="victoriametrics")
    new = provider("victoriametrics", namespace, team, externalName="victoriametrics")
    kube.create(old)
    (before,) = kube.await_ready(old)
    kube.create(new)
    waiting = kube.await_condition(new, "Synced", ("Unknown", "ExternalNameConflict"))
    assert f"Managed by {namespace}/vms" in waiting.message("Ready")
    kube.delete(old)
    (after,) = kube.await_ready(new)
    kube.await_gone(old)
    assert after.status["providerId"] == before.status["providerId"]
    (row,) = database.providers()
    assert (row["owner_name"], row["owner_uid"]) == ("victoriametrics", after.uid)
    assert [entry["action"] for entry in database.ledger("Provider")] == ["Created", "HandedOver"]


def test_both_in_one_apply(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """Old object deleted and new one created at the same moment, in either order: one record, nothing doubled."""
    old = provider("vms", namespace, team, externalName="victoriametrics")
    for number in range(6):
        new = provider(f"victoriametrics-{number}", namespace, team, externalName="victoriametrics")
        kube.create(old) if number == 0 else None
        kube.await_ready(old)
        if number % 2:
            kube.delete(old)
            kube.create(new)
        else:
            kube.create(new)
            kube.delete(old)
        (ready,) = kube.await_ready(new)
        kube.await_gone(old)
        (row,) = database.providers()
        assert (row["owner_uid"], str(row["id"])) == (ready.uid, ready.status["providerId"])
        old = new


def test_prune_first_then_create(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """When the old object is gone before the new one comes, the record has gone with it and a new id begins."""
    old = provider("vms", namespace, team, externalName="victoriametrics")
    new = provider("victoriametrics", namespace, team, externalName="victoriametrics")
    kube.create(old)
    (before,) = kube.await_ready(old)
    kube.delete(old)
    kube.await_gone(old)
    assert database.providers() == []
    kube.create(new)
    (after,) = kube.await_ready(new)
    assert after.status["providerId"] != before.status["providerId"]


def test_plain_rename_leaves_nothing_behind(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """Without externalName a rename is another provider: the new one gets a record, the old one's is gone."""
    old, new = provider("vms", namespace, team), provider("victoriametrics", namespace, team)
    kube.create(old)
    kube.await_ready(old)
    kube.create(new)
    kube.delete(old)
    kube.await_ready(new)
    kube.await_gone(old)
    (row,) = database.providers()
    assert row["external_name"] == "victoriametrics"


def test_orphaning_owner_still_hands_over(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """Whatever the old object's deletion policy, the record passes to the one that claims it."""
    old = provider("vms", namespace, team, externalName="victoriametrics", deletionPolicy="Orphan")
    new = provider("victoriametrics", namespace, team, externalName="victoriametrics")
    kube.create(old)
    (before,) = kube.await_ready(old)
    kube.create(new)
    kube.await_condition(new, "Synced", ("Unknown", "ExternalNameConflict"))
    kube.delete(old)
    (after,) = kube.await_ready(new)
    assert after.status["providerId"] == before.status["providerId"]
    assert len(database.providers()) == 1


def test_another_type_is_a_conflict_at_once(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A claimant of another type is refused at once, and gets a new record when the old one is gone."""
    old = provider("metrics", namespace, team)
    new = provider("other", namespace, team, "slack", externalName="metrics", config={"webhook_url": "{{ env.CHAT }}"})
    kube.create(old)
    (before,) = kube.await_ready(old)
    kube.create(new)
    refused = kube.await_condition(new, "Ready", ("False", "ExternalNameConflict"))
    assert f"Managed by {namespace}/metrics" in refused.message("Ready")
    kube.delete(old)
    (after,) = kube.await_ready(new)
    assert after.status["providerId"] != before.status["providerId"]
    assert [row["type"] for row in database.providers()] == ["slack"]


def test_deleting_the_claimant_changes_nothing(team: str, kube: Kube, namespace: str, database: Database) -> None:
    """A claimant that is deleted while it waits goes at once, and the holder's record is untouched."""
    old = provider("metrics", namespace, team)
    new = provider("other", namespace, team, externalName="metrics")
    kube.create(old)
    kube.await_ready(old)
    (row,) = database.providers()
    kube.create(new)
    kube.await_condition(new, "Synced", ("Unknown", "ExternalNameConflict"))
    kube.delete(new)
    kube.await_gone(new)
    assert database.providers() == [row]
    assert kube.get(old).ready


def test_conflict_past_its_deadline_is_stalled(team: str, kube: Kube, namespace: str) -> None:
    """Two objects that go on wanting one name: after the deadline the younger one says that a person must decide."""
    old = provider("metrics", namespace, team)
    new = provider("other", namespace, team, externalName="metrics", progressDeadlineSeconds=30)
    kube.create(old)
    kube.await_ready(old)
    kube.create(new)
    stalled = kube.await_condition(new, "Stalled", ("True", "ProgressDeadlineExceeded"))
    assert stalled.condition("Synced") == ("False", "ExternalNameConflict")
    assert stalled.condition("Ready") == ("False", "ProgressDeadlineExceeded")
    kube.delete(old)
    kube.await_ready(new)
