"""WorkflowRuns on a whole operator: what one costs, what it shows, and what nobody can make happen twice."""

import itertools
import uuid
from datetime import timedelta

import pytest

from component.rig import runners, scene
from component.rig.process import Operator
from component.rig.rig import Mark, Rig
from keep_operator.domain.binding import Asked
from keep_operator.domain.execution import Reason, Run
from keep_operator.domain.run import FINALIZER, PATIENCE
from keep_operator.resources.kinds import EVENTS, WORKFLOW_REVISIONS, WORKFLOW_RUNS
from keep_operator.store import runs
from manifests import Json, Thing, decision, definition, in_argo_cd, run, tenant, workflow

pytestmark = pytest.mark.component
TEAM = tenant("team")
HELLO = workflow("hello", "default", "team", definition("one"))
RUN = run(HELLO)
REQUESTED = "COMMIT insert run"
NEVER = timedelta(days=1)
CONSOLE = "https://keep.example.com"


async def operate(rig: Rig, *before: Json) -> tuple[Operator, Mark]:
    """An operator at rest over a Workflow that takes runs, and the point from which to count."""
    rig.user.apply(TEAM, HELLO, *before)
    operator = await rig.operate(
        default_tenant="", resync_period=NEVER, decisions_unverified="Record", console_url=CONSOLE
    )
    await rig.user.ready(HELLO)
    await rig.rest()
    return operator, rig.mark()


async def succeeded(rig: Rig, manifest: Json, *wanted: str) -> Thing:
    """The run once `Succeeded` has one of these reasons."""
    return await rig.user.until(
        manifest, lambda thing: thing and (thing.condition("Succeeded") or ("", ""))[1] in wanted, f"one of {wanted}"
    )


def records(rig: Rig) -> list[Json]:
    """All runs that the database has, the oldest first."""
    return rig.database.rows("SELECT * FROM keep_operator.run ORDER BY id")


async def edited(rig: Rig, message: str) -> None:
    """The Workflow once it says this."""
    rig.user.edit(HELLO, definition=definition(message))
    number = rig.user.get(HELLO).raw["metadata"]["generation"]
    await rig.user.until(HELLO, lambda thing: thing.status.get("observedGeneration") == number, "a look")


async def test_what_a_run_costs_and_shows(rig: Rig) -> None:
    """One patch of metadata, one transaction, three of status: queued, running, ended; and all that is known of it."""
    operator, mark = await operate(rig)
    rig.user.apply(RUN)
    told = await succeeded(rig, RUN, "Queued")
    (owner,) = told.raw["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (rig.user.get(HELLO).uid, True)
    assert told.raw["metadata"]["finalizers"] == [FINALIZER]
    assert (told.status["state"], told.condition("Accepted")) == ("Queued", ("True", "Accepted"))
    (run_id,) = runners.waiting(rig)
    taken = await runners.take_up(rig, run_id)
    await succeeded(rig, RUN, "Running")
    await runners.do(rig, taken, "say")
    await runners.end(rig, taken)
    told = await succeeded(rig, RUN, "Completed")
    await rig.rest()
    spent = rig.spent(operator, mark)
    assert spent.pop("PATCH workflows/status", 0) <= 2
    assert spent == {REQUESTED: 1, "PATCH workflowruns": 1, "PATCH workflowruns/status": 3}
    assert told.condition("Archived") == ("True", "Archived")
    active = rig.user.get(HELLO).status["activeRevision"]
    assert told.status["revision"] == {name: active[name] for name in ("number", "name", "contentHash")}
    assert (told.status["executionId"], told.status["selection"]) == (str(run_id), "Active")
    assert told.status["resultUrl"] == f"{CONSOLE}/r/{run_id}"
    assert (told.status["attempt"], told.status["state"]) == (1, "Succeeded")
    assert [(step["name"], step["state"]) for step in told.status["steps"]] == [("say", "Succeeded")]
    (record,) = records(rig)
    assert record["requested_by"] == "WorkflowRun default/run-1"
    assert record["content_hash"] == active["contentHash"]


async def test_at_rest_a_run_costs_nothing(rig: Rig) -> None:
    """Queued, running, or ended, over a restart: no write until something happens."""
    await operate(rig)
    waiting, ended = RUN, run(HELLO, "run-2", ttlSecondsAfterFinished=86_400)
    rig.user.apply(ended)
    await succeeded(rig, ended, "Queued")
    await runners.work(rig)
    rig.user.apply(waiting)
    await succeeded(rig, ended, "Completed")
    await succeeded(rig, waiting, "Queued")
    await rig.rest(120.0)
    await rig.operators[-1].stop()
    operator = await rig.operate(default_tenant="", resync_period=NEVER, console_url=CONSOLE)
    await rig.rest()
    mark = rig.mark()
    await rig.rest(600.0)
    assert rig.spent(operator, mark) == {}
    assert len(records(rig)) == 2


ORDER = list(itertools.permutations((TEAM, HELLO, RUN)))


@pytest.mark.parametrize("order", ORDER, ids=[" ".join(each["kind"] for each in order) for order in ORDER])
async def test_any_order(rig: Rig, order: tuple[Json, ...]) -> None:
    """Tenant, Workflow and run, applied one after the other in whatever order: it starts, once."""
    await rig.operate(default_tenant="", resync_period=NEVER)
    for each in order:
        rig.user.apply(each)
        await rig.rest(5.0)
    await succeeded(rig, RUN, "Queued")
    (record,) = records(rig)
    assert record["revision"] == 1


async def test_a_misspelt_name_is_told_in_the_end(rig: Rig) -> None:
    """Unknown at first, since the Workflow may come; refused after ten minutes, with a Warning Event, and no row."""
    await operate(rig)
    lost = run(workflow("helo", "default"))
    rig.user.apply(lost)
    await rig.user.condition(lost, "Accepted", ("Unknown", "WorkflowNotFound"))
    await rig.rest(PATIENCE.total_seconds())
    told = await rig.user.condition(lost, "Accepted", ("False", "WorkflowNotFound"))
    assert (told.condition("Succeeded"), told.status["state"]) == (("False", "WorkflowNotFound"), "Failed")
    assert "finalizers" not in told.raw["metadata"]
    assert ("Warning", "WorkflowNotFound", "run-1") in rig.user.events()
    assert records(rig) == []


async def test_the_version_is_bound_once(rig: Rig) -> None:
    """A-RUN-2, A-RUN-3: whatever is rolled out and back meanwhile, the run is one of the version that it was accepted with."""
    await operate(rig)
    rig.user.apply(RUN)
    first = await succeeded(rig, RUN, "Queued")
    await edited(rig, "two")
    rig.user.apply(run(HELLO, "run-2"), run(HELLO, "run-3", revision={"number": 1}))
    second = await succeeded(rig, run(HELLO, "run-2"), "Queued")
    third = await succeeded(rig, run(HELLO, "run-3"), "Queued")
    rig.user.apply(decision("Rollback", HELLO))
    await rig.user.until(HELLO, lambda hello: hello.status["activeRevision"]["number"] == 1, "v1")
    await runners.work(rig)
    for told, number, selection in ((first, 1, "Active"), (second, 2, "Active"), (third, 1, "Pinned")):
        done = await succeeded(rig, told.raw, "Completed")
        assert (done.status["revision"], done.status["selection"]) == (told.status["revision"], selection)
        assert done.status["revision"]["number"] == number


async def test_an_edit_and_a_run_in_the_same_moment(rig: Rig) -> None:
    """The definition has its version first: the run is one of the new version, whoever is heard of first."""
    await operate(rig)
    rig.user.apply(RUN)
    rig.user.edit(HELLO, definition=definition("two"))
    told = await succeeded(rig, RUN, "Queued")
    assert told.status["revision"]["number"] == 2


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"revision": {"number": 9}}, "RevisionNotFound"),
        ({"revision": {"tag": "gone"}}, "RevisionNotFound"),
        ({"revision": {"number": 2}}, "RevisionInvalid"),
        ({"cancel": True}, "Cancelled"),
        ({"retryOf": {"name": "never-was"}}, "RevisionNotFound"),
    ],
)
async def test_what_may_not_run(rig: Rig, spec: Json, reason: str) -> None:
    """A-RUN-5: said once, one status write and one Event; no finalizer, no row, and the object can be deleted at once."""
    operator, _ = await operate(rig)
    rig.user.edit(HELLO, definition={"steps": "none"})
    await rig.user.condition(HELLO, "DefinitionValid", ("False", "SchemaError"))
    await rig.rest()
    mark = rig.mark()
    manifest = run(HELLO, **spec)
    rig.user.apply(manifest)
    await succeeded(rig, manifest, reason)
    await rig.rest()
    assert rig.spent(operator, mark) == {"PATCH workflowruns/status": 1, "POST events": 1}
    assert records(rig) == []
    rig.user.delete(manifest)
    assert not rig.user.get(manifest)


async def test_inputs_that_the_version_does_not_take(rig: Rig) -> None:
    """Refused where it is accepted, with the input in the message; nothing runs, and another run with them corrected does."""
    await operate(rig)
    declared = {**definition("two"), "inputs": [{"name": "limit", "type": "number", "required": True}]}
    rig.user.edit(HELLO, definition=declared)
    await rig.rest()
    bad, good = run(HELLO, "bad", inputs={"limit": "many"}), run(HELLO, "good", inputs={"limit": "90"})
    rig.user.apply(bad, good)
    told = await succeeded(rig, bad, "InvalidInputs")
    assert told.condition("Accepted") == ("False", "InvalidInputs")
    assert '"limit" must be a number' in told.message("Accepted")
    await succeeded(rig, good, "Queued")
    assert [each["owner_name"] for each in records(rig)] == ["good"]
    rig.user.delete(bad)
    await rig.user.gone(bad)


async def test_a_suspended_workflow_takes_no_runs(rig: Rig) -> None:
    """Suspended in the same moment counts; what was accepted before goes on."""
    await operate(rig)
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    rig.user.edit(HELLO, suspend=True)
    late = run(HELLO, "late")
    rig.user.apply(late)
    await succeeded(rig, late, "Suspended")
    await runners.work(rig)
    await succeeded(rig, RUN, "Completed")


async def test_a_key_is_used_once(rig: Rig) -> None:
    """Two objects with one key, at once: one runs, the other says which run has it. A deleted one gives it back to nobody."""
    await operate(rig)
    pair = [run(HELLO, name, idempotencyKey="incident-4711") for name in ("one", "two")]
    rig.user.apply(*pair)
    ends = [(await succeeded(rig, each, "Queued", "DuplicateIdempotencyKey")).condition("Accepted") for each in pair]
    assert sorted(ends, key=str) == [("False", "DuplicateIdempotencyKey"), ("True", "Accepted")]
    (record,) = records(rig)
    rig.user.delete(*pair)
    await rig.user.gone(*pair)
    third = run(HELLO, "three", idempotencyKey="incident-4711")
    rig.user.apply(third)
    told = await succeeded(rig, third, "DuplicateIdempotencyKey")
    assert str(record["id"]) in told.message("Accepted")


async def test_one_at_a_time_where_the_workflow_says_so(rig: Rig) -> None:
    """`run.concurrency: Forbid`: a second run is refused while the first is under way, and taken after."""
    await operate(rig)
    rig.user.edit(HELLO, run={"concurrency": "Forbid"})
    await rig.rest()
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    second, third = run(HELLO, "run-2"), run(HELLO, "run-3")
    rig.user.apply(second)
    await succeeded(rig, second, "ConcurrencyForbidden")
    await runners.work(rig)
    rig.user.apply(third)
    await succeeded(rig, third, "Queued")


async def test_the_newer_replaces_the_older(rig: Rig) -> None:
    """`run.concurrency: Replace`: the first ends Cancelled, the second runs."""
    await operate(rig)
    rig.user.edit(HELLO, run={"concurrency": "Replace"})
    await rig.rest()
    second = run(HELLO, "run-2")
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    rig.user.apply(second)
    await succeeded(rig, second, "Queued")
    await succeeded(rig, RUN, "Cancelled")


async def test_cancel(rig: Rig) -> None:
    """What waits ends at once; what is under way is asked to, and shows so until its worker has ended it."""
    await operate(rig)
    under_way = run(HELLO, "run-2")
    rig.user.apply(under_way)
    await succeeded(rig, under_way, "Queued")
    taken = await runners.take_up(rig, runners.waiting(rig)[0])
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    rig.user.edit(RUN, cancel=True)
    assert (await succeeded(rig, RUN, "Cancelled")).status["state"] == "Cancelled"
    rig.user.edit(under_way, cancel=True)
    await rig.user.until(under_way, lambda thing: "is to be ended" in thing.message("Succeeded"), "a request")
    await runners.end(rig, taken, Reason.CANCELLED, "Asked to")
    await succeeded(rig, under_way, "Cancelled")


async def test_deleting_the_object_leaves_the_run_alone(rig: Rig) -> None:
    """A-RUN-8: it goes at once, its run goes on, the record stays; with `cancel` before that the run ends."""
    await operate(rig)
    ended = run(HELLO, "run-2")
    rig.user.apply(RUN, ended)
    await succeeded(rig, RUN, "Queued")
    await succeeded(rig, ended, "Queued")
    rig.user.edit(ended, cancel=True)
    rig.user.delete(RUN, ended)
    await rig.user.gone(RUN, ended)
    states = {record["owner_name"]: record["state"] for record in records(rig)}
    assert states == {"run-1": "Queued", "run-2": "Cancelled"}
    (done,) = await runners.work(rig)
    assert done.owner is not None and done.owner.name == "run-1"


async def test_a_retry(rig: Rig) -> None:
    """A-RUN-4: the same version and inputs, though another is active and the first object is gone; or the version that is named."""
    await operate(rig)
    first = run(HELLO, inputs={"host": "db-1"}, ttlSecondsAfterFinished=0)
    rig.user.apply(first)
    await succeeded(rig, first, "Queued")
    await runners.work(rig, Reason.STEP_FAILED, "no route to host")
    await rig.user.gone(first)
    await edited(rig, "two")
    again = run(HELLO, "again", retryOf={"name": "run-1"})
    rig.user.apply(again)
    told = await succeeded(rig, again, "Queued")
    assert told.status["revision"]["number"] == 1
    one, two = records(rig)
    assert (two["retry_of"], two["try_number"], two["inputs"]) == (one["id"], 2, {"host": "db-1"})
    other = run(HELLO, "other", retryOf={"name": "run-1"}, revision={"number": 2})
    rig.user.apply(other)
    told = await succeeded(rig, other, "Queued")
    assert told.status["revision"]["number"] == 2
    three = records(rig)[-1]
    assert (three["retry_of"], three["try_number"], three["inputs"]) == (one["id"], 2, {"host": "db-1"})


async def test_a_failed_run_says_which_version(rig: Rig) -> None:
    """A-RUN-10: number and hash, in the condition; and why."""
    await operate(rig)
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    await runners.work(rig, Reason.STEP_FAILED, "no route to host")
    told = await succeeded(rig, RUN, "StepFailed")
    hash8 = told.status["revision"]["contentHash"][:8]
    assert told.message("Succeeded") == f"v1 ({hash8}) failed: no route to host"
    assert told.status["steps"][0]["message"] == "no route to host"


async def test_objects_go_in_time_and_records_stay(rig: Rig) -> None:
    """A-RET-6: by the time to live, and sooner by `runHistory`; what Argo CD tracks stays."""
    await operate(rig)
    rig.user.edit(HELLO, runHistory={"successful": 2, "failed": 1})
    tracked = in_argo_cd(run(HELLO, "tracked", ttlSecondsAfterFinished=1))
    runs = [run(HELLO, f"run-{number}") for number in range(4)]
    for each in (tracked, *runs):
        rig.user.apply(each)
        await succeeded(rig, each, "Queued")
        await runners.work(rig)
        await succeeded(rig, each, "Completed")
    await rig.rest(120.0)
    assert {each.raw["metadata"]["name"] for each in rig.user.objects(WORKFLOW_RUNS)} == {"run-2", "run-3", "tracked"}
    await rig.rest(3600.0)
    assert {each.raw["metadata"]["name"] for each in rig.user.objects(WORKFLOW_RUNS)} == {"tracked"}
    assert len(records(rig)) == 5


async def test_a_restored_run_does_not_run_again(rig: Rig) -> None:
    """A-RUN-9: Velero brings it back without its status; another tool's label counts where the setting says so."""
    await operate(rig)
    back = run(HELLO)
    back["metadata"] |= {"labels": {"velero.io/restore-name": "nightly"}}
    rig.user.apply(back)
    told = await succeeded(rig, back, "RestoredFromBackup")
    assert "finalizers" not in told.raw["metadata"]
    assert records(rig) == []
    await rig.operators[-1].stop()
    await rig.operate(default_tenant="", restore_labels=("example.com/restored",))
    other = run(HELLO, "other")
    other["metadata"] |= {"labels": {"example.com/restored": "yes"}}
    rig.user.apply(other)
    await succeeded(rig, other, "RestoredFromBackup")
    assert records(rig) == []


async def test_an_older_dump_runs_nothing_twice(rig: Rig) -> None:
    """A-REV-13: the database has forgotten the run; it waits, is never started again, and can be deleted."""
    await operate(rig)
    await rig.operators[-1].stop()
    dump = scene.take(rig)
    await rig.operate(default_tenant="")
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    await rig.operators[-1].stop()
    dump.restore(rig.database.url)
    await rig.operate(default_tenant="")
    told = await succeeded(rig, RUN, "DatabaseBehind")
    assert told.condition("Accepted") == ("True", "Accepted")
    await rig.rest(1800.0)
    assert records(rig) == []
    rig.user.delete(RUN)
    await rig.user.gone(RUN)


async def test_an_outage_of_the_database(rig: Rig) -> None:
    """Told in the conditions, and over as soon as it is over; by force an object goes without it."""
    await operate(rig)
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    rig.doors.shut = True
    rig.doors.cut()
    late = run(HELLO, "late")
    rig.user.apply(late)
    await rig.user.condition(late, "Accepted", ("Unknown", "DatabaseUnavailable"))
    stuck = run(HELLO, "stuck")
    rig.user.patch(RUN, {"metadata": {"annotations": {"keep-operator.dev/force-delete": "true"}}})
    rig.user.delete(RUN)
    await rig.user.gone(RUN)
    rig.doors.shut = False
    await succeeded(rig, late, "Queued")
    rig.user.apply(stuck)
    await succeeded(rig, stuck, "Queued")
    assert len(records(rig)) == 3


async def test_what_the_database_cannot_store_is_refused(rig: Rig) -> None:
    """Inputs with a character that PostgreSQL does not take: told once, and not tried again."""
    operator, _ = await operate(rig)
    odd = run(HELLO, inputs={"text": "a\u0000b"})
    rig.user.apply(odd)
    told = await rig.user.until(odd, lambda thing: (thing.condition("Succeeded") or ("",))[0] == "False", "a refusal")
    assert told.condition("Accepted") == ("False", "SpecRefused")
    await rig.rest()
    mark = rig.mark()
    await rig.rest(300.0)
    assert rig.spent(operator, mark) == {}


def failures(rig: Rig) -> list[Json]:
    """The Warning Events about the Workflow."""
    found = [thing.raw for thing in rig.user.objects(EVENTS)]
    return [each for each in found if (each["type"], each["involvedObject"]["name"]) == ("Warning", "hello")]


async def by_alert(rig: Rig, fingerprint: str = "disk-full") -> Run:
    """A run that an alert has started: there is no object."""
    (row,) = rig.database.rows("SELECT id FROM keep_operator.workflow")
    asked = Asked(
        "Alert", f"{fingerprint}-{uuid.uuid4()}", "alert", fingerprint=fingerprint, event={"name": fingerprint}
    )
    async with runners.at(rig) as conn:
        made = await runs.request(conn, row["id"], asked)
    assert isinstance(made, runs.Requested), made
    return await runners.take_up(rig, made.run.id)


async def test_each_failed_run_is_told_once(rig: Rig) -> None:
    """A-RUN-10: one Event about the Workflow with number and hash, with an object or without; a restart tells nothing twice."""
    await operate(rig)
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    await runners.work(rig, Reason.STEP_FAILED, "no route to host")
    other = await by_alert(rig)
    await runners.end(rig, other, Reason.TIMED_OUT, "too long")
    fine = await by_alert(rig)
    await runners.end(rig, fine)
    await rig.user.eventually(lambda: failures(rig), lambda found: len(found) == 2, "Events")
    told = rig.user.get(HELLO).status["activeRevision"]
    first, second = sorted(failures(rig), key=lambda each: str(each["reason"]))
    assert (first["reason"], second["reason"]) == ("StepFailed", "TimedOut")
    for each in (first, second):
        assert f"v{told['number']} ({told['contentHash']})" in each["message"]
        assert each["involvedObject"]["uid"] == rig.user.get(HELLO).uid
    run_id = rig.user.get(RUN).status["executionId"]
    assert first["message"].endswith(f"failed: no route to host. See {CONSOLE}/r/{run_id}")
    await rig.operators[-1].stop()
    await rig.operate(default_tenant="", resync_period=NEVER, console_url=CONSOLE)
    await rig.rest(60.0)
    assert len(failures(rig)) == 2


async def test_what_failed_while_nobody_listened(rig: Rig) -> None:
    """Told by the next leader, for as long as Kubernetes would keep it."""
    await operate(rig)
    one = await by_alert(rig)
    await rig.operators[-1].stop()
    await runners.end(rig, one, Reason.WORKER_LOST, "gone")
    await rig.operate(default_tenant="", resync_period=NEVER)
    found = await rig.user.eventually(lambda: failures(rig), bool, "an Event")
    assert [each["reason"] for each in found] == ["WorkerLost"]


async def test_a_flood_of_failures_is_cut_short(rig: Rig) -> None:
    """Sixty failures of one Workflow are no sixty Events: as many as any object may have at once."""
    await operate(rig)
    for _ in range(60):
        await runners.end(rig, await by_alert(rig), Reason.STEP_FAILED, "no route to host")
    await rig.rest(60.0)
    assert 10 <= len(failures(rig)) <= 26


async def test_how_many_runs_are_under_way(rig: Rig) -> None:
    """The Workflow tells it within seconds when the first begins and the last has ended, and at most once a minute between."""
    operator, _ = await operate(rig)
    assert "runs" not in rig.user.get(HELLO).status
    mark = rig.mark()
    started = [await by_alert(rig, f"alert-{number}") for number in range(3)]
    await rig.user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 3}, "three runs")
    for _ in range(4):
        started.append(await by_alert(rig, f"alert-{len(started)}"))
        await rig.rest(11.0)
    await rig.user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 7}, "seven runs")
    for each in started:
        await runners.end(rig, each)
    await rig.user.until(HELLO, lambda hello: hello.status.get("runs") == {"running": 0}, "none")
    assert rig.spent(operator, mark)["PATCH workflows/status"] <= 4
    mark = rig.mark()
    await rig.rest(600.0)
    assert rig.spent(operator, mark) == {}


async def test_a_deleted_workflow_lets_its_runs_end(rig: Rig) -> None:
    """It takes no new ones, waits for those that there are, and goes when the last has ended; records and history stay."""
    await operate(rig)
    rig.user.edit(HELLO, deletionGraceSeconds=3600)
    under_way = await by_alert(rig)
    rig.user.delete(HELLO)
    await rig.user.condition(HELLO, "Deleting", ("True", "DrainingRuns"))
    late = run(HELLO, "late")
    rig.user.apply(late)
    await rig.user.condition(late, "Accepted", ("Unknown", "WorkflowNotFound"))
    await rig.rest(60.0)
    assert rig.user.get(HELLO)
    await runners.end(rig, under_way)
    await rig.user.gone(HELLO)
    (record,) = records(rig)
    assert record["state"] == "Succeeded"
    assert [event for event in rig.user.events("Warning") if event[2] == "hello"] == []


async def test_runs_that_take_too_long_are_cancelled(rig: Rig) -> None:
    """After `deletionGraceSeconds` what waits is cancelled, what is under way is asked to end, and the Workflow goes."""
    await operate(rig)
    rig.user.edit(HELLO, deletionGraceSeconds=30)
    await rig.rest()
    under_way = await by_alert(rig)
    rig.user.apply(RUN)
    await succeeded(rig, RUN, "Queued")
    rig.user.delete(HELLO)
    await rig.user.condition(HELLO, "Deleting", ("True", "DrainingRuns"))
    await rig.user.gone(HELLO)
    states = {record["trigger"]: (record["state"], record["cancel_requested"]) for record in records(rig)}
    assert states == {"Alert": ("Running", True), "Manual": ("Cancelled", True)}
    await runners.end(rig, under_way, Reason.CANCELLED, "Asked to")


async def test_a_version_with_a_run_under_way_is_not_archived(rig: Rig) -> None:
    """A-RET-2: its object stays until the run has ended, whatever its age."""
    rig.user.apply(HELLO | {"spec": HELLO["spec"] | {"retention": {"sinceCreate": "1m", "sinceLastActive": "1m"}}})
    await operate(rig)
    first = await by_alert(rig)
    await edited(rig, "two")
    await edited(rig, "three")
    await rig.rest(120.0)
    rig.user.edit(HELLO, revisionHistoryLimit=0)
    await rig.user.eventually(lambda: _versions(rig), lambda found: found == {1, 3}, "an archive")
    await runners.end(rig, first)
    await rig.user.eventually(lambda: _versions(rig), lambda found: found == {3}, "an archive")


def _versions(rig: Rig) -> set[int]:
    return {thing.raw["spec"]["number"] for thing in rig.user.objects(WORKFLOW_REVISIONS)}
