"""The pages of the kinds explain every field of spec and status, with its default, and no field that is not there."""

from collections.abc import Iterator
from typing import Any

import pytest

from contract.docs import pages
from keep_operator.domain import catalogue, provider, tenant
from keep_operator.resources import crds, schema
from keep_operator.resources.crds import Definition

pytestmark = pytest.mark.contract

KINDS = {definition.resource.kind: definition for definition in crds.DEFINITIONS}
PARTS = ("spec", "status")
LIVING = {
    "Tenant": tenant.LIVING,
    "Provider": provider.LIVING,
    "Workflow": (
        *("DefinitionValid", "TenantReady", "ProvidersReady", "Approved", "Deployed", "Synced"),
        "Available",
    ),
}
ABNORMAL = ("Reconciling", "Stalled", "Suspended", "Deleting")
CONDITIONS = {kind: {"Ready", *living, *ABNORMAL} for kind, living in LIVING.items()} | {
    "WorkflowRevision": {"Ready", "Valid", "Approved", "Denied", "ChecklistComplete", "Active", "Rejected"},
    "WorkflowRun": {"Accepted", "Succeeded", "Archived", "Deleting"},
    "WorkflowDecision": {"Handled"},
}
CONDITIONS["Tenant"] |= {tenant.TOKENS_RESOLVED}
CHAPTERS = ("Example", "Writing the spec", "Working with it", "Status and conditions", "Debugging")


def _page(kind: str) -> pages.Page:
    return pages.read(pages.ROOT / "docs" / f"{kind.lower()}.md")


def _fields(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema by its path: `secrets[].key`."""
    for name, below in node.get("properties", {}).items():
        yield f"{path}{name}", below
        yield from _fields(below, f"{path}{name}.")
        yield from _fields(below.get("items", {}), f"{path}{name}[].")


def _of(definition: Definition, part: str) -> dict[str, dict[str, Any]]:
    return dict(_fields(schema.structural(definition.spec if part == "spec" else definition.status)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_its_chapters(kind: str) -> None:
    """Who knows one kind's page finds their way on each other one's."""
    headings = [heading for heading in _page(kind).headings if heading in CHAPTERS]
    assert headings == list(CHAPTERS)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained(kind: str, part: str) -> None:
    """Each field that users can write or read stands in the table, and nothing else does."""
    told = pages.documented(_page(kind).about(f"{part.capitalize()} fields"))
    fields = _of(KINDS[kind], part).keys()
    assert fields - told == set(), "not documented"
    assert told - fields == set(), "documented, but not there"


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_real_ones(kind: str) -> None:
    """A default in the page is what the API server fills in, written as in YAML."""
    fields = _of(KINDS[kind], "spec")
    for row in _page(kind).about("Spec fields"):
        for name in row.names:
            default = fields[name].get("default")
            if default is not None:
                assert row.cells[1] == f"`{str(default).lower() if isinstance(default, bool) else default}`", name
            else:
                assert not row.cells[1].startswith("`") or "KEEP_OPERATOR_" in row.cells[1] or " for " in row.cells[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_condition_is_explained(kind: str) -> None:
    """Each condition that `kubectl describe` can show stands in the page."""
    rows = [row for row in _page(kind).about("Status and conditions") if row.under[-1] == "Conditions"]
    told = {row.names[0] for row in rows}
    assert told == CONDITIONS[kind]


def test_every_provider_type_is_listed() -> None:
    """The message about an unknown type sends people to a list that is complete."""
    text = (pages.ROOT / "docs" / "provider.md").read_text(encoding="utf-8")
    _, _, listed = text.partition("## Known types")
    told, *_ = listed.partition("\n## ")
    names = pages.spans(told.partition("\n\n`")[2].join(("`", "")))
    assert tuple(names) == catalogue.names()
    assert catalogue.source() in told
