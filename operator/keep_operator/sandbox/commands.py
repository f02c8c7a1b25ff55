"""The commands ``keep-operator sandbox run|start|prepare|stop|status|env|reset``."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from keep_operator.errors import KeepOperatorError, Unavailable
from keep_operator.sandbox import display, options

if TYPE_CHECKING:
    from keep_operator.sandbox.instance import Sandbox


LOOK_AGAIN_S: Final = 1.0  # seconds between two looks at what runs in the foreground


@click.group("sandbox")
def sandbox() -> None:
    """A local cluster and database for trying things out.

    It lives in ./.sandbox, or in the folder that KEEP_OPERATOR_SANDBOX_DIR names. The cluster is, in this order: the
    one of your current context with CLUSTER=current; the programs in KUBEBUILDER_ASSETS or on PATH; kind where Docker
    answers; else one that is built once from Debian's source package. The database is embedded, or the one that
    KEEP_OPERATOR_DATABASE_URL names.
    """


@sandbox.command()
@click.option("--foreground", is_flag=True, help="Stay until Ctrl-C, then stop everything.")
@click.option("--audit", is_flag=True, help="Let the API server write every request to logs/audit.log.")
def start(foreground: bool, audit: bool) -> None:
    """Start what does not run; build and fetch what is missing."""
    with _failures(), ended_by_signals():
        box = _here(audit=audit)
        if foreground:
            with display.opened() as shown, box.attended(shown):
                shown.say("The sandbox is up. Ctrl-C stops it.")
                _wait_for_trouble(box)
        with display.opened() as shown:
            box.start(shown)
        _show_status(box)
        click.echo('Use it in this shell:  eval "$(keep-operator sandbox env)"')


@sandbox.command()
def run() -> None:
    """Start everything and the operator, and show the sample story live; Ctrl-C ends all of it."""
    with _failures(), ended_by_signals():
        from keep_operator.sandbox import run as foreground  # noqa: PLC0415

        foreground.run(_here())


@sandbox.command()
def prepare() -> None:
    """Build and fetch what a start needs, and start nothing (for `make test` and images)."""
    with _failures(), ended_by_signals(), display.opened() as shown:
        _here().prepare(shown)


@sandbox.command()
def stop() -> None:
    """Stop everything and keep the data."""
    with _failures(), display.opened() as shown:
        _here().stop(shown)


@sandbox.command()
def status() -> None:
    """Show what runs. Exit code 3 when something that should run does not."""
    with _failures():
        if not _show_status(_here()):
            sys.exit(3)


@sandbox.command()
def env() -> None:
    """Print what a shell needs: eval "$(keep-operator sandbox env)"."""
    with _failures():
        box = _here()
        click.echo(box.exports())
        if not all(component.fine for component in box.status()):
            click.echo("The sandbox does not run; start it with `keep-operator sandbox start`.", err=True)


@sandbox.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Stop everything and remove the data of the cluster and of the embedded database."""
    with _failures(), display.opened() as shown:
        box = _here()
        if box.folder.is_dir():
            if not yes:
                click.confirm(f"Remove everything in the sandbox in {box.folder}?", abort=True, err=True)
            box.reset(shown)


def _here(*, audit: bool = False) -> "Sandbox":
    import dataclasses  # noqa: PLC0415

    from keep_operator.sandbox.instance import Sandbox  # noqa: PLC0415  (the help needs none of this)

    return Sandbox(dataclasses.replace(options.read(), audit=audit))


def _wait_for_trouble(box: "Sandbox") -> NoReturn:
    from keep_operator.sandbox import status as report  # noqa: PLC0415

    while not (ended := [component for component in box.status() if not component.fine]):
        time.sleep(LOOK_AGAIN_S)
    lines = "\n".join(report.table(ended))
    raise Unavailable("SandboxProcessDied", f"a part of the sandbox has ended:\n{lines}")


def _show_status(box: "Sandbox") -> bool:
    from keep_operator.sandbox import status as report  # noqa: PLC0415

    components = box.status()
    if not components:
        click.echo(f"There is no sandbox in {box.folder}; make one with `keep-operator sandbox start`.")
        return False
    click.echo(f"Sandbox in {box.folder}")
    for component, line in zip(components, report.table(components), strict=True):
        click.secho(f"  {line}", fg=None if component.fine else "red")
    return all(component.fine for component in components)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except KeepOperatorError as error:
        raise click.ClickException(error.message) from error


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A terminated process and a closed terminal end as Ctrl-C does: in order, with the exit code of the signal."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)  # once is enough; the guardian stands by if stopping hangs
        sys.exit(128 + number)

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, end) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
