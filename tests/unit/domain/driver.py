"""Drives a program as a worker would, with a provider that the test plays, and a clock that only it moves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from keep_operator.domain import program
from keep_operator.domain.program import (
    Done,
    Facts,
    Fail,
    Finish,
    Outcome,
    Perform,
    Previous,
    Program,
    Skip,
    Sleep,
    State,
)

# A Friday.
NOW: Final = datetime(2026, 3, 20, 14, 30, tzinfo=UTC)
# Calls of next that no run of the tests needs.
_BOUND: Final = 5_000


class Refused(Exception):
    """The played provider fails."""


class Killed(Exception):
    """The worker dies in the middle of the call."""


Provider = Callable[[Perform], Any]


@dataclass
class Run:
    """What happened: ``told`` are the answers of ``next``, ``rows`` what was recorded, both in their order."""

    told: list[Outcome] = field(default_factory=list)
    rows: list[Done] = field(default_factory=list)
    # For each answer, how many rows there were, and what time it was.
    seen: list[tuple[int, datetime]] = field(default_factory=list)

    @property
    def calls(self) -> list[Perform]:
        """The calls of providers."""
        return [each for each in self.told if isinstance(each, Perform)]

    @property
    def end(self) -> Finish:
        """How it ended."""
        end = self.told[-1]
        assert isinstance(end, Finish)
        return end

    @property
    def story(self) -> list[str]:
        """What happened, in words."""
        return [_word(each) for each in self.told]


def _word(outcome: Outcome) -> str:
    match outcome:
        case Perform(name=name, iteration=iteration, try_=try_):
            item = "" if iteration == program.ONCE else f"[{iteration}]"
            return f"{name}{item}" + (f" again {try_}" if try_ else "")
        case Skip(name=name, iteration=iteration) | Fail(name=name, iteration=iteration):
            item = "" if iteration == program.ONCE else f"[{iteration}]"
            return f"{type(outcome).__name__.lower()} {name}{item}"
        case Sleep():
            return "sleep"
        case Finish(state=state):
            return state


def facts(**changes: Any) -> Facts:
    """A run of revision 3."""
    whole = Facts(
        run_id="run",
        tenant_id="tenant",
        workflow_id="lineage",
        workflow_name="high-cpu",
        revision=3,
        content_hash="sha256:abc",
        trigger="Manual",
        started_at=NOW,
        previous=Previous(),
    )
    return replace(whole, **changes)


def answers(results: Mapping[str, Any]) -> Provider:
    """A provider that answers by the names of steps; an exception is raised."""

    def ask(call: Perform) -> Any:
        answer = results.get(call.name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def nothing(_: Perform) -> Any:
    """A provider that answers nothing."""


def drive(made: Program, known: Facts, provider: Provider = nothing, rows: Sequence[Done] = ()) -> Run:
    """Runs it to its end; each row is completed a second after it was begun."""
    run = Run(rows=list(rows))
    now = NOW
    for _ in range(_BOUND):
        outcome = made.next(known, run.rows, now)
        run.told.append(outcome)
        run.seen.append((len(run.rows), now))
        now += timedelta(seconds=1)
        match outcome:
            case Finish():
                return run
            case Sleep(until=until):
                assert until > now - timedelta(seconds=1)
                now = until
            case Skip() | Fail():
                state = State.SKIPPED if isinstance(outcome, Skip) else State.FAILED
                run.rows.append(
                    Done(outcome.position, outcome.iteration, outcome.try_, state, None, outcome.message, now)
                )
            case Perform():
                run.rows.append(_performed(outcome, provider, now))
    raise AssertionError(f"does not end: {run.story[-5:]}")


def _performed(call: Perform, provider: Provider, at: datetime) -> Done:
    try:
        return Done(call.position, call.iteration, call.try_, State.SUCCEEDED, provider(call), "", at)
    except Refused as error:
        return Done(call.position, call.iteration, call.try_, State.FAILED, None, str(error), at)
    except Killed:
        return Done(call.position, call.iteration, call.try_, State.LOST, None, "the worker was lost", at)
