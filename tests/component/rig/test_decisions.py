"""Decisions on a whole operator: what one costs, what it does, and what tools that apply manifests do about it: nothing."""

import asyncio
from collections.abc import Callable

import pytest

from component.rig.process import Operator
from component.rig.rig import Mark, Rig
from manifests import Json, Thing, admission_binding, admission_policy, decision, definition, tenant, workflow

pytestmark = pytest.mark.component
TEAM = tenant("team")
HELLO = workflow("hello", "default", "team", definition("one"))
BACK = decision("Rollback", HELLO)
ACTIVE = "insert deployment, update revision_state, update workflow"


def active(thing: Thing) -> int | None:
    """The number of the active revision, as the Workflow says."""
    number: int | None = (thing.status.get("activeRevision") or {}).get("number")
    return number


async def rewritten(rig: Rig, message: str) -> Thing:
    """The Workflow once it says this."""
    rig.user.edit(HELLO, definition=definition(message))
    number = rig.user.get(HELLO).raw["metadata"]["generation"]
    return await rig.user.until(HELLO, lambda thing: thing.status.get("observedGeneration") == number, "a look")


async def with_two_versions(rig: Rig, **settings: str) -> tuple[Operator, Mark]:
    """An operator at rest over a Workflow that has said one, and says two now."""
    rig.user.apply(TEAM, HELLO)
    operator = await rig.operate(default_tenant="", **settings)
    await rig.user.ready(HELLO)
    await rewritten(rig, "two")
    await rig.rest()
    return operator, rig.mark()


async def decided(rig: Rig, what: Json) -> Thing:
    """The decision once it is handled."""
    rig.user.apply(what)
    return await rig.user.until(what, _is_handled, "a verdict")


def _is_handled(thing: Thing) -> bool:
    return (thing.condition("Handled") or ("Unknown",))[0] != "Unknown"


async def test_a_rollback(rig: Rig) -> None:
    """A-RB-1: one object: one transaction with all of it, and the status of the decision, the Workflow and both versions."""
    operator, mark = await with_two_versions(rig)
    told = await decided(rig, BACK)
    await rig.rest()
    assert rig.spent(operator, mark) == {
        f"COMMIT insert deployment, insert handled_decision, insert hold, {ACTIVE.partition(', ')[2]}": 1,
        "PATCH workflowdecisions": 1,
        "PATCH workflowdecisions/status": 1,
        "PATCH workflows/status": 1,
        "PATCH workflowrevisions/status": 2,
    }
    assert told.condition("Handled") == ("True", "Done")
    assert (told.status["from"], told.status["to"]) == (2, 1)
    thing = rig.user.get(HELLO)
    assert active(thing) == 1
    assert (thing.condition("Ready"), thing.condition("Deployed")) == (("True", "Ready"), ("False", "RolledBack"))
    assert thing.status["hold"]["reason"] == "It is loud"
    (owner,) = rig.user.get(BACK).raw["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (thing.uid, False)


def annotated(value: str) -> Json:
    """What `kubectl annotate` sends."""
    return {"metadata": {"annotations": {"keep-operator.dev/rollback-to": value}}}


async def test_a_rollback_by_annotation(rig: Rig) -> None:
    """The same in one transaction, without an object; it may stay there, and Git undoes it no more than a decision."""
    operator, mark = await with_two_versions(rig)
    rig.user.patch(HELLO, annotated("previous@monday"))
    await rig.user.until(HELLO, lambda thing: thing.status.get("lastHandledAction") == "previous@monday", "a rollback")
    await rig.rest()
    assert rig.spent(operator, mark) == {
        f"COMMIT insert deployment, insert handled_decision, insert hold, {ACTIVE.partition(', ')[2]}": 1,
        "PATCH workflows/status": 1,
        "PATCH workflowrevisions/status": 2,
    }
    thing = rig.user.get(HELLO)
    assert (active(thing), thing.condition("Deployed")) == (1, ("False", "RolledBack"))
    (entry,) = [entry for entry in rig.database.ledger("Workflow") if entry["action"] == "Handled"]
    assert entry["actor"] == "annotation keep-operator.dev/rollback-to"
    assert (entry["details"]["outcome"], entry["details"]["verified"]) == ("Done", False)
    await rewritten(rig, "three")
    await rig.operators[-1].stop()
    await rig.operate(default_tenant="")
    await rig.rest()
    assert active(rig.user.get(HELLO)) == 3


async def test_an_annotation_that_is_not_carried_out(rig: Rig) -> None:
    """A Warning Event says why, once."""
    operator, _ = await with_two_versions(rig)
    rig.user.patch(HELLO, annotated("previous"))
    await rig.user.until(HELLO, lambda thing: thing.status.get("lastHandledAction") == "previous", "a refusal")
    assert rig.user.events("Warning") == [("Warning", "Refused", "hello")]
    mark = rig.mark()
    await rig.rest(25 * 60.0)
    assert rig.spent(operator, mark) == {}
    assert active(rig.user.get(HELLO)) == 2


@pytest.mark.parametrize("again", [definition("two"), definition("two", description="Says two, loudly.")])
async def test_a_manifest_that_is_applied_again_undoes_nothing(rig: Rig, again: Json) -> None:
    """A-RB-1: however often the definition that was rolled back is applied, with another description too."""
    await with_two_versions(rig)
    await decided(rig, BACK)
    for _ in range(20):
        rig.user.edit(HELLO, definition=again)
        await asyncio.sleep(1.0)
    await rig.rest()
    assert active(rig.user.get(HELLO)) == 1
    assert len(rig.database.rows("SELECT number FROM keep_operator.workflow_revision")) == 2


@pytest.mark.parametrize(("message", "number"), [("three", 3), ("one", 3)])
async def test_the_hold_ends_by_itself(rig: Rig, message: str, number: int) -> None:
    """A new definition rolls forward; a git revert is one, too. Neither needs anything but the manifest."""
    await with_two_versions(rig)
    await decided(rig, BACK)
    thing = await rewritten(rig, message)
    await rig.rest()
    thing = rig.user.get(HELLO)
    assert active(thing) == number
    assert thing.condition("Deployed") == ("True", "RevisionActive")
    assert thing.status.get("hold") is None


async def test_a_handled_decision_is_history(rig: Rig) -> None:
    """At rest, over resyncs and a restart, a decision costs nothing; made again from Git or a backup it ends NoOp (A-AP-6)."""
    operator, _ = await with_two_versions(rig)
    await decided(rig, BACK)
    await rig.rest()
    mark = rig.mark()
    await rig.rest(25 * 60.0)
    assert rig.spent(operator, mark) == {}
    await rewritten(rig, "three")
    rig.user.delete(BACK)
    await rig.user.gone(BACK)
    await operator.stop()
    await rig.operate(default_tenant="")
    assert (await decided(rig, BACK)).condition("Handled") == ("True", "NoOp")
    copy = BACK | {"metadata": BACK["metadata"] | {"name": "another-name"}}
    assert (await decided(rig, copy)).condition("Handled") == ("True", "NoOp")
    assert active(rig.user.get(HELLO)) == 3


async def test_all_at_once_and_in_any_order(rig: Rig) -> None:
    """Tenant, Workflow and decision in one go, the decision first: it waits, and is handled once there is a version."""
    await rig.operate(default_tenant="", decisions_unverified="Record")
    tag = decision("Tag", HELLO, "tag", tag="good", revision={"number": 1})
    rig.user.apply(tag)
    await rig.user.condition(tag, "Handled", ("Unknown", "WorkflowNotFound"))
    rig.user.apply(HELLO)
    await rig.rest(20.0)
    assert rig.user.get(tag).condition("Handled") == ("Unknown", "WorkflowNotFound")
    rig.user.apply(TEAM)
    told = await rig.user.until(tag, _is_handled, "a verdict")
    assert told.condition("Handled") == ("True", "Done")


async def test_what_nobody_can_prove_is_not_done(rig: Rig) -> None:
    """By default decisions for the privileged end ActorUnverified, and the message names the setting (A-AP-5)."""
    await with_two_versions(rig)
    told = await decided(rig, decision("Tag", HELLO, tag="good", revision={"number": 1}))
    assert told.condition("Handled") == ("False", "ActorUnverified")
    assert "KEEP_OPERATOR_DECISIONS_UNVERIFIED" in told.message("Handled")
    assert rig.database.rows("SELECT 1 FROM keep_operator.revision_tag") == []


async def test_what_the_policy_proves_is_done(rig: Rig) -> None:
    """A-AP-5: with the chart's policy on the cluster the default carries out all; without it, nothing of it from then on."""
    await with_two_versions(rig)
    rig.user.apply(admission_policy(), admission_binding())
    early = await decided(rig, decision("Tag", HELLO, "early", tag="early", revision={"number": 1}))
    assert early.condition("Handled") == ("False", "ActorUnverified")
    assert "was in force for a minute" in early.message("Handled")
    await rig.rest(70.0)
    told = await decided(rig, decision("Tag", HELLO, "proven", tag="good", revision={"number": 1}))
    assert told.condition("Handled") == ("True", "Done"), told.message("Handled")
    rig.user.delete(admission_policy())
    late = await decided(rig, decision("Tag", HELLO, "late", tag="late", revision={"number": 1}))
    assert late.condition("Handled") == ("False", "ActorUnverified")
    entries = [entry for entry in rig.database.ledger("WorkflowDecision") if entry["action"] == "Handled"]
    assert [entry["details"].get("verified", True) for entry in entries] == [False, True, False]


async def test_nobody_waits_for_ever(rig: Rig) -> None:
    """A Workflow that does not come: after ten minutes the decision is refused, and says so."""
    rig.user.apply(TEAM)
    await rig.operate(default_tenant="")
    told = await decided(rig, BACK)
    assert told.condition("Handled") == ("False", "Refused")
    assert told.message("Handled") == 'There is no Workflow "hello"'


async def test_an_edit_and_a_rollback_in_the_same_moment(rig: Rig) -> None:
    """The edit has its version first: the rollback leads back from it, whoever is heard of first."""
    await with_two_versions(rig)
    rig.user.apply(BACK)
    rig.user.edit(HELLO, definition=definition("three"))
    told = await rig.user.until(BACK, _is_handled, "a verdict")
    await rig.rest()
    assert told.condition("Handled") == ("True", "Done")
    thing = rig.user.get(HELLO)
    assert (told.status["from"], told.status["to"], active(thing)) == (3, 2, 2)
    assert thing.status["latestCreatedRevision"]["number"] == 3


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (decision("Tag", HELLO, tag="good", revision={"number": 1}), ("True", "Done")),
        (decision("Tag", HELLO, tag="good", revision={"number": 9}), ("False", "Refused")),
        (decision("Reject", HELLO, revision={"number": 1}), ("True", "Done")),
        (decision("Rollback", HELLO, expect={"activeRevision": 1}), ("False", "Stale")),
        (decision("Rollback", HELLO, revision={"number": 2}), ("True", "NoOp")),
        (decision("Deploy", HELLO, revision={"number": 1}), ("True", "Superseded")),
        (decision("Resume", HELLO), ("True", "NoOp")),
        (decision("Note", HELLO), ("True", "Done")),
        (decision("Approve", HELLO, revision={"number": 2}), ("True", "NoOp")),
        (decision("Pause", HELLO), ("False", "Refused")),
    ],
)
async def test_verdicts(rig: Rig, what: Json, verdict: tuple[str, str]) -> None:
    """Each ends as its page says, where the operator records what nobody can prove."""
    await with_two_versions(rig, decisions_unverified="Record")
    assert (await decided(rig, what)).condition("Handled") == verdict


async def test_a_tag_is_shown_where_people_look(rig: Rig) -> None:
    """A decision wakes the Workflow, which shows the tag on the object of the version; a pin by that tag then holds."""
    await with_two_versions(rig, decisions_unverified="Record")
    await decided(rig, decision("Tag", HELLO, "tag", tag="good", revision={"number": 1}))
    await rig.user.eventually(lambda: _tags(rig), lambda tags: tags == {1: ["good"], 2: []}, "the tag")
    rig.user.edit(HELLO, release={"pin": {"tag": "good"}})
    await rig.user.until(HELLO, lambda thing: active(thing) == 1, "the pin")
    told = await decided(rig, BACK)
    assert told.condition("Handled") == ("False", "Refused")
    assert "pin" in told.message("Handled")


def _tags(rig: Rig) -> dict[int, list[str]]:
    found = [thing for thing in rig.user.objects() if thing.raw["kind"] == "WorkflowRevision"]
    return {thing.raw["spec"]["number"]: thing.status.get("tags") or [] for thing in found}


@pytest.mark.parametrize("away", [pytest.param(lambda rig: rig.doors.cut(), id="database")])
async def test_a_lost_connection(rig: Rig, away: Callable[[Rig], None]) -> None:
    """Connections that break in the middle cost time, and nothing else: the rollback is carried out once."""
    await with_two_versions(rig)
    rig.user.apply(BACK)
    away(rig)
    told = await rig.user.until(BACK, _is_handled, "a verdict")
    assert told.condition("Handled") == ("True", "Done")
    assert len(rig.database.rows("SELECT 1 FROM keep_operator.handled_decision")) == 1
