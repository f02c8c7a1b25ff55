"""The command line: one program for every process of keep-operator."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, NoReturn

import click

from keep_operator import __version__, logs, settings
from keep_operator.errors import KeepOperatorError
from keep_operator.settings import Settings


class Commands(click.Group):
    """Commands whose modules are imported when they are called: each process loads only what it runs."""

    _GROUPS: ClassVar = {
        "adopt": "cli.records:adopt",
        "crds": "cli.crds:group",
        "doctor": "cli.doctor:command",
        "keys": "cli.keys:group",
        "ledger": "cli.ledger:group",
        "prune": "cli.records:prune",
        "recover": "cli.recover:recover",
        "sandbox": "sandbox.commands:sandbox",
        "uninstall": "cli.uninstall:uninstall",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return sorted([*super().list_commands(ctx), *self._GROUPS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if it lives elsewhere."""
        if cmd_name in self._GROUPS:
            from importlib import import_module  # noqa: PLC0415 - see the class

            module, _, name = self._GROUPS[cmd_name].partition(":")
            command: click.Command = getattr(import_module(f"keep_operator.{module}"), name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keep-operator")
def cli() -> None:
    """Run the configuration of Keep the Kubernetes way."""


@cli.command()
def operate() -> None:
    """Run the operator until it is told to stop."""
    given = _read(operate=True)

    async def run() -> None:
        from keep_operator.operate import operate as run_operator  # noqa: PLC0415 - kopf is for this process only

        _freeze()
        await run_operator(given)

    _run(run())


@cli.command()
def console() -> None:
    """Serve the read API until it is told to stop."""
    given = _read(console=True)

    async def run() -> None:
        from keep_operator.console.process import serve  # noqa: PLC0415 - its libraries are for this process only

        _freeze()
        await serve(given)

    _run(run())


@cli.command()
def runner() -> None:
    """Execute runs of workflows until it is told to stop."""
    given = _read(runner=True)

    async def run() -> None:
        from keep_operator.runner.process import serve  # noqa: PLC0415 - its libraries are for this process only

        _freeze()
        await serve(given)

    _run(run())


@cli.command()
def migrate() -> None:
    """Bring the control database's schema up to date; safe when several start at once."""
    given = _read()

    async def run() -> None:
        from keep_operator.store import engine, schema  # noqa: PLC0415

        database = engine.connect(given.database_url.get_secret_value(), application_name="keep-operator migrate")
        try:
            migration = await schema.migrate(database)
        finally:
            await database.dispose()
        if migration.before == migration.after:
            click.echo(f"The schema is up to date: {migration.after}")
        else:
            click.echo(f"The schema was migrated: {migration.before or 'nothing'} -> {migration.after}")

    _run(run())


def _freeze() -> None:
    """What importing has made lives as long as the process: looking through it for garbage would stop everything for 80 ms."""
    gc.freeze()


def _read(*, operate: bool = False, console: bool = False, runner: bool = False) -> Settings:
    try:
        given = settings.load(operate=operate, console=console, runner=runner)
    except KeepOperatorError as error:
        _give_up(error)
    hidden = [*(key.get_secret_value() for key in given.encryption_key), given.database_url.get_secret_value()]
    logs.configure(given.log_format, hidden=[*hidden, *logs.passwords(given.database_url.get_secret_value())])
    return given


def _run(work: Coroutine[Any, Any, None]) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not on every platform

        factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)
    except KeepOperatorError as error:
        _give_up(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _give_up(error: KeepOperatorError) -> NoReturn:
    click.echo(f"keep-operator: {error.reason}: {error.message}", err=True)
    sys.exit(1)


# Users choose how deep a Provider's config is nested, and API servers take it about 10,000 deep; Python's parser stops
# at 1,000. One such object must not end the watch of all others. Tried up to the servers' own limit.
NESTING_LIMIT: Final = 30_000


def main() -> None:
    """The entry point of the package."""
    sys.setrecursionlimit(NESTING_LIMIT)
    cli(prog_name="keep-operator")


if __name__ == "__main__":
    main()
