"""P-7: what a page of the past costs, of a workflow that has had a thousand versions, each of them active once.

Read from the database as `store.history` does, and by a client of the read API, who has to be known and allowed each time.
"""

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import aiohttp
import sqlalchemy as sa

from bench.api import Api, Json
from bench.harness import NAMESPACE, Stage
from keep_operator.store import engine as database
from keep_operator.store import history
from keep_operator.store.engine import Engine
from keep_operator.store.history import Page

VERSIONS: Final = 1_000
# What a page shows: all that one may, and what is shown if nobody says.
LIMIT: Final = history.LIMIT
# Times that the whole past is read, page by page.
ROUNDS: Final = 40

NAME: Final = "of-many-versions"
LINEAGE: Final = UUID(int=1)
VIEWER: Final = "viewer"

Look = Callable[[str | None], Awaitable[tuple[int, str | None]]]
"""Reads the page behind a place: how many items, and the next place."""

KINDS: Final[dict[str, tuple[Callable[..., Awaitable[Page[Any]]], str]]] = {
    "versions": (history.revisions, "revisions?"),
    "deployments": (history.deployments, "history?only=deployments&"),
    "timeline": (history.timeline, "history?"),
}

# As the operator would have made them, at once.
_PAST: Final = """
WITH lineage AS (
    INSERT INTO keep_operator.workflow
        (id, tenant_id, external_name, deletion_policy, suspended, settings, latest_revision, checksum, deleted_at,
         owner_cluster, owner_namespace, owner_name, owner_uid)
    SELECT :lineage, id, :name, 'Orphan', true, '{}', :versions, '', now(), cluster_id, :namespace, :name, ''
    FROM keep_operator.tenant, keep_operator.installation LIMIT 1
    RETURNING id, tenant_id
), made AS (
    INSERT INTO keep_operator.workflow_revision
        (workflow_id, number, content_hash, hash_version, definition, change_note, author_username, author_source,
         created_from_generation)
    SELECT id, n, encode(sha256(n::text::bytea), 'hex'), 1, CAST(:definition AS json), 'consts.limit changed', 'ann',
        'Annotation', n
    FROM lineage, generate_series(1, :versions) n
    RETURNING workflow_id, number
), state AS (
    INSERT INTO keep_operator.revision_state (workflow_id, number, first_active_at, last_active_at)
    SELECT workflow_id, number, now(), now() FROM made
), deployed AS (
    INSERT INTO keep_operator.deployment (workflow_id, revision, from_revision, cause, actor, reason)
    SELECT workflow_id, number, nullif(number - 1, 0), 'AllAtOnce', 'ann', '' FROM made ORDER BY number
)
INSERT INTO keep_operator.ledger (tenant_id, kind, namespace, name, uid, action, actor, details)
SELECT tenant_id, 'Workflow', :namespace, :name, '', 'Deployed', 'ann', json_build_object('id', id, 'to', number)
FROM made, lineage ORDER BY number
"""


async def measure(stage: Stage, url: str, definition: str) -> Json:
    """Each kind of page, read from the first to the last again and again, by one reader."""
    token = await _token(stage.api)
    engine = database.connect(url, application_name="keep-operator bench", pool_size=1)
    try:
        async with database.transaction(engine) as conn:
            given = {"lineage": LINEAGE, "versions": VERSIONS, "definition": definition}
            where = {"namespace": NAMESPACE, "name": NAME}
            await conn.execute(sa.text(_PAST).bindparams(sa.bindparam("lineage", type_=sa.Uuid)), given | where)
        in_store = {what: await _walks(_in_store(engine, read)) for what, (read, _) in KINDS.items()}
    finally:
        await engine.dispose()
    async with (
        stage.console(url) as served,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
    ):
        by_api = {what: await _walks(_by_api(session, f"{served}/api/v1/{path}")) for what, (_, path) in KINDS.items()}
    return {"versions": VERSIONS, "page": LIMIT, "store": in_store, "read_api": by_api}


def _in_store(engine: Engine, read: Callable[..., Awaitable[Page[Any]]]) -> Look:
    async def look(after: str | None) -> tuple[int, str | None]:
        async with database.look(engine) as conn:
            page = await read(conn, LINEAGE, after=after, limit=LIMIT)
        return len(page.items), page.after

    return look


def _by_api(session: aiohttp.ClientSession, path: str) -> Look:
    asked = f"{path}namespace={NAMESPACE}&workflow={NAME}&workflowId={LINEAGE}&limit={LIMIT}"

    async def look(after: str | None) -> tuple[int, str | None]:
        async with session.get(asked if after is None else f"{asked}&after={after}") as answer:
            page = await answer.json(content_type=None)
            if answer.status != 200:
                raise RuntimeError(f"{asked}: {page}")
        return len(page["items"]), page["after"]

    return look


async def _walks(look: Look) -> Json:
    times: list[float] = []
    for _ in range(ROUNDS):
        after, seen = None, 0
        while True:
            began = time.perf_counter()
            items, after = await look(after)
            times.append((time.perf_counter() - began) * 1000)
            seen += items
            if after is None:
                break
        assert seen == VERSIONS
    return {"pages": len(times), **spread(times)}


async def _token(api: Api) -> str:
    """Proves an account that may read everything here."""
    account = {"metadata": {"name": VIEWER}}
    await api.send("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account, may=(409,))
    bound = {
        **account,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": VIEWER, "namespace": NAMESPACE}],
    }
    await api.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", bound, may=(409,))
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{VIEWER}/token"
    return str((await api.send("POST", path, request))["status"]["token"])


def spread(times: list[float]) -> dict[str, float]:
    """The middle, and what one in twenty, one in a hundred and none is above, in the unit given."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "p50": round(statistics.median(times), 2),
        "p95": round(cuts[94], 2),
        "p99": round(cuts[98], 2),
        "max": round(max(times), 2),
    }
