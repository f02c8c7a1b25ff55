"""Carries out what becomes of a history: each effect by the function of the store that does it, with its ledger entry."""

from typing import assert_never

from keep_operator.domain import effects
from keep_operator.domain.effects import Effect
from keep_operator.domain.history import Lineage
from keep_operator.store import decisions, deployments, releases, revisions
from keep_operator.store.connection import Connection


async def take(conn: Connection, seen: Lineage, effect: Effect, *, actor: str, reason: str = "") -> None:
    """Within the caller's transaction. Raises Conflict where the effect was thought of by what is so no more."""
    by: dict[str, str] = {"actor": actor, "reason": reason}
    match effect:
        case effects.Activate(_, number, cause, who, why):
            await deployments.activate(conn, seen, number, cause=cause, actor=who, reason=why)
        case effects.SetHold(hold):
            await deployments.set_hold(conn, seen, hold, actor=actor)
        case effects.EndHold():
            await deployments.end_hold(conn, seen, **by)
        case effects.SetCanary(_, canary):
            await releases.set_canary(conn, seen, canary, **by)
        case effects.EndCanary(_, outcome):
            await releases.end_canary(conn, seen, outcome, **by)
        case effects.Review():
            await releases.review(conn, seen, effect, **by)
        case effects.Approve(number, verdict):
            await releases.approve(conn, seen, number, verdict, **by)
        case effects.Deny(number, verdict):
            await releases.deny(conn, seen, number, verdict, **by)
        case effects.CheckItem():
            await releases.check(conn, seen, effect, actor=actor)
        case effects.Reject(number, verdict):
            await revisions.reject(conn, seen, number, verdict=verdict, **by)
        case effects.ClearRejection(content_hash):
            await revisions.clear_rejection(conn, seen, content_hash, **by)
        case effects.Tag(tag, number):
            await revisions.tag(conn, seen, number, tag, **by)
        case effects.Untag(tag):
            await revisions.untag(conn, seen, tag, **by)
        case effects.Note(number, text):
            await decisions.note(conn, seen, number, text, actor=actor)
        case effects.Watch(until):
            await releases.watch(conn, seen, until)
        case _:
            assert_never(effect)
