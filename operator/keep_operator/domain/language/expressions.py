"""The expressions of ``if`` and ``assert``, and the arguments of ``keep.functions()``: a small part of Python's.

An expression is code with holes. The code is the definition's; a hole is a value, which is never read as code.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from keep_operator.domain.language import context, functions, limits
from keep_operator.domain.language.functions import Moment
from keep_operator.domain.language.limits import Budget, Failed, LimitExceeded

# How a value that stands outside of quotes is taken: by ``text`` as Keep does first, in an ``if``; as what it is, else.
Reading = Literal["text", "value", "argument"]

_HOLE: Final = re.compile("\ue000(\\d+)\ue001")
_NAME: Final = "hole_{}_"
_NAMED: Final = re.compile(r"hole_(\d+)_")
_NUMBER: Final = re.compile(r"[-+]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][-+]?\d{1,4})?")
_WORDS: Final[Mapping[str, Any]] = {
    "True": True,
    "False": False,
    "None": None,
    "true": True,
    "false": False,
    "null": None,
}


class Absent(Failed):
    """A name stands for nothing, where a value is needed."""


class Flag(str):
    """True or False as text, which behind ``not``, ``and`` and ``or`` is what it says."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self == "True"


@dataclass(slots=True)
class Code:
    """An expression while its template is filled in: pieces of code and, between them, values.

    Where a value stands within quotes it becomes a part of that text, whatever quotes or newlines it has itself. ``gap``
    is the first name that stands for nothing, if there is one.
    """

    reading: Reading
    pieces: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    gap: str | None = None
    _quote: str = ""
    _escaped: bool = False
    _length: int = 0

    def literal(self, text: str) -> None:
        """Adds a piece of code. Newlines within quotes are part of the text."""
        self._length += len(text)
        if self._length > limits.CODE:
            raise LimitExceeded(f"has an expression of more than {limits.CODE:,} characters")
        out = []
        for each in text:
            if each in "\ue000\ue001":
                continue
            if self._quote:
                if self._escaped:
                    self._escaped = False
                elif each == "\\":
                    self._escaped = True
                elif each == self._quote:
                    self._quote = ""
                out.append({"\n": "\\n", "\r": "\\r"}.get(each, each))
            else:
                if each in "'\"":
                    self._quote = each
                out.append(each)
        self.pieces.append("".join(out))

    def value(self, value: Any, name: str = "") -> None:
        """Adds a value, as ``reading`` has it."""
        if self.gap is None and context.text(value) == "":
            self.gap = name
        if self._quote:
            self.values.append(context.text(value))
            self.pieces.append(f"\ue000{len(self.values) - 1}\ue001")
            return
        self.values.append(read(value, self.reading))
        self.pieces.append(f" {_NAME.format(len(self.values) - 1)} ")

    def missing(self, name: str) -> None:
        """Adds nothing; as a value, outside of quotes, there must be one."""
        if self.reading == "value" and not self._quote:
            raise Absent(f"there is no {context.quoted(name)}")
        self.value("", name)

    def answer(self, value: Any) -> None:
        """Adds what a function answered: a number stays one, also if it is written as text."""
        if self._quote or self.reading == "argument":
            self.value(value)
        else:
            self.values.append(read(value, "value"))
            self.pieces.append(f" {_NAME.format(len(self.values) - 1)} ")

    def parse(self) -> ast.expr:
        """The expression. Raises Failed for what is none."""
        text = "".join(self.pieces).strip()
        if not text:
            raise Failed("is empty")
        if _depth(text) > limits.DEPTH:
            raise LimitExceeded(f"is nested more than {limits.DEPTH} levels deep")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(f"({text}\n)", mode="eval").body
        except (SyntaxError, ValueError):
            raise Failed(f"is no expression: {context.quoted(self.shown())}") from None
        except (RecursionError, MemoryError):
            raise LimitExceeded("is nested too deep") from None

    def shown(self) -> str:
        """The expression with its values, as it may stand in a message."""
        text = "".join(self.pieces)
        for pattern in (_HOLE, _NAMED):
            text = pattern.sub(lambda found: context.text(self.values[int(found[1])])[:40], text)
        return " ".join(text.split())


def read(value: Any, reading: Reading) -> Any:
    """A value outside of quotes as ``reading`` has it: ``"0.5"`` is text for ``text``, and a number for ``value``."""
    if reading == "text":
        return Flag(value) if isinstance(value, bool) else context.text(value)
    if reading == "argument":
        if isinstance(value, str):
            found = functions.literal(value)
            return value if found is None else found
        return value if isinstance(value, dict | list | datetime) else context.text(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    found = functions.literal(text)
    return value if found is None else found


def truth(value: Any) -> bool:
    """Whether a result is true; of a text, what it says: ``"False"``, ``"0"``, ``"[]"`` and an empty one are not."""
    if isinstance(value, str):
        found = read(value, "value")
        return bool(found.strip()) if isinstance(found, str) else bool(found)
    return bool(value)


def _depth(text: str) -> int:
    deepest = depth = 0
    for each in text:
        if each in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif each in ")]}":
            depth -= 1
    return deepest


# ── expressions ──


def evaluate(code: Code, budget: Budget) -> Any:
    """What an expression comes to. Raises Failed for what cannot be evaluated, LimitExceeded for what is too much."""
    try:
        return _Evaluator(code, budget).of(code.parse(), 0)
    except Failed:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise Failed(f"{context.quoted(code.shown())} cannot be evaluated: {str(error)[:120]}") from None


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        limits.check_number(max(base.bit_length(), 1) * abs(exponent) if abs(base) > 1 else 1)
    return base**exponent


def _multiply(left: Any, right: Any) -> Any:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple):
            if not isinstance(times, int):
                raise TypeError("a text or list is repeated by a whole number")
            limits.check_text(len(sequence) * max(times, 0))
    return left * right


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        raise TypeError("a text has no %")
    return left % right


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        limits.check_text(len(left) + len(right))
    return left + right


_BINARY: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: _add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _modulo,
    ast.Pow: _power,
}
_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.Not: lambda value: not value,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def _as_text(value: Any = "") -> str:
    return value if isinstance(value, str) else str(value)


def _round(value: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > 100:
        raise ValueError("round takes at most 100 digits")
    return round(value, digits)


def _sum(values: Any) -> Any:
    return sum(values)


def _sorted(values: Any) -> Any:
    return sorted(values)


_BUILTINS: Final[Mapping[str, Callable[..., Any]]] = {
    "len": len,
    "int": lambda value=0: int(value),
    "float": lambda value=0.0: float(value),
    "str": _as_text,
    "bool": lambda value=False: bool(value),
    "abs": abs,
    "min": min,
    "max": max,
    "round": _round,
    "sum": _sum,
    "any": any,
    "all": all,
    "sorted": _sorted,
}


def _str_replace(text: str, old: str, new: str) -> str:
    limits.check_text(len(text) + text.count(old) * max(len(new) - len(old), 0))
    return text.replace(old, new)


_METHODS: Final[Mapping[type, Mapping[str, Callable[..., Any]]]] = {
    str: {
        "lower": str.lower,
        "upper": str.upper,
        "strip": str.strip,
        "startswith": str.startswith,
        "endswith": str.endswith,
        "split": str.split,
        "replace": _str_replace,
        "count": str.count,
        "isdigit": str.isdigit,
    },
    dict: {"get": dict.get},
}


class _Evaluator:
    """Walks an expression; every part counts."""

    def __init__(self, code: Code, budget: Budget) -> None:
        self._values = code.values
        self._budget = budget

    def of(self, node: ast.expr, depth: int) -> Any:
        self._budget.spend()
        if depth > limits.DEPTH:
            raise LimitExceeded(f"is nested more than {limits.DEPTH} levels deep")
        value = self._visit(node, depth + 1)
        if isinstance(value, int):
            limits.check_number(value.bit_length())
        elif isinstance(value, str | list | tuple):
            limits.check_text(len(value))
        elif value is not None and not isinstance(value, float | dict | set | datetime | timedelta):
            raise Failed(f"makes a {type(value).__name__}, which is no value")
        return value

    def _visit(self, node: ast.expr, depth: int) -> Any:
        match node:
            case ast.Constant(value=str() as text):
                return fill(text, self._values)
            case ast.Constant(value=bool() | int() | float() | None as value):
                return value
            case ast.Name(id=name):
                return self._name(name)
            case ast.BoolOp(op=joined, values=values):
                result: Any = None
                for each in values:
                    result = self.of(each, depth)
                    if bool(result) is isinstance(joined, ast.Or):
                        break
                return result
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](self.of(operand, depth))
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)](self.of(left, depth), self.of(right, depth))
            case ast.Compare():
                return self._compare(node, depth)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.of(body if self.of(test, depth) else orelse, depth)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.of(each, depth) for each in items]
            case ast.Set(elts=items):
                return {self.of(each, depth) for each in items}
            case ast.Dict(keys=keys, values=values) if None not in keys:
                return {
                    self.of(key, depth): self.of(each, depth) for key, each in zip(keys, values, strict=True) if key
                }
            case ast.Subscript(value=value, slice=index):
                return self._subscript(self.of(value, depth), index, depth)
            case ast.Call(func=called, args=arguments, keywords=[]):
                return self._call(called, arguments, depth)
        raise Failed(f"has {_described(node)}, which expressions do not have")

    def _name(self, name: str) -> Any:
        if (hole := _NAMED.fullmatch(name)) and int(hole[1]) < len(self._values):
            return self._values[int(hole[1])]
        if name in _WORDS:
            return _WORDS[name]
        raise Failed(
            f"uses {context.quoted(name)}, which is no name here; a text needs quotes, a name of the run braces"
        )

    def _compare(self, node: ast.Compare, depth: int) -> bool:
        left = self.of(node.left, depth)
        for op, each in zip(node.ops, node.comparators, strict=True):
            right = self.of(each, depth)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True

    def _subscript(self, value: Any, index: ast.expr, depth: int) -> Any:
        if isinstance(index, ast.Slice):
            ends = (index.lower, index.upper, index.step)
            return value[slice(*(None if end is None else self.of(end, depth) for end in ends))]
        return value[self.of(index, depth)]

    def _call(self, called: ast.expr, arguments: list[ast.expr], depth: int) -> Any:
        match called:
            case ast.Name(id=name) if name in _BUILTINS:
                function = _BUILTINS[name]
                values = [self.of(each, depth) for each in arguments]
            case ast.Attribute(value=owner, attr=name) if not (isinstance(owner, ast.Name) and owner.id == "keep"):
                subject = self.of(owner, depth)
                found = _METHODS.get(type(subject) if not isinstance(subject, str) else str, {}).get(name)
                if found is None:
                    raise Failed(f"calls {context.quoted(name)}, which expressions do not have")
                function = found
                values = [subject, *(self.of(each, depth) for each in arguments)]
            case _:
                raise Failed(
                    "calls what expressions do not have; functions are keep.name(…), len, int, str and the like"
                )
        self._budget.spend(sum(len(each) for each in values if isinstance(each, str | list | dict)) // 100)
        result = function(*values)
        if isinstance(result, list):
            self._budget.spend(len(result) // 10)
        return result


def fill(text: str, values: list[Any]) -> str:
    """A text of the code with its holes filled."""
    if "\ue000" not in text:
        return text
    filled = _HOLE.sub(lambda found: values[int(found[1])], text)
    limits.check_text(len(filled))
    return filled


def _described(node: ast.expr) -> str:
    told = {
        ast.Attribute: "an attribute",
        ast.Lambda: "a lambda",
        ast.JoinedStr: "an f-string",
        ast.ListComp: "a comprehension",
        ast.GeneratorExp: "a comprehension",
        ast.SetComp: "a comprehension",
        ast.DictComp: "a comprehension",
        ast.Starred: "a star",
        ast.NamedExpr: "an assignment",
        ast.Await: "await",
        ast.Yield: "yield",
    }
    return told.get(type(node), f"something ({type(node).__name__})")


# ── calls of keep.functions() ──


def call(code: Code, moment: Moment, budget: Budget) -> Any:
    """What a call of a function answers; calls may stand in its arguments. Raises Failed."""
    return _Caller(code, moment, budget).of(code.parse(), 0)


class _Caller:
    """Evaluates a call as Keep reads it: a number or a bare word in it is text, a list or object what it says."""

    def __init__(self, code: Code, moment: Moment, budget: Budget) -> None:
        self._code = code
        self._moment = moment
        self._budget = budget

    def of(self, node: ast.expr, depth: int) -> Any:
        self._budget.spend()
        if depth > limits.DEPTH:
            raise LimitExceeded(f"is nested more than {limits.DEPTH} levels deep")
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="keep"), attr=name), args=args, keywords=keywords):
                values = [self.of(each, depth + 1) for each in args]
                named = {each.arg: self.of(each.value, depth + 1) for each in keywords if each.arg}
                if len(named) != len(keywords):
                    raise Failed(f"keep.{name} takes no ** here")
                return self._answer(name, values, named)
            case ast.Constant(value=str() as text):
                return fill(text, self._code.values)
            case ast.Constant(value=bool() | int() | float() | None as value):
                return str(value)
            case ast.Name(id=name):
                hole = _NAMED.fullmatch(name)
                return self._code.values[int(hole[1])] if hole and int(hole[1]) < len(self._code.values) else name
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return str(-value)
            case ast.List() | ast.Tuple() | ast.Set() | ast.Dict():
                return self._structure(node, depth)
        raise Failed(f"{context.quoted(self._code.shown())} has {_described(node)}, which a function does not take")

    def _structure(self, node: ast.expr, depth: int) -> Any:
        """A list or object as it is written: within it numbers are numbers."""
        self._budget.spend()
        if depth > limits.DEPTH:
            raise LimitExceeded(f"is nested more than {limits.DEPTH} levels deep")
        match node:
            case ast.Constant(value=bool() | int() | float() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._structure(each, depth + 1) for each in items]
            case ast.Set(elts=items):
                return {self._structure(each, depth + 1) for each in items}
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self._structure(k, depth + 1): self._structure(v, depth + 1) for k, v in pairs if k}
        return self.of(node, depth + 1)

    def _answer(self, name: str, values: list[Any], named: Mapping[str, Any]) -> Any:
        for each in (*values, *named.values()):
            if isinstance(each, str | list | dict):
                self._budget.spend(len(each) // 100)
        answer = functions.call(name, values, named, self._moment)
        if isinstance(answer, str):
            limits.check_text(len(answer))
        elif isinstance(answer, list | dict):
            self._budget.spend(len(answer) // 10)
        return answer
