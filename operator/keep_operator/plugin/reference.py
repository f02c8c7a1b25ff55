"""Makes `docs/cli.md` from the commands themselves: `make generate`; a test holds the page to it."""

import inspect
import sys
from collections.abc import Iterator, Set
from typing import Final

import click

from keep_operator.plugin import decisions, ends, options
from keep_operator.plugin.main import keep

_INTRODUCTION: Final = """# kubectl keep

<!-- Made by `make generate` from the commands themselves; change those. -->

Which version of a workflow runs, what changed, and how to take it back.

```sh
kubectl keep history high-cpu                      # what runs, since when, by whom, and what else there is
kubectl keep diff high-cpu previous                # what the active version changed
kubectl keep rollback high-cpu -m "incident 4711"  # back to the version before, and Git does not undo it
kubectl keep plan -f flows/                        # what merging a folder would do, and what would hold it
kubectl keep release high-cpu --watch              # how far a new version has come, and what to do next
kubectl keep resume high-cpu                       # let the definition in the spec take over again
```

[Installing](#installing) · [Whose rights](#whose-rights) · [Naming a version](#naming-a-version) · [For
scripts](#for-scripts) · [The read API](#the-read-api) · [Commands](#commands)

## Installing

It is part of the package `keep-operator`: `kubectl-keep` and `kubectl_complete-keep` must stand in a folder that is on `PATH`, as
`pipx install keep-operator` does it. kubectl finds them, and `kubectl keep doctor` says what is missing. With kubectl's own
completion `kubectl keep <TAB>` completes commands, workflows and versions.

## Whose rights

Yours. Each command calls your own kubectl, so contexts, sign-in plugins and impersonation are as you know them. What changes a
workflow is a [WorkflowDecision](workflowdecision.md) that is created under your name; nobody needs a right on Workflows for it. The
name is what the API server says (`kubectl auth whoami`, Kubernetes 1.27 and newer); on older servers the certificate's common name
or the token's subject; where neither is readable, `--actor`.

A decision carries the number of the version that you saw as the active one. If another has become active meanwhile, it is `Stale`,
and nothing happens.

## Naming a version

| Given | Means |
|---|---|
| `3`, `v3` | the number |
| `production`, `tag:production` | the tag; with `tag:` also one that looks like something else |
| `9f2c41aa` | the beginning of the hash, 8 digits or more; of several versions with this content the active one, else the newest |
| `active` | the version that takes runs |
| `desired` | what the spec asks for, also while it is held back |
| `latest` | the newest one |
| `previous` | where a rollback without `--to` would lead |

Versions that are archived have no object: `history --all`, `show`, `diff` and `pin` ask [the read API](#the-read-api) for them, and
`rollback --to` takes their number, tag or whole hash.

## For scripts

`-o json` and `-o yaml` are data with stable keys, `-o name` what kubectl takes. Colours and broken lines are for terminals only;
`NO_COLOR` switches colours off. Messages go to stderr. With `--request-id` a call can be repeated until it has got through: the same
id meets the same decision. Without `--no-wait` the call ends when the operator has said what came of it.

| Exit code | Means |
|---|---|
"""

_READ_API: Final = """
## The read API

The ledger, archived versions and retention are no objects: [`keep-operator console`](api.md) is asked for them, and for nothing
else. It is reached at `--api-url` (`KEEP_OPERATOR_API_URL`), else by a port-forward to the Service `--api-service`
(`KEEP_OPERATOR_API_SERVICE`), which needs the right to `create pods/portforward` there. It takes bearer tokens: the one of your
kubeconfig or its sign-in plugin, or `--api-token` (`KEEP_OPERATOR_API_TOKEN`). A client certificate proves you to the API server only.

## Commands

All of them take `-n`, `--context`, `--kubeconfig`, `--as`, `--as-group` and `--request-timeout`, which are passed on to kubectl.
"""
_DECISIONS: Final = """
### What all decisions take

`rollback`, `resume`, `approve`, `deny`, `check`, `promote`, `pause`, `abort`, `deploy`, `reject`, `retry`, `tag`, `untag` and
`note` make a decision each, and take:

"""
# Said once: of all commands, and of all decisions.
_COMMON: Final = frozenset(options.FLAGS)
_OF_DECISIONS: Final = frozenset(
    {"--wait", "--timeout", "--dry-run", "--output", "--request-id", "--actor", "--on-behalf-of"}
)


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in ends.CODES.items())
    of_decisions = _table(decisions.rollback, only=_OF_DECISIONS)
    return _INTRODUCTION + codes + _READ_API + "".join(_commands()) + _DECISIONS + of_decisions


def _commands() -> Iterator[str]:
    context = click.Context(keep, info_name="kubectl keep")
    for name in keep.list_commands(context):
        command = keep.get_command(context, name)
        assert command is not None
        usage = " ".join([f"kubectl keep {name}", *command.collect_usage_pieces(click.Context(command))])
        yield f"\n### {name}\n\n```text\n{usage}\n```\n\n{_told(command)}"
        decides = any("--request-id" in each.opts for each in command.params)
        left_out = _OF_DECISIONS if decides else frozenset()
        if table := _table(command, without=left_out):
            yield "\n" + table
        if decides:
            yield "\nAnd [what all decisions take](#what-all-decisions-take).\n"


def _table(command: click.Command, *, only: Set[str] | None = None, without: Set[str] = frozenset()) -> str:
    context = click.Context(command)
    options = ((max(each.opts, key=len), each) for each in command.params if isinstance(each, click.Option))
    rows = [
        _row(each, context)
        for name, each in options
        if name not in _COMMON | without and (only is None or name in only)
    ]
    return "| Option | Default | Meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""


def _told(command: click.Command) -> str:
    """The help text: what `\\b` stands before is kept as it is."""
    told = []
    for part in inspect.cleandoc(command.help or "").split("\n\n"):
        told.append("```text\n" + part.removeprefix("\b\n") + "\n```\n" if part.startswith("\b") else part + "\n")
    return "\n".join(told)


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    takes = "" if option.is_flag else f" {option.make_metavar(context).strip('[]').replace('|', '/')}"
    default = option.default if option.show_default else None
    if isinstance(default, bool):
        default = (option.opts if default else option.secondary_opts)[0]
    shown = f"`{default:g}`" if isinstance(default, float) else "–" if default is None else f"`{default}`"
    return f"| `{names}{takes}` | {shown} | {option.help} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
