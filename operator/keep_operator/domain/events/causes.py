"""Which workflows led to an alert, so that workflows whose alerts start each other come to an end.

::

    posted ──► A runs ──► its alert: [A] ──► B runs ──► its alert: [A, B] ──► C, but neither A nor B
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

# The field of an alert that has it, the first workflow first, by ids.
FIELD: Final = "workflowChain"
# Workflows in one chain; what the last of them makes starts nothing. Escalations of people have two or three.
LONGEST: Final = 5


def of(event: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The chain in the fields of an alert; empty where they have none."""
    told = None if event is None else event.get(FIELD)
    return tuple(each for each in told if isinstance(each, str)) if isinstance(told, list) else ()


def behind(chain: Sequence[str], workflow_id: str) -> tuple[str, ...]:
    """The chain of what a run of this workflow makes, itself being started by an event of that chain."""
    return (*(each for each in chain if each != workflow_id), workflow_id)


def goes_on(chain: Sequence[str], workflow_id: str) -> bool:
    """Whether an alert of this chain may start this workflow."""
    return len(chain) < LONGEST and workflow_id not in chain
