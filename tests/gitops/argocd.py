"""One Application as Argo CD's controller keeps it, on a real API server: what it compares, applies, prunes and deletes.

::

    Git ──► targets, with tracking ──┬──► compare ──► Synced? ──no──► sync: prune what is extra, apply wave by wave
    cluster ──► managed objects ─────┘       └──► health, by our Lua scripts

Managed is what Git declares, and what is tracked as this Application's and has no owner. Known from Argo CD 3.6: its rules are
told again here, in the words of this project; where a rule decides about our objects, a test says so.
"""

import base64
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeAlias

from gitops import lua
from keep_operator.resources.kinds import CONFIG_MAPS, GROUP, OURS, SECRETS, Resource
from manifests import RESOURCES, Json, as_yaml, path_of

MANAGER: Final = "argocd-controller"
TRACKING_ID: Final = "argocd.argoproj.io/tracking-id"
SYNC_WAVE: Final = "argocd.argoproj.io/sync-wave"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
INSTANCE: Final = "app.kubernetes.io/instance"
# From the best to the worst: an Application is as well as the worst of what it manages.
HEALTHS: Final = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")
# How often an object may change under a comparison.
_LOOKS: Final = 5
_WATCHED: Final = (*OURS, SECRETS, CONFIG_MAPS)

Key: TypeAlias = tuple[str, str, str]
Tracking: TypeAlias = Literal["annotation", "annotation+label", "label"]


class Cluster(Protocol):
    """What the controller needs of the API server: `e2e.cluster.Kube`."""

    def send(self, method: str, path: str, body: object = None) -> tuple[int, Json]:
        """A request, and the status and body of its answer."""

    def patch(self, path: str, body: object, kind: str = ...) -> tuple[int, Json]:
        """A patch of a kind that Kubernetes knows."""

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""


class Phase(StrEnum):
    """How a sync stands."""

    SUCCEEDED = "Succeeded"
    RUNNING = "Running"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Compared:
    """One object of the Application: as Git wants it, as it is, and whether that is the same."""

    key: Key
    target: Json | None
    live: Json | None
    synced: bool
    health: str | None

    @property
    def extra(self) -> bool:
        """Whether it is to be pruned."""
        return self.target is None


@dataclass
class Application:
    """``git`` is what the repository says; a test edits it as a person would.

    ``instance_label`` is the setting `application.instanceLabelKey`, ``relaxed`` whether the health scripts are.
    """

    cluster: Cluster
    name: str
    git: list[Json]
    tracking: Tracking = "annotation"
    instance_label: str = INSTANCE
    server_side: bool = False
    prune: bool = True
    self_heal: bool = True
    relaxed: bool = False
    syncs: int = 0
    _synced: list[Json] | None = field(default=None, repr=False)

    def reconcile(self) -> list[Compared]:
        """One look, and a sync if there is anything to do; what was seen before it.

        What Git said already at the last sync is applied again by self-healing only, and then only what differs.
        """
        found = self.compare()
        new = self._synced != self.git
        differing = [each for each in found if not each.synced and (self.prune or not each.extra)]
        if differing and (new or self.self_heal):
            self.sync(found if new else differing)
        return found

    def compare(self) -> list[Compared]:
        """Everything that belongs to the Application; what somebody's child has copied its tracking from counts for nothing."""
        targets = {_key(manifest): self._tracked(manifest) for manifest in self.git}
        live = self._managed(targets)
        return [
            self._compared(key, targets.get(key), live.get(key))
            for key in sorted({*targets, *live})
            if self._is_ours(targets.get(key), live.get(key))
        ]

    def is_synced(self) -> bool:
        """Whether the Application shows as Synced."""
        return all(each.synced for each in self.compare())

    def health(self) -> str:
        """The Application's health."""
        return self._worst(self.compare())

    def sync(self, found: Sequence[Compared] | None = None) -> Phase:
        """Prune and apply, wave by wave. A wave that is not the last must become Healthy before the next begins."""
        self.syncs += 1
        self._synced = copy.deepcopy(self.git)
        found = self.compare() if found is None else found
        waves = sorted({_wave(each.target or each.live or {}) for each in found})
        for wave in waves:
            members = [each for each in found if _wave(each.target or each.live or {}) == wave]
            for each in members:
                if each.extra and self.prune:
                    assert each.live is not None
                    self._delete(each.live)
            for each in members:
                if each.target is not None:
                    self._apply(each.target)
            phase = self._phase(wave)
            if wave != waves[-1] and phase is not Phase.SUCCEEDED:
                return phase
        return Phase.SUCCEEDED

    def resume(self) -> Phase:
        """Go on with a sync that was held up by a wave."""
        self.syncs -= 1
        return self.sync()

    def delete(self) -> int:
        """One look of a cascading deletion, in the foreground; how many objects are left before the Application may go."""
        live = list(self._managed({}).values())
        if any("deletionTimestamp" in each["metadata"] for each in live) or not live:
            return len(live)
        last = max(_wave(each) for each in live)
        for each in live:
            if _wave(each) == last:
                self._delete(each)
        return len(self._managed({}))

    def act(self, obj: Json, action: str, **parameters: str) -> Json:
        """What happens when somebody clicks on an action of an object: what the script makes is created."""
        kind = obj["kind"]
        offered = lua.discover(lua.of(kind, "actions", "discovery.lua"), obj)
        assert not offered[action]["disabled"], f"{action} cannot be clicked"
        (impact,) = lua.act(lua.of(kind, "actions", action, "action.lua"), obj, parameters)
        made: Json = impact["resource"]
        status, answer = self.cluster.send("POST", RESOURCES[made["kind"]].path(made["metadata"]["namespace"]), made)
        assert status == 201, answer
        return answer

    def _tracked(self, manifest: Json) -> Json:
        made = copy.deepcopy(manifest)
        metadata = made["metadata"]
        if (plain := made.pop("stringData", None)) is not None:  # Argo CD knows what the server makes of it
            encoded = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
            made["data"] = {**made.get("data", {}), **encoded}
        if self.tracking != "label":
            metadata.setdefault("annotations", {})[TRACKING_ID] = _tracking_id(self.name, manifest)
        if self.tracking != "annotation":
            metadata.setdefault("labels", {})[self.instance_label] = self.name
        return made

    def _app_of(self, live: Json) -> str:
        metadata = live["metadata"]
        if self.tracking == "label":
            return str((metadata.get("labels") or {}).get(self.instance_label, ""))
        return str((metadata.get("annotations") or {}).get(TRACKING_ID, "")).partition(":")[0]

    def _managed(self, targets: Mapping[Key, Json]) -> dict[Key, Json]:
        return {
            key: live
            for key, live in self._live()
            if key in targets or (self._app_of(live) == self.name and not live["metadata"].get("ownerReferences"))
        }

    def _live(self) -> Iterator[tuple[Key, Json]]:
        for resource in _WATCHED:
            status, answer = self.cluster.send("GET", resource.path(None))
            assert status == 200, answer
            for item in answer["items"]:
                live = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
                yield _key(live), live

    def _is_ours(self, target: Json | None, live: Json | None) -> bool:
        """Not what carries another object's tracking id, as a child with copied annotations does."""
        if live is None or self.tracking == "label":
            return True
        if target is not None:
            return True  # it is looked up by its own name
        told = live["metadata"]["annotations"][TRACKING_ID]
        same_place = told == _tracking_id(self.name, live)
        return same_place or (not live["metadata"].get("namespace") and _without_place(told, live))

    def _compared(self, key: Key, target: Json | None, live: Json | None) -> Compared:
        synced = target is not None and live is not None and not self._differs(target, live)
        return Compared(key, target, live, synced, self._health_of(key, live))

    def _health_of(self, key: Key, live: Json | None) -> str | None:
        if live is None:
            return "Missing"
        if not str(live["apiVersion"]).startswith(GROUP):
            return None  # Argo CD has no opinion of Secrets and ConfigMaps
        script = lua.of(key[0], "health.lua")
        return lua.health(script.replace(*lua.RELAXED) if self.relaxed else script, live)["status"]

    def _differs(self, target: Json, live: Json) -> bool:
        """By a dry run of the server-side apply; else three-way, by what was applied last."""
        if self.server_side:
            return self._would_change(target, live)
        told = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        original = target if told is None else _without_additions(json.loads(told))
        return bool(merged(live, three_way(original, target, live)) != live)

    def _would_change(self, target: Json, live: Json) -> bool:
        for _ in range(_LOOKS):
            status, predicted = self.cluster.patch(f"{_apply_path(target)}&dryRun=All", target, "apply-patch+yaml")
            assert status == 200, predicted
            differs = _comparable(predicted) != _comparable(live)
            if not differs or predicted["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
                return differs
            _, live = self.cluster.send("GET", path_of(target))  # it has changed since it was listed
        return True

    def _apply(self, target: Json) -> None:
        if self.server_side:
            status, answer = self.cluster.patch(_apply_path(target), target, "apply-patch+yaml")
            assert status in (200, 201), answer
            return
        self.cluster.kubectl(
            "apply", "--validate=false", f"--field-manager={MANAGER}", "-f", "-", stdin=as_yaml(target)
        )

    def _delete(self, live: Json) -> None:
        if "deletionTimestamp" not in live["metadata"]:
            status, answer = self.cluster.send("DELETE", f"{path_of(live)}?propagationPolicy=Foreground")
            assert status in (200, 202, 404), answer

    def _phase(self, wave: int) -> Phase:
        """How far a wave is: a health check that there is none of is passed at once."""
        members = [each for each in self.compare() if each.target is not None and _wave(each.target) == wave]
        worst = self._worst(members)
        if worst == "Healthy":
            return Phase.SUCCEEDED
        return Phase.FAILED if worst == "Degraded" else Phase.RUNNING

    @staticmethod
    def _worst(found: Sequence[Compared]) -> str:
        told = [each.health for each in found if each.health is not None]
        return max(told, key=HEALTHS.index, default="Healthy")


def three_way(original: Any, modified: Any, current: Any) -> Any:
    """The JSON merge patch that client-side apply sends: what Git has and the object has not, and what Git has dropped."""
    patch: Json = {}
    for name, value in modified.items():
        is_there = name in current
        if isinstance(value, dict) and is_there and isinstance(current[name], dict):
            before = original.get(name) if isinstance(original.get(name), dict) else {}
            if below := three_way(before, value, current[name]):
                patch[name] = below
        elif not is_there or current[name] != value:
            patch[name] = value
    patch.update({name: None for name in original if name not in modified and name in current})
    return patch


def merged(live: Any, patch: Any) -> Any:
    """The object after a JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    found = dict(live) if isinstance(live, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def resource_of(obj: Mapping[str, Any]) -> Resource:
    """The kind's place in the API."""
    return RESOURCES[obj["kind"]]


def _key(obj: Mapping[str, Any]) -> Key:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _tracking_id(app: str, obj: Mapping[str, Any]) -> str:
    group = str(obj["apiVersion"]).rpartition("/")[0]
    kind, namespace, name = _key(obj)
    return f"{app}:{group}/{kind}:{namespace}/{name}"


def _without_place(told: str, live: Mapping[str, Any]) -> bool:
    """A cluster-scoped object carries the namespace that the Application is for."""
    return told.rpartition("/")[2] == live["metadata"]["name"] and f"/{live['kind']}:" in told


def _without_additions(applied: Json) -> Json:
    """What kubectl has noted without what it put in itself."""
    kept = {name: value for name, value in applied["metadata"].items() if name != "namespace" and value != {}}
    return applied | {"metadata": kept}


def _apply_path(target: Json) -> str:
    return f"{path_of(target)}?fieldManager={MANAGER}&force=true"


def _comparable(obj: Json) -> Json:
    found: Json = json.loads(json.dumps(obj))
    for name in ("managedFields", "resourceVersion"):
        found["metadata"].pop(name, None)
    (found["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    found.pop("status", None)
    return found


def _wave(obj: Mapping[str, Any]) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(SYNC_WAVE, 0))
