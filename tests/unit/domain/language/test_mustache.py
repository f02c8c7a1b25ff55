"""Texts filled in: what users read in their messages."""

import contextlib
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.language import context, mustache
from keep_operator.domain.language.context import Record
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Failed
from keep_operator.domain.language.mustache import Filling

pytestmark = pytest.mark.unit

MOMENT: Final = Moment(datetime(2026, 3, 20, 14, 30, tzinfo=UTC))
ROOTS: Final[dict[str, Any]] = {
    "alert": Record(name="<b>\"A\" & 'B'</b>", labels={"team": "ops", "a.b/c": "dotted"}, note=None, count=0, ok=False),
    "steps": {
        "get-pods": {"results": [{"name": "p1", "up": True}, {"name": "p2", "up": False}]},
        "get.logs": {"results": {"data": {"result": [{"value": [1, "0.7"]}]}}},
        "get": {"results": "short"},
        "none": {"results": []},
    },
    "consts": context.source(
        {
            "greeting": "Hello {{ alert.labels.team }}, keep.len({{ steps.get-pods.results }}) pods, {{ vars.tier }}",
            "outer": "<{{ consts.greeting }}>",
            "loop": "{{ consts.loop }}",
            "table": {"a": "{{ alert.labels.team }}", "b": 1},
            "plain": {"a": 1},
            "when": "keep.utcnowiso()",
            "lacking": "[{{ vars.nothing }}]",
        }
    ),
    "vars": context.source({"tier": "tier {{ alert.count }}"}),
    "data": {"evil": "{{ consts.plain }} keep.utcnow() {{#alert}}x{{/alert}}", "entity": "&lt;b&gt;"},
    "empty": "",
    "pi": 3.5,
    "zero": 0.0,
}


def filled(text: str, *, strict: bool = False, default: Any = "") -> Any:
    """A text filled in for a run that knows ROOTS."""
    return mustache.render(text, Filling([ROOTS], MOMENT), strict=strict, default=default)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("no template", "no template"),
        ("{{alert.labels.team}} {{ alert.labels.team }}", "ops ops"),
        ("{{ alert.name }}", "<b>\"A\" & 'B'</b>"),
        ("{{{ alert.name }}} {{& alert.name }}", "<b>\"A\" & 'B'</b> <b>\"A\" & 'B'</b>"),
        ("a &lt; b &amp; {{ data.entity }} {{{ data.entity }}}", "a < b & &lt;b&gt; <b>"),
        ("{{ steps.get-pods.results.0.name }} {{ steps.get-pods.results[1].name }}", "p1 p2"),
        ("{{ steps.get-pods.results.-1.name }}", "p2"),
        ("{{ steps.get.logs.results.data.result.0.value.1 }} {{ steps.get.results }}", "0.7 short"),
        ("{{ alert.labels.a.b/c }} {{ alert.labels['team'] }}", "dotted ops"),
        (
            "{{ alert.note }}|{{ alert.count }}|{{ alert.ok }}|{{ empty }}|{{ steps.none.results }}|{{ zero }}",
            "|0|False|||0.0",
        ),
        ("{{ pi }} {{ steps.get-pods.results.0 }}", "3.5 {'name': 'p1', 'up': True}"),
        ("{{ nobody }}{{ alert.nothing }}{{ steps.get-pods.results.7 }}", ""),
        ("{{! a comment }}x", "x"),
        ("{{#steps.get-pods.results}}{{ name }}{{#up}}+{{/up}}{{^up}}-{{/up}};{{/steps.get-pods.results}}", "p1+;p2-;"),
        (
            "{{#steps.get-pods.results}}{{ name }} of {{ alert.labels.team }} {{/steps.get-pods.results}}",
            "p1 of ops p2 of ops ",
        ),
        ("{{#alert.labels}}{{ team }}{{/alert.labels}}", "ops"),
        (
            "{{#steps.get.logs.results.data.result.0.value}}<{{.}}>{{/steps.get.logs.results.data.result.0.value}}",
            "<1><0.7>",
        ),
        (
            "{{^steps.none.results}}none{{/steps.none.results}}{{#steps.none.results}}some{{/steps.none.results}}",
            "none",
        ),
        (
            "list:\n{{#steps.get-pods.results}}\n- {{ name }}\n{{/steps.get-pods.results}}\nend",
            "list:\n- p1\n- p2\nend",
        ),
        ("{{=<% %>=}}<% alert.labels.team %> <%={{ }}=%>{{ pi }}", "ops 3.5"),
        ("{{#fn.upper}}{{ alert.labels.team }}{{/fn.upper}} {{#fn.lower}}ABC{{/fn.lower}}", "OPS abc"),
        ("{{#fn.na}}{{ alert.nothing }}{{/fn.na}} {{#fn.default}}{{ nobody }}{{/fn.default}}.", "N/A ."),
        ("{{#fn.strip}}  {{ pi }} {{/fn.strip}}", "3.5"),
        ("{{#fn.nothing}}x{{/fn.nothing}}", ""),
        ("{{ consts.greeting }}", "Hello ops, 2 pods, tier 0"),
        ("{{ consts.outer }}", "<Hello ops, 2 pods, tier 0>"),
        ("{{ consts.loop }}", "{{ consts.loop }}"),
        ("{{ consts.table }} {{ consts.plain }}", "{'a': 'ops', 'b': 1} {'a': 1}"),
        ("{{ consts.when }}", "2026-03-20T14:30:00+00:00"),
        ("{{ consts.lacking }}", "[]"),
        ("There are keep.len({{ steps.get-pods.results }}) pods (all)", "There are 2 pods (all)"),
        ("keep.len({{ steps.get-pods.results }}) of keep.add(1, keep.len('{{ alert.labels.team }}'))", "2 of 4"),
        ("keep.join([{{#steps.get-pods.results}}'{{ name }}',{{/steps.get-pods.results}}], '+')", "p1+p2"),
        ("upkeep.len(1) keep.nothing(1) keep.len", "upkeep.len(1) keep.nothing(1) keep.len"),
        ("keep.len( and keep.len('ab')", "keep.len( and 2"),
        ("raw_render_without_execution(keep.len('{{ pi }}'))", "keep.len('3.5')"),
        ("  raw_render_without_execution(x (y)) ", "x (y)"),
    ],
)
def test_a_text_is_filled_in_as_keep_does(text: str, whole: str) -> None:
    """Names, sections, helpers, constants within constants, and calls between."""
    assert filled(text) == whole


def test_an_alert_is_json_where_anything_else_is_as_python_writes_it() -> None:
    """So that functions can read ``'{{ alert }}'``."""
    assert filled("keep.dictget('{{ alert }}', 'name')") == "<b>\"A\" & 'B'</b>"
    assert filled("{{ alert }}").startswith('{\n    "name": "<b>\\"A\\"')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ alert.nothing }}", 'there is no "alert.nothing"'),
        ("{{ alert.nothing }} {{ a | length }} {{ alert.nothing }}", 'there is no "alert.nothing", "a | length";'),
        ("{{#steps.nothing}}x{{/steps.nothing}}", 'there is no "steps.nothing"'),
        ("keep.len({{ alert.nothing }})", 'there is no "alert.nothing"'),
    ],
)
def test_a_parameter_insists_on_its_names(text: str, told: str) -> None:
    """A misspelt name ends the step instead of sending a message with a gap."""
    with pytest.raises(Failed, match="correct the name") as failed:
        filled(text, strict=True)
    assert told in str(failed.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ alert.note }}",
        "{{ consts.lacking }}",
        "{{^alert.nothing}}{{ alert.other }}{{/alert.nothing}}",
        "{{#fn.na}}{{ alert.nothing }}{{/fn.na}}",
    ],
)
def test_a_parameter_does_not_insist_where_keep_does_not(text: str) -> None:
    """What is there and empty, what a constant lacks, and texts that care for themselves."""
    filled(text, strict=True)


def test_a_default_stands_where_nothing_is_left() -> None:
    """As Keep's parameter objects have it."""
    assert filled("{{ alert.note }}", default=7) == 7
    assert filled("{{ alert.count }}", default=7) == "0"


def test_data_is_never_read_as_a_template_or_a_call() -> None:
    """Who can send an alert cannot read constants, nor call anything, by what the alert says."""
    assert filled("{{ data.evil }}") == ROOTS["data"]["evil"]
    assert filled("keep.uppercase('{{ data.evil }}')") == ROOTS["data"]["evil"].upper()


@given(st.text(alphabet="{}#^/&!=. akeplnf(')\"\n", max_size=40))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    """However broken, a text never ends in a traceback."""
    with contextlib.suppress(Failed):
        mustache.render(text, Filling([{"a": {"k": [1, {"e": "{{ a }}"}]}, "l": "x"}], MOMENT), strict=True)


@given(st.text())
def test_a_value_arrives_as_it_is(value: str) -> None:
    """Quotes, braces, entities and newlines of an alert come through a text and through a function unchanged."""
    filling = Filling([{"v": value}], MOMENT)
    assert mustache.render("{{ v }}.", filling) == f"{value}."
    assert mustache.render("keep.replace('{{ v }}.', '', '')", filling) == f"{value}."
    assert mustache.render("keep.json_loads('{\"a\": 1}')", filling) == {"a": 1}
