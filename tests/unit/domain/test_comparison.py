"""What changed between two definitions: as data, as a sentence, and as a diff that can be applied."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain import comparison, patch, revision
from keep_operator.domain.comparison import ABSENT, Change, Group, Kind, Value
from keep_operator.domain.grammar import dialect, workflow
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit


def step(name: str, message: str = "hello") -> dict[str, Any]:
    """A step that can be told from others."""
    return {"name": name, "provider": {"type": "console", "with": {"message": message}}}


def read(path: Path) -> dict[str, Any]:
    """The definition of a file."""
    found = workflow.read(corpus.text(path)).definition
    assert isinstance(found, dict)
    return found


def told(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The changes in short."""
    return comparison.summary(comparison.compare(before, after)).split("; ")


def test_equal_behaviour_is_identical() -> None:
    """Only the description was edited, or the order of keys: there is nothing to review."""
    definition = read(corpus.OWN[0])
    other = {**dict(reversed(definition.items())), "description": "another", "disabled": True}
    found = comparison.compare(definition, other)
    assert found.identical
    assert comparison.summary(found) == "identical"
    assert patch.unified(definition, other) == ""


def test_steps_are_told_by_their_names() -> None:
    """A reviewer sees which step came, went, moved and changed, and how."""
    before = {"actions": [step("a"), step("b"), step("c"), step("d")]}
    after = {"actions": [step("b"), step("new"), step("a"), step("d", "bye")]}
    assert comparison.compare(before, after).changes == (
        Change(Group.STEPS, Kind.ADDED, "actions.new", after=1, values=(Value("", ABSENT, step("new")),)),
        Change(Group.STEPS, Kind.MOVED, "actions.a", 0, 2, moved=True),
        Change(Group.STEPS, Kind.REMOVED, "actions.c", before=2, values=(Value("", step("c"), ABSENT),)),
        Change(Group.STEPS, Kind.CHANGED, "actions.d", 3, 3, values=(Value("provider.with.message", "hello", "bye"),)),
    )


def test_who_moves_past_many_has_moved_alone() -> None:
    """Pushing one step to the end is one change, and not one of all the others."""
    steps = [step(f"s{number}") for number in range(9)]
    assert told({"steps": steps}, {"steps": [*steps[1:], steps[0]]}) == ["steps.s0 moved"]
    changed = [*steps[1:], step("s0", "bye")]
    assert told({"steps": steps}, {"steps": changed}) == ["steps.s0 changed and moved (provider.with.message)"]


def test_triggers_are_told_by_their_types() -> None:
    """Triggers have no names; an edited one is a change, and not one gone and another come."""
    before = {"triggers": [{"type": "manual"}, {"type": "interval", "value": "5m"}, {"type": "alert", "cel": "a"}]}
    after = {"triggers": [{"type": "manual"}, {"type": "interval", "value": 60}, {"type": "incident", "events": []}]}
    assert told(before, after) == [
        'triggers.interval changed (value: "5m" → 60)',
        "triggers.alert removed",
        "triggers.incident added",
    ]


def test_of_equal_types_equal_triggers_are_paired_first() -> None:
    """One alert trigger less, in front of others, is one removed."""
    alerts = [{"type": "alert", "cel": f"a == {number}"} for number in range(4)]
    found = comparison.compare({"triggers": alerts}, {"triggers": alerts[1:]}).changes
    assert [(change.kind, change.before) for change in found] == [(Kind.REMOVED, 0)]


def test_settings_are_told_by_their_values() -> None:
    """Constants, inputs and the rest: each value that differs, with both sides."""
    before = {
        "consts": {"limit": 80, "x": {"y": [1, 2]}},
        "inputs": [{"name": "a", "default": 1}],
        "strategy": "parallel",
    }
    after = {"consts": {"limit": 90, "x": {"y": [1, 3]}}, "inputs": [{"name": "a", "default": True}, {"name": "b"}]}
    found = comparison.compare(before, after)
    assert found.changes == (
        Change(Group.SETTINGS, Kind.CHANGED, "consts", values=(Value("limit", 80, 90), Value("x.y[1]", 2, 3))),
        Change(
            Group.SETTINGS,
            Kind.CHANGED,
            "inputs",
            values=(Value('["a"].default', 1, True), Value('["b"]', ABSENT, {"name": "b"})),
        ),
        Change(Group.SETTINGS, Kind.REMOVED, "strategy", values=(Value("", "parallel", ABSENT),)),
    )
    assert found.paths == ("consts.limit", "consts.x.y[1]", 'inputs["a"].default', 'inputs["b"]', "strategy")
    assert comparison.summary(found) == (
        'consts changed (limit: 80 → 90, x.y[1]: 2 → 3); inputs changed (["a"].default: 1 → true, ["b"]: none → …); '
        "strategy removed"
    )


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({}, {"steps": []}, ["steps added"]),
        ({"steps": []}, {"steps": [step("a")]}, ["steps.a added"]),
        ({"steps": {}}, {"steps": [step("a")]}, ["steps changed", "steps.a added"]),
        ({"steps": [1, "x"]}, {"steps": ["x", 1]}, ["steps[0] changed", "steps[1] changed"]),
        ({"steps": [step("a"), step("a", "2")]}, {"steps": [step("a", "2")]}, ["steps.a changed", "steps.a#2 removed"]),
        ({"triggers": "x"}, {"triggers": None}, ["triggers changed"]),
        ({"triggers": [None]}, {"triggers": [{}]}, ["triggers[0] changed"]),
        ({"consts": 1}, {"consts": True}, ["consts changed"]),
        ({"consts": None}, {}, ["consts removed"]),
        ({"consts": 1}, {"consts": 1.0}, ["identical"]),
    ],
)
def test_drafts_that_are_broken_are_compared_too(before: Any, after: Any, changes: list[str]) -> None:
    """What is refused can be seen beside what runs."""
    assert [text.partition(" (")[0] for text in told(before, after)] == changes


def test_a_summary_stays_short() -> None:
    """However much changed, the note of a revision fits its field, and says how much it leaves out."""
    text = comparison.summary(comparison.compare({}, {"steps": [step(f"a-rather-long-name-{n}") for n in range(99)]}))
    assert len(text) <= comparison.SUMMARY_LIMIT
    assert text.endswith("more")
    long = comparison.summary(comparison.compare({"steps": []}, {"steps": [step("n" * 5_000)], "z" * 9_000: 1}))
    assert len(long) <= comparison.SUMMARY_LIMIT


def test_the_diff_shows_what_was_meant() -> None:
    """A reviewer reads it like any other diff."""
    before = {
        "name": "x",
        "triggers": [{"value": "5m", "type": "interval"}],
        "actions": [step("a"), step("b", "1\n2\n")],
    }
    after = {"triggers": [{"type": "interval", "value": "1m"}], "actions": [step("b", "1\n3\n")], "consts": {}}
    assert patch.unified(before, after, ("v1", "v2"), context=1) == (
        "--- v1\n"
        "+++ v2\n"
        "@@ -1,10 +1,6 @@\n"
        "+consts: {}\n"
        " triggers:\n"
        " - type: interval\n"
        "-  value: 5m\n"
        "+  value: 1m\n"
        " actions:\n"
        "-- name: a\n"
        "-  provider:\n"
        "-    type: console\n"
        "-    with:\n"
        "-      message: hello\n"
        " - name: b\n"
        "@@ -15,2 +11,2 @@\n"
        "         1\n"
        "-        2\n"
        "+        3\n"
    )  # fmt: skip


def apply(text: str, hunks: tuple[patch.Hunk, ...]) -> str:
    """What a person would have after typing in all hunks; fails where one does not fit."""
    lines, done = text.splitlines(), 0
    result: list[str] = []
    for hunk in hunks:
        start = hunk.before_start - (1 if hunk.before_length else 0)
        result += lines[done:start]
        old = [line[1:] for line in hunk.lines if line[0] != "+"]
        assert lines[start : start + hunk.before_length] == old
        assert len(result) == hunk.after_start - (1 if hunk.after_length else 0)
        new = [line[1:] for line in hunk.lines if line[0] != "-"]
        assert len(new) == hunk.after_length
        result += new
        done = start + hunk.before_length
    return "".join(f"{line}\n" for line in [*result, *lines[done:]])


def edited(definition: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The definition after some edits: values, steps moved, removed, copied."""
    after: dict[str, Any] = copy.deepcopy(definition)
    for _ in range(data.draw(st.integers(0, 3))):
        lists = [key for key in ("steps", "actions", "triggers") if isinstance(after.get(key), list) and after[key]]
        edit = data.draw(st.sampled_from(["value", "remove", "copy", "shuffle", "key"]))
        if edit == "key" or not lists:
            odd = data.draw(st.sampled_from([None, [], {}, "x", {"limit": 1}, [1]]))
            after[data.draw(st.sampled_from(["consts", "strategy", "steps", "other"]))] = copy.deepcopy(odd)
            continue
        entries = after[data.draw(st.sampled_from(lists))]
        index = data.draw(st.integers(0, len(entries) - 1))
        match edit:
            case "value" if isinstance(entries[index], dict):
                entries[index]["x"] = data.draw(st.sampled_from([1, "a\nb\n", {"y": [1]}]))
            case "remove":
                del entries[index]
            case "copy":
                entries.insert(0, copy.deepcopy(entries[index]))
            case _:
                Random(index).shuffle(entries)  # noqa: S311 - an order, no secret
    return after


@given(st.sampled_from(corpus.ALL), st.data())
def test_a_comparison_misses_nothing(path: Path, data: st.DataObject) -> None:
    """Both say "identical" exactly if the hashes are the same, and the diff leads from the one to the other.

    What was added one way is removed the other way.
    """
    before = read(path)
    after = edited(before, data)
    same = revision.content_hash(before) == revision.content_hash(after)
    found = comparison.compare(before, after)
    hunks = patch.hunks(before, after, context=data.draw(st.integers(0, 3)))
    assert found.identical is same
    assert (hunks == ()) is same
    assert apply(patch.canonical_yaml(before), hunks) == patch.canonical_yaml(after)
    assert len(comparison.summary(found)) <= comparison.SUMMARY_LIMIT
    back = comparison.compare(after, before)
    for there, again in ((Kind.ADDED, Kind.REMOVED), (Kind.REMOVED, Kind.ADDED)):
        assert {each.name for each in found.changes if each.kind is there} == {
            each.name for each in back.changes if each.kind is again
        }


@pytest.mark.parametrize("path", corpus.ALL, ids=lambda path: path.name)
def test_canonical_yaml_is_the_definition(path: Path) -> None:
    """What is shown is what runs: read back it has the same hash; and it does not depend on the order of keys."""
    definition = read(path)
    text = patch.canonical_yaml(definition)
    assert revision.content_hash(dialect.load(text).value) == revision.content_hash(definition)
    assert patch.canonical_yaml(json.loads(json.dumps(definition, sort_keys=True))) == text


def test_large_texts_that_are_nothing_alike_are_replaced() -> None:
    """Two long scripts without a common line are not searched for one for minutes."""
    before = {"steps": [step("a", "\n".join(f"old {n}" for n in range(4_000)))]}
    after = {"steps": [step("a", "\n".join(f"new {n}" for n in range(4_000)))]}
    (hunk,) = patch.hunks(before, after)
    assert (hunk.before_length, hunk.after_length) == (4_003, 4_003)
    assert apply(patch.canonical_yaml(before), (hunk,)) == patch.canonical_yaml(after)


@pytest.mark.parametrize("lists", [1, 30])
def test_lists_of_alike_entries_are_compared_by_a_bounded_number_of_looks(
    lists: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gives every other line the same text does not keep a processor for minutes; the difference stays a right one."""
    looked_at: list[int] = []
    in_order = comparison.in_order

    def counted(pairs: Any) -> list[tuple[int, int]]:
        looked_at.append(len(pairs))
        return in_order(pairs)

    monkeypatch.setattr(comparison, "in_order", counted)

    def alike(word: str) -> dict[str, Any]:
        entries = [value for n in range(500) for value in ("the same", f"{word} {n}")]
        return {"consts": {f"list{n}": [f"once {n}", *entries, f"last {n}"] for n in range(lists)}}

    before, after = alike("old"), alike("new")
    hunks = patch.hunks(before, after)
    assert apply(patch.canonical_yaml(before), hunks) == patch.canonical_yaml(after)
    assert sum(looked_at) <= 400_000
    kept = sum(line.startswith(" ") for hunk in hunks for line in hunk.lines)
    assert kept > (500 if lists == 1 else 3 * lists), "what can be cheaply is still found to be the same"


def test_moved_lines_of_a_long_text_are_few() -> None:
    """A thousand lines put before three thousand others: those are told as they are, and not all of them as new."""
    lines = [f"line {n}" for n in range(3_000)]
    before = {"steps": [step("a", "\n".join(lines))]}
    after = {"steps": [step("a", "\n".join([*(f"first {n}" for n in range(1_000)), *lines, "last"]))]}
    hunks = patch.hunks(before, after)
    assert sum(hunk.before_length for hunk in hunks) < 20
    assert apply(patch.canonical_yaml(before), hunks) == patch.canonical_yaml(after)
