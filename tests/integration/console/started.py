"""Workflows that events and people start, and the machine that posts the events."""

from typing import Any, Final

from integration.store import lineages, samples
from integration.store.lineages import done
from keep_operator.domain.execution import Reason
from keep_operator.domain.history import Lineage, Revision
from keep_operator.domain.revision import content_hash
from keep_operator.store import executions, revisions, tokens, workflows
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
    of = samples.owner(name)
    seen = await lineages.own(engine, of)
    definition = {"triggers": list(triggers), **STEPS, **more}
    number = seen.latest_number + 1
    made = Revision(number, content_hash(definition), lineages.EARLIER, created_from_generation=number)
    await done(
        engine,
        lambda conn: revisions.insert(conn, seen, made, definition, name=f"{name}-v{number}", actor=samples.ACTOR),
    )
    return await lineages.activate(engine, number, of=of)


async def end(engine: Engine, run_id: Any, reason: Reason = Reason.COMPLETED) -> None:
    """A worker takes the run up and ends it."""
    claim = await done(engine, lambda conn: executions.claim(conn, run_id, "worker-1"))
    assert claim is not None
    await done(engine, lambda conn: executions.end(conn, claim.run, reason, "done"))
