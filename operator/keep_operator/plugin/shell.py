"""Completion: for `kubectl keep <TAB>`, and for `kubectl-keep` in a shell of its own."""

from collections.abc import Sequence

import click
from click.shell_completion import ShellComplete, get_completion_class

# Cobra's directive "no files", which kubectl passes on to the shell, and the one that allows them.
_NO_FILES, _FILES = 4, 0


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete `kubectl-keep`.

    `kubectl keep` needs nothing but kubectl's own completion and `kubectl_complete-keep` on PATH, which is installed with
    `kubectl-keep`.
    """
    from keep_operator.plugin.main import keep  # noqa: PLC0415 - it knows this command

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(keep, {}, "kubectl-keep", "_KUBECTL_KEEP_COMPLETE").source())


def complete_for_kubectl(command: click.Command, words: Sequence[str]) -> None:
    """Print what may come next, in the form of kubectl's own commands. The last of ``words`` is the unfinished one."""
    *before, incomplete = words or [""]
    offered = ShellComplete(command, {}, "kubectl keep", "").get_completions(list(before), incomplete)
    directive = _NO_FILES
    for each in offered:
        if each.type in ("file", "dir"):
            directive = _FILES
        else:
            click.echo(f"{each.value}\t{each.help}" if each.help else each.value)
    click.echo(f":{directive}")
