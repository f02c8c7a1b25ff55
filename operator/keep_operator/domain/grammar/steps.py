"""What a workflow does: steps ask a provider, actions tell one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from keep_operator.domain import catalogue
from keep_operator.domain.grammar import faults, templates
from keep_operator.domain.grammar.faults import Findings, Reason
from keep_operator.domain.grammar.templates import Scope
from keep_operator.resources.provider import EXTERNAL_NAME

Kind = Literal["step", "action"]

# Types that Keep has and does not list, since no record of them can be made.
UNLISTED: Final = frozenset({"mock", "file", "github_workflows"})
_STEP_KEYS: Final = frozenset(
    [
        "name",
        "provider",
        "if",
        "condition",
        "foreach",
        "vars",
        "alias",
        "continue",
        "continue_on_error",
        "throttle",
        "on-failure",
    ]
)
_ACTION_KEYS: Final = _STEP_KEYS | {"use"}
_PROVIDER_KEYS: Final = frozenset({"type", "config", "with", "on-failure"})
_CONDITIONS: Final = {
    "threshold": frozenset({"value", "compare_to"}),
    "assert": frozenset({"assert"}),
    "stddev": frozenset({"value", "compare_to"}),
}
_CONDITION_KEYS: Final = frozenset({"name", "type", "value", "compare_to", "compare_type", "level", "assert", "alias"})
_PIVOT_KEYS: Final = frozenset({"pivot_column"})
_COMPARISONS: Final = frozenset({"gt", "lt"})
_THROTTLES: Final = frozenset({"one_until_resolved"})
# Taken out of the parameters by Keep before the provider is called.
_ENRICHMENTS: Final = {
    "enrich_alert": frozenset({"key", "value", "disposable"}),
    "enrich_incident": frozenset({"key", "value", "disposable"}),
}
# Fills its parameters in again, for each alert that it makes, with that alert's fields.
_OPEN_TYPES: Final = frozenset({"keep"})
_BARE_REFERENCE: Final = re.compile(r"\s*(?:\{\{\s*)?(?:providers\.)?([A-Za-z0-9_-]+)(?:\s*\}\})?\s*")
_FOREACH: Final = re.compile(r"\s*\{\{\s*[^\s{}|()]+\s*\}\}\s*")


@dataclass(frozen=True, slots=True)
class Step:
    """One step or action. ``position`` counts through the run: steps first, then actions.

    ``provider`` is the name in ``{{ providers.<name> }}``, None where the step needs no record; ``subtype`` is what
    follows the dot in ``type``. ``uses`` names a stored action, which then may bring the provider.
    """

    kind: Kind
    path: str
    position: int
    name: str
    type: str = ""
    subtype: str = ""
    provider: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    uses: str | None = None
    conditions: tuple[str, ...] = ()
    guard: str | bool | None = None
    foreach: str | None = None
    goes_on: bool = True


def names(everything: Sequence[object]) -> dict[str, int]:
    """The name of each step and action with its first place in the run."""
    found: dict[str, int] = {}
    for position, each in enumerate(everything):
        if isinstance(each, dict) and isinstance(name := each.get("name"), str):
            found.setdefault(name, position)
    return found


def aliases(everything: Sequence[object]) -> frozenset[str]:
    """What conditions and steps call their results beside their names."""
    found = set()
    for each in everything:
        if isinstance(each, dict):
            conditions = each.get("condition")
            for holder in (each, *(conditions if isinstance(conditions, list) else ())):
                if isinstance(holder, dict) and isinstance(alias := holder.get("alias"), str):
                    found.add(alias)
    return frozenset(found)


def variables(everything: Sequence[object]) -> frozenset[str]:
    """What any step sets; constants may use it, since they are filled in when a step uses them."""
    given = (each.get("vars") for each in everything if isinstance(each, dict))
    return frozenset(name for each in given if isinstance(each, dict) for name in each)


def read(
    raw: object, kind: Kind, scope: Scope, findings: Findings, *, begin: int, inline: frozenset[str]
) -> tuple[Step, ...]:
    """The steps, or actions, that can be read; ``begin`` is the position of the first one.

    ``inline`` are the providers that the definition itself describes.
    """
    root = f"{kind}s"
    if raw is None:
        return ()
    if not isinstance(raw, list):
        findings.fault(root, "must be a list")
        return ()
    found = []
    seen: dict[str, str] = {}
    for index, each in enumerate(raw):
        path = f"{root}[{index}]"
        if not isinstance(each, dict):
            findings.fault(path, "must be an object with name and provider")
            continue
        step = read_one(each, kind, path, scope, findings, position=begin + index, inline=inline)
        if step.name in seen:
            findings.warn(f"{path}.name", f"is also that of {seen[step.name]}; its results are overwritten")
        if step.name:
            seen.setdefault(step.name, path)
        found.append(step)
    return tuple(found)


def read_one(
    raw: dict[str, Any],
    kind: Kind,
    path: str,
    scope: Scope,
    findings: Findings,
    *,
    position: int,
    inline: frozenset[str],
) -> Step:
    """One step or action; what cannot be read is left out of it, and told in ``findings``."""
    findings.unknown_keys(path, raw, _STEP_KEYS if kind == "step" else _ACTION_KEYS)
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        findings.fault(f"{path}.name", "is required: results are found by it")
        name = ""
    given = raw.get("vars")
    if given is not None and not isinstance(given, dict):
        findings.fault(f"{path}.vars", "must be an object")
        given = None
    foreach = raw.get("foreach")
    scope = replace(scope, position=position, foreach=foreach is not None, vars=frozenset(given or ()))
    step = Step(kind, path, position, name)
    uses = raw.get("use")
    if uses is not None and not isinstance(uses, str):
        findings.fault(f"{path}.use", "must be text, the name of a stored action")
    provider = raw.get("provider")
    if isinstance(provider, dict):
        step = _with_provider(step, provider, f"{path}.provider", scope, findings, inline)
    elif provider is not None or kind == "step" or not isinstance(uses, str):
        findings.fault(f"{path}.provider", "is required: an object with type, config and with")
    templates.examine_all(given or {}, f"{path}.vars", scope, findings, strict=False)
    if isinstance(alias := raw.get("alias"), dict):
        templates.examine_all(alias, f"{path}.alias", scope, findings, strict=False)
    _check_flow(raw, path, findings)
    return replace(
        step,
        uses=uses if isinstance(uses, str) else None,
        conditions=_conditions(raw.get("condition"), f"{path}.condition", scope, findings),
        guard=_guard(raw, path, scope, findings),
        foreach=_foreach(foreach, f"{path}.foreach", scope, findings),
        goes_on=raw.get("continue") is not False,
    )


def _with_provider(
    step: Step, raw: dict[str, Any], path: str, scope: Scope, findings: Findings, inline: frozenset[str]
) -> Step:
    findings.unknown_keys(path, raw, _PROVIDER_KEYS)
    type_name = raw.get("type")
    known = None
    base = subtype = ""
    if not isinstance(type_name, str) or not type_name:
        findings.fault(f"{path}.type", "is required: such as slack")
    else:
        base, _, subtype = type_name.partition(".")
        known = catalogue.find(base)
        if known is None and base not in UNLISTED:
            meant = catalogue.suggest(base)
            hint = f"; did you mean {meant}?" if meant else ""
            findings.fault(
                f"{path}.type", f"{faults.quoted(base)} is no provider type of Keep{hint}", Reason.UNKNOWN_ACTION
            )
    parameters = raw.get("with")
    if parameters is None and (step.kind == "step" or "with" in raw):
        findings.fault(f"{path}.with", "is required in a step; without parameters write with: {}")
    elif parameters is not None and not isinstance(parameters, dict):
        findings.fault(f"{path}.with", "must be an object")
        parameters = None
    parameters = parameters if isinstance(parameters, dict) else {}
    templates.examine_all(
        parameters, f"{path}.with", replace(scope, open=base in _OPEN_TYPES), findings, strict=base not in _OPEN_TYPES
    )
    _check_enrichments(parameters, f"{path}.with", findings)
    provider = _reference(raw, path, findings)
    if known is not None:
        _check_abilities(step, known, subtype, parameters, path, findings)
        if "config" not in raw and any(each.required and each.default is None for each in known.fields.values()):
            findings.warn(
                path, f'has no config, and type "{known.name}" needs one: config: "{{{{ providers.<name> }}}}"'
            )
    if provider is not None and provider not in inline and re.fullmatch(EXTERNAL_NAME[1:-1], provider) is None:
        findings.warn(f"{path}.config", "names a provider as no Provider object can be named")
    return replace(step, type=base, subtype=subtype, provider=provider, parameters=parameters)


def _reference(raw: dict[str, Any], path: str, findings: Findings) -> str | None:
    """The provider that a step names; None where it names none, or describes one itself."""
    config = raw.get("config")
    if config is None:
        if "config" in raw:
            findings.fault(f"{path}.config", 'must be text, "{{ providers.<name> }}"; or leave it out')
        return None
    if isinstance(config, dict):
        findings.warn(
            f"{path}.config",
            "describes a provider itself, with its credentials in every revision; make a Provider and name it: "
            "{{ providers.<name> }}",
        )
        return None
    if isinstance(config, str):
        inner = config.strip().removeprefix("{{").removesuffix("}}").strip()
        name = inner.removeprefix("providers.")
        if len(config.strip()) >= len(inner) + 4 and name != inner and name and not set(name) & set(".{}"):
            return name.strip()
        meant = _BARE_REFERENCE.fullmatch(config)
        hint = f'; did you mean "{{{{ providers.{meant[1][:63]} }}}}"?' if meant else ""
        findings.fault(f"{path}.config", f'must be "{{{{ providers.<name> }}}}", and the name has no dot{hint}')
    else:
        findings.fault(f"{path}.config", 'must be text, "{{ providers.<name> }}"')
    return None


def _check_abilities(
    step: Step,
    known: catalogue.ProviderType,
    subtype: str,
    parameters: Mapping[str, Any],
    path: str,
    findings: Findings,
) -> None:
    """What the type can do; a subtype has parameters of its own, which the catalogue does not list."""
    if known.coming_soon:
        findings.warn(f"{path}.type", f'"{known.name}" is listed by Keep and does nothing yet')
        return
    if subtype:
        return
    able, taken = (
        (known.can_query, known.query_params) if step.kind == "step" else (known.can_notify, known.notify_params)
    )
    if not able:
        verb, other = ("queried", "an action") if step.kind == "step" else ("notified", "a step")
        findings.warn(f"{path}.type", f'"{known.name}" cannot be {verb}; use it in {other}')
    elif "kwargs" not in taken:
        for name in parameters:
            if name not in taken and name not in _ENRICHMENTS:
                findings.warn(
                    faults.join(f"{path}.with", name),
                    f'is no parameter that type "{known.name}" takes here',
                    meant=(name, taken),
                )


def _check_enrichments(parameters: Mapping[str, Any], path: str, findings: Findings) -> None:
    for name, keys in _ENRICHMENTS.items():
        if name not in parameters:
            continue
        entries = parameters[name]
        if not isinstance(entries, list):
            findings.fault(f"{path}.{name}", "must be a list, such as [{key: status, value: resolved}]")
            continue
        for index, entry in enumerate(entries):
            place = f"{path}.{name}[{index}]"
            if not isinstance(entry, dict) or not {"key", "value"} <= entry.keys():
                findings.fault(place, "must be an object with key and value")
            else:
                findings.unknown_keys(place, entry, keys)


def _conditions(raw: object, path: str, scope: Scope, findings: Findings) -> tuple[str, ...]:
    """The names of the conditions."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        findings.fault(path, "must be a list")
        return ()
    found = []
    for index, each in enumerate(raw):
        place = f"{path}[{index}]"
        if not isinstance(each, dict):
            findings.fault(place, "must be an object with name and type")
            continue
        findings.unknown_keys(place, each, _CONDITION_KEYS | _PIVOT_KEYS)
        name, kind = each.get("name"), each.get("type")
        if isinstance(name, str) and name:
            found.append(name)
        else:
            findings.fault(f"{place}.name", "is required")
        if not isinstance(kind, str) or kind not in _CONDITIONS:
            findings.fault(f"{place}.type", "is required: a kind of condition", meant=(kind, _CONDITIONS))
        else:
            for key in sorted(_CONDITIONS[kind] - each.keys()):
                findings.fault(f"{place}.{key}", f"is required by a condition of type {kind}")
        comparison = each.get("compare_type")
        if comparison is not None and comparison not in _COMPARISONS:
            findings.fault(f"{place}.compare_type", "must be gt or lt")
        for key in ("value", "compare_to", "assert"):
            templates.examine_all(each.get(key), f"{place}.{key}", scope, findings, strict=False)
    return tuple(found)


def _guard(raw: dict[str, Any], path: str, scope: Scope, findings: Findings) -> str | bool | None:
    guard = raw.get("if")
    if guard is None or isinstance(guard, bool):
        return guard
    if not isinstance(guard, str):
        findings.fault(f"{path}.if", "must be text, an expression")
        return None
    templates.examine(guard, f"{path}.if", scope, findings, strict=False)
    return guard


def _foreach(raw: object, path: str, scope: Scope, findings: Findings) -> str | None:
    """Keep looks a single name up; it neither renders nor filters here."""
    if raw is None:
        return None
    if not isinstance(raw, str):
        findings.fault(path, 'must be text, such as "{{ steps.ask.results }}"')
        return None
    for part in raw.split("&&"):
        if _FOREACH.fullmatch(part) is None:
            findings.warn(
                path, "is more than a name in braces, which Keep does not find: the step would run for nothing"
            )
        else:
            templates.examine(part, path, replace(scope, foreach=False), findings, strict=False)
    return raw


def _check_flow(raw: dict[str, Any], path: str, findings: Findings) -> None:
    for key in ("continue", "continue_on_error"):
        if not isinstance(raw.get(key, False), bool):
            findings.fault(f"{path}.{key}", "must be true or false")
    alias = raw.get("alias")
    if alias is not None and not isinstance(alias, str | dict):
        findings.fault(f"{path}.alias", "must be text, a name for the results, or an object of texts")
    throttle = raw.get("throttle")
    if throttle is not None and (not isinstance(throttle, dict) or throttle.get("type") not in _THROTTLES):
        findings.fault(f"{path}.throttle", "must be an object with type: one_until_resolved")
    places = {f"{path}.on-failure": raw.get("on-failure")}
    if isinstance(provider := raw.get("provider"), dict):
        places[f"{path}.provider.on-failure"] = provider.get("on-failure")
    for place, failure in places.items():
        if failure is not None:
            _check_retry(failure, place, findings)


def _check_retry(raw: object, path: str, findings: Findings) -> None:
    if not isinstance(raw, dict):
        findings.fault(path, "must be an object, such as {retry: {count: 2, interval: 5}}")
        return
    findings.unknown_keys(path, raw, {"retry"})
    retry = raw.get("retry")
    if retry is None:
        return
    if not isinstance(retry, dict):
        findings.fault(f"{path}.retry", "must be an object with count and interval")
        return
    findings.unknown_keys(f"{path}.retry", retry, {"count", "interval"})
    for key in ("count", "interval"):
        value = retry.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            findings.fault(f"{path}.retry.{key}", "must be a whole number, not negative")
