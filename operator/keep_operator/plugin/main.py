"""The entry points: `kubectl-keep`, which kubectl calls for `kubectl keep`, and its completion."""

import os
import sys
from typing import ClassVar

import click

from keep_operator import __version__
from keep_operator.plugin import (
    decisions,
    difference,
    doctor,
    ends,
    files,
    options,
    past,
    pin,
    plan,
    records,
    release,
    runs,
    shell,
)


class Commands(click.Group):
    """The commands in the order in which an incident needs them, with the exit codes below."""

    _ORDER: ClassVar = (
        past.history,
        difference.diff,
        past.show,
        plan.plan,
        release.release,
        decisions.rollback,
        decisions.resume,
        decisions.approve,
        decisions.deny,
        decisions.check,
        decisions.promote,
        decisions.pause,
        decisions.abort,
        pin.pin,
        decisions.deploy,
        decisions.reject,
        decisions.retry,
        decisions.tag,
        decisions.untag,
        decisions.note,
        runs.run,
        runs.runs,
        runs.cancel,
        records.ledger,
        records.retention,
        files.import_,
        files.export,
        doctor.doctor,
        shell.completion,
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As declared."""
        del ctx
        return [str(each.name) for each in self._ORDER]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        del ctx
        return next((each for each in self._ORDER if each.name == cmd_name), None)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What exit codes mean."""
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in ends.CODES.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kubectl keep")
@options.cluster
def keep() -> None:
    """Which version of a workflow runs, what changed, and how to take it back.

    Objects are read and decisions are made with your own kubectl: its contexts, its sign-in, your rights.
    """


def main() -> None:
    """Run one command."""
    try:
        # click's own way to end would make Ctrl-C a "no".
        keep.main(prog_name="kubectl keep", complete_var="_KUBECTL_KEEP_COMPLETE", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads has seen enough. What is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def complete() -> None:
    """What `kubectl keep <TAB>` offers: kubectl calls `kubectl_complete-keep` with the words of the line."""
    shell.complete_for_kubectl(keep, sys.argv[1:])
