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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keep_operator.domain import inputs
from keep_operator.domain.grammar import workflow
from keep_operator.domain.inputs import InvalidInputs
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
        """The inputs of a run, as `inputs.filled` fills them in. Raises InvalidInputs."""
        return inputs.filled(self.script.definition.get("inputs") or (), given)

    def next(self, facts: Facts, done: Sequence[Done], now: datetime) -> Outcome:
        """What is to be done, given the rows in any order. Deterministic; never raises for what a definition says.

        Times in the workflow (``keep.utcnow()``) are those at which the row before was completed, and ``now`` only ends
        a Sleep: so whoever goes on with a run, and whenever, makes the same calls.
        """
        try:
            given = self.inputs(facts.inputs)
        except InvalidInputs as error:
            return Finish("Failed", "StepFailed", str(error))
        return Walk(self.script, facts, given, done, now).next()
