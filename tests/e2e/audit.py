"""What an auditor finds wrong when objects, rows and ledger are laid beside a plan and beside each other: pure, no I/O."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from e2e.cluster import Json, Thing
from e2e.plan import Lineage, State


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything at one moment, at rest. ``password`` opens the credentials of a row."""

    things: Sequence[Thing]
    secrets: Mapping[str, Thing]
    rows: Sequence[Json]
    entries: Sequence[Json]
    password: Callable[[Json], str | None]


def faults(lineages: Sequence[Lineage], seen: Seen) -> list[str]:
    """One line for each thing that is not as planned; none where all is well."""
    last = [lineage.last for lineage in lineages]
    return [*_of_objects(last, seen), *_of_rows(last, seen), *_of_ids(last, seen), *_of_ledger(seen)]


def _of_objects(last: Sequence[State], seen: Seen) -> Iterator[str]:
    there = {thing.raw["metadata"]["name"]: thing for thing in seen.things}
    wanted = {state.object: state for state in last if state.alive}
    yield from (f"{name}: is not there" for name in wanted.keys() - there.keys())
    yield from (f"{name}: is still there" for name in there.keys() - wanted.keys())
    rows = {row["owner_uid"]: row for row in seen.rows}
    for name in wanted.keys() & there.keys():
        thing, status = there[name], there[name].status
        row = rows.get(thing.uid)
        if row is None or not thing.ready:
            yield f"{name}: row {row}, Ready {thing.condition('Ready')}"
            continue
        told = tuple(status.get(field) for field in ("providerId", "externalName", "tenantId", "configHash"))
        held = (str(row["id"]), row["external_name"], row["tenant_id"], row["config_hash"])
        if told != held:
            yield f"{name}: its status says {told}, its row {held}"
        versions = {entry["name"]: entry["resourceVersion"] for entry in status.get("secretVersions", ())}
        state = wanted[name]
        used = {} if state.password is None else {state.secret: seen.secrets[state.secret].version}
        if versions != used:
            yield f"{name}: it used the Secrets {versions}, which are {used}"


def _of_rows(last: Sequence[State], seen: Seen) -> Iterator[str]:
    """A row that nobody asked for, an orphan, is as wrong as one that lacks; the database itself forbids doubles."""
    wanted = {
        (state.tenant, state.name): (
            state.object if state.alive else None,
            state.url,
            state.policy,
            None if state.password is None else f"password-{state.password}",
        )
        for state in last
        if state.alive or state.orphaned
    }
    there = {
        (row["tenant_id"], row["external_name"]): (
            row["owner_name"],
            row["config"]["VMBackendURL"],
            row["deletion_policy"],
            seen.password(row),
        )
        for row in seen.rows
    }
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            yield f"row {name}: is {there.get(name)}, should be {wanted.get(name)}"


def _of_ids(last: Sequence[State], seen: Seen) -> Iterator[str]:
    """No rename gives a record another id: a lineage has as many ids as it has been given records, at most."""
    ids: dict[str, set[str]] = defaultdict(set)
    for entry in seen.entries:
        ids[entry["name"].partition("-")[0]].add(entry["details"]["id"])
    for state in last:
        had = ids[state.object.partition("-")[0]]
        if not int(state.alive or state.orphaned) <= len(had) <= state.records:
            yield f"{state.object}: it had the ids {sorted(had)}, {state.records} at most were to be"


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    owner: str | None


def _of_ledger(seen: Seen) -> Iterator[str]:
    """Each transition stands there once: replayed, the ledger leads to the rows as they are."""
    records: dict[str, _Record] = {}
    for entry in seen.entries:
        details, action = entry["details"], entry["action"]
        identity, record = details["id"], records.get(details["id"])
        match action:
            case "Created" if record is None:
                records[identity] = _Record(details["externalName"], entry["uid"])
            case "Updated" if record is not None and record.owner == entry["uid"]:
                pass
            case "Renamed" if record == _Record(details["from"], entry["uid"]) and details["from"] != details["to"]:
                records[identity] = _Record(details["to"], entry["uid"])
            case "HandedOver" | "Reattached" if record is not None and record.owner not in (None, entry["uid"]):
                records[identity] = replace(record, owner=entry["uid"])
            case "Orphaned" if record is not None and record.owner == entry["uid"]:
                records[identity] = replace(record, owner=None)
            case "Deleted" if record is not None and record.owner == entry["uid"]:
                del records[identity]
            case _:
                yield f"ledger entry {entry['id']}: {action} of {entry['name']} {details} does not follow from {record}"
    rows = {str(row["id"]): _Record(row["external_name"], row["owner_uid"]) for row in seen.rows}
    for identity in sorted(records.keys() | rows.keys()):
        if records.get(identity) != rows.get(identity):
            yield f"record {identity}: the ledger leads to {records.get(identity)}, the row is {rows.get(identity)}"
