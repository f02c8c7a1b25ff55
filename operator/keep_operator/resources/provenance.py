"""Where the definition of a Workflow came from, by the traces that tools leave in an object's metadata (A-REV-10).

All of them are claims: whoever may write the object may write them. Who was signed in when it was written, the API server
does not tell.
"""

from collections.abc import Mapping
from typing import Any, Final

_TRACKING_ID: Final = "argocd.argoproj.io/tracking-id"
# Argo CD applies as this manager, client-side and server-side, whatever it tracks by: an annotation, or a label of any name.
_ARGO_CD: Final = "argocd-controller"
_LIMITS: Final = {"tool": 63, "trackingId": 1024, "fieldManager": 128}


def of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """``tool``, ``trackingId`` and ``fieldManager`` as they stand in `status.source`; what is not known is left out."""
    tool, tracking_id = _tool(metadata.get("annotations") or {}, metadata.get("labels") or {})
    manager = _manager(metadata.get("managedFields") or ())
    if tool is None and in_argo_cd(metadata):
        tool = "ArgoCD"  # which tracks by a label
    if tool is None and manager is not None and manager.startswith("kubectl"):
        tool = "kubectl"
    found = {"tool": tool, "trackingId": tracking_id, "fieldManager": manager}
    return {name: value[: _LIMITS[name]] for name, value in found.items() if value}


def in_argo_cd(metadata: Mapping[str, Any]) -> bool:
    """Whether Argo CD tracks the object: it has the annotation, or Argo CD has applied it.

    A label such as `app.kubernetes.io/instance` says nothing by itself, since every other Helm chart sets it.
    """
    if _TRACKING_ID in (metadata.get("annotations") or {}):
        return True
    managers = metadata.get("managedFields") or ()
    return any(each.get("manager") == _ARGO_CD and not each.get("subresource") for each in managers)


def _tool(annotations: Mapping[str, str], labels: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The tool that keeps the object as it is, and what it calls it; one that applies comes before one that renders."""
    if _TRACKING_ID in annotations:
        return "ArgoCD", annotations[_TRACKING_ID]
    for toolkit, kind in (("kustomize", "Kustomization"), ("helm", "HelmRelease")):
        name = labels.get(f"{toolkit}.toolkit.fluxcd.io/name")
        if name is not None:
            return "Flux", f"{kind} {labels.get(f'{toolkit}.toolkit.fluxcd.io/namespace', '')}/{name}"
    if (release := annotations.get("meta.helm.sh/release-name")) is not None:
        return "Helm", f"{annotations.get('meta.helm.sh/release-namespace', '')}/{release}"
    return None, None


def _manager(entries: Any) -> str | None:
    """The field manager that wrote the definition last."""
    writers = [entry for entry in entries if not entry.get("subresource") and _defines(entry.get("fieldsV1") or {})]
    last = max(writers, key=lambda entry: str(entry.get("time", "")), default=None)
    return None if last is None else str(last.get("manager", ""))


def _defines(fields: Mapping[str, Any]) -> bool:
    spec = fields.get("f:spec") or {}
    return "f:definition" in spec or "f:definitionFrom" in spec
