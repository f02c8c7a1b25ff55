"""What becomes of one run that was asked for by an object."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import planning, run
from keep_operator.domain.execution import Run, State
from keep_operator.domain.gates import Gates, Rule
from keep_operator.domain.history import Refusal
from keep_operator.domain.links import Links
from keep_operator.domain.planning import Plan, SetMetadata
from keep_operator.domain.run import Cancel, Expire, Observed, Part, Request, Sight
from keep_operator.errors import KeepOperatorError, Refused, Unavailable, Waiting
from keep_operator.resources import run as reader
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import Object
from keep_operator.resources.parts import ChecklistItem
from keep_operator.resources.rules import Reported
from keep_operator.resources.run import WorkflowRunSpec, WorkflowRunStatus
from keep_operator.resources.shapes import Invalid, Violation
from keep_operator.resources.workflow import RunHistory
from unit.lineages import hash_of, lineage

NOW = datetime(2026, 5, 1, 18, 0, tzinfo=UTC)
KEY = Key("WorkflowRun", "monitoring", "high-cpu-1")
UID = "uid-of-run"
WORKFLOW_UID = "uid-1"
OWNER: dict[str, Any] = {
    "apiVersion": "keep-operator.dev/v1alpha1",
    "kind": "Workflow",
    "name": "high-cpu",
    "uid": WORKFLOW_UID,
    "controller": True,
    "blockOwnerDeletion": False,
}
HISTORY = lineage("ABc", "1 2")
THERE = Sight(WORKFLOW_UID, HISTORY)
ROW = Run(
    id=UUID(int=7),
    tenant_id="keep",
    workflow_id=HISTORY.id,
    revision=2,
    content_hash=hash_of("B"),
    selection="Active",
    trigger="Manual",
    mode="Live",
    state=State.QUEUED,
    reason=None,
    message=None,
    requested_by="ann",
    queued_at=NOW,
)


def spec_of(**fields: Any) -> WorkflowRunSpec:
    """A run of `high-cpu`; a bare number names a revision."""
    revision = fields.get("revision")
    if isinstance(revision, int):
        fields["revision"] = {"number": revision}
    found = reader.parse_spec({"workflowRef": {"name": "high-cpu"}, **fields})
    assert isinstance(found, WorkflowRunSpec), found
    return found


def thing(
    spec: WorkflowRunSpec | Invalid | None = None, *, held: bool = True, **fields: Any
) -> Object[WorkflowRunSpec]:
    """The object, with finalizer and owner unless it is not ``held``."""
    given: dict[str, Any] = {
        "key": KEY,
        "uid": UID,
        "resource_version": "1",
        "generation": 1,
        "created_at": NOW,
        "deleted_at": None,
        "finalizers": (run.FINALIZER,) if held else (),
        "owners": (OWNER,) if held else (),
        "annotations": {},
        "spec": spec or spec_of(),
        "status": {},
    }
    return Object(**(given | fields))


def plan(obj: Object[WorkflowRunSpec], now: datetime = NOW, **seen: Any) -> Plan[Any]:
    """What to do next, with the Workflow there unless it is said otherwise."""
    return run.plan(Observed(obj, **({"workflow": THERE} | seen)), now)


def told(made: Plan[Any]) -> dict[str, tuple[str, str]]:
    """The conditions that a plan reports."""
    assert made.status is not None, made
    return {each["type"]: (each["status"], each["reason"]) for each in made.status["conditions"]}


def message(made: Plan[Any], kind: str = "Succeeded") -> str:
    """What a condition says."""
    assert made.status is not None
    found: str = next(each["message"] for each in made.status["conditions"] if each["type"] == kind)
    return found


def after(obj: Object[WorkflowRunSpec], made: Plan[Any], **fields: Any) -> Object[WorkflowRunSpec]:
    """The object once the status is written."""
    assert made.status is not None
    return replace(obj, status=made.status, **fields)


def refused(reason: str) -> dict[str, tuple[str, str]]:
    """How a run looks that never starts."""
    return {"Accepted": ("False", reason), "Succeeded": ("False", reason)}


def waits(reason: str) -> dict[str, tuple[str, str]]:
    """How a run looks that is not accepted yet."""
    return {"Accepted": ("Unknown", reason), "Succeeded": ("Unknown", reason)}


def test_the_finalizer_comes_before_the_row() -> None:
    """Finalizer and owner in one patch; only then is anything asked of the database."""
    made = plan(thing(held=False))
    assert made.actions == (SetMetadata((run.FINALIZER,), (OWNER,)),)
    (request,) = plan(thing()).actions
    assert isinstance(request, Request)
    assert (request.reference, request.idempotency_key, request.timeout) == (None, UID, timedelta(hours=1))
    assert (request.trigger, request.mode, request.inputs) == ("Manual", "Live", None)


def test_a_run_that_argo_cd_tracks_gets_no_owner() -> None:
    """It would not be pruned else; one that has an owner loses it."""
    made = plan(thing(held=False), referenced=False)
    assert made.actions == (SetMetadata((run.FINALIZER,), ()),)
    assert plan(thing(), referenced=False).actions == (SetMetadata((run.FINALIZER,), ()),)


def test_a_stale_owner_is_replaced_and_a_foreign_controller_stays() -> None:
    """A Workflow that was made again, and a controller of the user's own: an object has one controller at most."""
    stale = OWNER | {"uid": "old"}
    assert plan(thing(owners=(stale,))).actions == (SetMetadata((run.FINALIZER,), (OWNER,)),)
    job = {"apiVersion": "batch/v1", "kind": "Job", "name": "ci", "uid": "job", "controller": True}
    made = plan(thing(owners=(job,))).actions
    assert made == (SetMetadata((run.FINALIZER,), (job, OWNER | {"controller": False})),)


@pytest.mark.parametrize(
    ("spec", "sight", "reason"),
    [
        (spec_of(revision=9), THERE, "RevisionNotFound"),
        (spec_of(revision={"tag": "gone"}), THERE, "RevisionNotFound"),
        (spec_of(revision={"contentHash": hash_of("Z")}), THERE, "RevisionNotFound"),
        (spec_of(revision=3), THERE, "RevisionInvalid"),
        (
            spec_of(revision=1),
            Sight(WORKFLOW_UID, lineage("AB", "1 2", change={1: {"denied": "DeniedByPeer"}})),
            "RevisionNotApproved",
        ),
        (
            spec_of(revision=1),
            Sight(WORKFLOW_UID, lineage("AB", "1 2", change={1: {"rejected": "RejectedByUser"}})),
            "RevisionNotApproved",
        ),
        (
            spec_of(revision=2),
            Sight(WORKFLOW_UID, lineage("AB", "1"), Gates(approval=Rule("Always"))),
            "RevisionNotApproved",
        ),
        (spec_of(), replace(THERE, suspended=True), "Suspended"),
        (spec_of(), Sight(WORKFLOW_UID, lineage("A", "1", suspended=True)), "Suspended"),
        (spec_of(), replace(THERE, runtime="keep"), "RuntimeUnsupported"),
        (spec_of(cancel=True), THERE, "Cancelled"),
        (spec_of(retryOf={"name": "gone"}), THERE, "RevisionNotFound"),
        (Invalid((Violation("spec.timeout", "timeout must be at least 1s"),)), THERE, "SpecRefused"),
    ],
)
def test_what_may_not_run_never_starts(spec: Any, sight: Sight, reason: str) -> None:
    """A-RUN-5: it ends with its reason, without a row, without a finalizer, and is not looked at again but to go."""
    obj = thing(spec, held=False)
    made = plan(obj, workflow=sight)
    assert told(made) == refused(reason)
    assert made.status is not None and made.status["completedAt"] == "2026-05-01T18:00:00Z"
    assert made.status["state"] == ("Cancelled" if reason == "Cancelled" else "Failed")
    assert planning.announce({}, made.status) == planning.Announcement(True, reason, message(made))
    again = plan(after(obj, made), NOW + timedelta(minutes=1), workflow=sight)
    assert (again.status, again.actions) == (None, ())


TRIED = ChecklistItem(id="tried", title="Tried ten times")


def test_a_version_may_be_tried_before_it_is_active() -> None:
    """A dry run of a version that waits for its Deploy, or with a gate that was passed by an older one."""
    waiting = Sight(WORKFLOW_UID, lineage("AB", "1"), Gates(manual=True, checklist=(TRIED,)))
    (request,) = plan(thing(spec_of(revision=2, mode="DryRun")), workflow=waiting).actions
    assert isinstance(request, Request) and request.reference is not None and request.reference.number == 2
    gated = Sight(WORKFLOW_UID, HISTORY, Gates(approval=Rule("Always")))
    assert isinstance(plan(thing(), workflow=gated).actions[0], Request)


def test_the_database_has_the_last_word() -> None:
    """What the transaction refused is told as it says, though the look before found nothing against it."""
    made = plan(thing(), refused=Refusal("ConcurrencyForbidden", "Run 6 is under way"))
    assert told(made) == refused("ConcurrencyForbidden")


def test_a_database_that_is_behind_starts_nothing() -> None:
    """A-REV-13: which version is active is not known for sure."""
    made = plan(thing(held=False), workflow=replace(THERE, behind="There has been v3"))
    assert told(made) == waits("DatabaseBehind")


def test_a_version_that_was_never_active_needs_no_word_where_nobody_has_to_approve() -> None:
    """The transaction, which knows no gates, is told so."""
    for approval, unreleased in (("Never", True), ("Always", False)):
        (request,) = plan(thing(), workflow=Sight(WORKFLOW_UID, HISTORY, Gates(approval=Rule(approval)))).actions
        assert isinstance(request, Request) and request.unreleased is unreleased


def test_a_run_before_its_workflow_waits_ten_minutes() -> None:
    """In one `kubectl apply` the order does not matter; a misspelt name is told in the end."""
    obj = thing(held=False)
    made = plan(obj, workflow=None)
    assert (told(made), made.wake_in) == (waits("WorkflowNotFound"), run.PATIENCE)
    assert made.status is not None and made.status["state"] == "Pending"
    assert planning.announce({}, made.status) is None
    waiting = after(obj, made)
    again = plan(waiting, NOW + timedelta(minutes=4), workflow=None)
    assert again.status == made.status and again.wake_in == timedelta(minutes=6)
    assert told(plan(waiting, NOW + run.PATIENCE, workflow=None)) == refused("WorkflowNotFound")
    assert isinstance(plan(replace(thing(), status=waiting.status)).actions[0], Request)


def test_a_run_before_the_first_version_waits_ten_minutes() -> None:
    """A Workflow that waits for its Providers: the run starts with its first version, or is refused."""
    young = Sight(WORKFLOW_UID, lineage("A", ""))
    made = plan(thing(held=False), workflow=young)
    assert told(made) == waits("NoRevisionYet")
    late = plan(thing(held=False), NOW + run.PATIENCE, workflow=young)
    assert told(late) == refused("RevisionNotFound")


@pytest.mark.parametrize("sight", [Sight(WORKFLOW_UID), replace(THERE, waits='Waiting for Tenant "team" to be Ready')])
def test_a_run_waits_for_the_tenant_as_everything_does(sight: Sight) -> None:
    """For as long as it takes, and without a timer: the Workflow's next step wakes it (A-DEP-2)."""
    made = plan(thing(held=False), NOW + timedelta(days=1), workflow=sight)
    assert (told(made), made.wake_in) == (waits("WaitingForTenant"), None)


def test_a_new_definition_has_its_version_first() -> None:
    """An edit and a run in the same second: the run is one of the new version."""
    made = plan(thing(), workflow=replace(THERE, looked_at=False))
    assert (made.actions, made.status, made.wake_in) == ((), None, run.WORKFLOW_FIRST)
    assert isinstance(plan(thing(), NOW + run.PATIENCE, workflow=replace(THERE, looked_at=False)).actions[0], Request)


def test_what_comes_from_a_backup_does_not_run() -> None:
    """A-RUN-9: a label of a backup tool and no status; with a row of its own it is shown as it is."""
    made = plan(thing(held=False), restored=True)
    assert told(made) == refused("RestoredFromBackup")
    assert told(plan(thing(), restored=True, row=ROW))["Accepted"] == ("True", "Accepted")


def test_an_older_dump_starts_nothing_twice() -> None:
    """A-REV-13: it has run, or may have; it waits for a person, and can be deleted."""
    lost = thing(status={"executionId": str(ROW.id), "conditions": []})
    made = plan(lost)
    assert told(made) == {"Accepted": ("True", "Accepted"), "Succeeded": ("Unknown", "DatabaseBehind")}
    assert "DatabaseBehind" in planning.RECHECKED
    assert plan(replace(lost, deleted_at=NOW)).actions == (SetMetadata((), (OWNER,)),)


def test_a_retry_keeps_the_version() -> None:
    """A-RUN-4: another one must be asked for."""
    original = replace(ROW, id=UUID(int=3), revision=1, content_hash=hash_of("A"), state=State("Failed"))
    (request,) = plan(thing(spec_of(retryOf={"name": "high-cpu-0"})), original=original).actions
    assert isinstance(request, Request)
    assert (request.reference, request.retry_of) == (None, original.id)
    (other,) = plan(thing(spec_of(retryOf={"name": "high-cpu-0"}, revision=2)), original=original).actions
    assert isinstance(other, Request) and other.reference is not None
    assert (other.reference.number, other.retry_of) == (2, original.id)


@pytest.mark.parametrize(
    ("row", "succeeded"),
    [
        (ROW, ("Unknown", "Queued")),
        (replace(ROW, state=State("Running"), started_at=NOW, attempt=1), ("Unknown", "Running")),
        (replace(ROW, state=State("Succeeded"), completed_at=NOW), ("True", "Completed")),
        (replace(ROW, state=State("Failed"), reason="StepFailed", completed_at=NOW), ("False", "StepFailed")),
        (
            replace(ROW, state=State("Failed"), reason="ActionNotSupported", completed_at=NOW),
            ("False", "ActionNotSupported"),
        ),
        (replace(ROW, state=State("Failed"), reason="WorkerLost", completed_at=NOW), ("False", "WorkerLost")),
        (replace(ROW, state=State("Failed"), reason="not a reason!", completed_at=NOW), ("False", "StepFailed")),
        (replace(ROW, state=State("Failed"), completed_at=NOW), ("False", "StepFailed")),
        (replace(ROW, state=State("TimedOut"), completed_at=NOW), ("False", "TimedOut")),
        (replace(ROW, state=State("Cancelled"), completed_at=NOW), ("False", "Cancelled")),
    ],
)
def test_the_status_says_what_the_row_says(row: Run, succeeded: tuple[str, str]) -> None:
    """Every state of the record; whoever reads it learns number and hash (A-RUN-10)."""
    made = plan(thing(), row=row, workflow=None)
    ended = succeeded[0] != "Unknown"
    archived = {"Archived": ("True", "Archived")} if ended else {}
    assert told(made) == {"Accepted": ("True", "Accepted"), "Succeeded": succeeded, **archived}
    assert "v2" in message(made) and hash_of("B")[:8] in message(made)
    assert made.status is not None
    assert made.status["revision"] == {
        "number": 2,
        "name": f"high-cpu-v2-{hash_of('B')[:8]}",
        "contentHash": hash_of("B"),
    }
    assert (made.status["executionId"], made.status["selection"]) == (str(row.id), "Active")
    under_way = run.STEPS_EVERY if row.state is State.RUNNING else run.LOOK_AGAIN
    assert made.wake_in == (run.SHOWN_AT_LEAST if ended else under_way)
    again = plan(after(thing(), made), NOW, row=row)
    assert again.actions == () and (again.status is None or again.status == made.status)


def test_the_status_leads_to_the_whole_record() -> None:
    """A link where the console's address is known, from the first status on; without one nothing, and what was written goes."""
    page = f"https://keep.example.com/r/{ROW.id}"
    made = plan(thing(), row=ROW, links=Links("https://keep.example.com"))
    assert made.status is not None and made.status["resultUrl"] == page
    silent = plan(thing(), row=ROW)
    assert silent.status is not None and "resultUrl" not in silent.status
    unset = plan(after(thing(), made), row=ROW)
    assert unset.status is not None and unset.status["resultUrl"] is None
    waits = plan(thing(), workflow=None, links=Links("https://keep.example.com"))
    assert waits.status is not None and "resultUrl" not in waits.status, "there is no record yet"


def test_a_spec_that_was_edited_on_an_old_server_changes_nothing() -> None:
    """The row made at acceptance is the run, be the spec readable or not."""
    broken = Invalid((Violation("spec.timeout", "timeout must be at least 1s"),))
    assert told(plan(thing(broken), row=ROW))["Succeeded"] == ("Unknown", "Queued")
    assert told(plan(thing(spec_of(revision=1)), row=ROW))["Accepted"] == ("True", "Accepted")


def test_the_version_is_set_once() -> None:
    """A record that says otherwise, from whichever dump, does not change what was told."""
    first = plan(thing(), row=ROW)
    other = plan(after(thing(), first), row=replace(ROW, revision=1, content_hash=hash_of("A")))
    assert first.status is not None and other.status is not None
    assert other.status["revision"] == first.status["revision"]


def test_cancel_is_carried_out_once() -> None:
    """What is under way is asked to end; what has ended is not."""
    cancelled = thing(spec_of(cancel=True))
    assert plan(cancelled, row=ROW).actions == (Cancel(ROW),)
    assert plan(cancelled, row=replace(ROW, cancel_requested=True)).actions == ()
    assert plan(cancelled, row=replace(ROW, state=State("Succeeded"), completed_at=NOW)).actions == ()


def test_deletion_leaves_the_run_alone() -> None:
    """A-RUN-8: the finalizer goes, the run goes on; a cancel that was said before is carried out first."""
    gone = replace(thing(), deleted_at=NOW)
    assert plan(gone, row=ROW).actions == (SetMetadata((), (OWNER,)),)
    assert plan(replace(gone, finalizers=()), row=ROW) == Plan()
    both = replace(thing(spec_of(cancel=True)), deleted_at=NOW)
    assert plan(both, row=ROW).actions == (Cancel(ROW),)
    assert plan(both, row=replace(ROW, cancel_requested=True)).actions == (SetMetadata((), (OWNER,)),)
    assert plan(both, row=None).actions == (SetMetadata((), (OWNER,)),)


def test_the_object_goes_in_time() -> None:
    """An hour after its end by default; at once where that is asked for; never what a tool would make again."""
    row = replace(ROW, state=State("Succeeded"), completed_at=NOW)
    done = after(thing(), plan(thing(), row=row))
    assert plan(done, NOW + timedelta(minutes=10)).wake_in == timedelta(minutes=50)
    assert plan(done, NOW + timedelta(hours=1)).actions == (Expire(KEY, UID),)
    short = thing(spec_of(ttlSecondsAfterFinished=0))
    assert plan(after(short, plan(short, row=row))).actions == (Expire(KEY, UID),)
    for tool in ("ArgoCD", "Flux", "Helm"):
        assert plan(replace(done, source={"tool": tool}), NOW + timedelta(days=9)) == Plan()
    assert plan(replace(done, source={"tool": "kubectl"}), NOW + timedelta(hours=1)).actions == (Expire(KEY, UID),)


def test_the_workflows_history_limits_objects() -> None:
    """A-RET-6: it goes sooner where there is no place for it, but whoever waits for its end sees that."""
    done = after(thing(), plan(thing(), row=replace(ROW, state=State("Succeeded"), completed_at=NOW)))
    assert plan(done, NOW, surplus=True).wake_in == run.SHOWN_AT_LEAST
    assert plan(done, NOW + run.SHOWN_AT_LEAST, surplus=True).actions == (Expire(KEY, UID),)


def test_which_runs_have_a_place() -> None:
    """The newest of each outcome stay; what is under way takes no place."""

    def ended(name: str, minutes: int, state: str) -> Object[WorkflowRunSpec]:
        at = NOW + timedelta(minutes=minutes)
        obj = thing(key=replace(KEY, name=name))
        return after(obj, run.plan(Observed(obj, row=replace(ROW, state=State(state), completed_at=at)), at))

    good = [ended(f"good-{n}", n, "Succeeded") for n in range(4)]
    bad = [ended(f"bad-{n}", n, state) for n, state in enumerate(("Failed", "Cancelled", "TimedOut"))]
    kept = RunHistory(successful=2, failed=1)
    left = [each.key.name for each in (*good, *bad) if not run.surplus(each, [*bad, *good], kept)]
    assert left == ["good-2", "good-3", "bad-2"]
    none = RunHistory(successful=0, failed=0)
    assert all(run.surplus(each, [*bad, *good], none) for each in (*good, *bad))


def part(position: int = 0, **fields: Any) -> Part:
    """One record of a step."""
    given: dict[str, Any] = {
        "iteration": -1,
        "try_number": 1,
        "attempt": 1,
        "name": f"step-{position}",
        "state": "Succeeded",
    }
    return Part(position, **(given | {"started_at": NOW, "completed_at": NOW + timedelta(seconds=2)} | fields))


def test_steps_at_a_glance() -> None:
    """One line a step: the worst of its turns, the last of its tries, and why."""
    failed = {"state": "Failed", "message": "no route to host"}
    parts = [
        part(0),
        part(1, **failed),
        part(1, try_number=2, completed_at=NOW + timedelta(seconds=65)),
        part(2, iteration=0),
        part(2, iteration=1, state="Lost"),
        part(2, iteration=1, attempt=2, **failed),
        part(2, iteration=2),
        part(3, state="Skipped", message="if: false"),
        part(4, state="Running", completed_at=None),
    ]
    assert run.summary(reversed(parts)) == [
        {"name": "step-0", "state": "Succeeded", "duration": "2s"},
        {"name": "step-1", "state": "Succeeded", "duration": "1m5s"},
        {"name": "step-2", "state": "Failed", "duration": "2s", "message": "no route to host"},
        {"name": "step-3", "state": "Skipped", "message": "if: false"},
        {"name": "step-4", "state": "Running"},
    ]


def test_a_run_under_way_is_shown_in_few_writes() -> None:
    """Other steps every ten seconds; its beginning and its end at once."""
    running = replace(ROW, state=State("Running"), started_at=NOW, attempt=1)
    first = plan(thing(), row=running, steps_told_at=None)
    obj = after(thing(), first)
    parts = (part(0),)
    early = plan(obj, NOW + timedelta(seconds=4), row=running, parts=parts, steps_told_at=NOW)
    assert early.status == first.status and early.wake_in == timedelta(seconds=6)
    later = plan(obj, NOW + timedelta(seconds=10), row=running, parts=parts, steps_told_at=NOW)
    assert later.status is not None and later.status["steps"] != []
    ended = replace(running, state=State("Failed"), completed_at=NOW, reason="StepFailed")
    at_once = plan(obj, NOW + timedelta(seconds=1), row=ended, parts=parts, steps_told_at=NOW)
    assert at_once.status is not None and at_once.status["steps"] != []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0123, "12ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (59.7, "1m0s"),
        (65, "1m5s"),
        (3600, "1h0m"),
        (9e6, "2500h0m"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Two units at most, and never more than the status takes."""
    assert run.spelt(timedelta(seconds=seconds)) == text


texts = st.text(max_size=400)
moments = st.integers(0, 10**7).map(lambda seconds: NOW + timedelta(seconds=seconds))
parts_ = st.lists(
    st.builds(
        Part,
        position=st.integers(0, 200),
        iteration=st.integers(-1, 3),
        try_number=st.integers(1, 3),
        attempt=st.integers(1, 3),
        name=texts,
        state=st.sampled_from(["Running", "Succeeded", "Failed", "Skipped", "Lost"]),
        started_at=moments,
        completed_at=st.none() | moments,
        message=st.none() | texts,
    ),
    max_size=150,
).map(tuple)
rows = st.builds(
    replace,
    st.just(ROW),
    id=st.uuids(),
    revision=st.integers(1, 9),
    content_hash=st.sampled_from("AB").map(hash_of),
    selection=st.sampled_from(["Pinned", "Active", "Canary"]),
    state=st.sampled_from(State),
    reason=st.none() | texts,
    message=st.none() | texts,
    started_at=st.none() | moments,
    completed_at=st.none() | moments,
    attempt=st.integers(0, 10),
    cancel_requested=st.booleans(),
    provider_config_hashes=st.dictionaries(texts, st.just("0" * 64), max_size=70),
)


def snapshot(status: Mapping[str, Any]) -> reader.Snapshot:
    """The object as its rules see it; fails where the schema would refuse the status."""
    read = reader.parse_status(status)
    assert isinstance(read, WorkflowRunStatus), read
    return Reported(spec_of(), read)


@given(st.lists(st.tuples(rows, parts_), min_size=1, max_size=4), st.lists(st.integers(0, 90), min_size=4, max_size=4))
def test_whatever_the_rows_say_the_server_takes_the_status(
    records: list[tuple[Run, tuple[Part, ...]]], gaps: list[int]
) -> None:
    """No limit of the schema and no rule at the root is broken, whatever is found look after look, in whatever order."""
    obj, now, before = thing(), NOW, snapshot({})
    for (row, parts), gap in zip(records, gaps, strict=False):
        now += timedelta(seconds=gap)
        made = plan(obj, now, row=row, parts=parts, steps_told_at=now)
        if made.status is not None:
            later = snapshot(made.status)
            assert reader.forbidden_changes(before, later) == ()
            obj, before = after(obj, made), later
        assert plan(obj, now, row=row, parts=parts, steps_told_at=now).status in (None, obj.status)


OUTAGE = Unavailable("DatabaseUnavailable", "the control database does not answer")


def fail(obj: Object[WorkflowRunSpec], error: KeepOperatorError) -> Plan[Any]:
    """What is reported of an attempt that ended in an error."""
    return planning.failed(obj, error, run.LIVING, NOW)


def test_an_outage_is_told_and_ends_nothing() -> None:
    """A-CTL-7: before it is accepted, while it runs, and after its end."""
    made = fail(thing(held=False), OUTAGE)
    assert told(made) == waits("DatabaseUnavailable")
    assert told(plan(after(thing(held=False), made), workflow=None)) == waits("WorkflowNotFound")
    running = after(thing(), plan(thing(), row=replace(ROW, state=State("Running"), started_at=NOW)))
    assert told(fail(running, OUTAGE)) == {
        "Accepted": ("True", "Accepted"),
        "Succeeded": ("Unknown", "DatabaseUnavailable"),
    }
    done = after(thing(), plan(thing(), row=replace(ROW, state=State("Succeeded"), completed_at=NOW)))
    assert fail(done, OUTAGE) == Plan()
    dying = fail(replace(running, deleted_at=NOW), OUTAGE)
    assert told(dying)["Deleting"] == ("True", "DatabaseUnavailable")
    assert told(fail(replace(done, deleted_at=NOW), Unavailable("SyncFailed", "x")))["Deleting"] == (
        "True",
        "DeletionFailed",
    )


def test_what_the_database_cannot_take_is_refused_once() -> None:
    """Inputs that cannot be stored: the run never starts. What the API server rejects may be let through later."""
    made = fail(thing(), Refused("SpecRefused", "a value cannot be stored"))
    assert told(made) == refused("SpecRefused")
    assert told(fail(thing(), Refused("ApiRejected", "a policy says no"))) == waits("ApiRejected")
    assert told(fail(thing(), Waiting("TenantNotReady", "no row"))) == waits("WaitingForTenant")
    running = after(thing(), plan(thing(), row=replace(ROW, state=State("Running"), started_at=NOW)))
    assert told(fail(running, Refused("SpecRefused", "x")))["Succeeded"] == ("Unknown", "SpecRefused")


def test_a_release_by_force_needs_the_annotation() -> None:
    """A-GC-7: `force-delete` lets a run go while the database is away."""
    gone = replace(thing(), deleted_at=NOW, annotations={"keep-operator.dev/force-delete": "true"})
    waiting = planning.release_by_force(gone, OUTAGE, run.FINALIZER, timedelta(seconds=60), NOW)
    assert waiting is not None and waiting.wake_in == timedelta(seconds=60)
    late = planning.release_by_force(gone, OUTAGE, run.FINALIZER, timedelta(seconds=60), NOW + timedelta(seconds=60))
    assert late is not None and late.actions == (SetMetadata((), (OWNER,)),)
