"""Any sequence of edits, decisions, runs, failures and time: nothing runs that must not, and all that happened is told."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keep_operator.domain import effects, planning, revision, workflow
from keep_operator.domain.binding import Asked, Bound
from keep_operator.domain.effects import Activate, Take
from keep_operator.domain.history import Author, Canary, Cause, Hold, Lineage, Reference, Revision
from keep_operator.domain.planning import Plan
from keep_operator.resources.decision import ACTIONS, NEED_NO_REVISION, WorkflowDecisionSpec
from keep_operator.resources.objects import IMPORTANT, ROLLBACK_TO
from keep_operator.resources.parts import Approval, ChecklistItem
from keep_operator.resources.tenant import TenantPolicy
from unit import workflows
from unit.builders import tenant_sight
from unit.workflows import Ended, Refused, World

LETTERS: Final = st.sampled_from("ABCDa")
PIPELINE: Final = "system:serviceaccount:argocd:controller"
PEOPLE: Final = ("ann", "bob", "eve", PIPELINE)
GROUPS: Final = ((), ("sre",))
STEPS: Final[tuple[list[dict[str, Any]], ...]] = (
    [
        {"setWeight": 20},
        {"pause": {"duration": "10m"}},
        {"setWeight": 50},
        {"analysis": {"minRuns": 2, "window": "30m", "maxFailureRatePercent": 50, "failureLimit": 1}},
    ],
    [{"setWeight": 40}, {"pause": {}}, {"setWeight": 100}, {"pause": {"duration": "1h"}}],
    [
        {"setWeight": 50},
        {
            "analysis": {
                "minRuns": 1,
                "window": "10m",
                "maxFailureRatePercent": 20,
                "maxErrorRateDeltaPercent": 10,
                "maxP95Duration": "1m",
            }
        },
    ],
)
STRATEGIES: Final = st.one_of(
    st.sampled_from([{"type": "AllAtOnce"}, {"type": "Manual"}]),
    st.builds(
        lambda steps, key, window: {
            "type": "Canary",
            "canary": {"steps": steps, "rollbackWindow": {"revisions": window}} | ({"stickyKey": key} if key else {}),
        },
        st.sampled_from(STEPS),
        st.sampled_from([None, "inputs.host"]),
        st.integers(0, 2),
    ),
)
PATHS: Final = st.sampled_from([None, ["steps"], ["triggers"]])
APPROVALS: Final = st.fixed_dictionaries(
    {"required": st.sampled_from(["Never", "ImportantOnly", "ImportantOnly", "Always"])},
    optional={
        "minApprovals": st.integers(1, 2),
        "approvers": st.sampled_from([{"users": ["bob"]}, {"users": ["eve"], "groups": ["sre"]}]),
        "forbidSelfApproval": st.booleans(),
        "carryOver": st.booleans(),
        "importantPaths": st.sampled_from([["steps"], ["triggers"]]),
    },
)
BY_HAND: Final = {"id": "told", "title": "Tell the team"}
BY_ITSELF: Final = {"id": "tried", "title": "A dry run", "auto": "runs.dryRun.succeeded >= 1"}
CHECKLISTS: Final = st.sampled_from([[], [BY_HAND], [BY_ITSELF], [BY_HAND | {"required": False}, BY_ITSELF]])
GUARDS: Final = st.sampled_from(
    [None, {"enabled": True, "window": "1h", "minRuns": 2, "maxFailureRatePercent": 50}, {"enabled": False}]
)
MINUTES: Final = st.sampled_from([1, 11, 31, 61, 1500])
UNDER_WAY: Final = ("CanaryInProgress", "CanaryPaused", "AnalysisInconclusive")
STRICTNESS: Final = ("Never", "ImportantOnly", "Always")


@dataclass(frozen=True)
class Manifests:
    """What Git says of the Workflow and its Tenant, as it was written."""

    letter: str
    release: Mapping[str, Any]
    floor: Mapping[str, Any]
    floor_items: Sequence[Mapping[str, Any]]


@dataclass
class Known:
    """What the ledger alone tells of a lineage, entry by entry."""

    active: int | None = None
    hold: Hold | None = None
    canary: Canary | None = None
    rejected: frozenset[int] = frozenset()
    denied: frozenset[int] = frozenset()
    approved: frozenset[int] = frozenset()

    def take(self, row: Lineage, effect: Any) -> None:
        """The next entry."""
        match effect:
            case Activate(_, number):
                self.active = number
            case effects.SetHold(hold):
                self.hold = hold
            case effects.EndHold():
                self.hold = None
            case effects.SetCanary(_, canary):
                before = self.canary
                if before is not None and before.began == canary.began:
                    assert canary.weight >= before.weight and canary.step >= before.step
                self.canary = canary
            case effects.EndCanary():
                self.canary = None
            case effects.Reject(number, _):
                self.rejected |= {number}
            case effects.ClearRejection(content_hash):
                self.rejected -= {each.number for each in row.with_content(content_hash)}
            case effects.Approve(number, _):
                self.approved |= {number}
            case effects.Deny(number, _):
                self.denied |= {number}


class Releases(RuleBasedStateMachine):
    """One Workflow, its Tenant, the people around it, its runs, and operators that come, go and lag behind."""

    def __init__(self) -> None:
        super().__init__()
        self.letter = "A"
        self.fields: dict[str, Any] = {}
        self.release: dict[str, Any] = {}
        self.floor: dict[str, Any] = {}
        self.floor_items: list[dict[str, Any]] = []
        self.world = World()
        self.requests = 0
        self.asked = 0
        self.settled = False
        self.told: dict[UUID, Known] = {}
        self.read = 0
        self.final: dict[tuple[UUID, int], str] = {}
        self.decisions: list[WorkflowDecisionSpec] = []
        self.flying: list[tuple[int, datetime, str]] = []
        self.late: tuple[Plan[Any], Manifests] | None = None
        self.judged_by: Manifests | None = None

    # What people and tools do

    @initialize(letter=LETTERS, ahead=st.sampled_from([-300, 0, 300]))
    def begin(self, letter: str, ahead: int) -> None:
        """The first manifest; the operator's clock is minutes ahead of the database's, or behind."""
        self.letter = letter
        self.world = World(spec=workflows.spec_of(letter), ahead=timedelta(seconds=ahead))

    def apply(self) -> None:
        """Somebody applies the manifest."""
        self.world.edit(workflows.spec_of(self.letter, release=self.release, **self.fields))
        self.settled = False

    @rule(letter=LETTERS)
    def edit(self, letter: str) -> None:
        """Another content, perhaps one that cannot run, or the one from before."""
        self.letter = letter
        self.apply()

    @rule(letters=st.lists(LETTERS, min_size=2, max_size=3))
    def ship(self, letters: list[str]) -> None:
        """Some versions one after the other, each looked at."""
        for letter in letters:
            self.letter = letter
            self.apply()
            self.settle()

    @rule(strategy=STRATEGIES)
    def change_strategy(self, strategy: dict[str, Any]) -> None:
        """How new versions take over."""
        self.release |= {"strategy": strategy}
        self.apply()

    @rule(approval=st.one_of(st.none(), APPROVALS), checklist=CHECKLISTS)
    def change_gates(self, approval: dict[str, Any] | None, checklist: list[dict[str, Any]]) -> None:
        """What stands before them."""
        self.release |= {"approval": approval, "checklist": checklist}
        self.release = {key: value for key, value in self.release.items() if value is not None}
        self.apply()

    @rule(floor=st.one_of(st.just({}), APPROVALS), checklist=CHECKLISTS)
    def change_floor(self, floor: dict[str, Any], checklist: list[dict[str, Any]]) -> None:
        """The Tenant asks for more, or for less; nobody has looked at the Workflow yet."""
        self.floor, self.floor_items = floor, checklist
        policy = TenantPolicy(
            approval_floor=Approval.model_validate(floor) if floor else None,
            checklist_floor=tuple(map(ChecklistItem.model_validate, checklist)),
        )
        self.world.tenant = tenant_sight(policy=policy)
        self.settled = False

    @rule(guard=GUARDS)
    def change_guard(self, guard: dict[str, Any] | None) -> None:
        """Whether what has become active is watched."""
        self.release.pop("autoRollback", None)
        self.release |= {"autoRollback": guard} if guard else {}
        self.apply()

    @rule(number=st.one_of(st.none(), st.none(), st.integers(1, 5)), suspend=st.booleans())
    def pin(self, number: int | None, suspend: bool) -> None:
        """A pin comes into Git, or goes; the workflow is stopped, or not."""
        self.release.pop("pin", None)
        self.release |= {"pin": {"revision": number}} if number else {}
        self.fields = {"suspend": suspend and number is None}
        self.apply()

    @rule(marked=st.booleans(), author=st.sampled_from(["ann", "bob"]))
    def mark(self, marked: bool, author: str) -> None:
        """The author of what comes next, who calls it important or does not."""
        self.world.annotations = {IMPORTANT: "true"} if marked else {}
        self.world.author = Author(author, "FieldManager")
        self.settled = False

    @precondition(lambda self: self.known())
    @rule(number=st.one_of(st.just("previous"), st.integers(1, 4)))
    def annotate(self, number: str | int) -> None:
        """A rollback without an object of its own."""
        self.requests += 1
        self.world.annotations = {ROLLBACK_TO: f"{number}@{self.requests}"}
        self.settled = False

    @precondition(lambda self: self.known())
    @rule(
        action=st.sampled_from(ACTIONS),
        actor=st.sampled_from(PEOPLE),
        groups=st.sampled_from(GROUPS),
        number=st.one_of(st.none(), st.just(0), st.integers(1, 6)),
        expect=st.one_of(st.none(), st.none(), st.integers(1, 4)),
        strong=st.booleans(),
    )
    def decide(
        self,
        action: str,
        actor: str,
        groups: Sequence[str],
        number: int | None,
        expect: int | None,
        strong: bool,
    ) -> None:
        """Somebody decides anything about any version; 0 is the newest."""
        self.decide_now(action, actor, groups, number, expect, strong=strong)

    @precondition(lambda self: self.known())
    @rule(
        first=st.sampled_from(["Promote", "Approve", "Rollback", "Deploy", "Pause", "Retry"]),
        second=st.sampled_from(["Abort", "Deny", "Reject", "Resume"]),
        strong=st.booleans(),
    )
    def contradict(self, first: str, second: str, strong: bool) -> None:
        """Two decisions in one second, by people who do not agree."""
        self.decide_now(first, "bob", (), 0, None, strong=strong)
        self.decide_now(second, "eve", (), 0, None, strong=strong)

    @precondition(lambda self: self.known() and self.decisions)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """An old decision comes back from Git or a backup."""
        spec = data.draw(st.sampled_from(self.decisions))
        before = self.world.lineage
        assert self.world.decide(spec).outcome == "NoOp"
        assert self.world.lineage == before

    def decide_now(
        self, action: str, actor: str, groups: Sequence[str], number: int | None, expect: int | None, *, strong: bool
    ) -> None:
        """One decision, which waits until the Workflow has been looked at."""
        if self.world.status.get("observedGeneration") != self.world.generation:
            self.world.reconcile()
            self.check()
        row = self.world.lineage
        if number == 0 or (number is None and action not in NEED_NO_REVISION):
            number = row.latest_number
        self.requests += 1
        raw: dict[str, Any] = {
            "workflowRef": {"name": workflows.NAME},
            "action": action,
            "actor": actor,
            "actorGroups": groups,
            "reason": "It notifies too often",
            "requestId": f"request-{self.requests}",
            "force": strong,
            "full": strong,
        }
        raw |= {"revision": {"number": number}} if number else {}
        raw |= {"expect": {"activeRevision": expect}} if expect else {}
        raw |= {"tag": "good"} if action in ("Tag", "Untag") else {}
        raw |= {"item": "told"} if action == "CheckItem" else {}
        spec = WorkflowDecisionSpec.model_validate(raw)
        verdict = self.world.decide(spec)
        self.decisions.append(spec)
        if expect is not None and expect != row.active_number:
            assert verdict.outcome == "Stale"
        if verdict.outcome != "Done":
            assert self.world.lineage == row
        self.settled = False

    @rule()
    def delete_and_create_again(self) -> None:
        """Whoever makes the Workflow anew, without its gates, gets a history of its own, and the Tenant's floor."""
        self.flying = []
        if self.known():
            self.world.runs()
        self.world.delete()
        self.world.settle()
        assert self.world.gone
        self.check()
        self.release, self.fields, self.late = {}, {}, None
        self.world.annotations = {}
        self.world.create_again()
        self.world.spec = workflows.spec_of(self.letter)
        self.settle()

    # What runs do

    @precondition(lambda self: self.known())
    @rule(
        count=st.integers(1, 4),
        number=st.one_of(st.none(), st.none(), st.integers(1, 5)),
        mode=st.sampled_from(["Live", "Live", "DryRun"]),
        ends=st.sampled_from(["ok", "failed", "cancelled", "slow", "later"]),
    )
    def run(self, count: int, number: int | None, mode: Any, ends: str) -> None:
        """Some runs are asked for, of what takes them or of a version by its number, and end at once or later."""
        for _ in range(count):
            self.asked += 1
            key = f"host-{self.asked}"
            reference = None if number is None else Reference(number=number)
            bound = self.world.ask(
                Asked("Manual", key, "ann", reference=reference, mode=mode, inputs={"host": key}, fingerprint=key)
            )
            if isinstance(bound, Bound):
                self.check_bound(bound)
                self.flying.append((bound.number, self.world.now, mode))
                if ends != "later":
                    self.end(ends, len(self.flying) - 1)
        self.tell_runs()

    @precondition(lambda self: self.flying)
    @rule(ends=st.sampled_from(["ok", "failed", "cancelled"]))
    def run_ends(self, ends: str) -> None:
        """What has been under way for long is over."""
        self.end(ends, 0)
        self.tell_runs()

    def end(self, ends: str, place: int) -> None:
        """One run ends."""
        number, at, mode = self.flying.pop(place)
        failed = {"ok": False, "slow": False, "failed": True}.get(ends)
        self.world.ended.append(Ended(number, at, failed, mode, 600.0 if ends == "slow" else 1.0))

    def tell_runs(self) -> None:
        """The look counts those that are under way."""
        if self.known():
            numbers = [number for number, _, _ in self.flying]
            self.world.runs(**{f"v{number}": numbers.count(number) for number in numbers})
        self.settled = False

    def check_bound(self, bound: Bound) -> None:
        """A-AP-2, A-RUN-5: whatever is asked for, only what has passed its gates runs."""
        row = self.world.lineage
        chosen = row.get(bound.number)
        assert chosen is not None and row.eligible(chosen) and not row.suspended
        assert chosen.content_hash == bound.content_hash
        tried = row.canary
        assert chosen.was_active or chosen.approved is not None or (tried and tried.candidate == chosen.number)
        if bound.selection == "Active":
            assert chosen.number == row.active_number
        if bound.selection == "Canary":
            assert tried is not None and tried.candidate == chosen.number and tried.weight

    # What time and failures do

    @rule(minutes=MINUTES)
    def pass_time(self, minutes: int) -> None:
        """While nobody looks, no step passes and every weight stays (A-CAN-8)."""
        self.world.now += timedelta(minutes=minutes)
        self.settled = False

    @rule(ahead=st.sampled_from([-300, 0, 300]))
    def fail_over(self, ahead: int) -> None:
        """Another replica leads, with another clock."""
        self.world.ahead = timedelta(seconds=ahead)
        self.settled = False

    @rule(after=st.integers(0, 4))
    def crash(self, after: int) -> None:
        """The process dies in the middle of a reconcile."""
        self.world.reconcile(crash_after=after)
        self.settled = False

    @precondition(lambda self: self.known() and not self.world.gone)
    @rule()
    def look(self) -> None:
        """A replica looks, and is held up before it writes."""
        self.late = self.world.plan(), self.manifests()

    @precondition(lambda self: self.late is not None and self.known())
    @rule()
    def write_late(self) -> None:
        """It writes what it has thought of then: as one, or not at all."""
        assert self.late is not None
        (plan, self.judged_by), self.late = self.late, None
        for step in planning.steps(plan.actions):
            if all(isinstance(each, Take | workflow.InsertRevision) for each in step):
                before = self.world.lineage
                try:
                    self.world.transact(step)
                except Refused:
                    assert self.world.lineage == before
            break
        self.check()
        self.judged_by, self.settled = None, False

    @rule()
    def reconcile(self) -> None:
        """One look with all that follows."""
        self.world.reconcile()
        self.settled = False

    @rule()
    def settle(self) -> None:
        """The operator looks until nothing is left to do; asked again it has nothing to do and nothing to say."""
        self.world.settle()
        self.check()
        self.late = None
        again = self.world.plan()
        assert not again.actions
        if again.status is not None:
            assert {key: value for key, value in again.status.items() if value is not None} == self.world.status
        self.settled = True

    def known(self) -> bool:
        """Whether the Workflow has its row, and a version."""
        own = self.world.observe().own
        return own is not None and own.latest_number > 0

    # What must be so

    @invariant()
    def check(self) -> None:
        """Every entry was allowed by the rules of its moment, and all of them together tell what is so."""
        for lineage, actor, effect in self.world.ledger[self.read :]:
            row, known = self.world.rows[lineage], self.told.setdefault(lineage, Known())
            self.check_allowed(row, known, effect, actor)
            known.take(row, effect)
        self.read = len(self.world.ledger)
        for lineage, row in self.world.rows.items():
            known = self.told.get(lineage, Known())
            assert (row.active_number, row.hold, row.canary) == (known.active, known.hold, known.canary)
            assert known.rejected == {each.number for each in row.revisions if each.rejected}
            assert known.denied == {each.number for each in row.revisions if each.denied}
            assert known.approved == {each.number for each in row.revisions if each.approved}

    def check_allowed(self, row: Lineage, known: Known, effect: Any, actor: str) -> None:
        """What makes a version run needs its gates open, by what the manifests say and what people have said."""
        match effect:
            case Activate(_, number, cause):
                self.check_gates(row, number, manual_too=cause not in (Cause.DEPLOY, Cause.PIN))
            case effects.SetCanary(_, canary):
                if canary.weight:
                    self.check_gates(row, canary.candidate, manual_too=False)
            case effects.Approve(number, verdict):
                self.check_approved(row, known, number, verdict)
            case effects.EndHold() if actor == "keep-operator":
                assert known.hold is not None
                assert known.hold.rejected_hash != self.desired_hash()
            case effects.EndHold():
                pass

    def check_gates(self, row: Lineage, number: int, *, manual_too: bool) -> None:
        """An oracle of its own: it reads manifests, not what the rules have made of them."""
        chosen = row.get(number)
        assert chosen is not None and chosen.valid
        before = [each for each in row.deployments if each.revision == number]
        if len(before) > 1 or (before and row.active_number != number):
            return  # it has passed them
        own, floor = self.by.release.get("approval") or {}, self.by.floor
        required = max(own.get("required", "Never"), floor.get("required", "Never"), key=STRICTNESS.index)
        needed = required == "Always" or (required == "ImportantOnly" and self.is_important(row, chosen))
        assert chosen.approved is not None or not needed, f"v{number} runs without approval"
        items = [*self.by.release.get("checklist", []), *self.by.floor_items]
        required_items = {each["id"] for each in items if each.get("required", True)}
        optional = {each["id"] for each in self.by.floor_items if not each.get("required", True)}
        done = {each.item for each in row.checks if each.number == number and each.done}
        assert required_items - optional <= done, f"v{number} runs though {required_items - done} is open"
        if manual_too:
            assert self.by.release.get("strategy", {}).get("type") != "Manual", (
                f"v{number} runs though nobody said Deploy"
            )

    def manifests(self) -> Manifests:
        """Those of this moment."""
        return Manifests(self.letter, dict(self.release), self.floor, self.floor_items)

    @property
    def by(self) -> Manifests:
        """Those that whoever writes has seen."""
        return self.judged_by or self.manifests()

    def is_important(self, row: Lineage, chosen: Revision) -> bool:
        """A-AP-1, where all that ever changes are steps."""
        if chosen.important:
            return True
        own = (self.by.release.get("approval") or {}).get("importantPaths", [])
        if "steps" not in [*own, *self.by.floor.get("importantPaths", [])]:
            return False
        last = next(iter(row.deployments), None)
        instead = None if last is None else last.from_revision if last.revision == chosen.number else last.revision
        other = None if instead is None else row.get(instead)
        return other is None or other.content_hash != chosen.content_hash

    def check_approved(self, row: Lineage, known: Known, number: int, verdict: str) -> None:
        """A-AP-1..4: as many others as were asked for, each of them one who may; a person, where the author is hearsay."""
        own, floor = self.by.release.get("approval") or {}, self.by.floor
        chosen = row.get(number)
        assert chosen is not None and chosen.denied is None
        if verdict == "CarriedOver":
            assert own.get("carryOver") and floor.get("carryOver", True)
            assert any(each.number in known.approved for each in row.with_content(chosen.content_hash))
            return
        said = [each for each in row.reviews if each.number == number and each.approves]
        if own.get("forbidSelfApproval", True) or floor.get("forbidSelfApproval"):
            assert chosen.author is not None
            said = [each for each in said if each.actor != chosen.author.username]
            assert any(not each.actor.startswith("system:") for each in said)
        for each in (own.get("approvers"), floor.get("approvers")):
            if each is not None:
                said = [
                    it for it in said if it.actor in each.get("users", ()) or {*it.groups} & {*each.get("groups", ())}
                ]
        assert len({each.actor for each in said}) >= max(own.get("minApprovals", 1), floor.get("minApprovals", 1))

    def desired_hash(self) -> str:
        """The hash of what the manifest says."""
        return revision.content_hash(workflows.definition(self.by.letter))

    @invariant()
    def what_runs_may_run(self) -> None:
        """One is active and one at most is tried beside it; neither is invalid, denied or rejected."""
        for row in self.world.rows.values():
            if row.active is not None:
                assert row.eligible(row.active), f"{row.active} is active"
            if row.canary is None:
                continue
            assert row.canary.stable == row.active_number
            assert row.candidate is not None and row.candidate is not row.active and row.eligible(row.candidate)
            assert 0 <= row.canary.weight <= 100
            assert row.hold is None or row.hold.rejected_hash != row.candidate.content_hash

    @invariant()
    def what_is_final_stays(self) -> None:
        """Approved and Denied are said for good, and a version never says both."""
        said: dict[tuple[UUID, int], str] = {}
        for image in self.world.images.values():
            kinds = {each["type"] for each in image.status.get("conditions", ()) if each["status"] == "True"}
            for kind in kinds & {"Approved", "Denied"}:
                key = UUID(image.lineage_id), image.number
                assert said.setdefault(key, kind) == kind
        for key, kind in said.items():
            assert self.final.setdefault(key, kind) == kind
        for key, kind in self.final.items():
            shown = any((UUID(it.lineage_id), it.number) == key for it in self.world.images.values())
            assert not shown or said.get(key) == kind, f"{key} was {kind}"

    @invariant()
    def a_settled_world_tells_the_truth(self) -> None:
        """Conditions, traffic and objects say what the rows say, and a hold holds back what is desired."""
        if not self.settled or not self.known() or self.fields.get("suspend"):
            return
        row, status = self.world.lineage, self.world.status
        latest = row.latest
        assert latest is not None and latest.content_hash == self.desired_hash()
        _, reason = self.world.condition("Deployed") or ("", "")
        assert (row.canary is not None) == (reason in UNDER_WAY)
        assert row.hold is None or row.hold.rejected_hash == latest.content_hash
        if reason in ("RolledBack", "Aborted"):
            assert row.hold is not None and not row.hold.automatic
        if reason == "AutoRolledBack":
            assert row.rejection(latest) is not None
        if reason in ("RevisionActive", "NoRollbackTarget"):
            assert row.active is latest
        if reason in ("AwaitingApproval", "ChecklistIncomplete", "AwaitingDeploy"):
            assert row.active is not latest and not latest.was_active
        if reason == "Denied":
            assert row.denial(latest) is not None
        shares = {each["revision"]: each["percent"] for each in status.get("traffic") or ()}
        if row.active_number is None:
            assert not shares
            return
        weight = row.canary.weight if row.canary else 0
        assert sum(shares.values()) == 100 and shares[row.active_number] == 100 - weight
        active = {row.active_number} | ({row.canary.candidate} if row.canary else set())
        assert set(self.world.active_images()) == active

    def teardown(self) -> None:
        """In the end everything can be brought to rest, and deleted."""
        self.world.settle()
        self.check()
        if self.known():
            self.world.runs()
        self.world.delete()
        self.world.settle()
        assert self.world.gone


TestReleases = Releases.TestCase
TestReleases.settings = settings(
    max_examples=2_000 if os.environ.get("KEEP_OPERATOR_SOAK") else 25, stateful_step_count=40, deadline=None
)
