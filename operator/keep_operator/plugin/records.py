"""`ledger` and `retention`: what was ever done to a workflow, and which of its versions will be archived; from the read API."""

import click

from keep_operator.plugin import options, output
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.reach import Reach


@click.command("ledger")
@click.argument("workflow", required=False, shell_complete=options.workflows)
@click.option("--tenant", metavar="ID", help="Everything of a tenant, instead of a workflow.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="At most so many entries.",
)
@click.option("--workflow-id", metavar="UUID", help="The status.workflowId of one that was deleted under this name.")
@options.output("json", "yaml")
@options.read_api
@options.cluster
def ledger(
    workflow: str | None, tenant: str | None, limit: int, workflow_id: str | None, form: str, reach: Reach
) -> None:
    """Show everything that was ever done to WORKFLOW.

    Versions, deployments, decisions, tags, notes; the newest first. Entries are kept for ever and chained:
    `keep-operator ledger verify` proves that nobody has changed them.
    """
    if (workflow is None) == (tenant is None):
        raise click.UsageError("Name either WORKFLOW or --tenant.")
    from keep_operator.plugin import read_api  # noqa: PLC0415 - its means take a moment to load

    kubectl = options.kubectl()
    with read_api.opened(kubectl, reach) as api:
        if tenant is not None:
            entries = list(api.items("ledger", limit, tenant=tenant))
        else:
            where = {"namespace": kubectl.namespace(), "workflow": workflow, "workflowId": workflow_id}
            entries = list(api.items("history", limit, **where))
    if form != "table":
        output.data(entries, form)
    elif not entries:
        output.echo("The ledger has no such entry.")
    else:
        output.table(("AT (UTC)", "ACTION", "BY", "WHAT"), [_row(each, of_many=workflow is None) for each in entries])


@click.command("retention")
@click.argument("workflow", shell_complete=options.workflows)
@click.option("--dry-run", is_flag=True, required=True, help="The one way to call it: the operator archives by itself.")
@options.output("json", "yaml")
@options.read_api
@options.cluster
def retention(workflow: str, dry_run: bool, form: str, reach: Reach) -> None:
    """Show which versions would be archived now, and why others stay."""
    from keep_operator.plugin import read_api  # noqa: PLC0415

    if not dry_run:
        raise click.UsageError("Only with --dry-run: the operator archives by itself.")
    kubectl = options.kubectl()
    with read_api.opened(kubectl, reach) as api:
        told = api.get("retention", namespace=kubectl.namespace(), workflow=workflow)
    if form != "table":
        output.data(told, form)
        return
    rows = [(f"v{number}", "goes", "") for number in told["archive"]]
    rows += [(f"v{each['number']}", "stays", _why(each)) for each in told["kept"]]
    output.table(("VERSION", "WOULD", "WHY"), rows)


def _why(kept: Json) -> str:
    until = kept.get("until")
    return f"{kept['why']}, until {output.moment(until)} UTC" if until else str(kept["why"])


def _row(entry: Json, *, of_many: bool) -> tuple[str, ...]:
    what = _what(entry["details"])
    if of_many or not what:
        place = f"{entry['namespace']}/" if entry["namespace"] else ""
        what = ": ".join(filter(None, (f"{entry['kind']} {place}{entry['name']}", what)))
    return output.moment(entry["at"]), entry["action"], output.who(entry["actor"]), what


def _what(details: Json) -> str:
    """What the deed was about, and the words that people left; other details are in the data."""
    numbers = [details.get(name) for name in ("from", "to", "number", "target")]
    versions = dict.fromkeys(f"v{each}" for each in numbers if isinstance(each, int))
    outcome = details.get("outcome") or ""
    words = [
        " ".join(filter(None, (details.get("action"), outcome))),
        " -> ".join(versions),
        f"tag {details['tag']}" if details.get("tag") else "",
        details.get("cause") or "",
    ]
    told = ", ".join(filter(None, words))
    said = (details.get("reason"), details.get("changeNote"), details.get("message"))
    # Of what was not carried out, why not matters more than why it was asked for.
    why = next(filter(None, said if outcome in ("", "Done") else reversed(said)), "")
    return ": ".join(filter(None, (told, why)))
