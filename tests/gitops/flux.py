"""One Kustomization as Flux's kustomize-controller keeps it, on a real API server.

::

    Git ──► targets with the Kustomization's labels ──► dry run ──drifted?──► server-side apply, forced
        ──► inventory of this round; what only the last one had is pruned ──► wait until kstatus says Current
"""

import copy
import json
import time
from dataclasses import dataclass, field
from typing import Final

from gitops import kstatus
from gitops.argocd import Cluster, Key
from manifests import RESOURCES, Json, path_of

MANAGER: Final = "kustomize-controller"
_LABELS: Final = "kustomize.toolkit.fluxcd.io"


@dataclass
class Kustomization:
    """``git`` is what the repository says. Flux asks for no order but that of kinds, and looks at no owner when it prunes."""

    cluster: Cluster
    name: str
    git: list[Json]
    prune: bool = True
    applied: int = 0
    _inventory: list[Json] = field(default_factory=list, repr=False)

    def reconcile(self) -> None:
        """Apply what differs, prune what is not in Git any more."""
        targets = [self._labelled(manifest) for manifest in self.git]
        for target in targets:
            if self._drifted(target):
                self._apply(target)
        now = {_key(target) for target in targets}
        stale = [each for each in self._inventory if _key(each) not in now]
        self._inventory = [{name: each[name] for name in ("apiVersion", "kind", "metadata")} for each in targets]
        if self.prune:
            for each in stale:
                self._prune(each)

    def drifted(self) -> list[Key]:
        """What an apply would change."""
        return [_key(target) for target in map(self._labelled, self.git) if self._drifted(target)]

    def wait(self, timeout_s: float = 60.0) -> bool:
        """`spec.wait`: whether everything became Current; what Failed is not waited for."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            states = {self.status(manifest) for manifest in self.git}
            if states == {"Current"}:
                return True
            if "Failed" in states:
                return False
            time.sleep(0.2)
        return False

    def status(self, manifest: Json) -> str:
        """One object by kstatus; `NotFound` where it is not there."""
        code, live = self.cluster.send("GET", path_of(manifest))
        return kstatus.status(live) if code == 200 else "NotFound"

    def delete(self) -> None:
        """The Kustomization is deleted: its finalizer prunes the whole inventory."""
        for each in reversed(self._inventory):
            self._prune(each)
        self._inventory = []

    def _labelled(self, manifest: Json) -> Json:
        made = copy.deepcopy(manifest)
        labels = made["metadata"].setdefault("labels", {})
        labels |= {f"{_LABELS}/name": self.name, f"{_LABELS}/namespace": "flux-system"}
        return made

    def _drifted(self, target: Json) -> bool:
        """By a dry run: labels, annotations and everything but metadata and status."""
        code, live = self.cluster.send("GET", path_of(target))
        if code == 404:
            return True
        code, predicted = self.cluster.patch(f"{_apply_path(target)}&dryRun=All", target, "apply-patch+yaml")
        assert code == 200, predicted
        return _content(predicted) != _content(live)

    def _apply(self, target: Json) -> None:
        code, answer = self.cluster.patch(_apply_path(target), target, "apply-patch+yaml")
        assert code in (200, 201), answer
        self.applied += 1

    def _prune(self, target: Json) -> None:
        """Only what still carries this Kustomization's labels."""
        code, live = self.cluster.send("GET", path_of(target))
        if code == 200 and (live["metadata"].get("labels") or {}).get(f"{_LABELS}/name") == self.name:
            code, answer = self.cluster.send("DELETE", f"{path_of(target)}?propagationPolicy=Background")
            assert code in (200, 202, 404), answer


def _key(obj: Json) -> Key:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _apply_path(target: Json) -> str:
    assert target["kind"] in RESOURCES
    return f"{path_of(target)}?fieldManager={MANAGER}&force=true"


def _content(obj: Json) -> Json:
    metadata = {name: obj["metadata"].get(name) for name in ("labels", "annotations")}
    body = {name: value for name, value in obj.items() if name not in ("metadata", "status")}
    found: Json = json.loads(json.dumps({**body, "metadata": metadata}))
    return found
