"""Histories for tests, described by what matters: contents by letters, deployments by numbers."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.domain.history import Cause, Deployment, Flaw, Hold, Lineage, Revision
from keep_operator.domain.ownership import Owner

START: Final = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
OWNER: Final = Owner("cluster-1", "monitoring", "high-cpu", "uid-1")
BROKEN: Final = Flaw("SchemaError", "steps[0]: provider is missing")


def hash_of(content: str) -> str:
    """The hash of a content that is called by a letter."""
    return hashlib.sha256(content.encode()).hexdigest()


def minute(number: int) -> datetime:
    """So many minutes after the beginning."""
    return START + timedelta(minutes=number)


def lineage(contents: str, deployed: str = "", **fields: Any) -> Lineage:
    """Revisions with these contents, one letter each; ``deployed`` as in ``1 2 R1``: R, P, D, H, X or C before a number is the cause.

    A lower case letter is a content that is not valid.
    """
    revisions = {
        number: Revision(
            number,
            hash_of(letter),
            minute(number),
            flaw=BROKEN if letter.islower() else None,
            parent_number=number - 1 or None,
        )
        for number, letter in enumerate(contents, start=1)
    }
    causes = {
        "R": Cause.ROLLBACK,
        "P": Cause.PIN,
        "D": Cause.DEPLOY,
        "H": Cause.HOLD_ENDED,
        "X": Cause.REJECTED,
        "C": Cause.CANARY,
    }
    deployments: list[Deployment] = []
    active: int | None = None
    for place, word in enumerate(deployed.split(), start=1):
        cause, number = causes.get(word[0], Cause.ALL_AT_ONCE), int(word.lstrip("".join(causes)))
        at = minute(100 + place)
        deployments.insert(0, Deployment(number, active, cause, "ann", at))
        for each in (active, number):
            if each is not None:
                revisions[each] = _active_at(revisions[each], at)
        active = number
    changes = fields.pop("change", {})
    shown = tuple(replace(each, **changes.get(each.number, {})) for each in revisions.values())
    given: dict[str, Any] = {
        "id": UUID(int=1),
        "tenant_id": "keep",
        "external_name": "high-cpu",
        "owner": OWNER,
        "latest_number": len(contents),
        "active_number": active,
        "revisions": shown,
        "deployments": tuple(deployments),
    }
    return Lineage(**(given | fields))


def hold(rejected: str, target: int, **fields: Any) -> Hold:
    """A rollback from the content of this letter to a revision."""
    return Hold(**({"rejected_hash": hash_of(rejected), "target": target, **_BY_BOB} | fields))


_BY_BOB: Final[dict[str, Any]] = {"actor": "bob", "reason": "It notifies too often", "since": minute(200)}


def _active_at(revision: Revision, at: datetime) -> Revision:
    return replace(revision, first_active_at=revision.first_active_at or at, last_active_at=at)
