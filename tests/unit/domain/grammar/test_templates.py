"""Texts that Keep fills in: what it would refuse, and names that would stand for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.grammar import templates
from keep_operator.domain.grammar.faults import Findings
from keep_operator.domain.grammar.templates import Scope, Tag

pytestmark = pytest.mark.unit

SCOPE = Scope(
    steps={"get-pods": 0, "get.logs": 1, "tell": 2},
    consts=frozenset({"limit"}),
    inputs=frozenset({"text"}),
    vars=frozenset({"tier"}),
    roots=templates.ROOTS | {"A"},
    position=1,
)


def examined(text: str, *, strict: bool = True, scope: Scope = SCOPE) -> tuple[list[str], list[str]]:
    """The faults and the warnings of one text."""
    findings = Findings()
    templates.examine(text, "t", scope, findings, strict=strict)
    return [fault.message for fault in findings.faults], [fault.message for fault in findings.warnings]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no template (really)",
        "{{ alert.name }} {{{ alert.html }}} {{& alert.url }} {{event.x}} {{ incident.id }}",
        "{{ steps.get-pods.results.0.name }} {{ steps.get-pods.results[0] }} {{ actions.get-pods.results }}",
        "{{ steps.get.logs.results }} {{ steps.this.results }} {{ steps }} {{ steps.this }}",
        "{{ consts.limit }} {{ inputs.text }} {{ vars.tier }} {{ A }} {{ secrets.any }} {{ providers.slack.details }}",
        "keep.len({{ steps.get-pods.results }}) > keep.add(1, 2)",
        "{{#steps.get-pods.results}}{{ name }} {{ . }}{{#inner}}{{ x }}{{/inner}}{{/steps.get-pods.results}}",
        "{{^alert.x}}none{{/alert.x}}",
        "{{#fn.upper}}{{ alert.name }}{{/fn.upper}}",
        "raw_render_without_execution(keep.nonsense())",
        "upkeep.nothing(1) and keep.things in mind",
    ],
)
def test_what_works_is_left_in_peace(text: str) -> None:
    """No word about a text that Keep fills in as it was meant."""
    assert examined(text) == ([], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ alert.name }", "has 1 {{ and 0 }}; Keep refuses texts where these differ"),
        ('{"a": {"b": {{ alert.x }}}}', "has 1 {{ and 2 }}; Keep refuses texts where these differ"),
        ("all done :)", "has 0 ( and 1 ); Keep refuses texts where these differ"),
        ("keep.uppercasing({{ alert }})", "calls keep.uppercasing, which does not exist; did you mean uppercase?"),
        ("keep.utc_now()", "calls keep.utc_now, which does not exist; did you mean utcnow?"),
        ("keep.frobnicate()", "calls keep.frobnicate, which does not exist"),
        ("{{ steps.get-pod.results }}", "uses steps.get-pod, which does not exist; did you mean get-pods?"),
        ("{{ consts.limitz }}", "uses consts.limitz, which does not exist; did you mean limit?"),
        ("{{ inputs.other }}", "uses inputs.other, which does not exist; there is text"),
        ("{{> header }}", 'includes the partial "header"; there are none'),
        ("{{#alert}}x", 'does not close the section "alert"'),
        ("x{{/alert}}", 'closes the section "alert", which is not the open one'),
        ("{{#a}}{{#b}}{{/a}}{{/b}}", 'closes the section "a", which is not the open one'),
        ("}}{{", "has a {{ without }}"),
        ("{{{ a }}", "has a {{{ without }}}"),
    ],
)
def test_what_ends_a_run_is_a_fault(text: str, told: str) -> None:
    """Found before the first run, with the likely name."""
    found, _ = examined(text)
    assert told in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ alret.name }}", 'uses "alret", which runs do not know; did you mean alert?'),
        ("{{ env.HOME }}", 'uses "env", which runs do not know; the environment is there for the credentials of providers only'),
        ("{{ utcnow }}", 'uses "utcnow", which runs do not know; a function is called outside of braces: keep.name(…)'),
        ("{{ alert.a | upper }}", '"{{ alert.a | upper }}" is no name, and Mustache has no operators or filters: it stands for nothing'),
        ("{{ }}", '"{{  }}" is empty, and Mustache has no operators or filters: it stands for nothing'),
        ("{{ foreach.value }}", "uses foreach, but this step has none"),
        ("{{ steps.tell.results }}", "uses steps.tell, which runs later and has no results yet"),
        ("{{ vars.teir }}", "uses vars.teir, which does not exist; did you mean tier?"),
        ("{{#fn.upperr}}x{{/fn.upperr}}", "uses fn.upperr, which does not exist; did you mean upper?"),
        ("{{=<% %>=}}", "changes the delimiters of Mustache; what follows is not checked"),
    ],
)  # fmt: skip
def test_what_stands_for_nothing_is_a_warning(text: str, told: str) -> None:
    """The run goes on, with a hole in its text; whoever wrote it hears of it before."""
    assert examined(text) == ([], [told])


def test_outside_of_parameters_absent_names_are_warnings() -> None:
    """There Keep puts nothing in their place and goes on."""
    assert examined("{{ steps.nope.results }}", strict=False)[0] == []
    assert examined("{{ steps.nope.results }}", strict=False)[1] == [
        "uses steps.nope, which does not exist; there is get-pods, get.logs, tell"
    ]


def test_thousands_of_unknown_names_take_no_time_each() -> None:
    """Looking for what was meant ends with the messages that are told."""
    many = Scope(steps={f"step-{number}": number for number in range(5_000)})
    findings = Findings()
    templates.examine("{{ steps.stop-9 }}" * 5_000, "t", many, findings, strict=True)
    assert (len(findings.faults), findings.untold_faults) == (100, 4_900)


@given(st.text("{}#^/!>=& .ab", max_size=30))
def test_any_text_can_be_scanned(text: str) -> None:
    """However braces are mixed, there is an answer; what was read stands in the text."""
    findings = Findings()
    templates.examine(text, "t", SCOPE, findings, strict=True)
    try:
        tags = list(templates.scan(text))
    except templates.Broken:
        return
    assert all(tag.name in text for tag in tags)


def test_tags_are_told_apart() -> None:
    """Each kind of tag by its first character."""
    assert list(templates.scan("{{a}}{{{b}}}{{&c}}{{# d }}{{^e}}{{/f}}{{!g}}{{>h}}")) == [
        Tag("", "a"), Tag("{", "b"), Tag("&", "c"), Tag("#", "d"), Tag("^", "e"), Tag("/", "f"), Tag("!", "g"), Tag(">", "h"),
    ]  # fmt: skip
