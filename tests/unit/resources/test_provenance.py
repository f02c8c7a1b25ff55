"""Which tool an object came from, by the traces that it leaves (A-REV-10)."""

from typing import Any

import pytest

from keep_operator.resources import provenance

pytestmark = pytest.mark.unit


def wrote(manager: str, at: str = "2026-11-25T07:00:00Z", field: str = "f:definition", **more: str) -> dict[str, Any]:
    """An entry of `managedFields`."""
    return {"manager": manager, "time": at, "fieldsV1": {"f:spec": {field: {}}}, **more}


@pytest.mark.parametrize(
    ("metadata", "tool", "tracking_id"),
    [
        ({}, None, None),
        (
            {"annotations": {"argocd.argoproj.io/tracking-id": "app:group/kind:ns/name"}},
            "ArgoCD",
            "app:group/kind:ns/name",
        ),
        (
            {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"}},
            "Flux",
            "Kustomization flux/apps",
        ),
        (
            {
                "labels": {"helm.toolkit.fluxcd.io/name": "keep", "helm.toolkit.fluxcd.io/namespace": "ops"},
                "annotations": {"meta.helm.sh/release-name": "keep", "meta.helm.sh/release-namespace": "ops"},
            },
            "Flux",
            "HelmRelease ops/keep",
        ),
        (
            {"annotations": {"meta.helm.sh/release-name": "keep", "meta.helm.sh/release-namespace": "ops"}},
            "Helm",
            "ops/keep",
        ),
        ({"managedFields": [wrote("kubectl-client-side-apply")]}, "kubectl", None),
        ({"managedFields": [wrote("argocd-controller"), wrote("kubectl-edit")]}, "ArgoCD", None),
    ],
)
def test_the_tool_that_keeps_it(metadata: dict[str, Any], tool: str | None, tracking_id: str | None) -> None:
    """Who wants to change the object must do it there."""
    found = provenance.of(metadata)
    assert (found.get("tool"), found.get("trackingId")) == (tool, tracking_id)


def test_the_manager_is_the_one_that_wrote_the_definition_last() -> None:
    """Not who wrote another field, nor the operator that wrote the status."""
    managers = [
        wrote("argocd-controller", "2026-11-25T07:00:00Z"),
        wrote("kubectl-edit", "2026-11-25T08:00:00Z", "f:definitionFrom"),
        wrote("scaler", "2026-11-25T09:00:00Z", "f:suspend"),
        wrote("keep-operator", "2026-11-25T10:00:00Z", subresource="status"),
        {"manager": "labeller", "time": "2026-11-25T11:00:00Z", "fieldsV1": {"f:metadata": {}}},
        {"manager": "strange", "time": "2026-11-25T12:00:00Z"},
    ]
    assert provenance.of({"managedFields": managers})["fieldManager"] == "kubectl-edit"


def test_nobody_is_named_as_the_user() -> None:
    """The API server does not tell who was signed in, and a claim is not passed off for it."""
    claims = {"keep-operator.dev/author": "ann", "kubernetes.io/change-cause": "bob"}
    found = provenance.of({"annotations": claims, "managedFields": [wrote("kubectl-edit")]})
    assert "user" not in found


def test_what_is_too_long_is_cut() -> None:
    """The status takes no more, and a status that is refused would tell nothing at all."""
    found = provenance.of({"annotations": {"argocd.argoproj.io/tracking-id": "x" * 5000}})
    assert len(found["trackingId"]) == 1024


TRACKED: dict[str, Any] = {"annotations": {"argocd.argoproj.io/tracking-id": "app:group/kind:ns/name"}}


@pytest.mark.parametrize(
    ("metadata", "tracked"),
    [
        ({}, False),
        (TRACKED, True),
        ({"managedFields": [wrote("argocd-controller")]}, True),
        ({"managedFields": [wrote("kubectl"), wrote("argocd-controller", operation="Apply")]}, True),
        ({"managedFields": [wrote("argocd-controller", subresource="status")]}, False),
        ({"managedFields": [wrote("argocd-server")]}, False),
        ({"labels": {"app.kubernetes.io/instance": "keep"}}, False),
        ({"labels": {"app.kubernetes.io/instance": "keep"}, "managedFields": [wrote("helm")]}, False),
        (
            {"labels": {"app.kubernetes.io/instance": "keep"}, "managedFields": [wrote("argocd-controller")]},
            True,
        ),
        ({"labels": {"argocd.argoproj.io/instance": "app"}, "managedFields": [wrote("argocd-controller")]}, True),
        ({"annotations": {"argocd.argoproj.io/sync-wave": "1"}}, False),
        ({"annotations": None, "managedFields": None}, False),
    ],
)
def test_what_argo_cd_tracks(metadata: dict[str, Any], tracked: bool) -> None:
    """By annotation or by a label of any name: what Argo CD has applied it may prune. Helm's own label is no sign of it."""
    assert provenance.in_argo_cd(metadata) is tracked
