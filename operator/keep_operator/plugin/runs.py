"""`run`, `runs` and `cancel`: ask for a run of a workflow, see those that have an object, end one."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import click

from keep_operator.plugin import ends, options, output, patience, verdict, view
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.resources.kinds import API_VERSION, GROUP, WORKFLOW_RUNS, WORKFLOWS

_NAME_LIMIT: Final = 200
_KIND: Final = f"workflowrun.{GROUP}"
# What a repeated request must agree in with the first one.
_SAME: Final = ("workflowRef", "revision", "inputs", "mode", "retryOf", "timeout")
_MODES: Final = ("Live", "DryRun")
_STATES: Final = ("Pending", "Queued", "Running", "Succeeded", "Failed", "Cancelled", "TimedOut")
_TRIGGERS: Final = ("Manual", "Alert", "Interval", "API", "Incident")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options of `run` say."""

    version: str | None
    inputs: Sequence[str]
    values: Sequence[str]
    mode: str
    retry: str | None
    run_timeout: str | None
    wait: bool
    follow: bool
    timeout_s: float
    dry_run: bool
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """What the options of `runs` say."""

    version: str | None
    state: str | None
    trigger: str | None
    since: str | None
    until: str | None
    limit: int


@click.command("run")
@click.argument("workflow", shell_complete=options.workflows)
@click.option(
    "--revision",
    "version",
    metavar="VERSION",
    shell_complete=options.versions,
    help="Which version; left out: the one that is active when the run is accepted.",
)
@click.option("--input", "inputs", metavar="KEY=TEXT", multiple=True, help="An input; may be given several times.")
@click.option(
    "--input-json", "values", metavar="KEY=JSON", multiple=True, help="The same for a number, a list, true or false ..."
)
@click.option(
    "--mode",
    type=click.Choice(_MODES, case_sensitive=False),
    default="Live",
    show_default=True,
    help="DryRun does nothing that others would notice.",
)
@click.option("--retry", metavar="RUN", help="Repeat this WorkflowRun: its version and its inputs.")
@click.option("--run-timeout", metavar="TIME", help="End the run after this time, such as 5m.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 if it did not succeed.")
@click.option("--follow", is_flag=True, help="The same, and print each step.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Wait at most so long.",
)
@click.option("--dry-run", is_flag=True, help="Print the WorkflowRun, and make none.")
@options.output("json", "yaml", "name")
@click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="Makes the call safe to repeat: the same again starts nothing more. Left out: a new one.",
)
@options.cluster
def run(workflow: str, form: str, **given: Any) -> None:
    """Run WORKFLOW once.

    It runs in the cluster, under the version that it is accepted with, whether this command waits or not. To end it:
    `kubectl keep cancel`.
    """
    kubectl, wanted = options.kubectl(), Wanted(**given)
    seen = view.read(kubectl, workflow)
    manifest = _manifest(seen, wanted)
    if wanted.dry_run:
        output.data(manifest, "json" if form == "json" else "yaml")
        return
    made = _make(kubectl, manifest)
    name = made["metadata"]["name"]
    if form == "name":
        output.echo(f"{_KIND}/{name}")
    waits = wanted.wait or wanted.follow
    if waits:
        made = _await(kubectl, made, wanted.timeout_s, follow=wanted.follow and form == "table")
    _tell(made, form, wanted.timeout_s if waits else None)


@click.command("runs")
@click.argument("workflow", shell_complete=options.workflows)
@click.option("--all", "everything", is_flag=True, help="Those without an object too; asks the read API.")
@click.option(
    "--revision", "version", metavar="VERSION", shell_complete=options.versions, help="Only those of this version."
)
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only those in this state.")
@click.option("--trigger", type=click.Choice(_TRIGGERS, case_sensitive=False), help="Only those with this trigger.")
@click.option(
    "--from", "since", metavar="TIME", help="Only those queued since, such as 2026-01-31T12:00:00Z; with --all."
)
@click.option("--until", metavar="TIME", help="Only those queued before; with --all.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="At most so many.",
)
@options.output("json", "yaml", "name")
@options.read_api
@options.cluster
def runs(workflow: str, everything: bool, form: str, reach: Reach, **given: Any) -> None:
    """List the runs of WORKFLOW, the newest first.

    Without --all these are the runs that were asked for through Kubernetes, and have not been cleaned up. Runs that alerts and
    intervals started have no object: the read API knows of all of them.
    """
    wanted = Filter(**given)
    if not everything and (wanted.since or wanted.until):
        raise click.UsageError("--from and --until need --all")
    kubectl = options.kubectl()
    found = _recorded(kubectl, workflow, reach, wanted) if everything else _shown(kubectl, workflow, wanted)
    match form:
        case "name":
            for each in found:
                output.echo(each["id"] if everything else f"{_KIND}/{each['metadata']['name']}")
        case "table" if not found:
            output.echo("No runs.")
        case "table":
            rows = map(_row_of_record if everything else _row_of_object, found)
            output.table(("NAME", "VERSION", "STATE", "TRIGGER", "STARTED (UTC)", "DURATION", "AGE", "MESSAGE"), rows)
        case _:
            output.data(found, form)


@click.command("cancel")
@click.argument("run")
@options.output("json", "yaml", "name")
@options.cluster
def cancel(run: str, form: str) -> None:
    """End the WorkflowRun RUN.

    One that waits ends at once, one that is under way at its next occasion. One that has ended stays as it is.
    """
    kubectl = options.kubectl()
    made = kubectl.merge(WORKFLOW_RUNS, run, {"spec": {"cancel": True}})
    match form:
        case "name":
            output.echo(f"{_KIND}/{run}")
        case "table":
            ended = _succeeded(made).get("status") in ("True", "False")
            output.echo(f"Run {run} {'has ended already' if ended else 'is to be ended'}: kubectl get wfrun {run}")
        case _:
            output.data(made, form)


def _inputs(texts: Sequence[str], values: Sequence[str]) -> Json:
    given: Json = {}
    for each in texts:
        key, text = _pair(each)
        given[key] = text
    for each in values:
        key, text = _pair(each)
        try:
            given[key] = json.loads(text)
        except ValueError:
            raise click.UsageError(f"--input-json {key}: is no JSON") from None
    return given


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    return key, value


def _revision(seen: view.View, reference: str) -> Json:
    found = verdict.revision(seen, reference)
    if "previous" in found:
        raise click.UsageError(
            f"which version was active before {seen.name} cannot tell by its objects: name its number"
        )
    return found


def _manifest(seen: view.View, wanted: Wanted) -> Json:
    """The object; its name follows from the key, so that a call that is repeated meets the run of before."""
    spec = {
        "workflowRef": {"name": seen.name},
        "revision": None if wanted.version in (None, "active") else _revision(seen, str(wanted.version)),
        "inputs": _inputs(wanted.inputs, wanted.values) or None,
        "mode": None if wanted.mode == "Live" else wanted.mode,
        "retryOf": {"name": wanted.retry} if wanted.retry else None,
        "timeout": wanted.run_timeout,
        "idempotencyKey": wanted.idempotency_key,
    }
    key = wanted.idempotency_key or str(uuid4())
    digest = hashlib.sha256(f"{seen.name} {key}".encode()).hexdigest()[:10]
    return {
        "apiVersion": API_VERSION,
        "kind": WORKFLOW_RUNS.kind,
        "metadata": {
            "name": f"{seen.name[:_NAME_LIMIT].rstrip('-.')}-{digest}",
            "namespace": seen.namespace,
        },
        "spec": {name: value for name, value in spec.items() if value is not None},
    }


def _make(kubectl: Kubectl, manifest: Json) -> Json:
    try:
        return kubectl.create(manifest)
    except ends.Exists:
        there = kubectl.get(WORKFLOW_RUNS, manifest["metadata"]["name"])
        told, wanted = ({"mode": "Live", **each["spec"]} for each in (there, manifest))  # which the server fills in
        if any((told.get(each) or None) != (wanted.get(each) or None) for each in _SAME):
            raise ends.Refused(
                f"a run with key {wanted['idempotencyKey']} was already asked for otherwise: take another --idempotency-key"
            ) from None
        return there


def _await(kubectl: Kubectl, made: Json, timeout_s: float, *, follow: bool) -> Json:
    name = made["metadata"]["name"]
    told: dict[str, str] = {}

    def show(newest: Json) -> None:
        for step in _status(newest).get("steps") or ():
            if told.get(step["name"]) != step["state"]:
                told[step["name"]] = step["state"]
                took = f" in {step['duration']}" if step.get("duration") else ""
                said = f": {step['message']}" if step.get("message") else ""
                output.echo(f"{step['name']}: {output.coloured(step['state'])}{took}{said}")

    output.echo(f"Run {name}: waiting for its end ...", err=True)
    try:
        return patience.until(kubectl, WORKFLOW_RUNS, made, timeout_s, _has_ended, show if follow else lambda _: None)
    except KeyboardInterrupt:
        output.echo(f"\nNot waiting any more. The run goes on; to end it: kubectl keep cancel {name}", err=True)
        sys.exit(130)


def _tell(made: Json, form: str, waited_s: float | None) -> None:
    """Print what came of it, and end as that asks for."""
    name, succeeded, status = made["metadata"]["name"], _succeeded(made), _status(made)
    if form in ("json", "yaml"):
        output.data(made, form)
    if waited_s is None:
        if form == "table":
            output.echo(f"Run {name} is asked for; what becomes of it: kubectl get wfrun {name}")
        return
    message = str(succeeded.get("message", "")).rstrip(".")
    page = f". See {status['resultUrl']}" if status.get("resultUrl") else ""
    match succeeded.get("status"):
        case "True":
            if form == "table":
                took = f", in {status['duration']}" if status.get("duration") else ""
                output.echo(f"{output.coloured('Succeeded')}: {message}{took}{page}")
        case "False":
            raise ends.No(f"{succeeded['reason']}: {message}{page}")
        case _:
            so_far = f"{succeeded['reason']}: {message}" if succeeded else "the operator has not seen it"
            raise ends.Unanswered(
                f"run {name} has not ended within {waited_s:g} s ({so_far}). It goes on; to end it: kubectl keep cancel {name}"
            )


def _shown(kubectl: Kubectl, workflow: str, wanted: Filter) -> list[Json]:
    """The WorkflowRuns that are there."""
    number = None if wanted.version is None else _number_of(kubectl, workflow, wanted.version)
    listed, about = kubectl.tries(Kubectl.asking(WORKFLOW_RUNS), Kubectl.asking(WORKFLOWS, workflow))
    if isinstance(listed, ends.Failure):
        raise listed
    if isinstance(about, ends.Failure) and not isinstance(about, ends.Missing):
        raise about
    own = [each for each in listed["items"] if each["spec"]["workflowRef"]["name"] == workflow]
    if isinstance(about, ends.Missing) and not own:
        raise ends.Missing(f'there is no Workflow "{workflow}" in namespace {kubectl.namespace()}, and no run of it')
    found = [
        each
        for each in own
        if number in (None, _number(each))
        and wanted.state in (None, _status(each).get("state"))
        and wanted.trigger in (None, each["spec"].get("trigger", "Manual"))
    ]
    found.sort(
        key=lambda each: (str(each["metadata"].get("creationTimestamp")), each["metadata"]["name"]), reverse=True
    )
    return found[: wanted.limit]


def _number_of(kubectl: Kubectl, workflow: str, reference: str) -> int:
    number = view.as_number(reference)
    if number is not None:
        return number
    seen = view.read(kubectl, workflow)
    found = seen.find(reference)
    if found is None:
        raise ends.Missing(f'{workflow} has no version "{reference}" with an object: {seen.told_numbers()}')
    return found.number


def _recorded(kubectl: Kubectl, workflow: str, reach: Reach, wanted: Filter) -> list[Json]:
    """The runs that the database has."""
    from keep_operator.plugin import read_api  # noqa: PLC0415 - its means take a moment to load

    asked = {
        "namespace": kubectl.namespace(),
        "workflow": workflow,
        "revision": wanted.version,
        "state": wanted.state,
        "trigger": wanted.trigger,
        "from": wanted.since,
        "until": wanted.until,
    }
    with read_api.opened(kubectl, reach) as api:
        return list(api.items("runs", wanted.limit, **asked))


def _row_of_object(each: Json) -> tuple[str, ...]:
    status, number = _status(each), _number(each)
    return (
        each["metadata"]["name"],
        "" if number is None else f"v{number}",
        str(status.get("state") or "Pending"),
        str(each["spec"].get("trigger", "Manual")),
        output.moment(status.get("startedAt")),
        str(status.get("duration") or ""),
        output.age(each["metadata"].get("creationTimestamp")),
        str(_succeeded(each).get("message") or ""),
    )


def _row_of_record(each: Json) -> tuple[str, ...]:
    return (
        each["id"],
        f"v{each['revision']}",
        each["state"],
        each["trigger"],
        output.moment(each.get("startedAt")),
        output.took(each.get("startedAt"), each.get("completedAt")),
        output.age(each.get("queuedAt")),
        str(each.get("message") or ""),
    )


def _has_ended(made: Json) -> bool:
    return _succeeded(made).get("status") in ("True", "False")


def _status(made: Json) -> Json:
    return made.get("status") or {}


def _number(made: Json) -> int | None:
    number: int | None = (_status(made).get("revision") or {}).get("number")
    return number


def _succeeded(made: Json) -> Any:
    return next((each for each in _status(made).get("conditions") or () if each["type"] == "Succeeded"), {})
