"""Any sequence of edits, decisions, pins, deletions and crashes leaves a history that can be trusted."""

import os
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keep_operator.domain import history, release, retention, revision
from keep_operator.domain.desired import Desired, ProviderSight
from keep_operator.domain.history import Reference
from keep_operator.resources import workflow as reader
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.workflow import WorkflowSpec
from unit import workflows
from unit.workflows import World

LETTERS = st.sampled_from("ABCDPab")
TAGS = st.sampled_from(["production", "known-good"])
VM = ProviderSight("victoriametrics", ready=True, serving=True)


class Histories(RuleBasedStateMachine):
    """The world of one Workflow's name; each rule is something that people, Git, tools or failures do."""

    def __init__(self) -> None:
        super().__init__()
        self.letter = "A"
        self.more: dict[str, Any] = {}
        self.fields: dict[str, Any] = {}
        self.written_out = False
        self.world = World()
        self.requests = 0
        self.settled = False

    def apply(self, **fields: Any) -> None:
        """Somebody applies the manifest, with these fields changed; None takes one out."""
        self.fields = {key: value for key, value in {**self.fields, **fields}.items() if value is not None}
        self.world.edit(self.spec())
        self.settled = False

    def release(self, **fields: Any) -> None:
        """The same for fields below `release`."""
        kept = {key: value for key, value in {**self.fields.get("release", {}), **fields}.items() if value is not None}
        self.apply(release=kept)

    def spec(self) -> WorkflowSpec:
        """The spec as the server has it; ``written_out``: a newer CRD fills in its defaults."""
        spec = workflows.spec_of(self.letter, more=self.more, **self.fields)
        if not self.written_out:
            return spec
        raw = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        again = reader.parse_spec({key: value for key, value in raw.items() if key not in ("runHistory", "retention")})
        assert not isinstance(again, Invalid)
        return again

    @initialize(letter=LETTERS)
    def begin(self, letter: str) -> None:
        """The first manifest."""
        self.letter = letter
        self.world = World(spec=self.spec())

    @rule(letter=LETTERS)
    def edit(self, letter: str) -> None:
        """Another content, perhaps one that cannot run, or the one from before."""
        self.letter = letter
        self.apply()

    @rule(letters=st.lists(LETTERS, min_size=2, max_size=4))
    def ship(self, letters: list[str]) -> None:
        """Some versions one after the other, each looked at; with a Provider, so that they become active."""
        self.world.providers = {"vm": VM}
        for letter in letters:
            self.letter = letter
            self.apply()
            self.settle()

    @precondition(lambda self: self.known() and self.world.lineage.active_number is not None)
    @rule(
        times=st.integers(1, 3),
        rejected=st.booleans(),
        force=st.booleans(),
        number=st.one_of(st.none(), st.integers(1, 4)),
    )
    def incident(self, times: int, rejected: bool, force: bool, number: int | None) -> None:
        """Take it back, and again; perhaps what was active is rejected first."""
        if rejected:
            self.decide_now("Reject", self.world.lineage.active_number)
        for _ in range(times):
            self.decide_now("Rollback", number, force=force)
        self.settle()

    @rule(text=st.sampled_from(["Tell the team", "Tell nobody"]), disabled=st.booleans())
    def describe(self, text: str, disabled: bool) -> None:
        """What people read, and whether it is disabled: no new revision."""
        self.more = {"description": text, "disabled": disabled}
        before = self.world.rows.values()
        numbers = [row.latest_number for row in before] if self.settled else None
        self.apply()
        self.settle()
        if numbers is not None and not self.fields.get("suspend"):
            assert [row.latest_number for row in self.world.rows.values()] == numbers

    @rule()
    def upgrade(self) -> None:
        """A-REV-1: a newer operator, whose CRD writes defaults into every spec."""
        self.settle()
        numbers = [row.latest_number for row in self.world.rows.values()]
        self.written_out = not self.written_out
        self.world.edit(self.spec())
        self.world.generation += 1
        self.settle()
        if not self.fields.get("suspend"):
            assert [row.latest_number for row in self.world.rows.values()] == numbers

    @rule(
        pin=st.one_of(
            st.none(),
            st.integers(1, 6).map(lambda number: {"revision": number}),
            TAGS.map(lambda tag: {"tag": tag}),
            LETTERS.map(
                lambda letter: {"contentHash": revision.content_hash(workflows.definition(letter))},
            ),
        )
    )
    def pin(self, pin: dict[str, Any] | None) -> None:
        """A pin comes into Git, or goes."""
        self.release(pin=pin)

    @rule(strategy=st.sampled_from(["AllAtOnce", "Manual"]), required=st.sampled_from([None, "Never", "Always"]))
    def gate(self, strategy: str, required: str | None) -> None:
        """How new versions take over."""
        self.release(strategy={"type": strategy}, approval=None if required is None else {"required": required})

    @rule(tags=st.lists(TAGS, unique=True))
    def tag_by_spec(self, tags: list[str]) -> None:
        """The spec names tags for the next revision."""
        self.release(tags=tags or None)

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        """Somebody stops the workflow, or lets it go on."""
        self.apply(suspend=suspend)

    @rule(limit=st.integers(0, 3), hours=st.integers(0, 100))
    def retain(self, limit: int, hours: int) -> None:
        """Fewer old versions are kept, and time passes."""
        self.apply(revisionHistoryLimit=limit)
        self.world.pass_time(hours)

    @rule(there=st.booleans())
    def provider(self, there: bool) -> None:
        """The Provider comes or goes."""
        self.world.providers = {"vm": VM} if there else {}
        self.settled = False

    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        """Somebody deletes, forges or relabels the object of a revision."""
        if not self.world.images:
            return
        name = data.draw(st.sampled_from(sorted(self.world.images)))
        image = self.world.images[name]
        match data.draw(st.sampled_from(["delete", "forge", "label", "status"])):
            case "delete":
                del self.world.images[name]
            case "forge":
                self.world.images[name] = replace(image, true=False)
            case "label":
                self.world.images[name] = replace(image, labels={"tag.keep-operator.dev/mine": ""})
            case _:
                self.world.images[name] = replace(image, status={})
        self.settled = False

    @precondition(lambda self: self.known())
    @rule(
        action=st.sampled_from(["Rollback", "Deploy", "Resume", "Reject", "Retry", "Tag", "Untag", "Note", "Approve"]),
        number=st.one_of(st.none(), st.integers(1, 6)),
        tag=TAGS,
        force=st.booleans(),
        replay=st.booleans(),
    )
    def decide(self, action: str, number: int | None, tag: str, force: bool, replay: bool) -> None:
        """Somebody decides, or a decision comes back from a backup."""
        if number is None and action in ("Deploy", "Reject", "Tag", "Approve"):
            number = 1
        self.decide_now(action, number, tag, force=force, replay=replay)

    def decide_now(
        self, action: str, number: int | None, tag: str = "", *, force: bool = False, replay: bool = False
    ) -> None:
        """One decision, and what must be true of its outcome."""
        self.requests += 0 if replay and self.requests else 1
        raw: dict[str, Any] = {
            "workflowRef": {"name": workflows.NAME},
            "action": action,
            "actor": "bob",
            "reason": "It notifies too often",
            "requestId": f"request-{self.requests}",
            "force": force,
        }
        if number is not None:
            raw["revision"] = {"number": number}
        if action in ("Tag", "Untag"):
            raw["tag"] = tag
        spec = WorkflowDecisionSpec.model_validate(raw)
        known = spec.request_id in self.world.handled
        before = self.world.lineage
        verdict = self.world.decide(spec)
        if known:
            assert verdict.outcome == "NoOp"
        if verdict.outcome != "Done":
            assert self.world.lineage == before
        if verdict.outcome == "Done" and action == "Rollback":
            self.check_rolled_back(verdict.to_number)
        self.settled = False

    def check_rolled_back(self, target: int | None) -> None:
        """A-RB-1: the target is active at once, and still after five looks of whoever heals the spec."""
        assert self.world.lineage.active_number == target
        if self.world.lineage.hold is None:
            return
        desired = self.world.observe().wanted
        latest = self.world.lineage.latest
        assert latest is not None
        if isinstance(desired, Desired) and desired.hash_in(self.world.lineage) != latest.content_hash:
            return  # a new definition came before the rollback: rolling forward ends the hold
        for _ in range(5):
            self.world.generation += 1
            self.world.reconcile()
            assert self.world.lineage.active_number == target

    @rule(after=st.integers(0, 6))
    def crash(self, after: int) -> None:
        """The process dies in the middle of a reconcile, between two actions."""
        self.world.reconcile(crash_after=after)
        self.settled = False

    @rule(orphan=st.booleans())
    def delete_and_create_again(self, orphan: bool) -> None:
        """A-REV-8: the Workflow goes, and another one comes under its name: without the old one's history."""
        self.apply(deletionPolicy="Orphan" if orphan else None)
        self.settle()
        had = self.known()
        self.world.delete()
        self.world.settle()
        assert self.world.gone
        if had and orphan:
            self.world.rows = {key: replace(row, external_name=f"old-{key}") for key, row in self.world.rows.items()}
        self.world.create_again()
        self.settle()
        if self.known():
            assert self.world.lineage.latest_number <= 1

    @rule()
    def settle(self) -> None:
        """The operator looks until nothing is left to do; asked again it has nothing to do and nothing to say."""
        plan = self.world.settle()
        assert not plan.actions
        again = self.world.plan()
        assert not again.actions
        if again.status is not None:
            assert {key: value for key, value in again.status.items() if value is not None} == self.world.status
        self.settled = True

    def known(self) -> bool:
        """Whether the Workflow has its row."""
        return self.world.observe().own is not None

    @invariant()
    def numbers_have_no_gaps_and_contents_are_true(self) -> None:
        """Whatever happened, also in the middle of it."""
        for row in self.world.rows.values():
            numbers = [each.number for each in row.revisions]
            assert numbers == list(range(1, row.latest_number + 1))
            for each in row.revisions:
                assert revision.content_hash(self.world.contents[row.id, each.number]) == each.content_hash
                assert each.parent_number == (each.number - 1 or None)
            hashes = [each.content_hash for each in row.revisions]
            assert all(one != other for one, other in pairwise(hashes))

    @invariant()
    def what_is_active_may_be(self) -> None:
        """Valid, not rejected, not denied; and the last deployment says so."""
        for row in self.world.rows.values():
            if row.active is not None:
                assert row.eligible(row.active) and row.active.archived_at is None
                assert row.deployments[0].revision == row.active_number
            else:
                assert not row.deployments

    @invariant()
    def a_tag_points_to_one_revision(self) -> None:
        """A-TAG-1."""
        for row in self.world.rows.values():
            tags = [tag for each in row.revisions for tag in each.tags]
            assert len(tags) == len(set(tags))

    @invariant()
    def a_settled_world_agrees_with_its_rules(self) -> None:
        """Objects are the image of rows; pin, hold and definition decide in that order; one revision takes runs."""
        if not self.settled or not self.known():
            return
        row = self.world.lineage
        suspended = bool(self.fields.get("suspend"))
        assert row.suspended == (suspended or bool(self.more.get("disabled")))
        if suspended:
            return
        shown = sorted(image.number for image in self.world.images.values())
        assert shown == [each.number for each in row.revisions if each.archived_at is None]
        assert self.world.active_images() == [] if row.active_number is None else [row.active_number]
        latest = row.latest
        assert latest is not None and latest.archived_at is None
        policy = retention.policy(self.spec().revision_history_limit, None, None)
        pin = release.reference(self.spec().release.pin)
        assert not retention.judge(row, policy, retention.Uses(pin), self.world.now).archive
        assert latest.content_hash == revision.content_hash(workflows.definition(self.letter))
        if row.hold is not None:
            assert row.hold.rejected_hash == latest.content_hash
        pinned = None if pin is None else history.resolve(row, pin)
        if isinstance(pinned, history.Revision) and row.eligible(pinned) and pinned.was_active:
            assert row.active_number == pinned.number
        elif pin is None and row.hold is not None:
            assert row.active_number == row.hold.target
        elif pin is None and row.active is latest:
            assert self.world.condition("Deployed") == ("True", "RevisionActive")

    def teardown(self) -> None:
        """In the end everything can be brought to rest, and deleted."""
        self.world.settle()
        self.world.delete()
        self.world.settle()
        assert self.world.gone


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=1_000 if os.environ.get("KEEP_OPERATOR_SOAK") else 60, stateful_step_count=40, deadline=None
)


def test_the_same_reference_means_the_same_revision_for_everybody() -> None:
    """A pin by tag, a decision by tag and a decision by number lead to one revision."""
    world = World()
    world.settle()
    world.edit(workflows.spec_of("B", release={"tags": ["production"]}))
    world.settle()
    for reference in (Reference(number=2), Reference(tag="production")):
        assert history.resolve(world.lineage, reference) == world.lineage.get(2)
