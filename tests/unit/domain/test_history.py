"""Which revision is meant, and where the way back leads."""

from dataclasses import replace

import pytest

from keep_operator.domain import history
from keep_operator.domain.history import Reference, Refusal, Revision
from unit import lineages
from unit.lineages import hash_of, hold, lineage


def number(found: Revision | Refusal) -> int | str:
    """The number of what was found, else the reason why nothing was."""
    return found.reason if isinstance(found, Refusal) else found.number


@pytest.mark.parametrize(
    ("contents", "deployed", "fields", "expected"),
    [
        ("AB", "1 2", {}, 1),
        ("ABC", "1 2 3", {}, 2),
        ("A", "1", {}, "NoRollbackTarget"),
        ("A", "", {}, "NoRollbackTarget"),
        # an invalid one in between was never active, a denied and a rejected one may not be again
        ("AbC", "1 3", {}, 1),
        ("ABC", "1 2 3", {"change": {2: {"rejected": "RejectedByUser"}}}, 1),
        ("ABC", "1 2 3", {"change": {2: {"denied": "DeniedByPeer"}}}, 1),
        # the same content under another number is no way back
        ("ABA", "1 2 3", {}, 2),
        ("ABABA", "1 2 3 4 5", {"change": {2: {"rejected": "RejectedByUser"}}}, "NoRollbackTarget"),
    ],
)
def test_rollback_without_a_target_leads_to_the_last_one_that_served_well(
    contents: str, deployed: str, fields: dict[str, object], expected: int | str
) -> None:
    """A-RB-2: who only says "take it back" gets the version before, of those that may run."""
    assert number(history.previous(lineage(contents, deployed, **fields))) == expected


@pytest.mark.parametrize(
    ("deployed", "way"),
    [
        ("1 2 3", (1, 2, 3)),
        ("1 2 3 R2", (1, 2)),
        ("1 2 3 R2 R1", (1,)),
        ("1 2 3 R1", (1,)),
        ("1 2 3 R2 4", (1, 2, 4)),
        ("1 2 3 R2 H3", (1, 2, 3)),
        ("1 2 3 P1 3", (2, 1, 3)),
        ("1 2 D1", (2, 1)),
        ("1 3 R2", (1, 2)),
        ("1 2 X1", (1,)),
    ],
)
def test_what_was_given_up_is_not_on_the_way_back(deployed: str, way: tuple[int, ...]) -> None:
    """A-RB-4: a rollback leads back along the versions that served, and what it left is not met again."""
    assert history.way_back(lineage("ABCD", deployed)) == way


def test_rolling_back_again_and_again_never_leads_forward() -> None:
    """A-RB-4: v4, and three times "take it back": v3, v2, v1, and then there is nothing left."""
    made = "1 2 3 4"
    reached: list[int | str] = []
    for _ in range(4):
        seen = lineage("ABCD", made, hold=None if made == "1 2 3 4" else hold("D", int(made[-1])))
        reached.append(number(history.previous(seen)))
        made += f" R{reached[-1]}"
    assert reached == [3, 2, 1, "NoRollbackTarget"]


def test_a_new_definition_after_a_rollback_can_be_taken_back_too() -> None:
    """v3 was rolled back to v2, v4 mended it and broke something else: back leads to v2, not to the bad v3."""
    assert number(history.previous(lineage("ABCD", "1 2 3 R2 4"))) == 2


def test_a_long_history_of_which_the_beginning_is_not_known_leads_to_what_is_known() -> None:
    """Of ten thousand deployments only the last are read: the way back is shorter then, never wrong."""
    full = lineage("ABCD", "1 2 3 4 R2")
    assert history.way_back(replace(full, deployments=full.deployments[:2])) == (2,)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (Reference(number=2), 2),
        (Reference(number=9), "RevisionNotFound"),
        (Reference(content_hash=hash_of("A")), 1),
        (Reference(content_hash=hash_of("Z")), "RevisionNotFound"),
        (Reference(tag="production"), 2),
        (Reference(tag="canary"), "RevisionNotFound"),
        (Reference(previous=True), 2),
    ],
)
def test_a_revision_is_named_by_number_content_tag_or_as_the_previous_one(
    reference: Reference, expected: int | str
) -> None:
    """A-TAG-1: wherever a revision is asked for, each of the four names does; archived ones are found too."""
    seen = lineage("ABC", "1 2 3", change={2: {"tags": ("production",), "archived_at": lineages.minute(300)}})
    assert number(history.resolve(seen, reference)) == expected


def test_of_equal_contents_the_active_one_is_meant_else_the_newest() -> None:
    """A pin by hash does not move a workflow from one number to another with the same content."""
    by_hash = Reference(content_hash=hash_of("A"))
    assert number(history.resolve(lineage("ABAC", "1"), by_hash)) == 1
    assert number(history.resolve(lineage("ABAC", "1 2"), by_hash)) == 3


def test_a_refusal_says_what_there_is() -> None:
    """Who asks for v9 is told which versions there are."""
    refusal = history.resolve(lineage("AB", "1 2"), Reference(number=9))
    assert isinstance(refusal, Refusal) and refusal.message == "There is no revision for v9: there are v1 to v2."
    none = history.resolve(lineage(""), Reference(tag="production"))
    assert (
        isinstance(none, Refusal) and none.message == 'There is no revision for tag "production": there are none yet.'
    )


def test_a_content_that_is_rejected_or_denied_is_so_under_all_its_numbers() -> None:
    """A-AP-4: what was denied as v1 is not let in as v3 with the same content."""
    seen = lineage("ABA", "2", change={1: {"denied": "DeniedByPeer"}})
    third = seen.get(3)
    assert third is not None and not seen.eligible(third)
    assert [each.number for each in seen.all_eligible()] == [2]
    assert all(seen.eligible(each) == (each in seen.all_eligible()) for each in seen.revisions)


def test_a_row_that_others_changed_is_not_intact_and_a_new_active_version_changes_nothing_of_that() -> None:
    """A-DR-1: a name or a setting changed by SQL shows; activating a version is no drift."""
    row = lineage("AB", "1", settings={"maxAttempts": 3})
    row = replace(row, checksum=history.checksum(row))
    assert row.intact
    assert replace(row, active_number=2).intact
    for change in ({"external_name": "x"}, {"settings": {"maxAttempts": 4}}, {"suspended": True}, {"tenant_id": "x"}):
        assert not replace(row, **change).intact
    assert replace(row, checksum=None).intact
