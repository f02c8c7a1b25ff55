"""The old form of an alert's filters, as Keep turns them into CEL; evaluated without going through CEL.

A filter on a field that the alert does not have never matches, whether it excludes or not: in Keep its expression fails.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from keep_operator.domain.events.alert import ORDER
from keep_operator.domain.grammar.triggers import Filter

Test = Callable[[Mapping[str, Any]], bool]
_MISSING: Final = object()


def test_of(filters: Sequence[Filter]) -> Test | None:
    """Whether the fields of an alert pass all of these; None where nothing would ever pass.

    Filters with an empty value are left out, as in Keep; if none is left, the trigger never starts anything.
    """
    tests = [_test(each) for each in filters if each.value != ""]
    return (lambda fields: all(test(fields) for test in tests)) if tests else None


def _test(each: Filter) -> Test:
    path, excluded = each.key.split("."), each.exclude
    if not isinstance(each.value, str) or not each.value.startswith('r"'):
        return _compared(path, (each.value,), excluded)
    pattern = each.value[2:-1]
    if "|" in pattern:
        return _compared(path, tuple(part.lstrip("(").rstrip(")").strip() for part in pattern.split("|")), excluded)
    if pattern == ".*":
        # Excluding does not turn it round in Keep either.
        return lambda fields: _found(fields, path) is not _MISSING
    if pattern == "^$":
        return _compared(path, ("",), excluded, of_lists=False)
    if pattern.endswith(".*"):
        return _contained(path, pattern.removeprefix(".*").removesuffix(".*"), excluded)
    return _compared(path, (pattern,), excluded)


def _compared(path: Sequence[str], wanted: tuple[Any, ...], excluded: bool, *, of_lists: bool = True) -> Test:
    """The field is one of these; of a list of sources one is enough."""

    def test(fields: Mapping[str, Any]) -> bool:
        value = _found(fields, path)
        if value is _MISSING:
            return False
        if isinstance(value, list):
            return of_lists and list(path) == ["source"] and any(each in value for each in wanted) is not excluded
        verdicts = [_same(value, each, path) for each in wanted]
        if None in verdicts:  # what cannot be compared fails, and does not match
            return not excluded and True in verdicts
        return any(verdicts) is not excluded

    return test


def _contained(path: Sequence[str], wanted: str, excluded: bool) -> Test:
    """The field holds this: a list as one of its items, a text anywhere."""

    def test(fields: Mapping[str, Any]) -> bool:
        value = _found(fields, path)
        return isinstance(value, str | list | dict) and (wanted in value) is not excluded

    return test


def _same(value: object, wanted: object, path: Sequence[str]) -> bool | None:
    """Whether the two are equal; None where CEL would not compare them."""
    if value is None:
        return False
    if list(path) == ["severity"] and isinstance(wanted, str) and wanted.lower() in ORDER:
        return value == wanted.lower()
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted if isinstance(value, bool) and isinstance(wanted, bool) else None
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return value == wanted
    return value == wanted if isinstance(value, str) and isinstance(wanted, str) else None


def _found(fields: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = fields
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value
