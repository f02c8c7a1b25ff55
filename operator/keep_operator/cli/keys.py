"""`keep-operator keys`: which key credentials are sealed with, how one key follows another, and how a lost one is given up.

::

    new key first, old one below; operator restarted ──► keys rotate ──► old key taken out; operator restarted
    old key lost                                     ──► keys replace ──► the operator seals anew from the Secrets
"""

from collections import Counter
from collections.abc import Awaitable, Callable

import click

from keep_operator import settings
from keep_operator.cli import session
from keep_operator.errors import Conflict, Refused
from keep_operator.store import engine as store
from keep_operator.store import installation, providers
from keep_operator.store.engine import Engine
from keep_operator.store.vault import Sealed, Vault

Work = Callable[[Engine, Vault], Awaitable[None]]


@click.group("keys")
def group() -> None:
    """Show, rotate or replace the key that credentials are sealed with. Keys are told by their names, never shown."""


@group.command("show")
def show() -> None:
    """Show which keys are given, which one the database is sealed with, and how many records each of them seals."""

    async def work(engine: Engine, vault: Vault) -> None:
        async with store.look(engine) as conn:
            stored = await installation.stored_key_name(conn)
            sealed = Counter(row.key_name for row in await providers.everything(conn) if row.key_name)
        for name in dict.fromkeys([*vault.names, *([stored] if stored else []), *sealed]):
            roles = [
                *(["seals"] if name == vault.name else ["opens"] if name in vault.names else ["NOT GIVEN"]),
                *(["the database's key"] if name == stored else []),
            ]
            count = sealed[name]
            click.echo(f"{name}   {count} {'record' if count == 1 else 'records'}   {', '.join(roles)}")
        if stored is None:
            click.echo("The database is not sealed with any key yet.")

    _run(work)


@group.command("rotate")
def rotate() -> None:
    """Seal all credentials with the first of the given keys, so that the others can be taken out.

    Safe to repeat and to interrupt. Exit code 1 where some do not open with any of the keys.
    """

    async def work(engine: Engine, vault: Vault) -> None:
        async with store.look(engine) as conn:
            stored = await installation.stored_key_name(conn)
            found = [row for row in await providers.everything(conn) if row.key_name not in (None, vault.name)]
        if not vault.trust(stored):
            raise Refused(
                "EncryptionKeyMismatch",
                f"the database is sealed with key {stored}, which is not given. Add it below the new one; if it is lost: "
                "keep-operator keys replace",
            )
        shut = 0
        for row in found:
            assert row.sealed is not None and row.key_name is not None
            opened = vault.open(row.id, Sealed(row.key_name, row.sealed))
            if opened is None:
                shut += 1
                click.echo(f"{row.tenant_id}/{row.external_name}: does not open with any of the keys", err=True)
                continue
            sealed = vault.seal(row.id, opened)
            async with store.transaction(engine) as conn:
                await providers.reseal(conn, row, sealed, actor=session.ACTOR)
        if shut:
            raise Refused(
                "EncryptionKeyMismatch",
                f"{shut} of {len(found)} records do not open. The operator seals them anew from their Secrets when it next "
                "looks at them; then run this again",
            )
        await _say_sealed_with(engine, stored, vault)
        click.echo(f"{len(found)} sealed anew. All credentials open with key {vault.name}; take the others out.")

    _run(work)


@group.command("replace")
@click.option("--yes", is_flag=True, help="Do it. Without it this only says what would be done.")
def replace(yes: bool) -> None:
    """Give up a lost key: the operator seals all credentials anew with the first given key, from the Secrets.

    What is sealed with the lost key stays in its record until the Secrets have been read.
    """

    async def work(engine: Engine, vault: Vault) -> None:
        async with store.look(engine) as conn:
            stored = await installation.stored_key_name(conn)
            sealed = Counter(row.key_name in vault.names for row in await providers.everything(conn) if row.key_name)
        if vault.trust(stored):
            click.echo(
                f"Key {stored or vault.name} is given: nothing to replace. To change keys: keep-operator keys rotate"
            )
            return
        click.echo(f"The database is sealed with key {stored}, which is not given; {sealed[False]} records need it.")
        if not yes:
            click.echo(f"Key {vault.name} would take its place. Nothing was done: say --yes to do it.")
            return
        await _say_sealed_with(engine, stored, vault)
        click.echo(f"Key {vault.name} took its place. The operator seals each record anew from its Secrets.")

    _run(work)


async def _say_sealed_with(engine: Engine, before: str | None, vault: Vault) -> None:
    if before == vault.name:
        return
    try:
        async with store.transaction(engine) as conn:
            await installation.replace_key_name(conn, before, vault.name)
    except Conflict as conflict:
        raise Refused(conflict.reason, conflict.message) from None


def _run(work: Work) -> None:
    async def run() -> None:
        given = settings.load(operate=True)
        async with session.opened(given) as (engine, _):
            await work(engine, Vault(given.encryption_key))

    session.finish(run())
