"""The functions of Keep: what each answers to what it is given, wherever and whenever it is called."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.grammar import templates
from keep_operator.domain.language import functions, mustache
from keep_operator.domain.language.context import Record
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Failed
from keep_operator.domain.language.mustache import Filling

pytestmark = pytest.mark.unit

# A Friday.
NOW: Final = datetime(2026, 3, 20, 14, 30, tzinfo=UTC)
MOMENT: Final = Moment(NOW, "fp", NOW - timedelta(minutes=90), NOW - timedelta(hours=5))
ROOTS: Final[dict[str, Any]] = {
    "list": [1, 2, 3],
    "mixed": ["a", "b", "b"],
    "none": None,
    "empty": [],
    "object": {"s1": "critical", "n": 5, "x_a": 1, "x_b": 2},
    "json": '{"name": "cpu", "n": 5}',
    "broken": '{"name": "a\nb"}',
    "quote": 'it\'s "so"\nhere',
    "number": 7,
    "alert": Record(fingerprint="fp", status="firing", name='it\'s "on"'),
    "other": Record(fingerprint="fq", status="firing", firingStartTime="2026-03-20T14:00:00Z"),
    "resolved": Record(fingerprint="fq", status="resolved", firingStartTime="2026-03-20T14:00:00Z"),
    "date": "2026-03-20T12:00:00+02:00",
}

TABLE: Final = [
    ("keep.add(1, 2)", "3"),
    ("keep.add(1, 2, 3)", "6"),
    ("keep.add('4', {{ number }})", "11"),
    ("keep.sub(3, 1)", "2"),
    ("keep.sub(1, 2, 3)", "-4"),
    ("keep.sub(1, -2)", "3"),
    ("keep.mul(2, 2)", "4"),
    ("keep.mul('1', '2', '0')", "0"),
    ("keep.div(6, 2)", "3"),
    ("keep.div(7, 2)", "3.5"),
    ("keep.div(5)", "5"),
    ("keep.mod(8, 3)", "2"),
    ("keep.exp(2, 3)", "8"),
    ("keep.fdiv(8, 3)", "2"),
    ("keep.fdiv(10, 3, 2)", "1"),
    ("keep.add(keep.div(7, 2), 1)", "4"),  # numbers are cut to whole ones, as in Keep
    ("keep.eq(2, 2)", "True"),
    ("keep.eq(1, '1')", "True"),  # a number that is written out is text
    ("keep.eq(1, 2)", "False"),
    ("keep.all({{ list }})", "False"),
    ("keep.all([1, 1, 1])", "True"),
    ("keep.all([])", "True"),
    ("keep.diff({{ mixed }})", "True"),
    ("keep.diff(['a', 'A'])", "True"),
    ("keep.diff([42, 42])", "False"),
    ("keep.diff('gg')", "False"),
    ("keep.len({{ list }})", "3"),
    ("keep.len({{ empty }})", "0"),
    ("keep.len({{ none }})", "0"),
    ("keep.len({{ nothing.there }})", "0"),
    ("keep.len()", "0"),
    ("keep.len({{ quote }})", "14"),
    ("keep.len('{{ quote }}')", "14"),
    ("keep.len({{ object }})", "4"),
    ("keep.uppercase('a b')", "A B"),
    ("keep.uppercase(hello)", "HELLO"),
    ("keep.lowercase('A')", "a"),
    ("keep.capitalize('HELLO world')", "Hello world"),
    ("keep.title('hello-world 1a')", "Hello-World 1A"),
    ("keep.split(' a,b ', ',')", "['a', 'b']"),
    ("keep.split('prod-group-a', '-')", "['prod', 'group', 'a']"),
    ("keep.index({{ list }}, 2)", "3"),
    ("keep.index(keep.split('a-b-c', '-'), 1)", "b"),
    ("keep.index({{ list }}, -1)", "3"),
    ("keep.index({{ object }}, 's1')", "critical"),
    ("keep.strip('  a ')", "a"),
    ("keep.remove_newlines('{{ quote }}')", 'it\'s "so"here'),
    ("keep.remove_newlines()", ""),
    ("keep.first({{ list }})", "1"),
    ("keep.last({{ list }})", "3"),
    ("keep.first(keep.split('1 2', ' '))", "1"),
    ("keep.utcnow()", "2026-03-20 14:30:00+00:00"),
    ("keep.utcnowtimestamp()", str(int(NOW.timestamp()))),
    ("keep.utcnowiso()", "2026-03-20T14:30:00+00:00"),
    ("keep.substract_minutes(keep.utcnow(), 31)", "2026-03-20 13:59:00+00:00"),
    ("keep.substract_minutes('2026-03-20', '1.5')", "2026-03-19 23:58:30+00:00"),
    ("keep.timestamp_delta(keep.utcnow(), -2, 'days')", "2026-03-18 14:30:00+00:00"),
    ("keep.timestamp_delta(keep.utcnow(), 1.5, 'hours')", "2026-03-20 16:00:00+00:00"),
    ("keep.timestamp_delta('2026-03-20T00:00:00', 2, 'weeks')", "2026-04-03 00:00:00+00:00"),
    ("keep.to_utc('2021-01-01 00:00:00')", "2021-01-01 00:00:00+00:00"),
    ("keep.to_utc('{{ date }}')", "2026-03-20 10:00:00+00:00"),
    ("keep.to_utc('Fri, 20 Mar 2026 14:30:00 GMT')", "2026-03-20 14:30:00+00:00"),
    ("keep.to_utc('2026-03-20 14:30:00 UTC')", "2026-03-20 14:30:00+00:00"),
    ("keep.to_utc('2026/03/20 14:30:00')", "2026-03-20 14:30:00+00:00"),
    ("keep.to_utc('20 Mar 2026')", "2026-03-20 00:00:00+00:00"),
    ("keep.to_utc('no date')", ""),
    ("keep.to_utc()", ""),
    ("keep.from_timestamp(1717244449)", "2024-06-01 12:20:49+00:00"),
    ("keep.from_timestamp('1717244449.5', 'Europe/Berlin')", "2024-06-01 14:20:49.500000+02:00"),
    ("keep.from_timestamp('x')", ""),
    ("keep.from_timestamp(0, 'No/Where')", ""),
    ("keep.to_timestamp('2024-06-01T12:20:49Z')", "1717244449"),
    ("keep.to_timestamp(keep.to_utc('2024-06-01T14:20:49+02:00'))", "1717244449"),
    ("keep.to_timestamp('no date')", "0"),
    ("keep.datetime_compare(keep.utcnow(), keep.to_utc('{{ date }}'))", "4.5"),
    ("keep.datetime_compare(keep.utcnow(), keep.to_utc('no date'))", "0"),
    ("keep.datetime_compare()", "0"),
    ("keep.json_dumps({{ list }})", "[\n    1,\n    2,\n    3\n]"),
    ("keep.json_dumps('[1, 2]')", "[\n    1,\n    2\n]"),
    ("keep.json_dumps({{ json }})", '{\n    "name": "cpu",\n    "n": 5\n}'),
    ("keep.json_loads('{{ json }}')", {"name": "cpu", "n": 5}),
    ("keep.json_loads('{{ broken }}')", {"name": "a\nb"}),
    ("keep.json_loads('no json')", {}),
    ("keep.dict_set({}, 'at', keep.utcnow())", {"at": "2026-03-20 14:30:00+00:00"}),
    ("is keep.json_loads('{{ json }}')", 'is {"name": "cpu", "n": 5}'),
    ("keep.replace('a-b', '-', '+')", "a+b"),
    ("keep.replace('{{ quote }}', '\\n', ' ')", 'it\'s "so" here'),
    ("keep.encode('a b/ü')", "a%20b/%C3%BC"),
    ("keep.dict_to_key_value_list({'a': 1, 'b': 'x'})", "['a:1', 'b:x']"),
    ("keep.slice('long string', 0, 4)", "long"),
    ("keep.slice('long string', 5)", "string"),
    ("keep.slice('long string', -6, -3)", "str"),
    ("keep.slice({{ list }}, 1)", "[2, 3]"),
    ("keep.join({{ mixed }})", "a,b,b"),
    ("keep.join(['a', 'b'], ' ', 'x')", "xa xb"),
    ("keep.join({'a': 1, 'b': 2}, '&', '?')", "?a=1&?b=2"),
    ("keep.join('[1, 2]', ';')", "1;2"),
    ("keep.dict_pop({{ json }}, 'n')", {"name": "cpu"}),
    ("keep.dict_pop({'a': 1, 'b': 2}, 'a', 'c')", {"b": 2}),
    ("keep.dict_pop_prefix({{ object }}, 'x_')", {"s1": "critical", "n": 5}),
    ("keep.dict_filter_by_prefix({{ object }}, 'x_')", {"x_a": 1, "x_b": 2}),
    ("keep.dict_filter_by_prefix({'p': 1}, '')", {"p": 1}),
    ("keep.add_time_to_date('2024-07-01', '%Y-%m-%d', '1w 2d 3h 30m')", "2024-07-10 03:30:00"),
    (
        "keep.add_time_to_date('2024-08-16T14:21:00.000-0500', '%Y-%m-%dT%H:%M:%S.%f%z', '45m')",
        "2024-08-16 15:06:00-05:00",
    ),
    ("keep.dictget({{ object }}, 's1', 'info')", "critical"),
    ("keep.dictget({{ object }}, 's9', 'info')", "info"),
    ("keep.dictget({{ object }}, 's9')", "None"),
    ("keep.dictget({{ json }}, 'n', 0)", "5"),
    ("keep.dictget('no json', 'a', 'info')", "info"),
    ("keep.dictget({{ none }}, 'a', 'info')", "info"),
    ("keep.dict_set({{ json }}, 'c', 3)", {"name": "cpu", "n": 5, "c": "3"}),
    ("keep.dict_set('no json', 'a', 'b')", {"a": "b"}),
    ("keep.dict_merge({{ json }}, 'no json', {'n': 6})", {"name": "cpu", "n": 6}),
    ("keep.get_firing_time('{{ alert }}', 'minutes')", "90.00"),
    ("keep.get_firing_time({{ alert }}, 'h')", "1.50"),
    ("keep.get_firing_time('{{ alert }}', 's')", "5400.00"),
    ("keep.get_firing_time('{{ other }}', 'm')", "30.00"),
    ("keep.get_firing_time('{{ resolved }}', 'm')", "0.00"),
    ("keep.is_first_time('fp')", "False"),
    ("keep.is_first_time('{{ alert.fingerprint }}', '1h')", "True"),
    ("keep.is_first_time('fp', '1d')", "False"),
    ("keep.is_first_time('fp', since='300m')", "False"),
    ("keep.is_business_hours()", "True"),
    ("keep.is_business_hours(timezone='America/New_York')", "True"),
    ("keep.is_business_hours(timezone='Asia/Tokyo')", "False"),
    ("keep.is_business_hours(business_days=(0, 1, 2, 3))", "False"),
    ("keep.is_business_hours('{{ date }}', 8, 20, (0, 4), 'Asia/Jerusalem')", "True"),
    ("keep.is_business_hours(time_to_check='2026-03-21T12:00:00Z')", "False"),
    ("keep.is_business_hours('no date')", "False"),
    ("keep.is_business_hours(start_hour=15)", "False"),
    ("keep.is_business_hours(end_hour=14)", "False"),
]


def filled(text: str, moment: Moment = MOMENT) -> Any:
    """A text filled in for a run that knows ROOTS."""
    return mustache.render(text, Filling([ROOTS], moment))


@pytest.mark.parametrize(("text", "answer"), TABLE, ids=[text for text, _ in TABLE])
def test_every_function_answers_as_in_keep(text: str, answer: object) -> None:
    """A workflow that was written for Keep gets the same answers here."""
    assert filled(text) == answer


def test_no_function_is_left_out() -> None:
    """What the grammar lets through can be called, and each function is in the table above."""
    assert set(functions.FUNCTIONS) == templates.FUNCTIONS
    assert len(functions.FUNCTIONS) == 47
    called = " ".join(text for text, _ in TABLE)
    assert {name for name in functions.FUNCTIONS if f"keep.{name}(" not in called} == set()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keep.add('a', 1)", "keep.add counts in whole numbers, and 'a' is none"),
        ("keep.add()", "keep.add needs numbers"),
        ("keep.div(1, 0)", "keep.div failed: division by zero"),
        ("keep.first([])", "keep.first failed: list index out of range"),
        ("keep.len(1, 2)", "keep.len takes from 0 to 1 positional arguments but 2 were given"),
        ("keep.split('a')", "keep.split missing 1 required positional argument: 'delimiter'"),
        ("keep.json_dumps('no')", "keep.json_dumps needs JSON, and 'no' is none"),
        ("keep.dict_pop([1], 'a')", "keep.dict_pop needs an object, not '[1]'"),
        (
            "keep.timestamp_delta(keep.utcnow(), 1, 'years')",
            "counts in weeks, days, hours, minutes, seconds, not in 'years'",
        ),
        ("keep.substract_minutes('soon', 1)", "needs a date, such as 2024-06-01T12:00:00Z, not 'soon'"),
        ("keep.get_firing_time('{}', 'm')", "keep.get_firing_time needs an alert with a fingerprint"),
        ("keep.get_firing_time('{{ alert }}', 'y')", "counts in s, m, h, seconds, minutes or hours, not in 'y'"),
        ("keep.is_first_time('')", "keep.is_first_time needs the fingerprint of an alert"),
        ("keep.is_first_time('other')", "knows only the alert that started the run"),
        ("keep.is_first_time('fp', 'soon')", "takes a span such as 30m, 24h, 7d or 2w, not 'soon'"),
        ("keep.is_business_hours(start_hour=24)", "takes hours from 0 to 23"),
        ("keep.is_business_hours(business_days=(7,))", "takes business_days as a list of numbers from 0"),
        ("keep.is_business_hours(timezone='Mars')", "does not know the time zone 'Mars'"),
        ("keep.json_loads('{\"a\": NaN}')", "a function answers what cannot be written"),
        ("keep.len(nested.thing)", "has an attribute, which a function does not take"),
        ("keep.len('a' 'b' c)", "is no expression: \"keep.len('a' 'b' c)\""),
    ],
)
def test_what_a_function_cannot_take_is_told_with_its_name(text: str, told: str) -> None:
    """The message says which function it was, what is wrong, and what would be right."""
    with pytest.raises(Failed) as failed:
        filled(text)
    assert told in str(failed.value)


def test_an_alert_that_never_fired_before_is_there_for_the_first_time() -> None:
    """The first event of a fingerprint, with and without a span."""
    first = Moment(NOW, "fp")
    assert filled("keep.is_first_time('fp')", first) == "True"
    assert filled("keep.is_first_time('fp', '1d')", first) == "True"
    assert filled("keep.get_firing_time('{{ alert }}', 'm')", first) == "0.00"


def test_answers_do_not_depend_on_where_it_runs() -> None:
    """The same moment, told in another zone, gives the same answers."""
    elsewhere = Moment(NOW.astimezone(timezone(timedelta(hours=9))), "fp", MOMENT.firing_since)
    for text in (
        "keep.utcnow()",
        "keep.utcnowiso()",
        "keep.is_business_hours()",
        "keep.get_firing_time('{{ alert }}', 'm')",
    ):
        assert filled(text, elsewhere) == filled(text)


@given(
    st.sampled_from(sorted(functions.FUNCTIONS)),
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    ),
)
def test_any_arguments_are_answered_or_refused(name: str, arguments: list[Any]) -> None:
    """Whatever an alert holds, a function never ends in a traceback."""
    with contextlib.suppress(Failed):
        functions.call(name, arguments, {}, MOMENT)
