"""Runs of Keep's example workflows, with providers that answer what was recorded; what came of them, file by file.

``python -m unit.domain.keep_runs`` writes it down, for test_keep_runs.py to compare, and prints the table of docs/grammar.md.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import rfc8785
import yaml

from keep_operator.domain import program
from keep_operator.domain.grammar import workflow
from keep_operator.domain.grammar.workflow import Workflow
from keep_operator.domain.program import Fail, Perform, Previous, Program, Skip
from unit.domain.driver import NOW, Run, answers, drive, facts
from unit.domain.grammar import corpus

GOLDEN: Final = corpus.DATA / "keep-runs.txt"


@cache
def recorded() -> dict[str, Any]:
    """The recorded answers."""
    read = yaml.safe_load(corpus.text(corpus.DATA / "keep-runs.yaml"))
    assert isinstance(read, dict)
    return read


def read(path: Path) -> Workflow:
    """The workflow in a file."""
    found = workflow.read(corpus.text(path)).workflow
    assert found is not None, path.name
    return found


def run(path: Path) -> Run:
    """One file run to its end: of those that an incident starts by an incident, of all others by an alert."""
    found, known = read(path), recorded()
    by_incident = bool(found.incident_events) and not found.alerts
    alert = {**known["event"], **(known["incident"] if by_incident else {})}
    return drive(
        Program.of(found.raw),
        facts(
            event=None if by_incident and path.name not in _BOTH else alert,
            incident=known["incident"],
            inputs={"nodefault": "given"},
            previous=Previous(firing_since=NOW - timedelta(minutes=20)),
        ),
        answers(known["files"].get(path.name, {})),
    )


# Started by an incident, and naming the alert, which Keep's incidents do not have.
_BOTH: Final = frozenset({"conditionally_run_if_ai_says_so.yaml"})


def told(path: Path) -> Iterator[str]:
    """What came of one file: each outcome with a digest of what a provider is sent, then the end."""
    played = run(path)
    yield f"{path.name}: {played.end.state}"
    for outcome in played.told:
        match outcome:
            case Perform():
                sent: Any = {
                    "parameters": outcome.parameters,
                    "enrichments": [asdict(each) for each in outcome.enrichments],
                }
                digest = hashlib.sha256(rfc8785.dumps(sent)).hexdigest()[:12]
                yield f"  {_place(outcome)} {outcome.type} {digest}"
            case Skip() | Fail():
                yield f"  {_place(outcome)} {type(outcome).__name__.lower()}"


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)


def _steps(found: Workflow, kind: str) -> list[dict[str, Any]]:
    return [each for each in found.raw.get(kind) or () if isinstance(each, dict)]


def _with(found: Workflow) -> list[dict[str, Any]]:
    everything = [*_steps(found, "steps"), *_steps(found, "actions")]
    return [given for each in everything if isinstance(given := (each.get("provider") or {}).get("with"), dict)]


def _have(key: str) -> Callable[[Workflow], bool]:
    return lambda found: any(each.get(key) for each in (*_steps(found, "steps"), *_steps(found, "actions")))


def _condition(kind: str) -> Callable[[Workflow], bool]:
    def used(found: Workflow) -> bool:
        everything = (*_steps(found, "steps"), *_steps(found, "actions"))
        return any(one.get("type") == kind for each in everything for one in each.get("condition") or ())

    return used


def _text(pattern: str) -> Callable[[Workflow], bool]:
    return lambda found: any(re.search(pattern, text) for text in _texts(found.raw))


def _at_top(key: str) -> Callable[[Workflow], bool]:
    return lambda found: bool(found.raw.get(key))


FEATURES: Final[Mapping[str, Callable[[Workflow], bool]]] = {
    "`steps`": _at_top("steps"),
    "`actions`": _at_top("actions"),
    "`if`": _have("if"),
    "`condition` of type `threshold`": _condition("threshold"),
    "`condition` of type `assert`": _condition("assert"),
    "`condition` of type `stddev`": _condition("stddev"),
    "names of conditions in later steps": lambda found: any(
        isinstance(one, dict) and "alias" in one
        for each in (*_steps(found, "steps"), *_steps(found, "actions"))
        for one in each.get("condition") or ()
    ),
    "`foreach`": _have("foreach"),
    "`consts`": _at_top("consts"),
    "`vars`": _have("vars"),
    "`inputs`": _at_top("inputs"),
    "`{{ name }}`": _text(r"\{\{(?!\s*(?:[#/^]|providers\.[\w-]+\s*\}\}))"),
    "`{{#section}}`": _text(r"\{\{#"),
    "items of lists in names": _text(r"\{\{[^}]*(\.\d+|\[\d+\])"),
    "results of the last run": _text("last_workflow_"),
    "`keep.functions()`": _text(r"keep\.[a-z_]+\("),
    "`raw_render_without_execution`": _text("raw_render_without_execution"),
    "`continue: false`": lambda found: any(
        each.get("continue") is False for each in (*_steps(found, "steps"), *_steps(found, "actions"))
    ),
    "`continue_on_error`": _have("continue_on_error"),
    "`on-failure` with `retry`": _have("on-failure"),
    "`on-failure` of the workflow": _at_top("on-failure"),
    "`throttle`": _have("throttle"),
    "`enrich_alert`": lambda found: any("enrich_alert" in given for given in _with(found)),
    "`enrich_incident`": lambda found: any("enrich_incident" in given for given in _with(found)),
    "parameters with `key` and `default`": lambda found: any(
        isinstance(value, dict) and "key" in value and "default" in value
        for given in _with(found)
        for value in given.values()
    ),
}


def coverage() -> Iterator[tuple[str, int, int]]:
    """For each feature how many files use it, and how many of these run to their end without a failure."""
    read_files = [(read(path), run(path).end.state == "Succeeded") for path in corpus.KEEP]
    for feature, used in FEATURES.items():
        ends = [succeeded for found, succeeded in read_files if used(found)]
        yield feature, len(ends), sum(ends)


def _place(outcome: Perform | Skip | Fail) -> str:
    return f"{outcome.position}" if outcome.iteration == program.ONCE else f"{outcome.position}[{outcome.iteration}]"


if __name__ == "__main__" and corpus.KEEP:
    print(*(f"| {feature} | {files} | {ended} |" for feature, files, ended in coverage()), sep="\n")  # noqa: T201
    GOLDEN.write_text("".join(f"{line}\n" for path in corpus.KEEP for line in told(path)), encoding="utf-8")
