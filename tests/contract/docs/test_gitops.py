"""The examples for Argo CD and Flux: what they name is there, and they ask for nothing that the guide advises against."""

from typing import Any, Final

import pytest
import yaml

from contract.docs import pages
from contract.docs.test_pages import READERS
from keep_operator.domain import desired
from keep_operator.domain.desired import Desired
from keep_operator.resources.shapes import Invalid

pytestmark = pytest.mark.contract

FOLDER: Final = pages.ROOT / "docs" / "examples"
FINALIZER: Final = "resources-finalizer.argocd.argoproj.io"
GUIDE: Final = pages.read(pages.ROOT / "docs" / "gitops.md")


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of an example."""
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def applications() -> dict[str, dict[str, Any]]:
    """Every Application, and what the ApplicationSet makes them from, by name."""
    (made,) = documents("argo-cd-applicationset.yaml")
    found = {each["metadata"]["name"]: each for each in documents("argo-cd-application.yaml")}
    template: dict[str, Any] = made["spec"]["template"]
    return {**found, made["metadata"]["name"]: template}


def test_the_guide_shows_every_example() -> None:
    """No example lies about that nobody is led to."""
    assert {f"examples/{path.name}" for path in FOLDER.iterdir()} <= set(GUIDE.links)


@pytest.mark.parametrize("name", ["keep-operator", "keep-monitoring", "keep-teams"])
def test_applications_prune_heal_and_apply_on_the_server(name: str) -> None:
    """What the promises of the guide are about."""
    spec = applications()[name]["spec"]
    assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert "ServerSideApply=true" in spec["syncPolicy"]["syncOptions"]
    assert not any(option.startswith(("Replace", "Force")) for option in spec["syncPolicy"]["syncOptions"])
    assert {"project", "source", "destination", "syncPolicy"} == spec.keys()
    assert {"repoURL", "targetRevision", "path"} <= spec["source"].keys()
    assert {"server", "namespace"} == spec["destination"].keys()
    assert "ignoreDifferences" not in spec


def test_the_operator_does_not_go_with_what_it_cleans_up() -> None:
    """Only teams' Applications take their objects along."""
    found = applications()
    with_finalizer = {name for name, each in found.items() if FINALIZER in each["metadata"].get("finalizers", [])}
    assert with_finalizer == found.keys() - {"keep-operator"}
    source = found["keep-operator"]["spec"]["source"]
    assert (pages.ROOT / source["path"] / "Chart.yaml").is_file()
    values = yaml.safe_load((pages.ROOT / source["path"] / "values.yaml").read_text(encoding="utf-8"))
    assert source["helm"]["valuesObject"]["argocd"].keys() <= values["argocd"].keys()


def test_flux_prunes_and_waits() -> None:
    """The Kustomization names the repository beside it."""
    source, kustomization = documents("flux-kustomization.yaml")
    spec = kustomization["spec"]
    assert (spec["sourceRef"]["kind"], spec["sourceRef"]["name"]) == (source["kind"], source["metadata"]["name"])
    assert (spec["prune"], spec["wait"]) == (True, True)
    assert "dependsOn" not in spec and "healthChecks" not in spec


def test_what_a_team_declares_would_become_ready() -> None:
    """Valid by every rule, in one namespace that the Tenant admits, and complete: no Provider is missing."""
    found = {each["kind"]: each for each in documents("team.yaml")}
    specs = {kind: READERS[kind].parse_spec(each["spec"]) for kind, each in found.items()}
    for kind, spec in specs.items():
        assert not isinstance(spec, Invalid), spec
        assert READERS[kind].violations(spec, found[kind]["metadata"]["name"]) == ()
    read = desired.read(found["Workflow"]["spec"]["definition"])
    assert isinstance(read, Desired) and read.flaw is None
    assert {use.name for use in read.uses} == {found["Provider"]["metadata"]["name"]}
    admitted = found["Tenant"]["spec"]["allowedNamespaces"]["names"]
    assert {found[kind]["metadata"]["namespace"] for kind in ("Provider", "Workflow")} == set(admitted)
