"""The inputs of a run: what is given, against what its revision declares. Judged where a run is accepted, and where it runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from keep_operator.domain.language import context

# Characters of what is told about inputs.
_TOLD: Final = 1_000


class InvalidInputs(ValueError):
    """Inputs that the definition does not take; the message names each with what is wrong, and none of their values."""


def filled(declarations: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was given, as the declared types, with defaults. ``declarations`` are `inputs` of a valid definition.

    What is given and not declared is there all the same, as in Keep. Raises InvalidInputs.
    """
    found = dict(given)
    faults = []
    for declared in declarations:
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
            found[name] = _typed(value, declared)
        except ValueError as error:
            faults.append(f"{context.quoted(name)} {error}")
    if faults:
        raise InvalidInputs(f"inputs: {'; '.join(faults)}"[:_TOLD])
    return found


def _typed(value: Any, declared: Mapping[str, Any]) -> Any:
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
