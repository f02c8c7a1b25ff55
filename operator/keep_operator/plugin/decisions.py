"""`rollback`, `resume` and the other decisions about a workflow: each makes one WorkflowDecision under the user's own name."""

import sys
from collections.abc import Callable
from typing import Any

import click

from keep_operator.plugin import ends, options, verdict
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.verdict import Asked
from keep_operator.plugin.view import View


def decision(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what all decisions take; the command gets it as ``asked``."""

    def gathered(**given: Any) -> None:
        own = {name: given.pop(name) for name in Asked.__slots__}
        command(asked=Asked(**own), **given)

    gathered.__doc__ = command.__doc__
    takes: Callable[..., None] = gathered
    for option in reversed(
        (
            click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for what comes of it."),
            click.option(
                "--timeout",
                "timeout_s",
                metavar="SECONDS",
                type=click.FloatRange(min=0, min_open=True),
                default=60.0,
                show_default=True,
                help="Wait at most so long.",
            ),
            click.option("--dry-run", is_flag=True, help="Print the WorkflowDecision, and make none."),
            options.output("json", "yaml", "name"),
            click.option(
                "--request-id",
                metavar="TEXT",
                help="Makes the call safe to repeat: the same again does nothing more. Left out: a new one.",
            ),
            click.option(
                "--actor", metavar="USER", help="Who you are, where neither the server nor your credentials tell."
            ),
            click.option("--on-behalf-of", metavar="NAME", help="Whom you act for: a claim that needs a right."),
            options.cluster,
        )
    ):
        takes = option(takes)
    return takes


def _reason(*, needed: bool) -> Callable[[options.Command], options.Command]:
    told = "Why; kept in the ledger for ever."
    return click.option("-m", "--reason", metavar="TEXT", help=told if needed else f"{told} Not needed.")


def _why(reason: str | None) -> str:
    """The reason, asked for where somebody can answer."""
    if reason is not None:
        return reason
    if not sys.stdin.isatty():
        raise click.UsageError("Say why, with --reason: it is kept in the ledger.")
    answer: str = click.prompt("Why (kept in the ledger)", err=True)
    return answer


@click.command("rollback")
@click.argument("workflow", shell_complete=options.workflows)
@click.option(
    "--to", metavar="VERSION", shell_complete=options.versions, help="Where to; left out: the active version before."
)
@_reason(needed=True)
@click.option("--force", is_flag=True, help="Also to a rejected version; needs a right of its own.")
@decision
def rollback(workflow: str, to: str | None, reason: str | None, force: bool, asked: Asked) -> None:
    """Make an earlier version of WORKFLOW active.

    What the spec asks for is held back. Nothing in Git and nothing in the spec changes, so no GitOps tool undoes it. It
    ends by itself when the definition changes, or with `kubectl keep resume`. If another version has become active
    meanwhile, nothing happens.
    """
    kubectl = options.kubectl()
    why = _why(reason)
    seen, who = verdict.look(kubectl, workflow, asked)
    target = None if to in (None, "previous") else verdict.revision(seen, to or "")
    verdict.decide(kubectl, seen, who, "Rollback", asked, revision=target, reason=why, force=force or None)


@click.command("resume")
@click.argument("workflow", shell_complete=options.workflows)
@_reason(needed=False)
@decision
def resume(workflow: str, reason: str | None, asked: Asked) -> None:
    """End a rollback: what the spec asks for becomes active. Of a canary that is paused: let it go on where it was."""
    _decide(workflow, "Resume", asked, reason=reason)


@click.command("deploy")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", default="desired", shell_complete=options.versions)
@_reason(needed=False)
@decision
def deploy(workflow: str, version: str, reason: str | None, asked: Asked) -> None:
    """Let a version take over that waits for it.

    It waits with release.strategy.type Manual. By default it is the one that the spec asks for.
    """
    _decide(workflow, "Deploy", asked, version=version, reason=reason)


@click.command("reject")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", shell_complete=options.versions)
@_reason(needed=True)
@decision
def reject(workflow: str, version: str, reason: str | None, asked: Asked) -> None:
    """Take a version out of the choice.

    If it is active the one before takes over. `kubectl keep retry` lets it in again.
    """
    _decide(workflow, "Reject", asked, version=version, reason=_why(reason))


@click.command("retry")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", required=False, shell_complete=options.versions)
@_reason(needed=False)
@decision
def retry(workflow: str, version: str | None, reason: str | None, asked: Asked) -> None:
    """Let a rejected version be chosen again, by default the newest."""
    _decide(workflow, "Retry", asked, version=version, reason=reason)


@click.command("approve")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", default="desired", shell_complete=options.versions)
@_reason(needed=False)
@decision
def approve(workflow: str, version: str, reason: str | None, asked: Asked) -> None:
    """Approve the version of WORKFLOW that waits for it.

    What is approved is its content: it is named by its whole hash, so that nothing which comes after it is approved by this.
    A VERSION that the spec does not ask for any more is refused. What it changes: `kubectl keep diff WORKFLOW`.
    """
    _review(workflow, "Approve", version, asked, reason)


@click.command("deny")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", default="desired", shell_complete=options.versions)
@_reason(needed=True)
@decision
def deny(workflow: str, version: str, reason: str | None, asked: Asked) -> None:
    """Deny the version of WORKFLOW that waits for approval: its content never runs.

    Under whatever number it comes back, and for ever; the way on is another definition. A VERSION that the spec does not ask
    for any more is refused.
    """
    _review(workflow, "Deny", version, asked, _why(reason))


@click.command("check")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("item", shell_complete=options.items)
@click.option(
    "--of",
    "version",
    metavar="VERSION",
    default="desired",
    show_default=True,
    shell_complete=options.versions,
    help="For which version.",
)
@_reason(needed=False)
@decision
def check(workflow: str, item: str, version: str, reason: str | None, asked: Asked) -> None:
    """Tick ITEM on the release checklist of WORKFLOW.

    ITEM is its short name; `kubectl keep release WORKFLOW` lists them. Items with an expression tick themselves.
    """
    kubectl = options.kubectl()
    seen, who = verdict.look(kubectl, workflow, asked)
    about = _asked_for(seen, version)
    verdict.decide(kubectl, seen, who, "CheckItem", asked, revision=about, item=item, reason=reason)


@click.command("promote")
@click.argument("workflow", shell_complete=options.workflows)
@click.option("--full", is_flag=True, help="Skip all steps that are left: the version takes all runs.")
@_reason(needed=False)
@decision
def promote(workflow: str, full: bool, reason: str | None, asked: Asked) -> None:
    """Let the canary of WORKFLOW go on with its next step.

    Whatever the present step waits for: a person, a time, or an analysis. If another version is tried by then, nothing happens.
    """
    _decide_on_canary(workflow, "Promote", asked, reason=reason, full=full or None)


@click.command("abort")
@click.argument("workflow", shell_complete=options.workflows)
@_reason(needed=False)
@decision
def abort(workflow: str, reason: str | None, asked: Asked) -> None:
    """Take the canary of WORKFLOW back: the stable version has all runs again.

    What was tried is held back until the definition changes, or `kubectl keep retry`.
    """
    _decide_on_canary(workflow, "Abort", asked, reason=reason)


@click.command("pause")
@click.argument("workflow", shell_complete=options.workflows)
@_reason(needed=False)
@decision
def pause(workflow: str, reason: str | None, asked: Asked) -> None:
    """Let the canary of WORKFLOW keep its share of the runs.

    No step passes until `kubectl keep resume`, `promote` or `abort`. Too many failures still take it back, if
    release.autoRollback watches.
    """
    _decide_on_canary(workflow, "Pause", asked, reason=reason)


@click.command("tag")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("tag")
@click.argument("version", default="active", shell_complete=options.versions)
@_reason(needed=False)
@decision
def tag(workflow: str, tag: str, version: str, reason: str | None, asked: Asked) -> None:
    """Let TAG point to a version, by default to the active one.

    A tag points to one version at a time, is taken wherever a version is asked for, and keeps it from being cleaned up.
    """
    _decide(workflow, "Tag", asked, version=version, reason=reason, tag=tag)


@click.command("untag")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("tag")
@_reason(needed=False)
@decision
def untag(workflow: str, tag: str, reason: str | None, asked: Asked) -> None:
    """Remove TAG from WORKFLOW."""
    _decide(workflow, "Untag", asked, reason=reason, tag=tag)


@click.command("note")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("text")
@click.option(
    "--of", "version", metavar="VERSION", shell_complete=options.versions, help="About it; left out: the active one."
)
@decision
def note(workflow: str, text: str, version: str | None, asked: Asked) -> None:
    """Append TEXT to the ledger of WORKFLOW."""
    _decide(workflow, "Note", asked, version=version, reason=text)


def _decide(workflow: str, action: str, asked: Asked, *, version: str | None = None, **about: Any) -> None:
    kubectl = options.kubectl()
    seen, who = verdict.look(kubectl, workflow, asked)
    target = None if version is None else verdict.revision(seen, version)
    verdict.decide(kubectl, seen, who, action, asked, revision=target, **about)


def _review(workflow: str, action: str, version: str, asked: Asked, reason: str | None) -> None:
    """A decision about a content that was read: it is bound to the whole hash."""
    kubectl = options.kubectl()
    seen, who = verdict.look(kubectl, workflow, asked)
    about = _asked_for(seen, version)
    verdict.decide(kubectl, seen, who, action, asked, revision=about, reason=reason)


def _asked_for(seen: View, version: str) -> Json:
    """The version that is meant, by its hash. Raises No where the spec asks for another one by now."""
    desired = seen.status.get("desiredRevision") or {}
    found = seen.find(version)
    if found is not None and desired.get("contentHash") not in (None, found.content_hash):
        now = f"v{desired['number']} ({desired['contentHash'][:8]})"
        raise ends.No(
            f"the spec of {seen.name} does not ask for {found} any more, but for {now}: nothing was decided. What differs: "
            f"kubectl keep diff {seen.name} v{found.number} v{desired['number']}"
        )
    if found is not None:
        return {"contentHash": found.content_hash}
    if version == "desired":  # whose object is about to be made
        return {"contentHash": desired["contentHash"]}
    return verdict.revision(seen, version)


def _decide_on_canary(workflow: str, action: str, asked: Asked, **about: Any) -> None:
    """The canary that the user sees, and no other: it may have ended by then, and another one begun."""
    kubectl = options.kubectl()
    seen, who = verdict.look(kubectl, workflow, asked)
    tried = (seen.status.get("canary") or {}).get("revision")
    revision = None if tried is None else {"number": tried}
    verdict.decide(kubectl, seen, who, action, asked, revision=revision, **about)
