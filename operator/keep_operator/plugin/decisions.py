"""`rollback`, `resume` and the other decisions about a workflow: each makes one WorkflowDecision under the user's own name."""

import sys
from collections.abc import Callable
from typing import Any

import click

from keep_operator.plugin import options, verdict
from keep_operator.plugin.verdict import Asked


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
    """End a rollback: what the spec asks for becomes active."""
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
