"""The end of a story as a value: two runs that ended alike have the same, whatever uids, times and versions came out.

::

    objects   spec, metadata, status ─┐                        uid   ──► <Provider default/vm 1>, the first of that name
    rows      of all records          ├──► without chance ──►  id    ──► <id 1>, in order of appearance
    ledger    by object, in order     │                        times and versions ──► left out
    Events    which ones, once each  ─┘
"""

import difflib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from component.apiserver.state import State
from component.rig.rig import Rig
from keep_operator.domain.tenant import Token
from keep_operator.resources.kinds import EVENTS, OURS, SECRETS
from keep_operator.settings import Settings
from keep_operator.store import engine as database
from keep_operator.store import lineages, providers, seals, tenants, tokens
from keep_operator.store.tables import INSTALLATION, LEDGER, LEDGER_PENDING, LEDGER_SEAL, METADATA, SCHEMA_VERSION
from keep_operator.store.vault import Sealed, Vault
from manifests import Json

_CHANCE: Final = {
    *("resourceVersion", "creationTimestamp", "deletionTimestamp", "lastTransitionTime"),
    *("at", "since", "handledAt", "firstActiveAt", "lastActiveAt", "archivedAt"),
    *("at", "since", "created_at", "updated_at", "first_active_at", "last_active_at", "archived_at", "deleted_at"),
    *("queuedAt", "startedAt", "completedAt", "duration", "queued_at", "started_at", "completed_at", "expires_at"),
    *("stepStartedAt", "step_since", "began", "measured_since", "paused_since", "watched_until"),
    *("checksum", "ledgerId", "ledger_id"),
}
TOKEN: Final = "token-of-the-machine"
"""What the machines of the stories send."""
_MAY_BE_NULL: Final = (
    "first_active_at",
    "last_active_at",
    "archived_at",
    "deleted_at",
    "completed_at",
    "watched_until",
)
"""Times of which it matters whether they are there."""
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RECORDS: Final = [
    table.name
    for table in METADATA.sorted_tables
    if table not in (INSTALLATION, LEDGER, LEDGER_PENDING, LEDGER_SEAL, SCHEMA_VERSION)
]


async def read(rig: Rig, vault: Vault) -> Json:
    """The world as it is. Fails where a record is not whole, or the ledger's chain is not.

    Why ``Synced`` is True is what the process that says so did last, which a successor cannot know: it is left out.
    """
    await _check(rig)
    state = rig.server.state
    tables = rig.database.tables(*_RECORDS, LEDGER.name)
    rows = {table: [_opened(row, vault) for row in _ordered(tables[table])] for table in _RECORDS}
    objects = {
        f"{obj['kind']} {_path(obj)}": _settled(_with_secret_versions(obj, state))
        for resource in OURS
        for obj in state.all(resource).values()
    }
    ledger: dict[str, list[Json]] = defaultdict(list)
    for entry in sorted(tables[LEDGER.name], key=itemgetter("id")):
        whose = f"{entry['kind']} {entry['namespace']}/{entry['name']} {entry['uid']}"
        ledger[whose].append({"action": entry["action"], "actor": entry["actor"], "details": entry["details"]})
    found = {"objects": objects, "rows": rows, "ledger": dict(sorted(ledger.items()))}
    whole: Json = _Names(state).clean(found)
    return whole | {"events": sorted(rig.user.events())}


def difference(one: Json, other: Json) -> str:
    """How the other world differs, line by line; empty where it does not.

    It may have fewer Events: they are told after the status that they tell of, and are lost if the process dies in between.
    """
    other = other | {"events": sorted((Counter(one["events"]) | Counter(other["events"])).elements())}
    before, after = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (one, other))
    return "\n".join(difflib.unified_diff(before, after, lineterm=""))


def _ordered(found: list[Json]) -> list[Json]:
    found.sort(key=lambda row: [f"{row.get(column)!s:>9}" for column in _ORDER])
    return [_without_count(row) for row in found]


_ORDER: Final = ("tenant_id", "external_name", "number", "tag", "request_id", "actor", "item", "id")


def _without_count(row: Json) -> Json:
    """The row without a number that only counts attempts; and whether there is what time alone would tell."""
    kept = {name: value for name, value in row.items() if name != "id" or not isinstance(value, int)}
    return kept | {f"has {name}": row[name] is not None for name in _MAY_BE_NULL if name in row}


def _opened(row: Json, vault: Vault) -> Json:
    """The row with what its credentials are, which look different each time they are sealed, or its token."""
    if "salt" in row:
        known = Token(row["name"], bytes(row["salt"]), bytes(row["digest"]))
        return row | {"salt": None, "digest": tokens.fits(known, TOKEN)}
    if row.get("credentials") is None:
        return row
    return row | {"credentials": vault.open(row["id"], Sealed(row["key_name"], row["credentials"]))}


def _with_secret_versions(obj: Json, state: State) -> Json:
    """The object with the word for versions of Secrets: whether they are those of now."""
    versions = (obj.get("status") or {}).get("secretVersions")
    if not versions:
        return obj
    now = {
        name.name: secret["metadata"]["resourceVersion"]
        for name, secret in state.all(SECRETS).items()
        if name.namespace == obj["metadata"]["namespace"]
    }
    told = [
        f"{each['name']}: {'now' if now.get(each['name']) == each['resourceVersion'] else 'old'}" for each in versions
    ]
    return obj | {"status": obj["status"] | {"secretVersions": told}}


def _settled(obj: Json) -> Json:
    status = obj.get("status") or {}
    told = [
        {name: value for name, value in each.items() if name != "reason"}
        if (each["type"], each["status"]) == ("Synced", "True")
        else each
        for each in status.get("conditions", ())
    ]
    return obj | {"status": status | {"conditions": told}}


def _path(obj: Json) -> str:
    metadata = obj["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


class _Names:
    """Gives uids and ids names that are the same in each run."""

    def __init__(self, state: State) -> None:
        self._names: dict[str, str] = {}
        of_a_name: Counter[str] = Counter()
        for happening in state.log:
            if happening.type == "ADDED" and happening.resource != EVENTS:
                path = f"{happening.resource.kind} {_path(happening.object)}"
                of_a_name[path] += 1
                self._names[happening.object["metadata"]["uid"]] = f"<{path} {of_a_name[path]}>"
        self._ids = 0

    def clean(self, value: Any) -> Any:
        match value:
            case Mapping():
                return {self.clean(key): self.clean(each) for key, each in value.items() if key not in _CHANCE}
            case str():
                return _UUID.sub(self._name, value)
            case Iterable():
                return [self.clean(each) for each in value]
            case None | bool() | int() | float():
                return value
        return self.clean(str(value))

    def _name(self, found: re.Match[str]) -> str:
        uuid = found.group()
        if uuid not in self._names:
            self._ids += 1
            self._names[uuid] = f"<id {self._ids}>"
        return self._names[uuid]


async def _check(rig: Rig) -> None:
    """Every record is as the operator wrote it, every entry of the ledger has its seal."""
    engine = database.connect(await rig.doors.open("the test"), application_name="test", pool_size=1)
    try:
        async with database.look(engine) as conn:
            assert all(record.intact for record in await providers.everything(conn))
            assert all(record.intact for record in await tenants.everything(conn))
            assert all(lineage.intact for lineage in await lineages.everything(conn))
        async with database.snapshot(engine) as conn:
            verification = await seals.verify(conn, None, [])
        assert verification.fine, verification
        assert not any(chain.waiting for chain in verification.chains.values()), verification
    finally:
        await engine.dispose()


def vault(key: str) -> Vault:
    """What opens the credentials of an operator with this key."""
    return Vault(Settings(database_url="postgresql://nobody@nowhere/", encryption_key=key).encryption_key)
