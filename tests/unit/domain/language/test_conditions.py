"""Whether a step runs: ``if``, thresholds, assertions and deviations."""

import contextlib
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.language import conditions, context
from keep_operator.domain.language.context import Record
from keep_operator.domain.language.expressions import Absent
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Failed
from keep_operator.domain.language.mustache import Filling

pytestmark = pytest.mark.unit

MOMENT: Final = Moment(datetime(2026, 3, 20, 14, 30, tzinfo=UTC), "fp", datetime(2026, 3, 20, 14, 0, tzinfo=UTC))
ROOTS: Final[dict[str, Any]] = {
    "alert": Record(
        fingerprint="fp",
        service="ftp",
        severity="critical",
        name='it\'s 100% "full"\nnow',
        evil="' or '1' == '1",
        count=5,
        tags=["a", "b"],
        no="False",
        small="false",
    ),
    "steps": {"ask": {"results": {"rows": [[1, "95%"], [2, "15%"]], "value": "0.7", "none": [], "run": True, "n": 0}}},
    "numbers": [1, 1, 1, 1, 1, 1, 1, 9],
    "rows": [{"v": 1}, {"v": "2"}, {"v": 3}],
    "consts": context.source(
        {"rule": "'{{ alert.service }}' == 'ftp' and {{ alert.count }} > 4", "on": "true", "word": "prod", "max": 4}
    ),
    "A": True,
    "B": False,
}


def filling() -> Filling:
    """A run that knows ROOTS."""
    return Filling([ROOTS], MOMENT)


@pytest.mark.parametrize(
    ("guard", "holds"),
    [
        ("'{{ alert.service }}' == 'ftp'", True),
        ("'{{ alert.service }}' == 'ftp' and not '{{ alert.ticket }}'", True),
        ("{{ alert.service }} == 'ftp'", True),
        ('"{{ alert.service }}" == "ftp"', True),
        ("'{{ alert.severity }}' in ['critical', 'high']", True),
        ("'{{ alert.severity }}' not in ('info',) and True", True),
        ("'full' in '{{ alert.name }}'", True),
        ("'{{ alert.name }}' == 'it\\'s 100% \"full\"\\nnow'", True),
        ("'{{ alert.service }}' == 'x' or {{ A }}", True),
        ("{{ A }}", True),
        ("{{ B }}", False),
        ("{{ A }} and {{ B }}", False),
        ("{{ B }} or {{ A }}", True),
        ("not {{ A }}", False),
        ("not {{ B }}", True),
        ("{{ B }} == 'False' and {{ A }} == 'True'", True),
        ("{{ alert.count }} > 4", True),
        ("{{ alert.count }} > 5", False),
        ("{{ steps.ask.results.value }} > 0.5", True),
        ("4 < {{ alert.count }} <= 5", True),
        ("{{ alert.count }} == 5", False),  # a name is text first, in Keep too
        ("'{{ alert.count }}' == '5'", True),
        ("int('{{ alert.count }}') * 2 - 1 == 9", True),
        ("{{ steps.ask.results.run }}", True),
        ("{{ steps.ask.results.n }}", False),
        ("{{ steps.ask.results.none }}", False),
        ("{{ alert.nothing }}", False),
        ("{{ alert.service and alert.severity }}", False),
        ("{{ alert.no }}", False),
        ("{{ alert.small }}", False),
        ("{{ alert.name }}", True),
        ("not '{{ alert.nothing }}' and {{ alert.service }}", True),
        ("keep.len({{ alert.tags }}) == 2", True),
        ("keep.len({{ steps.ask.results.none }}) > 0", False),
        (
            "keep.get_firing_time('{{ alert }}', 'minutes') >= 30 and keep.get_firing_time('{{ alert }}', 'm') < 31",
            True,
        ),
        ("keep.is_business_hours(timezone='America/New_York')", True),
        ("keep.uppercase('{{ alert.service }}') == 'FTP'", True),
        ("'keep.uppercase('{{ alert.service }}')' == 'FTP'", True),
        ("keep.utcnow() > keep.to_utc('2026-03-20')", True),
        ("keep.dictget({'a': 1}, 'a') == 1", True),
        ("'{{ alert.name }}'.lower().startswith('it') and '{{ alert.name }}'.split(' ')[1] == '100%'", True),
        ("[1, 2, 3][-1] == 3 and {'a': [1]}['a'] == [1] and 'abc'[1:] == 'bc'", True),
        ("2 ** 10 // 3 % 7 == 5 and -1 < +1 and 7 / 2 == 3.5", True),
        ("min(1, 2) + max([3, 4]) + abs(-5) + round(1.26, 1) + sum([1]) + len('ab') == 14.3", True),
        ("any([0, 1]) and all([1]) and sorted([2, 1]) == [1, 2] and bool(str(1)) and float('1.5') == 1.5", True),
        ("'a' if {{ A }} else ''", True),
        ("None is None and 'x' is not None", True),
        ("1 > 2\n or\n 2 > 1", True),
        ("{{ consts.rule }}", True),
        ("{{ consts.on }}", True),
        ("'{{ consts.word }}' == 'prod' and {{ consts.max }} < 5", True),
        ("'{{ alert.service }}' == '{{ alert.evil }}'", False),
        ("{{ alert.service }} == {{ alert.evil }}", False),
    ],
)
def test_an_if_holds_as_in_keep(guard: str, holds: bool) -> None:
    """The comparisons that people write, with and without quotes, and what an alert cannot change about them."""
    assert conditions.holds(guard, filling()) is holds


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        ("{{ alert.name }} > 5", "cannot be evaluated: '>' not supported between instances of 'str' and 'int'"),
        ("ftp == 'ftp'", 'uses "ftp", which is no name here; a text needs quotes, a name of the run braces'),
        ("1 +", 'is no expression: "1 +"'),
        ("1 / 0", "cannot be evaluated: division by zero"),
        ("keep.first([]) == 1", "keep.first failed: list index out of range"),
        ("[1][5]", "cannot be evaluated: list index out of range"),
    ],
)
def test_an_if_that_cannot_be_evaluated_is_told(guard: str, told: str) -> None:
    """It does not count as false: nobody would see that an alarm never comes."""
    with pytest.raises(Failed) as failed:
        conditions.holds(guard, filling())
    assert told in str(failed.value)


@pytest.mark.parametrize(
    "guard",
    [
        "{{ alert.nothing }} > 5",
        "'{{ alert.nothing }}' > 5",
        "{{ steps.ask.results.none }} > 5",
        "int('{{ alert.nothing }}') > 3",
    ],
)
def test_an_if_about_what_is_not_there_is_told_apart(guard: str) -> None:
    """Alerts do not all have the same fields: the step is left out, as in Keep, and its row says why."""
    with pytest.raises(Absent, match="there is no"):
        conditions.holds(guard, filling())


def judged(**condition: Any) -> conditions.Judged:
    """A condition judged."""
    return conditions.judge({"name": "c", **condition}, filling())


@pytest.mark.parametrize(
    ("value", "compare_to", "more", "holds"),
    [
        ("{{ steps.ask.results.value }}", 0.5, {}, True),
        ("{{ steps.ask.results.value }}", "0.7", {}, False),
        ("0.2", 0.5, {"compare_type": "lt"}, True),
        ("{{ steps.ask.results.rows.0.1 }}", "90%", {}, True),
        ("100%", "90%", {}, True),
        ("9%", "50%", {}, False),
        ("150%", "90%", {}, True),
        ("-5", 3, {}, False),
        ("-5", "-6", {}, True),
        ("1e3", "999", {}, True),
        ("keep.len({{ alert.tags }})", 1, {}, True),
        ("2026-02-01", "2026-01-01", {}, True),
        (60, 50, {}, True),
        ("{{ alert.count }}", "{{ consts.max }}", {}, True),
    ],
)
def test_a_threshold_compares_numbers_percentages_and_texts(
    value: object, compare_to: object, more: dict[str, str], holds: bool
) -> None:
    """By size, not by spelling."""
    assert judged(type="threshold", value=value, compare_to=compare_to, **more).holds is holds


@pytest.mark.parametrize(("value", "level"), [("60", "major"), ("45", "medium"), ("31", "minor"), ("30", None)])
def test_of_several_thresholds_the_first_that_is_passed_gives_the_level(value: str, level: str | None) -> None:
    """``50, 40, 30`` with as many levels."""
    found = judged(type="threshold", value=value, compare_to="50, 40, 30", level="major, medium, minor")
    assert (found.holds, found.details.get("level")) == (level is not None, level)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"value": "95", "compare_to": "90%"}, 'compares "95" with "90%"; both must be numbers, or both percentages'),
        (
            {"value": "{{ steps.ask.nothing }}", "compare_to": 5},
            'has nothing to compare: "{{ steps.ask.nothing }}" is empty',
        ),
        ({"value": "x", "compare_to": 1}, 'compares "x" with "1"'),
        ({"value": "1", "compare_to": "2, 3", "level": "a"}, "has 2 values in compare_to and 1 in level"),
    ],
)
def test_what_cannot_be_compared_is_told(condition: dict[str, Any], told: str) -> None:
    """With the name of the condition; an alarm does not stay away because nothing was measured."""
    with pytest.raises(Failed) as failed:
        judged(type="threshold", **condition)
    assert str(failed.value).startswith('condition "c": ')
    assert told in str(failed.value)


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        ("{{ alert.count }} == 5", True),
        ("{{ steps.ask.results.n }} > 0", False),
        ("{{ alert.service }} == 'ftp'", True),
        ("'{{ alert.service }}' == 'ftp'", True),
        ("{{ alert.nothing }} >= {{ alert.nothing }}", False),
        ("{{ alert.nothing }} != 1", False),
        ("1 +", False),
    ],
)
def test_an_assertion_takes_names_for_what_they_say(assertion: str, holds: bool) -> None:
    """Numbers are numbers; what cannot be evaluated does not hold, as in Keep."""
    assert judged(type="assert", **{"assert": assertion}).holds is holds


def test_a_deviation_is_found_among_numbers_and_in_a_column() -> None:
    """One value of eight is far from the others; of three in a row none is."""
    found = judged(type="stddev", value="{{ numbers }}", compare_to=2)
    assert found.holds
    assert len(found.details["stddev"]) == 8
    assert not judged(type="stddev", value="{{ rows }}", compare_to=2, pivot_column="v").holds
    assert not judged(type="stddev", value=[1, 1], compare_to="1").holds
    for value, told in (("{{ alert.tags }}", "needs numbers"), ("x", "needs a list"), ([1], "at least two")):
        with pytest.raises(Failed, match=told):
            judged(type="stddev", value=value, compare_to=1)


@given(st.text(alphabet="{}() akeplnf'\"\n<>=!0123.,+-*/[]notrd", max_size=40))
def test_any_if_is_answered_or_refused(guard: str) -> None:
    """However broken, an expression never ends in a traceback."""
    with contextlib.suppress(Failed):
        assert isinstance(conditions.holds(guard, filling()), bool)


@given(st.text())
def test_an_alert_cannot_answer_for_the_workflow(service: str) -> None:
    """Whatever stands in an alert, a comparison with it is true only if it is that."""
    roots = {"alert": {"service": service}}
    for guard in ("'{{ alert.service }}' == 'ftp'", "{{ alert.service }} == 'ftp'"):
        assert conditions.holds(guard, Filling([roots], MOMENT)) is (service == "ftp")
