"""What is told of a rollback that the operator makes by itself; that it makes it is a matter of test_releases."""

from datetime import timedelta

import pytest

from keep_operator.domain import workflow
from keep_operator.domain.effects import EndCanary, Take
from keep_operator.domain.history import Cause
from keep_operator.domain.workflow import RolledBack
from unit.domain.test_releases import CANARY, GUARD, world
from unit.workflows import Ended, World, spec_of


def found(made: World, number: int, failed: bool) -> RolledBack | None:
    """What is told of the next look, after nine runs of a revision."""
    made.now += timedelta(minutes=1)
    made.ended += [Ended(number, made.now, failed)] * 9
    made.now += timedelta(seconds=1)
    return workflow.rolled_back(made.plan().actions)


@pytest.mark.parametrize(("release", "cause"), [(CANARY, Cause.CANARY), (GUARD, Cause.AUTO_ROLLBACK)])
def test_a_rollback_is_told_with_what_noticed_it(release: dict[str, object], cause: Cause) -> None:
    """The metric tells trials that failed from versions that failed everybody; the status tells the rest."""
    made = world("A", release=release)
    made.edit(spec_of("B", release=release))
    made.settle()
    assert found(made, 1, failed=True) is None
    back = found(made, 2, failed=True)
    assert back is not None
    assert (back.number, back.cause, back.shown) == (2, cause, True)
    assert "9 of 9 runs failed" in back.why
    made.settle()
    assert found(made, 2, failed=True) is None


def test_what_the_status_does_not_tell_is_told_apart() -> None:
    """The version that was taken back is not the one that is desired by now, of which the status speaks."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.edit(spec_of("C", release={**GUARD, "approval": {"required": "Always"}}))
    made.settle()
    back = found(made, 2, failed=True)
    assert back is not None
    assert (back.number, back.cause, back.shown) == (2, Cause.AUTO_ROLLBACK, False)


def test_a_candidate_whose_stable_version_fails_has_not_failed() -> None:
    """v2 took over and fails while v3 is tried against it: v3 begins anew, against v1."""
    made = world("A", release=GUARD)
    made.edit(spec_of("B", release=GUARD))
    made.settle()
    made.edit(spec_of("C", release={**GUARD, **CANARY}))
    made.settle()
    assert made.lineage.canary is not None
    back = found(made, 2, failed=True)
    assert back is not None
    assert (back.number, back.cause) == (2, Cause.AUTO_ROLLBACK)
    effects = [each.effect for each in made.plan().actions if isinstance(each, Take)]
    ended = [each for each in effects if isinstance(each, EndCanary)]
    assert [each.outcome for each in ended] == ["Superseded"]
    made.settle()
    assert (made.lineage.canary.candidate, made.lineage.canary.stable) == (3, 1)
