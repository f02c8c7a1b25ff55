"""`keep-operator ledger`: what was done to records, by whom; and whether what is written there is what was done."""

import json
import re
from datetime import UTC

import click

from keep_operator.cli import session
from keep_operator.domain.chain import Breach, Chain, Verification
from keep_operator.resources.kinds import Key
from keep_operator.store import engine as store
from keep_operator.store import ledger, revisions, seals
from keep_operator.store.engine import Engine
from keep_operator.store.ledger import Entry


@click.group("ledger")
def group() -> None:
    """Show the ledger, or verify that nobody has changed it."""


@group.command("verify")
@click.option("--tenant", metavar="ID", help="Only entries of this tenant.")
@click.option(
    "--head",
    "heads",
    metavar="TENANT=HASH",
    multiple=True,
    help="A head that an earlier verify printed and that was kept elsewhere; may be given several times.",
)
def verify(tenant: str | None, heads: tuple[str, ...]) -> None:
    """Read the whole chain of each tenant and name the first fault of each. Changes nothing.

    Reads the contents of all versions too, and compares each with its hash and with what the ledger says of it.
    Prints the head of each chain: kept outside of the database, it proves later that nothing before it was rewritten.
    Exit code 1 where something is wrong.
    """
    noted = [_head(each) for each in heads]
    if strange := [whose for whose, _ in noted if tenant not in (None, whose)]:
        raise click.UsageError(f'--head names tenant "{strange[0]}", which --tenant leaves out.')
    found: list[Verification] = []

    async def work(engine: Engine) -> None:
        async with store.snapshot(engine) as conn:
            verification = await seals.verify(conn, tenant, noted)
            verification.whole(Breach.VERSION_CHANGED, await revisions.changed(conn, tenant))
            found.append(verification)

    session.read(work)
    (verification,) = found
    lines = [_line(tenant_id, chain) for tenant_id, chain in sorted(verification.chains.items())]
    if lines:
        session.table(("TENANT", "ENTRIES", "PENDING", "HEAD", "RESULT"), lines)
    for breach, names in verification.general:
        click.echo(f"BROKEN: {breach}: {names}")
    if not verification.fine:
        click.echo("\nThe ledger is broken: see docs/operations.md, The ledger is broken.")
        raise SystemExit(1)
    click.echo("\nThe ledger is fine." if lines else "The ledger is fine: it has no entries.")


@group.command("show")
@click.option("--tenant", metavar="ID", help="Only entries of this tenant.")
@click.option("--object", "name", metavar="KIND/NAMESPACE/NAME", help="Only entries of this object; Tenant/NAME.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=ledger.PAGE, show_default=True, help="At most so many."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(tenant: str | None, name: str | None, limit: int, output: str) -> None:
    """Show the newest entries, the oldest of them first; in JSON each is as the read API and `kubectl keep` have it."""
    key = None if name is None else _key(name)

    async def work(engine: Engine) -> None:
        async with store.look(engine) as conn:
            found = await ledger.newest(conn, tenant, key, limit=limit)
        match output:
            case "json":
                click.echo(json.dumps([ledger.told(entry) for entry in found], indent=2))
            case _ if not found:
                click.echo("The ledger has no such entry.")
            case _:
                session.table(("ID", "AT", "TENANT", "OBJECT", "ACTION", "ACTOR"), map(_row, found))

    session.read(work)


def _head(given: str) -> tuple[str, str]:
    tenant_id, _, head = given.rpartition("=")
    if not tenant_id or not re.fullmatch("[0-9a-fA-F]{64}", head):
        raise click.UsageError(f'--head "{given}" is not TENANT=HASH, with the 64 digits that verify prints.')
    return tenant_id, head.lower()


def _key(given: str) -> Key:
    match given.split("/"):
        case [kind, namespace, name]:
            return Key(kind, namespace, name)
        case [kind, name]:
            return Key(kind, "", name)
        case _:
            raise click.UsageError(f'--object "{given}" is not KIND/NAMESPACE/NAME or KIND/NAME.')


def _line(tenant_id: str, chain: Chain) -> tuple[str, ...]:
    return tenant_id, str(chain.length), str(chain.waiting), chain.head.hex() or "-", _result(chain)


def _result(chain: Chain) -> str:
    fault = chain.fault
    if fault is None:
        return "fine"
    places = {"position": fault.position, "entry": fault.ledger_id}
    where = ", ".join(f"{what} {number}" for what, number in places.items() if number is not None)
    return f"BROKEN at {where}: {fault.breach}" if where else f"BROKEN: {fault.breach}"


def _row(entry: Entry) -> tuple[str, ...]:
    at = entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(entry.id), at, entry.tenant_id, f"{entry.key.kind}/{entry.key.path}", entry.action, entry.actor
