"""What users apply, and how an object looks to them afterwards; for all rings that have an API server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from keep_operator.domain import proof
from keep_operator.resources.kinds import (
    ADMISSION_POLICIES,
    ADMISSION_POLICY_BINDINGS,
    CONFIG_MAPS,
    NAMESPACES,
    OURS,
    PROVIDERS,
    SECRETS,
    TENANTS,
    WORKFLOW_DECISIONS,
    WORKFLOW_RUNS,
    WORKFLOWS,
    Resource,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thing:
    """One object as the test reads it; empty where it does not exist."""

    raw: Json

    def __bool__(self) -> bool:
        return bool(self.raw)

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def version(self) -> str:
        return str(self.raw["metadata"]["resourceVersion"])

    @property
    def status(self) -> Json:
        return self.raw.get("status") or {}

    def condition(self, kind: str) -> tuple[str, str] | None:
        """Status and reason."""
        found = next((c for c in self.status.get("conditions", ()) if c["type"] == kind), None)
        return None if found is None else (found["status"], found["reason"])

    def message(self, kind: str) -> str:
        return str(next(c["message"] for c in self.status["conditions"] if c["type"] == kind))

    @property
    def ready(self) -> bool:
        return (
            self.condition("Ready") == ("True", "Ready")
            and self.status.get("observedGeneration") == self.raw["metadata"]["generation"]
        )


_OTHERS: Final = (SECRETS, CONFIG_MAPS, NAMESPACES, ADMISSION_POLICIES, ADMISSION_POLICY_BINDINGS)
RESOURCES: Final = {resource.kind: resource for resource in (*OURS, *_OTHERS)}


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where the object lives."""
    metadata = manifest["metadata"]
    return RESOURCES[manifest["kind"]].path(metadata.get("namespace"), metadata["name"])


def tenant(name: str, **spec: object) -> Json:
    """A Tenant that admits every namespace."""
    return _manifest(TENANTS, name, None, {"allowedNamespaces": {"all": True}, **spec})


def provider(
    name: str, namespace: str, tenant: str | None = None, type: str = "victoriametrics", **spec: object
) -> Json:
    """A Provider; of the default tenant where none is named."""
    ref = {"tenantRef": {"name": tenant}} if tenant else {}
    return _manifest(
        PROVIDERS, name, namespace, {**ref, "type": type, "config": {"VMBackendURL": "http://vm:8428"}, **spec}
    )


def in_argo_cd(manifest: Json, app: str = "app") -> Json:
    """The same as Argo CD applies it, which tracks it by an annotation."""
    metadata = manifest["metadata"]
    group = manifest["apiVersion"].partition("/")[0]
    tracking = f"{app}:{group}/{manifest['kind']}:{metadata.get('namespace', '')}/{metadata['name']}"
    annotations = {**metadata.get("annotations", {}), "argocd.argoproj.io/tracking-id": tracking}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def definition(message: str = "hello", **more: object) -> Json:
    """What a workflow does: say something on a console, at which no Provider is needed."""
    console = {"type": "console", "with": {"message": message}}
    return {"triggers": [{"type": "manual"}], "actions": [{"name": "say", "provider": console}], **more}


def querying(provider: str, query: str = "up", type: str = "victoriametrics") -> Json:
    """A definition that needs a Provider."""
    asked = {"type": type, "config": f"{{{{ providers.{provider} }}}}", "with": {"query": query, "queryType": "query"}}
    return {"triggers": [{"type": "manual"}], "steps": [{"name": "look", "provider": asked}]}


def workflow(name: str, namespace: str, tenant: str | None = None, does: Json | None = None, **spec: object) -> Json:
    """A Workflow that says something, unless the test says otherwise."""
    ref = {"tenantRef": {"name": tenant}} if tenant else {}
    what = {} if "definitionFrom" in spec else {"definition": does or definition()}
    return _manifest(WORKFLOWS, name, namespace, {**ref, **what, **spec})


def decision(action: str, about: Json, request: str = "request-1", **spec: object) -> Json:
    """A WorkflowDecision of Bob's about a Workflow; named after its request."""
    namespace, name = about["metadata"]["namespace"], about["metadata"]["name"]
    said = {
        "workflowRef": {"name": name},
        "action": action,
        "actor": "bob",
        "requestId": request,
        "reason": "It is loud",
    }
    return _manifest(WORKFLOW_DECISIONS, request, namespace, {**said, **spec})


def admission_policy(**spec: object) -> Json:
    """The policy `decision` as the chart has it; a test of the chart's says so."""
    rule = {
        "apiGroups": ["keep-operator.dev"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["workflowdecisions"],
    }
    said = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": each} for each in proof.REQUIRED.values()],
    }
    return _manifest(ADMISSION_POLICIES, proof.POLICY, "", {**said, **spec})


def admission_binding(**spec: object) -> Json:
    """Its binding."""
    said = {"policyName": proof.POLICY, "validationActions": ["Deny"]}
    return _manifest(ADMISSION_POLICY_BINDINGS, proof.POLICY, "", {**said, **spec})


def run(about: Json, name: str = "run-1", **spec: object) -> Json:
    """A WorkflowRun of a Workflow."""
    namespace, workflow_name = about["metadata"]["namespace"], about["metadata"]["name"]
    return _manifest(WORKFLOW_RUNS, name, namespace, {"workflowRef": {"name": workflow_name}, **spec})


def config_map(name: str, namespace: str, **data: str) -> Json:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def secret(name: str, namespace: str, **values: str) -> Json:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": values,
    }


def credential(key: str, secret: str, secret_key: str) -> Json:
    """An entry of a Provider's `secrets`."""
    return {"key": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": secret_key}}}


def as_yaml(*manifests: Json) -> str:
    """What stands in a Git repository."""
    return yaml.safe_dump_all(manifests)


def _manifest(resource: Resource, name: str, namespace: str | None, spec: Json) -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}
