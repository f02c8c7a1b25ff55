"""Which alerts start a workflow."""

import re
import sys
from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from hypothesis import given, settings
from hypothesis import strategies as st

from keep_operator.domain.events import cel, incident, matching
from keep_operator.domain.events.alert import Alert, Previous
from keep_operator.domain.events.matching import Answer, Seen
from keep_operator.domain.grammar import workflow
from unit.domain.events import alerts
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit


def library() -> celpy.Environment:
    """The library as Keep uses it, but for the recursion limit, which it sets for all of the process."""
    limit = sys.getrecursionlimit()
    made = celpy.Environment()
    sys.setrecursionlimit(limit)
    return made


KEEP = library()

CPU = alerts.keep(
    severity="high",
    source=["prometheus", "grafana"],
    service="payments",
    labels={"team": "sre", "severity": "critical"},
)


def ask(trigger: dict[str, Any], alert: Alert = CPU, previous: Previous | None = None) -> Answer:
    """What a workflow with this alert trigger says."""
    compiled = matching.compiled({"triggers": [{"type": "alert", **trigger}]})
    return compiled.on_alert(alert, previous, Seen.of(alert, previous))


def filtered(*filters: tuple[Any, ...], alert: Alert = CPU) -> bool:
    """Whether these filters let the alert pass."""
    told = [dict(zip(("key", "value", "exclude"), each, strict=False)) for each in filters]
    return ask({"filters": told}, alert).match is not None


FILTERS: tuple[tuple[tuple[Any, ...], bool], ...] = (
    (("source", "prometheus"), True),
    (("source", "prom"), False),
    (("source", "prometheus", True), False),
    (("source", "zabbix", True), True),
    (("source", 'r"(zabbix|grafana)"'), True),
    (("source", 'r"zabbix|datadog"'), False),
    (("source", 'r"zabbix|datadog"', True), True),
    (("source", 'r"zabbix|grafana"', True), False),
    (("source", 'r".*"'), True),
    (("name", "CPU is high"), True),
    (("name", "CPU"), False),
    (("name", 'r".*is.*"'), True),
    (("name", 'r"CPU.*"'), True),
    (("name", 'r"is.*"'), True),  # Keep has no anchors: x.* is "contains"
    (("name", 'r".*disk.*"', True), True),
    (("name", 'r"(CPU is high|disk)"'), True),
    (("severity", "high"), True),
    (("severity", "critical"), False),
    (("severity", "HIGH"), True),
    (("severity", 'r"(critical|high)"'), True),
    (("severity", "low", True), True),
    (("labels.team", "sre"), True),
    (("labels.team", "dev"), False),
    (("labels.severity", "critical"), True),
    (("labels.nothing", "x"), False),
    (("labels.nothing", "x", True), False),
    (("pod_status", "CrashLoopBackOff"), False),
    (("pod_status", "CrashLoopBackOff", True), False),
    (("pod_status", 'r".*"'), False),
    (("message", "x"), False),
    (("message", "x", True), True),
    (("message", 'r"^$"'), False),
    (("dismissed", False), True),
    (("dismissed", True), False),
    (("firingCounter", 0), True),
)


@pytest.mark.parametrize(("given_filter", "passes"), FILTERS, ids=str)
def test_filters_mean_what_keep_makes_of_them(given_filter: tuple[Any, ...], passes: bool) -> None:
    """The old form of filters goes on working; a field that the alert does not have never passes."""
    assert filtered(given_filter) is passes


def test_all_filters_must_pass() -> None:
    """Two filters are narrower than one; one without a value is left out, and if none is left nothing passes."""
    assert filtered(("source", "grafana"), ("severity", "high"))
    assert not filtered(("source", "grafana"), ("severity", "low"))
    assert filtered(("source", "grafana"), ("name", ""))
    assert not filtered(("name", ""))


def keeps_cel(key: str, value: str, exclude: bool) -> str:
    """The expression that a filter becomes in Keep (docs/events.md)."""
    no = "!" if exclude else ""
    same = "!=" if exclude else "=="

    def one(each: str) -> str:
        return f'{no}{key}.contains("{each}")' if key == "source" else f'{key} {same} "{each}"'

    if not value.startswith('r"'):
        return one(value)
    value = value[2:-1]
    if "|" in value:
        return (" && " if exclude else " || ").join(one(each.strip("()").strip()) for each in value.split("|"))
    if value == ".*":
        return f"has({key})"
    if value == "^$":
        return f'{key} {same} ""'
    return f'{no}{key}.contains("{value.removeprefix(".*").removesuffix(".*")}")'


WORDS = st.sampled_from(["prometheus", "grafana", "CPU is high", "CPU", "sre", "payments", "s", "zabbix"])
VALUES = st.one_of(
    WORDS,
    st.lists(WORDS, min_size=2, max_size=3).map(lambda words: f'r"({"|".join(words)})"'),
    WORDS.map(lambda word: f'r".*{word}.*"'),
    WORDS.map(lambda word: f'r"{word}.*"'),
    st.sampled_from(['r".*"', 'r"^$"']),
)
KEYS = st.sampled_from(["source", "name", "service", "labels.team", "labels.nothing", "message", "nothing", "labels"])


@settings(max_examples=300)
@given(KEYS, VALUES, st.booleans())
def test_filters_agree_with_the_cel_that_keep_makes_of_them(key: str, value: str, exclude: bool) -> None:
    """Whatever the filter, the answer is that of Keep's expression; where that has none, the filter does not match."""
    try:
        program = KEEP.program(KEEP.compile(keeps_cel(key, value, exclude)))
        wanted = bool(program.evaluate(json_to_cel(dict(CPU.fields))))  # type: ignore[arg-type]
    except CELEvalError:
        wanted = False
    assert filtered((key, value, exclude)) is wanted


CEL: tuple[tuple[str, bool], ...] = (
    ('severity > "info"', True),
    ("severity > 'info'", True),
    ("severity >= 'high'", True),
    ("severity > 'high'", False),
    ("severity < 'critical'", True),
    ('severity == "high"', True),
    ('severity == "HIGH"', True),
    ('severity != "critical"', True),
    ("severity == 4", True),
    ('severity in ["critical", "high"]', True),
    ('"info" < severity', True),
    ('labels.severity == "critical"', True),
    ('source == "grafana"', True),
    ('source == "graf"', False),
    ('source != "zabbix"', True),
    ('source.contains("grafana")', True),
    ('source.exists(each, each == "grafana")', True),
    (
        '(source.contains("datadog") && severity == "critical") || (source.contains("grafana") && severity == "high")',
        True,
    ),
    ('name.contains("error") || name.contains("high")', True),
    ('name.matches("^CPU.*h$")', True),
    ('has(labels.team) && labels.team == "sre"', True),
    ("has(nothing)", False),
    ('message == "x"', False),
    ("message == null", True),
    ("!dismissed", True),
    ('labels["team"].startsWith("s")', True),
    ('timestamp(lastReceived) >= timestamp("2026-06-01T00:00:00Z")', True),
    ("size(source) == 2", True),
    ("true", True),
)


@pytest.mark.parametrize(("text", "matches"), CEL)
def test_cel_means_what_it_means_in_keep(text: str, matches: bool) -> None:
    """Severities compare by how bad they are, and a source is one of several."""
    answer = ask({"cel": text})
    assert (answer.match is not None, answer.failures) == (matches, ())


def keeps(text: str) -> str:
    """What Keep makes of an expression before it evaluates it."""
    order = {"critical": 5, "high": 4, "warning": 3, "info": 2, "low": 1}
    text = re.sub(r"""source\s*==\s*['"]([^'"]+)['"]""", r'source.contains("\1")', text)
    return re.sub(
        r"""(?<![.\w])severity\s*([=><!]=?)\s*["'](critical|high|warning|info|low)["']""",
        lambda found: f"severity {found[1]} {order[found[2]]}",
        text,
    )


ATOMS = st.one_of(
    st.builds(
        "severity {} '{}'".format,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(["critical", "high", "warning", "info", "low"]),
    ),
    st.builds('source == "{}"'.format, WORDS),
    st.builds('name {} "{}"'.format, st.sampled_from(["==", "!="]), WORDS),
    st.builds('labels.team.contains("{}")'.format, WORDS),
    st.sampled_from(["nothing == 1", "1 / 0 == 1", "dismissed", "name > 3", "labels.nothing == 'x'"]),
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("[1, 2].all(x, x > 0 && {})".format, inner),
        st.builds("labels.exists(x, x == 'team' && {})".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(EXPRESSIONS)
def test_the_bounded_evaluation_answers_as_the_library_does(text: str) -> None:
    """The shortened tree and the two special values change no answer that Keep would give."""
    fields = {**CPU.fields, "severity": CPU.severity.order}
    try:
        program = KEEP.program(KEEP.compile(keeps(text)))
        wanted: bool | None = bool(program.evaluate(json_to_cel(fields)))  # type: ignore[arg-type]
    except CELEvalError:
        wanted = None
    answer = ask({"cel": text})
    assert (None if answer.failures else answer.match is not None) == wanted


HOSTILE: tuple[tuple[str, str], ...] = (
    ("nothing == 1", "names nothing, which this alert does not have"),
    ('labels.nothing == "x"', "names nothing, which this alert does not have"),
    ("name > 3", "compares or combines values of types that do not fit"),
    ("1 / 0 == 1", "divides by zero"),
    ('name.matches("(")', "matches with a regular expression that is none"),
    ("timestamp(name) == timestamp(name)", "compares or combines values of types that do not fit"),
    (
        "labels.many.all(x, labels.many.all(y, labels.many.all(z, x + y + z >= 0)))",
        "takes too much work for this alert",
    ),
    ("[name + name]" + ".map(x, x + x)" * 200 + ".size() == 1", "takes too much work for this alert"),
    ("[labels.many]" + ".map(x, x + x)" * 60 + ".size() == 1", "takes too much work for this alert"),
    ("labels.many.map(x, labels.many).map(x, x == labels.many).size() == 1", "takes too much work for this alert"),
    (" + ".join(["9223372036854775807"] * 3) + " == 1", "compares or combines values of types that do not fit"),
)


@pytest.mark.parametrize(("text", "told"), HOSTILE)
def test_an_expression_without_an_answer_does_not_match_and_says_why(text: str, told: str) -> None:
    """Neither an error nor a bomb stops other workflows; its author learns what is wrong, without values of the alert."""
    alert = alerts.keep(labels={"many": list(range(200))})
    answer = ask({"cel": text}, alert)
    assert answer.match is None
    assert [each.message for each in answer.failures] == [f"triggers[0].cel {told}"]


def test_deep_expressions_are_evaluated() -> None:
    """Parentheses of a generated expression are no limit within its 4,096 characters."""
    assert ask({"cel": "(" * 60 + "true" + ")" * 60}).match
    assert ask({"cel": "!(" * 1_000 + "true" + ")" * 1_000}).match is None


def test_a_failing_trigger_does_not_hide_a_good_one() -> None:
    """Of several triggers the first that matches counts, once."""
    compiled = matching.compiled(
        {"triggers": [{"type": "alert", "cel": "nothing == 1"}, {"type": "alert"}, {"type": "alert"}]}
    )
    answer = compiled.on_alert(CPU, None, Seen.of(CPU, None))
    assert answer.match is not None
    assert answer.match.path == "triggers[1]"
    assert len(answer.failures) == 1


@pytest.mark.parametrize(
    ("trigger", "matches"),
    [
        ({}, True),
        ({"filters": [{"key": "name", "value": "x"}], "cel": "true"}, False),
        ({"filters": [{"key": "name", "value": "CPU is high"}], "cel": "false"}, True),
        ({"filters": []}, False),
        ({"filters": [], "cel": "true"}, False),
        ({"filters": None}, True),
        ({"cel": ""}, False),
        ({"cel": "  "}, False),
        ({"cel": "not CEL ("}, False),
    ],
    ids=str,
)
def test_filters_win_and_empty_ones_never_match(trigger: dict[str, Any], matches: bool) -> None:
    """As in Keep: neither means every alert, an empty one means none."""
    assert (ask(trigger).match is not None) is matches


def test_only_on_change_asks_for_every_field() -> None:
    """As in Keep: of two fields that must change, one is not enough; an alert that is new has changed."""
    before = alerts.previous(alerts.keep(severity="high", status="firing"))
    both = {"only_on_change": ["status", "severity"]}
    assert ask(both, CPU, None).match
    assert not ask(both, alerts.keep(severity="high", status="firing", note="x"), before).match
    assert not ask(both, alerts.keep(severity="low", status="firing"), before).match
    assert ask(both, alerts.keep(severity="low", status="resolved"), before).match
    assert not ask({"only_on_change": ["nothing"]}, alerts.keep(), before).match


def test_what_was_added_to_an_alert_is_no_change_of_it() -> None:
    """A workflow that enriches the field it waits for does not start itself again."""
    first = alerts.keep(note=None)
    before = alerts.previous(first, note="seen by ann")
    assert not ask({"only_on_change": ["note"]}, first, before).match
    assert ask({"cel": 'note == "seen by ann"'}, first, before).match


def test_a_change_of_severity_is_told_to_the_run() -> None:
    """Messages can say that it became worse."""
    before = alerts.previous(alerts.keep(severity="warning"))
    worse = ask({"severity_changed": True}, alerts.keep(severity="critical"), before).match
    assert worse is not None
    assert (worse.event["severity_changed"], worse.event["previous_severity"], worse.event["severity_change"]) == (
        True, "warning", "increased"
    )  # fmt: skip
    better = ask({"severity_changed": True}, alerts.keep(severity="low"), before).match
    assert better is not None
    assert better.event["severity_change"] == "decreased"
    assert not ask({"severity_changed": True}, alerts.keep(severity="warning", note="x"), before).match
    new = ask({"severity_changed": True}, alerts.keep(severity="warning")).match
    assert new is not None
    assert "severity_changed" not in new.event


def test_a_duplicate_is_known() -> None:
    """The same event again starts nothing."""
    first = alerts.read()
    assert not matching.is_duplicate(first, None)
    assert matching.is_duplicate(alerts.read(), alerts.previous(first))
    assert not matching.is_duplicate(alerts.read(status="resolved"), alerts.previous(first))


def test_incidents_start_those_that_wait_for_such_an_event() -> None:
    """A workflow for new incidents is left in peace by updates."""
    compiled = matching.compiled({"triggers": [{"type": "incident", "events": ["created"]}]})
    made = incident.read({"event": "created", "incident": {"id": "1"}}, "e")
    changed = incident.read({"event": "updated", "incident": {"id": "1"}}, "e")
    assert compiled.on_incident(made).match
    assert not compiled.on_incident(changed).match
    assert compiled.any
    assert not matching.compiled({"triggers": [{"type": "manual"}]}).any


def test_the_work_of_one_evaluation_is_counted() -> None:
    """The bound holds for what an expression does, whatever it is made of."""
    many = alerts.keep(labels={"many": list(range(1_000))})
    assert ask({"cel": "labels.many.all(x, x >= 0)"}, many).match
    assert cel.BUDGET < 1_000**2
    assert ask({"cel": "labels.many.all(x, labels.many.all(y, x >= 0))"}, many).failures


def test_what_people_have_written_is_evaluated() -> None:
    """Values of the alert are in no message, so that logs do not repeat what alerts hold."""
    secret = alerts.keep(labels={"token": "canary-4711"})
    for text in (
        "labels.token > 3",
        "labels.token.nothing == 1",
        "labels.token + 1 == 2",
        "nothing.token == labels.token",
    ):
        (failure,) = ask({"cel": text}, secret).failures
        assert "canary" not in failure.message


SAMPLES = {
    "prometheus": alerts.read(),
    "coralogix": alerts.keep(source=["coralogix"], severity="critical"),
    "openshift": alerts.keep(source=["openshift"], severity="critical", pod_status="CrashLoopBackOff"),
    "sentry": alerts.keep(source=["sentry"], severity="critical", service="payments"),
    "login": alerts.keep(name="User failed to login", source=["keep"]),
    "zabbix": alerts.keep(name="server-is-down", source=["zabbix"], severity="warning"),
    "datadog": alerts.keep(name="error in payments", source=["datadog"], severity="critical"),
    "cloudwatch": alerts.keep(source=["cloudwatch"], severity="low", status="resolved"),
}
# Which of the samples start Keep's own workflows; those that are not named here are started by all.
STARTS: dict[str, list[str]] = {
    "complex-conditions-cel.yml": ["datadog"],
    "consts_and_vars.yml": [],
    "create_jira_ticket_upon_alerts.yml": ["sentry"],
    "create_service_now_ticket_upon_alerts.yml": ["prometheus"],
    "enrich_using_structured_output_from_deepseek.yaml": ["prometheus"],
    "enrich_using_structured_output_from_openai.yaml": ["prometheus"],
    "failed-to-login-workflow.yml": ["login"],
    "gcp_logging_open_ai.yaml": [],
    "http_enrich.yml": ["prometheus"],
    "ilert-incident-upon-alert.yaml": ["login"],
    "openshift_monitoring_and_remediation.yml": ["openshift"],
    "openshift_pod_restart.yml": ["openshift"],
    "opsgenie-create-alert-cel.yml": ["coralogix"],
    "opsgenie-create-alert.yml": ["coralogix"],
    "pattern-matching-cel.yml": ["datadog"],
    "slack_basic.yml": ["cloudwatch"],
    "slack_message_update.yml": ["zabbix"],
    "workflow_start_example.yml": ["zabbix"],
}


@corpus.needs_keep
def test_the_triggers_of_keeps_own_workflows() -> None:
    """Every alert trigger of Keep's examples is asked about every sample, and starts where it should."""
    found = {}
    for path in corpus.KEEP:
        judged = workflow.read(corpus.text(path))
        assert judged.definition is not None
        compiled = matching.compiled(judged.definition)
        if compiled.alerts:
            answers = {name: compiled.on_alert(each, None, Seen.of(each, None)) for name, each in SAMPLES.items()}
            found[path.name] = [name for name, answer in answers.items() if answer.match]
    assert len(found) == 27
    assert found == {**{name: list(SAMPLES) for name in found}, **STARTS}
