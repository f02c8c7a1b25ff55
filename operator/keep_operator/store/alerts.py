"""What is known of alerts, and the runs that a posted event starts: written as one, or not at all (A-EVT-1).

::

    listening ──▶ which workflows of the tenant are to be asked, with the revision that is active, and the one that is tried
    known     ──▶ what earlier events of these alerts left
    take      ──▶ the alert's row is locked, compared, written; its runs are asked for in the same transaction

Events of one alert are taken one after the other, whatever replica they are posted to; so of two that are the same the
second is a duplicate. What workflows add to an alert (`enrichments`: ``{key: {"value": …, "disposable": …}}``) stays through its
events; what is disposable until the next one only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from keep_operator.domain import alerting, conditions
from keep_operator.domain.alerting import Maker
from keep_operator.domain.binding import Tried
from keep_operator.domain.events import alert as rules
from keep_operator.domain.events import causes
from keep_operator.domain.events.alert import Alert, Previous
from keep_operator.store import documents
from keep_operator.store.connection import Connection, Prepared, Row

# Rows that one statement removes at most (A-RET-6).
BATCH: Final = 5_000
# A repeated event moves the expiry of its alert when that has come closer than this, so that it is not written each minute.
_RENEWED_BELOW: Final = 0.9

_LISTENING: Final = Prepared(
    """
    SELECT w.id, w.active_revision AS revision, w.owner_namespace AS namespace, w.owner_name AS name, w.external_name,
        k.candidate, k.weight, k.sticky_key, r.content_hash AS candidate_hash
    FROM keep_operator.workflow w
    LEFT JOIN keep_operator.canary k ON k.workflow_id = w.id
    LEFT JOIN keep_operator.workflow_revision r ON r.workflow_id = k.workflow_id AND r.number = k.candidate
    WHERE w.living_tenant_id = %(tenant)s AND w.active_revision IS NOT NULL AND NOT w.suspended ORDER BY w.id
    """,
    {},
)
_DEFINITIONS: Final = Prepared(
    """
    SELECT r.workflow_id, r.number, r.definition FROM keep_operator.workflow_revision r
    JOIN unnest(%(ids)s::uuid[], %(numbers)s::int[]) AS wanted(id, number)
        ON wanted.id = r.workflow_id AND wanted.number = r.number
    """,
    {},
)
_KNOWN: Final = Prepared(
    """
    SELECT fingerprint, first_seen, firing_since, last_event, status, severity, enrichments, expires_at
    FROM keep_operator.alert
    WHERE tenant_id = %(tenant)s AND fingerprint = ANY(%(fingerprints)s::text[]) AND expires_at > %(now)s
    """,
    {},
)
# A row that is not there cannot be locked, so what is locked is the name.
_ALONE: Final = Prepared("SELECT pg_advisory_xact_lock(hashtextextended(%(tenant)s || '/' || %(fingerprint)s, 7))", {})
_LOCKED: Final = Prepared(
    """
    SELECT fingerprint, first_seen, firing_since, last_event, status, severity, enrichments, expires_at
    FROM keep_operator.alert WHERE tenant_id = %(tenant)s AND fingerprint = %(fingerprint)s AND expires_at > %(now)s
    FOR UPDATE
    """,
    {},
)
# An expired row that nobody has removed yet counts as none: its times and enrichments begin anew. Disposable enrichments are
# those of one event.
_PUT: Final = Prepared(
    """
    INSERT INTO keep_operator.alert AS known
        (tenant_id, fingerprint, first_seen, firing_since, last_event, status, severity, enrichments, expires_at)
    VALUES (%(tenant)s, %(fingerprint)s, %(now)s, %(firing_since)s, %(event)s::json, %(status)s, %(severity)s, '{}',
        %(expires_at)s)
    ON CONFLICT (tenant_id, fingerprint) DO UPDATE SET
        first_seen = CASE WHEN known.expires_at > %(now)s THEN known.first_seen ELSE excluded.first_seen END,
        enrichments = CASE WHEN known.expires_at > %(now)s THEN (
                SELECT coalesce(json_object_agg(more.key, more.value), '{}'::json) FROM json_each(known.enrichments) more
                WHERE (more.value ->> 'disposable') IS DISTINCT FROM 'true'
            ) ELSE excluded.enrichments END,
        firing_since = excluded.firing_since, last_event = excluded.last_event, status = excluded.status,
        severity = excluded.severity, expires_at = excluded.expires_at, updated_at = now()
    """,
    {},
)
_RENEW: Final = Prepared(
    """
    UPDATE keep_operator.alert SET expires_at = %(expires_at)s
    WHERE tenant_id = %(tenant)s AND fingerprint = %(fingerprint)s AND expires_at < %(below)s
    """,
    {},
)
# What has not ended is of now, whenever it was last heard of: repetitions are not written.
_HEARD: Final = Prepared(
    """
    SELECT fingerprint, last_event, enrichments FROM keep_operator.alert
    WHERE tenant_id = %(tenant)s AND expires_at > %(now)s AND updated_at <= %(until)s
        AND (updated_at >= %(since)s OR (status <> 'resolved' AND %(until)s >= %(now)s))
    ORDER BY updated_at DESC, fingerprint LIMIT %(most)s
    """,
    {},
)
_MADE: Final = Prepared(
    f"""
    SELECT fingerprint, first_seen, firing_since, last_event, status, severity, enrichments, expires_at
    FROM keep_operator.alert
    WHERE tenant_id = %(tenant)s AND expires_at > %(now)s AND status <> 'resolved'
        AND last_event ->> '{alerting.WORKFLOW}' = %(workflow)s AND last_event ->> '{alerting.ACTION}' = %(action)s
    ORDER BY fingerprint LIMIT %(most)s
    """,  # noqa: S608 - constants
    {},
)
_EXPIRED: Final = Prepared("SELECT EXISTS (SELECT 1 FROM keep_operator.alert WHERE expires_at <= %(now)s)", {})
_EXPIRE: Final = Prepared(
    """
    DELETE FROM keep_operator.alert WHERE (tenant_id, fingerprint) IN (
        SELECT tenant_id, fingerprint FROM keep_operator.alert WHERE expires_at <= %(now)s
        ORDER BY expires_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    """,
    {},
)


@dataclass(frozen=True, slots=True)
class Listener:
    """A workflow that events may start, and the revision whose triggers say so.

    That is the active one; while a canary is under way ``tried`` tells of the other, which is asked about its share.
    """

    id: UUID
    revision: int
    namespace: str
    name: str
    tried: Tried | None = None

    def __str__(self) -> str:
        return f"Workflow {self.namespace}/{self.name} v{self.revision}"


async def listening(conn: Connection, tenant_id: str) -> list[Listener]:
    """The tenant's workflows that are neither suspended nor without an active revision."""
    return [
        Listener(
            row.id,
            row.revision,
            row.namespace or "",
            row.name or row.external_name,
            None if row.candidate is None else Tried(row.candidate, row.candidate_hash, row.weight, row.sticky_key),
        )
        for row in await conn.execute(_LISTENING, {"tenant": tenant_id})
    ]


async def definitions(
    conn: Connection, wanted: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Mapping[str, Any]]:
    """The definitions of these revisions, which never change."""
    given = {"ids": [each for each, _ in wanted], "numbers": [number for _, number in wanted]}
    return {(row.workflow_id, row.number): row.definition for row in await conn.execute(_DEFINITIONS, given)}


async def known(conn: Connection, tenant_id: str, fingerprints: Sequence[str], now: datetime) -> dict[str, Previous]:
    """What earlier events left, by fingerprint; expired rows count as none (A-EVT-3)."""
    given = {"tenant": tenant_id, "fingerprints": list(fingerprints), "now": now}
    return {row.fingerprint: _previous(row) for row in await conn.execute(_KNOWN, given)}


async def locked(conn: Connection, tenant_id: str, fingerprint: str, now: datetime) -> Previous | None:
    """The same for one alert, of which nobody else takes an event until the transaction ends."""
    given = {"tenant": tenant_id, "fingerprint": fingerprint, "now": now}
    await conn.execute(_ALONE, given)
    row = (await conn.execute(_LOCKED, given)).one_or_none()
    return None if row is None else _previous(row)


async def heard(
    conn: Connection, tenant_id: str, since: datetime, until: datetime, now: datetime, most: int
) -> list[dict[str, Any]]:
    """The tenant's alerts of that time, the newest first, as workflows see them: the last event, and what was added to it.

    An alert that has not ended is of now too. ``enrichments``, ``alert_fingerprint`` and ``alert_enrichment`` are where Keep's own
    workflows look for them.
    """
    given = {"tenant": tenant_id, "since": since, "until": until, "now": now, "most": most}
    return [_seen(row) for row in await conn.execute(_HEARD, given)]


async def made(conn: Connection, tenant_id: str, maker: Maker, now: datetime, most: int) -> dict[str, Previous]:
    """The alerts that this action has made and that have not ended, by fingerprint."""
    given = {"tenant": tenant_id, "workflow": maker.workflow_id, "action": maker.action, "now": now, "most": most}
    return {row.fingerprint: _previous(row) for row in await conn.execute(_MADE, given)}


async def put(conn: Connection, tenant_id: str, alert: Alert, now: datetime, keep_for: timedelta) -> None:
    """Note the alert's newest event, as `Alert.after` made it; the row must be locked. Waiting where there is no tenant."""
    firing = alert.fields["firingStartTime"]
    await conn.execute(
        _PUT,
        {
            "tenant": tenant_id,
            "fingerprint": alert.fingerprint,
            "now": now,
            "firing_since": None if firing is None else datetime.fromisoformat(firing),
            "event": documents.text(dict(alert.fields)),
            "status": str(alert.status),
            "severity": str(alert.severity),
            "expires_at": now + keep_for,
        },
    )


async def renew(conn: Connection, tenant_id: str, fingerprint: str, now: datetime, keep_for: timedelta) -> None:
    """Keep an alert that repeats itself; nothing is written while it has long enough to live."""
    given = {"expires_at": now + keep_for, "below": now + keep_for * _RENEWED_BELOW}
    await conn.execute(_RENEW, {"tenant": tenant_id, "fingerprint": fingerprint, **given})


async def expired(conn: Connection, now: datetime) -> bool:
    """Whether there are alerts whose time is over."""
    return bool(await conn.scalar(_EXPIRED, {"now": now}))


async def expire(conn: Connection, now: datetime, most: int = BATCH) -> int:
    """Remove alerts that have expired; how many. Repeat while it is ``most``. Rows in use are left for the next time."""
    return (await conn.execute(_EXPIRE, {"now": now, "most": most})).rowcount


def _previous(row: Row) -> Previous:
    return Previous(
        event=row.last_event,
        status=row.status,
        severity=row.severity or "",
        digest=rules.digest_of(row.last_event),
        first_seen=conditions.to_milliseconds(row.first_seen),
        enrichments=_kept(row.enrichments),
    )


def _seen(row: Row) -> dict[str, Any]:
    added = {key: each.get("value") for key, each in row.enrichments.items() if isinstance(each, dict)}
    event = {key: value for key, value in row.last_event.items() if key != causes.FIELD}
    told = {"alert_fingerprint": row.fingerprint, "enrichments": added}
    named = sorted({*(event.get("enriched_fields") or ()), *added})
    return {**event, **added, "enriched_fields": named, **told, "alert_enrichment": told}


def _kept(enrichments: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those that an event leaves."""
    told = {key: each for key, each in enrichments.items() if isinstance(each, dict) and not each.get("disposable")}
    return {key: each.get("value") for key, each in told.items()}
