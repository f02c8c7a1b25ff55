"""A difference as data, as scripts, the console and the read API have it."""

import json

import pytest

from keep_operator.domain import difference

pytestmark = pytest.mark.unit

BEFORE = {
    "steps": [{"name": "a", "provider": {"type": "mock"}}, {"name": "b", "provider": {"type": "mock"}}],
    "consts": {"limit": None},
}
AFTER = {
    "steps": [{"name": "b", "provider": {"type": "mock"}}, {"name": "a", "provider": {"type": "mock"}}],
    "consts": {"limit": 1},
    "on-failure": {"provider": {"type": "console"}},
}


def test_a_difference_is_complete_and_plain_json() -> None:
    """A side that is not there is left out, null is a value, and what moved has both places."""
    told = difference.told(BEFORE, AFTER)
    assert json.loads(json.dumps(told)) == told
    assert told["identical"] is False
    assert told["changes"] == [
        {"group": "Steps", "kind": "moved", "name": "steps.a", "before": 0, "after": 1, "moved": True, "values": []},
        {
            "group": "Settings",
            "kind": "changed",
            "name": "consts",
            "moved": False,
            "values": [{"path": "limit", "before": None, "after": 1}],
        },
        {
            "group": "Settings",
            "kind": "added",
            "name": "on-failure",
            "moved": False,
            "values": [{"path": "", "after": {"provider": {"type": "console"}}}],
        },
    ]
    signs = {line[0] for hunk in told["hunks"] for line in hunk["lines"]}
    assert signs == {"-", "+", " "}


def test_equal_content_is_identical_and_has_no_lines() -> None:
    """What people merely read makes no difference."""
    assert difference.told(BEFORE, {**BEFORE, "description": "other"}) == {
        "identical": True,
        "summary": "identical",
        "changes": [],
        "hunks": [],
    }
