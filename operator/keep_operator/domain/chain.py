"""The chain of hashes over a tenant's ledger: how an entry is sealed, and what is wrong with a chain that is read again.

::

    position     1             2             3
    entry      ▒▒▒▒▒         ▒▒▒▒▒         ▒▒▒▒▒          rows of the ledger, every column
                 ▼             ▼             ▼
    seal    ───▶ # ──────────▶ # ──────────▶ #            the head; whoever has noted it elsewhere can prove later
                                                          that nothing before it was cut off or rewritten

A hash is over the one before it and over its entry, so no entry can be changed, removed, put in or moved without all
later hashes being made anew. Entries stand in the order in which they became visible, not in that of their ids.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# The way an entry is written before it is hashed. Each seal says its own: a new column of the ledger needs a new form,
# and what was sealed in the old one is still read.
FORM: Final = 1
# What stands in the place of the hash before the first.
START: Final = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger, exactly; None is NULL, which the table forbids as long as nobody has altered it.

    ``at`` is in seconds since 1970, UTC, as a decimal to the microsecond (`Infinity` can stand in a row as well).
    ``details`` is the SHA-256 of the stored text, in hex: details may be large, and the database can hash them itself.
    """

    id: int
    at: str | None
    tenant_id: str | None
    kind: str | None
    namespace: str | None
    name: str | None
    uid: str | None
    action: str | None
    actor: str | None
    details: str | None


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal as it is stored, with the entry that it is for; None: there is no such row (any more)."""

    ledger_id: int
    tenant_id: str
    position: int
    form: int
    hash: bytes
    entry: Entry | None


def digest(details: str) -> str:
    """What stands for the details of an entry in the hash."""
    return hashlib.sha256(details.encode()).hexdigest()


def link(before: bytes, entry: Entry) -> bytes:
    """The hash that seals ``entry`` behind ``before``: SHA-256 of a JSON array without spaces, in UTF-8."""
    told = [FORM, before.hex(), *(getattr(entry, name) for name in _COLUMNS)]
    return hashlib.sha256(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()).digest()


# Written out: the order of the fields in the class is nothing that a hash may depend on.
_COLUMNS: Final = ("id", "at", "tenant_id", "kind", "namespace", "name", "uid", "action", "actor", "details")


class Breach(StrEnum):
    """What can be wrong; `docs/operations.md` says what each of them means."""

    CHANGED = "the entry was changed after it had been sealed"
    SEAL_CHANGED = "the seal was changed; the entry is as it was"
    MISMATCH = "the entry or its seal was changed, or the seal is forged"
    REMOVED = "the seal has no entry (any more)"
    GAP = "the chain does not go on at the next position: seals were removed or put in"
    FORM_UNKNOWN = "the seal is of a form that this version does not know"
    UNSEALED = "the entry has no seal and does not wait for one"
    HEAD_MISSING = "the noted head is not in the chain: its end was cut off, or it was written anew"
    LOST = "entries that waited for their seals are not there any more"
    VERSION_CHANGED = "contents of versions are not those that the ledger tells of"
    GUARD_OFF = "triggers that guard the ledger are missing or switched off"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong with a chain, and where; None where the breach has no such place."""

    breach: Breach
    position: int | None = None
    ledger_id: int | None = None


class Chain:
    """One tenant's chain while it is read, seal after seal; it remembers two hashes, however long the chain is.

    Behind the first fault nothing is judged any more: all that is counted is true, all that follows is in doubt.
    """

    def __init__(self) -> None:
        self.length = 0
        self.head = START
        self.waiting = 0
        self.fault: Fault | None = None
        self._position = 0
        # A seal that did not fit, and the hash that it should have had: the seal behind it tells which of the two,
        # seal or entry, was changed.
        self._doubted: tuple[Seal, bytes] | None = None

    def read(self, seal: Seal) -> None:
        """Take in the next seal, in the order of positions."""
        if self.fault is None:
            self._judge(seal)
        self.length += 1
        self.head, self._position = seal.hash, seal.position

    def unsealed(self, ledger_id: int, *, waits: bool) -> None:
        """Take in an entry without a seal, after all seals."""
        self.waiting += waits
        if not waits and self.fault is None:
            self.fault = Fault(Breach.UNSEALED, ledger_id=ledger_id)

    def end(self) -> None:
        """All seals have been read: nothing tells any more which of the last two was changed."""
        if self._doubted is not None and self.fault is None:
            self.fault = _fault(Breach.MISMATCH, self._doubted[0])

    def _judge(self, seal: Seal) -> None:
        if self._doubted is not None:
            doubted, right = self._doubted
            follows = {self.head: Breach.CHANGED, right: Breach.SEAL_CHANGED}
            told = [
                breach for before, breach in follows.items() if seal.entry and link(before, seal.entry) == seal.hash
            ]
            self.fault = _fault(told[0] if told else Breach.MISMATCH, doubted)
        elif seal.position != self._position + 1:
            self.fault = _fault(Breach.GAP, seal)
        elif seal.entry is None:
            self.fault = _fault(Breach.REMOVED, seal)
        elif seal.form != FORM:
            self.fault = _fault(Breach.FORM_UNKNOWN, seal)
        elif (right := link(self.head, seal.entry)) != seal.hash:
            self._doubted = seal, right
        elif seal.entry.tenant_id != seal.tenant_id:
            self.fault = _fault(Breach.SEAL_CHANGED, seal)


class Verification:
    """What a verification has found so far. Its size grows with the number of tenants, not with the ledger.

    ``noted`` are the heads, in hex, that were noted elsewhere, by tenant. ``general`` holds what is no tenant's.
    """

    def __init__(self, noted: Iterable[tuple[str, str]] = ()) -> None:
        self.chains: dict[str, Chain] = {}
        self.general: list[tuple[Breach, str]] = []
        self._missing = dict.fromkeys(noted)

    @property
    def fine(self) -> bool:
        """Nothing is wrong."""
        return not self.general and all(chain.fault is None for chain in self.chains.values())

    def read(self, seal: Seal) -> None:
        """Take in the next seal, in the order of positions within its tenant."""
        self._chain(seal.tenant_id).read(seal)
        self._missing.pop((seal.tenant_id, seal.hash.hex()), None)

    def unsealed(self, tenant_id: str | None, ledger_id: int, *, waits: bool) -> None:
        """Take in an entry without a seal, after all seals."""
        self._chain(tenant_id or "").unsealed(ledger_id, waits=waits)

    def whole(self, breach: Breach, names: Iterable[object]) -> None:
        """Take in what is wrong with the ledger as a whole, if there are any ``names`` of it."""
        if told := ", ".join(map(str, names)):
            self.general.append((breach, told))

    def end(self) -> None:
        """All seals have been read; unsealed entries come after this."""
        for chain in self.chains.values():
            chain.end()
        for tenant_id, _ in self._missing:
            chain = self._chain(tenant_id)
            chain.fault = chain.fault or Fault(Breach.HEAD_MISSING)

    def _chain(self, tenant_id: str) -> Chain:
        return self.chains.setdefault(tenant_id, Chain())


def _fault(breach: Breach, seal: Seal) -> Fault:
    return Fault(breach, seal.position, seal.ledger_id)
