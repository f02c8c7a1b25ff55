"""Every reason that users meet has a meaning, and no meaning is of a reason that nobody gives."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import keep_operator
from keep_operator import errors
from keep_operator.domain import planning, reasons

pytestmark = pytest.mark.unit

PACKAGE = Path(keep_operator.__file__).parent
ERRORS = frozenset(
    name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.KeepOperatorError)
)
# Kinds of errors that the doors derive from ours.
DERIVED = frozenset({"NoAnswer", "TooLarge", "Expired"})
# Of a Conflict nobody hears: what was read was stale, and is read again.
UNHEARD = frozenset({"ObjectGone", "ObjectChanged", "AlreadyExists"})


def calls(folder: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in the modules of a room, with the name of what is called."""
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield name, node


def words(node: ast.expr) -> Iterator[str]:
    """The words that an argument can be: a literal, or one of several."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and re.fullmatch(r"[A-Z]\w+", each.value):
            yield each.value


def concluded() -> set[str]:
    """The reasons in the findings that the rules make."""
    found = set(planning.DONE.values())
    for name, call in calls("domain"):
        if name in ("true", "false", "unknown") and len(call.args) > 1:
            found |= set(words(call.args[1]))
    return found | {"DeletionFailed", "DatabaseUnavailable"} | planning.IMMUTABLE_FAULTS | planning.SPEC_FAULTS


def raised(*folders: str) -> set[str]:
    """The reasons of the errors that rooms raise."""
    return {
        word
        for folder in folders
        for name, call in calls(folder)
        if name in ERRORS | DERIVED and call.args
        for word in words(call.args[0])
    }


def test_every_reason_that_a_rule_gives_has_a_meaning() -> None:
    """Whoever reads a reason in `kubectl get` finds it in the documentation."""
    assert concluded() <= reasons.MEANINGS.keys()


@pytest.mark.parametrize("known", [planning.DEPENDENCY_WAITS, planning.RECHECKED, planning.FAILURES])
def test_the_reasons_that_rules_ask_for_are_ones_that_exist(known: frozenset[str]) -> None:
    """A reason that was renamed in one place only would silently change what is retried."""
    assert known <= reasons.MEANINGS.keys()


def test_every_error_that_a_door_raises_has_a_meaning() -> None:
    """The error's reason is the one that the condition shows, or the log at the start."""
    from keep_operator.store import failures

    store = {
        value for name, value in vars(failures).items() if name.isupper() and re.fullmatch(r"[A-Z]\w+", str(value))
    }
    known = reasons.MEANINGS.keys() | reasons.AT_START.keys() | UNHEARD
    assert store | raised("cluster", "reconcile", "runtime") <= known


def test_no_meaning_is_of_a_reason_that_nobody_gives() -> None:
    """The documentation does not explain what cannot happen."""
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "reasons.py")
    assert [each for each in (*reasons.MEANINGS, *reasons.AT_START) if f'"{each}"' not in text] == []


@pytest.mark.parametrize("meanings", [reasons.MEANINGS, reasons.AT_START])
def test_a_meaning_says_what_it_is_and_what_to_do(meanings: dict[str, str]) -> None:
    """Two sentences at least: the fact, and the remedy or that none is needed."""
    for reason, meaning in meanings.items():
        assert re.fullmatch(r"[A-Z][A-Za-z]*", reason)
        assert meaning.endswith(".")
        assert re.search(r"[.;:?] [A-Zit`]", meaning), meaning


def test_no_reason_is_explained_twice() -> None:
    """A reason means one thing."""
    assert not reasons.MEANINGS.keys() & reasons.AT_START.keys()
