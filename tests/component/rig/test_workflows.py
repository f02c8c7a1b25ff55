"""A Workflow's life on a whole operator, step by step, and what each step costs the API server and the database (A-CTL-8)."""

from collections import Counter
from datetime import timedelta

import pytest
import yaml

from component.apiserver.faults import Fault, writes
from component.apiserver.state import Failure
from component.rig.process import Operator
from component.rig.rig import Mark, Rig
from component.rig.scene import take
from keep_operator.resources.kinds import EVENTS, WORKFLOW_REVISIONS, WORKFLOWS
from manifests import Json, Thing, config_map, definition, provider, querying, tenant
from manifests import workflow as any_workflow

pytestmark = pytest.mark.component
TEAM, VM = tenant("team"), provider("vm", "default", "team")
NEVER = timedelta(days=1)


def workflow(name: str, does: Json | None = None, **spec: object) -> Json:
    """A Workflow of the team that no deadline wakes: it must be told what it waits for."""
    return any_workflow(name, "default", "team", does, **{"progressDeadlineSeconds": 86_400, **spec})


HELLO = workflow("hello", definition("one"))
BROKEN: Json = {"steps": "none"}
QUERY = querying("vm")
FILE: Json = {"configMapKeyRef": {"name": "files", "key": "hello"}}
FIRST = (
    "COMMIT insert deployment, insert revision_state, insert revision_tag, insert workflow, insert workflow_revision, "
    "update revision_state, update workflow"
)
NEXT = FIRST.replace("insert workflow, ", "")
EDITS: tuple[Json, ...] = (
    {"spec": {"definition": {"consts": {"planted": True}}}},
    {"spec": {"changeNote": "not mine"}},
    {"spec": {"workflowRef": {"name": "another"}}},
    {"spec": {"number": 7}},
    {"metadata": {"ownerReferences": []}},
    {"metadata": {"labels": {"keep-operator.dev/workflow": "another", "tag.keep-operator.dev/planted": ""}}},
)
TWO_RESYNCS_S = 25 * 60.0


async def operate(rig: Rig, *before: Json, **settings: object) -> tuple[Operator, Mark]:
    """An operator at rest over these objects, and the point from which to count; it looks at nothing without a reason."""
    rig.user.apply(*before)
    operator = await rig.operate(**{"default_tenant": "", "resync_period": NEVER, **settings})
    await rig.rest()
    return operator, rig.mark()


def images(rig: Rig) -> dict[int, Thing]:
    """The objects of revisions by number."""
    found = rig.user.objects(WORKFLOW_REVISIONS)
    by_number = {thing.raw["spec"]["number"]: thing for thing in found}
    assert len(by_number) == len(found)
    return by_number


def images_raw(rig: Rig) -> list[Json]:
    """All objects of revisions, whatever they say."""
    return [thing.raw for thing in rig.user.objects(WORKFLOW_REVISIONS)]


def as_file(message: str) -> str:
    """A workflow as a file of Keep."""
    return yaml.safe_dump({"workflow": {"id": "hello", **definition(message)}})


def active(thing: Thing) -> int | None:
    """The number of the active revision, as the Workflow says."""
    number: int | None = (thing.status.get("activeRevision") or {}).get("number")
    return number


def without_tenants(spent: Counter[str]) -> dict[str, int]:
    """What was spent but for the counts in the Tenant's status."""
    return {what: count for what, count in spent.items() if what != "PATCH tenants/status"}


async def edited(rig: Rig, does: Json) -> Thing:
    """The Workflow once this definition has been looked at."""
    old = rig.user.get(HELLO).raw["spec"]["definition"]
    rig.user.edit(HELLO, definition={**dict.fromkeys(old), **does})
    number = rig.user.get(HELLO).raw["metadata"]["generation"]
    return await rig.user.until(HELLO, lambda thing: thing.status.get("observedGeneration") == number, "a look")


# What things cost.


async def test_a_new_workflow(rig: Rig) -> None:
    """A first version costs its object, two status patches, and one transaction for row, version and what is active."""
    operator, mark = await operate(rig, TEAM)
    rig.user.apply(HELLO)
    (thing,) = await rig.user.ready(HELLO)
    await rig.rest()
    assert without_tenants(rig.spent(operator, mark)) == {
        "PATCH workflows": 1,
        "PATCH workflows/status": 1,
        "POST workflowrevisions": 1,
        "PATCH workflowrevisions/status": 1,
        FIRST: 1,
    }
    assert rig.server.reads(operator.name, since=mark.exchanges)["GET workflows"] == 0
    assert active(thing) == 1
    assert images(rig)[1].condition("Active") == ("True", "Active")
    assert rig.user.events() == []


async def test_an_edit(rig: Rig) -> None:
    """An edit makes one version and makes it active: no patch of metadata, and a status for each object that changed."""
    operator, mark = await operate(rig, TEAM, HELLO)
    thing = await edited(rig, definition("two"))
    await rig.rest()
    assert rig.spent(operator, mark) == {
        "PATCH workflows/status": 1,
        "POST workflowrevisions": 1,
        "PATCH workflowrevisions/status": 2,
        NEXT: 1,
    }
    assert active(thing) == 2
    assert images(rig)[1].condition("Active") == ("False", "Reserve")


async def test_an_edit_that_changes_no_behaviour(rig: Rig) -> None:
    """Whatever else is edited makes no version: it costs the row, if that has it, and the status for its number (A-REV-2)."""
    operator, mark = await operate(rig, TEAM, HELLO)
    rig.user.edit(HELLO, revisionHistoryLimit=3)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH workflows/status": 1}
    await edited(rig, definition("one", description="Says one."))
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH workflows/status": 2, "COMMIT update workflow": 1}
    assert [*images(rig)] == [1]


async def test_a_while_in_which_nothing_happens(rig: Rig) -> None:
    """At rest, with all its resyncs and sweeps, the operator writes nothing, and asks for no object (A-DR-2)."""
    text = config_map("files", "default", hello=as_file("filed"))
    from_file = workflow("filed", definitionFrom=FILE)
    operator, mark = await operate(
        rig, TEAM, VM, text, HELLO, from_file, workflow("query", QUERY), resync_period=timedelta(minutes=10)
    )
    assert all(thing.ready for thing in rig.user.objects(WORKFLOWS))
    await rig.rest(TWO_RESYNCS_S)
    assert rig.spent(operator, mark) == {}
    reads = rig.server.reads(operator.name, since=mark.exchanges)
    assert {what for what, count in reads.items() if count} & {
        "GET workflows",
        "GET workflowrevisions",
        "GET configmaps",
    } == set()


async def test_a_restart_over_ready_workflows(rig: Rig) -> None:
    """A new process over Workflows that are Ready writes nothing to any of them."""
    first, _ = await operate(rig, TEAM, VM, HELLO, workflow("query", QUERY))
    await first.stop()
    second, _ = await operate(rig)
    await rig.rest()
    assert rig.spent(second) == {"COMMIT update installation": 1}


async def test_many_at_once(rig: Rig) -> None:
    """Thirty Workflows, their Provider and their Tenant applied at once: one version each, and no more writes than alone."""
    operator, mark = await operate(rig)
    things = [workflow(f"wf-{number}", QUERY) for number in range(30)]
    rig.user.apply(*things, VM, TEAM)
    await rig.user.ready(*things)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH workflows"], spent["POST workflowrevisions"]) == (30, 30)
    for rows in ("insert workflow", "insert workflow_revision", "insert deployment"):
        assert sum(count for what, count in spent.items() if rows in what.split(" ", 1)[1].split(", ")) == 30
    assert spent["PATCH workflows/status"] <= 3 * 30
    assert spent["PATCH tenants/status"] <= 5
    assert rig.user.events("Warning") == []


# Versions.


async def test_going_back_by_an_edit_makes_a_version_of_known_content(rig: Rig) -> None:
    """One, two, one again: the third says which one it is like; nothing is numbered twice, and nothing left out."""
    await operate(rig, TEAM, HELLO)
    await edited(rig, definition("two"))
    thing = await edited(rig, definition("one"))
    await rig.rest()
    assert active(thing) == 3
    assert images(rig)[3].status["sameContentAs"] == 1
    assert [entry["revision"] for entry in thing.status["history"]] == [3, 2, 1]
    assert images(rig)[2].raw["spec"]["changeNote"]


async def test_a_definition_that_cannot_run(rig: Rig) -> None:
    """It is a version, but never active: the one before goes on, and the conditions say what is wrong and where."""
    await operate(rig, TEAM, HELLO)
    thing = await edited(rig, BROKEN)
    await rig.rest()
    assert thing.condition("DefinitionValid") == ("False", "SchemaError")
    assert thing.condition("Deployed") == ("False", "InvalidRevision")
    assert thing.condition("Available") == ("True", "Serving")
    assert thing.condition("Ready") is not None and thing.condition("Ready") != ("True", "Ready")
    assert active(thing) == 1
    assert images(rig)[2].condition("Valid") == ("False", "SchemaError")
    assert rig.user.events("Warning") == [("Warning", "SchemaError", "hello")]
    assert active(await edited(rig, definition("three"))) == 3


async def test_two_edits_before_anybody_has_looked(rig: Rig) -> None:
    """What is overtaken before it was seen is no version; what was seen is, in order and without gaps (A-REV-7)."""
    await operate(rig, TEAM, HELLO)
    for number in range(2, 22):
        rig.user.edit(HELLO, definition=definition(f"number {number}"))
    await rig.user.ready(HELLO)
    await rig.rest()
    numbers = sorted(images(rig))
    assert numbers == [*range(1, len(numbers) + 1)]
    assert 2 <= len(numbers) <= 21
    assert active(rig.user.get(HELLO)) == numbers[-1]
    assert images(rig)[numbers[-1]].raw["spec"]["definition"]["actions"] == definition("number 21")["actions"]


@pytest.mark.parametrize("deaf", [False, True], ids=["away", "deaf"])
async def test_an_edit_that_nobody_saw(rig: Rig, deaf: bool) -> None:
    """Edited, and edited back, while no operator was there, or while one heard nothing: it is as good as never been."""
    operator, _ = await operate(rig, TEAM, HELLO)
    if deaf:
        rig.server.watches.hold()
    else:
        await operator.stop()
    rig.user.edit(HELLO, definition=definition("two"))
    rig.user.delete(images_raw(rig)[0])
    rig.user.edit(HELLO, definition=definition("one"))
    if deaf:
        rig.server.expire()
        rig.server.watches.release()
    else:
        await rig.operate(default_tenant="")
    await rig.user.ready(HELLO)
    await rig.rest()
    assert ([*images(rig)], active(rig.user.get(HELLO))) == ([1], 1)


async def test_a_successor_that_sees_the_past(rig: Rig) -> None:
    """It takes the lead with a view from before the last edit: what its predecessor made is not undone, nor made twice."""
    operator, _ = await operate(rig, TEAM, HELLO)
    past = rig.server.state.version
    await edited(rig, definition("two"))
    await rig.rest()
    await operator.stop()
    rig.server.freeze("late", past)
    late = await rig.start(name="late", default_tenant="")
    await rig.rest(60.0)
    assert [row["latest_revision"] for row in rig.database.rows("SELECT * FROM keep_operator.workflow")] == [2]
    rig.server.unfreeze("late")
    await rig.user.eventually(lambda: late.ready, bool, "ready")
    await rig.rest()
    assert ([*images(rig)], active(rig.user.get(HELLO))) == ([1, 2], 2)
    assert [entry["revision"] for entry in rig.user.get(HELLO).status["history"]] == [2, 1]


async def test_who_and_why_stand_in_the_version(rig: Rig) -> None:
    """By the annotations of the Workflow, cut and in one line; they make no version by themselves (A-NOTE-1, A-AP-3)."""
    await operate(rig, TEAM, HELLO)
    notes = {"keep-operator.dev/change-note": "  for the\n\x00night  " + "x" * 2000, "keep-operator.dev/author": "ann"}
    rig.user.patch(HELLO, {"metadata": {"annotations": notes}})
    await rig.rest()
    assert [*images(rig)] == [1]
    await edited(rig, definition("two"))
    spec = images(rig)[2].raw["spec"]
    assert spec["changeNote"].startswith("for the night xxx")
    assert len(spec["changeNote"]) <= 1024
    assert spec["author"] == {"username": "ann", "source": "Annotation"}


async def test_what_changed_stands_in_the_version(rig: Rig) -> None:
    """In one line, whatever the note says; it is written with the first status, and comes back with an object made anew."""
    operator, mark = await operate(rig, TEAM, HELLO)
    assert "diffSummary" not in images(rig)[1].status
    rig.user.patch(HELLO, {"metadata": {"annotations": {"keep-operator.dev/change-note": "louder"}}})
    await edited(rig, definition("two"))
    await rig.rest()
    second = images(rig)[2]
    assert second.raw["spec"]["changeNote"] == "louder"
    summary = second.status["diffSummary"]
    assert summary.startswith("actions.say changed")
    assert rig.spent(operator, mark)["PATCH workflowrevisions/status"] == 2
    rig.user.delete(second.raw)
    healed = await rig.user.until(second.raw, lambda thing: thing and thing.uid != second.uid and thing.status, "again")
    assert healed.status["diffSummary"] == summary


# What it waits for.


async def test_a_workflow_before_its_tenant(rig: Rig) -> None:
    """It waits and says so, without a row and without a version, and goes on when the Tenant is Ready (A-DEP-2)."""
    operator, mark = await operate(rig)
    rig.user.apply(HELLO)
    await rig.user.condition(HELLO, "Ready", ("Unknown", "TenantNotFound"))
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH workflows/status": 1}
    rig.user.apply(TEAM)
    await rig.user.ready(HELLO)
    await rig.rest()
    assert rig.user.events() == [("Normal", "Ready", "hello")]


async def test_a_workflow_before_its_provider(rig: Rig) -> None:
    """Its version is made, and becomes active when the Provider comes (A-DEP-7)."""
    waiting = workflow("hello", QUERY)
    operator, mark = await operate(rig, TEAM)
    rig.user.apply(waiting)
    thing = await rig.user.condition(waiting, "ProvidersReady", ("Unknown", "ProvidersNotReady"))
    await rig.rest()
    assert active(thing) is None
    assert "vm" in thing.message("ProvidersReady")
    assert thing.condition("Available") == ("Unknown", "NoRevisionYet")
    assert [*images(rig)] == [1]
    rig.user.apply(VM)
    (thing,) = await rig.user.ready(waiting)
    assert active(thing) == 1
    await rig.rest()
    assert rig.spent(operator, mark)["PATCH workflows/status"] == 2


async def test_a_provider_that_goes_and_comes(rig: Rig) -> None:
    """The version stays active, but the Workflow says that it is broken, until the Provider is there again (A-GO-5)."""
    asking = workflow("hello", QUERY)
    operator, mark = await operate(rig, TEAM, VM, asking)
    rig.user.delete(VM)
    thing = await rig.user.condition(asking, "Available", ("False", "ActiveRevisionBroken"))
    assert thing.condition("ProvidersReady") == ("Unknown", "ProvidersNotReady")
    assert active(thing) == 1
    await rig.user.gone(VM)
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert (spent["PATCH providers/status"], spent["PATCH providers"], spent["COMMIT delete provider"]) == (1, 1, 1)
    assert ("Warning", "InUseByWorkflows", "vm") in rig.user.events()
    rig.user.apply(VM)
    (thing,) = await rig.user.ready(asking)
    assert thing.condition("Available") == ("True", "Serving")
    assert [*images(rig)] == [1]


@pytest.mark.parametrize("first", ["the Provider", "the Workflow", "both at once"])
async def test_a_provider_and_its_user_that_go(first: str, rig: Rig) -> None:
    """In whatever order, nothing is left and nothing waits; a Workflow that goes too is no reason to warn (A-GO-5)."""
    asking = workflow("hello", QUERY)
    await operate(rig, TEAM, VM, asking)
    match first:
        case "the Provider":
            rig.user.delete(VM)
            await rig.user.gone(VM)
            rig.user.delete(asking)
        case "the Workflow":
            rig.user.delete(asking)
            await rig.user.gone(asking)
            rig.user.delete(VM)
        case _:
            rig.user.delete(asking, VM)
    await rig.user.gone(asking, VM)
    warned = ("Warning", "InUseByWorkflows", "vm") in rig.user.events()
    assert warned == (first == "the Provider")


async def test_a_warning_that_cannot_be_written(rig: Rig) -> None:
    """A status that the API server will not have does not keep a Provider that shall go."""
    await operate(rig, TEAM, VM, workflow("hello", QUERY))
    rig.server.faults.append(Fault(writes("providers/status"), refusal=Failure(422, "Invalid", "status: not so")))
    rig.user.delete(VM)
    await rig.user.gone(VM)


async def test_a_provider_under_another_name(rig: Rig) -> None:
    """A definition names Providers as the database does: a rename takes it away from one, and gives it to another."""
    asking = workflow("hello", QUERY)
    await operate(rig, TEAM, VM, asking)
    rig.user.edit(VM, externalName="renamed")
    await rig.user.condition(asking, "ProvidersReady", ("Unknown", "ProvidersNotReady"))
    rig.user.apply(provider("heir", "default", "team", externalName="vm"))
    await rig.user.ready(asking)


async def test_a_provider_of_another_type(rig: Rig) -> None:
    """Nothing is made active that would call it for something else."""
    asking = workflow("hello", querying("vm", type="prometheus"))
    await operate(rig, TEAM, VM, asking)
    thing = rig.user.get(asking)
    assert thing.condition("ProvidersReady") == ("False", "ProviderTypeMismatch")
    assert active(thing) is None


async def test_a_definition_in_a_config_map(rig: Rig) -> None:
    """It is waited for, read when it changes, and read no more when something else does; without it the version stays."""
    filed = workflow("hello", definitionFrom=FILE)
    operator, mark = await operate(rig, TEAM, filed)
    thing = rig.user.get(filed)
    assert thing.condition("DefinitionValid") == ("Unknown", "ConfigMapNotFound")
    assert thing.condition("Ready") == ("Unknown", "ConfigMapNotFound")
    rig.user.apply(config_map("files", "default", other="x"))
    await rig.user.until(filed, lambda it: "key hello" in it.message("DefinitionValid"), "word of the key")
    rig.user.apply(config_map("files", "default", hello=as_file("one")))
    await rig.user.ready(filed)
    rig.user.apply(config_map("files", "default", hello=as_file("two") + "# a comment\n"))
    thing = await rig.user.until(filed, lambda it: active(it) == 2, "a second version")
    assert images(rig)[2].raw["spec"]["definition"] == definition("two")
    mark = rig.mark()
    rig.user.apply(config_map("others", "default", hello=as_file("three")))
    await rig.rest()
    assert rig.server.reads(operator.name, since=mark.exchanges)["GET configmaps"] == 0
    rig.user.apply(config_map("files", "default", hello="actions: ["))
    thing = await rig.user.condition(filed, "DefinitionValid", ("False", "ParseError"))
    assert (active(thing), [*images(rig)]) == (2, [1, 2])
    rig.user.delete(config_map("files", "default"))
    thing = await rig.user.condition(filed, "DefinitionValid", ("Unknown", "ConfigMapNotFound"))
    assert thing.condition("Available") == ("True", "Serving")


async def test_a_definition_beyond_what_an_object_takes(rig: Rig) -> None:
    """It is refused with a reason; the API server is not asked again and again for what it will not take."""
    keys = as_file("one") + "".join(f"key{number}: 1\n" for number in range(300))
    filed = workflow("hello", definitionFrom=FILE)
    await operate(rig, TEAM, config_map("files", "default", hello=keys), filed)
    assert rig.user.get(filed).condition("DefinitionValid") == ("False", "TooLarge")
    assert images(rig) == {}


async def test_a_floor_of_the_tenant(rig: Rig) -> None:
    """A Tenant that begins to ask for approval wakes its Workflows; what is active stays, what is new waits (A-AP-9)."""
    await operate(rig, TEAM, HELLO)
    rig.user.edit(TEAM, policy={"approvalFloor": {"required": "Always", "minApprovals": 1}})
    await rig.rest()
    assert rig.user.get(HELLO).ready
    thing = await edited(rig, definition("two"))
    assert thing.condition("Approved") == ("Unknown", "AwaitingApproval")
    assert active(thing) == 1
    rig.user.edit(TEAM, policy=None)
    (thing,) = await rig.user.ready(HELLO)
    assert active(thing) == 2


# What others do to it.


async def test_a_version_whose_object_goes_or_is_edited(rig: Rig) -> None:
    """The database has it: it is made again, the same in every respect (A-REV-3)."""
    await operate(rig, TEAM, HELLO)
    thing = images(rig)[1]
    before = thing.raw
    rig.user.delete(before)
    await rig.rest()
    again = images(rig)[1]
    assert again.uid != thing.uid
    assert (again.raw["metadata"]["name"], again.raw["spec"]) == (before["metadata"]["name"], before["spec"])
    assert again.status["firstActiveAt"] == thing.status["firstActiveAt"]
    assert again.condition("Active") == ("True", "Active")
    for edit in EDITS:
        rig.user.patch(images_raw(rig)[0], edit)
        await rig.rest()
        (healed,) = images_raw(rig)
        assert (healed["spec"], healed["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"]), edit
        assert healed["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    told = [event for event in rig.user.objects(EVENTS) if event.raw["reason"] == "RevisionTampered"]
    assert {event.raw["involvedObject"]["name"] for event in told} == {"hello"}
    assert sum(event.raw["count"] for event in told) == sum("labels" not in edit.get("metadata", {}) for edit in EDITS)


async def test_a_version_that_somebody_made_up(rig: Rig) -> None:
    """An object that names a Workflow as its own, and that no row knows, goes."""
    await operate(rig, TEAM, HELLO)
    real = images(rig)[1].raw
    forged = real | {"metadata": {"name": "hello-v9-00000000", "namespace": "default"}}
    forged = forged | {"spec": real["spec"] | {"number": 9}}
    rig.user.apply(forged)
    await rig.rest()
    assert [*images(rig)] == [1]
    assert rig.user.events("Warning") == [("Warning", "RevisionTampered", "hello")]


async def test_a_row_changed_by_hand(rig: Rig) -> None:
    """It is seen at once and undone, in one transaction (A-DR-1)."""
    operator, mark = await operate(rig, TEAM, HELLO)
    rig.database.execute("UPDATE keep_operator.workflow SET suspended = true")
    await rig.rest()
    assert rig.spent(operator, mark) == {"COMMIT update workflow": 1, "PATCH workflows/status": 1}
    assert rig.user.get(HELLO).condition("Synced") == ("True", "DriftCorrected")
    assert [row["suspended"] for row in rig.database.rows("SELECT * FROM keep_operator.workflow")] == [False]


async def test_a_database_that_is_behind(rig: Rig) -> None:
    """A dump from before the second version: no second number 2 is given, and nothing is deleted (A-REV-13)."""
    operator, _ = await operate(rig, TEAM, HELLO)
    await operator.stop()
    before = take(rig)
    second, _ = await operate(rig)
    await edited(rig, definition("two"))
    await rig.rest()
    await second.stop()
    before.restore(rig.database.url)
    third, mark = await operate(rig)
    thing = rig.user.get(HELLO)
    assert thing.condition("Synced") == ("False", "DatabaseBehind")
    await edited(rig, definition("three"))
    await rig.rest(TWO_RESYNCS_S)
    assert [*images(rig)] == [1, 2]
    assert [what for what in rig.spent(third, mark) if "workflow" in what] == ["PATCH workflows/status"]


async def test_an_outage_of_the_database(rig: Rig) -> None:
    """What is active stays so and is said to be; an edit waits, and becomes a version when the database is back (A-DEP-8)."""
    operator, _ = await operate(rig, TEAM, HELLO)
    rig.doors.shut = True
    rig.doors.cut()
    rig.user.edit(HELLO, definition=definition("two"))
    thing = await rig.user.condition(HELLO, "Synced", ("Unknown", "DatabaseUnavailable"))
    assert thing.condition("Available") == ("True", "Serving")
    assert active(thing) == 1
    rig.doors.shut = False
    (thing,) = await rig.user.ready(HELLO)
    assert active(thing) == 2
    assert not operator.ended


async def test_asked_for_a_look(rig: Rig) -> None:
    """Whoever asks is answered, also while it is suspended (A-DR-4)."""
    await operate(rig, TEAM, workflow("hello", suspend=True))
    rig.user.patch(HELLO, {"metadata": {"annotations": {"keep-operator.dev/reconcile-requested-at": "now"}}})
    await rig.user.until(HELLO, lambda thing: thing.status.get("lastHandledReconcileAt") == "now", "an answer")


# Its end, and what others take over.


async def test_suspended(rig: Rig) -> None:
    """Nothing starts it from the next moment on, and edits wait; it goes on with the newest of them (A-GC-6)."""
    await operate(rig, TEAM, HELLO)
    rig.user.edit(HELLO, suspend=True)
    thing = await rig.user.condition(HELLO, "Suspended", ("True", "Suspended"))
    assert thing.condition("Available") == ("False", "Suspended")
    assert thing.ready
    assert [row["suspended"] for row in rig.database.rows("SELECT * FROM keep_operator.workflow")] == [True]
    thing = await edited(rig, definition("two"))
    await rig.rest()
    assert (thing.condition("Ready"), [*images(rig)]) == (("Unknown", "Suspended"), [1])
    rig.user.edit(HELLO, suspend=False)
    (thing,) = await rig.user.ready(HELLO)
    assert active(thing) == 2


async def test_deleted_and_made_again(rig: Rig) -> None:
    """The history stays in the database, and the new Workflow begins anew at v1, even with the same content (A-REV-8)."""
    await operate(rig, TEAM, HELLO)
    await edited(rig, definition("two"))
    old = rig.user.get(HELLO).status["workflowId"]
    rig.user.delete(HELLO)
    await rig.user.gone(HELLO)
    rig.user.apply(HELLO)
    (thing,) = await rig.user.ready(HELLO)
    await rig.rest()
    assert thing.status["workflowId"] != old
    assert active(thing) == 1
    assert {number: it.raw["spec"]["lineageId"] for number, it in images(rig).items()} == {
        1: thing.status["workflowId"]
    }
    rows = rig.database.rows("SELECT id, deleted_at FROM keep_operator.workflow")
    assert {str(row["id"]): row["deleted_at"] is not None for row in rows} == {
        old: True,
        thing.status["workflowId"]: False,
    }


async def test_torn_out_and_made_again(rig: Rig) -> None:
    """As after a restore from a backup: the same name, another uid. It gets its history back, and no version is made."""
    await operate(rig, TEAM, HELLO)
    old = rig.user.get(HELLO)
    rig.user.patch(HELLO, {"metadata": {"finalizers": None}})
    rig.user.delete(HELLO)
    rig.user.apply(HELLO)
    (thing,) = await rig.user.ready(HELLO)
    await rig.rest()
    assert thing.uid != old.uid
    assert (thing.status["workflowId"], active(thing)) == (old.status["workflowId"], 1)
    assert {number: it.raw["metadata"]["ownerReferences"][0]["uid"] for number, it in images(rig).items()} == {
        1: thing.uid
    }
    assert [entry["action"] for entry in rig.database.ledger("Workflow")] == ["Created", "Deployed", "Reattached"]


async def test_a_tenant_that_still_has_workflows(rig: Rig) -> None:
    """Its deletion waits for them, counts them, and ends with the last one (A-GC-8)."""
    await operate(rig, TEAM, HELLO)
    assert rig.user.get(TEAM).status["workflows"] == {"total": 1, "ready": 1}
    rig.user.delete(TEAM)
    thing = await rig.user.condition(TEAM, "Deleting", ("True", "DependentsExist"))
    assert thing.message("Deleting").startswith("1 Workflow of ")
    rig.user.delete(HELLO)
    await rig.user.gone(HELLO, TEAM)


async def test_renames(rig: Rig) -> None:
    """In place, and from one object to another, a Workflow keeps its history: the record passes on with all its versions."""
    await operate(rig, TEAM, HELLO)
    first = rig.user.get(HELLO).status["workflowId"]
    rig.user.edit(HELLO, externalName="greeting")
    await rig.user.ready(HELLO)
    heir = workflow("heir", definition("one"), externalName="greeting")
    rig.user.apply(heir)
    await rig.user.condition(heir, "Synced", ("Unknown", "ExternalNameConflict"))
    rig.user.delete(HELLO)
    (thing,) = await rig.user.ready(heir)
    await rig.user.gone(HELLO)
    await rig.rest()
    assert (thing.status["workflowId"], active(thing)) == (first, 1)
    assert [it.raw["metadata"]["name"] for it in images(rig).values()] == [thing.status["activeRevision"]["name"]]
    assert images(rig)[1].raw["metadata"]["ownerReferences"][0]["uid"] == thing.uid


async def test_an_adoption(rig: Rig) -> None:
    """A record that was left is refused unless the spec says otherwise, and then taken over with its history (A-AD-1)."""
    await operate(rig, TEAM, workflow("hello", definition("one"), deletionPolicy="Orphan"))
    first = rig.user.get(HELLO).status["workflowId"]
    rig.user.delete(HELLO)
    await rig.user.gone(HELLO)
    finder = workflow("finder", definition("two"), externalName="hello")
    rig.user.apply(finder)
    thing = await rig.user.condition(finder, "Synced", ("False", "ExternalResourceExists"))
    assert "spec.adoptionPolicy: IfUnowned" in thing.message("Synced")
    rig.user.edit(finder, adoptionPolicy="IfUnowned")
    (thing,) = await rig.user.ready(finder)
    assert (thing.status["workflowId"], active(thing)) == (first, 2)
    assert [entry["action"] for entry in rig.database.ledger("Workflow")].count("Adopted") == 1
