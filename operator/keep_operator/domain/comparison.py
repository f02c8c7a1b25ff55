"""What differs between two definitions by meaning, as data: steps by name, triggers, settings.

::

    before, after ──► behaviour of both ──► parts with a name each ──► pairs, the rest is added or removed
                                                                        ├── here: what changed inside of each pair
                                                                        └── patch: canonical YAML, pair by pair

Only behaviour is compared, as only behaviour is hashed: definitions with one hash are identical. Both must be what
``revision.canonical`` takes; neither has to be valid: drafts and broken revisions are compared as well.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from keep_operator.domain import revision
from keep_operator.domain.grammar import dialect, faults, writer

# The order of keys in canonical YAML, wherever they stand; all others follow by the alphabet.
_KEYS: Final = """
    id name description disabled debug owners services tags permissions strategy consts inputs triggers steps actions on-failure
    key type if foreach condition provider config with
"""
_ORDER: Final = {key: place for place, key in enumerate(_KEYS.split())}
_LISTS: Final = ("triggers", "steps", "actions")
# The field `diffSummary` of a revision.
SUMMARY_LIMIT: Final = 512
_SHOWN: Final = 40


class Group(StrEnum):
    """What a change is about; also the order in which changes are told."""

    STEPS = "Steps"
    TRIGGERS = "Triggers"
    SETTINGS = "Settings"


class Kind(StrEnum):
    """What happened. Who moved and changed is ``CHANGED``, and has both places."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    CHANGED = "changed"


class Absent(StrEnum):
    """Stands for a value that is not there; null is a value."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Value:
    """One value that differs; ``path`` begins at the part, and names entries of lists by their ``name`` if they have one."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One part that differs. ``name`` as in ``steps.cpu``, ``triggers.interval``, ``consts``.

    ``before`` and ``after`` are its places in its list, from 0; None where it is not there, or is in no list. ``moved``:
    it stands elsewhere among those that stayed.
    """

    group: Group
    kind: Kind
    name: str
    before: int | None = None
    after: int | None = None
    moved: bool = False
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """``changes`` is empty if and only if both have the same hash."""

    changes: tuple[Change, ...]

    @property
    def identical(self) -> bool:
        """Both behave alike."""
        return not self.changes

    @property
    def paths(self) -> tuple[str, ...]:
        """Every place that differs, such as ``actions.notify.provider.with.message``; a part alone where all of it does."""
        return tuple(
            f"{change.name}{'' if value.path.startswith('[') or not value.path else '.'}{value.path}"
            for change in self.changes
            for value in change.values or (Value("", None, None),)
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a definition that can come, go, move and change as a whole.

    ``place`` is its place in its list. The list itself is a part without one, empty here, with ``entries`` that follow.
    """

    group: Group
    name: str
    value: Any
    place: int | None = None
    entries: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """Two definitions part by part: ``pairs`` are places in ``old`` and ``new``; those of ``equal`` have the same value."""

    old: tuple[Part, ...]
    new: tuple[Part, ...]
    pairs: tuple[tuple[int, int], ...]
    equal: frozenset[tuple[int, int]]

    def in_order(self) -> list[tuple[int, int]]:
        """The most pairs that stand in the same order on both sides; the others have moved."""
        return in_order(self.pairs)


def match(before: Mapping[str, Any], after: Mapping[str, Any]) -> Match:
    """Which part of ``before`` became which of ``after``."""
    old, new = parts(before), parts(after)
    paired = pairs(old, new)
    equal = frozenset(
        (first, second)
        for first, second in paired
        if old[first].value == new[second].value and _alike(old[first].value, new[second].value)
    )
    return Match(tuple(old), tuple(new), tuple(paired), equal)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """What was added, removed, moved and changed on the way from ``before`` to ``after``."""
    return compared(match(before, after))


def compared(matched: Match) -> Comparison:
    """The same of definitions that are matched already."""
    old, new = matched.old, matched.new
    stayed = set(matched.in_order())
    found = [
        change
        for pair in matched.pairs
        if (pair not in matched.equal or pair not in stayed)
        and (change := _change(old[pair[0]], new[pair[1]], moved=pair not in stayed)) is not None
    ]
    gone = set(range(len(old))) - {index for index, _ in matched.pairs}
    come = set(range(len(new))) - {index for _, index in matched.pairs}
    # A list that has entries is told by them.
    found += [
        Change(part.group, Kind.REMOVED, part.name, before=part.place, values=(Value("", part.value, ABSENT),))
        for part in (old[index] for index in gone)
        if not part.entries
    ]
    found += [
        Change(part.group, Kind.ADDED, part.name, after=part.place, values=(Value("", ABSENT, part.value),))
        for part in (new[index] for index in come)
        if not part.entries
    ]
    groups = list(Group)
    return Comparison(
        tuple(sorted(found, key=lambda change: (groups.index(change.group), _place(change), change.name)))
    )


def summary(comparison: Comparison) -> str:
    """The changes in one line, of at most 512 characters; values only of triggers and settings, and cut."""
    if comparison.identical:
        return "identical"
    told: list[str] = []
    length = 0
    for index, change in enumerate(comparison.changes):
        sentence = _sentence(change)
        rest = f"and {len(comparison.changes) - index} more"
        if length + len(sentence) + len(rest) + 4 > SUMMARY_LIMIT:
            told.append(rest)
            break
        told.append(sentence)
        length += len(sentence) + 2
    return "; ".join(told)


def parts(definition: Mapping[str, Any]) -> list[Part]:
    """The pieces of a definition's behaviour in canonical order, each with a name that no other one has."""
    found: list[Part] = []
    content = revision.behaviour(definition)
    for key in sorted(content, key=rank):
        value = content[key]
        if key not in _LISTS or not isinstance(value, list):
            found.append(Part(_group(key), key, value))
            continue
        found.append(Part(_group(key), key, [], entries=len(value)))
        seen: Counter[str] = Counter()
        for place, each in enumerate(value):
            label = each.get("type" if key == "triggers" else "name") if isinstance(each, dict) else None
            name = f"{key}.{label}" if isinstance(label, str) else f"{key}[{place}]"
            seen[name] += 1
            found.append(Part(_group(key), name if seen[name] == 1 else f"{name}#{seen[name]}", each, place))
    return found


def _group(key: str) -> Group:
    if key not in _LISTS:
        return Group.SETTINGS
    return Group.TRIGGERS if key == "triggers" else Group.STEPS


def pairs(old: Sequence[Part], new: Sequence[Part]) -> list[tuple[int, int]]:
    """Which part became which, in the order of ``old``. Triggers have no names: equal ones first, then by type and order."""
    by_name = {part.name: index for index, part in enumerate(new) if not _is_trigger(part)}
    found = [
        (index, by_name[part.name]) for index, part in enumerate(old) if not _is_trigger(part) and part.name in by_name
    ]
    # Dicts and not sets: nothing may depend on the order in which strings hash.
    open_old = dict.fromkeys(index for index, part in enumerate(old) if _is_trigger(part))
    open_new = dict.fromkeys(index for index, part in enumerate(new) if _is_trigger(part))
    for by_content in (True, False):
        waiting: dict[object, deque[int]] = {}
        for index in open_new:
            waiting.setdefault(_trigger_key(new[index], by_content=by_content), deque()).append(index)
        for index in list(open_old):
            candidates = waiting.get(_trigger_key(old[index], by_content=by_content))
            if candidates:
                found.append((index, candidates.popleft()))
                del open_old[index], open_new[found[-1][1]]
    return sorted(found)


def _is_trigger(part: Part) -> bool:
    return part.group is Group.TRIGGERS and part.place is not None


def _trigger_key(part: Part, *, by_content: bool) -> object:
    if by_content:
        return repr(ordered(part.value))
    label = part.value.get("type") if isinstance(part.value, dict) else None
    return label if isinstance(label, str) else None


def in_order(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs that stand in the same order on both sides; the others have moved."""
    tails: list[int] = []
    at: list[int] = []
    before: list[int | None] = [None] * len(pairs)
    for index, (_, second) in enumerate(pairs):
        place = bisect_left(tails, second)
        if place == len(tails):
            tails.append(second)
            at.append(index)
        else:
            tails[place], at[place] = second, index
        before[index] = at[place - 1] if place else None
    kept: list[tuple[int, int]] = []
    here = at[-1] if at else None
    while here is not None:
        kept.append(pairs[here])
        here = before[here]
    return kept[::-1]


def _change(old: Part, new: Part, *, moved: bool) -> Change | None:
    values = tuple(_values(old.value, new.value, ""))
    if not values and not moved:
        return None
    kind = Kind.CHANGED if values else Kind.MOVED
    return Change(new.group, kind, new.name, old.place, new.place, moved, values)


def _values(old: Any, new: Any, path: str) -> Iterator[Value]:
    """Every value below a part that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=rank):
            yield from _values(old.get(key, ABSENT), new.get(key, ABSENT), faults.join(path, key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_values(old, new, path)
    elif not _same(old, new):
        yield Value(path, old, new)


def _list_values(old: list[Any], new: list[Any], path: str) -> Iterator[Value]:
    """Entries by their names where all have one; else by their places, as long as none has come or gone."""
    for key in ("name", "key"):
        first, second = _by(key, old), _by(key, new)
        if first is not None and second is not None:
            if [name for name in first if name in second] != [name for name in second if name in first]:
                break
            for name in dict.fromkeys((*first, *second)):
                place = f"{path}[{faults.quoted(name)}]"
                yield from _values(first.get(name, ABSENT), second.get(name, ABSENT), place)
            return
    if len(old) == len(new):
        for index, (first_entry, second_entry) in enumerate(zip(old, new, strict=True)):
            yield from _values(first_entry, second_entry, f"{path}[{index}]")
    else:
        yield Value(path, old, new)


def _by(key: str, entries: list[Any]) -> dict[str, Any] | None:
    """The entries by one of their fields, if all have it and no two the same."""
    found = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(name := entry.get(key), str) or name in found:
            return None
        found[name] = entry
    return found


def _alike(old: Any, new: Any) -> bool:
    """What is equal for Python is so for JSON, too: see `_same`."""
    if isinstance(old, dict):
        return all(_alike(each, new[key]) for key, each in old.items())
    if isinstance(old, list):
        return all(map(_alike, old, new))
    return _same(old, new)


def _same(old: Any, new: Any) -> bool:
    """Equal as JSON: ``1`` is ``1.0``, and neither is ``true``, though Python takes all three for equal."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, int | float) and isinstance(new, int | float):
        return old == new
    return type(old) is type(new) and bool(old == new)


def ordered(value: Any) -> Any:
    """The value with its keys in canonical order, and numbers in one spelling."""
    return writer.ordered(value, rank)


def rank(key: str) -> tuple[int, str]:
    """Sorts keys into canonical order."""
    return _ORDER.get(key, len(_ORDER)), key


def _place(change: Change) -> int:
    return next((place for place in (change.after, change.before) if place is not None), -1)


def _sentence(change: Change) -> str:
    name = change.name if len(change.name) <= 80 else f"{change.name[:79]}…"
    if change.kind is not Kind.CHANGED:
        return f"{name} {change.kind}"
    values = [
        value.path
        if change.group is Group.STEPS or not value.path
        else f"{value.path}: {_shown(value.before)} → {_shown(value.after)}"
        for value in change.values[:3]
    ]
    if change.group is Group.SETTINGS and values == [""]:
        values = [f"{_shown(change.values[0].before)} → {_shown(change.values[0].after)}"]
    more = f", and {len(change.values) - 3} more" if len(change.values) > 3 else ""
    moved = " and moved" if change.moved else ""
    return f"{name} changed{moved} ({', '.join(filter(None, values))}{more})"


def _shown(value: Any) -> str:
    match value:
        case Absent():
            return "none"
        case dict() | list():
            return "…"
        case str():
            return faults.quoted(value) if len(value) <= _SHOWN else faults.quoted(f"{value[: _SHOWN - 1]}…")
        case _:
            return dialect.dump(value).splitlines()[0]
