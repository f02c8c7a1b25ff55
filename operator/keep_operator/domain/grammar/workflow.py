"""A definition judged: the model that everything else works with, or every fault at once, each with its path.

A definition is the inner mapping of Keep's workflow files, without the outer ``workflow:``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from keep_operator.domain.grammar import dialect, faults, steps, templates, triggers, values
from keep_operator.domain.grammar.faults import Fault, Findings, Reason
from keep_operator.domain.grammar.steps import Step
from keep_operator.domain.grammar.templates import Scope
from keep_operator.domain.grammar.triggers import Alert, Incident, Interval, Trigger

# Of JSON without spaces. An object of 1.5 MiB is all that etcd takes, and each revision is one.
MAX_BYTES: Final = 200 * 1024
STRATEGIES: Final = frozenset({"nonparallel_with_retry", "nonparallel", "parallel"})
INPUT_TYPES: Final = frozenset({"string", "number", "boolean", "choice"})
# What may stand around a definition in a file. The last two are from Keep's first days.
WRAPPERS: Final = ("workflow", "workflows", "alert", "alerts")

_ALL_KEYS: Final = """
    id name description disabled debug owners services tags permissions strategy interval consts inputs triggers
    steps actions on-failure providers
"""
_KEYS: Final = frozenset(_ALL_KEYS.split())
_INPUT_KEYS: Final = frozenset({"name", "type", "description", "default", "required", "options"})


@dataclass(frozen=True, slots=True)
class ProviderUse:
    """A provider that steps name, with the type that they take it for and the paths of those steps."""

    name: str
    type: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A definition that Keep would run. ``raw`` is the definition itself, with all that the model does not tell.

    ``inline_providers`` are described in the definition and need no Provider object.
    """

    raw: Mapping[str, Any]
    triggers: tuple[Trigger, ...]
    steps: tuple[Step, ...]
    actions: tuple[Step, ...]
    on_failure: Step | None
    consts: Mapping[str, Any]
    inputs: tuple[str, ...]
    strategy: str
    disabled: bool
    inline_providers: tuple[str, ...]

    @property
    def name(self) -> str:
        """What people call it: Keep shows ``name``, else ``id``; empty where it has neither."""
        return next((str(self.raw[key]) for key in ("name", "id") if self.raw.get(key)), "")

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """Everything that may call a provider, in the order of a run."""
        return (*self.steps, *self.actions, *((self.on_failure,) if self.on_failure else ()))

    @property
    def steps_by_name(self) -> Mapping[str, Step]:
        """Steps and actions by ``steps.<name>`` and ``actions.<name>``; of two with a name the last, as in Keep."""
        return {f"{step.kind}s.{step.name}": step for step in (*self.steps, *self.actions)}

    @property
    def providers(self) -> tuple[ProviderUse, ...]:
        """The providers that must be there before it runs, sorted; one that is taken for two types is there twice."""
        found: dict[tuple[str, str], list[str]] = {}
        for step in self.all_steps:
            if step.provider is not None and step.provider not in self.inline_providers:
                found.setdefault((step.provider, step.type), []).append(step.path)
        return tuple(ProviderUse(name, kind, tuple(paths)) for (name, kind), paths in sorted(found.items()))

    @property
    def interval(self) -> Interval | None:
        """The one interval that counts: the last."""
        return next((each for each in reversed(self.triggers) if isinstance(each, Interval)), None)

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alert triggers."""
        return tuple(each for each in self.triggers if isinstance(each, Alert))

    @property
    def incident_events(self) -> frozenset[str]:
        """What may happen to an incident to start it."""
        return frozenset(event for each in self.triggers if isinstance(each, Incident) for event in each.events)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``workflow`` is there if and only if there are no faults; warnings may be there in either case.

    ``definition`` is what was judged, None where there is none to be found. ``untold`` counts faults beyond the first
    hundred.
    """

    workflow: Workflow | None
    definition: Mapping[str, Any] | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    untold: int = 0

    @property
    def reason(self) -> Reason | None:
        """The one reason for the condition; None: valid."""
        return next((reason for reason in Reason if any(fault.reason is reason for fault in self.faults)), None)

    def __str__(self) -> str:
        return faults.cut(self.faults, self.untold)


def read(text: str) -> Judgement:
    """The only workflow in a YAML text, with or without what Keep's files put around it; faults name their lines."""
    try:
        document = dialect.load(text)
    except dialect.Malformed as error:
        return Judgement(None, None, error.faults, ())
    inner, prefix, found = unwrap(document.value)
    if inner is None:
        return Judgement(None, None, tuple(_at(document, "", fault) for fault in found.faults), ())
    judged = judge(inner)
    return replace(
        judged,
        faults=tuple(_at(document, prefix, fault) for fault in (*found.faults, *judged.faults)),
        warnings=tuple(_at(document, prefix, fault) for fault in (*found.warnings, *judged.warnings)),
        workflow=None if found.faults else judged.workflow,
    )


def unwrap(document: object) -> tuple[dict[str, Any] | None, str, Findings]:
    """The definition inside of a file's document, and its path in there; faults if there is none, or more than one.

    What stands beside the wrapper (``providers``, ``actions``, ``steps``) counts as part of the definition, unless the
    definition has it itself: Keep's first format had it there.
    """
    found = Findings()
    if not isinstance(document, dict):
        found.fault("", "must be an object with steps or actions", Reason.PARSE_ERROR)
        return None, "", found
    wrappers = [name for name in WRAPPERS if name in document]
    if not wrappers:
        return document, "", found
    wrapper = wrappers[0]
    inner, path = document[wrapper], wrapper
    if wrapper.endswith("s") and isinstance(inner, list):
        if len(inner) != 1:
            found.fault(wrapper, f"holds {len(inner)} workflows; put each into an object of its own")
            return None, "", found
        inner, path = inner[0], f"{wrapper}[0]"
    if not isinstance(inner, dict):
        found.fault(path, "must be an object with steps or actions", Reason.PARSE_ERROR)
        return None, "", found
    beside = {key: value for key, value in document.items() if key != wrapper}
    for key in beside:
        if key in inner or key in WRAPPERS:
            found.fault(key, f"stands beside {wrapper} and in it; keep one of the two")
        else:
            found.warn(key, f"stands beside {wrapper}, and is taken as a part of it")
    return {**inner, **{key: value for key, value in beside.items() if key not in inner}}, path, found


def judge(definition: object) -> Judgement:
    """A definition as JSON: the model, or all that is wrong with it."""
    findings = Findings()
    if not isinstance(definition, dict):
        findings.fault("", "must be an object with steps or actions", Reason.PARSE_ERROR)
        return Judgement(None, None, tuple(findings.faults), ())
    for path, message, reason in values.check(definition):
        if reason is None:
            findings.warn(path, message)
        else:
            findings.fault(path, message, reason)
    if any(fault.reason is not Reason.SCHEMA_ERROR for fault in findings.faults):
        # Nothing that follows is made for what is no JSON, or endless.
        return Judgement(None, definition, tuple(findings.faults), tuple(findings.warnings), findings.untold_faults)
    if len(json.dumps(definition, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_BYTES:
        findings.fault("", f"is larger than {MAX_BYTES // 1024} KiB as JSON; split it", Reason.TOO_LARGE)
        return Judgement(None, definition, tuple(findings.faults), tuple(findings.warnings))
    workflow = _read(definition, findings)
    return Judgement(
        None if findings.faults else workflow,
        definition,
        tuple(findings.faults),
        tuple(findings.warnings),
        findings.untold_faults,
    )


def _at(document: dialect.Document, prefix: str, fault: Fault) -> Fault:
    if not prefix:
        return replace(fault, line=document.line(fault.path))
    separator = "" if not fault.path or fault.path.startswith("[") else "."
    inside = document.line(f"{prefix}{separator}{fault.path}")
    return replace(fault, line=document.lines.get(fault.path, inside))


def _read(raw: dict[str, Any], findings: Findings) -> Workflow:
    wrapper = next((name for name in WRAPPERS if name in raw), None)
    aside = "" if wrapper is None else f". The definition is what stands below {wrapper}: remove that key"
    findings.unknown_keys("", raw, _KEYS, aside=aside)
    _check_labels(raw, findings)
    consts = raw.get("consts")
    if consts is not None and not isinstance(consts, dict):
        findings.fault("consts", "must be an object")
        consts = None
    strategy = raw.get("strategy", "nonparallel_with_retry")
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        findings.fault("strategy", "is none that Keep has", meant=(strategy, STRATEGIES))
    inline = _inline_providers(raw, findings)
    inputs = _inputs(raw.get("inputs"), findings)
    listed = [value if isinstance(value := raw.get(key), list) else [] for key in ("steps", "actions")]
    everything, first_action = [*listed[0], *listed[1]], len(listed[0])
    scope = Scope(
        steps=steps.names(everything),
        consts=frozenset(consts or ()),
        inputs=frozenset(inputs),
        roots=templates.ROOTS | steps.aliases(everything),
    )
    for_consts = replace(scope, vars=steps.variables(everything), foreach=True)
    templates.examine_all(consts or {}, "consts", for_consts, findings, strict=False)
    read_steps = steps.read(raw.get("steps"), "step", scope, findings, begin=0, inline=frozenset(inline))
    actions = steps.read(raw.get("actions"), "action", scope, findings, begin=first_action, inline=frozenset(inline))
    if not raw.get("steps") and not raw.get("actions"):
        findings.fault("", "has neither steps nor actions, so it would do nothing")
    workflow = Workflow(
        raw=raw,
        triggers=triggers.read(raw, findings),
        steps=read_steps,
        actions=actions,
        on_failure=_on_failure(raw.get("on-failure"), scope, findings, first_action + len(actions), frozenset(inline)),
        consts=consts or {},
        inputs=inputs,
        strategy=strategy if isinstance(strategy, str) else "",
        disabled=is_disabled(raw),
        inline_providers=inline,
    )
    _check_types(workflow, findings)
    return workflow


def is_disabled(definition: Mapping[str, Any]) -> bool:
    """Whether the definition stops its own triggers: ``disabled`` is ``true``, or the text of it, as in Keep."""
    disabled = definition.get("disabled")
    return disabled is True or (isinstance(disabled, str) and disabled.casefold() == "true")


def _check_labels(raw: Mapping[str, Any], findings: Findings) -> None:
    """What people read: Keep takes anything there, and shows it as it is."""
    for key in ("id", "name", "description"):
        if (value := raw.get(key)) is not None and not isinstance(value, str):
            findings.warn(key, "should be text; put it in quotes")
    for key in ("owners", "services", "tags", "permissions"):
        value = raw.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            say = findings.fault if key == "permissions" else findings.warn
            say(key, "must be a list of texts")
    disabled = raw.get("disabled", False)
    spelt = isinstance(disabled, str) and disabled.casefold() in ("true", "false")
    if not isinstance(disabled, bool) and not spelt:
        findings.warn("disabled", "should be true or false; anything else means false")
    if not isinstance(raw.get("debug", False), bool):
        findings.warn("debug", "should be true or false")


def _inputs(raw: object, findings: Findings) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        findings.fault("inputs", "must be a list")
        return ()
    found = []
    for index, each in enumerate(raw):
        path = f"inputs[{index}]"
        if not isinstance(each, dict) or not isinstance(name := each.get("name"), str) or not name:
            findings.fault(f"{path}.name", "is required")
            continue
        if name in found:
            findings.warn(f"{path}.name", "is there twice; the last one counts")
        found.append(name)
        findings.unknown_keys(path, each, _INPUT_KEYS)
        kind = each.get("type")
        if kind is not None and (not isinstance(kind, str) or kind not in INPUT_TYPES):
            findings.warn(f"{path}.type", "is no type of an input", meant=(kind, INPUT_TYPES))
        if kind == "choice" and not (isinstance(options := each.get("options"), list) and options):
            findings.warn(f"{path}.options", "is needed by a choice: a list of what can be chosen")
    return tuple(found)


def _inline_providers(raw: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    given = raw.get("providers")
    if given is None:
        return ()
    if not isinstance(given, dict):
        findings.fault("providers", "must be an object")
        return ()
    findings.warn(
        "providers",
        "describes providers in the definition, with their credentials in every revision; make Provider objects of "
        "these names instead",
    )
    return tuple(given)


def _on_failure(raw: object, scope: Scope, findings: Findings, position: int, inline: frozenset[str]) -> Step | None:
    """The action that tells of a failed run; Keep puts the error into its ``message``."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        findings.fault("on-failure", "must be an action: an object with provider")
        return None
    named = {"name": "on-failure", **raw}
    return steps.read_one(named, "action", "on-failure", scope, findings, position=position, inline=inline)


def _check_types(workflow: Workflow, findings: Findings) -> None:
    """A provider has one type, so steps that take it for two cannot all be right."""
    first: dict[str, ProviderUse] = {}
    for use in workflow.providers:
        other = first.setdefault(use.name, use)
        if other is not use and other.type and use.type:
            findings.warn(
                f"{use.paths[0]}.provider.type",
                f"takes provider {faults.quoted(use.name)} for another type than {other.paths[0]}; it can have only one",
            )
