"""`pin`: the way back for those who want it in Git."""

import click

from keep_operator.plugin import ends, options, output, view
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import Version, View
from keep_operator.resources.kinds import GROUP, WORKFLOWS


@click.command("pin")
@click.argument("workflow", shell_complete=options.workflows)
@click.argument("version", required=False, shell_complete=options.versions)
@click.option("--remove", is_flag=True, help="Take the pin off instead.")
@click.option("--write", is_flag=True, help="Patch the Workflow too. A GitOps tool will undo that: change Git as well.")
@options.output("json", "name", default="yaml")
@options.read_api
@options.cluster
def pin(workflow: str, version: str | None, remove: bool, write: bool, form: str, reach: Reach) -> None:
    """Print the patch for Git that pins WORKFLOW to a version.

    By default to the active one. The pin is by content hash, since numbers differ between clusters; by tag where VERSION
    is given as a tag, and then it moves with the tag. While pinned, the operator refuses to roll back.
    """
    if remove and version is not None:
        raise click.UsageError("Either VERSION or --remove.")
    kubectl = options.kubectl()
    seen = view.read(kubectl, workflow)
    found = None if remove else view.find(kubectl, seen, reach, version or "active")
    chosen = None if found is None else _way(seen, found, version or "active")
    if write:
        # A merge patch leaves what it does not name: the other ways of pinning must go.
        ways = None if chosen is None else dict.fromkeys(("revision", "contentHash", "tag")) | chosen
        kubectl.merge(WORKFLOWS, seen.name, view.release_patch(ways))
        output.echo(f"Workflow {seen.name} is {'not pinned any more' if chosen is None else 'pinned'}.", err=True)
    if form == "name":
        click.echo(f"workflow.{GROUP}/{seen.name}")
        return
    if form == "yaml":
        about = "without a pin" if found is None else f"pinned to {found}"
        output.echo(click.style(f"# {seen.name} {about}; merge this into its manifest", dim=True))
    output.data(view.release_patch(chosen), form)


def _way(seen: View, found: Version, version: str) -> Json:
    if seen.state(found) in ("invalid", "denied", "rejected"):
        raise ends.No(f"{found} is {seen.state(found)}, and would not run when pinned")
    tag = version.removeprefix("tag:")
    if tag in found.tags and view.as_number(version) is None:
        return {"tag": tag}
    return {"contentHash": found.content_hash}
