"""`release`: how far a new version has come, what it waits for, and what to do next; once, or followed to its end."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from keep_operator.plugin import ends, options, output, view
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import View

if TYPE_CHECKING:
    from keep_operator.plugin.release_view import State

# Seconds between two looks, and between two drawings on a terminal.
_LOOK_S: Final = 2.0
_DRAW_S: Final = 1.0
# A server that takes the connection and says nothing must not outlast the time-out.
_PATIENCE_S: Final = 10


@click.command("release")
@click.argument("workflow", shell_complete=options.workflows)
@click.option("-w", "--watch", "follow", is_flag=True, help="Stay until it is over: live on a terminal, else in lines.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="With --watch: stay at most so long.",
)
@options.output("json", "yaml", default="text")
@click.option(
    "--default-tenant",
    envvar="KEEP_OPERATOR_DEFAULT_TENANT",
    metavar="ID",
    default="keep",
    show_default=True,
    help="The operator's setting of that name, for Workflows without spec.tenantRef.",
)
@options.read_api
@options.cluster
def release(workflow: str, *, follow: bool, timeout_s: float, form: str, default_tenant: str, reach: Reach) -> None:
    """Show how far the version that WORKFLOW asks for has come.

    Its gates and who has opened them, its canary with shares, steps and figures, what holds it back, and the commands that
    lead on. With --watch this ends with 0 when the version is active and not watched any more, and with 1 when it was taken
    back, denied, aborted, or is held by a pin. A server that is away for a while is waited for.
    """
    watch = _Watch(options.kubectl(), workflow, reach, default_tenant)
    if not follow:
        _print(watch.look(), form)
        return
    if form != "text":
        raise click.UsageError("--watch is for people; scripts take -o json without it, or the exit code of --watch.")
    state = _follow(watch, timeout_s)
    if state is None or not state.over:
        raise ends.Unanswered(f"the release of {workflow} is not over within {timeout_s:g} s; it goes on by itself")
    if state.lost:
        raise ends.No((state.told["deployed"] or {}).get("message") or f"{workflow} is not released")


class _Watch:
    """Looks at one workflow; what a release does not change, such as the Tenant, is asked for once."""

    def __init__(self, kubectl: Kubectl, workflow: str, reach: Reach, default_tenant: str) -> None:
        bounded = any(flag.startswith("--request-timeout") for flag in kubectl.flags)
        self._kubectl = kubectl if bounded else Kubectl((*kubectl.flags, f"--request-timeout={_PATIENCE_S}s"))
        self._workflow = workflow
        self._reach = reach
        self._default_tenant = default_tenant
        self._planned: tuple[object, Json] | None = None
        self._seen: View | None = None
        given = options.namespace()
        self._flags = "" if given is None else f" -n {given}"

    def look(self) -> "State":
        """The state now. Raises Missing, Refused, Unreachable."""
        seen = view.read(self._kubectl, self._workflow)
        self._seen = seen
        return self.again(datetime.now(UTC))

    def again(self, now: datetime) -> "State":
        """The state by the last look, for another moment."""
        from keep_operator.plugin import release_view  # noqa: PLC0415 - the rules take a moment to load

        assert self._seen is not None
        return release_view.look(self._seen, self._forecast(self._seen, now), now, self._flags)

    def _forecast(self, seen: View, now: datetime) -> Json:
        from keep_operator.domain import forecast, rehearsal  # noqa: PLC0415
        from keep_operator.plugin import manifests, prospect  # noqa: PLC0415

        key = _version_of(seen)
        if self._planned is not None and self._planned[0] == key:
            return self._planned[1]
        manifest = manifests.Manifest("cluster", seen.workflow, lambda _: None)
        around = prospect.Surroundings(
            self._kubectl, seen.namespace, self._reach, self._default_tenant, [manifest], now
        )
        with closing(around):
            about = around.of_view(manifest, seen)
        outcome = rehearsal.rehearse(about.seen, about.contents, now)
        told = forecast.told(outcome, about.live, about.contents) | {"tenantRead": about.tenant_read}
        self._planned = (key, told)
        return told


def _version_of(seen: View) -> object:
    """What changes when anything of it does."""
    objects = [seen.workflow, *(each.object for each in seen.versions)]
    return [
        (each["metadata"].get("uid"), each["metadata"].get("resourceVersion"), each.get("status")) for each in objects
    ]


def _follow(watch: _Watch, timeout_s: float) -> "State | None":
    """The last state that was seen: over, or when the time was; it is told on the way."""
    end = time.monotonic() + timeout_s
    last: State | None = None
    with _screen() as screen:
        while True:
            lost: ends.Failure | None = None
            try:
                last = watch.look()
            except ends.Unreachable as failure:
                if last is None:
                    raise
                lost = failure
            for _ in range(int(_LOOK_S / _DRAW_S)):
                if last is not None and lost is None:
                    last = watch.again(datetime.now(UTC))
                assert last is not None
                screen.show(last, lost)
                left = end - time.monotonic()
                if (last.over and lost is None) or left <= 0:
                    return last
                time.sleep(min(_DRAW_S, left))


def _print(state: "State", form: str) -> None:
    from keep_operator.plugin import release_view  # noqa: PLC0415

    if form != "text":
        output.data(state.told, form)
        return
    for line in release_view.lines(state):
        indent = len(line) - len(line.lstrip())
        output.prose(line.lstrip(), first=" " * indent, indent=indent + 2)


class _Lines:
    """For pipes: the whole state first, then a line for each change."""

    def __init__(self) -> None:
        self._before: Any = None
        self._away = False

    def show(self, state: "State", lost: ends.Failure | None) -> None:
        """Print what is new."""
        from keep_operator.plugin import release_view  # noqa: PLC0415

        if lost is not None:
            if not self._away:
                output.echo(f"{_clock()}  the cluster does not answer, trying again: {lost.message}", err=True)
            self._away = True
            return
        if self._away:
            output.echo(f"{_clock()}  the cluster answers again", err=True)
        self._away = False
        told = release_view.summary(state)
        if told != self._before:
            self._before = told
            output.echo(f"{_clock()}  {': '.join(filter(None, told))}")
            sys.stdout.flush()


class _Terminal:
    """For terminals: the state, drawn over the one before."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def show(self, state: "State", lost: ends.Failure | None) -> None:
        """Draw it."""
        from rich.text import Text  # noqa: PLC0415

        from keep_operator.plugin import release_view  # noqa: PLC0415

        shown = list(release_view.lines(state))
        if lost is not None:
            shown.append(click.style(f"  the cluster does not answer, trying again: {lost.message}", fg="red"))
        shown.append(click.style(f"  {_clock()} UTC; Ctrl-C ends the watching, and nothing else", dim=True))
        self._live.update(Text.from_ansi("\n".join(map(output.tamed, shown))), refresh=True)


def _screen() -> AbstractContextManager[Any]:
    if not sys.stdout.isatty():
        return nullcontext(_Lines())
    return _terminal()


def _terminal() -> AbstractContextManager[Any]:
    from contextlib import contextmanager  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415 - only who watches waits for it
    from rich.live import Live  # noqa: PLC0415

    @contextmanager
    def opened() -> Iterator[_Terminal]:
        with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="visible") as live:
            yield _Terminal(live)

    return opened()


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")
