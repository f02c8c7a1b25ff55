"""The items of a release checklist that are found true by themselves: CEL over the revision, its difference and its runs.

::

    revision   number, contentHash, changeNote, author, important, tags
    diff       identical, paths[], steps, triggers, settings: {added[], removed[], changed[]}
    runs       live, dryRun: {total, succeeded, failed}

So ``runs.dryRun.succeeded >= 10 && runs.dryRun.failed == 0`` waits for ten dry runs without an error (A-CHK-1). What an item
is worth is judged anew at each look, and remembered when that changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from keep_operator.domain import gates
from keep_operator.domain.canary import Stats
from keep_operator.domain.comparison import Comparison, Group, Kind
from keep_operator.domain.effects import CheckItem
from keep_operator.domain.events import cel
from keep_operator.domain.events.cel import EvaluationFailed, Scene
from keep_operator.domain.grammar import expressions
from keep_operator.domain.history import Check, Lineage, Revision
from keep_operator.resources.kinds import FIELD_MANAGER
from keep_operator.resources.parts import ChecklistItem
from keep_operator.resources.release import Release

# Units of one expression: a list may have 32 of them, and they are evaluated at each look.
BUDGET: Final = cel.BUDGET // 8
# How `canary.Question` calls the runs, and how an expression does.
MODES: Final[Mapping[str, str]] = {"Live": "live", "DryRun": "dryRun"}


def faults(release: Release) -> list[str]:
    """What of the expressions in `spec.release` is no CEL, each a sentence that begins with its path."""
    asked = [(f"spec.release.checklist[{place}].auto", each.auto) for place, each in enumerate(release.checklist)]
    if release.strategy.canary is not None:
        asked.append(("spec.release.strategy.canary.stickyKey", release.strategy.canary.sticky_key))
    return [
        f"{path} {why}" for path, text in asked if text is not None and (why := expressions.fault(text)) is not None
    ]


def facts(revision: Revision, difference: Comparison, counted: Mapping[str, Stats]) -> dict[str, Any]:
    """What expressions can ask about. ``counted`` are the runs of the revision by mode, since it was made."""
    return {
        "revision": {
            "number": revision.number,
            "contentHash": revision.content_hash,
            "changeNote": revision.change_note or "",
            "author": "" if revision.author is None else revision.author.username,
            "important": revision.important,
            "tags": list(revision.tags),
        },
        "diff": {
            "identical": difference.identical,
            "paths": list(difference.paths),
            **{str(group).lower(): _kinds(difference, group) for group in Group},
        },
        "runs": {
            name: {"total": it.runs, "succeeded": it.runs - it.failures, "failed": it.failures}
            for mode, name in MODES.items()
            for it in [counted.get(mode, Stats())]
        },
    }


def _kinds(difference: Comparison, group: Group) -> dict[str, list[str]]:
    """A part that only moved counts as changed: its order is behaviour."""
    found: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}
    for change in difference.changes:
        if change.group is group:
            found["changed" if change.kind is Kind.MOVED else str(change.kind)].append(change.name)
    return found


def ticks(
    items: Sequence[ChecklistItem],
    lineage: Lineage,
    revision: Revision,
    difference: Comparison,
    counted: Mapping[str, Stats],
) -> tuple[CheckItem, ...]:
    """The items by themselves whose worth is not what is remembered; an expression that fails is not true, and says why."""
    known = gates.checked(lineage, revision.number)
    scene = Scene(facts(revision, difference, counted), BUDGET)
    found: list[CheckItem] = []
    for item in items:
        if item.auto is None:
            continue
        done, why = _worth(item.auto, scene)
        before = known.get(item.id)
        if before is None or (before.done, before.message) != (done, why):
            found.append(CheckItem(revision.number, item.id, done, FIELD_MANAGER, why))
    return tuple(found)


def _worth(text: str, scene: Scene) -> tuple[bool, str]:
    try:
        return cel.compiled(text).matches(scene), ""
    except EvaluationFailed as failure:
        return False, f"the expression {failure}"


def ticked(lineage: Lineage, done: Sequence[CheckItem], now: datetime) -> Lineage:
    """The lineage as it is once these are remembered."""
    if not done:
        return lineage
    new = {
        (each.number, each.item): Check(each.number, each.item, each.done, each.by, now, each.message) for each in done
    }
    kept = (each for each in lineage.checks if (each.number, each.item) not in new)
    return replace(lineage, checks=(*kept, *new.values()))
