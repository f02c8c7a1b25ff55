"""What a run does next: in which order, with which parameters, and how it goes on from its rows."""

import random
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keep_operator.domain import program
from keep_operator.domain.grammar import workflow
from keep_operator.domain.language import limits
from keep_operator.domain.program import Enrichment, Facts, InvalidInputs, Perform, Previous, Program, Sleep
from unit.domain.driver import NOW, Killed, Provider, Refused, Run, answers, drive, facts

pytestmark = pytest.mark.unit

ALERT: Final = {"name": "cpu", "fingerprint": "fp", "severity": "critical", "status": "firing"}


def step(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A step or an action that calls a mock."""
    made: dict[str, Any] = {"name": name, "provider": {"type": "mock", "with": parameters or {}}, **more}
    return {key.rstrip("_").replace("on_failure", "on-failure"): value for key, value in made.items()}


def ran(known: Facts | None = None, results: dict[str, Any] | None = None, **definition: Any) -> Run:
    """A definition run to its end, by what its steps are answered."""
    whole = {key.replace("_", "-"): value for key, value in definition.items()}
    return drive(Program.of(whole), known or facts(), answers(results or {}))


# ── order ──


def test_steps_come_before_actions_each_in_its_order() -> None:
    """As they are written; results of earlier ones are there for later ones."""
    run = ran(
        steps=[step("ask"), step("ask-more", {"q": "{{ steps.ask.results.0.name }}"})],
        actions=[step("tell", {"m": "{{ steps.ask-more.results }} {{ steps.this.results }}"}), step("end")],
        results={"ask": [{"name": "p1"}], "ask-more": "yes"},
    )
    assert run.story == ["ask", "ask-more", "tell", "end", "Succeeded"]
    assert [dict(call.parameters) for call in run.calls] == [{}, {"q": "p1"}, {"m": "yes yes"}, {}]
    assert [call.kind for call in run.calls] == ["step", "step", "action", "action"]


def test_what_a_call_is_made_of() -> None:
    """Type, subtype and the name of the Provider come from the definition."""
    run = ran(
        steps=[
            {
                "name": "stars",
                "provider": {"type": "github.stars", "config": "{{ providers.gh }}", "with": {"repository": "a/b"}},
            }
        ]
    )
    call = run.calls[0]
    assert (call.type, call.subtype, call.provider, call.position, call.iteration, call.try_) == (
        "github",
        "stars",
        "gh",
        0,
        program.ONCE,
        0,
    )


def test_a_failed_step_ends_the_run_and_a_failed_action_does_not() -> None:
    """Keep's order: nothing is told on grounds of what could not be asked, and who can still be told is told."""
    run = ran(steps=[step("ask"), step("more")], actions=[step("tell")], results={"ask": Refused("no answer")})
    assert run.story == ["ask", "Failed"]
    assert (run.end.reason, run.end.message) == ("StepFailed", 'step "ask" failed: no answer')
    run = ran(actions=[step("one"), step("two")], results={"one": Refused("no")})
    assert run.story == ["one", "two", "Failed"]


def test_continue_on_error_goes_on_and_the_run_succeeds() -> None:
    """The failure is in the row of the step only."""
    run = ran(
        steps=[step("ask", continue_on_error=True)],
        actions=[step("tell", continue_on_error=True), step("end", {"m": "{{ steps.ask.results }}."})],
        results={"ask": Refused("no"), "tell": Refused("no")},
    )
    assert run.story == ["ask", "tell", "end", "Succeeded"]
    assert run.calls[-1].parameters == {"m": "."}


def test_continue_false_leaves_out_the_rest_if_it_ran() -> None:
    """Of the steps, the other steps; of the actions, the other actions. One that was skipped stops nothing."""
    stop: dict[str, Any] = {"continue": False}
    assert ran(steps=[step("a", **stop), step("b")], actions=[step("c")]).story == ["a", "c", "Succeeded"]
    assert ran(actions=[step("a", **stop), step("b")]).story == ["a", "Succeeded"]
    assert ran(actions=[step("a", if_="1 > 2", **stop), step("b")]).story == ["skip a", "b", "Succeeded"]


def test_the_action_of_on_failure_tells_which_revision_failed_with_what() -> None:
    """Its message is replaced by the errors; what the errors say is not filled in."""
    told = {"name": "tell", "provider": {"type": "console", "with": {"message": "?", "level": "{{ consts.level }}"}}}
    run = ran(
        steps=[step("ask")],
        on_failure=told,
        consts={"level": "error"},
        results={"ask": Refused("{{ secrets.x }} is gone")},
    )
    assert run.story == ["ask", "tell", "Failed"]
    assert run.calls[-1].parameters == {
        "level": "error",
        "message": "Workflow high-cpu, revision 3 (sha256:abc), failed with errors: "
        'step "ask" failed: {{ secrets.x }} is gone',
    }
    assert run.calls[-1].position == 1
    run = ran(actions=[step("a")], on_failure=step("tell"), results={"a": Refused("no"), "tell": Refused("neither")})
    assert run.end.message == 'action "a" failed: no; action "tell" failed: neither'


# ── retry ──


def test_a_failed_call_is_tried_again_after_its_interval() -> None:
    """As often as asked, with the same parameters, and the pause is durable: rows tell when it ends."""
    made = Program.of(
        {"actions": [step("tell", {"at": "keep.utcnowiso()"}, on_failure={"retry": {"count": 2, "interval": 60}})]}
    )
    run = drive(made, facts(), answers({"tell": Refused("busy")}))
    assert run.story == ["tell", "sleep", "tell again 1", "sleep", "tell again 2", "Failed"]
    assert len({str(call.parameters) for call in run.calls}) == 1
    first = run.rows[0]
    assert first.completed_at is not None
    until = first.completed_at + timedelta(seconds=60)
    assert made.next(facts(), [first], until - timedelta(seconds=1)) == Sleep(until)
    assert isinstance(made.next(facts(), [first], until), Perform)


def test_a_retry_below_the_provider_counts_too_and_success_ends_it() -> None:
    """Keep's older place for it."""
    made = {"name": "tell", "provider": {"type": "mock", "with": {}, "on-failure": {"retry": {"count": 3}}}}
    tries = iter([Refused("no"), Refused("no"), None])

    def provider(_: Perform) -> None:
        if (failure := next(tries)) is not None:
            raise failure

    assert drive(Program.of({"actions": [made]}), facts(), provider).story == [
        "tell",
        "tell again 1",
        "tell again 2",
        "Succeeded",
    ]


def test_a_start_that_was_lost_is_started_again_and_costs_no_retry() -> None:
    """A worker was killed in the middle, of a call that may be repeated."""
    tries = iter([Killed(), Killed(), Refused("no"), Killed(), None])

    def provider(_: Perform) -> None:
        if (failure := next(tries)) is not None:
            raise failure

    run = drive(Program.of({"actions": [step("tell", on_failure={"retry": {"count": 1}})]}), facts(), provider)
    assert run.story == ["tell", "tell again 1", "tell again 2", "tell again 3", "tell again 4", "Succeeded"]


# ── what does not run ──


def test_conditions_are_anded_and_with_if_they_are_names() -> None:
    """Without ``if`` all must hold; with it, and in later steps, their aliases are true or false."""
    high = {"name": "high", "type": "threshold", "value": "{{ steps.ask.results }}", "compare_to": 50, "alias": "A"}
    sure = {"name": "sure", "type": "assert", "assert": "{{ steps.ask.results }} > 70"}
    actions = [
        step("both", condition=[high, sure]),
        step("either", condition=[high, sure], if_="{{ A }} or {{ sure }}"),
        step("later", {"m": "{{ A }} {{ actions.either.conditions.high.0.compare_value }}"}, if_="not {{ sure }}"),
    ]
    run = ran(steps=[step("ask")], actions=actions, results={"ask": 60})
    assert run.story == ["ask", "skip both", "either", "later", "Succeeded"]
    assert run.rows[1].message == 'condition "sure": 60 > 70 is not true'
    assert run.calls[-1].parameters == {"m": "True 60"}


def test_the_level_of_a_threshold_is_there_for_the_message() -> None:
    """``foreach.level``, as in Keep, for each item its own."""
    run = ran(
        steps=[step("ask")],
        actions=[
            step(
                "tell",
                {"m": "{{ foreach.value.1 }} {{ foreach.level }}"},
                foreach="{{ steps.ask.results }}",
                condition=[
                    {
                        "name": "c",
                        "type": "threshold",
                        "value": "{{ foreach.value[0] }}",
                        "compare_to": "50, 40",
                        "level": "high, low",
                    }
                ],
            )
        ],
        results={"ask": [[60, "a"], [45, "b"], [10, "c"]]},
    )
    assert run.story == ["ask", "tell[0]", "tell[1]", "skip tell[2]", "Succeeded"]
    assert [call.parameters["m"] for call in run.calls[1:]] == ["a high", "b low"]


def test_what_is_throttled_runs_once_until_the_alert_is_resolved() -> None:
    """The step that has told of it before is skipped, no other."""
    actions = [step("tell", throttle={"type": "one_until_resolved"}), step("log")]
    known = facts(event=ALERT)
    assert ran(known, actions=actions).story == ["tell", "log", "Succeeded"]
    again = facts(event=ALERT, previous=Previous(told=frozenset({"tell", "log"})))
    assert ran(again, actions=actions).story == ["skip tell", "log", "Succeeded"]


def test_what_cannot_be_filled_in_fails_its_step_with_the_place() -> None:
    """It is a row like any other failure, is not tried again, and the provider is not called."""
    failure = {"retry": {"count": 3, "interval": 1}}
    run = ran(actions=[step("tell", {"m": "{{ alert.nothing }}"}, on_failure=failure), step("end")])
    assert run.story == ["fail tell", "end", "Failed"]
    assert run.end.message.startswith('action "tell" failed: with.m: there is no "alert.nothing"; correct the name')
    absent = ran(actions=[step("a", if_="{{ alert.nothing }} > 5")])
    assert absent.story == ["skip a", "Succeeded"]
    assert absent.rows[0].message == 'if does not hold: there is no "alert.nothing"'
    assert ran(actions=[step("a", if_="x")]).end.message.startswith(
        'action "a" failed: if uses "x", which is no name here'
    )
    bomb = step("a", {"m": "{{#consts.l}}{{#consts.l}}{{#consts.l}}x{{/consts.l}}{{/consts.l}}{{/consts.l}}"})
    assert "needs more than 200,000 operations" in ran(actions=[bomb], consts={"l": [1] * 500}).end.message


def test_what_is_told_of_a_step_can_be_stored() -> None:
    """An alert may hold what no database takes, and be long."""
    sure = {"name": "sure", "type": "assert", "assert": "{{ alert.name }} == 1"}
    for name in ("a\x00b", "a\ud800b", "x" * 100_000):
        run = ran(
            facts(event={**ALERT, "name": name}),
            actions=[step("a", condition=[sure]), step("b", if_="{{ alert.name }} > 1")],
        )
        assert run.story == ["skip a", "fail b", "Failed"]
        for message in (*(row.message for row in run.rows), run.end.message):
            assert "\x00" not in message
            assert len(message.encode()) < 2_000


# ── foreach ──


def test_a_foreach_calls_for_each_item_and_gathers_the_results() -> None:
    """Each item has its own row; a step that looks at the results sees the list of them."""
    run = ran(
        steps=[
            step("ask"),
            step("each", {"v": "{{ foreach.value.n }} of {{ foreach.items.1.n }}"}, foreach="{{ steps.ask.results }}"),
        ],
        actions=[step("end", {"m": "keep.len({{ steps.each.results }}) {{ foreach.value }}."})],
        results={"ask": [{"n": 1}, {"n": 2}], "each": "x"},
    )
    assert run.story == ["ask", "each[0]", "each[1]", "end", "Succeeded"]
    assert [call.parameters for call in run.calls[1:]] == [{"v": "1 of 2"}, {"v": "2 of 2"}, {"m": "2 ."}]


def test_lists_joined_go_side_by_side_as_far_as_the_shortest() -> None:
    """``a && b``, as in Keep."""
    run = ran(
        steps=[step("a"), step("b")],
        actions=[
            step(
                "tell",
                {"m": "{{ foreach.value.0 }}{{ foreach.value.1 }}"},
                foreach="{{ steps.a.results }} && {{ steps.b.results }}",
            )
        ],
        results={"a": [1, 2, 3], "b": ["x", "y"]},
    )
    assert [call.parameters.get("m") for call in run.calls[2:]] == ["1x", "2y"]


def test_a_failed_item_does_not_stop_the_others_and_fails_the_run() -> None:
    """Keep goes on too, but calls such a run a success."""

    def provider(call: Perform) -> Any:
        if call.name == "ask":
            return [1, 2, 3]
        if call.iteration == 1:
            raise Refused("no")
        return None

    each = step("each", foreach="{{ steps.ask.results }}")
    run = drive(Program.of({"steps": [step("ask"), each], "actions": [step("end")]}), facts(), provider)
    assert run.story == ["ask", "each[0]", "each[1]", "each[2]", "end", "Failed"]
    assert run.end.message == 'step "each" (item 1) failed: no'


@pytest.mark.parametrize(
    ("items", "story", "told"),
    [
        ([], ["ask", "skip each", "Succeeded"], ""),
        (None, ["ask", "skip each", "Succeeded"], ""),
        ({"a": 1, "b": 2}, ["ask", "each[0]", "each[1]", "Succeeded"], ""),
        ("text", ["ask", "fail each", "Failed"], 'foreach needs a list, and "steps.ask.results" is "text"'),
        (
            [0] * (limits.ITEMS + 1),
            ["ask", "fail each", "Failed"],
            "has 1,001 items, and at most 1,000 are gone through",
        ),
    ],
)
def test_a_foreach_is_bounded_and_says_what_it_needs(items: object, story: list[str], told: str) -> None:
    """Nothing to do is no fault; what is no list, or endless, is."""
    run = ran(steps=[step("ask")], actions=[step("each", foreach="{{ steps.ask.results }}")], results={"ask": items})
    assert run.story == story
    assert told in run.end.message


def test_the_longest_foreach_ends() -> None:
    """A thousand items, each with its row."""
    made = Program.of(
        {"steps": [step("ask"), step("each", {"v": "{{ foreach.value }}"}, foreach="{{ steps.ask.results }}")]}
    )
    run = drive(made, facts(), answers({"ask": list(range(limits.ITEMS))}))
    assert len(run.calls) == limits.ITEMS + 1
    assert run.end.state == "Succeeded"


# ── parameters ──


def test_parameters_keep_their_types_and_only_texts_are_filled_in() -> None:
    """Lists and objects through and through; a function that answers an object gives one."""
    parameters = {
        "n": 1,
        "f": 1.5,
        "yes": True,
        "list": ["{{ consts.a }}", 2, {"deep": "{{ consts.a }}"}],
        "object": "keep.json_loads('{{ alert }}')",
        "text": "{{ steps.ask.results }}",
    }
    run = ran(
        facts(event=ALERT),
        steps=[step("ask")],
        actions=[step("tell", parameters)],
        consts={"a": "x"},
        results={"ask": [1, {"b": None}]},
    )
    given = run.calls[-1].parameters
    assert given["object"]["name"] == "cpu"
    assert {key: value for key, value in given.items() if key != "object"} == {
        "n": 1,
        "f": 1.5,
        "yes": True,
        "list": ["x", 2, {"deep": "x"}],
        "text": "[1, {'b': None}]",
    }


def test_a_step_takes_parameter_objects_and_words_of_python() -> None:
    """``{key, safe, default}`` and the underscore behind ``from``, as in Keep."""
    parameters = {
        "count": {"key": "{{ last_workflow_results.ask.0.stars }}", "default": 0},
        "none": {"key": "{{ last_workflow_results.ask.1 }}"},
        "given": {"key": "{{ consts.a }}", "safe": True, "default": "b"},
        "from": "{{ consts.a }}",
        "json": {"schema": {"key": 1}},
    }
    run = ran(steps=[step("ask", parameters)], consts={"a": "x"})
    assert run.calls[0].parameters == {
        "count": 0,
        "none": None,
        "given": "x",
        "from_": "x",
        "json": {"schema": {"key": 1}},
    }
    known = facts(previous=Previous(results={"ask": [{"stars": 7}]}))
    assert ran(known, steps=[step("ask", parameters)], consts={"a": "x"}).calls[0].parameters["count"] == "7"
    parameters["given"] = {"key": "{{ alert.x }}", "safe": True, "default": "b"}
    assert "with.given: there is no" in ran(steps=[step("ask", parameters)], consts={"a": "x"}).end.message


def test_vars_belong_to_their_step_and_constants_may_use_them() -> None:
    """Constants are filled in where they are used."""
    run = ran(
        actions=[
            step("a", {"m": "{{ consts.m }}"}, vars={"tier": "{{ alert.name }} 1"}),
            step("b", {"m": "{{ consts.m }}"}),
        ],
        consts={"m": "tier {{ vars.tier }}."},
        known=facts(event=ALERT),
    )
    assert [call.parameters["m"] for call in run.calls] == ["tier cpu 1.", "tier ."]


def test_aliases_of_a_step_are_filled_in_before_it_runs() -> None:
    """An object of texts gives names for its own texts; a text is a name for its results."""
    run = ran(
        steps=[step("ask", {"q": "{{ aliases.who }}"}, alias={"who": "{{ consts.a }}"}), step("more", alias="load")],
        actions=[step("tell", {"m": "{{ load.0 }}"})],
        consts={"a": "x"},
        results={"more": [5]},
    )
    assert [call.parameters for call in run.calls] == [{"q": "x"}, {}, {"m": "5"}]


def test_the_parameters_of_a_call_can_be_told_later() -> None:
    """``steps.<name>.provider_parameters``, as they were filled in."""
    run = ran(
        steps=[step("ask", {"q": "{{ consts.a }} keep.utcnowiso()"})],
        actions=[step("tell", {"m": "{{ steps.ask.provider_parameters.q }}"})],
        consts={"a": "x"},
    )
    assert run.calls[1].parameters["m"] == run.calls[0].parameters["q"] == "x 2026-03-20T14:30:00+00:00"


def test_a_keep_action_fills_its_texts_in_for_each_alert_itself() -> None:
    """Its names are those of the results of the last step; those for which ``if`` does not hold make none."""
    given = {"alert": {"name": "{{ host }} of {{ consts.team }}"}, "if": "{{ value }} > 1", "for": "5m"}
    made = {"name": "raise", "provider": {"type": "keep", "with": given}}
    results = [{"host": "a", "value": 2}, {"host": "b", "value": 1}, {"value": 3}, {"host": "d"}]
    run = ran(results={"ask": results}, consts={"team": "x"}, steps=[step("ask")], actions=[made])
    (call,) = (each for each in run.calls if each.name == "raise")
    assert [each["name"] for each in call.parameters["alert"]] == ["a of x", " of x"]
    assert (call.parameters["for"], call.parameters["read_only"]) == ("5m", False)


def test_an_alert_has_the_fields_of_keep() -> None:
    """What nobody gave is empty and no fault; the last run, its time, and providers can be named."""
    known = facts(
        event=ALERT,
        providers={"pg": {"description": "main"}},
        previous=Previous(results={"a": [1]}, started_at=NOW),
    )
    texts = {
        "m": "{{ alert.description }}|{{ event.assignee }}|{{ alert.severity }}",
        "l": "{{ last_workflow_results.a.0 }} {{ last_workflow_run_time }} {{ providers.pg.description }}",
    }
    assert ran(known, actions=[step("a", texts)]).calls[0].parameters == {
        "m": "||critical",
        "l": "1 2026-03-20 14:30:00+00:00 main",
    }


# ── inputs ──

INPUTS: Final = [
    {"name": "text", "type": "string", "default": "hello"},
    {"name": "count", "type": "number", "required": True},
    {"name": "loud", "type": "boolean", "default": False},
    {"name": "colour", "type": "choice", "options": ["red", "green"], "default": "red"},
]


def test_inputs_have_defaults_and_types() -> None:
    """What was given as text becomes what was declared."""
    run = ran(
        facts(inputs={"count": "5", "loud": "true", "more": "x"}),
        inputs=INPUTS,
        actions=[
            step(
                "a",
                {"m": "{{ inputs.text }} {{ inputs.count }} {{ inputs.loud }} {{ inputs.colour }}"},
                if_="{{ inputs.loud }}",
            )
        ],
    )
    assert run.calls[0].parameters == {"m": "hello 5 True red"}
    assert Program.of({"inputs": INPUTS, "actions": [step("a")]}).inputs({"count": 1.5, "text": 3})["text"] == "3"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, '"count" is required'),
        ({"count": "many"}, '"count" must be a number'),
        ({"count": True}, '"count" must be a number'),
        ({"count": "inf"}, '"count" must be a number'),
        ({"count": 1, "loud": "maybe"}, '"loud" must be true or false'),
        ({"count": 1, "colour": "blue"}, '"colour" must be one of red, green'),
        ({"count": 1, "text": ["a"]}, '"text" must be text'),
    ],
)
def test_inputs_that_are_not_taken_are_named(given: dict[str, Any], told: str) -> None:
    """Before the run is accepted by whoever asks, else as the run's end."""
    made = Program.of({"inputs": INPUTS, "actions": [step("a")]})
    with pytest.raises(InvalidInputs) as invalid:
        made.inputs(given)
    assert told in str(invalid.value)
    run = drive(made, facts(inputs=given))
    assert run.story == ["Failed"]
    assert told in run.end.message


def test_a_definition_with_faults_is_no_program() -> None:
    """Nothing runs that the grammar refuses."""
    with pytest.raises(ValueError, match=r"the definition cannot run: .*steps nor actions"):
        Program.of({})


def test_a_stored_action_is_none_here() -> None:
    """Keep keeps such in its own database."""
    run = ran(actions=[{"name": "stored", "use": "team"}])
    assert 'uses the stored action "team", and there are none here' in run.end.message


# ── enrichment ──


def enriching(entries: list[dict[str, Any]], name: str = "enrich_alert", **more: Any) -> dict[str, Any]:
    return step("tell", {"m": "x", name: entries}, **more)


def test_enrichments_are_taken_out_of_the_parameters() -> None:
    """They are written with the row, for the alert that started the run."""
    entries: list[dict[str, Any]] = [
        {"key": "ticket", "value": "results.id"},
        {"key": "by", "value": "{{ alert.name }}", "disposable": True},
        {"key": "first", "value": "results[0][0].name"},
    ]
    call = ran(facts(event=ALERT), actions=[enriching(entries)], results={"tell": {"id": 5}}).calls[0]
    assert call.parameters == {"m": "x"}
    assert call.enrichments[1] == Enrichment("alert", "fp", "by", "cpu", disposable=True)
    assert program.resolved(call.enrichments[:2], {"id": 5}) == (
        Enrichment("alert", "fp", "ticket", 5),
        Enrichment("alert", "fp", "by", "cpu", disposable=True),
    )
    assert program.resolved(call.enrichments[2:], [[{"name": "n"}]])[0].value == "n"
    assert program.resolved(call.enrichments[1:2], {"fingerprint": "other"})[0].fingerprint == "other"
    with pytest.raises(ValueError, match=r'the result has no "results\.id" to enrich the alert with'):
        program.resolved(call.enrichments, {})


def test_what_a_step_wrote_to_the_alert_is_seen_by_the_next() -> None:
    """Also after another worker has gone on with the run."""
    run = ran(
        facts(event=ALERT),
        actions=[
            enriching([{"key": "ticket", "value": "results.id"}]),
            step("after", {"m": "{{ alert.ticket }}"}, if_="'{{ alert.ticket }}' == '5'"),
        ],
        results={"tell": {"id": 5}},
    )
    assert run.calls[1].parameters == {"m": "5"}
    assert "ticket" not in ALERT


def test_an_enrichment_finds_the_alert_of_the_item_or_the_incident() -> None:
    """Else there is nothing to write to, which is told."""
    entry: list[dict[str, Any]] = [{"key": "a", "value": "b"}]
    run = ran(
        facts(event=ALERT),
        steps=[step("ask")],
        actions=[enriching(entry, foreach="{{ steps.ask.results }}")],
        results={"ask": [{"fingerprint": "one"}, {"x": 1}]},
    )
    assert [call.enrichments[0].fingerprint for call in run.calls[1:]] == ["one", "fp"]
    known = facts(incident={"id": "i1"})
    assert ran(known, actions=[enriching(entry, "enrich_incident")]).calls[0].enrichments[0] == Enrichment(
        "incident", "i1", "a", "b"
    )
    call = ran(actions=[enriching(entry)]).calls[0]
    with pytest.raises(ValueError, match="there is no alert to enrich"):
        program.resolved(call.enrichments, {})


# ── from rows alone ──

_TEXTS: Final = st.sampled_from(
    [
        "plain",
        "{{ steps.s0.results }}",
        "{{ alert.name }} {{ vars.v }}",
        "{{ nothing.there }}",
        "keep.utcnowiso()",
        "{{ consts.c }}",
        "{{ foreach.value }} {{ A }}",
        "{{ steps.this.results }}",
        "keep.first({{ steps.s1.results }})",
        "{{ actions.a0.conditions.c.0.result }}",
        "{{ alert.told }}",
    ]
)
_CONDITION: Final = st.fixed_dictionaries(
    {
        "name": st.just("c"),
        "type": st.just("assert"),
        "assert": st.sampled_from(
            ["1 < 2", "1 > 2", "{{ steps.s0.results }} == 1", "keep.utcnowtimestamp() % 2 == 0", "x"]
        ),
        "alias": st.just("A"),
    }
)
_OPTIONAL: Final = {
    "if": st.sampled_from(
        ["{{ A }}", "not {{ A }}", "'{{ steps.s0.results }}' == '1'", "keep.utcnowtimestamp() % 3 > 0", "1 +", True]
    ),
    "foreach": st.sampled_from(
        ["{{ steps.s0.results }}", "{{ consts.list }}", "{{ consts.list }} && {{ steps.s1.results }}"]
    ),
    "condition": st.lists(_CONDITION, max_size=2),
    "vars": st.fixed_dictionaries({"v": _TEXTS}),
    "continue": st.booleans(),
    "continue_on_error": st.booleans(),
    "on-failure": st.fixed_dictionaries(
        {"retry": st.fixed_dictionaries({"count": st.integers(0, 2), "interval": st.sampled_from([0, 5])})}
    ),
    "throttle": st.just({"type": "one_until_resolved"}),
}


@st.composite
def _steps(draw: st.DrawFn, prefix: str) -> list[dict[str, Any]]:
    made = []
    for index in range(draw(st.integers(0, 3))):
        parameters = {"p": draw(_TEXTS)}
        if draw(st.integers(0, 4)) == 0:
            parameters["enrich_alert"] = [
                {"key": "told", "value": draw(st.sampled_from(["yes", "results.x", "{{ alert.told }}"]))}
            ]  # type: ignore[assignment]
        more = draw(st.fixed_dictionaries({}, optional=_OPTIONAL))
        made.append({"name": f"{prefix}{index}", "provider": {"type": "mock", "with": parameters}, **more})
    return made


@st.composite
def _definitions(draw: st.DrawFn) -> dict[str, Any]:
    definition: dict[str, Any] = {
        "consts": {"c": "{{ alert.name }} keep.utcnowiso() {{ vars.v }}", "list": [1, 2, {"fingerprint": "f"}]},
        "steps": draw(_steps("s")),
        "actions": [*draw(_steps("a")), step("end")],
    }
    if draw(st.booleans()):
        definition["on-failure"] = {
            "name": "tell",
            "provider": {"type": "mock", "with": {"message": "?", "p": draw(_TEXTS)}},
        }
    return definition


def _fateful(seed: int) -> Provider:
    """A provider whose answer, failure or death depends on the call alone."""

    def provider(call: Perform) -> Any:
        fate = random.Random(f"{seed} {call.position} {call.iteration} {call.try_}")  # noqa: S311
        kind = fate.randrange(10)
        if kind < 2:
            raise Refused(f"refused {kind}")
        if kind == 2 and call.try_ < 3:
            raise Killed
        return fate.choice([1, "x", [1, 2], [], None, {"x": 1}, [{"fingerprint": "fp"}]])

    return provider


@settings(max_examples=150, deadline=None)
@given(_definitions(), st.integers(0, 1_000), st.booleans())
def test_a_run_goes_on_from_its_rows_alone_wherever_it_was_left(
    definition: dict[str, Any], seed: int, alerted: bool
) -> None:
    """Whoever goes on, whenever, with the rows in any order, makes the same calls, and none is made twice."""
    assume(workflow.judge(definition).workflow is not None)
    made = Program.of(definition)
    known = facts(event=ALERT if alerted else None, previous=Previous(told=frozenset({"a1"})))
    run = drive(made, known, _fateful(seed))
    starts = [(call.position, call.iteration, call.try_) for call in run.calls]
    assert len(set(starts)) == len(starts)
    shuffle = random.Random(seed)  # noqa: S311
    other = Program.of(definition)
    for outcome, (count, now) in zip(run.told, run.seen, strict=True):
        rows = run.rows[:count]
        shuffle.shuffle(rows)
        assert other.next(known, rows, now) == outcome
        if isinstance(outcome, Sleep):
            assert isinstance(other.next(known, rows, outcome.until), Perform)
        else:
            assert other.next(known, rows, now + timedelta(days=3)) == outcome
    cut = shuffle.randrange(len(run.rows) + 1)
    before = {(row.position, row.iteration, row.try_) for row in run.rows[:cut]}
    resumed = drive(other, known, _fateful(seed), run.rows[:cut])
    again = [(call.position, call.iteration, call.try_) for call in resumed.calls]
    assert len({*again, *before}) == len(again) + len(before)
