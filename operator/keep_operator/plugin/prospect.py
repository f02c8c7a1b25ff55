"""What the operator would look at if a manifest were applied, gathered with the user's own rights.

::

    manifest ──► the server: what would be stored? ──► Workflow ─┐
    WorkflowRevisions, status, read API ──► its history ─────────┼──► what `domain.workflow` plans by
    Tenant, Providers, ConfigMap, namespace ─────────────────────┘

What the user may not read is assumed to stand in nobody's way, and named in ``warnings``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from keep_operator.domain import canary, desired, provider, sights, tenancy, tenant, workflow
from keep_operator.domain.desired import Desired, Missing, ProviderSight, Wanted
from keep_operator.domain.grammar import workflow as grammar
from keep_operator.domain.history import Lineage
from keep_operator.domain.ownership import Claim, HolderState, Owner
from keep_operator.domain.rollback_to import Asked
from keep_operator.domain.tenancy import TenantSight
from keep_operator.domain.workflow import Observed
from keep_operator.plugin import ends, lineage, view
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.manifests import Manifest
from keep_operator.plugin.reach import Reach
from keep_operator.plugin.view import Version, View
from keep_operator.resources import kinds, objects
from keep_operator.resources import provider as provider_shape
from keep_operator.resources import tenant as tenant_shape
from keep_operator.resources import workflow as workflow_shape
from keep_operator.resources.kinds import Key
from keep_operator.resources.objects import ROLLBACK_TO, Object
from keep_operator.resources.provider import ProviderSpec
from keep_operator.resources.shapes import Invalid
from keep_operator.resources.tenant import TenantSpec
from keep_operator.resources.workflow import WorkflowSpec

# Calls of kubectl under way at the same time.
AT_ONCE: Final = 8
# Of more Workflows in a namespace than this all that are there are asked for at once.
_EACH: Final = 3
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
# What the server says of somebody who may not write, in words that are the authorizer's own.
_NO_RIGHT: Final = re.compile(r'User "[^"]*" cannot \w+ resource')
_CLUSTER: Final = "cluster"
_NEW_UID: Final = "planned"
# Stands for the uid of a Tenant that the user may not read.
_UNREAD: Final = ""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would be looked at, what is there now, and what could not be seen or is worth knowing.

    ``refused`` is why the API server would not store it. ``live`` is the spec in the cluster, ``contents`` are those of
    versions that have an object. ``tenant_read``: what the Tenant asks for is known.
    """

    manifest: Manifest
    namespace: str
    seen: Observed
    live: WorkflowSpec | Invalid | None
    contents: Mapping[int, Mapping[str, Any]]
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str | None = None
    tenant_read: bool = True


@dataclass(slots=True)
class Surroundings:
    """The cluster around a set of manifests; each thing is asked for once. ``here`` is the namespace of those that name none."""

    kubectl: Kubectl
    here: str
    reach: Reach
    default_tenant: str
    manifests: Sequence[Manifest]
    now: datetime
    _known: dict[Any, Any] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Nothing more will be asked."""
        self._open.close()

    def prospects(self, planned: Sequence[Manifest]) -> list[Prospect]:
        """One for each Workflow, in their order."""
        placed = [(each, each.namespace or self.here) for each in planned]
        views = self._views(placed)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            stored = list(pool.map(lambda it: self._stored(it[0], it[1], views.get((it[1], it[0].name))), placed))
        return [
            self._prospect(each, namespace, views.get((namespace, each.name)), result)
            for (each, namespace), result in zip(placed, stored, strict=True)
        ]

    def of_view(self, manifest: Manifest, seen: View) -> Prospect:
        """Of a Workflow as it is in the cluster."""
        return self._prospect(manifest, seen.namespace, seen, seen.workflow)

    def concerned(self) -> list[Manifest]:
        """The Workflows of the cluster that are in no file, but whose definition stands in a ConfigMap that is."""
        planned = {(each.namespace or self.here, each.name) for each in self.manifests if is_workflow(each)}
        found: list[Manifest] = []
        for config_map in self.manifests:
            if config_map.kind != "ConfigMap":
                continue
            namespace = config_map.namespace or self.here
            raw = self._once(("Workflows", namespace), Kubectl.asking(kinds.WORKFLOWS), namespace)
            for each in [] if isinstance(raw, ends.Failure) else raw["items"]:
                source = ((each.get("spec") or {}).get("definitionFrom") or {}).get("configMapKeyRef") or {}
                if source.get("name") == config_map.name and (namespace, each["metadata"]["name"]) not in planned:
                    planned.add((namespace, each["metadata"]["name"]))
                    found.append(Manifest(config_map.source, each, lambda _: None))
        return found

    def _views(self, placed: Sequence[tuple[Manifest, str]]) -> dict[tuple[str, str], View]:
        """The Workflows that are there, with their versions."""
        found: dict[tuple[str, str], View] = {}
        for namespace in dict.fromkeys(namespace for _, namespace in placed):
            names = list(dict.fromkeys(each.name for each, place in placed if place == namespace))
            kubectl = self.kubectl.within(namespace)
            if len(names) <= _EACH:
                answers = kubectl.tries(*(each for name in names for each in view.questions(name)))
                pairs = {name: (answers[2 * place], answers[2 * place + 1]) for place, name in enumerate(names)}
            else:
                flows, revisions = kubectl.all(
                    Kubectl.asking(kinds.WORKFLOWS), Kubectl.asking(kinds.WORKFLOW_REVISIONS)
                )
                known = {each["metadata"]["name"]: each for each in flows["items"]}
                pairs = {name: (known[name], revisions) for name in names if name in known}
            for name, (flow, versions) in pairs.items():
                if not isinstance(flow, ends.Missing):
                    found[namespace, name] = view.of(kubectl, name, flow, versions)
        return found

    def _stored(self, manifest: Manifest, namespace: str, seen: View | None) -> Json | ends.Failure:
        """What the server would store, or why it would not."""
        if seen is not None and "uid" in manifest.object["metadata"]:  # as it is in the cluster: see `concerned`
            return seen.workflow
        sent = {**manifest.object, "metadata": {**manifest.object["metadata"], "namespace": namespace}}
        verb = "create"
        if seen is not None:
            # Only what was applied by kubectl can be; of all others the file is what the whole spec shall be.
            verb = "apply" if LAST_APPLIED in _annotations(seen.workflow) else "replace"
        if verb == "replace" and seen is not None:
            sent = _laid_over(seen.workflow, sent)
            # Without it the server takes the object whatever has become of it since.
            sent["metadata"].pop("resourceVersion", None)
        try:
            return self.kubectl.within(namespace).would(verb, sent)
        except ends.Failure as failure:
            return failure

    def _prospect(self, manifest: Manifest, namespace: str, seen: View | None, stored: Json | ends.Failure) -> Prospect:
        warnings: list[str] = []
        refused = None
        if isinstance(stored, ends.Failure):
            if isinstance(stored, ends.Unreachable):
                raise stored
            refused = self._refusal(stored, namespace, warnings)
            stored = _laid_over(None if seen is None else seen.workflow, manifest.object)
        raw = _completed(stored, namespace, seen, self.now)
        obj = objects.parse(kinds.WORKFLOWS.kind, raw, workflow_shape)
        live = None if seen is None else _spec(seen)
        if obj.deleting:
            warnings.append("It is being deleted: what is applied to it now comes to nothing")
        name, sight = self._tenant(obj, namespace, warnings)
        observed = Observed(
            object=obj,
            cluster_id=_CLUSTER,
            tenant_name=name,
            tenant=sight,
            referenced=tenancy.referenced(obj, "ExceptArgoCD"),
            important=sights.is_marked(obj),
            note=sights.note(obj),
            author=sights.author(obj, () if sight is None or sight.policy is None else sight.policy.trusted_authors),
            new_id=UUID(int=1),
        )
        contents: dict[int, Mapping[str, Any]] = {}
        if not isinstance(obj.spec, Invalid):
            observed = self._looked(observed, obj.spec, seen, live, warnings)
            contents = {} if seen is None else {each.number: each.definition for each in seen.versions}
            if manifest.object is not stored and _counts_groups(observed, obj.spec, seen):
                warnings.append(
                    "Whether those who approved are in the groups that must, cannot be told here; it is assumed"
                )
        changed = () if seen is None else _metadata(seen.workflow, raw)
        read = sight is None or sight.uid != _UNREAD
        return Prospect(manifest, namespace, observed, live, contents, changed, tuple(warnings), refused, read)

    def _refusal(self, failure: ends.Failure, namespace: str, warnings: list[str]) -> str | None:
        """Why the server refuses the object itself; None: it refuses to be asked, which is only a warning."""
        if _NO_RIGHT.search(failure.message):
            warnings.append(
                f"The API server was not asked what it would store, which you have no right to: {failure.message}"
            )
        elif isinstance(failure, ends.Missing):
            warnings.append(f"Namespace {namespace} is not there yet, so the API server could not be asked")
        else:
            return failure.message
        return None

    def _looked(
        self,
        seen: Observed,
        spec: WorkflowSpec,
        there: View | None,
        live: WorkflowSpec | Invalid | None,
        warnings: list[str],
    ) -> Observed:
        wanted = self._wanted(seen.object.key.namespace, spec, warnings)
        own = None
        if there is not None and there.status.get("workflowId"):
            own = self._lineage(there, replace(seen, wanted=wanted), live, warnings)
        seen = replace(seen, wanted=wanted, own=own, asked=_asked(seen.object))
        seen = replace(seen, providers=self._providers(seen, warnings))
        name = workflow_shape.effective_name(spec, seen.object.key.name)
        return seen if own is not None and own.external_name == name else self._contested(seen, name)

    def _lineage(
        self, there: View, seen: Observed, live: WorkflowSpec | Invalid | None, warnings: list[str]
    ) -> Lineage:
        if there.status.get("observedGeneration") != there.workflow["metadata"].get("generation"):
            warnings.append(
                "The operator has not looked at the spec in the cluster yet: this goes by what it knew before"
            )
        steps, groups, name = "", [], there.name
        if live is not None and not isinstance(live, Invalid):
            asked_of = workflow.gates_of(seen, live)
            steps = canary.plan_of(asked_of.steps)
            groups = [group for each in asked_of.approval.approvers for group in each.groups]
            name = workflow_shape.effective_name(live, there.name)
        made = lineage.of(there, self._archived(there, warnings), steps=steps, groups=groups)
        owner = Owner(_CLUSTER, there.namespace, there.name, seen.object.uid)
        made = replace(made, owner=owner, external_name=name, read_at=self.now)
        if live is None or isinstance(live, Invalid):
            return made
        inline = seen.wanted if live.definition is None else desired.read(live.definition)
        return workflow.settled(made, live, inline)

    def _archived(self, there: View, warnings: list[str]) -> tuple[Version, ...]:
        left = int(there.status.get("revisionCount") or 0) - len(there.versions)
        if left <= 0:
            return ()
        from keep_operator.plugin import read_api  # noqa: PLC0415 - seldom needed, and it takes a moment to load

        def opened() -> read_api.ReadApi | ends.Failure:
            try:
                return self._open.enter_context(read_api.opened(self.kubectl, self.reach))
            except ends.Failure as failure:
                return failure

        api = self._recall(("read API",), opened)
        try:
            if isinstance(api, ends.Failure):
                raise api
            return read_api.archived(api, there)
        except ends.Failure as failure:
            warnings.append(
                f"{left} archived version(s) are not known here, so whether this content was denied or rejected before "
                f"may be missed: {failure.message}"
            )
            return ()

    def _wanted(self, namespace: str, spec: WorkflowSpec, warnings: list[str]) -> Wanted:
        if spec.definition is not None:
            warnings += (f"spec.definition.{each}" for each in grammar.judge(spec.definition).warnings)
            return desired.read(spec.definition)
        assert spec.definition_from is not None  # since the spec has one of the two
        ref = spec.definition_from.config_map_key_ref
        planned = self._planned("ConfigMap", namespace, ref.name)
        if planned is not None:
            data = planned.object.get("data") or {}
        else:
            found = self._once(
                ("ConfigMap", namespace, ref.name), Kubectl.asking(kinds.CONFIG_MAPS, ref.name), namespace
            )
            if isinstance(found, ends.Refused):
                warnings.append(f"ConfigMap {ref.name}, where the definition stands, cannot be read: {found.message}")
                return Missing(f"ConfigMap {ref.name} cannot be read by you")
            if isinstance(found, ends.Failure):
                return Missing(f"Waiting for ConfigMap {ref.name}")
            data = found.get("data") or {}
        text = data.get(ref.key)
        if not isinstance(text, str):
            return Missing(f"Waiting for key {ref.key} in the data of ConfigMap {ref.name}")
        warnings += (f"ConfigMap {ref.name}, {ref.key}: {each}" for each in grammar.read(text).warnings)
        return desired.read_text(text)

    def _tenant(
        self, obj: Object[WorkflowSpec], namespace: str, warnings: list[str]
    ) -> tuple[str | None, TenantSight | None]:
        if isinstance(obj.spec, Invalid):
            return None, None
        ref = None if obj.spec.tenant_ref is None else obj.spec.tenant_ref.name
        name, found = self._found_tenant(ref)
        planned = self._planned("Tenant", "", name)
        if found is None:
            if planned is not None:
                warnings.append(
                    f'Tenant "{name}" is not there yet, but in {planned.source}: what it asks for is not planned by'
                )
            return name, None
        if isinstance(found, ends.Failure):
            warnings.append(
                f'Tenant "{name}" cannot be read by you: its approval floor, its checklist floor and its defaults are '
                f"not in this plan, and may ask for more ({found.message})"
            )
            known = obj.status.get("tenantId") or name
            return name, TenantSight(name, _UNREAD, known, ready=True, serving=True, deleting=False, admits=True)
        if ref is None and "tenantId" not in obj.status and not self._is_only(name):
            warnings.append(
                f'spec.tenantRef is unset: Tenant "{name}" is taken for the default one (--default-tenant says which)'
            )
        if planned is not None:
            warnings.append(f'Tenant "{name}" is in these files too: this plan goes by the one in the cluster')
        return name, sights.of_tenant(found, namespace, self._labels(found, namespace, warnings), self.default_tenant)

    def _found_tenant(self, ref: str | None) -> tuple[str, Object[TenantSpec] | ends.Failure | None]:
        """The Tenant of that name, None: there is none; a failure: nobody tells. Without a name the default one."""
        everywhere = self.kubectl.within(None)
        listed = self._once(("Tenants",), Kubectl.asking(kinds.TENANTS), None)
        if not isinstance(listed, ends.Failure):
            every = [objects.parse(kinds.TENANTS.kind, each, tenant_shape) for each in listed["items"]]
            by_name = {each.key.name: each for each in every}
            if ref is not None:
                return ref, by_name.get(ref)
            by_id = (each for each in every if tenant.effective_id(each) == self.default_tenant)
            found = by_name.get(self.default_tenant) or next(by_id, None)
            return (self.default_tenant if found is None else found.key.name), found
        name = ref or self.default_tenant
        raw = self._once(("Tenant", name), everywhere.asking(kinds.TENANTS, name), None)
        if isinstance(raw, ends.Missing):
            return name, None
        return name, raw if isinstance(raw, ends.Failure) else objects.parse(kinds.TENANTS.kind, raw, tenant_shape)

    def _is_only(self, name: str) -> bool:
        """Whether there is no other Tenant that could be meant."""
        listed = self._once(("Tenants",), Kubectl.asking(kinds.TENANTS), None)
        return not isinstance(listed, ends.Failure) and [each["metadata"]["name"] for each in listed["items"]] == [name]

    def _labels(self, owner: Object[TenantSpec], namespace: str, warnings: list[str]) -> Mapping[str, str]:
        spec = owner.spec
        if isinstance(spec, Invalid) or spec.allowed_namespaces is None or spec.allowed_namespaces.selector is None:
            return {}
        raw = self._once(("Namespace", namespace), Kubectl.asking(kinds.NAMESPACES, namespace), None)
        if isinstance(raw, ends.Failure):
            warnings.append(f"Whether the Tenant admits namespace {namespace} cannot be told: {raw.message}")
            return {}
        labels: Mapping[str, str] = raw["metadata"].get("labels") or {}
        return labels

    def _providers(self, seen: Observed, warnings: list[str]) -> dict[str, ProviderSight]:
        if not isinstance(seen.wanted, Desired) or not seen.wanted.uses:
            return {}
        every, partly = self._known_providers(seen.object.key.namespace)
        found: dict[str, ProviderSight] = {}
        for name in dict.fromkeys(use.name for use in seen.wanted.uses):
            same = [each for each in every if _is_known_as(each, name) and self._tenant_name(each) == seen.tenant_name]
            best = max(same, key=lambda each: each.status.get("externalName") == name, default=None)
            if best is not None:
                found[name] = sights.of_provider(best, name)
                continue
            planned = [each for each in self.manifests if each.kind == "Provider" and _asks_for(each, name)]
            if planned:
                warnings.append(f"Provider {name} is not there yet, but in {planned[0].source}")
            elif partly is not None:
                warnings.append(f"Provider {name} is not in this namespace, and others cannot be read by you: {partly}")
        return found

    def _known_providers(self, namespace: str) -> tuple[list[Object[ProviderSpec]], str | None]:
        """Those of all namespaces, else of this one, and why not more."""
        raw = self._once(("Providers",), Kubectl.asking(kinds.PROVIDERS, "--all-namespaces"), None)
        why = None
        if isinstance(raw, ends.Failure):
            why = raw.message
            raw = self._once(("Providers", namespace), Kubectl.asking(kinds.PROVIDERS), namespace)
        items = [] if isinstance(raw, ends.Failure) else raw["items"]
        return [objects.parse(kinds.PROVIDERS.kind, each, provider_shape) for each in items], why

    def _contested(self, seen: Observed, name: str) -> Observed:
        """With the other Workflows that ask for the same name within the tenant, as far as the user may see them."""
        raw = self._once(("Workflows",), Kubectl.asking(kinds.WORKFLOWS, "--all-namespaces"), None)
        if isinstance(raw, ends.Failure):
            namespace = seen.object.key.namespace
            raw = self._once(("Workflows", namespace), Kubectl.asking(kinds.WORKFLOWS), namespace)
        if isinstance(raw, ends.Failure):
            return seen
        every = (objects.parse(kinds.WORKFLOWS.kind, each, workflow_shape) for each in raw["items"])
        rivals = [
            each
            for each in every
            if each.key != seen.object.key
            and workflow.external_name(each) == name
            and self._tenant_name(each) == seen.tenant_name
        ]
        holder = next((each for each in rivals if each.status.get("workflowId")), None)
        if holder is not None:
            owner = Owner(_CLUSTER, holder.key.namespace, holder.key.name, holder.uid)
            row = Lineage(UUID(holder.status["workflowId"]), holder.status.get("tenantId", ""), name, owner)
            seen = replace(seen, holder=row, holder_state=HolderState.LIVE)
        return replace(seen, rivals=tuple(_claim(each) for each in rivals))

    def _tenant_name(self, obj: Object[Any]) -> str | None:
        if isinstance(obj.spec, Invalid):
            return None
        ref = obj.spec.tenant_ref
        return self._found_tenant(None)[0] if ref is None else str(ref.name)

    def _planned(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return next(
            (
                each
                for each in self.manifests
                if (each.kind, each.name) == (kind, name) and namespace in ("", each.namespace or self.here)
            ),
            None,
        )

    def _once(self, key: Any, question: Sequence[str], namespace: str | None) -> Json | ends.Failure:
        def ask() -> Json | ends.Failure:
            (answer,) = self.kubectl.within(namespace).tries(question)
            if isinstance(answer, ends.Unreachable):
                raise answer
            return answer

        found: Json | ends.Failure = self._recall(key, ask)
        return found

    def _recall(self, key: Any, ask: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]


def is_workflow(manifest: Manifest) -> bool:
    """Whether it is a Workflow of ours, of whatever version."""
    return manifest.kind == kinds.WORKFLOWS.kind and manifest.api_version.partition("/")[0] == kinds.GROUP


def _annotations(raw: Json) -> Mapping[str, str]:
    return raw["metadata"].get("annotations") or {}


def _laid_over(live: Json | None, manifest: Json) -> Json:
    """The object with the manifest's spec, labels and annotations; others of these stay."""
    if live is None:
        return manifest
    old, new = live["metadata"], manifest["metadata"]
    both = {
        key: {**(old.get(key) or {}), **(new.get(key) or {})}
        for key in ("labels", "annotations")
        if old.get(key) or new.get(key)
    }
    return {**live, "metadata": {**old, **both}, "spec": manifest.get("spec")}


def _completed(raw: Json, namespace: str, seen: View | None, now: datetime) -> Json:
    """With what the API server gives an object, as far as it did not, and with the status that there is."""
    metadata = raw["metadata"]
    own = {} if seen is None else seen.workflow["metadata"]
    generation = own.get("generation", 0)
    changed = seen is None or raw.get("spec") != seen.workflow.get("spec")
    given = {
        "uid": own.get("uid", _NEW_UID),
        "resourceVersion": own.get("resourceVersion", "0"),
        "creationTimestamp": own.get("creationTimestamp") or now.isoformat(),
    }
    return {
        **raw,
        "metadata": {
            **given,
            **{key: value for key, value in metadata.items() if value is not None},
            "namespace": namespace,
            "generation": generation + changed,
        },
        "status": {} if seen is None else seen.status,
    }


def _metadata(live: Json, raw: Json) -> tuple[str, ...]:
    """The labels and annotations that would change, by path."""
    found = []
    for part in ("labels", "annotations"):
        old, new = (each["metadata"].get(part) or {} for each in (live, raw))
        keys = dict.fromkeys((*old, *new))
        found += [f"metadata.{part}.{key}" for key in keys if key != LAST_APPLIED and old.get(key) != new.get(key)]
    return tuple(found)


def _spec(seen: View) -> WorkflowSpec | Invalid:
    return workflow_shape.parse_spec(seen.workflow.get("spec") or {})


def _counts_groups(seen: Observed, spec: WorkflowSpec, there: View | None) -> bool:
    """Whether somebody has approved the newest version, and groups decide whose approval counts."""
    approved = there is not None and any(each.status.get("approvals") for each in there.versions[:1])
    return approved and any(each.groups for each in workflow.gates_of(seen, spec).approval.approvers)


def _asked(obj: Object[WorkflowSpec]) -> Asked | None:
    value = obj.annotations.get(ROLLBACK_TO)
    return None if not value or value == obj.status.get("lastHandledAction") else Asked(value, None)


def _claim(obj: Object[WorkflowSpec]) -> Claim:
    return Claim(
        Key(obj.key.kind, obj.key.namespace, obj.key.name),
        obj.uid,
        obj.created_at,
        "",
        ready_to_own=workflow.FINALIZER in obj.finalizers,
        can_own=not obj.deleting,
        has_record="workflowId" in obj.status,
    )


def _is_known_as(obj: Object[ProviderSpec], name: str) -> bool:
    return name in (obj.status.get("externalName"), provider.external_name(obj))


def _asks_for(manifest: Manifest, name: str) -> bool:
    spec = manifest.object.get("spec")
    return isinstance(spec, dict) and spec.get("externalName", manifest.name) == name
