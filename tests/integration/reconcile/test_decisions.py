"""What decisions do to a workflow in a real database: once, and judged by what is so at that moment."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast

import pytest
from sqlalchemy import text

from integration.store import lineages, samples
from keep_operator.domain import canary
from keep_operator.domain import workflow as workflow_rules
from keep_operator.domain.decision import Handle, Observed
from keep_operator.domain.history import Cause, Lineage
from keep_operator.domain.planning import Plan
from keep_operator.domain.verdict import Handled
from keep_operator.errors import Conflict, Unavailable
from keep_operator.reconcile.database import Database
from keep_operator.reconcile.decision import Decisions
from keep_operator.reconcile.proof import LOOK_LASTS, Witness
from keep_operator.reconcile.world import World
from keep_operator.resources import decision, objects, workflow
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import (
    ACCESS_REVIEWS,
    ADMISSION_POLICIES,
    ADMISSION_POLICY_BINDINGS,
    WORKFLOW_DECISIONS,
    WORKFLOWS,
    Key,
    Resource,
)
from keep_operator.resources.objects import Object
from keep_operator.resources.release import CanaryStep
from keep_operator.resources.workflow import WorkflowSpec
from keep_operator.runtime.workqueue import WorkQueue
from keep_operator.store import decisions, deployments, releases
from keep_operator.store import engine as store
from keep_operator.store import lineages as rows
from keep_operator.store.engine import Engine
from manifests import admission_binding, admission_policy

pytestmark = pytest.mark.integration

NOW: Final = datetime(2026, 5, 1, 18, 0, tzinfo=UTC)
HIGH_CPU: Final = Key(WORKFLOWS.kind, "monitoring", "high-cpu")


@dataclass
class Server:
    """An API server that has one Workflow, or none, and maybe the policy `decision`; ``denied`` are verbs on the Workflow."""

    workflow: dict[str, Any] | None
    deleted: list[tuple[str, str]] = field(default_factory=list)
    policy: dict[Resource, dict[str, Any]] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    failure: Exception | None = None

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
        if resource in (ADMISSION_POLICIES, ADMISSION_POLICY_BINDINGS):
            assert (namespace, name) == (None, "keep-operator-decision")
            self.asked.append(resource.kind)
            if self.failure is not None:
                raise self.failure
            return self.policy.get(resource)
        assert (resource, namespace, name) == (WORKFLOWS, "monitoring", "high-cpu")
        return self.workflow

    async def create(self, resource: Resource, namespace: str | None, body: Any, *, repeatable: bool) -> dict[str, Any]:
        assert (resource, namespace, repeatable) == (ACCESS_REVIEWS, None, True)
        spec = body["spec"]
        self.asked.append(f"{spec['user']} {spec['resourceAttributes']['verb']}")
        if self.failure is not None:
            raise self.failure
        return {"status": {"allowed": spec["resourceAttributes"]["verb"] not in self.denied}}

    def install_policy(self, at: str = "2026-05-01T12:00:00Z") -> None:
        """The chart was installed then."""
        for resource, each in (
            (ADMISSION_POLICIES, admission_policy()),
            (ADMISSION_POLICY_BINDINGS, admission_binding()),
        ):
            there = {"creationTimestamp": at, "generation": 1}
            self.policy[resource] = {**each, "metadata": {**each["metadata"], **there}}

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        self.deleted.append((name, uid))


@dataclass
class Looks:
    """A look at the Workflow as far as a decision needs it."""

    engine: Engine

    async def observe(self, obj: Object[WorkflowSpec]) -> workflow_rules.Observed:
        async with store.look(self.engine) as conn:
            own, _ = await rows.observe(conn, samples.CLUSTER, obj.uid, None, None)
        return workflow_rules.Observed(obj, samples.CLUSTER, "keep", None, own=own)


def a_workflow(**spec: Any) -> dict[str, Any]:
    """Workflow monitoring/high-cpu as the API server has it."""
    metadata = {
        "name": "high-cpu",
        "namespace": "monitoring",
        "uid": "uid-high-cpu",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-05-01T12:00:00Z",
    }
    return {
        "metadata": metadata,
        "spec": {"definition": {"steps": []}, **spec},
        "status": {"observedGeneration": 2},
    }


def decided(action: str, request: str = "4711", **spec: Any) -> Object[WorkflowDecisionSpec]:
    """A decision by Bob."""
    given = {"workflowRef": {"name": "high-cpu"}, "action": action, "actor": "bob", "requestId": request}
    metadata = {
        "name": f"decision-{request}",
        "namespace": "monitoring",
        "uid": f"uid-{request}",
        "resourceVersion": "9",
        "generation": 1,
        "creationTimestamp": "2026-05-01T17:59:00Z",
    }
    raw = {"metadata": metadata, "spec": {**given, "reason": "It is loud", **spec}}
    return objects.parse(WORKFLOW_DECISIONS.kind, raw, decision)


class Rig:
    """A workflow with versions A, B, C of which the third is active, and whoever carries out decisions about it."""

    def __init__(self, engine: Engine, unverified: Literal["Refuse", "Record"] = "Record") -> None:
        self.engine = engine
        self.server = Server(a_workflow())
        self.now = NOW
        self.world = World(WorkQueue(lambda: 0.0), "keep")
        self.kind = Decisions(
            world=self.world,
            cluster=cast(Any, self.server),
            database=Database(engine, samples.CLUSTER),
            workflows=Looks(engine),
            witness=Witness(cast(Any, self.server), lambda: self.now),
            unverified=unverified,
        )

    async def look(self, obj: Object[WorkflowDecisionSpec]) -> Plan[Any]:
        return self.kind.plan(await self.kind.observe(obj), NOW)

    async def judge(self, obj: Object[WorkflowDecisionSpec]) -> Handle:
        (action,) = (await self.look(obj)).actions
        assert isinstance(action, Handle)
        return action

    async def decide(self, action: str, request: str = "4711", **spec: Any) -> str:
        """Make a decision and carry it out; how it ended."""
        obj = decided(action, request, **spec)
        await self.kind.apply(await self.judge(obj))
        found = await self.remembered(request)
        assert found is not None
        return found.outcome

    async def remembered(self, request: str) -> Handled | None:
        seen = await self.lineage()
        return await lineages.looked(self.engine, lambda conn: decisions.find(conn, seen, request))

    async def lineage(self) -> Lineage:
        return await lineages.own(self.engine)


@pytest.fixture
async def rig(engine: Engine) -> Rig:
    """The usual one."""
    async with store.transaction(engine) as conn:
        await conn.execute(text("INSERT INTO keep_operator.installation (cluster_id) VALUES ('cluster-a')"))
    await samples.have_tenant(engine)
    await lineages.have(engine, contents="ABC")
    for number in (1, 2, 3):
        await lineages.activate(engine, number)
    return Rig(engine)


async def test_every_action_takes_effect_with_its_entry(rig: Rig) -> None:
    """Roll back, resume, tag, move and remove the tag, reject, try again, note: the database and the ledger say so each time."""
    assert await rig.decide("Rollback", "1") == "Done"
    seen = await rig.lineage()
    assert seen.hold is not None
    assert (seen.active_number, seen.hold.target, seen.hold.request_id) == (2, 2, "1")
    assert await rig.decide("Resume", "2") == "Done"
    seen = await rig.lineage()
    assert (seen.active_number, seen.hold) == (3, None)
    assert await rig.decide("Tag", "3", tag="good", revision={"number": 1}) == "Done"
    assert await rig.decide("Tag", "4", tag="good", revision={"number": 2}) == "Done"
    assert [each.tags for each in (await rig.lineage()).revisions] == [(), ("good",), ()]
    assert await rig.decide("Untag", "5", tag="good") == "Done"
    assert await rig.decide("Reject", "6", revision={"number": 3}) == "Done"
    seen = await rig.lineage()
    assert (seen.active_number, seen.revisions[2].rejected) == (2, "RejectedByUser")
    assert await rig.decide("Rollback", "7", revision={"number": 3}) == "TargetRejected"
    assert await rig.decide("Rollback", "8", revision={"number": 3}, force=True) == "Done"
    seen = await rig.lineage()
    assert (seen.active_number, seen.revisions[2].rejected) == (3, None)
    assert await rig.decide("Reject", "9", revision={"number": 1}) == "Done"
    assert await rig.decide("Retry", "10", revision={"number": 1}) == "Done"
    assert await rig.decide("Note", "11", reason="Watch it") == "Done"
    assert await rig.decide("Approve", "12", revision={"number": 3}) == "NoOp"
    told = [
        action
        for kind, action, _ in await lineages.told(rig.engine)
        if kind != "WorkflowRevision" or action != "Created"
    ]
    assert told[told.index("Handled") :] == [
        *("Handled", "HoldSet", "Deployed"),
        *("Handled", "HoldEnded", "Deployed"),
        *("Handled", "Tagged", "Handled", "Tagged", "Handled", "Untagged"),
        *("Handled", "Rejected", "Deployed"),
        "Handled",
        *("Handled", "RejectionCleared", "Deployed"),
        *("Handled", "Rejected", "Handled", "RejectionCleared"),
        *("Handled", "Noted", "Handled"),
    ]


async def test_deploy_lets_a_waiting_version_run(rig: Rig) -> None:
    """`strategy: Manual`: the fourth version waits, and the decision makes it the active one."""
    rig.server.workflow = a_workflow(release={"strategy": {"type": "Manual"}})
    await lineages.add(rig.engine, "D")
    assert await rig.decide("Deploy", revision={"number": 4}, expect={"activeRevision": 3}) == "Done"
    assert (await rig.lineage()).active_number == 4


async def test_what_nobody_can_prove_is_told(rig: Rig) -> None:
    """The ledger says of whom the decision is said to be, for whom, and that nobody has proven it (A-AP-5)."""
    await rig.decide("Rollback", onBehalfOf="ann")
    (entry,) = [each for each in await samples.entries(rig.engine) if each.action == "Handled"]
    assert (entry.key.name, entry.uid, entry.actor) == ("decision-4711", "uid-4711", "bob")
    assert (entry.details["verified"], entry.details["onBehalfOf"]) == (False, "ann")


async def test_the_privileged_are_refused_where_nobody_can_prove_who_they_are(rig: Rig) -> None:
    """`Refuse`: nothing is tagged, the refusal is remembered like every end, and a rollback goes through."""
    careful = Rig(rig.engine, "Refuse")
    assert await careful.decide("Tag", "1", tag="good", revision={"number": 1}) == "ActorUnverified"
    assert (await rig.lineage()).revisions[0].tags == ()
    again = await rig.look(decided("Tag", "1", tag="good", revision={"number": 1}))
    assert again.status is None or again.status["conditions"][0]["reason"] == "ActorUnverified"
    assert await careful.decide("Rollback", "2") == "Done"


ARGO: Final = "system:serviceaccount:argocd:argocd-server"
TAG: Final[dict[str, Any]] = {"tag": "good", "revision": {"number": 1}}


async def test_what_the_policy_proves_is_carried_out_and_recorded_as_proven(rig: Rig) -> None:
    """A-AP-5: with the chart's policy in force the privileged need no setting, and the ledger has no doubt."""
    careful = Rig(rig.engine, "Refuse")
    careful.server.install_policy()
    assert await careful.decide("Tag", **TAG) == "Done"
    (entry,) = [each for each in await samples.entries(rig.engine) if each.action == "Handled"]
    assert "verified" not in entry.details
    assert careful.server.asked == ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]


async def test_what_was_made_before_the_policy_is_not_proven_by_it(rig: Rig) -> None:
    """Whoever wrote a name into a decision before the chart was installed has proven nothing."""
    careful = Rig(rig.engine, "Refuse")
    careful.server.install_policy("2026-05-01T17:59:30Z")
    assert await careful.decide("Tag", **TAG) == "ActorUnverified"


async def test_a_policy_that_goes_ceases_to_prove_within_seconds(rig: Rig) -> None:
    """Decisions that come together share one look; nothing of it is left a few seconds later, or for younger decisions."""
    careful = Rig(rig.engine, "Refuse")
    careful.server.install_policy()
    assert await careful.decide("Tag", "1", **TAG) == "Done"
    assert await careful.decide("Untag", "2", tag="good") == "Done"
    assert len(careful.server.asked) == 2
    careful.server.policy.clear()
    young = decided("Tag", "3", **TAG)
    seen = await careful.kind.observe(replace(young, created_at=careful.now))
    assert seen.forbidden is not None
    careful.server.install_policy()
    careful.now += LOOK_LASTS
    assert await careful.decide("Tag", "4", **TAG) == "Done"
    careful.server.policy.clear()
    careful.now += LOOK_LASTS
    assert await careful.decide("Untag", "5", tag="good") == "ActorUnverified"


async def test_a_decision_waits_for_an_api_server_that_does_not_answer(rig: Rig) -> None:
    """Nothing is refused for want of an answer; without the right to look, and on old servers, nothing is proven."""
    careful = Rig(rig.engine, "Refuse")
    careful.server.failure = Unavailable("ApiServerUnavailable", "no answer in time")
    with pytest.raises(Unavailable):
        await careful.decide("Tag", "1", **TAG)
    for number, reason in enumerate(("ApiAccessDenied", "ApiResourceMissing"), 2):
        careful.server.failure = Unavailable(reason, "it may not")
        careful.now += LOOK_LASTS
        assert await careful.decide("Tag", str(number), **TAG) == "ActorUnverified"


async def test_a_service_account_without_the_verb_decides_nothing(rig: Rig) -> None:
    """Where nothing is proven and all is recorded, a tool still does no more than RBAC lets it; `force` is a right too."""
    rig.server.denied = {"tag", "force"}
    assert await rig.decide("Tag", "1", actor=ARGO, **TAG) == "Forbidden"
    assert await rig.decide("Rollback", "2", actor=ARGO, force=True) == "Forbidden"
    assert await rig.decide("Rollback", "3", actor=ARGO) == "Done"
    told = [each for each in rig.server.asked if each.startswith(ARGO)]
    assert told == [f"{ARGO} {verb}" for verb in ("tag", "rollback", "force", "rollback")]
    found = await rig.remembered("1")
    assert found is not None
    assert found.message == f'"{ARGO}" lacks the verb "tag" on workflows.keep-operator.dev "high-cpu"'


async def test_nobody_is_refused_for_groups_that_only_a_request_shows(rig: Rig) -> None:
    """Bob may have the verb by a group of his; so he is not asked for, and a sandbox of one user goes on as it was."""
    rig.server.denied = {"tag"}
    assert await rig.decide("Tag", actor="bob", actorGroups=["sre"], **TAG) == "Done"
    assert [each for each in rig.server.asked if "bob" in each] == []


async def test_a_second_look_that_is_not_to_be_had_refuses_nothing(rig: Rig) -> None:
    """An operator without the right to ask, and an authorizer that is ill, are no reason to refuse."""
    rig.server.failure = Unavailable("ApiAccessDenied", "may not create subjectaccessreviews")
    assert await rig.decide("Tag", actor=ARGO, **TAG) == "Done"


async def test_of_one_request_only_the_first_is_carried_out(rig: Rig) -> None:
    """Two objects with one `requestId`, judged at the same moment: one is carried out, the other ends NoOp."""
    one, other = decided("Rollback"), replace(decided("Rollback"), uid="uid-of-a-copy")
    judged = [await rig.judge(each) for each in (one, other)]
    ends = await asyncio.gather(*map(rig.kind.apply, judged), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [Conflict]
    assert (await rig.lineage()).active_number == 2
    told = []
    for each in (one, other):
        owner = {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Workflow", "uid": "uid-high-cpu"}
        status = (await rig.look(replace(each, owners=(owner,)))).status
        assert status is not None
        told.append(status["conditions"][0]["reason"])
    assert sorted(told) == ["Done", "NoOp"]


@pytest.mark.parametrize("first", ["back", "reject"])
async def test_two_decisions_at_once_are_carried_out_one_after_the_other(rig: Rig, first: str) -> None:
    """A rollback to version 2, and the rejection of version 2, judged on the same history: never is a rejected one active."""
    judged = {
        "back": await rig.judge(decided("Rollback", "back", revision={"number": 2})),
        "reject": await rig.judge(decided("Reject", "reject", revision={"number": 2})),
    }
    await rig.kind.apply(judged.pop(first))
    ((second, late),) = judged.items()
    with pytest.raises(Conflict):
        await rig.kind.apply(late)
    assert await rig.remembered(second) is None
    if first == "reject":
        assert await rig.decide("Rollback", "back", revision={"number": 2}) == "TargetRejected"
        assert (await rig.lineage()).active_number == 3
    else:
        assert await rig.decide("Reject", "reject", revision={"number": 2}) == "Done"
        assert (await rig.lineage()).active_number == 1


STEPS: Final = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
TRIED: Final = {"strategy": {"type": "Canary", "canary": {"steps": STEPS}}}


async def with_a_canary(rig: Rig) -> Lineage:
    """A fourth version, which is tried beside the third."""
    rig.server.workflow = a_workflow(release=TRIED)
    await lineages.add(rig.engine, "D")
    seen = await rig.lineage()
    assert seen.read_at is not None
    steps = [CanaryStep.model_validate(each) for each in STEPS]
    begun = replace(canary.begin(4, 3, steps, None, seen.read_at), weight=20, step=1)
    async with store.transaction(rig.engine) as conn:
        await releases.set_canary(conn, seen, begun, actor="keep-operator")
    return await rig.lineage()


async def end_of(rig: Rig, obj: Object[WorkflowDecisionSpec], handle: Handle) -> str:
    """How a decision ends that was judged a while ago: where it comes too late it is judged anew, as the queue has it done."""
    for _ in range(5):
        try:
            await rig.kind.apply(handle)
        except Conflict:
            handle = await rig.judge(obj)
        else:
            break
    found = await rig.remembered(obj.spec.request_id if isinstance(obj.spec, WorkflowDecisionSpec) else "")
    assert found is not None
    return found.outcome


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize(
    ("one", "other", "ends"),
    [
        ("Promote", "Abort", {("Done", "Refused"), ("Refused", "Done")}),
        ("Approve", "Deny", {("Done", "Refused"), ("TargetDenied", "Done")}),
        ("Pause", "Promote", {("Done", "Done"), ("Refused", "Done")}),
        ("Reject", "Promote", {("Done", "Refused"), ("Done", "Done")}),
    ],
)
async def test_two_who_contradict_each_other_at_the_same_moment(
    rig: Rig, one: str, other: str, ends: set[tuple[str, str]], turn: int
) -> None:
    """Judged on the same history, carried out by two connections at once: one takes effect, the other is judged by what came of it."""
    if one == "Approve":
        rig.server.workflow = a_workflow(release={"approval": {"required": "Always"}})
        await lineages.add(rig.engine, "D")
    else:
        await with_a_canary(rig)
    named: dict[str, Any] = {"revision": {"number": 4}}
    objs = [decided(one, "one", full=True, **named), decided(other, "other", full=True, **named)]
    judged = [await rig.judge(each) for each in objs]
    assert [handle.verdict.outcome for handle in judged] == ["Done", "Done"]
    both = list(zip(objs, judged, strict=True))
    told = await asyncio.gather(*(end_of(rig, *each) for each in (both if turn % 2 else reversed(both))))
    assert tuple(told if turn % 2 else reversed(told)) in ends
    seen = await rig.lineage()
    fourth = seen.revisions[3]
    assert (fourth.approved is None) or (fourth.denied is None)
    assert seen.active is not None and seen.eligible(seen.active)
    if one in ("Promote", "Reject"):
        assert seen.canary is None
    if one == "Promote":
        assert (seen.active_number == 4) == (seen.hold is None)


async def test_what_is_decided_of_a_canary_takes_effect_with_its_entry(rig: Rig) -> None:
    """Pause, Resume, Promote, Abort: the database and the ledger say so each time, in one transaction."""
    await with_a_canary(rig)
    for number, action in enumerate(("Pause", "Resume", "Promote", "Abort")):
        assert await rig.decide(action, str(number)) == "Done"
    told = [action for _, action, _ in await lineages.told(rig.engine)]
    assert told[told.index("CanaryStarted") :] == [
        "CanaryStarted",
        *("Handled", "CanaryMoved") * 3,
        *("Handled", "HoldSet", "CanaryEnded"),
    ]
    seen = await rig.lineage()
    assert (seen.active_number, seen.canary) == (3, None)
    assert seen.hold is not None and seen.hold.aborted


async def test_a_rejection_overtakes_the_step_of_a_canary(rig: Rig) -> None:
    """The Workflow's own look gives more runs to what is rejected at that moment: it does not."""
    seen = await with_a_canary(rig)
    assert seen.canary is not None
    further = replace(seen.canary, weight=50, step=2)
    await rig.decide("Reject", revision={"number": 4})
    with pytest.raises(Conflict):
        async with store.transaction(rig.engine) as conn:
            await releases.set_canary(conn, seen, further, actor="keep-operator")
    assert (await rig.lineage()).canary is None


async def test_a_rejection_overtakes_whoever_is_about_to_activate(rig: Rig) -> None:
    """The Workflow's own look has chosen version 1, which is rejected before it becomes active: it does not."""
    seen = await rig.lineage()
    await rig.decide("Reject", revision={"number": 1})
    with pytest.raises(Conflict):
        async with store.transaction(rig.engine) as conn:
            await deployments.activate(conn, seen, 1, cause=Cause.ALL_AT_ONCE, actor="keep-operator")
    assert (await rig.lineage()).active_number == 3


async def test_a_pin_that_no_watch_has_told_of_counts(rig: Rig) -> None:
    """A-RB-6: the Workflow is read afresh, so a rollback right after a pin is refused."""
    known: Object[Any] = objects.parse(WORKFLOWS.kind, a_workflow(), workflow)
    rig.world.take(replace(known, resource_version="6", generation=1))
    rig.server.workflow = a_workflow(release={"pin": {"revision": 3}})
    assert await rig.decide("Rollback") == "Refused"
    found = rig.world.cache.get(HIGH_CPU)
    assert found is not None
    assert found.generation == 2


async def test_a_workflow_that_was_not_looked_at_comes_first(rig: Rig) -> None:
    """Edited a moment ago: the decision waits for the version that the edit makes."""
    assert rig.server.workflow is not None
    rig.server.workflow["status"]["observedGeneration"] = 1
    assert await rig.look(decided("Rollback")) == Plan(wake_in=timedelta(seconds=5))


async def test_a_decision_waits_for_its_workflow(rig: Rig) -> None:
    """Not there, or going: nothing is carried out, and the condition says what is waited for."""
    rig.server.workflow = None
    status = (await rig.look(decided("Rollback"))).status
    assert status is not None
    assert status["conditions"][0]["reason"] == "WorkflowNotFound"
    going = a_workflow()
    going["metadata"] |= {"deletionTimestamp": "2026-05-01T18:00:00Z", "resourceVersion": "8", "finalizers": ["x"]}
    rig.server.workflow = going
    assert (await rig.look(decided("Rollback"))).actions == ()


async def test_the_workflow_wakes_what_waits_for_it_and_nothing_else(rig: Rig) -> None:
    """A decision that is handled is history: no edit of the Workflow has it looked at again."""
    waiting = decided("Rollback", "1")
    handled = replace(decided("Rollback", "2"), status={"conditions": [{"type": "Handled", "status": "True"}]})
    for each in (waiting, handled):
        rig.world.cache.put(each)
    rig.world.take(cast(Any, objects.parse(WORKFLOWS.kind, a_workflow(), workflow)))
    queued = {key for lane in rig.world.queue._lanes.values() for key in (*lane.urgent, *lane.background)}
    assert waiting.key in queued
    assert handled.key not in queued


async def test_old_objects_go_and_their_history_stays(rig: Rig) -> None:
    """Thirty days after: the object is deleted, by its uid, and the same request again still does nothing (A-AP-6)."""
    await rig.decide("Rollback")
    obj = replace(
        decided("Rollback"),
        status={"handledAt": "2026-03-01T00:00:00Z", "conditions": [{"type": "Handled", "status": "True"}]},
    )
    rig.world.cache.put(obj)
    (expire,) = rig.kind.plan(Observed(obj, None), NOW).actions
    await rig.kind.apply(cast(Any, expire))
    assert rig.server.deleted == [("decision-4711", "uid-4711")]
    assert rig.world.cache.get(obj.key) is None
    assert await rig.remembered("4711") is not None
