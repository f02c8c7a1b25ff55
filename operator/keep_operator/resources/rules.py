"""Rules over several fields, each declared once: as CEL for the API server and as Python for the operator.

The operator checks them too, because servers before 1.25 know no CEL and objects may be older than a rule. A contract
test evaluates both forms over the same samples.

A rule stands where its data is visible: on a part of the spec (``rules`` of its model), or at the object's root, the
only place that sees ``metadata.name``. A rule about a change stands on a place that cannot be removed: the API server
skips it where the old or the new value is absent.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from keep_operator.resources.shapes import Shape, Violation

S = TypeVar("S")
T = TypeVar("T")

Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True, slots=True)
class Named(Generic[S]):
    """What a rule at the root of an object sees of one that is judged by its spec: name and spec."""

    name: str
    spec: S


@dataclass(frozen=True, slots=True)
class Reported(Generic[S, T]):
    """What a rule at the root of an object sees of one whose status is judged too; None where it has no status."""

    spec: S
    status: T | None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on one value: ``holds(value)``; in CEL the value is ``self``.

    The value is the model that declares the rule, or with ``on`` that property of it, when it is set. ``field`` is the
    path of the field to blame, below the value; empty: the value itself. Both in the API's spelling.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    on: str = ""
    reason: Reason = "FieldValueInvalid"


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """A rule on a change: ``holds(old, new)``; in CEL ``oldSelf`` and ``self``."""

    cel: str
    message: str
    holds: Callable[[Any, Any], bool]
    field: str = ""
    reason: Reason = "FieldValueInvalid"


class Ruled(Shape):
    """A part of a spec that has rules over its fields."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    change_rules: ClassVar[tuple[ChangeRule, ...]] = ()


def broken(rules: Iterable[Rule], value: object, path: str) -> Iterator[Violation]:
    """The violations of ``rules``, all of which stand on ``value``."""
    return (Violation(join(path, rule.field), rule.message) for rule in rules if not rule.holds(value))


def broken_by_change(rules: Iterable[ChangeRule], old: object, new: object, path: str) -> Iterator[Violation]:
    """The violations of the rules that the change from ``old`` to ``new`` breaks."""
    return (Violation(join(path, rule.field), rule.message) for rule in rules if not rule.holds(old, new))


def broken_within(part: object, path: str) -> Iterator[Violation]:
    """The violations of the rules of a part of a spec and of everything below it, in the order of the fields."""
    if isinstance(part, Ruled):
        yield from broken((rule for rule in part.rules if not rule.on), part, path)
    if isinstance(part, Shape):
        for name, field in type(part).model_fields.items():
            value, below = getattr(part, name), join(path, field.alias or name)
            if isinstance(part, Ruled) and value is not None:
                yield from broken((rule for rule in part.rules if rule.on == field.alias), value, below)
            yield from broken_within(value, below)
    elif isinstance(part, tuple):
        for index, entry in enumerate(part):
            yield from broken_within(entry, f"{path}[{index}]")


def join(path: str, field: str) -> str:
    """Two paths as one; either may be empty."""
    return f"{path}.{field}" if path and field else path or field
