"""Workflows that events and people start, and the machine that posts the events."""

from dataclasses import replace
from typing import Any, Final

from integration.store import lineages, samples
from integration.store.lineages import done
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Canary, Lineage, Revision
from keep_operator.domain.revision import content_hash
from keep_operator.store import executions, releases, revisions, tokens, workflows
from keep_operator.store.engine import Engine

TOKEN: Final = "canary-of-the-machine-0123456789"
PLACE: Final = "monitoring/alertmanager/token"
STEPS: Final = {"actions": [{"name": "tell", "provider": {"type": "console", "with": {"message": "hello"}}}]}


async def have_token(engine: Engine, token: str = TOKEN, tenant: str = "keep") -> None:
    """The tenant accepts this token, and no other."""
    stored = tokens.hashed(PLACE, token)
    await done(engine, lambda conn: tokens.put(conn, tenant, [stored]))


async def have(engine: Engine, name: str, *triggers: dict[str, Any], **more: Any) -> Lineage:
    """A workflow with these triggers, active."""
    of = samples.owner(name)
    fields = {key: more.pop(key) for key in ("suspended", "settings") if key in more}
    lineage = lineages.new(name, of=of, **fields)
    await done(engine, lambda conn: workflows.insert(conn, lineage, actor=samples.ACTOR))
    return await change(engine, name, *triggers, **more)


async def change(engine: Engine, name: str, *triggers: dict[str, Any], **more: Any) -> Lineage:
    """Its next version, active."""
    made = await _add(engine, name, *triggers, **more)
    return await lineages.activate(engine, made.latest_number, of=samples.owner(name))


async def try_out(engine: Engine, name: str, weight: int, *triggers: dict[str, Any], **more: Any) -> Lineage:
    """Its next version gets so many per cent of the runs; ``sticky_key`` says by what they are told apart."""
    sticky_key = more.pop("sticky_key", None)
    made = await _add(engine, name, *triggers, **more)
    assert made.active_number is not None
    at = lineages.EARLIER
    tried = Canary(made.latest_number, made.active_number, "[]", 0, at, weight, at, at, sticky_key=sticky_key)
    await done(engine, lambda conn: releases.set_canary(conn, made, tried, actor=samples.ACTOR))
    return await lineages.own(engine, samples.owner(name))


async def weigh(engine: Engine, name: str, weight: int) -> None:
    """The candidate gets another share; with 0 it is over."""
    seen = await lineages.own(engine, samples.owner(name))
    assert seen.canary is not None
    moved = replace(seen.canary, weight=weight, step=seen.canary.step + 1)
    if weight:
        await done(engine, lambda conn: releases.set_canary(conn, seen, moved, actor=samples.ACTOR))
    else:
        await done(engine, lambda conn: releases.end_canary(conn, seen, "Aborted", actor=samples.ACTOR))


async def _add(engine: Engine, name: str, *triggers: dict[str, Any], **more: Any) -> Lineage:
    of = samples.owner(name)
    seen = await lineages.own(engine, of)
    definition = {"triggers": list(triggers), **STEPS, **more}
    number = seen.latest_number + 1
    made = Revision(number, content_hash(definition), lineages.EARLIER, created_from_generation=number)
    await done(
        engine,
        lambda conn: revisions.insert(conn, seen, made, definition, name=f"{name}-v{number}", actor=samples.ACTOR),
    )
    return await lineages.own(engine, of)


async def end(engine: Engine, run_id: Any, reason: Reason = Reason.COMPLETED) -> None:
    """A worker takes the run up and ends it."""
    claim = await done(engine, lambda conn: executions.claim(conn, run_id, "worker-1"))
    assert claim is not None
    await done(engine, lambda conn: executions.end(conn, claim.run, reason, "done"))
