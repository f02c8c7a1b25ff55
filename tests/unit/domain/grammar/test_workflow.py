"""A definition judged: real workflows, the model, and every fault with its path and its remedy."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keep_operator.domain.grammar import dialect, workflow
from keep_operator.domain.grammar.faults import Reason
from keep_operator.domain.grammar.triggers import Alert, Filter, Incident, Interval, Manual
from keep_operator.domain.grammar.workflow import ProviderUse
from unit.domain.grammar import corpus
from unit.domain.grammar.corpus import action, definition, provider

pytestmark = pytest.mark.unit


def faults(raw: Any) -> list[str]:
    """The faults as a person reads them."""
    judged = workflow.judge(raw)
    assert (judged.workflow is None) == bool(judged.faults)
    return [str(fault) for fault in judged.faults]


def warnings(raw: Any) -> list[str]:
    """The warnings of a definition that has no faults."""
    judged = workflow.judge(raw)
    assert judged.faults == ()
    return [str(fault) for fault in judged.warnings]


@pytest.mark.shared_data("Keep's example workflows stand beside the project")
@corpus.needs_keep
def test_real_workflows_are_valid_and_their_doubtful_places_are_told() -> None:
    """All of Keep's own examples are taken; what in them cannot work as written is warned about, and nothing else."""
    found = []
    for path in corpus.KEEP:
        judged = workflow.read(corpus.text(path))
        assert judged.faults == (), path.name
        found += [f"{path.name}: {warning}" for warning in judged.warnings]
    assert found == corpus.text(corpus.DATA / "keep-workflows.warnings.txt").splitlines()


@pytest.mark.parametrize("path", corpus.OWN, ids=lambda path: path.name)
def test_the_whole_grammar_is_taken_without_a_word(path: Path) -> None:
    """Who uses what the grammar offers is left in peace."""
    judged = workflow.read(corpus.text(path))
    assert (judged.faults, judged.warnings) == ((), ())
    assert judged.workflow is not None
    assert judged.reason is None


def test_the_model_tells_what_a_run_needs() -> None:
    """What must be there before a workflow can run is known before it runs."""
    judged = workflow.read(corpus.text(corpus.DATA / "workflows" / "everything.yaml"))
    found = judged.workflow
    assert found is not None
    assert found.name == "Everything"
    assert found.strategy == "nonparallel"
    assert not found.disabled
    assert found.inputs == ("text", "count", "loud", "colour")
    assert found.providers == (
        ProviderUse("github", "github", ("steps[1]",)),
        ProviderUse("slack", "slack", ("actions[0]",)),
        ProviderUse("vm", "victoriametrics", ("steps[0]",)),
    )
    assert [step.name for step in found.all_steps] == ["cpu", "stars", "tell", "after", "stored", "raise", "on-failure"]
    tell = found.steps_by_name["actions.tell"]
    assert (tell.conditions, tell.goes_on, tell.position) == (("high", "sure", "odd"), False, 2)
    assert tell.foreach is not None
    assert found.steps_by_name["steps.stars"].subtype == "stars"
    assert found.steps_by_name["actions.stored"].uses == "notify-team"
    assert found.on_failure is not None


def test_the_model_tells_what_starts_it() -> None:
    """Schedulers and event routers need not read the definition again."""
    found = workflow.read(corpus.text(corpus.DATA / "workflows" / "triggers.yaml")).workflow
    assert found is not None
    assert found.triggers == (
        Manual("triggers[0]"),
        Interval("triggers[1]", timedelta(minutes=5)),
        Alert("triggers[2]"),
        Alert(
            "triggers[3]",
            (
                Filter("source", "prometheus"),
                Filter("name", 'r".*cpu.*"'),
                Filter("severity", 'r"(critical|high)"', exclude=True),
                Filter("dismissed", False),
            ),
            only_on_change=("status",),
            severity_changed=True,
        ),
        Alert("triggers[4]", cel='severity > "high" && source.contains("prometheus") && !(name in ["a", "b"])'),
        Incident("triggers[5]", ("created", "updated", "deleted")),
    )
    assert found.interval == found.triggers[1]
    assert len(found.alerts) == 3
    assert found.incident_events == {"created", "updated", "deleted"}


@pytest.mark.parametrize("key", ["workflow", "alert"])
def test_files_may_have_keeps_wrapper(key: str) -> None:
    """A file can be taken from Keep's repository or from its database as it is."""
    inner = definition(id="a")
    assert workflow.read(dialect.dump({key: inner})).definition == inner
    assert workflow.read(dialect.dump({f"{key}s": [inner]})).definition == inner
    assert workflow.read(dialect.dump(inner)).definition == inner


def test_a_file_holds_one_workflow() -> None:
    """Two in one would leave open which of them an object is."""
    judged = workflow.read(dialect.dump({"workflows": [definition(), definition()]}))
    assert [str(fault) for fault in judged.faults] == [
        "line 1: workflows: holds 2 workflows; put each into an object of its own"
    ]
    assert workflow.read("- a\n").faults[0].reason is Reason.PARSE_ERROR
    assert workflow.read("workflow: [").faults[0].reason is Reason.PARSE_ERROR
    assert workflow.read("workflow: text").faults[0].message.startswith("must be an object")


def test_what_stands_beside_the_wrapper_is_taken_along() -> None:
    """The first format had actions and providers there; nothing of them is lost, and it is said."""
    inner = definition(actions=None, steps=[{**action("ask")}])
    beside = {"workflow": inner, "actions": [action("tell")]}
    judged = workflow.read(dialect.dump(beside))
    assert judged.definition == {**inner, "actions": [action("tell")]}
    assert judged.faults == ()
    assert [fault.path for fault in judged.warnings] == ["actions"]
    doubled = workflow.read(dialect.dump({"workflow": definition(), "actions": []}))
    assert [fault.path for fault in doubled.faults] == ["actions"]
    two = workflow.read(dialect.dump({"workflow": definition(), "alert": definition()}))
    assert [fault.path for fault in two.faults] == ["alert"]


def test_faults_of_a_file_name_their_lines() -> None:
    """The place is found in the file as it was written, wrapper and comments included."""
    judged = workflow.read(
        "# mine\nworkflow:\n  triggers:\n  - type: intervul\n  actions:\n  - name: a\n    provider: {type: slak}\n"
    )
    assert [str(fault) for fault in judged.faults] == [
        'line 7: actions[0].provider.type: "slak" is no provider type of Keep; did you mean slack?',
        "line 4: triggers[0].type: is no trigger that Keep has; did you mean interval?",
    ]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([], ["must be an object with steps or actions"]),
        ({}, ["has neither steps nor actions, so it would do nothing"]),
        (definition(actions={}), ["actions: must be a list", "has neither steps nor actions, so it would do nothing"]),
        (definition(actions=[[]]), ["actions[0]: must be an object with name and provider"]),
        (definition(consts=[1]), ["consts: must be an object"]),
        (definition(strategy="paralel_"), ["strategy: is none that Keep has; did you mean parallel?"]),
        (definition(inputs={}), ["inputs: must be a list"]),
        (definition(inputs=[{"type": "string"}]), ["inputs[0].name: is required"]),
        (definition(permissions="admin"), ["permissions: must be a list of texts"]),
        (definition(providers=[]), ["providers: must be an object"]),
        (definition(on_failure=[]), ["on-failure: must be an action: an object with provider"]),
        (
            definition(on_failure={"provider": {"type": "slck"}}),
            ['on-failure.provider.type: "slck" is no provider type of Keep; did you mean slack?'],
        ),
        (definition(triggers={}), ["triggers: must be a list"]),
        (definition(triggers=["manual"]), ["triggers[0]: must be an object, such as {type: manual}"]),
        (definition(triggers=[{}]), ["triggers[0].type: is required: one of alert, incident, interval, manual"]),
        (
            definition(triggers=[{"type": "alert", "cel": 1}]),
            ["triggers[0].cel: must be text, a CEL expression"],
        ),
        (
            definition(triggers=[{"type": "alert", "cel": f"a == '{'x' * 4_000}'"}] * 5),
            ["triggers[4].cel: is too much: all CEL together may have 16,384 characters"],
        ),
        (
            definition(triggers=[{"type": "alert", "cel": " "}]),
            ["triggers[0].cel: is empty; this trigger would never start the workflow"],
        ),
        (
            definition(triggers=[{"type": "alert", "cel": "severity = 'high'"}]),
            [
                "triggers[0].cel: is not CEL: line 1, column 10, at \"= 'high'\"; equality is written ==; this trigger "
                "would never start the workflow"
            ],
        ),
        (
            definition(triggers=[{"type": "alert", "cel": "(a"}]),
            ["triggers[0].cel: is not CEL: it ends too early; this trigger would never start the workflow"],
        ),
        (
            definition(triggers=[{"type": "alert", "cel": "a == 1\nand b"}]),
            [
                "triggers[0].cel: is not CEL: line 2, column 1, at 'and b'; and is written &&; this trigger would "
                "never start the workflow"
            ],
        ),
        (
            definition(triggers=[{"type": "alert", "filters": [{"key": "a"}, {"value": "x"}, 1]}]),
            [
                "triggers[0].filters[0].value: is required: text, a number, true or false",
                "triggers[0].filters[1].key: is required: the name of a field of the alert",
                "triggers[0].filters[2]: must be an object with key and value",
            ],
        ),
        (
            definition(triggers=[{"type": "alert", "filters": [{"key": "a", "value": 'r"^a+$"'}]}]),
            [
                "triggers[0].filters[0].value: is a regular expression that Keep cannot turn into CEL, so the trigger "
                "would never start the workflow; use cel with matches()"
            ],
        ),
        (
            definition(triggers=[{"type": "alert", "only_on_change": "status", "severity_changed": "yes"}]),
            [
                "triggers[0].only_on_change: must be a list of the names of fields",
                "triggers[0].severity_changed: must be true or false",
            ],
        ),
        (
            definition(triggers=[{"type": "incident"}, {"type": "incident", "events": ["resolved", "create"]}]),
            [
                "triggers[0].events: is required: a list of created, updated, deleted",
                "triggers[1].events[0]: is nothing that happens to an incident; there is created, deleted, updated",
                "triggers[1].events[1]: is nothing that happens to an incident; did you mean created?",
            ],
        ),
        (definition(actions=[{}]), [
            "actions[0].name: is required: results are found by it",
            "actions[0].provider: is required: an object with type, config and with",
        ]),
        (definition(steps=[action(provider={"type": "console"})]), [
            "steps[0].provider.with: is required in a step; without parameters write with: {}",
        ]),
        (definition(actions=[provider(type="console", with_=None)]), [
            "actions[0].provider.with: is required in a step; without parameters write with: {}",
        ]),
        (definition(actions=[provider(type="console", with_="text")]), ["actions[0].provider.with: must be an object"]),
        (definition(actions=[provider()]), ["actions[0].provider.type: is required: such as slack"]),
        (definition(actions=[provider(type="slack", config="slack-prod")]), [
            'actions[0].provider.config: must be "{{ providers.<name> }}", and the name has no dot; did you mean '
            '"{{ providers.slack-prod }}"?',
        ]),
        (definition(actions=[provider(type="slack", config="{{ slack-prod }}")]), [
            'actions[0].provider.config: must be "{{ providers.<name> }}", and the name has no dot; did you mean '
            '"{{ providers.slack-prod }}"?',
        ]),
        (definition(actions=[provider(type="slack", config="{{ providers. }}")]), [
            'actions[0].provider.config: must be "{{ providers.<name> }}", and the name has no dot',
        ]),
        (definition(actions=[provider(type="slack", config="{{ providers.a.b }}")]), [
            'actions[0].provider.config: must be "{{ providers.<name> }}", and the name has no dot',
        ]),
        (definition(actions=[action(if_=1, continue_="no", throttle={"type": "never"}, foreach=[1], vars=[])]), [
            "actions[0].vars: must be an object",
            "actions[0].continue: must be true or false",
            "actions[0].throttle: must be an object with type: one_until_resolved",
            "actions[0].if: must be text, an expression",
            'actions[0].foreach: must be text, such as "{{ steps.ask.results }}"',
        ]),
        (definition(actions=[{**action(), "on-failure": {"retry": {"count": -1, "interval": "5s"}}}]), [
            "actions[0].on-failure.retry.count: must be a whole number, not negative",
            "actions[0].on-failure.retry.interval: must be a whole number, not negative",
        ]),
        (definition(actions=[action(condition=[{"type": "thresholdd"}, {"name": "a", "type": "threshold"}])]), [
            "actions[0].condition[0].name: is required",
            "actions[0].condition[0].type: is required: a kind of condition; did you mean threshold?",
            "actions[0].condition[1].compare_to: is required by a condition of type threshold",
            "actions[0].condition[1].value: is required by a condition of type threshold",
        ]),
        (definition(actions=[provider(type="console", with_={"enrich_alert": [{"key": "a"}]})]), [
            "actions[0].provider.with.enrich_alert[0]: must be an object with key and value",
        ]),
    ],
)  # fmt: skip
def test_what_keep_refuses_is_refused_with_the_remedy(raw: Any, told: list[str]) -> None:
    """All faults are told at once, each with its path and the way out."""
    assert faults(raw) == told


@pytest.mark.parametrize(
    ("value", "every"),
    [
        (1, timedelta(seconds=1)),
        ("90", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        (2**31 - 1, timedelta(seconds=2**31 - 1)),
    ],
)
def test_intervals(value: object, every: timedelta) -> None:
    """Intervals are written as in Keep."""
    found = workflow.judge(definition(triggers=[{"type": "interval", "value": value}])).workflow
    assert found is not None
    assert found.interval == Interval("triggers[0]", every)


@pytest.mark.parametrize(
    "value", ["5s", "", None, 1.5, True, 0, -1, "0m", "m", "5 m", "1w", 2**31, "99999999d", [], "\u0665m"]
)
def test_intervals_that_keep_cannot_read(value: object) -> None:
    """An interval that would make every tick fail never gets that far."""
    (fault,) = faults(definition(triggers=[{"type": "interval", "value": value}]))
    assert fault.startswith("triggers[0].value: ")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (definition(triggers=None), "triggers: is missing, so nothing starts this workflow; write at least {type: manual}"),
        (definition(interval=60), "interval: is the old form; write triggers: [{type: interval, value: …}]"),
        (definition(triggerz=1), "triggerz: is not a known key, so it is kept and has no effect; did you mean triggers?"),
        (definition(x_y=1), "x-y: is not a known key, so it is kept and has no effect"),
        (
            {**definition(), "d\u0435scription": "with a Cyrillic e"},
            "['d\\u0435scription']: is not a known key, so it is kept and has no effect; did you mean description? It "
            "has letters that only look like those",
        ),
        (
            definition(workflow={}),
            "workflow: is not a known key, so it is kept and has no effect. The definition is what stands below "
            "workflow: remove that key",
        ),
        (definition(name=5), "name: should be text; put it in quotes"),
        (definition(owners="me"), "owners: must be a list of texts"),
        (definition(disabled="maybe"), "disabled: should be true or false; anything else means false"),
        (definition(inputs=[{"name": "a", "type": "text"}]),
         "inputs[0].type: is no type of an input; there is boolean, choice, number, string"),
        (definition(inputs=[{"name": "a", "type": "choice"}]),
         "inputs[0].options: is needed by a choice: a list of what can be chosen"),
        (
            definition(triggers=[{"type": "interval", "value": 1}, {"type": "interval", "value": 2}]),
            "triggers[0]: has no effect: of several intervals the last one wins, triggers[1]",
        ),
        (
            definition(triggers=[{"type": "alert", "cel": "true", "filters": [{"key": "a", "value": "b"}]}]),
            "triggers[0].cel: has no effect: where both are given, filters win; remove one of the two",
        ),
        (
            definition(actions=[action("a"), action("a")]),
            "actions[1].name: is also that of actions[0]; its results are overwritten",
        ),
        (
            definition(actions=[provider(type="zoom", with_={"topic": "x"})]),
            'actions[0].provider: has no config, and type "zoom" needs one: config: "{{ providers.<name> }}"',
        ),
        (
            definition(actions=[provider(type="zoom", config="{{ providers.z }}", with_={"topik": "x"})]),
            'actions[0].provider.with.topik: is no parameter that type "zoom" takes here; did you mean topic?',
        ),
        (
            definition(actions=[provider(type="victoriametrics", config="{{ providers.vm }}")]),
            'actions[0].provider.type: "victoriametrics" cannot be notified; use it in a step',
        ),
        (
            definition(actions=[provider(type="slack", config={"authentication": {}})]),
            "actions[0].provider.config: describes a provider itself, with its credentials in every revision; make a "
            "Provider and name it: {{ providers.<name> }}",
        ),
        (
            definition(actions=[provider(type="slack", config="{{ providers.my slack }}")]),
            "actions[0].provider.config: names a provider as no Provider object can be named",
        ),
        (
            definition(actions=[
                {**provider(type="slack", config="{{ providers.x }}"), "name": "a"},
                {**provider(type="teams", config="{{ providers.x }}"), "name": "b"},
            ]),
            'actions[1].provider.type: takes provider "x" for another type than actions[0]; it can have only one',
        ),
        (
            definition(actions=[action(foreach="{{ steps.x.results | first }}")]),
            "actions[0].foreach: is more than a name in braces, which Keep does not find: the step would run for nothing",
        ),
        (definition(consts={"a": None}), 'consts.a: is null, which some tools drop; leave it out, or write ""'),
    ],
)  # fmt: skip
def test_what_was_hardly_meant_so_is_warned_about(raw: Any, told: str) -> None:
    """Keep takes it, so it is taken; but whoever wrote it hears of it."""
    assert warnings(raw) == [told]


def test_unknown_keys_are_kept() -> None:
    """A newer Keep may know them: they are in the definition that is stored and hashed."""
    raw = definition(future={"x": 1}, actions=[action(timeout=5)])
    judged = workflow.judge(raw)
    assert judged.definition == raw
    assert judged.workflow is not None
    assert judged.workflow.raw["future"] == {"x": 1}
    assert [fault.path for fault in judged.warnings] == ["future", "actions[0].timeout"]


def test_a_disabled_workflow_is_spelt_as_in_keep() -> None:
    """`true`, and the text of it."""
    for value, disabled in ((True, True), ("true", True), ("True", True), (False, False), ("false", False), (1, False)):
        assert workflow.is_disabled({"disabled": value}) is disabled


def test_inline_providers_are_not_waited_for() -> None:
    """A definition that brings its own provider needs no object of that name."""
    described = {"slack-inline": {"authentication": {"webhook_url": "x"}}}
    action_of = provider(type="slack", config="{{ providers.slack-inline }}")
    found = workflow.judge(definition(providers=described, actions=[action_of])).workflow
    assert found is not None
    assert found.providers == ()
    assert found.inline_providers == ("slack-inline",)


def test_too_large_is_told_before_anything_else() -> None:
    """A definition that no revision could hold is refused whole."""
    judged = workflow.judge(definition(description="x" * workflow.MAX_BYTES))
    assert judged.reason is Reason.TOO_LARGE
    assert str(judged) == "is larger than 200 KiB as JSON; split it"
    assert workflow.judge(definition(description="x" * (workflow.MAX_BYTES - 1000))).reason is None


def test_thousands_of_faults_are_counted() -> None:
    """The message stays short however broken a definition is."""
    judged = workflow.judge(definition(actions=[{} for _ in range(5_000)]))
    assert len(judged.faults) == 100
    assert judged.untold == 9_900
    assert str(judged).endswith("; and 9992 more")


def test_of_several_reasons_the_first_to_mend_is_shown() -> None:
    """An unknown provider type beside a broken structure is not the first thing to look at."""
    slip = provider(type="slak")
    assert workflow.judge(definition(actions=[slip])).reason is Reason.UNKNOWN_ACTION
    assert workflow.judge(definition(actions=[slip], consts=1)).reason is Reason.SCHEMA_ERROR
    assert workflow.judge(definition(actions=[slip], consts=float("nan"))).reason is Reason.PARSE_ERROR


_ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", "{{", "{{ a }}", "{{#a}}", "keep.x(", [], {}, [None], {"": None}]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(corpus.ALL), st.data())
def test_no_damage_to_a_workflow_breaks_the_judgement(path: Path, data: st.DataObject) -> None:
    """Whatever is put in whatever place of a real workflow is judged, never a traceback."""
    raw = copy.deepcopy(workflow.read(corpus.text(path)).definition)
    assert isinstance(raw, dict)
    for _ in range(data.draw(st.integers(1, 3))):
        here: Any = raw
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans()):
                here = here[key]
                continue
            here[key] = copy.deepcopy(data.draw(_ODD))
            break
    judged = workflow.judge(raw)
    assert (judged.workflow is None) == bool(judged.faults)
    assert all(fault.message for fault in (*judged.faults, *judged.warnings))
