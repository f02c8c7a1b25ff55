"""`docs/operations.md` explains every reason that the code can give, and none that it cannot."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from contract.docs import pages
from keep_operator.domain import execution, planning, reasons
from keep_operator.domain.grammar import faults

pytestmark = pytest.mark.contract

FINDINGS = ("true", "false", "unknown")
VERDICTS = ("Approve", "Deny", "Reject")
ERRORS = (
    "KeepOperatorError",
    "Waiting",
    "Unavailable",
    "Conflict",
    "Refused",
    "Expired",
    "NoAnswer",
    "TooLarge",
    "Verdict",
    "Refusal",
)


@cache
def _modules() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in pages.SOURCE.rglob("*.py"))


@cache
def _constants() -> dict[str, str]:
    """The names that modules give to texts, such as `SYNC_FAILED`."""
    found = {}
    for module in _modules():
        for node in module.body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text))):
                    found[name] = text
    return found


def _texts(node: ast.expr) -> Iterator[str]:
    """The reasons that an expression can give, as far as they stand in the source."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)
        case ast.BoolOp(values=several):
            for each in several:
                yield from _texts(each)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _constants():
            yield _constants()[name]


def _given(node: ast.AST) -> Iterator[str]:
    """The reasons that one piece of code gives to a condition, an Event or an error."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[_, reason, *_]) if name in FINDINGS:
            yield from _texts(reason)
        case ast.Call(func=ast.Name(id=name), args=[reason, *_]) if name in ERRORS:
            yield from _texts(reason)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[_, reason]) if name in VERDICTS:
            yield from _texts(reason)
        case ast.Call(func=ast.Attribute(attr="record"), args=[_, _, reason, _]):
            yield from _texts(reason)
        case ast.Tuple(elts=[ast.Name(id=name), reason, _]) if name in ERRORS:
            yield from _texts(reason)
        case ast.Assign(targets=[ast.Name(id="reason")], value=reason):
            yield from _texts(reason)


@cache
def _emitted() -> frozenset[str]:
    found = set(planning.DONE.values()) | {str(each) for enum in (faults.Reason, execution.Reason) for each in enum}
    for module in _modules():
        for node in ast.walk(module):
            found |= set(_given(node))
    return frozenset(found)


def _rows() -> list[pages.Row]:
    return pages.read(pages.ROOT / "docs" / "operations.md").about("Every reason")


def test_the_walk_finds_what_is_known() -> None:
    """The search for reasons sees conditions, errors, rules of the doors and what is chosen between two."""
    assert {"TenantNotFound", "SettingsInvalid", "DatabaseUnavailable", "ObjectChanged", "DeletionFailed"} <= _emitted()
    assert len(_emitted() & reasons.MEANINGS.keys()) > 30


def test_every_reason_is_documented() -> None:
    """Whoever meets a reason in a condition, an Event, the log or on the terminal finds what it means."""
    assert _emitted() - pages.documented(_rows()) == set()


def test_no_reason_is_made_up() -> None:
    """Nobody looks for a reason that can never appear."""
    assert pages.documented(_rows()) - _emitted() == set()


def test_every_reason_says_what_to_do() -> None:
    """Each reason has a meaning and an answer to `what now?`."""
    for row in _rows():
        _, where, meaning, remedy = row.cells
        assert where, row
        assert meaning.endswith("."), row
        assert remedy.endswith("."), row


def test_the_program_and_the_page_know_the_same() -> None:
    """Reasons that the program can explain by itself are explained in the page too."""
    known = (reasons.MEANINGS.keys() | reasons.AT_START.keys()) & _emitted()
    assert known <= pages.documented(_rows())
