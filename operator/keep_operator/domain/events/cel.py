"""CEL over one alert, by cel-python, as Keep evaluates it; bounded in work and memory.

Two things are not as in CEL, because they are not so in Keep: severities compare by how bad they are (``severity >
'info'``), and ``source == "x"`` asks whether the alert has that source among others. Keep rewrites the text of the
expression; here the two values know it themselves, so that it also holds in ``severity in [...]`` and within macros.

What is counted, against `BUDGET`: each node that is visited, and the size of each value that it brings, so that work done
by one operator on a large list, or a text that doubles itself, is paid for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from keep_operator.domain.events.alert import ORDER

# Units of one evaluation. Expressions of real workflows need fewer than a hundred; this many take about a fifth of a second.
BUDGET: Final = 20_000
# Characters that cost one unit.
_PER_UNIT: Final = 64
# Nodes of the grammar that hand through what is below them.
_HANDING_ON: Final = frozenset(
    {"expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member"}
)


class EvaluationFailed(Exception):
    """An expression that has no answer for this alert; the message is the rest of a sentence, without its values."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    _tree: Any

    def matches(self, scene: "Scene") -> bool:
        """Whether it is true of the alert. Raises EvaluationFailed."""
        return bool(scene.evaluate(self._tree))

    def brings(self, scene: "Scene") -> str:
        """What it brings, as text: of a text, a number or a truth. Raises EvaluationFailed."""
        brought = scene.evaluate(self._tree)
        if not isinstance(brought, str | int | float):
            raise EvaluationFailed("is neither a text nor a number")
        return str(brought)


class Scene:
    """The fields of one alert as CEL sees them; made once, for all expressions. ``budget`` is what each may cost."""

    def __init__(self, fields: Mapping[str, Any], budget: int = BUDGET) -> None:
        self._fields = fields
        self._budget = budget
        self._activation: Any = None

    def evaluate(self, tree: Any) -> Any:
        """Raises EvaluationFailed."""
        library = _library()
        try:
            if self._activation is None:
                self._activation = library.activation(self._fields)
            return library.evaluate(tree, self._activation, self._budget)
        except RecursionError:
            raise EvaluationFailed("is nested too deep to be evaluated") from None


def compiled(text: str) -> Expression:
    """The expression; it must be one that `grammar.expressions` finds no fault with. Raises EvaluationFailed."""
    return Expression(text, _library().parse(text))


@dataclass(frozen=True, slots=True)
class _Library:
    parse: Callable[[str], Any]
    activation: Callable[[Mapping[str, Any]], Any]
    evaluate: Callable[[Any, Any, int], Any]


class _OverBudgetError(BaseException):
    """Not an Exception: cel-python takes those for values."""


@cache
def _library() -> _Library:  # noqa: PLR0915 - one closure over a library that is slow to import
    """cel-python, imported when it is first needed: that takes 0.2 s."""
    from celpy import celtypes  # noqa: PLC0415
    from celpy.celparser import CELParseError, CELParser  # noqa: PLC0415
    from celpy.evaluation import Activation, CELEvalError, CELSyntaxError, Evaluator  # noqa: PLC0415
    from lark import Tree  # noqa: PLC0415
    from re2 import Options, compile, error  # noqa: PLC0415 - what cel-python matches with

    class Graded(celtypes.StringType):
        """A severity: equal to its name, however that is written, and to its number; ordered by how bad it is."""

        order: int

        def __eq__(self, other: object) -> bool:
            return self.order == found if (found := _order(other)) is not None else str.__eq__(self, other) is True

        def __ne__(self, other: object) -> bool:
            return not self == other

        def __lt__(self, other: object) -> bool:
            return self.order < _must(other)

        def __le__(self, other: object) -> bool:
            return self.order <= _must(other)

        def __gt__(self, other: object) -> bool:
            return self.order > _must(other)

        def __ge__(self, other: object) -> bool:
            return self.order >= _must(other)

        __hash__ = celtypes.StringType.__hash__

    class Sources(celtypes.ListType):
        """The sources of an alert: equal to each of them."""

        def __eq__(self, other: object) -> bool:
            return other in list(self) if isinstance(other, str) else bool(super().__eq__(other))

        def __ne__(self, other: object) -> bool:
            return not self == other

        __hash__ = None  # type: ignore[assignment]

    def _order(other: object) -> int | None:
        if isinstance(other, str):
            return ORDER.get(other.lower())
        return int(other) if isinstance(other, int) and not isinstance(other, celtypes.BoolType | bool) else None

    def _must(other: object) -> int:
        if (found := _order(other)) is None:
            raise TypeError("no severity")
        return found

    def value(raw: object) -> Any:
        match raw:
            case bool():
                return celtypes.BoolType(raw)
            case str():
                return celtypes.StringType(raw)
            case int() if -(2**63) <= raw < 2**63:
                return celtypes.IntType(raw)
            case int() | float():
                return celtypes.DoubleType(raw)
            case list():
                return celtypes.ListType([value(each) for each in raw])
            case dict():
                return celtypes.MapType({celtypes.StringType(key): value(each) for key, each in raw.items()})
            case _:
                return None

    def field(name: str, raw: object) -> Any:
        made = value(raw)
        if name == "severity" and isinstance(raw, str) and raw in ORDER:
            graded = Graded(raw)
            graded.order = ORDER[raw]
            return graded
        return Sources(made) if name == "source" and isinstance(raw, list) else made

    class Quiet(Activation):
        """Names and their values, of which nothing gets into a message."""

        def __repr__(self) -> str:
            return ""

        def nested_activation(self, annotations: Any = None, vars: Any = None) -> Any:
            return Quiet(
                annotations=annotations, vars=vars, functions=self.functions, package=self.package, based_on=self
            )

    class Bounded(Evaluator):
        """Counts what it does, down to zero."""

        left: list[int]

        def sub_evaluator(self, ast: Any) -> Any:
            return bounded(ast, self.activation, self.left)

        def set_activation(self, values: Any) -> Any:
            # The library copies everything that is known for each item of a list.
            self.activation = self.base_activation.nested_activation(vars=values)
            return self

        def _visit_tree(self, tree: Any) -> Any:
            self.pay(1)
            brought = super()._visit_tree(tree)
            self.pay(weight(brought, self.left[0]))
            return brought

        def pay(self, units: int) -> None:
            self.left[0] -= units
            if self.left[0] < 0:
                raise _OverBudgetError

    def bounded(ast: Any, activation: Any, left: list[int]) -> Any:
        made = Bounded(ast, activation=activation)
        made.left = left
        return made

    def weight(brought: object, most: int) -> int:
        """Units for what a node has brought; no more of it is looked at than can be paid for."""
        total, waiting = 0, [brought]
        while waiting and total <= most:
            each = waiting.pop()
            match each:
                case str() | bytes():
                    total += len(each) // _PER_UNIT
                case list():
                    total += len(each)
                    waiting.extend(item for item in each if isinstance(item, str | bytes | list | dict))
                case dict():
                    total += len(each)
                    waiting.extend(item for item in each.values() if isinstance(item, str | bytes | list | dict))
                case _:
                    pass
        return total

    def handed_on(tree: Any) -> Any:
        """The tree without the nodes that only hand on what is below: the same answers from a fifth of the steps."""
        while isinstance(tree, Tree) and tree.data in _HANDING_ON and len(tree.children) == 1:
            (tree,) = tree.children
        if isinstance(tree, Tree):
            tree.children = [handed_on(each) for each in tree.children]
        return tree

    silent = Options()
    silent.log_errors = False  # it would write patterns of users to stderr

    def matches(text: Any, pattern: Any) -> Any:
        try:
            return celtypes.BoolType(compile(pattern, silent).search(text) is not None)
        except error as fault:
            return CELEvalError("match error", type(fault), fault.args)

    parser = CELParser()

    def parse(text: str) -> Any:
        try:
            return handed_on(parser.parse(text))
        except (CELParseError, RecursionError):
            raise EvaluationFailed("is not CEL") from None

    def activation(fields: Mapping[str, Any]) -> Any:
        known = {name: field(name, raw) for name, raw in fields.items() if name.isidentifier() and name.isascii()}
        return Quiet(vars=known, functions={"matches": matches})

    def evaluate(tree: Any, of_alert: Any, budget: int) -> Any:
        try:
            return bounded(tree, of_alert, [budget]).evaluate()
        except _OverBudgetError:
            raise EvaluationFailed("takes too much work for this alert") from None
        except CELEvalError as error:
            raise EvaluationFailed(_why(error)) from None
        except CELSyntaxError:
            raise EvaluationFailed("is not CEL that can be evaluated") from None
        except RecursionError:
            raise
        except Exception as error:  # what a library raises that is no error of CEL: a regular expression, a date
            raise EvaluationFailed(f"cannot be evaluated ({type(error).__name__})") from None

    return _Library(parse, activation, evaluate)


def _why(error: Any) -> str:
    """What went wrong, without the values that it went wrong with."""
    text = str(error.args[0]) if error.args else ""
    for beginning in ("undeclared reference to ", "no such member in mapping: "):
        if text.startswith(beginning):
            name = text.removeprefix(beginning).partition("'")[2].partition("'")[0]
            return f"names {name[:63]}, which this alert does not have"
    if text == "match error":
        return "matches with a regular expression that is none"
    if "divide by zero" in text:
        return "divides by zero"
    return "compares or combines values of types that do not fit"
