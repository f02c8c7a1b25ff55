"""The documents hold together: links lead somewhere, examples are valid, what they name exists."""

import configparser
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from contract.docs import pages
from keep_operator.domain import catalogue
from keep_operator.resources import crds, decision, provider, revision, run, schema, tenant, workflow
from keep_operator.resources.kinds import API_VERSION
from keep_operator.resources.objects import Reader
from keep_operator.resources.shapes import Invalid, Shape

pytestmark = pytest.mark.contract

READERS: dict[str, Reader[Shape]] = {
    "Tenant": tenant,
    "Provider": provider,
    "Workflow": workflow,
    "WorkflowRevision": revision,
    "WorkflowRun": run,
    "WorkflowDecision": decision,
}
PAGES = {str(path.relative_to(pages.ROOT)): path for path in pages.all_pages()}
RECORDS = sorted(path for path in (pages.ROOT / "docs" / "adr").glob("0*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """No link ends in a page or a heading that is not there."""
    page = pages.read(PAGES[name])
    for link in page.links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), link
        if anchor:
            assert anchor in pages.read(target).anchors, link


@pytest.mark.parametrize("name", PAGES)
def test_examples_are_valid(name: str) -> None:
    """Every manifest in the documents would be accepted and become Ready."""
    for block in pages.read(PAGES[name]).blocks:
        if block.language != "yaml":
            continue
        for manifest in yaml.safe_load_all(block.text):
            if manifest.get("apiVersion") != API_VERSION:
                continue
            kind, reader = manifest["kind"], READERS[manifest["kind"]]
            spec = reader.parse_spec(manifest["spec"])
            assert not isinstance(spec, Invalid), spec
            metadata = manifest["metadata"]
            assert reader.violations(spec, metadata.get("name") or metadata["generateName"]) == ()
            (definition,) = [each for each in crds.DEFINITIONS if each.resource.kind == kind]
            jsonschema.validate(manifest["spec"], schema.structural(definition.spec))
            if isinstance(spec, provider.ProviderSpec):
                known = catalogue.find(spec.type)
                assert known is not None
                assert (spec.config or {}).keys() | {each.key for each in spec.secrets} <= known.fields.keys()


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_about_any_machine(name: str) -> None:
    """No page holds a path of the machine on which it was written, nor says who serves packages."""
    text = PAGES[name].read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~])/(work|root|home|tmp)/", text)
    assert not re.search(r"pypi\.org|pythonhosted|npmjs|deb\.debian", text)


def test_make_targets_exist() -> None:
    """What a page tells to type into make is a target."""
    made = set(re.findall(r"(?m)^([a-z][a-z0-9-]*):.*##", (pages.ROOT / "Makefile").read_text(encoding="utf-8")))
    for path in pages.all_pages():
        told = set(
            re.findall(
                r"`(?:time )?make ([a-z][a-z0-9-]*)|^(?:time )?make ([a-z][a-z0-9-]*)",
                path.read_text(encoding="utf-8"),
                re.M,
            )
        )
        assert {target for pair in told for target in pair if target} <= made, path


def test_architecture_names_every_room_and_the_layers() -> None:
    """A room that is new, or gone, shows in the page; and so does a changed order of imports."""
    page = pages.read(pages.ROOT / "docs" / "architecture.md")
    told = {row.names[0].rstrip("/") for row in page.about("The rooms")}
    there = {
        path.name for path in pages.SOURCE.iterdir() if path.name not in ("__pycache__", "__init__.py", "py.typed")
    }
    assert told == there
    contracts = configparser.ConfigParser()
    contracts.read(pages.ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"].split("\n")
    order = " > ".join(filter(None, (layer.strip() for layer in layers)))
    assert any(order in block.text for block in page.blocks), order


def test_files_that_are_named_exist() -> None:
    """The table that leads from an idea to a file leads to files."""
    page = pages.read(pages.ROOT / "docs" / "architecture.md")
    for row in page.about("Where is …"):
        for name in pages.spans(row.cells[1]):
            if "/" in name or name.endswith(".py"):
                assert (pages.SOURCE / name).exists(), name


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_decisions_are_complete(path: Path) -> None:
    """Each decision says where it came from, what follows, and what else was possible; the list knows it."""
    page = pages.read(path)
    number = int(path.name[:4])
    assert page.headings[0].startswith(f"{number}. ")
    if number != 11:  # a table of small choices
        assert page.headings[1:] == ("Context", "Decision", "Consequences", "Alternatives")
    listed = pages.read(path.parent / "README.md")
    assert path.name in listed.links
    rows = {row.cells[0]: row.cells[1] for row in listed.rows}
    assert rows[f"[{number}]({path.name})"] == page.headings[0].partition(". ")[2]
