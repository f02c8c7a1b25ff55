"""What the built-in runtime can do with a provider type: ask it in a step, tell it in an action, and what a repetition does.

The contract with `runner/actions`: what stands here is implemented there, and nothing else is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal

Kind = Literal["step", "action"]


class SideEffects(StrEnum):
    """What it means to do the same once more, when nobody knows whether it was done."""

    NONE = "None"
    """It only reads: nobody notices a repetition."""
    IDEMPOTENT = "Idempotent"
    """The far side is given a key, or the state to have, and does nothing more when it comes again."""
    EFFECT = "Effect"
    """A repetition is a second message, a second row."""


@dataclass(frozen=True, slots=True)
class Ability:
    """One provider type. ``query`` is what a step does, ``notify`` what an action does; None: not possible.

    Where the parameters decide, the worst is told here, and ``depends`` says on what; `side_effects` knows.
    ``key`` says how the far side is given the idempotency key, empty where it takes none. ``through_apprise``: the library
    Apprise does the talking.
    """

    query: SideEffects | None = None
    notify: SideEffects | None = None
    query_parameters: tuple[str, ...] = ()
    notify_parameters: tuple[str, ...] = ()
    depends: str = ""
    key: str = ""
    through_apprise: bool = False


ABILITIES: Final[Mapping[str, Ability]] = MappingProxyType({})

# They run whatever they are given, in the process or on the machine that runs the workflow.
NEVER: Final = frozenset({"bash", "python", "ssh"})


def side_effects(type_name: str, kind: Kind, parameters: Mapping[str, Any]) -> SideEffects | None:
    """What this call does, by its parameters as they are sent; None where the type cannot do it."""
    ability = ABILITIES.get(type_name)
    if ability is None:
        return None
    return ability.query if kind == "step" else ability.notify


def fault(type_name: str, kind: Kind) -> str | None:
    """Why a step or an action cannot be carried out, as the rest of a sentence about the type; None: it can."""
    ability = ABILITIES.get(type_name)
    if ability is None:
        why = " and never will be: it runs code in the runner" if type_name in NEVER else ""
        return f'"{type_name}" is not supported by the built-in runtime{why}'
    if (ability.query if kind == "step" else ability.notify) is None:
        verb, other = ("queried", "an action") if kind == "step" else ("notified", "a step")
        return f'"{type_name}" cannot be {verb} by the built-in runtime; use it in {other}'
    return None
