"""`import` and `export`: Keep's own files become manifests and go back, without a loss."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from keep_operator.plugin import ends, options, output
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.resources import kinds

_SUFFIXES: Final = (".yaml", ".yml", ".json")


@click.command("import")
@click.argument("paths", metavar="FILE...|DIR", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option("-R", "--recursive", is_flag=True, help="Look into folders of folders too.")
@click.option("--tenant", metavar="NAME", help="The Tenant that all of it belongs to; else the default tenant.")
@click.option("--skip-faulty", is_flag=True, help="Leave out files that have faults, instead of printing nothing.")
@options.output("json", "name", default="yaml")
@options.cluster
def import_(paths: tuple[str, ...], recursive: bool, tenant: str | None, skip_faulty: bool, form: str) -> None:
    """Print manifests for Keep's own files.

    For workflow files and provider files alike; keep them in Git, or pipe them to kubectl apply. Of a folder every
    .yaml, .yml and .json file is taken; - is the standard input. Faults and warnings go to stderr, each with file, line
    and path. Credentials of providers become Secrets, in clear text. No cluster is asked.
    """
    from keep_operator.domain import keep_files  # noqa: PLC0415 - the grammar takes a moment to load

    found = texts(paths, recursive=recursive)
    given = {"namespace": options.namespace(), "tenant": tenant}
    read = keep_files.read(found, **given)
    _complain(read.faults, read.warnings)
    faulty = {finding.source for finding in read.faults}
    if faulty and skip_faulty:
        read = keep_files.read({file: text for file, text in found.items() if file not in faulty}, **given)
    elif faulty:
        raise ends.No(
            f"{output.count(len(faulty), 'file')} of {len(found)} would be refused: correct them, or leave them out "
            "with --skip-faulty"
        )
    match form:
        case "name":
            for each in read.manifests:
                output.echo(_name(each))
        case "json":
            output.data({"apiVersion": "v1", "kind": "List", "items": list(read.manifests)}, "json")
        case _:
            output.document(keep_files.to_yaml(read.manifests))
    secrets = sum(each["kind"] == "Secret" for each in read.manifests)
    if secrets and form != "name":
        output.echo(
            f"{output.count(secrets, 'Secret')} of it with credentials in clear text: keep them out of Git.", err=True
        )
    if faulty:
        raise ends.No(f"{output.count(len(faulty), 'file')} of {len(found)} left out")


@click.command("export")
@click.argument("names", metavar="[KIND/]NAME...", nargs=-1)
@click.option(
    "-f",
    "--filename",
    "manifests",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, allow_dash=True),
    help="From manifests in files, instead of the cluster.",
)
@click.option(
    "-d",
    "--output-dir",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write a file for each; else all is printed.",
)
@click.option(
    "--providers/--no-providers",
    default=False,
    show_default=True,
    help="Providers too, with their credentials in clear text.",
)
@options.output("json", "name", default="yaml")
@options.cluster
def export(names: tuple[str, ...], manifests: tuple[str, ...], folder: str | None, providers: bool, form: str) -> None:
    """Print objects as Keep's own files.

    All of the namespace, or those that are named. A NAME alone is a workflow's; provider/NAME is a provider's, with its
    credentials in clear text.
    """
    from keep_operator.domain import keep_files  # noqa: PLC0415

    objects = (
        list(_from_files(manifests)) if manifests else _from_cluster(options.kubectl(), names, providers=providers)
    )
    chosen = [each for each in objects if _is_wanted(each, names, providers=providers)]
    missing = [each for each in names if not any(_is_wanted(one, (each,), providers=False) for one in objects)]
    if missing:
        raise ends.Missing(f"not found: {', '.join(missing)}")
    beside = [each for each in objects if each.get("kind") in ("Secret", "ConfigMap")]
    written = keep_files.write([*chosen, *beside])
    _complain(written.faults, ())
    _put(written.files, folder, form)
    if written.faults:
        raise ends.No(f"{output.count(len(written.faults), 'object')} could not be exported")


def texts(paths: Iterable[str], *, recursive: bool) -> dict[str, str]:
    """The texts of all files that are meant, by what they are called in messages."""
    found: dict[str, str] = {}
    for given in paths:
        if given == "-":
            found["standard input"] = sys.stdin.read()
            continue
        path = Path(given)
        inside = sorted(path.rglob("*") if recursive else path.glob("*")) if path.is_dir() else [path]
        files = [each for each in inside if each.is_file() and (each == path or each.suffix in _SUFFIXES)]
        if not files:
            raise click.UsageError(f"{given} has no file that ends in {', '.join(_SUFFIXES)}.")
        for each in files:
            try:
                found[str(each)] = each.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise ends.Unusable(f"{each}: is no text in UTF-8") from None
    return found


def _complain(faults: Iterable[object], warnings: Iterable[object]) -> None:
    for each in faults:
        output.echo(f"{click.style('fault', fg='red')}    {each}", err=True)
    for each in warnings:
        output.echo(f"{click.style('warning', fg='yellow')}  {each}", err=True)


def _name(manifest: Mapping[str, Any]) -> str:
    group = manifest["apiVersion"].rpartition("/")[0]
    kind = manifest["kind"].lower()
    return f"{kind}.{group}/{manifest['metadata']['name']}" if group else f"{kind}/{manifest['metadata']['name']}"


def _from_files(paths: Iterable[str]) -> Iterable[Json]:
    """Every object in the files, those inside of lists too."""
    import yaml  # noqa: PLC0415

    for path in paths:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        try:
            documents = list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            raise ends.Unusable(f"{path}: is no YAML: {error}") from None
        for document in documents:
            inside = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
            yield from (each for each in inside or [document] if isinstance(each, dict))


def _from_cluster(kubectl: Kubectl, names: tuple[str, ...], *, providers: bool) -> Iterable[Json]:
    """All workflows, the providers if they are wanted, and what they refer to."""
    resources = [kinds.WORKFLOWS]
    if providers or any(each.startswith("provider/") for each in names):
        resources.append(kinds.PROVIDERS)
    answers = kubectl.all(*(Kubectl.asking(each) for each in resources))
    objects = [each for answer in answers for each in answer["items"]]
    wanted = [each for each in objects if _is_wanted(each, names, providers=providers)]
    beside = kubectl.tries(*(Kubectl.asking(kind, name) for kind, name in dict.fromkeys(_referred(wanted))))
    # Of one that is not there the export says who misses it; of one that may not be read, kubectl.
    for each in beside:
        if isinstance(each, ends.Failure) and not isinstance(each, ends.Missing):
            raise each
    return [*objects, *(each for each in beside if isinstance(each, dict))]


def _referred(objects: Iterable[Json]) -> Iterable[tuple[kinds.Resource, str]]:
    for each in objects:
        spec = each["spec"]
        if source := (spec.get("definitionFrom") or {}).get("configMapKeyRef"):
            yield kinds.CONFIG_MAPS, source["name"]
        for secret in spec.get("secrets") or ():
            yield kinds.SECRETS, secret["valueFrom"]["secretKeyRef"]["name"]


def _is_wanted(manifest: Json, names: tuple[str, ...], *, providers: bool) -> bool:
    kind, name = manifest.get("kind"), (manifest.get("metadata") or {}).get("name")
    if not names:
        return kind == "Workflow" or (kind == "Provider" and providers)
    if kind == "Workflow":
        return name in names or f"workflow/{name}" in names
    return kind == "Provider" and f"provider/{name}" in names


def _put(files: Mapping[str, str], folder: str | None, form: str) -> None:
    if form == "json":
        output.data(dict(files), "json")
    elif folder is None and form == "yaml":
        output.document("---\n".join(f"# {file}\n{text}" for file, text in files.items()))
    if form == "name" or folder is not None:
        for file in files:
            output.echo(file)
    for file, text in files.items() if folder is not None else ():
        path = Path(folder or "", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Credentials are in those of providers: nobody else may read them, not even for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if "providers/" in file else 0o666)
        with open(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
