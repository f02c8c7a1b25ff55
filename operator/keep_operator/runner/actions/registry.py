"""Which code carries out which provider type."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from keep_operator.domain import abilities
from keep_operator.domain.abilities import Kind
from keep_operator.runner.actions.call import ActionNotSupported, Call, Outcome

Action: TypeAlias = Callable[[Call], Awaitable[Outcome]]

ACTIONS: Final[dict[tuple[str, Kind], Action]] = {}


async def perform(call: Call) -> Outcome:
    """Carry a call out, within its ``timeout_s``. Raises ActionFailed, and nothing else but cancellation."""
    action = ACTIONS.get((call.type, call.kind))
    if action is None:
        raise ActionNotSupported(abilities.fault(call.type, call.kind) or f'"{call.type}" is not supported')
    return await action(call)
