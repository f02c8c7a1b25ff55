"""`plan`: what would become of the Workflows in files, before they are applied; for people, machines, and pull requests."""

import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import click

from keep_operator.plugin import ends, files, options, output
from keep_operator.plugin.kubectl import Json
from keep_operator.plugin.reach import Reach

# Codes that nothing else has: a pipeline must not take a server that is away, which is 3, for a gate that is shut.
_EXIT: Final = {"Unchanged": 0, "Changes": 10, "Held": 11}


@click.command("plan")
@click.option(
    "-f",
    "--filename",
    "paths",
    metavar="FILE|DIR",
    multiple=True,
    required=True,
    type=click.Path(exists=True, allow_dash=True),
    help="Manifests; - is the standard input. May be given several times.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into folders of folders too.")
@click.option(
    "--exit-code",
    "tells",
    is_flag=True,
    help="End with 10 if something would change, and with 11 if a gate would hold it.",
)
@click.option(
    "--default-tenant",
    envvar="KEEP_OPERATOR_DEFAULT_TENANT",
    metavar="ID",
    default="keep",
    show_default=True,
    help="The operator's setting of that name, for Workflows without spec.tenantRef.",
)
@options.output("json", "yaml", "markdown", default="text")
@options.read_api
@options.cluster
def plan(paths: tuple[str, ...], *, recursive: bool, tells: bool, default_tenant: str, form: str, reach: Reach) -> None:
    """Show what would happen if files were applied.

    For each Workflow: the version that would be made, what it changes, every gate that would hold it, and how it would take
    over. Nothing is written. The API server is asked what it would store, as `kubectl diff` asks it; without the right to
    write, the file is taken as it is, and the plan says so.

    \b
    kubectl keep plan -f flows/                      what merging this folder would do
    kubectl keep plan -f flows/ -o markdown          the same as a comment for a pull request
    kubectl keep plan -f flows/ --exit-code          for pipelines: 0, 10 or 11
    kustomize build . | kubectl keep plan -f -       of what a tool renders

    Ends with 1 if a definition or a file has faults.
    """
    told = _planned(paths, reach, default_tenant, recursive=recursive)
    match form:
        case "text":
            from keep_operator.plugin import plan_text  # noqa: PLC0415

            plan_text.show(told)
        case "markdown":
            from keep_operator.plugin import plan_markdown  # noqa: PLC0415

            output.document(plan_markdown.page(told))
        case _:
            output.data(told, form)
    if told["outcome"] == "Faulty":
        sys.exit(ends.No.exit_code)
    sys.exit(_EXIT[told["outcome"]] if tells else 0)


def _planned(paths: tuple[str, ...], reach: Reach, default_tenant: str, *, recursive: bool) -> Json:
    """The whole plan, as `-o json` prints it."""
    # The rules take a moment to load.
    from keep_operator.domain import forecast, rehearsal  # noqa: PLC0415
    from keep_operator.plugin import manifests, prospect  # noqa: PLC0415

    kubectl, now = options.kubectl(), datetime.now(UTC)
    found, faults = manifests.read(files.texts(paths, recursive=recursive))
    told_namespace, here = options.namespace(), kubectl.namespace() if found else ""
    seen: set[tuple[str, str]] = set()
    planned: list[manifests.Manifest] = []
    for each in found:
        if not prospect.is_workflow(each):
            continue
        key = (each.namespace or here, each.name)
        if told_namespace is not None and each.namespace not in (None, told_namespace):
            why = f"Workflow {each.name} names namespace {each.namespace}, and -n says {told_namespace}"
            faults.append(manifests.Fault(each.source, why))
        elif key in seen:
            faults.append(manifests.Fault(each.source, f"Workflow {each.name} stands in these files twice"))
        else:
            planned.append(each)
        seen.add(key)
    with closing(prospect.Surroundings(kubectl, here, reach, default_tenant, found, now)) as around:
        prospects = around.prospects([*planned, *around.concerned()]) if found else []
    workflows = []
    for about in prospects:
        manifest = about.manifest
        outcome = rehearsal.rehearse(about.seen, about.contents, now)
        told = forecast.told(outcome, about.live, about.contents, manifest.line, about.changed)
        if about.refused is not None and not told["faults"]:
            told["faults"].append({"reason": "Refused", "path": "", "message": about.refused})
            told["outcome"] = "Faulty"
        place = {"source": manifest.source, "namespace": about.namespace, "name": manifest.name}
        workflows.append({**place, **told, "tenantRead": about.tenant_read, "warnings": list(about.warnings)})
    outcome_of_all = forecast.worst(each["outcome"] for each in workflows)
    return {
        "outcome": "Faulty" if faults else outcome_of_all,
        "workflows": workflows,
        "faults": [{"source": each.source, "message": each.message} for each in faults],
        "notPlanned": [
            {"source": each.source, "kind": each.kind, "namespace": each.namespace, "name": each.name}
            for each in found
            if not prospect.is_workflow(each)
        ],
    }
