"""How the cluster gives an older database its workflows back, and when a person must decide first (A-REV-13)."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from keep_operator.domain import mirror, reconstruction, revision
from keep_operator.domain.history import Cause, Deployment, Lineage
from keep_operator.domain.ownership import Owner
from keep_operator.domain.reconstruction import (
    Blocked,
    Cluster,
    Database,
    Give,
    Make,
    MakeRevision,
    Recall,
    Redeploy,
    Rehandle,
    Rehold,
    Remove,
    Skip,
    Step,
)
from keep_operator.resources import decision, objects, workflow
from keep_operator.resources import revision as revision_reader
from keep_operator.resources.objects import Object
from unit.lineages import OWNER, hash_of, hold, lineage, minute

pytestmark = pytest.mark.unit

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ID = UUID(int=1)
NOBODY = Owner("cluster-1", "monitoring", "gone", "uid-gone")


def definition(letter: str) -> dict[str, Any]:
    """A content by a letter."""
    return {"triggers": [{"type": "manual"}], "actions": [{"name": letter, "provider": {"type": "console"}}]}


def content_hash(letter: str) -> str:
    """The hash that it really has."""
    return revision.content_hash(definition(letter), revision.HASH_VERSION)


def raw(name: str, uid: str, spec: Any, status: Any, **metadata: Any) -> dict[str, Any]:
    """An object as the API server has it."""
    given = {"name": name, "namespace": "monitoring", "uid": uid, "resourceVersion": "1", "generation": 1}
    return {
        "metadata": {**given, "creationTimestamp": "2026-05-01T12:00:00Z", **metadata},
        "spec": spec,
        "status": status,
    }


OWNED = [{"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Workflow", "name": "high-cpu", "uid": "uid-1"}]


def a_workflow(letter: str = "B", *, latest: int = 2, spec: Any = None, **status: Any) -> Object[Any]:
    """Workflow high-cpu as it was when all was well; its definition is called by a letter."""
    told = {
        "workflowId": str(ID),
        "tenantId": "keep",
        "latestCreatedRevision": {"number": latest, "contentHash": content_hash(letter)},
        **status,
    }
    return objects.parse(
        "Workflow", raw("high-cpu", "uid-1", spec or {"definition": definition(letter)}, told), workflow
    )


def image(number: int, letter: str, *, says: str | None = None, uid: str = "uid-1", **status: Any) -> Object[Any]:
    """The object of a version; ``says`` is the hash that stands in it, the true one unless told."""
    spec = {
        "workflowRef": {"name": "high-cpu"},
        "lineageId": str(ID),
        "number": number,
        "contentHash": says or content_hash(letter),
        "hashVersion": 1,
        "definition": definition(letter),
        "createdFromGeneration": number,
    }
    given = raw(f"high-cpu-v{number}", f"uid-v{number}", spec, status, ownerReferences=[{**OWNED[0], "uid": uid}])
    return objects.parse("WorkflowRevision", given, revision_reader)


def a_decision(request: str = "4711", reason: str = "Done", **status: Any) -> Object[Any]:
    """A rollback that was handled."""
    spec = {
        "workflowRef": {"name": "high-cpu"},
        "action": "Rollback",
        "actor": "bob",
        "requestId": request,
        "reason": "x",
    }
    told = {
        "conditions": [{"type": "Handled", "status": "True", "reason": reason, "message": "v1 is active"}],
        "handledAt": "2026-05-02T00:00:00Z",
        "ledgerId": "17",
        "from": 2,
        "to": 1,
        **status,
    }
    return objects.parse(
        "WorkflowDecision", raw(request, f"uid-{request}", spec, told, ownerReferences=OWNED), decision
    )


def plan(
    known: Lineage | None,
    *images: Object[Any],
    obj: Object[Any] | None = None,
    rows: tuple[Lineage, ...] | None = None,
    decisions: tuple[Object[Any], ...] = (),
    handled: tuple[str, ...] = (),
) -> list[Step]:
    """The steps; by default the rows are the one that is known."""
    database = Database(
        rows if rows is not None else () if known is None else (known,),
        {} if known is None else {ID: known},
        {ID: set(handled)},
        {"keep"},
    )
    return reconstruction.plan(Cluster("cluster-1", [obj or a_workflow()], images, decisions), database, NOW)


def kinds(steps: list[Step]) -> list[type]:
    """What kinds of steps they are."""
    return [type(step) for step in steps]


def test_what_the_database_knows_needs_nothing() -> None:
    """Also a moment after it has been recovered, and where a status is older than its row."""
    seen = lineage("AB", "1 2", hold=hold("B", 1))
    assert plan(seen, image(1, "A"), image(2, "B")) == []
    assert plan(seen, image(1, "A"), image(2, "B"), obj=a_workflow(latest=1)) == []


def test_a_lost_lineage_is_made_again_with_its_versions() -> None:
    """The same id, numbers and hashes, and the object of each version keeps its name."""
    steps = plan(None, image(2, "B", diffSummary="steps.b added"), image(1, "A"))
    assert kinds(steps) == [Make, MakeRevision, MakeRevision]
    made, one, two = steps
    assert isinstance(made, Make) and isinstance(one, MakeRevision) and isinstance(two, MakeRevision)
    assert (made.lineage.id, made.lineage.owner, made.lineage.external_name) == (ID, OWNER, "high-cpu")
    assert (one.revision.number, one.name, one.revision.content_hash) == (1, "high-cpu-v1", content_hash("A"))
    assert (two.revision.number, two.content) == (2, definition("B"))
    assert [each.revision.diff_summary for each in (one, two)] == [None, "steps.b added"]


def test_only_what_is_lacking_is_made() -> None:
    """The dump knows version 1, the objects 1 and 2."""
    (step,) = plan(lineage("A", "1"), image(1, "A"), image(2, "B"))
    assert isinstance(step, MakeRevision)
    assert step.revision.number == 2


def test_the_newest_version_is_made_from_the_spec_where_its_object_is_gone() -> None:
    """The definition has not been edited since: it is the lost content."""
    (step,) = plan(lineage("A", "1"), image(1, "A"))
    assert isinstance(step, MakeRevision)
    assert (step.revision.number, step.content, step.revision.content_hash) == (2, definition("B"), content_hash("B"))
    assert step.name == f"high-cpu-v2-{content_hash('B')[:8]}"


@pytest.mark.parametrize(
    "spec", [{"definition": definition("C")}, {"definitionFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]
)
def test_a_number_whose_content_is_lost_is_not_given_again(spec: Any) -> None:
    """Nobody has it any more: the next version has the number after it."""
    obj = a_workflow()
    obj = replace(a_workflow(spec=spec), status=obj.status)
    (step,) = plan(lineage("A", "1"), image(1, "A"), obj=obj)
    assert step == Skip(obj.key, lineage("A", "1"), 2)


@pytest.mark.parametrize(
    "found", [image(2, "B", says="0" * 64), image(2, "B", uid="uid-of-another"), replace(image(2, "B"), generation=2)]
)
def test_an_object_that_lies_is_no_memory(found: Object[Any]) -> None:
    """Edited by hand, or of another Workflow: the content of the spec is taken instead."""
    (step,) = plan(lineage("A", "1"), found)
    assert isinstance(step, MakeRevision)
    assert step.name.startswith("high-cpu-v2-")


def test_verdicts_times_and_tags_come_back() -> None:
    """From the statuses of the versions; a rejection, which both versions of a content show, is said once."""
    rejected = {"type": "Rejected", "status": "True", "reason": "RejectedByUser"}
    given: dict[str, Any] = {
        "conditions": [rejected],
        "firstActiveAt": "2026-05-03T00:00:00Z",
        "lastActiveAt": "2026-05-04T00:00:00Z",
    }
    steps = plan(
        lineage("A", "1", change={1: {"tags": ("old",)}}),
        image(1, "A", tags=["good"]),
        image(2, "B", **given),
        image(3, "B", conditions=[rejected]),
    )
    one, two = (step for step in steps if isinstance(step, Recall))
    assert (one.number, one.tags, one.untagged) == (1, ("good",), ("old",))
    assert (two.number, two.rejected, two.first_active_at) == (2, "RejectedByUser", datetime(2026, 5, 3, tzinfo=UTC))


def test_a_rejection_that_was_cleared_stays_so() -> None:
    """The dump is from before the decision Retry."""
    seen = lineage("A", "1", change={1: {"rejected": "RejectedByUser"}})
    ready = {"type": "Ready", "status": "True", "reason": "Ready"}
    seen = replace(seen, revisions=tuple(replace(each, content_hash=content_hash("A")) for each in seen.revisions))
    steps = plan(seen, image(1, "A", conditions=[ready]), image(2, "B"))
    assert [step.cleared for step in steps if isinstance(step, Recall)] == [True]


HISTORY: list[dict[str, Any]] = [
    {"revision": 1, "at": "2026-05-02T00:00:00Z", "reason": "Rollback", "actor": "bob"},
    {"revision": 2, "at": "2026-05-01T13:50:00Z", "reason": "AllAtOnce", "actor": "keep-operator"},
    {"revision": 1, "at": "2026-05-01T13:41:00Z", "reason": "AllAtOnce", "actor": "keep-operator"},
]
HOLD = {
    "rejectedHash": hash_of("B"),
    "target": 1,
    "actor": "bob",
    "reason": "It is loud",
    "since": "2026-05-02T00:00:00Z",
    "automatic": False,
}


def test_what_was_active_comes_back_and_the_rollback_with_it() -> None:
    """The dump knows the first deployment: the two others are noted again, and version 1 is active by a rollback."""
    obj = a_workflow(history=HISTORY, activeRevision={"number": 1}, hold=HOLD)
    steps = plan(lineage("A", "1"), image(1, "A"), image(2, "B"), obj=obj)
    (deployed,) = (step for step in steps if isinstance(step, Redeploy))
    assert [(each.revision, each.from_revision, each.cause) for each in deployed.deployments] == [
        (2, 1, Cause.ALL_AT_ONCE),
        (1, 2, Cause.ROLLBACK),
    ]
    assert deployed.active_number == 1
    (held,) = (step for step in steps if isinstance(step, Rehold))
    assert held.hold is not None
    assert (held.hold.target, held.hold.actor) == (1, "bob")


def test_a_rollback_that_ended_does_not_come_back_with_the_dump() -> None:
    """The dump is from while it was in force."""
    obj = a_workflow(history=[{**HISTORY[0], "reason": "HoldEnded", "revision": 2}], activeRevision={"number": 2})
    steps = plan(lineage("AB", "1 2 R1", hold=hold("B", 1)), image(1, "A"), image(2, "B"), obj=obj)
    assert Rehold(obj.key, lineage("AB", "1 2 R1", hold=hold("B", 1)), None) in steps


def test_handled_decisions_are_not_carried_out_again() -> None:
    """One for each request, the real one before its copies; those that the database knows are left alone."""
    copy = a_decision("4711", "NoOp", handledAt="2026-05-09T00:00:00Z")
    waits = a_decision("4712", conditions=[{"type": "Handled", "status": "Unknown"}], ledgerId=None)
    seen = lineage("AB", "1 2")
    steps = plan(seen, image(1, "A"), image(2, "B"), decisions=(copy, a_decision(), waits))
    (step,) = (step for step in steps if isinstance(step, Rehandle))
    assert (step.handled.request_id, step.handled.outcome, step.handled.to_number) == ("4711", "Done", 1)
    assert plan(seen, image(1, "A"), image(2, "B"), decisions=(a_decision(),), handled=("4711",)) == []


@pytest.mark.parametrize("owner", [None, NOBODY])
def test_a_lineage_of_a_former_owner_is_given_back(owner: Owner | None) -> None:
    """With its id and its history."""
    seen = lineage("AB", "1 2", owner=owner)
    step, *_ = plan(seen, image(1, "A"), image(2, "B"))
    assert isinstance(step, Give)
    assert step.declared.owner == OWNER


def test_a_lineage_that_came_back_with_the_dump_makes_room() -> None:
    """Its object is gone and its policy was Delete."""
    back = lineage("A", "1", id=UUID(int=2), owner=NOBODY)
    assert kinds(plan(None, rows=(back,)))[:2] == [Remove, Make]


BLOCKED: dict[str, tuple[Lineage | None, tuple[Lineage, ...], Object[Any], str]] = {
    "the name is held by an orphan": (
        None,
        (lineage("A", id=UUID(int=2), owner=NOBODY, deletion_policy="Orphan"),),
        a_workflow(),
        "is held by",
    ),
    "the name is held by nobody": (None, (lineage("A", id=UUID(int=2), owner=None),), a_workflow(), "prune"),
    "the object has another one": (None, (lineage("A", id=UUID(int=2)),), a_workflow(), "another record"),
    "another cluster has it": (
        lineage("A", owner=replace(OWNER, cluster_id="cluster-2")),
        (),
        a_workflow(),
        "must give it up",
    ),
    "it was deleted": (lineage("A", deleted_at=minute(1)), (), a_workflow(), "nothing brings that back"),
    "its spec cannot be read": (None, (), a_workflow(spec={"definition": 1}), "cannot be read"),
    "its tenant has no row": (None, (), a_workflow(tenantId="lost"), "has no row"),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_what_a_person_must_decide(name: str) -> None:
    """Nothing is taken from anybody; the line says what stands in the way."""
    known, rows, obj, why = BLOCKED[name]
    (step,) = plan(known, obj=obj, rows=rows)
    assert isinstance(step, Blocked)
    assert why in step.why


def test_objects_that_go_or_have_no_record_are_left_alone() -> None:
    """A deletion takes its course, and a new Workflow has lost nothing."""
    assert plan(None, obj=replace(a_workflow(), deleted_at=NOW)) == []
    assert plan(None, obj=replace(a_workflow(), status={})) == []


DEPLOYED = [
    Deployment(number, None, Cause(cause), "x", datetime.fromisoformat(at))
    for number, cause, at in ((each["revision"], each["reason"], each["at"]) for each in HISTORY)
]


@pytest.mark.parametrize(
    ("told", "known", "unheard"),
    [
        (HISTORY, DEPLOYED, 0),
        (HISTORY, DEPLOYED[1:], 1),
        (HISTORY, DEPLOYED[2:], 2),
        (HISTORY, [], 3),
        (HISTORY[:1], DEPLOYED[2:], 1),
        (HISTORY[1:], DEPLOYED, 0),
        (HISTORY[2:], DEPLOYED, 0),
        ([], DEPLOYED, 0),
        # in one second: 1, 2, and back to 1
        (
            [{**each, "at": HISTORY[0]["at"]} for each in HISTORY],
            [replace(each, at=DEPLOYED[0].at) for each in DEPLOYED[1:]],
            1,
        ),
    ],
)
def test_what_a_status_tells_that_the_row_does_not_know(told: Any, known: Any, unheard: int) -> None:
    """Also of deployments within one second, and never because a status is late."""
    seen = replace(lineage("AB"), deployments=tuple(known))
    assert len(mirror.unheard({"history": told}, seen)) == unheard
