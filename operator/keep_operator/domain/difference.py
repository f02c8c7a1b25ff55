"""What differs between two definitions as one JSON value: the same from the command line, the read API and the console.

::

    {identical, summary,
     changes: [{group, kind, name, before?, after?, moved, values: [{path, before?, after?}]}],
     hunks:   [{before: {start, length}, after: {start, length}, lines: ["-…", "+…", " …"]}]}

A side that a value does not have is left out; null is a value. Places in lists count from 0, lines of text from 1.
"""

from collections.abc import Mapping
from typing import Any

from keep_operator.domain import comparison, patch
from keep_operator.domain.comparison import ABSENT, Change, Value
from keep_operator.domain.patch import Hunk


def told(before: Mapping[str, Any], after: Mapping[str, Any], *, context: int = 3) -> dict[str, Any]:
    """The difference, with ``context`` lines around each hunk."""
    matched = comparison.match(before, after)
    compared = comparison.compared(matched)
    return {
        "identical": compared.identical,
        "summary": comparison.summary(compared),
        "changes": [_change(each) for each in compared.changes],
        "hunks": [_hunk(each) for each in patch.between(matched, context)],
    }


def _change(change: Change) -> dict[str, Any]:
    places = {"before": change.before, "after": change.after}
    return {
        "group": str(change.group),
        "kind": str(change.kind),
        "name": change.name,
        **{side: place for side, place in places.items() if place is not None},
        "moved": change.moved,
        "values": [_value(each) for each in change.values],
    }


def _value(value: Value) -> dict[str, Any]:
    sides = {"before": value.before, "after": value.after}
    return {"path": value.path, **{side: each for side, each in sides.items() if each is not ABSENT}}


def _hunk(hunk: Hunk) -> dict[str, Any]:
    return {
        "before": {"start": hunk.before_start, "length": hunk.before_length},
        "after": {"start": hunk.after_start, "length": hunk.after_length},
        "lines": list(hunk.lines),
    }
