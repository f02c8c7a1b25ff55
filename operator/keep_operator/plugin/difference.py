"""`diff`: what differs between two versions, between what runs and what is asked for, or between a draft and either."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from keep_operator.plugin import ends, options, output, view
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import View
from keep_operator.resources import kinds

# Characters of a value in the list of changes; the text below has all of it.
_SHOWN: Final = 60
_SIGNS: Final = {"-": "red", "+": "green"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared. ``number`` is None for a draft, and for what has no version yet."""

    name: str
    definition: Json
    number: int | None = None


@click.command("diff")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("before", required=False, shell_complete=options.versions)
@click.argument("after", required=False, shell_complete=options.versions)
@click.option(
    "-f",
    "--filename",
    "draft",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Compare with a draft: one of Keep's workflow files, or a manifest.",
)
@click.option(
    "--show",
    "part",
    type=click.Choice(["all", "changes", "text"]),
    default="all",
    show_default=True,
    help="The changes by meaning, the text, or both.",
)
@click.option(
    "-U",
    "--unified",
    "context",
    metavar="LINES",
    type=click.IntRange(0, 10_000),
    default=3,
    show_default=True,
    help="Lines around each difference.",
)
@options.output("json", "yaml", default="text")
@options.read_api
@options.cluster
def diff(  # noqa: PLR0913 - each is an option
    workflow: str,
    before: str | None,
    after: str | None,
    *,
    draft: str | None,
    part: str,
    context: int,
    form: str,
    reach: Reach,
) -> None:
    """Show what differs between two versions, or from a draft.

    Ends with 1 if anything differs, as diff does.

    \b
    kubectl keep diff high-cpu                  from the active version to what the spec asks for
    kubectl keep diff high-cpu previous         from that version to the active one
    kubectl keep diff high-cpu v2 v3            from v2 to v3
    kubectl keep diff high-cpu -f draft.yaml    from the active version to the draft
    kubectl keep diff high-cpu v2 -f -          from v2 to a draft on the standard input

    Of archived versions the read API is asked. Key order, comments, and what people merely read (name, description, ...)
    do not count.
    """
    kubectl = options.kubectl()
    if draft is not None and after is not None:
        raise click.UsageError("A draft is compared with one version.")
    seen = view.read(kubectl, workflow)
    first = _version(kubectl, seen, reach, before or "active")
    other = after or ("desired" if before is None else "active")
    second = _version(kubectl, seen, reach, other) if draft is None else _draft(draft)
    told = _compared(first, second, context)
    if form != "text":
        output.data({"before": _side(first), "after": _side(second), **told}, form)
    else:
        _tell(first, second, told, part)
    sys.exit(0 if told["identical"] else 1)


def _version(kubectl: Kubectl, seen: View, reach: Reach, reference: str) -> Side:
    """A version; of `desired` the definition in the spec itself, which may have no version yet."""
    if reference == "desired":
        return Side(f"{seen.name} desired", _desired(kubectl, seen), seen.desired_number)
    found = view.find(kubectl, seen, reach, reference)
    state = seen.state(found)
    return Side(f"{seen.name} {found}{f' {state}' if state else ''}", found.definition, found.number)


def _desired(kubectl: Kubectl, seen: View) -> Json:
    spec = seen.workflow["spec"]
    if "definition" in spec:
        definition: Json = spec["definition"]
        return definition
    source = spec["definitionFrom"]["configMapKeyRef"]
    config_map = kubectl.get(kinds.CONFIG_MAPS, source["name"])
    text = (config_map.get("data") or {}).get(source["key"])
    if text is None:
        raise ends.Missing(f"ConfigMap {source['name']} has no key {source['key']}")
    return _parsed(text, f"ConfigMap {source['name']}")


def _draft(path: str) -> Side:
    if path == "-":
        return Side("draft", _parsed(sys.stdin.read(), "the draft"))
    return Side(path, _parsed(Path(path).read_text(encoding="utf-8"), path))


def _parsed(text: str, source: str) -> Json:
    """The definition in a text: a manifest's, or one of Keep's files. What is wrong with it is told, and hinders nothing."""
    from keep_operator.domain.grammar import dialect, workflow  # noqa: PLC0415 - only drafts are parsed

    try:
        document = dialect.load(text).value
    except dialect.Malformed as error:
        raise ends.Unusable(f"{source} cannot be read: {'; '.join(map(str, error.faults))}") from None
    if isinstance(document, dict) and document.get("kind") == "Workflow" and isinstance(document.get("spec"), dict):
        definition = document["spec"].get("definition")
        if not isinstance(definition, dict):
            raise ends.Unusable(f"{source} is a Workflow without a definition of its own: give the file it stands in")
        judged = workflow.judge(definition)
    else:
        judged = workflow.read(text)
    for each in judged.faults:
        output.echo(f"{click.style('fault', fg='red')}  {source}: {each}", err=True)
    if judged.definition is None:
        raise ends.Unusable(f"{source} cannot be compared: it is no definition of a workflow")
    return dict(judged.definition)


def _compared(first: Side, second: Side, context: int) -> Json:
    from keep_operator.domain import difference, revision  # noqa: PLC0415 - only here, and it takes a moment

    try:
        return difference.told(first.definition, second.definition, context=context)
    except revision.Unhashable as error:
        raise ends.Unusable(f"these cannot be compared: {error}") from None


def _side(side: Side) -> Json:
    from keep_operator.domain import revision  # noqa: PLC0415

    return {"name": side.name, "number": side.number, "contentHash": revision.content_hash(side.definition)}


def _tell(first: Side, second: Side, told: Json, part: str) -> None:
    if told["identical"]:
        output.echo(f"{first.name} and {second.name} are identical in what they do.")
        return
    if part in ("all", "changes"):
        for line in changes(told):
            output.echo(line)
        if part == "all":
            output.echo()
    if part in ("all", "text"):
        output.echo(click.style(f"--- {first.name}\n+++ {second.name}", bold=True))
        for hunk in told["hunks"]:
            old, new = hunk["before"], hunk["after"]
            output.echo(
                click.style(f"@@ -{old['start']},{old['length']} +{new['start']},{new['length']} @@", fg="cyan")
            )
            for line in hunk["lines"]:
                output.echo(click.style(line, fg=_SIGNS.get(line[0])))


def changes(told: Json) -> Iterator[str]:
    """What has changed by meaning, in lines for a terminal."""
    for group in ("Steps", "Triggers", "Settings"):
        found = [each for each in told["changes"] if each["group"] == group]
        if found:
            yield click.style(group, bold=True)
        for each in found:
            yield from _change(each)


def _change(change: Json) -> Iterator[str]:
    moved = " and moved" if change["moved"] and change["kind"] == "changed" else ""
    yield f"  {output.coloured(change['kind'])}{moved}  {change['name']}"
    if change["kind"] in ("added", "removed"):
        return
    for value in change["values"]:
        sides = " -> ".join(_shown(value[side]) if side in value else "none" for side in ("before", "after"))
        yield f"    {value['path'] or change['name']}: {sides}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
