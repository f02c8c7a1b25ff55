"""`history` and `show`: which version runs, since when, by whom; and what a version does."""

from typing import Final

import click

from keep_operator.plugin import ends, options, output, view
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import Version, View
from keep_operator.resources.kinds import GROUP

_KIND: Final = f"workflowrevision.{GROUP}"


@click.command("history")
@click.argument("workflow", shell_complete=options.workflows)
@click.option("--all", "everything", is_flag=True, help="Archived versions too; asks the read API.")
@options.output("json", "yaml", "name")
@options.read_api
@options.cluster
def history(workflow: str, everything: bool, form: str, reach: Reach) -> None:
    """Show which version of WORKFLOW runs, and its history.

    Versions are the newest first, then what was active when. Without --all this is what objects tell: versions that are
    not archived, and the last ten times that one became active. `kubectl keep ledger` has everything.
    """
    kubectl = options.kubectl()
    seen = view.read(kubectl, workflow)
    archived = _archived(kubectl, seen, reach) if everything else []
    match form:
        case "name":
            for each in seen.versions:
                output.echo(f"{_KIND}/{each.object['metadata']['name']}")
        case "table":
            _tell(seen, archived)
        case _:
            output.data(_told(seen, archived), form)


@click.command("show")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", default="active", shell_complete=options.versions)
@options.output("json", "name", default="yaml")
@options.read_api
@options.cluster
def show(workflow: str, version: str, form: str, reach: Reach) -> None:
    """Show what a version of WORKFLOW does.

    VERSION is a number (3, v3), a tag, the beginning of a hash (8 digits or more), or active (the default), desired,
    latest, previous.
    The YAML is the definition as it is hashed; what is about it stands above it in comments. JSON is the object itself. Of
    archived versions the read API is asked.
    """
    kubectl = options.kubectl()
    seen = view.read(kubectl, workflow)
    found = view.find(kubectl, seen, reach, version)
    match form:
        case "name" if found.archived:
            raise ends.Missing(f"{found} is archived, and has no object")
        case "name":
            output.echo(f"{_KIND}/{found.object['metadata']['name']}")
        case "json":
            output.data(found.object, "json")
        case _:
            from keep_operator.domain import patch  # noqa: PLC0415 - only here

            for line in _heading(seen, found):
                output.echo(click.style(f"# {line}", dim=True))
            output.document(patch.canonical_yaml(found.definition))


def _archived(kubectl: Kubectl, seen: View, reach: Reach) -> list[Json]:
    from keep_operator.plugin import read_api  # noqa: PLC0415 - its means take a moment to load

    known = {each.number for each in seen.versions}
    with read_api.opened(kubectl, reach) as api:
        every = api.items("revisions", namespace=seen.namespace, workflow=seen.name)
        return [each for each in every if each["number"] not in known]


def _tell(seen: View, archived: list[Json]) -> None:
    output.echo(f"{click.style(seen.name, bold=True)} in {seen.namespace}: {standing(seen)}")
    for line in held(seen):
        output.prose(line, first="  ", indent=4)
    if seen.pin is not None:
        (how, what), *_ = seen.pin.items()
        output.prose(f"Pinned by spec.release.pin to {how} {what}", first="  ", indent=4)
    if seen.workflow["spec"].get("suspend"):
        output.prose("Suspended by spec.suspend: nothing starts it", first="  ", indent=4)
    ready = seen.condition("Ready")
    if ready and ready.get("status") != "True":
        output.prose(f"Ready is {ready['status']}, {ready['reason']}: {ready.get('message', '')}", first="  ", indent=4)
    for line in _awaited(seen, {ready.get("reason", "")}):
        output.prose(line, first="  ", indent=4)
    if not seen.versions and not archived:
        output.echo("  It has no versions yet.")
        return
    output.echo()
    rows = [(*_row(seen, each), _note(each)) for each in seen.versions]
    rows += [
        (
            f"v{each['number']}",
            each["contentHash"][:8],
            "archived",
            output.age(each.get("createdAt")),
            output.who((each.get("author") or {}).get("username")),
            each.get("changeNote") or "",
        )
        for each in archived
    ]
    output.table(("VERSION", "HASH", "STATE", "AGE", "BY", "NOTE"), rows)
    deployments = seen.status.get("history") or ()
    if deployments:
        output.echo()
        output.table(
            ("ACTIVE SINCE (UTC)", "VERSION", "WHY", "BY"),
            [
                (
                    output.moment(each["at"]),
                    f"v{each['revision']}",
                    each.get("reason") or "",
                    output.who(each.get("actor")),
                )
                for each in deployments
            ],
        )


def held(seen: View) -> list[str]:
    """What holds the desired version back, or gives it a part of the runs only: a rollback, a canary."""
    told = []
    if seen.hold is not None:
        hold = seen.hold
        since, by = output.moment(hold.get("since")), output.who(hold.get("actor"))
        how = "Taken back" if hold.get("automatic") else "Rolled back"
        if seen.condition("Deployed").get("reason") == "Aborted":
            how = "Canary aborted"
        why = f": {hold['reason']}" if hold.get("reason") else ""
        told.append(f"{how} {since} UTC by {by}{why}")
    if seen.canary is not None:
        tried = seen.canary
        steps = ((seen.release.get("strategy") or {}).get("canary") or {}).get("steps") or ()
        of = f" of {len(steps)}" if steps else ""
        waits = ", waits for a person" if tried.get("paused") else ""
        since = output.moment(tried.get("stepStartedAt"))
        told.append(
            f"Canary: v{tried['revision']} has {tried['weight']} % of the runs, at step {tried.get('stepIndex', 0) + 1}{of} "
            f"since {since} UTC{waits}"
        )
    return told


def _awaited(seen: View, known: set[str]) -> list[str]:
    """Which gates are shut, where ``Ready`` does not say it."""
    told = []
    for kind in ("Approved", "Deployed"):
        found = seen.condition(kind)
        reason = found.get("reason", "")
        if found and found.get("status") != "True" and reason not in known and not (kind == "Deployed" and held(seen)):
            known.add(reason)
            told.append(f"{kind} is {found['status']}, {reason}: {found.get('message', '')}")
    return told


def standing(seen: View) -> str:
    """What runs and what is asked for, in half a sentence."""
    active, desired = seen.active_number, seen.desired_number
    if seen.status == {}:
        return "the operator has not looked at it yet"
    runs = "no version is active" if active is None else f"v{active} is active"
    if desired is None or desired == active:
        return runs
    if (seen.canary or {}).get("revision") == desired:
        return f"{runs}, v{desired} is tried"
    return f"{runs}, v{desired} is {'held back' if seen.hold is not None else 'desired'}"


def _row(seen: View, each: Version) -> tuple[str, ...]:
    age = output.age(each.made)
    by = output.who((each.spec.get("author") or {}).get("username"))
    return f"v{each.number}", each.short_hash, seen.state(each), age, by


def _note(each: Version) -> str:
    words = [f"[{tag}]" for tag in each.tags]
    if same := each.status.get("sameContentAs"):
        words.append(f"(as v{same})")
    words.append(each.spec.get("changeNote") or each.status.get("diffSummary") or "")
    return " ".join(filter(None, words))


def _heading(seen: View, found: Version) -> list[str]:
    state = seen.state(found)
    lines = [f"{seen.name} {found}{f', {state}' if state else ''}"]
    made = f"made {output.moment(found.made)} UTC"
    author = found.spec.get("author") or {}
    lines.append(f"{made} by {author['username']} ({author['source']})" if author else made)
    lines += [line for line in _note(found).splitlines() if line]
    valid = found.condition("Valid")
    if valid.get("status") == "False":
        lines.append(f"{valid['reason']}: {valid.get('message', '')}")
    return lines


def _told(seen: View, archived: list[Json]) -> Json:
    return {
        "workflow": seen.name,
        "namespace": seen.namespace,
        "activeRevision": seen.active_number,
        "desiredRevision": seen.desired_number,
        "hold": seen.hold,
        "canary": seen.canary,
        "pin": seen.pin,
        "revisions": [
            {
                "number": each.number,
                "name": each.object["metadata"]["name"],
                "contentHash": each.content_hash,
                "state": seen.state(each),
                "createdAt": each.made,
                "author": each.spec.get("author"),
                "changeNote": each.spec.get("changeNote"),
                "diffSummary": each.status.get("diffSummary"),
                "tags": list(each.tags),
                "approvals": list(each.status.get("approvals") or ()),
                "checklist": list(each.status.get("checklist") or ()),
                "archived": False,
            }
            for each in seen.versions
        ]
        + [{**each, "archived": True} for each in archived],
        "deployments": list(seen.status.get("history") or ()),
    }
