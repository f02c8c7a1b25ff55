"""What steps and actions do with the outside world, by provider type. `perform` is the only way in."""

from keep_operator.domain.abilities import ABILITIES, SideEffects, side_effects
from keep_operator.runner.actions.call import ActionFailed, ActionNotSupported, Call, Outcome
from keep_operator.runner.actions.registry import perform
from keep_operator.runner.egress import Egress

__all__ = (
    "ABILITIES",
    "ActionFailed",
    "ActionNotSupported",
    "Call",
    "Egress",
    "Outcome",
    "SideEffects",
    "perform",
    "side_effects",
)
