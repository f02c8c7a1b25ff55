"""A chain is fine only as long as each entry and each seal is as it was sealed."""

from collections.abc import Iterable
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keep_operator.domain.chain import FORM, START, Breach, Entry, Fault, Seal, Verification, digest, link

COLUMNS = [field.name for field in fields(Entry)]
TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.integers(1, 2**63 - 1)


def entry(number: int, tenant_id: str = "keep") -> Entry:
    """The entry of that id."""
    return Entry(
        number, f"{number}.000001", tenant_id, "Provider", "web", "vm", "uid", "Created", "operator", digest("{}")
    )


def sealed(entries: Iterable[Entry]) -> list[Seal]:
    """One chain over the entries."""
    seals, head = [], START
    for position, each in enumerate(entries, 1):
        head = link(head, each)
        seals.append(Seal(each.id, each.tenant_id or "", position, FORM, head, each))
    return seals


def verified(seals: Iterable[Seal], *noted: tuple[str, str]) -> Verification:
    """What reading them finds."""
    verification = Verification(noted)
    for each in seals:
        verification.read(each)
    verification.end()
    return verification


def fault(seals: Iterable[Seal], *noted: tuple[str, str]) -> Fault | None:
    """The first fault of the tenant."""
    return verified(seals, *noted).chains["keep"].fault


CHAIN = sealed(map(entry, (3, 7, 5, 9)))


def test_an_honest_chain_is_fine() -> None:
    """Whoever has changed nothing is accused of nothing, also where ids became visible out of order."""
    found = verified(CHAIN, ("keep", CHAIN[1].hash.hex()))
    assert found.fine
    assert (found.chains["keep"].length, found.chains["keep"].head) == (4, CHAIN[-1].hash)


@given(st.integers(0, 3), st.sampled_from(COLUMNS), st.data())
def test_a_change_of_any_column_of_any_entry_is_found(index: int, column: str, data: st.DataObject) -> None:
    """Who, what, when, to whom: none of it can be told otherwise later, and the place is named."""
    seal = CHAIN[index]
    assert seal.entry is not None
    old: int | str | None = getattr(seal.entry, column)
    new = data.draw((NUMBER if column == "id" else TEXT).filter(lambda value: value != old))
    changed = replace(seal, entry=Entry(**{**asdict(seal.entry), column: new}))
    breach = Breach.MISMATCH if index == 3 else Breach.CHANGED
    assert fault([*CHAIN[:index], changed, *CHAIN[index + 1 :]]) == Fault(breach, index + 1, seal.ledger_id)


@given(st.lists(TEXT, min_size=9, max_size=9), st.lists(TEXT, min_size=9, max_size=9))
def test_different_entries_have_different_hashes(one: list[str | None], other: list[str | None]) -> None:
    """No text can be moved from one column to the next."""
    assert (link(START, Entry(1, *one)) == link(START, Entry(1, *other))) == (one == other)


@pytest.mark.parametrize(
    ("seals", "breach", "position"),
    [
        ([CHAIN[0], replace(CHAIN[1], hash=b"x" * 32), *CHAIN[2:]], Breach.SEAL_CHANGED, 2),
        ([*CHAIN[:3], replace(CHAIN[3], hash=b"x" * 32)], Breach.MISMATCH, 4),
        ([CHAIN[0], replace(CHAIN[1], entry=None), *CHAIN[2:]], Breach.REMOVED, 2),
        ([CHAIN[0], *CHAIN[2:]], Breach.GAP, 3),
        (CHAIN[1:], Breach.GAP, 2),
        ([*CHAIN, replace(CHAIN[3], position=6)], Breach.GAP, 6),
        ([*CHAIN, Seal(11, "keep", 5, FORM, b"x" * 32, entry(11))], Breach.MISMATCH, 5),
        ([CHAIN[0], replace(CHAIN[1], form=2), *CHAIN[2:]], Breach.FORM_UNKNOWN, 2),
        ([replace(sealed([entry(1, "other")])[0], tenant_id="keep")], Breach.SEAL_CHANGED, 1),
    ],
    ids=["hash", "last hash", "removed row", "removed seal", "first seal", "moved", "forged", "form", "tenant"],
)
def test_the_first_fault_is_named(seals: list[Seal], breach: Breach, position: int) -> None:
    """An investigation begins at a place, not at a no."""
    found = fault(seals)
    assert found is not None
    assert (found.breach, found.position) == (breach, position)


def test_two_changes_in_a_row_are_told_as_one() -> None:
    """Where the next entry was changed as well, nobody claims to know which of entry and seal is the true one."""
    twice = [replace(seal, hash=bytes(32)) for seal in CHAIN[1:3]]
    assert fault([CHAIN[0], *twice, CHAIN[3]]) == Fault(Breach.MISMATCH, 2, 7)


def test_a_noted_head_proves_that_the_end_is_there() -> None:
    """Who cuts off the end leaves a chain that fits; only what was noted elsewhere tells."""
    head = ("keep", CHAIN[-1].hash.hex())
    assert fault(CHAIN[:2]) is None
    assert fault(CHAIN[:2], head) == Fault(Breach.HEAD_MISSING)


def test_a_chain_that_is_gone_is_missed_by_its_head() -> None:
    """A tenant of whom nothing is left is told of, too."""
    assert fault([], ("keep", "00" * 32)) == Fault(Breach.HEAD_MISSING)


def test_entries_that_wait_are_no_fault() -> None:
    """Between writing and sealing lies a moment, in which nothing is wrong; without a place in the queue, something is."""
    found = verified(CHAIN)
    found.unsealed("keep", 11, waits=True)
    assert found.fine
    assert found.chains["keep"].waiting == 1
    found.unsealed("keep", 12, waits=False)
    assert found.chains["keep"].fault == Fault(Breach.UNSEALED, ledger_id=12)
    assert not found.fine


def test_what_concerns_no_tenant_is_told_too() -> None:
    """A guard that is off breaks the ledger, whatever the chains say."""
    found = verified(CHAIN)
    found.whole(Breach.LOST, [])
    assert found.fine
    found.whole(Breach.GUARD_OFF, ["ledger_append_only"])
    assert not found.fine
