"""Hostile definitions and hostile alerts: none gets at the process, a file or the network, hangs, or fills the memory.

What one may do is counted, so each of these ends in the same sentence on every machine. The time-out of the tests is the
bound against hanging.
"""

import contextlib
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from keep_operator.domain.language import conditions, context, limits, mustache
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Failed, LimitExceeded
from keep_operator.domain.language.mustache import Filling

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

MOMENT: Final = Moment(datetime(2026, 3, 20, 14, 30, tzinfo=UTC), "fp")
_DOUBLING: Final = {f"c{level}": f"{{{{ consts.c{level + 1} }}}}" * 10 for level in range(9)} | {"c9": "x" * 10}
ROOTS: Final[dict[str, Any]] = {
    "a": "x",
    "list": list(range(10)),
    "long": list(range(3_000)),
    "large": "&" * (limits.TEXT - 1),
    "deep": "[" * 90_000,
    "minus": f"[{'-' * 90_000}1]",
    "dots": f"[a{'.a' * 40_000}]",
    "hostile": "{{ secrets.token }} keep.utcnow() ' + __import__('os') + '",
    "holes": "\ue0000\ue001 hole_0_",
    "secrets": {"token": "s3cret"},
    "consts": context.source(_DOUBLING),
}

EXPRESSIONS: Final = [
    # out of the sandbox
    "().__class__.__bases__[0].__subclasses__()",
    "__import__('os').system('id')",
    "open('/etc/passwd')",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "getattr('a', 'upper')",
    "globals()",
    "vars()",
    "print(1)",
    "input()",
    "type('a')",
    "len.__globals__",
    "{}.__class__",
    "'a'.__class__.__mro__",
    "keep.__class__",
    "keep.len.__globals__",
    "keep.len('a').__class__",
    "(lambda: 1)()",
    "[x for x in [1] * 10]",
    "{x: x for x in [1]}",
    "sum(x for x in [1])",
    "'x' if (y := 1) else 2",
    "max(*[1, 2])",
    "{**{}}",
    "import os",
    "1; import os",
    "1j",
    "b'x'",
    "...",
    "\x00",
    # formats
    "'{0.__class__}'.format(1)",
    "'%9999999999d' % 1",
    "f'{1:>999999999}'",
    "'x'.zfill(10 ** 9)",
    "'x'.center(10 ** 9)",
    "'x'.join(['a'] * 9)",
    "'x'.encode()",
    # too much
    "9 ** 9 ** 9",
    "2 ** 4096 ** 2",
    "1 << 99999999999",
    "'a' * 10 ** 9",
    "10 ** 9 * 'a'",
    "[0] * 10 ** 9",
    "(1, 2) * 10 ** 9",
    "'a'.replace('', 'b' * 1000).replace('', 'c' * 100000)",
    "round(10 ** 1000, -10 ** 9)",
    "int('9' * 5000)",
    "sum([[1]] * 9, [])",
    "not " * 5_000 + "1",
    "-" * 20_000 + "1",
    "(" * 300 + "1" + ")" * 300,
    "[" * 3_000 + "]" * 3_000,
    "1" + "+1" * 20_000,
    "a" + ".b" * 15_000,
    "'" + "a" * 60_000 + "' == 'a'",
]
TEMPLATES: Final = [
    # out of the sandbox
    "{{ a.__class__ }}",
    "{{ a.__class__.__init__.__globals__ }}",
    "{{ list.append }}",
    "{{ a.upper }}",
    "keep.len(__import__('os').system('id'))",
    "keep.len([__import__('os').system('id')])",
    "keep.len((lambda: 1)())",
    "keep.len([x for x in 'aaa'])",
    "keep.len(*[1])",
    "keep.len(**{'iterable': 1})",
    "keep.len(a.__class__)",
    "keep.dict_set({}, [1], 2)",
    "keep.is_business_hours(timezone='../../etc/passwd')",
    "keep.is_business_hours(timezone='/etc/passwd')",
    # too much
    "{{ consts.c0 }}",
    "{{#list}}" * 6 + "x" + "{{/list}}" * 6,
    "{{#long}}{{#long}}{{#long}}y{{/long}}{{/long}}{{/long}}",
    "{{#fn.upper}}" * 60 + "x" + "{{/fn.upper}}" * 60,
    "{{ large }}{{ large }}",
    "keep.encode('{{ large }}')",
    "keep.replace('{{ large }}', '&', '&&')",
    "keep.replace(keep.replace('" + "a" * 900 + "', '', '" + "b" * 1000 + "'), 'b', '" + "c" * 1000 + "')",
    "keep.join({{ long }}, '" + "x" * 5_000 + "')",
    "keep.exp(10, 999999999)",
    "keep.exp(9, 9, 9, 9, 9)",
    "keep.mul(" + ", ".join(["9" * 1_000] * 40) + ")",
    "keep.add('" + "9" * 5_000 + "')",
    "keep.len(" * 200 + ")" * 200,
    "keep.len(" * 40_000,
    "keep.len('" * 20_000,
    "keep.timestamp_delta(keep.utcnow(), 99999999999999, 'weeks')",
    "keep.add_time_to_date('2024', '" + "%Y " * 200 + "', '1d')",
    "keep.add_time_to_date('2024', '%Y', '" + "9" * 30 + "w" + "999999999w" * 9 + "')",
    "keep.json_dumps('" + "[" * 40 + "')",
    "{{" * 3_000,
    "{{ " + "a." * 200 + "b }}",
    "{{#a}}" * 200 + "{{/a}}" * 200,
]


@pytest.mark.parametrize("text", EXPRESSIONS, ids=[text[:40] for text in EXPRESSIONS])
def test_no_expression_gets_through(text: str) -> None:
    """Neither an ``if`` nor an assertion does more than compare; what it may not do, it is told."""
    with pytest.raises(Failed):
        conditions.holds(text, Filling([ROOTS], MOMENT))
    with contextlib.suppress(LimitExceeded):
        assert not conditions.judge({"name": "c", "type": "assert", "assert": text}, Filling([ROOTS], MOMENT)).holds


@pytest.mark.parametrize("text", TEMPLATES, ids=[text[:40] for text in TEMPLATES])
def test_no_template_gets_through(text: str) -> None:
    """A text that reaches for more than values, or makes more than a text may be, ends its step."""
    with pytest.raises(Failed):
        mustache.render(text, Filling([ROOTS], MOMENT), strict=True)


@pytest.mark.parametrize("name", ["hostile", "holes", "deep", "minus", "dots", "large"])
def test_no_alert_gets_through(name: str) -> None:
    """What an alert says is text wherever it stands: in a message, in quotes, as an argument, in a comparison."""
    value = ROOTS[name]
    assert mustache.render(f"{{{{ {name} }}}}", Filling([ROOTS], MOMENT)) == value
    for text in (f"keep.len('{{{{ {name} }}}}')", f"keep.len({{{{ {name} }}}})"):
        assert mustache.render(text, Filling([ROOTS], MOMENT)) == str(len(value))
    for guard in (f"'{{{{ {name} }}}}' == 'x'", f"{{{{ {name} }}}} == 'x'"):
        assert not conditions.holds(guard, Filling([ROOTS], MOMENT))
    assert conditions.holds(f"{{{{ {name} }}}}", Filling([ROOTS], MOMENT))
    assert not conditions.judge(
        {"name": "c", "type": "assert", "assert": f"{{{{ {name} }}}} == 'x'"}, Filling([ROOTS], MOMENT)
    ).holds


def test_partials_read_no_file() -> None:
    """Keep's library looks for them in files; the grammar faults them, and here they stand for nothing."""
    assert mustache.render("{{>/etc/passwd}}{{> passwd }}", Filling([ROOTS], MOMENT)) == ""


def test_a_path_is_no_time_zone() -> None:
    """A zone is looked up by name only."""
    assert mustache.render("keep.from_timestamp(0, '../../etc/passwd')", Filling([ROOTS], MOMENT)) == ""
