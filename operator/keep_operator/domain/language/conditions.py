"""Whether a step runs: its conditions and its ``if``, as Keep judges them.

Without ``if`` all conditions must hold; with it they are names in it, and in those of later steps.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keep_operator.domain.language import context, expressions, functions, limits, mustache
from keep_operator.domain.language.context import MISSING, Source
from keep_operator.domain.language.expressions import Absent
from keep_operator.domain.language.limits import Failed, LimitExceeded
from keep_operator.domain.language.mustache import Filling

_NUMBER: Final = re.compile(r"[-+]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][-+]?\d{1,4})?")
# Of what a condition looked at, in the message about a step that does not run.
_SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class Judged:
    """One condition with what it came to. ``details`` stand beside it, as ``level`` of a threshold does."""

    name: str
    type: str
    alias: str
    holds: bool
    compare_to: Any
    compare_value: Any
    details: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def entry(self) -> dict[str, Any]:
        """What is found below ``steps.<step>.conditions.<name>``."""
        return {
            "value": None,
            "compare_value": self.compare_value,
            "compare_to": self.compare_to,
            "result": self.holds,
            "type": self.type,
            "alias": self.alias,
            **self.details,
        }


def judge(condition: Mapping[str, Any], filling: Filling) -> Judged:
    """What one condition comes to. Raises Failed, naming it, for values that cannot be compared."""
    name = str(condition["name"])
    try:
        match condition["type"]:
            case "threshold":
                return _threshold(condition, name, filling)
            case "assert":
                return _assert(condition, name, filling)
            case _:
                return _stddev(condition, name, filling)
    except Failed as error:
        raise type(error)(f"condition {context.quoted(name)}: {error}") from None


def _made(condition: Mapping[str, Any], name: str, holds: bool, compare_to: Any, value: Any, **rest: Any) -> Judged:
    alias = str(condition.get("alias") or name)
    return Judged(name, str(condition["type"]), alias, holds, compare_to, value, **rest)


# ── threshold ──


def _threshold(condition: Mapping[str, Any], name: str, filling: Filling) -> Judged:
    value = context.text(mustache.render(_given(condition.get("value")), filling)).strip()
    if not value:
        raise Failed(f"has nothing to compare: {context.quoted(_given(condition.get('value')))} is empty")
    against = mustache.render(_given(condition.get("compare_to")), filling)
    lower = condition.get("compare_type") == "lt"
    thresholds = [each.strip() for each in context.text(against).split(",")]
    levels = [each.strip() for each in context.text(condition.get("level")).split(",")]
    if len(thresholds) > 1 and len(levels) != len(thresholds):
        raise Failed(f"has {len(thresholds)} values in compare_to and {len(levels)} in level; give as many")
    for index, threshold in enumerate(thresholds):
        if _passes(value, threshold, lower=lower):
            details = {"level": levels[index]} if len(thresholds) > 1 else {}
            return _made(condition, name, True, against, value, details=details)
    sign = "below" if lower else "above"
    return _made(
        condition, name, False, against, value, why=f"{value[:_SHOWN]} is not {sign} {context.text(against)[:_SHOWN]}"
    )


def _passes(value: str, threshold: str, *, lower: bool) -> bool:
    number, limit = _number(value), _number(threshold)
    if number is not None and limit is not None and value.endswith("%") == threshold.endswith("%"):
        return number < limit if lower else number > limit
    if number is None and limit is None:
        return value < threshold if lower else value > threshold
    raise Failed(
        f"compares {context.quoted(value[:_SHOWN])} with {context.quoted(threshold[:_SHOWN])}; both must be numbers, or "
        "both percentages"
    )


def _number(text: str) -> float | None:
    """A number, or the one of a percentage."""
    text = text.removesuffix("%").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _given(value: Any) -> str:
    """A text as it is, a number as it is written."""
    return value if isinstance(value, str) else context.text(value)


# ── assert ──


def _assert(condition: Mapping[str, Any], name: str, filling: Filling) -> Judged:
    text = _given(condition.get("assert"))
    try:
        code = mustache.code(text, filling, "value")
        result = expressions.evaluate(code, filling.budget)
    except LimitExceeded:
        raise
    except Failed as error:
        # Keep takes an assertion that cannot be evaluated for one that does not hold.
        return _made(condition, name, False, None, text, why=str(error))
    return _made(condition, name, bool(result), None, code.shown(), why=f"{code.shown()[:_SHOWN]} is not true")


# ── stddev ──


def _stddev(condition: Mapping[str, Any], name: str, filling: Filling) -> Judged:
    raw = condition.get("value")
    values = mustache.lone(raw, filling) if isinstance(raw, str) else raw
    if values is MISSING or isinstance(values, str):
        rendered = values if isinstance(values, str) else mustache.render(_given(raw), filling)
        values = functions.literal(rendered) if isinstance(rendered, str) else rendered
    if not isinstance(values, list | tuple):
        raise Failed("needs a list of numbers as value")
    filling.budget.spend(len(values))
    threshold = _number(context.text(mustache.render(_given(condition.get("compare_to")), filling)).strip())
    if threshold is None:
        raise Failed("needs a number in compare_to: how many standard deviations are too many")
    column = condition.get("pivot_column") or None
    numbers = [
        _float(context.walk(each, context.split(str(column)), filling.budget) if column else each) for each in values
    ]
    if len(numbers) < 2:
        raise Failed(f"needs at least two numbers, and there are {len(numbers)}")
    mean = statistics.fmean(numbers)
    deviation = statistics.stdev(numbers)
    distances = [abs(each - mean) / deviation if deviation else 0.0 for each in numbers]
    told = [{"value": each, "stddev": far, "mean": mean} for each, far in zip(values, distances, strict=True)]
    holds = any(far > threshold for far in distances)
    why = f"none of {len(numbers)} values is more than {threshold:g} standard deviations from the mean"
    return _made(condition, name, holds, threshold, "", details={"stddev": told}, why=why)


def _float(value: Any) -> float:
    number = None if value is MISSING or isinstance(value, bool) else _number(context.text(value).strip())
    if number is None:
        told = "nothing" if value is MISSING else context.quoted(context.text(value))
        raise Failed(f"needs numbers, and one value is {told}")
    return number


# ── if ──


def holds(guard: str, filling: Filling, depth: int = 0) -> bool:
    """Whether an ``if`` holds. Raises Absent, or Failed, for one that cannot be evaluated.

    As in Keep, names in braces are texts first; if it cannot be evaluated so, they are what they say: numbers, truth,
    lists. A text that comes out is true unless it is empty or says that it is not. Absent: the reason is that a name
    stands for nothing, which in Keep makes it false.
    """
    value = mustache.lone(guard, filling)
    if value is not MISSING:
        if isinstance(value, Source) and depth < limits.TEMPLATES and value.strip():
            return holds(value, filling, depth + 1)
        return expressions.truth(value)
    code = mustache.code(guard, filling, "text")
    try:
        return expressions.truth(expressions.evaluate(code, filling.budget))
    except LimitExceeded:
        raise
    except Failed:
        try:
            return expressions.truth(expressions.evaluate(mustache.code(guard, filling, "value"), filling.budget))
        except (LimitExceeded, Absent):
            raise
        except Failed as error:
            if code.gap is None:
                raise
            raise Absent(f"{error}; there is nothing in {context.quoted(code.gap)}") from None


def all_hold(judged: Sequence[Judged]) -> bool:
    """Whether a step without ``if`` runs."""
    return all(each.holds for each in judged)
