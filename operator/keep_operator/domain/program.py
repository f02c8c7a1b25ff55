"""A definition as a program: what a run does next, told from the facts of the run and the rows of what was done.

::

    definition ──► Program.of ──► program.next(facts, done, now) ──► Perform   call a provider, record its result, ask again
                                        ▲                            Fail      record a Failed row, ask again
                                        │                            Skip      record a Skipped row, ask again
                                        └──────── run_step rows ◄──  Sleep     ask again at that time
                                                                     Finish    the run is over

Nothing is kept between two calls, so a run that a worker left is gone on with by any other: the rows say how far it is.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from keep_operator.domain.grammar import workflow
from keep_operator.domain.interpreter import Script, Step, Walk
from keep_operator.domain.language import context
from keep_operator.domain.outcome import (
    ONCE,
    Done,
    Enrichment,
    Facts,
    Fail,
    Finish,
    Outcome,
    Perform,
    Previous,
    Skip,
    Sleep,
    State,
    resolved,
)

__all__ = [
    "ONCE",
    "Done",
    "Enrichment",
    "Facts",
    "Fail",
    "Finish",
    "InvalidInputs",
    "Outcome",
    "Perform",
    "Previous",
    "Program",
    "Skip",
    "Sleep",
    "State",
    "resolved",
]

# Characters of what is told about inputs.
_TOLD: Final = 1_000


class InvalidInputs(ValueError):
    """Inputs that the definition does not take; the message names each with what is wrong."""


@dataclass(frozen=True, slots=True)
class Program:
    """A definition that can be run: its steps, then its actions, and the action that tells of a failure."""

    script: Script

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "Program":
        """The program of a valid definition. Raises ValueError for one that the grammar faults."""
        judged = workflow.judge(definition)
        if judged.workflow is None:
            raise ValueError(f"the definition cannot run: {judged}")
        read = judged.workflow
        raw = [*(definition.get("steps") or ()), *(definition.get("actions") or ())]
        steps = tuple(Step(step, context.source(raw[step.position])) for step in (*read.steps, *read.actions))
        last = None if read.on_failure is None else Step(read.on_failure, context.source(definition["on-failure"]))
        whole = json.dumps(definition)
        return cls(Script(definition, steps, last, "conditions" in whole, "provider_parameters" in whole))

    def inputs(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs of a run: what was given, as the declared types, with defaults. Raises InvalidInputs.

        What is given and not declared is there all the same, as in Keep.
        """
        found = dict(given)
        faults = []
        for declared in self.script.definition.get("inputs") or ():
            name = declared["name"]
            value = given.get(name)
            if value is None:
                value = declared.get("default")
            if value is None or value == "":
                if declared.get("required") is True:
                    faults.append(f"{context.quoted(name)} is required")
                found[name] = value
                continue
            try:
                found[name] = _input(value, declared)
            except ValueError as error:
                faults.append(f"{context.quoted(name)} {error}")
        if faults:
            raise InvalidInputs(f"inputs: {'; '.join(faults)}"[:_TOLD])
        return found

    def next(self, facts: Facts, done: Sequence[Done], now: datetime) -> Outcome:
        """What is to be done, given the rows in any order. Deterministic; never raises for what a definition says.

        Times in the workflow (``keep.utcnow()``) are those at which the row before was completed, and ``now`` only ends
        a Sleep: so whoever goes on with a run, and whenever, makes the same calls.
        """
        try:
            inputs = self.inputs(facts.inputs)
        except InvalidInputs as error:
            return Finish("Failed", "StepFailed", str(error))
        return Walk(self.script, facts, inputs, done, now).next()


def _input(value: Any, declared: Mapping[str, Any]) -> Any:
    """A value as the declared type. Raises ValueError, the rest of a sentence."""
    match declared.get("type"):
        case "number":
            if isinstance(value, str):
                try:
                    number = float(value)
                except ValueError:
                    raise ValueError("must be a number") from None
                value = int(number) if math.isfinite(number) and number == int(number) else number
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError("must be a number")
        case "boolean":
            if isinstance(value, str) and value.casefold() in ("true", "false"):
                value = value.casefold() == "true"
            if not isinstance(value, bool):
                raise ValueError("must be true or false")
        case "choice":
            options = declared.get("options") or ()
            if value not in options:
                raise ValueError(f"must be one of {', '.join(map(str, options))[:200]}")
        case "string" if not isinstance(value, str):
            if isinstance(value, dict | list):
                raise ValueError("must be text")
            value = str(value)
    return value
