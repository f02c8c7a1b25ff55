"""Which workflows use a Provider by its name, in the versions that run or are about to.

Judged from the definitions themselves: what names the Provider in a step is found in the text first, which is cheap, and only then by
its place in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from keep_operator.store.connection import Connection, Prepared

_USING: Final = Prepared(
    """
    SELECT w.owner_namespace AS namespace, w.owner_name AS name, array_agg(r.number ORDER BY r.number) AS numbers,
        w.active_revision AS active
    FROM keep_operator.workflow w
    JOIN keep_operator.workflow_revision r ON r.workflow_id = w.id AND r.number IN (w.active_revision, w.latest_revision)
    WHERE w.living_tenant_id = %(tenant)s AND w.owner_cluster = %(cluster)s
        AND (%(namespaces)s::text[] IS NULL OR w.owner_namespace = ANY(%(namespaces)s))
        AND (w.owner_namespace, w.owner_name) > (%(namespace)s, %(name)s)
        AND position(%(provider)s IN r.definition::text) > 0
        AND EXISTS (
            SELECT 1 FROM jsonb_path_query(r.definition::jsonb, '$.**.provider.config') AS used
            WHERE jsonb_typeof(used) = 'string' AND used #>> '{}' ~ %(pattern)s
        )
    GROUP BY w.id ORDER BY w.owner_namespace, w.owner_name LIMIT %(most)s
    """,
    {},
)


@dataclass(frozen=True, slots=True)
class Use:
    """A workflow, the numbers of those of its versions that use the Provider, and the one that is active."""

    namespace: str
    name: str
    numbers: tuple[int, ...]
    active: int | None


async def of_provider(
    conn: Connection,
    cluster_id: str,
    tenant_id: str,
    provider: str,
    *,
    namespaces: Sequence[str] | None,
    after: tuple[str, str],
    most: int,
) -> list[Use]:
    """The workflows behind that place, by namespace and name; in all namespaces where None are given."""
    asked = {
        "cluster": cluster_id,
        "tenant": tenant_id,
        "namespaces": None if namespaces is None else list(namespaces),
        "namespace": after[0],
        "name": after[1],
        "provider": provider,
        # As the grammar reads it: bare, or as a template.
        "pattern": rf"^\s*(\{{\{{\s*)?(providers\.)?{re.escape(provider)}(\s*\}}\}})?\s*$",
        "most": most,
    }
    found = await conn.execute(_USING, asked)
    return [Use(row.namespace, row.name, tuple(row.numbers), row.active) for row in found]
