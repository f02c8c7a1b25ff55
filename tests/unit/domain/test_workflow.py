"""What a Workflow needs next, rule by rule."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from keep_operator.domain import abilities, desired, history, mirror, planning, revision, workflow
from keep_operator.domain.abilities import Ability, SideEffects
from keep_operator.domain.desired import Desired, Missing, ProviderSight
from keep_operator.domain.history import Cause, Flaw, Lineage
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.errors import KeepOperatorError
from keep_operator.resources.decision import WorkflowDecisionSpec
from keep_operator.resources.kinds import Key
from keep_operator.resources.parts import Approval
from keep_operator.resources.shapes import Invalid, Violation
from keep_operator.resources.tenant import TenantPolicy, WorkflowDefaults
from unit.builders import tenant_sight
from unit.workflows import ANN, CLUSTER, KEY, NAME, Refused, World, definition, spec_of

VM = ProviderSight("victoriametrics", ready=True, serving=True)


def world(*letters: str, **fields: Any) -> World:
    """A world in which these contents were applied one after the other."""
    made = World(spec=spec_of(letters[0], **fields), providers={"vm": VM})
    made.settle()
    for letter in letters[1:]:
        made.edit(spec_of(letter, **fields))
        made.settle()
    made.log.clear()
    return made


def roll_back(made: World, **fields: Any) -> str:
    """Bob takes it back."""
    raw = {
        "workflowRef": {"name": NAME},
        "action": "Rollback",
        "actor": "bob",
        "reason": "It notifies too often",
        "requestId": f"request-{len(made.handled)}",
    }
    return made.decide(WorkflowDecisionSpec.model_validate(raw | fields)).outcome


def active(made: World) -> int | None:
    """The number of the active revision."""
    return made.lineage.active_number


def suspended(made: World) -> bool:
    """Whether the row stops runs."""
    return made.lineage.suspended


def numbers(made: World) -> list[int]:
    """The numbers of the revisions that have an object."""
    return sorted(image.number for image in made.images.values())


# Revisions ----------------------------------------------------------------------------------------------------------


def test_the_first_look_makes_everything_in_the_fewest_writes() -> None:
    """A-CTL-8: one metadata patch, one object, one status of it, one status of the Workflow."""
    made = World()
    made.settle()
    assert made.log == [
        "SetMetadata",
        "Insert",
        "InsertRevision",
        "Activate",
        "CreateImage",
        "Status",
    ]
    assert made.condition("Ready") == ("True", "Ready")
    assert made.condition("Available") == ("True", "Serving")
    assert made.condition("Synced") == ("True", "Created")


@pytest.mark.parametrize(
    "spec",
    [
        spec_of("A", more={"description": "Tell the channel", "name": "High CPU", "tags": ["cpu"], "owners": ["ann"]}),
        spec_of("A", more={"disabled": True}),
        spec_of("A", run={"maxAttempts": 5}),
        spec_of("A", revisionHistoryLimit=3, retention={"max": 5}),
        spec_of("A", release={"tags": ["production"], "changeNote": "Nothing"}),
        spec_of("A", release={"strategy": {"type": "Manual"}}),
        spec_of("A", release={"approval": {"required": "Always", "approvers": {"users": ["ann"]}}}),
        spec_of("A", dependencyPolicy="Warn", driftPolicy="Report", deletionPolicy="Orphan"),
    ],
)
def test_what_is_not_behaviour_makes_no_revision(spec: Any) -> None:
    """A-REV-2: presentational keys, run, retention, tags, notes, approvers, strategy, policies."""
    made = world("A")
    made.edit(spec)
    made.settle()
    assert made.lineage.latest_number == 1
    assert "InsertRevision" not in made.log


def test_presentational_keys_and_run_settings_reach_the_row_without_a_revision() -> None:
    """A-REV-12: an edited description is shown from the current spec."""
    made = world("A")
    made.edit(spec_of("A", more={"description": "Tell the team", "disabled": True}, run={"maxAttempts": 5}))
    made.settle()
    row = made.lineage
    assert row.settings["presentation"] == {"id": NAME, "description": "Tell the team", "disabled": True}
    assert row.settings["run"] == {"missedTicks": "Skip", "maxAttempts": 5}
    assert row.suspended
    assert made.condition("Available") == ("False", "DisabledInDefinition")
    assert made.log == ["Update", "Status"]


def test_how_long_runs_are_kept_reaches_the_row_once_somebody_says_it() -> None:
    """Runners read it there; a Workflow that says nothing keeps its row as it was before there was such a thing."""
    made = world("A")
    made.settle()
    assert "runHistory" not in made.lineage.settings
    made.edit(spec_of("A", runHistory={"maxAge": "36h"}))
    made.settle()
    assert made.lineage.settings["runHistory"] == {"maxAgeSeconds": 129_600}
    made.edit(spec_of("A"))
    made.settle()
    assert "runHistory" not in made.lineage.settings


def test_another_order_of_keys_or_a_new_generation_makes_no_revision() -> None:
    """A-REV-1: re-applied, reordered, annotated, restarted: nothing is written but the status's generation."""
    made = world("A")
    reordered = dict(reversed(definition("A").items()))
    made.edit(replace_definition(reordered))
    made.generation += 1
    made.settle()
    assert made.log == ["Status"]
    made.log.clear()
    made.settle()
    assert made.log == []


def replace_definition(content: dict[str, Any]) -> Any:
    """A spec with this definition."""
    return spec_of("A").model_copy(update={"definition": content})


def test_going_back_and_forth_makes_a_revision_each_time_and_says_which_it_is_like() -> None:
    """Section 5: A, B, A is v3 with sameContentAs 1."""
    made = world("A", "B", "A")
    third = made.lineage.latest
    assert third is not None
    assert (third.number, third.parent_number, third.same_content_as) == (3, 2, 1)
    assert made.lineage.active_number == 3
    assert [each.revision for each in made.lineage.deployments] == [3, 2, 1]


def test_a_revision_knows_where_it_came_from() -> None:
    """A-NOTE-1, A-REV-10: note, author and generation; without a note the difference is told."""
    made = world("A", "B")
    second = made.lineage.latest
    assert second is not None
    assert second.author == ANN
    assert second.created_from_generation == 2
    assert "steps.look" in (second.change_note or "")
    made.edit(spec_of("C", release={"changeNote": "Another query"}))
    made.settle()
    third = made.lineage.latest
    assert third is not None and third.change_note == "Another query"
    first, *later = made.lineage.revisions
    assert first.diff_summary is None
    assert all("steps.look" in (each.diff_summary or "") for each in later)


def test_an_invalid_definition_is_recorded_and_never_active() -> None:
    """A-REV-6: v2 is there to be looked at, v1 serves on, and the message has the path."""
    made = world("A", "b")
    assert made.lineage.latest_number == 2
    assert made.lineage.active_number == 1
    assert made.condition("DefinitionValid") == ("False", "SchemaError")
    assert made.condition("Deployed") == ("False", "InvalidRevision")
    assert made.condition("Available") == ("True", "Serving")
    assert made.condition("Stalled") == ("True", "SpecRefused")


def test_what_the_runtime_cannot_do_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type that only Keep has is refused before anything runs; a later release that has it takes the definition as it is."""
    made = world("A")
    steps = [{"name": "look", "provider": {"type": "openshift", "with": {}}}]
    made.edit(spec_of("A", more={"steps": steps}))
    made.settle()
    assert made.condition("DefinitionValid") == ("False", "ActionNotSupported")
    assert made.condition("Deployed") == ("False", "InvalidRevision")
    assert made.condition("Stalled") == ("True", "SpecRefused")
    assert (made.lineage.latest_number, made.lineage.active_number) == (2, 1)
    monkeypatch.setattr(abilities, "ABILITIES", {"openshift": Ability(query=SideEffects.NONE)})
    made.wanted = desired.read(definition("A", steps=steps))
    made.settle()
    assert made.condition("DefinitionValid") == ("True", "Valid")
    assert (made.lineage.latest_number, made.lineage.active_number) == (3, 3)
    assert made.lineage.latest is not None and made.lineage.latest.same_content_as == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"steps": [{"name": "a", "provider": {"type": "slack", "with": {}}}]},
            'steps[0].provider.type: "slack" cannot be queried',
        ),
        (
            {"actions": [{"name": "a", "provider": {"type": "prometheus"}}]},
            'actions[0].provider.type: "prometheus" cannot be notified',
        ),
        ({"actions": [{"name": "a", "provider": {"type": "python", "with": {}}}]}, '"python" is not supported'),
        ({"steps": [{"name": "a", "provider": {"type": "python", "with": {}}}]}, "never will be"),
        ({"on-failure": {"provider": {"type": "github"}}}, 'on-failure.provider.type: "github" is not supported'),
        ({"steps": [{"name": "a", "provider": {"type": "http.x", "with": {}}}]}, 'only "http" is'),
        (
            {"actions": [{"name": "a", "provider": {"type": "keep", "with": {"workflow_to_update_yaml": "{{ x }}"}}}]},
            'actions[0].provider.type: "keep" with workflow_to_update_yaml is not supported',
        ),
    ],
)
def test_which_step_the_runtime_cannot_do(change: dict[str, Any], told: str) -> None:
    """The message names the place, the type, and what it can be used for."""
    found = desired.read(definition("A", **change))
    assert isinstance(found, Desired) and found.flaw is not None
    assert found.flaw.reason == "ActionNotSupported"
    assert told in found.flaw.message


def test_a_stored_action_is_not_judged_by_its_type() -> None:
    """Who uses a stored action says no type: what it is nobody knows before it is looked up."""
    found = desired.read(definition("A", actions=[{"name": "a", "use": "stored"}]))
    assert isinstance(found, Desired) and found.flaw is None


@pytest.mark.parametrize("wanted", [Flaw("ParseError", "line 3: ..."), Flaw("TooLarge", "is larger than 200 KiB")])
def test_what_cannot_be_a_revision_changes_nothing_but_the_condition(wanted: Flaw) -> None:
    """A-REV-6: YAML that cannot be read, or 300 KiB of it."""
    made = world("A")
    made.wanted = wanted
    made.settle()
    assert made.log == ["Status"]
    assert made.condition("DefinitionValid") == ("False", wanted.reason)
    assert made.condition("Available") == ("True", "Serving")
    assert made.condition("Ready") == ("False", wanted.reason)


def test_without_a_config_map_nothing_is_made_and_what_is_active_stays() -> None:
    """A-DEP-6: it is waited for; a workflow that had its revisions serves on meanwhile."""
    fresh = World(wanted=Missing('ConfigMap "flows" is missing'))
    fresh.settle()
    assert fresh.rows == {}
    assert fresh.condition("Ready") == ("Unknown", "ConfigMapNotFound")
    assert fresh.condition("Reconciling") == ("True", "WaitingForDependency")
    made = world("A")
    made.wanted = Missing('ConfigMap "flows" is missing')
    made.settle()
    assert made.log == ["Status"]
    assert made.condition("DefinitionValid") == ("Unknown", "ConfigMapNotFound")
    assert made.condition("Available") == ("True", "Serving")


def test_a_config_map_and_an_inline_definition_are_one_content() -> None:
    """A-REV-11: moving a definition from the spec into a file makes no revision."""
    made = world("A")
    read = desired.read_text(json.dumps({"workflow": definition("A")}))
    assert isinstance(read, Desired)
    made.wanted = read
    made.settle()
    assert made.lineage.latest_number == 1


def test_a_new_way_of_hashing_makes_no_revision_of_what_there_is() -> None:
    """A-REV-1: an upgrade of the operator that hashes differently knows the old hash still."""
    made = world("A")
    read = desired.read(definition("A"))
    assert isinstance(read, Desired)
    row = made.lineage
    old = tuple(replace(each, hash_version=0, content_hash="0" * 64) for each in row.revisions)
    newer = replace(read, hashes={**read.hashes, 0: "0" * 64})
    assert newer.hash_in(replace(row, revisions=old)) == "0" * 64
    assert newer.hash_in(replace(row, revisions=())) == read.hashes[revision.HASH_VERSION]


def test_of_two_that_make_the_next_revision_one_is_told_to_look_again() -> None:
    """A-REV-5: two replicas, one edit: one number, no gap."""
    made = world("A")
    made.edit(spec_of("B"))
    first, second = made.plan(), made.plan()
    made.apply(first.actions[0])
    with pytest.raises(Refused):
        made.apply(second.actions[0])
    made.settle()
    assert made.lineage.latest_number == 2


@pytest.mark.parametrize("after", range(7))
def test_a_crash_anywhere_between_row_and_object_is_made_up_for(after: int) -> None:
    """A-REV-5: after each action of an edit the process may die."""
    made = world("A")
    made.edit(spec_of("B"))
    made.reconcile(crash_after=after)
    made.settle()
    assert numbers(made) == [1, 2]
    assert made.active_images() == [2]
    assert [each.revision for each in made.lineage.deployments] == [2, 1]


@pytest.mark.parametrize("done", range(4))
def test_what_an_older_program_left_half_done_is_taken_up(done: int) -> None:
    """A-REV-5: it wrote row, version and what is active one after the other, and may have ended between any two."""
    made = World()
    made.reconcile(crash_after=1)  # the finalizer is on
    for action in made.plan().actions[:done]:
        made.apply(action)
    made.settle()
    assert [type(each).__name__ for each in made.plan().actions] == []
    assert made.lineage.latest_number == active(made) == 1
    assert made.active_images() == [1]
    assert len(made.rows) == 1


def test_rows_are_one_transaction() -> None:
    """Nobody sees a first version that is not active though nothing is in its way, nor is there a moment to die in between."""
    made = World()
    made.reconcile(crash_after=1)
    (step,) = planning.steps(made.plan().actions)
    assert [type(each).__name__ for each in step] == ["Insert", "InsertRevision", "Take"]


def test_twenty_edits_that_were_all_seen_are_twenty_revisions_and_overtaken_ones_are_never_active() -> None:
    """A-REV-7: in order; those that waited for a Provider are Superseded by the next."""
    made = world("A")
    made.providers = {}
    for number in range(20):
        made.edit(replace_definition({**definition("P"), "consts": {"number": number}}))
        made.settle()
    assert made.lineage.latest_number == 21
    assert made.lineage.active_number == 1
    made.providers = {"vm": VM}
    made.settle()
    assert [each.revision for each in made.lineage.deployments] == [21, 1]


# Objects of revisions ------------------------------------------------------------------------------------------------


def test_a_deleted_object_comes_back_under_its_name() -> None:
    """A-REV-5, A-RET-5: the row is the truth; deleting the active one does not stop anything."""
    made = world("A", "B")
    names = set(made.images)
    made.images.clear()
    made.settle()
    assert set(made.images) == names
    assert made.active_images() == [2]
    assert "Activate" not in made.log


@pytest.mark.parametrize("fields", [{"true": False}, {"owned": False}, {"lineage_id": "another"}, {"number": 2}])
def test_an_object_that_does_not_agree_with_its_row_is_made_again(fields: dict[str, Any]) -> None:
    """A-REV-3: where nothing forbids it a revision was edited or forged by hand; a person is told."""
    made = world("A", "B")
    name = mirror.object_name(NAME, made.lineage.revisions[0])
    made.images[name] = replace(made.images[name], **fields)
    actions = made.plan().actions
    assert [type(each).__name__ for each in actions] == ["DeleteImage", "CreateImage"]
    assert isinstance(actions[0], mirror.DeleteImage) and actions[0].wrong
    made.settle()
    assert numbers(made) == [1, 2]


def test_an_object_that_nobody_made_goes() -> None:
    """A-REV-3: a revision that was made by hand has no row."""
    made = world("A")
    (name,) = made.images
    made.images["mine"] = replace(made.images[name], name="mine", uid="other")
    made.settle()
    assert set(made.images) == {name}


def test_labels_and_status_of_a_revision_are_set_right() -> None:
    """A-TAG-1: tags are a mirror of the database, edits of labels are reverted; nothing of the Workflow is copied."""
    made = world("A", release={"tags": ["production"]})
    (name,) = made.images
    image = made.images[name]
    assert image.labels == {
        "app.kubernetes.io/managed-by": "keep-operator",
        "keep-operator.dev/workflow": NAME,
        "keep-operator.dev/revision": "1",
        "keep-operator.dev/content-hash": image.content_hash[:16],
        "keep-operator.dev/tenant": "keep",
        "tag.keep-operator.dev/production": "",
    }
    assert image.status["tags"] == ["production"]
    mine = {"tag.keep-operator.dev/mine": "", "team": "sre"}
    made.images[name] = replace(image, labels=mine)
    made.settle()
    assert made.images[name].labels == {**image.labels, "team": "sre"}


def test_a_revision_says_what_it_is() -> None:
    """API section 5: reserve, active, invalid, superseded, never active."""
    made = world("A", "P", "b")
    made.providers = {}
    made.edit(spec_of("P"))
    made.settle()

    def told(number: int, kind: str) -> str | None:
        image = next(each for each in made.images.values() if each.number == number)
        return next((each["reason"] for each in image.status["conditions"] if each["type"] == kind), None)

    assert [told(number, "Active") for number in (1, 2, 3, 4)] == ["Reserve", "Active", "Superseded", "NeverActive"]
    assert [told(number, "Ready") for number in (1, 2, 3, 4)] == ["Ready", "Ready", "Invalid", "Ready"]
    assert [told(number, "Valid") for number in (1, 3)] == ["Valid", "SchemaError"]
    assert [told(number, "Approved") for number in (1, 4)] == ["NotRequired", None]


def test_long_names_are_cut_and_stay_distinct() -> None:
    """A Workflow's name may have 253 characters, a label 63."""
    first = world("A").lineage.revisions[0]
    one, other = "a" * 252 + "b", "a" * 252 + "c"
    names = {mirror.object_name(each, first) for each in (one, other)}
    assert len(names) == 2 and all(len(each) <= 253 for each in names)
    labels = mirror.labels(one, world("A").lineage, first)
    assert all(len(value) <= 63 for value in labels.values())


# Active, held, pinned ----------------------------------------------------------------------------------------------


def test_a_rollback_holds_against_whoever_applies_the_same_manifest_again() -> None:
    """A-RB-1: five self-heals later v1 is still active; a rollback adds a deployment, never a version."""
    made = world("A", "B")
    assert roll_back(made) == "Done"
    made.settle()
    for _ in range(5):
        made.generation += 1
        made.settle()
    row = made.lineage
    assert (row.active_number, row.latest_number) == (1, 2)
    assert [each.cause for each in row.deployments] == [Cause.ROLLBACK, Cause.ALL_AT_ONCE, Cause.ALL_AT_ONCE]
    assert made.condition("Deployed") == ("False", "RolledBack")
    assert made.condition("Ready") == ("True", "Ready")
    assert made.condition("Available") == ("True", "Serving")
    assert made.status["hold"]["target"] == 1
    assert made.active_images() == [1]


@pytest.mark.parametrize(("letter", "active"), [("C", 3), ("A", 3)])
def test_a_new_definition_or_a_revert_in_git_ends_the_hold_by_itself(letter: str, active: int) -> None:
    """Section 8: roll forward, or git revert."""
    made = world("A", "B")
    roll_back(made)
    made.settle()
    made.edit(spec_of(letter))
    made.settle()
    assert made.lineage.hold is None and made.lineage.active_number == active
    assert made.lineage.deployments[0].cause is Cause.ALL_AT_ONCE or letter
    assert "hold" not in made.status
    assert made.condition("Deployed") == ("True", "RevisionActive")


def test_a_pin_in_git_is_above_all_and_its_end_leads_back_to_the_definition() -> None:
    """A-RB-6."""
    made = world("A", "B")
    made.edit(spec_of("B", release={"pin": {"revision": 1}}))
    made.settle()
    assert made.lineage.active_number == 1
    assert made.condition("Deployed") == ("True", "Pinned")
    assert roll_back(made) == "Refused"
    made.edit(spec_of("B"))
    made.settle()
    assert made.lineage.active_number == 2


def test_a_pin_to_what_is_not_there_changes_nothing() -> None:
    """A-RB-6: a typo in Git must not stop a workflow."""
    made = world("A", "B")
    made.edit(spec_of("B", release={"pin": {"tag": "no-such"}}))
    made.settle()
    assert made.lineage.active_number == 2
    assert made.condition("Deployed") == ("False", "RevisionNotFound")


def test_manual_waits_for_deploy() -> None:
    """Strategy Manual: the decision makes it active, not the next look."""
    made = world("A")
    made.edit(spec_of("B", release={"strategy": {"type": "Manual"}}))
    made.settle()
    assert made.lineage.active_number == 1
    assert made.condition("Deployed") == ("Unknown", "AwaitingDeploy")
    assert roll_back(made, action="Deploy", revision={"number": 2}) == "Done"
    made.settle()
    assert made.lineage.active_number == 2
    assert made.lineage.deployments[0].cause is Cause.DEPLOY
    assert made.condition("Ready") == ("True", "Ready")


@pytest.mark.parametrize(
    ("release", "policy", "defaults", "deployed"),
    [
        ({"approval": {"required": "Always"}}, None, None, ("Unknown", "AwaitingApproval")),
        ({}, TenantPolicy(approval_floor=Approval(required="Always")), None, ("Unknown", "AwaitingApproval")),
        ({}, None, WorkflowDefaults(approval=Approval(required="Always")), ("Unknown", "AwaitingApproval")),
        ({"checklist": [{"id": "a", "title": "Tell the team"}]}, None, None, ("Unknown", "ChecklistIncomplete")),
    ],
)
def test_gates_stay_shut_until_somebody_opens_them(
    release: dict[str, Any], policy: Any, defaults: Any, deployed: tuple[str, str]
) -> None:
    """A-AP-7, A-AP-8, A-CHK-1: the old one serves on, and deleting the Workflow is no way around the Tenant's floor."""
    made = world("A")
    made.tenant = tenant_sight(policy=policy, defaults=defaults)
    made.edit(spec_of("B", release=release))
    made.settle()
    assert (made.lineage.active_number, made.lineage.latest_number) == (1, 2)
    assert made.condition("Deployed") == deployed
    assert made.condition("Ready") == deployed
    assert made.condition("Available") == ("True", "Serving")
    made.delete()
    made.settle()
    made.create_again()
    made.settle()
    assert made.lineage.active_number is None
    assert made.condition("Available") == ("Unknown", "NoRevisionYet")


def test_ready_when_available_does_not_hang_on_a_person() -> None:
    """A-GO-8: Ready as long as an earlier revision serves; Deployed tells the truth."""
    made = world("A")
    release = {"approval": {"required": "Always"}, "readyWhen": "Available"}
    made.edit(spec_of("B", release=release))
    made.settle()
    assert made.condition("Ready") == ("True", "Ready")
    assert made.condition("Approved") == ("Unknown", "AwaitingApproval")
    assert made.condition("Deployed") == ("Unknown", "AwaitingApproval")
    fresh = World(spec=spec_of("A", release=release))
    fresh.settle()
    assert fresh.condition("Ready") == ("Unknown", "NoRevisionYet")


# Providers, Tenant ---------------------------------------------------------------------------------------------------


def test_a_workflow_waits_for_its_providers_and_names_them() -> None:
    """A-DEP-7: recorded, not active; goes on by itself, and with dependencyPolicy Warn at once."""
    made = World(spec=spec_of("P"))
    made.settle()
    assert made.lineage.latest_number == 1
    assert active(made) is None
    assert made.condition("ProvidersReady") == ("Unknown", "ProvidersNotReady")
    ready = next(each for each in made.status["conditions"] if each["type"] == "Ready")
    assert ready["message"] == "Waiting for Provider vm"
    assert made.condition("Reconciling") == ("True", "WaitingForDependency")
    hurried = World(spec=spec_of("P", dependencyPolicy="Warn"))
    hurried.settle()
    assert hurried.lineage.active_number == 1
    assert hurried.condition("ProvidersReady") == ("True", "ProvidersIgnored")
    made.providers = {"vm": VM}
    made.settle()
    assert active(made) == 1
    assert made.condition("Ready") == ("True", "Ready")


def test_a_provider_that_does_not_come_is_reported_after_the_deadline() -> None:
    """A-DEP-4: Stalled, and it still recovers by itself."""
    made = World(spec=spec_of("P"))
    plan = made.settle()
    assert plan.wake_in == timedelta(seconds=600)
    made.now += timedelta(seconds=600)
    made.settle()
    assert made.condition("Stalled") == ("True", "ProgressDeadlineExceeded")
    made.providers = {"vm": VM}
    made.settle()
    assert made.condition("Ready") == ("True", "Ready")


def test_waiting_for_people_is_not_counted() -> None:
    """A-DEP-4: approval and Deploy have no deadline."""
    made = World(spec=spec_of("A", release={"strategy": {"type": "Manual"}}))
    assert made.settle().wake_in is None
    made.pass_time(100)
    made.settle()
    assert made.condition("Ready") == ("Unknown", "AwaitingDeploy")


def test_a_provider_that_flaps_leaves_its_workflows_alone() -> None:
    """A-DEP-8: what is active already needs a Provider that serves, not one that is Ready at this moment."""
    made = world("P")
    made.providers = {"vm": replace(VM, ready=False)}
    made.settle()
    assert made.log == []
    made.edit(replace_definition({**definition("P"), "consts": {"limit": 80}}))
    made.settle()
    assert made.condition("ProvidersReady") == ("Unknown", "ProvidersNotReady")
    assert made.lineage.active_number == 1


def test_a_pruned_provider_is_told_and_stops_nothing_else() -> None:
    """A-GO-5: the Workflow shows ProvidersReady, keeps its row and its active revision, and can be deleted."""
    made = world("P")
    made.providers = {}
    made.settle()
    assert made.condition("ProvidersReady") == ("Unknown", "ProvidersNotReady")
    assert made.condition("Available") == ("False", "ActiveRevisionBroken")
    assert made.lineage.active_number == 1
    made.delete()
    made.settle()
    assert made.gone


def test_a_provider_of_another_type_is_a_fault_of_the_spec() -> None:
    """The step's type is not the Provider's: waiting would not heal it."""
    made = World(spec=spec_of("P"), providers={"vm": replace(VM, type="prometheus")})
    made.settle()
    assert made.condition("ProvidersReady") == ("False", "ProviderTypeMismatch")
    assert made.lineage.active_number is None


def test_neither_pin_nor_rollback_wait_for_the_providers_of_the_definition() -> None:
    """An incident: the way back is free though the new version waits."""
    made = world("A", "B")
    made.providers = {}
    made.edit(spec_of("P", release={"pin": {"revision": 1}}))
    made.settle()
    assert made.lineage.active_number == 1


def test_without_a_tenant_nothing_is_made() -> None:
    """A-DEP-2: no row, no metadata, and the reason."""
    made = World(tenant=None)
    made.settle()
    assert made.log == ["Status"] and made.rows == {}
    assert made.condition("TenantReady") == ("Unknown", "TenantNotFound")
    made.tenant = tenant_sight()
    made.settle()
    assert made.condition("Ready") == ("True", "Ready")


def test_a_passing_loss_of_the_tenants_readiness_changes_nothing() -> None:
    """A-DEP-8: the row, its ids and its revisions stay, and the Workflow is available."""
    made = world("A")
    made.tenant = tenant_sight(ready=False)
    made.settle()
    assert made.log == []
    made.tenant = tenant_sight(ready=False, serving=False)
    made.settle()
    assert made.log == ["Status"]
    assert made.condition("Ready") == ("Unknown", "TenantNotReady")
    assert made.condition("Available") == ("True", "Serving")
    assert made.status["workflowId"] == str(made.lineage.id)


def test_a_database_outage_takes_nothing_from_the_status() -> None:
    """A-DEP-8: Ready is Unknown, the Workflow stays available, ids and pointers stay."""
    made = world("A")
    outage = planning.failed(
        made.object, KeepOperatorError("DatabaseUnavailable", "It is away"), workflow.LIVING, made.now
    )
    assert outage.status is not None
    told = {each["type"]: each["status"] for each in outage.status["conditions"]}
    assert (told["Ready"], told["Synced"], told["Available"]) == ("Unknown", "Unknown", "True")
    assert outage.status["activeRevision"] == made.status["activeRevision"]


# The row -----------------------------------------------------------------------------------------------------------


def test_suspend_stops_runs_and_writes_and_nothing_else() -> None:
    """A-GC-6: the row says so at once; an edit waits; deletion is honoured."""
    made = world("A")
    made.edit(spec_of("A", suspend=True))
    made.settle()
    assert made.log == ["Update", "Status"]
    assert suspended(made) is True
    assert made.condition("Suspended") == ("True", "Suspended")
    assert made.condition("Available") == ("False", "Suspended")
    made.edit(spec_of("B", suspend=True))
    made.settle()
    assert made.lineage.latest_number == 1
    made.edit(spec_of("B"))
    made.settle()
    assert made.lineage.latest_number == 2
    assert suspended(made) is False
    made.edit(spec_of("B", suspend=True))
    made.delete()
    made.settle()
    assert made.gone


UNREAD = pytest.mark.parametrize(
    "wanted", [Flaw("ParseError", "line 3: is not YAML"), Missing("Waiting for ConfigMap flows")]
)


@UNREAD
def test_a_definition_that_cannot_be_read_stops_nothing_else(wanted: Flaw | Missing) -> None:
    """In the middle of an incident: a rollback is carried out, told, and stays in force; objects of versions are healed."""
    made = world("A", "B")
    made.wanted = wanted
    made.settle()
    assert made.condition("Deployed") == made.condition("DefinitionValid")
    assert active(made) == 2
    made.images.clear()
    assert roll_back(made) == "Done"
    made.settle()
    assert (active(made), made.status["activeRevision"]["number"], made.active_images()) == (1, 1, [1])
    assert made.condition("Deployed") == ("False", "RolledBack")
    assert numbers(made) == [1, 2]
    assert made.lineage.hold is not None


@UNREAD
def test_a_pin_holds_while_the_definition_cannot_be_read(wanted: Flaw | Missing) -> None:
    """A rollback by Git needs no readable definition."""
    made = world("A", "B")
    made.wanted = wanted
    made.edit(spec_of("B", release={"pin": {"revision": 1}}))
    made.settle()
    assert (active(made), made.condition("Deployed")) == (1, ("True", "Pinned"))


def test_what_is_active_is_told_while_suspended() -> None:
    """A decision may move it, and whoever looks at the Workflow must see that, though an edit waits."""
    made = world("A", "B")
    made.edit(spec_of("C", suspend=True))
    made.settle()
    roll_back(made)
    made.settle()
    assert made.condition("Ready") == ("Unknown", "Suspended")
    assert made.status["activeRevision"]["number"] == active(made) == 1


@pytest.mark.parametrize("wanted", [Flaw("ParseError", "line 3"), Missing("gone")])
def test_a_workflow_whose_definition_is_broken_can_be_suspended(wanted: Any) -> None:
    """In an incident stopping must always work; what people read of it stays as it was."""
    made = world("A")
    presentation = made.lineage.settings["presentation"]
    made.wanted = wanted
    made.edit(spec_of("A", suspend=True))
    made.settle()
    assert made.lineage.suspended and made.lineage.settings["presentation"] == presentation


def test_a_rename_keeps_the_lineage() -> None:
    """A-GC-3: externalName changed in place."""
    made = world("A", "B")
    known = made.lineage
    made.edit(spec_of("B", externalName="cpu"))
    made.settle()
    assert (made.lineage.id, made.lineage.latest_number) == (known.id, 2)
    assert made.lineage.external_name == "cpu"
    assert made.log == ["Update", "Status"]


def test_drift_is_corrected_or_told() -> None:
    """A-DR-1: by driftPolicy, with the names of the fields."""
    made = world("A")
    made.rows[made.lineage.id] = replace(made.lineage, external_name="mine")
    made.settle()
    assert "Correct" in made.log and made.lineage.external_name == NAME
    assert made.condition("Synced") == ("True", "DriftCorrected")
    made.edit(spec_of("A", driftPolicy="Report"))
    made.settle()
    made.rows[made.lineage.id] = replace(made.lineage, suspended=True)
    made.settle()
    assert made.condition("Synced") == ("False", "DriftDetected")
    assert made.lineage.suspended


def test_what_is_active_cannot_be_moved_behind_our_back() -> None:
    """A-DR-1: a pointer that was set by SQL is set right by the next look, and the deployment says so."""
    made = world("A", "B")
    made.rows[made.lineage.id] = replace(made.lineage, active_number=1)
    made.settle()
    assert made.lineage.active_number == 2
    assert made.log == ["Activate", "PatchImage", "PatchImage", "Status"] or "Activate" in made.log


def test_deleted_and_made_again_is_another_lineage() -> None:
    """A-REV-8: the old history stays in the database and is not shown."""
    made = world("A", "B")
    old = made.lineage.id
    made.delete()
    made.settle()
    assert made.gone and made.rows[old].deleted_at is not None
    made.create_again()
    made.settle()
    assert made.lineage.id != old and made.lineage.latest_number == 1


def test_an_orphan_comes_back_by_adoption_only_and_with_its_history() -> None:
    """A-REV-8, A-AD-2: its id, its numbers, its objects."""
    made = world("A", "B", deletionPolicy="Orphan")
    old = made.lineage.id
    made.delete()
    made.settle()
    made.create_again()
    made.settle()
    assert made.condition("Synced") == ("False", "ExternalResourceExists")
    made.edit(spec_of("B", adoptionPolicy="IfUnowned"))
    made.settle()
    assert (made.lineage.id, made.lineage.latest_number) == (old, 2)
    assert made.condition("Synced") == ("True", "Adopted")
    assert numbers(made) == [1, 2]


def test_a_restored_object_gets_its_history_back() -> None:
    """A-REV-8: same namespace and name, another uid, the old one gone: the same lineage goes on (ledger Reattached)."""
    made = world("A", "B")
    old = made.lineage.id
    made.uid += 1
    made.metadata = planning.SetMetadata((), ())
    made.images = {}
    made.status = {}
    made.settle()
    assert made.lineage.id == old
    assert "HandOver" in made.log
    assert made.condition("Synced") == ("True", "HandedOver")
    assert numbers(made) == [1, 2]


def test_the_record_passes_to_another_object_that_asks_for_the_name() -> None:
    """A-GC-3: renamed in Git with the same externalName: the lineage goes on, whatever the deletion policy."""
    made = world("A")
    key = Key("Workflow", "monitoring", "cpu")
    made.heirs = (
        Claim(key, "uid-9", made.now, "", ready_to_own=True, can_own=True, has_record=False, tenant_id="keep"),
    )
    made.delete()
    made.settle()
    (row,) = made.rows.values()
    assert row.owner == Owner(CLUSTER, "monitoring", "cpu", "uid-9") and row.deleted_at is None
    assert made.gone
    waiting = world("A")
    waiting.heirs = (replace(made.heirs[0], ready_to_own=False),)
    waiting.delete()
    plan = waiting.settle()
    assert not waiting.gone and plan.wake_in == workflow.DELETION_RECHECK
    assert waiting.condition("Deleting") == ("True", "Finalizing")


def test_two_objects_that_claim_one_name_are_told() -> None:
    """A-CF-1: the second waits, since it may be half of a rename."""
    made = World()
    made.settle()
    holder = replace(made.lineage, owner=Owner(CLUSTER, "monitoring", "older", "uid-0"))
    seen = replace(made.observe(), own=None, holder=holder, holder_state=HolderState.LIVE, images=())
    seen = replace(seen, object=replace(seen.object, status={}))
    status = workflow.plan(seen, made.now).status
    assert status is not None
    synced = next(each for each in status["conditions"] if each["type"] == "Synced")
    assert (synced["status"], synced["reason"]) == ("Unknown", "ExternalNameConflict")


def test_an_object_that_never_had_a_row_goes_at_once() -> None:
    """A-GC-1: nothing of ours is in the database, so nothing is deleted there."""
    made = World(tenant=tenant_sight(ready=False))
    made.settle()
    assert made.rows == {} and workflow.FINALIZER in made.metadata.finalizers
    made.delete()
    made.settle()
    assert made.gone


def test_a_spec_that_breaks_a_rule_changes_nothing() -> None:
    """The recorded state stays in force until the spec is mended."""
    made = world("A")
    made.edit(Invalid((Violation("spec.definition", "is needed"),)))
    made.settle()
    assert made.log == ["Status"]
    assert made.condition("Ready") == ("False", "SpecRefused")
    assert made.lineage.active_number == 1


# The database behind -----------------------------------------------------------------------------------------------


def restored(made: World, number: int) -> None:
    """The database is as it was at this number."""
    row = made.lineage
    made.rows[row.id] = replace(
        row,
        latest_number=number,
        active_number=number,
        revisions=row.revisions[:number],
        deployments=row.deployments[-number:],
        hold=None,
    )


@pytest.mark.parametrize("told_by", ["status", "objects"])
def test_a_database_that_is_behind_is_not_written_to_and_no_object_goes(told_by: str) -> None:
    """A-REV-13: restored to version 2 under a cluster that has seen 3: no second 3, no object deleted."""
    made = world("A", "B", "C")
    restored(made, 2)
    if told_by == "status":
        made.images = {name: image for name, image in made.images.items() if image.number < 3}
    else:
        made.status = {key: value for key, value in made.status.items() if key != "latestCreatedRevision"}
    before = dict(made.images)
    made.edit(spec_of("D"))
    made.settle()
    assert made.condition("Synced") == ("False", "DatabaseBehind")
    assert made.lineage.latest_number == 2
    assert set(made.images) == set(before)
    assert made.log == ["Status"]
    assert "recover" in next(each for each in made.status["conditions"] if each["type"] == "Synced")["message"]


def test_a_database_without_the_lineage_is_not_written_to() -> None:
    """A-REV-13: an object that had an id makes no second lineage, nor one whose revisions still stand there."""
    made = world("A")
    made.rows.clear()
    made.settle()
    assert made.condition("Synced") == ("False", "DatabaseBehind") and made.rows == {}
    forgetful = world("A")
    forgetful.rows.clear()
    forgetful.status = {}
    forgetful.settle()
    assert forgetful.condition("Synced") == ("False", "DatabaseBehind") and forgetful.rows == {}


# Retention ----------------------------------------------------------------------------------------------------------


def test_what_nobody_needs_is_archived_and_comes_back_with_a_rollback() -> None:
    """A-RET-3: the object goes, the row stays; a rollback brings back the same name, number and hash."""
    made = world("A", "B", "C", revisionHistoryLimit=0)
    name = mirror.object_name(NAME, made.lineage.revisions[0])
    made.pass_time(100)
    made.settle()
    assert numbers(made) == [3]
    assert made.condition("Synced") == ("True", "Archived")
    assert [each.archived_at is None for each in made.lineage.revisions] == [False, False, True]
    assert roll_back(made, revision={"number": 1}) == "Done"
    made.settle()
    assert name in made.images and made.active_images() == [1]
    assert numbers(made) == [1, 3]


def test_the_next_one_that_time_will_let_go_is_looked_at_in_time() -> None:
    """A-RET-4: no edit is needed for old revisions to go."""
    made = world("A", "B", revisionHistoryLimit=0)
    assert made.settle().wake_in == timedelta(hours=48)


def test_hundreds_that_may_go_at_once_go_in_batches() -> None:
    """A-RET-4: a limit that was lowered does not hold up the operator."""
    made = world("A", "B", revisionHistoryLimit=0)
    row = made.lineage
    many = tuple(
        replace(row.revisions[0], number=number, parent_number=number - 1 or None, content_hash=f"{number:064}")
        for number in range(1, 251)
    )
    last = replace(row.revisions[1], number=251, parent_number=250)
    rows: Lineage = replace(row, revisions=(*many, last), latest_number=251, active_number=251)
    rows = replace(rows, deployments=(replace(row.deployments[0], revision=251),))
    rows = replace(rows, checksum=history.checksum(rows))
    made.rows[row.id] = rows
    contents = {(row.id, number): made.contents[row.id, 1] for number in range(1, 251)}
    made.contents = {**contents, (row.id, 251): made.contents[row.id, 2]}
    made.images, made.status = {}, {}
    made.pass_time(100)
    first = made.reconcile()
    assert first.wake_in == workflow.ARCHIVE_AGAIN
    assert len(made.images) == 151
    made.settle()
    assert numbers(made) == [251]


# The status -----------------------------------------------------------------------------------------------------------


def test_the_status_tells_the_history_and_stays_small() -> None:
    """A-HIS-5: ten deployments, whatever the database has; pointers name objects."""
    made = world(*"ABABABABABABAB")
    assert len(made.status["history"]) == 10
    assert made.status["history"][0] == {
        "revision": 14,
        "at": "2026-05-01T12:00:00Z",
        "reason": "AllAtOnce",
        "actor": "keep-operator",
    }
    assert made.status["revisionCount"] == 14
    assert made.status["activeRevision"]["name"] in made.images
    assert made.status["source"] == {"tool": "kubectl"}
    assert len(json.dumps(made.status)) < 32 * 1024


def test_at_rest_nothing_is_written() -> None:
    """A-DR-2: a second look at anything that has settled does nothing."""
    for made in (world("A"), world("A", "b"), world("P", "A"), world("A", "B", revisionHistoryLimit=0)):
        made.settle()
        assert made.log == []


def test_a_decision_meets_the_workflow_as_it_is() -> None:
    """What verdict.judge is asked with: the pin, the gates, and what the desired revision waits for."""
    made = world("A", "B")
    made.edit(spec_of("P", release={"pin": {"revision": 1}, "strategy": {"type": "Manual"}}))
    made.providers = {}
    met = workflow.situation(made.observe(), None)
    assert met is not None and met.scene.waits is not None
    assert met.pin == history.Reference(number=1) and met.gates.manual
    assert met.scene.waits.message == "Waiting for Provider vm"
    assert workflow.situation(replace(made.observe(), own=None), None) is None


def test_the_finalizer_and_the_name_are_documented_ones() -> None:
    """API section 1."""
    assert workflow.FINALIZER == "keep-operator.dev/workflow"
    assert str(KEY) == f"Workflow monitoring/{NAME}"
    assert UUID(int=1) == world("A").lineage.id


def test_how_many_runs_are_under_way_is_told_seldom() -> None:
    """At once where there were none or are none any more, else once a minute; nothing where there never was one."""
    made = World()
    made.settle()
    assert "runs" not in made.status
    made.runs(v1=2)
    made.settle()
    assert made.status["runs"] == {"running": 2}
    made.runs_told_at = made.now
    made.runs(v1=2, v2=3)
    made.now += timedelta(seconds=20)
    assert made.settle().wake_in == timedelta(seconds=40)
    assert made.status["runs"] == {"running": 2}
    made.now += timedelta(seconds=40)
    made.settle()
    assert made.status["runs"] == {"running": 5}
    made.runs_told_at = made.now
    made.runs()
    made.settle()
    assert made.status["runs"] == {"running": 0}


def test_a_run_that_comes_or_goes_is_no_other_lineage() -> None:
    """A decision is not judged anew because of a run, however many there are in a second."""
    made = World()
    made.settle()
    before = made.lineage
    made.runs(v1=1)
    assert made.lineage == before and made.lineage.intact


def deleting(**fields: Any) -> World:
    """A Workflow that is deleted while runs are under way."""
    made = World(spec=spec_of(**fields))
    made.settle()
    made.runs(v1=2)
    made.delete()
    return made


def test_a_deletion_waits_for_runs() -> None:
    """It takes no new ones, says what it waits for, without an Event, and goes when they have ended."""
    made = deleting(deletionGraceSeconds=600)
    before = made.status
    made.reconcile()
    assert made.lineage.suspended
    assert made.condition("Deleting") == ("True", "DrainingRuns")
    assert planning.announce(before, made.status) is None
    made.runs()
    made.reconcile()
    assert made.gone and "CancelRuns" not in made.log


@pytest.mark.parametrize("grace", [0, 60])
def test_a_deletion_waits_for_its_time_only(grace: int) -> None:
    """After `deletionGraceSeconds` the rest is cancelled in the transaction that marks the row deleted."""
    made = deleting(deletionGraceSeconds=grace)
    made.now += timedelta(seconds=grace)
    made.reconcile()
    assert made.gone
    assert [each for each in made.log if each in ("CancelRuns", "Delete")] == ["CancelRuns", "Delete"]


def test_a_row_that_stays_goes_on_running() -> None:
    """`deletionPolicy: Orphan` leaves the record as it is, with its runs."""
    made = deleting(deletionPolicy="Orphan")
    made.reconcile()
    assert made.gone and "CancelRuns" not in made.log
    (row,) = made.rows.values()
    assert (row.suspended, dict(row.running)) == (False, {1: 2})


def test_a_deletion_that_dies_in_between_ends_alike() -> None:
    """Whoever is killed at whichever step of a deletion with runs, the next one comes to the same end."""
    for steps in range(5):
        made = deleting(deletionGraceSeconds=30)
        made.reconcile(crash_after=steps)
        made.now += timedelta(seconds=30)
        made.reconcile(crash_after=steps)
        made.reconcile()
        assert made.gone
        (row,) = made.rows.values()
        assert row.deleted_at is not None and not row.running
